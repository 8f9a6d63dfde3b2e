"""Annotation files: MMAction2's pickle, read without running what a stranger put into it, and more.

An annotation file holds

    dict(split={name: [frame_dir, ...]}, annotations=[annotation, ...], meta=dict(...))

and one annotation (a clip of M persons, T frames, V joints, C = 2 pixel or 3 metre coordinates)

    dict(frame_dir: str, total_frames: int = T,
         keypoint: float32 (M, T, V, C), keypoint_score: float32 (M, T, V),
         label: int from 0,
         img_shape: (height, width), original_shape: (height, width),      # 2D only
         session: str, subject: str, start: int, end: int (inclusive), fps: float,
         outcome: int | str,
         segments: [dict(label, start, end), ...],     # of a recording: frames, end exclusive
         frame_times: float64 (T,))                    # seconds; only where frames are irregular

with all but the first two lines only where known: clips of a test set or a recording have no label.
A joint that was not detected has coordinates and score 0. `meta` names ``layout``, ``classes``,
``source`` and ``note`` where known.

The suffix says how it is stored: ``.pkl`` is MMAction2's pickle, ``.npz`` one file of arrays,
``.mg`` a folder whose arrays stay on the disk (see `storage`), for sets that do not fit into the
memory. Needs the standard library and numpy only.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.errors import counted
from mg_plugins.files import replacing

from .checks import check_labels, check_split, describe, each, filled_scores, mended, problem
from .layouts import LayoutError, get_layout
from .storage import ClipFolder, clip_names, load_npz, save_folder, save_npz
from .unpickle import AnnotationError, load_pickle

SUFFIXES = ('.pkl', '.npz', '.mg')
_POSITIONS = ('train', 'val', 'test')
_log = logging.getLogger('mg_plugins')


def load_annotations(path: str | os.PathLike | Sequence[str | os.PathLike]) -> dict:
    """Read an annotation file written by us, MMAction2 or PYSKL (a bare list of annotations too).

    Pickles may contain numbers, strings, built-in containers and numpy arrays of numbers or text;
    anything else is refused before it can run. Coordinates become float32, NaN a missing joint,
    and (x, y, score) given as three channels of a picture coordinates and score; clips without any
    person or frame are left out. What was changed or looks odd is logged as a warning.

    Args:
        path: A ``.pkl`` or ``.npz`` file or a ``.mg`` folder; or several, whose clips are put
            together. Of several, one without splits of its own is the split 'train', 'val' or
            'test', by its place.

    Returns:
        ``dict(split=..., annotations=..., meta=..., notes=...)``; ``split`` and ``meta`` may be
        empty, ``annotations`` is a list (a `ClipFolder` where the source is one), ``notes`` are
        the warnings.

    Raises:
        AnnotationError: Missing, unreadable, truncated or refused file, a wrong structure, labels
            counted from 1, or test clips in a training split; the message names the file and,
            where there is one, the clip.
    """
    if isinstance(path, (str, os.PathLike)):
        content = _load(Path(path))
    else:
        paths = [Path(one) for one in path]
        content = _together([_load(one) for one in paths], paths)
        path = ', '.join(map(str, paths))
    content['notes'] += check_split(content, path) + check_labels(content, path)
    for note in content['notes']:
        _log.warning('%s: %s', path, note)
    return content


def save_annotations(
    path: str | os.PathLike, split: dict, annotations: Iterable[dict], meta: dict | None = None
) -> None:
    """Write an annotation file whole or not at all; its suffix says in which form.

    Coordinates and scores are stored as float32; missing scores are filled in (1 where a joint has
    coordinates).

    Args:
        path: A ``.pkl``, ``.npz`` or ``.mg`` path; its folder is made if needed.
        split: Split name to clip names (``frame_dir``).
        annotations: See the module docstring. A ``.mg`` folder takes them one by one, so a
            generator need never hold all of them.
        meta: About the whole file.

    Raises:
        AnnotationError: A wrong structure, or a split that names an unknown clip.
    """
    path, meta = Path(path), dict(meta or {})
    _check_suffix(path)
    _check_split_names(split, path)
    split = {name: list(clips) for name, clips in split.items()}

    def clips() -> Iterator[dict]:
        known = set()
        for annotation in each(map(_stored, annotations), path):
            known.add(annotation['frame_dir'])
            yield annotation
        for name, wanted in split.items():
            unknown = [clip for clip in wanted if clip not in known]
            if unknown:
                raise AnnotationError(
                    f'split {name!r} names {counted(len(unknown), "clips")} without annotation, '
                    f'such as {unknown[0]!r}'
                )

    if path.suffix == '.mg':
        save_folder(path, split, clips(), meta)
        return
    content = dict(split=split, annotations=list(clips()), meta=meta)
    if path.suffix == '.npz':
        save_npz(path, content)
        return
    with replacing(path) as temporary, temporary.open('wb') as file:
        # Protocol 4 is what every supported Python and numpy 1.26 and 2 can read.
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # its memo would keep a second copy of every array
        pickler.dump(content)


def check_annotations(
    annotations: Iterable[dict], where: str | os.PathLike = 'annotations'
) -> None:
    """Raise AnnotationError at the first annotation whose structure is wrong.

    Numpy integers are turned into int in place.

    Args:
        annotations: See the module docstring.
        where: Named at the head of messages.
    """
    for _ in each(annotations, where):
        pass


def summarise(content: dict) -> dict:
    """Counts over an annotation file, for tools and logs.

    Args:
        content: What `load_annotations` returns.

    Returns:
        dict with ``clips``, ``frames``, ``persons`` (largest M), ``joints``, ``dims``, ``length``
        (shortest, median, longest T), ``class_counts`` (list by label), ``unlabelled`` (clips),
        ``subjects`` and ``sessions`` (distinct, where known), ``splits`` (name to number of clips
        present), ``missing`` (share of joints with score 0, or without coordinates), ``undetected``
        (body part of the layout to the share of clips in which none of its joints is ever detected;
        ``all`` for clips without any) and ``meta``.
    """
    meta, labels, lengths, seen = content['meta'], Counter(), [], []
    known, texts = set(), dict(subject=set(), session=set())
    persons = missing = total = joints = dims = 0
    for annotation in content['annotations']:
        detected = filled_scores(annotation) > 0
        people, length, joints, dims = annotation['keypoint'].shape
        persons = max(persons, people)
        lengths.append(length)
        labels[annotation.get('label')] += 1
        known.add(annotation['frame_dir'])
        for key in texts.keys() & annotation.keys():
            texts[key].add(str(annotation[key]))
        missing += detected.size - int(np.count_nonzero(detected))
        total += detected.size
        seen.append(detected.any((0, 1)))
    unlabelled = labels.pop(None, 0)
    classes = max([len(meta.get('classes') or ()), *(label + 1 for label in labels)])
    return dict(
        clips=len(lengths),
        frames=sum(lengths),
        persons=persons,
        joints=joints,
        dims=dims,
        length=[min(lengths), float(np.median(lengths)), max(lengths)] if lengths else [0, 0.0, 0],
        class_counts=[labels[label] for label in range(classes)],
        unlabelled=unlabelled,
        subjects=sorted(texts['subject']),
        sessions=sorted(texts['session']),
        splits={name: sum(clip in known for clip in c) for name, c in content['split'].items()},
        missing=missing / total if total else 0.0,
        undetected=_undetected(np.array(seen), meta.get('layout')) if seen else {},
        meta=meta,
    )


def _undetected(seen: np.ndarray, layout: Any) -> dict[str, float]:
    """Share of clips without any joint of a part, from (clips, V) joints ever detected."""
    try:
        regions = get_layout(layout).regions if layout else {}
    except LayoutError:
        regions = {}
    parts = {'all': range(seen.shape[1])}
    for part, joints in regions.items():
        # A wrist belongs to its arm as well: a hand is seen by what is beyond it.
        arm = regions.get(part.replace('hand', 'arm'), ()) if part.endswith('hand') else ()
        parts[part] = [j for j in joints if j not in arm] or joints
    shares = {
        part: float(1 - seen[:, list(joints)].any(1).mean())
        for part, joints in parts.items()
        if max(joints) < seen.shape[1]
    }
    return {part: share for part, share in shares.items() if share}


def _load(path: Path) -> dict:
    _check_suffix(path)
    if not path.exists():
        raise AnnotationError(
            f'annotation file {path} does not exist; tools/prepare_data.py writes one'
        )
    if path.suffix == '.mg':
        folder = ClipFolder(path, check=problem)
        return dict(split=folder.split, annotations=folder, meta=folder.meta, notes=[])
    if not path.is_file():
        raise AnnotationError(f'annotation file {path} is a folder')
    content = load_npz(path) if path.suffix == '.npz' else load_pickle(path)
    if isinstance(content, list):
        content = dict(annotations=content)
    if not isinstance(content, dict) or not isinstance(content.get('annotations'), list):
        raise AnnotationError(
            f'{path} holds no annotations: expected a dict with the key "annotations" (a list), or '
            f'a list, got {describe(content)}'
        )
    split, meta = content.get('split') or {}, content.get('meta') or {}
    _check_split_names(split, path)
    if not isinstance(meta, dict):
        raise AnnotationError(f'{path}: "meta" is a {type(meta).__name__}, expected a dict')
    annotations, notes = mended(content['annotations'], meta)
    if content['annotations'] and not annotations:
        raise AnnotationError(f'{path}: no clip has a person and a frame')
    check_annotations(annotations, path)
    return dict(split=split, annotations=annotations, meta=meta, notes=notes)


def _together(contents: list[dict], paths: list[Path]) -> dict:
    """The clips of several files as those of one."""
    split, annotations, names = {}, [], set()
    for content, path, name in zip(contents, paths, [*_POSITIONS, *map(str, paths)], strict=False):
        own = clip_names(content['annotations'])
        for part, clips in (content['split'] or {name: own}).items():
            split.setdefault(part, []).extend(clips)
        twice = names & set(own)
        if twice:
            raise AnnotationError(
                f'{path} has {counted(len(twice), "clips")} that an earlier file has too, such as '
                f'{min(twice)!r}; a clip belongs to one file'
            )
        names.update(own)
        annotations.extend(content['annotations'])
    check_annotations(annotations, ', '.join(map(str, paths)))
    meta = {key: value for content in reversed(contents) for key, value in content['meta'].items()}
    notes = [note for content in contents for note in content['notes']]
    return dict(split=split, annotations=annotations, meta=meta, notes=notes)


def _stored(annotation: Any) -> Any:
    """A copy with float32 arrays, a score, and a frame count; the checks judge the rest."""
    if not isinstance(annotation, dict):
        return annotation
    annotation = dict(annotation)
    keypoint = annotation.get('keypoint')
    if isinstance(keypoint, np.ndarray) and keypoint.ndim == 4 and keypoint.dtype.kind in 'fiu':
        with np.errstate(over='ignore'):
            annotation['keypoint'] = np.ascontiguousarray(keypoint, dtype=np.float32)
        annotation['keypoint_score'] = np.ascontiguousarray(
            filled_scores(annotation), dtype=np.float32
        )
        annotation.setdefault('total_frames', keypoint.shape[1])
    return annotation


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise AnnotationError(f'annotation file {path} must end in .pkl, .npz or .mg')


def _check_split_names(split: Any, where: Path) -> None:
    if not isinstance(split, dict) or not all(
        isinstance(name, str)
        and isinstance(clips, (list, tuple, set))
        and all(isinstance(clip, str) for clip in clips)
        for name, clips in split.items()
    ):
        raise AnnotationError(f'{where}: "split" must be a dict of split name to clip names')
