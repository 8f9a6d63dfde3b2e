"""Annotation files: MMAction2's pickle, read without running what a stranger put into it, or .npz.

An annotation file holds

    dict(split={name: [frame_dir, ...]}, annotations=[annotation, ...], meta=dict(...))

and one annotation (a clip of M persons, T frames, V joints, C = 2 pixel or 3 metre coordinates)

    dict(frame_dir: str, label: int, total_frames: int = T,
         keypoint: float32 (M, T, V, C), keypoint_score: float32 (M, T, V),
         img_shape: (height, width), original_shape: (height, width),      # 2D only
         session: str, subject: str, start: int, end: int (inclusive), fps: float,
         outcome: int | str)                                               # each where known

A joint that was not detected has coordinates and score 0. `meta` names ``layout``, ``classes``,
``source`` and ``note`` where known.

The .npz form keeps all clips in one array: ``keypoint`` (sum of M*T, V, C), ``keypoint_score``
(sum of M*T, V), ``shape`` (clips, 2) with M and T, ``offset`` (clips + 1,) rows, and ``record``, a
UTF-8 JSON text as bytes with ``split``, ``meta`` and the other fields of every annotation.

Needs the standard library and numpy only.
"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .unpickle import AnnotationError, load_pickle

__all__ = [
    'AnnotationError',
    'load_annotations',
    'save_annotations',
    'summarise',
    'check_annotations',
]

SUFFIXES = ('.pkl', '.npz')
_ARRAYS = ('keypoint', 'keypoint_score')
_SHAPES = ('img_shape', 'original_shape')


def load_annotations(path: str | os.PathLike) -> dict:
    """Read an annotation file written by us or by MMAction2 (a bare list of annotations too).

    Pickles may contain numbers, strings, built-in containers and numpy arrays of numbers or text;
    anything else is refused before it can run. See the module docstring for both formats.

    Args:
        path: A .pkl or .npz file.

    Returns:
        ``dict(split=..., annotations=..., meta=...)``; ``split`` and ``meta`` may be empty.

    Raises:
        AnnotationError: Missing, unreadable, truncated or refused file, or a wrong structure; the
            message names the file and, where there is one, the clip.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise AnnotationError(
            f'annotation file {path} does not exist; tools/prepare_data.py writes one'
        )
    content = _load_npz(path) if path.suffix == '.npz' else load_pickle(path)
    if isinstance(content, list):
        content = dict(annotations=content)
    if not isinstance(content, dict) or not isinstance(content.get('annotations'), list):
        raise AnnotationError(
            f'{path} holds no annotations: expected a dict with the key "annotations" (a list), or '
            f'a list, got {_describe(content)}'
        )
    split, meta = content.get('split') or {}, content.get('meta') or {}
    annotations = content['annotations']
    _check_split(split, path)
    if not isinstance(meta, dict):
        raise AnnotationError(f'{path}: "meta" is a {type(meta).__name__}, expected a dict')
    check_annotations(annotations, path)
    return dict(split=split, annotations=annotations, meta=meta)


def save_annotations(
    path: str | os.PathLike, split: dict, annotations: list[dict], meta: dict | None = None
) -> None:
    """Write an annotation file atomically; a reader sees the old file or the whole new one.

    Coordinates and scores are stored as float32; missing scores are filled in (1 where a joint has
    coordinates).

    Args:
        path: A .pkl or .npz path; its folder is made if needed.
        split: Split name to clip names (``frame_dir``).
        annotations: See the module docstring.
        meta: About the whole file.

    Raises:
        AnnotationError: A wrong structure, or a split that names an unknown clip.
    """
    path, meta = Path(path), dict(meta or {})
    _check_suffix(path)
    _check_split(split, path)
    annotations = [_normalised(annotation) for annotation in annotations]
    check_annotations(annotations, path)
    known = {annotation['frame_dir'] for annotation in annotations}
    for name, clips in split.items():
        unknown = [clip for clip in clips if clip not in known]
        if unknown:
            raise AnnotationError(
                f'split {name!r} names {len(unknown)} clips without annotation, such as '
                f'{unknown[0]!r}'
            )
    content = dict(
        split={name: list(clips) for name, clips in split.items()},
        annotations=annotations,
        meta=meta,
    )
    arrays = _pack(content) if path.suffix == '.npz' else None

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            if arrays is not None:
                np.savez(file, **arrays)
            else:
                # Protocol 4 is what every supported Python and numpy 1.26 and 2 can read.
                pickle.dump(content, file, protocol=4)
        # mkstemp makes the file private; give it the permissions an ordinary file would have.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def summarise(content: dict) -> dict:
    """Counts over an annotation file, for tools and logs.

    Args:
        content: What `load_annotations` returns.

    Returns:
        dict with ``clips``, ``frames``, ``persons`` (largest M), ``joints``, ``dims``, ``length``
        (shortest, median, longest T), ``class_counts`` (list by label), ``subjects`` and
        ``sessions`` (distinct, where known), ``splits`` (name to number of clips present),
        ``missing`` (share of joints with score 0, or without coordinates) and ``meta``.
    """
    annotations = content['annotations']
    lengths = [annotation['total_frames'] for annotation in annotations]
    labels = Counter(a['label'] for a in annotations if 'label' in a)
    classes = max([len(content['meta'].get('classes') or ()), *(label + 1 for label in labels)])
    missing = joints = 0
    for annotation in annotations:
        detected = _scores(annotation) > 0
        missing += detected.size - int(np.count_nonzero(detected))
        joints += detected.size
    known = {annotation['frame_dir'] for annotation in annotations}
    shape = annotations[0]['keypoint'].shape if annotations else (0, 0, 0, 0)
    return dict(
        clips=len(annotations),
        frames=sum(lengths),
        persons=max((annotation['keypoint'].shape[0] for annotation in annotations), default=0),
        joints=shape[2],
        dims=shape[3],
        length=[min(lengths), float(np.median(lengths)), max(lengths)] if lengths else [0, 0.0, 0],
        class_counts=[labels[label] for label in range(classes)],
        subjects=_distinct(annotations, 'subject'),
        sessions=_distinct(annotations, 'session'),
        splits={name: sum(clip in known for clip in c) for name, c in content['split'].items()},
        missing=missing / joints if joints else 0.0,
        meta=content['meta'],
    )


def check_annotations(
    annotations: Iterable[dict], where: str | os.PathLike = 'annotations'
) -> None:
    """Raise AnnotationError at the first annotation whose structure is wrong.

    Labels and frame counts given as numpy integers are turned into int in place.

    Args:
        annotations: See the module docstring.
        where: Named at the head of messages.
    """
    seen, joints = set(), None
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            raise AnnotationError(
                f'{where}: annotation {number} is a {type(annotation).__name__}, expected a dict'
            )
        name = annotation.get('frame_dir', annotation.get('filename'))
        clip = f'{where}: clip {name!r} (annotation {number})'
        if not isinstance(name, str):
            raise AnnotationError(f'{where}: annotation {number} lacks a "frame_dir" text')
        if name in seen:
            raise AnnotationError(f'{clip}: another clip has the same name')
        seen.add(name)
        annotation.setdefault('frame_dir', name)
        problem = _problem(annotation)
        if problem:
            raise AnnotationError(f'{clip}: {problem}')
        shape = annotation['keypoint'].shape[2:]
        if joints is None:
            joints = shape
        elif shape != joints:
            raise AnnotationError(
                f'{clip}: {shape[0]} joints with {shape[1]} coordinates, but the clips before it '
                f'have {joints[0]} with {joints[1]}'
            )


def _problem(annotation: dict) -> str | None:
    """What is wrong with one annotation, or None. Turns numpy integers into int."""
    if 'keypoint' not in annotation:
        return "lacks the key 'keypoint'"
    for key in ('label', 'total_frames'):
        if isinstance(annotation.get(key), np.integer):
            annotation[key] = int(annotation[key])
    label, keypoint = annotation.get('label'), annotation['keypoint']
    if 'label' in annotation and (type(label) is not int or label < 0):
        return f'"label" is {label!r}, expected an integer from 0'
    if not isinstance(keypoint, np.ndarray) or keypoint.dtype.kind != 'f' or keypoint.ndim != 4:
        return f'"keypoint" is {_describe(keypoint)}, expected floats of shape (M, T, V, C)'
    if keypoint.shape[3] not in (2, 3) or 0 in keypoint.shape:
        return f'"keypoint" has shape {keypoint.shape}; C must be 2 or 3 and no size 0'
    if annotation.setdefault('total_frames', keypoint.shape[1]) != keypoint.shape[1]:
        return (
            f'"total_frames" is {annotation["total_frames"]!r} but "keypoint" has '
            f'{keypoint.shape[1]} frames'
        )
    # The sum is finite exactly when all terms are (float64 sums of float32 cannot overflow), and
    # much cheaper than a test of each.
    if not np.isfinite(keypoint.sum(dtype=np.float64)):
        frame = int(np.argwhere(~np.isfinite(keypoint))[0][1])
        return f'"keypoint" is not finite in frame {frame}; a missing joint is 0'
    score = annotation.get('keypoint_score')
    if score is None:
        annotation.pop('keypoint_score', None)
    elif not isinstance(score, np.ndarray) or score.dtype.kind not in 'fiub':
        return f'"keypoint_score" is {_describe(score)}, expected numbers of shape (M, T, V)'
    elif score.shape != keypoint.shape[:3]:
        return f'"keypoint_score" has shape {score.shape}, expected {keypoint.shape[:3]}'
    elif not np.isfinite(score.sum(dtype=np.float64)):
        return '"keypoint_score" is not finite'
    return None


def _normalised(annotation: Any) -> Any:
    """A copy with float32 arrays, a score, and a frame count; the checks judge the rest."""
    if not isinstance(annotation, dict):
        return annotation
    annotation = dict(annotation)
    keypoint = annotation.get('keypoint')
    if isinstance(keypoint, np.ndarray) and keypoint.ndim == 4 and keypoint.dtype.kind in 'fiu':
        annotation['keypoint'] = np.ascontiguousarray(keypoint, dtype=np.float32)
        annotation.setdefault('keypoint_score', _scores(annotation))
        annotation['keypoint_score'] = np.ascontiguousarray(
            annotation['keypoint_score'], dtype=np.float32
        )
        annotation.setdefault('total_frames', keypoint.shape[1])
    return annotation


def _scores(annotation: dict) -> np.ndarray:
    score = annotation.get('keypoint_score')
    if score is None:
        score = (annotation['keypoint'] != 0).any(-1).astype(np.float32)
    return score


def _distinct(annotations: list[dict], key: str) -> list[str]:
    return sorted({str(annotation[key]) for annotation in annotations if key in annotation})


def _pack(content: dict) -> dict[str, np.ndarray]:
    """The arrays of the .npz form."""
    annotations = content['annotations']
    if not annotations:
        raise AnnotationError('there are no annotations to write')
    shape = np.array([annotation['keypoint'].shape[:2] for annotation in annotations], np.int64)
    records = [
        {key: value for key, value in annotation.items() if key not in _ARRAYS}
        for annotation in annotations
    ]
    try:
        text = json.dumps(
            dict(split=content['split'], meta=content['meta'], annotations=records), default=_item
        )
    except TypeError as error:
        raise AnnotationError(f'the .npz form holds plain values only: {error}') from error
    rows = shape.prod(1)
    packed = {}
    for key in _ARRAYS:
        clips = [annotation[key] for annotation in annotations]
        packed[key] = np.concatenate([clip.reshape(-1, *clip.shape[2:]) for clip in clips])
    return dict(
        packed,
        shape=shape,
        offset=np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
        record=np.frombuffer(text.encode(), np.uint8),
    )


def _load_npz(path: Path) -> dict:
    """Unpack the .npz form; clips are views of the two large arrays."""
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        content = json.loads(stored.pop('record').tobytes().decode())
        records, shape, offset = content['annotations'], stored['shape'], stored['offset']
        keypoint, score = stored['keypoint'], stored['keypoint_score']
        sizes = np.diff(offset)
        whole = len(records) == len(shape) == len(sizes) and (shape.prod(1) == sizes).all()
        if not whole or offset[0] != 0 or offset[-1] != len(keypoint) or len(score) != offset[-1]:
            raise ValueError('its "shape" and "offset" do not match its arrays')
        for record, (persons, frames), first, last in zip(
            records, shape.tolist(), offset[:-1].tolist(), offset[1:].tolist(), strict=True
        ):
            record['keypoint'] = keypoint[first:last].reshape(persons, frames, *keypoint.shape[1:])
            record['keypoint_score'] = score[first:last].reshape(persons, frames, -1)
            for key in _SHAPES:
                if key in record:
                    record[key] = tuple(record[key])
    except KeyError as error:
        raise AnnotationError(f'{path} is no annotation file: it lacks {error}') from error
    except Exception as error:
        # The zip, zlib, array and JSON readers each have errors of their own for a damaged file.
        raise AnnotationError(f'{path} cannot be read as .npz annotations: {error}') from error
    return content


def _item(value: Any) -> Any:
    """JSON default: numpy scalars as plain numbers."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f'{value!r} ({type(value).__name__}) is not')


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise AnnotationError(f'annotation file {path} must end in {" or ".join(SUFFIXES)}')


def _check_split(split: Any, where: Path) -> None:
    if not isinstance(split, dict) or not all(
        isinstance(clips, (list, tuple, set)) and all(isinstance(clip, str) for clip in clips)
        for clips in split.values()
    ):
        raise AnnotationError(f'{where}: "split" must be a dict of split name to clip names')


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f'an array of {value.dtype} with shape {value.shape}'
    if isinstance(value, dict):
        return f'a dict with the keys {list(value)[:8]}'
    return f'a {type(value).__name__}'
