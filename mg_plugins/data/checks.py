"""What is looked at when annotations are read or written: clips, splits, labels.

`problem` and `each` refuse clips that are wrong; `mended` makes right what can only mean one thing,
and says so; `check_split` and `check_labels` look at a whole file.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import numpy as np

from mg_plugins.errors import counted

from .layouts import LayoutError, get_layout
from .relayout import usual_coordinates
from .storage import clip_labels, clip_names
from .unpickle import AnnotationError

# No picture has so many pixels and no room so many metres; squares of it fit into float32.
LARGEST = 1e9
MOST_CLASSES = 100_000
# A clip shows one side alone if the other is not seen in this share of its frames.
ONE_SIDED = 0.95


def mended(annotations: list, meta: dict) -> tuple[list, list[str]]:
    """Annotations as float32, without empty clips; and what was changed."""
    empty, unknown, kept = [], [], []
    for annotation in annotations:
        keypoint = _coordinates(annotation)
        if keypoint is not None and 0 in keypoint.shape[:2]:
            empty.append(annotation.get('frame_dir'))
            continue
        kept.append(annotation)
        if keypoint is None:
            continue
        score = annotation.get('keypoint_score')
        if keypoint.dtype.itemsize < 8 or not np.abs(keypoint).max() > LARGEST:
            keypoint = annotation['keypoint'] = keypoint.astype(np.float32, copy=False)
        if isinstance(score, np.ndarray) and score.dtype == np.float16:
            score = annotation['keypoint_score'] = score.astype(np.float32)
        if np.isnan(keypoint.sum()):
            missing = np.isnan(keypoint).any(-1)
            annotation['keypoint'] = np.where(missing[..., None], np.float32(0), keypoint)
            if isinstance(score, np.ndarray) and score.shape == missing.shape:
                annotation['keypoint_score'] = np.where(missing, np.float32(0), score)
            unknown.append(annotation.get('frame_dir'))
    notes = []
    if empty:
        notes.append(
            counted(len(empty), f'clips without a person or a frame left out, such as {empty[0]}')
        )
    if unknown:
        notes.append(
            f'NaN in {counted(len(unknown), "clips")} taken for missing joints, such as '
            f'{unknown[0]}'
        )
    if _third_is_score(kept, meta):
        notes.append('the third channel is a detection score (0 to 1 beside pixels), taken as such')
        for annotation in kept:
            keypoint = annotation['keypoint']
            annotation['keypoint_score'] = np.ascontiguousarray(keypoint[..., 2])
            annotation['keypoint'] = np.ascontiguousarray(keypoint[..., :2])
    return kept, notes


def _coordinates(annotation: Any) -> np.ndarray | None:
    """Keypoints that are numbers of four axes; what else there may be is refused by `each`."""
    keypoint = annotation.get('keypoint') if isinstance(annotation, dict) else None
    numbers = isinstance(keypoint, np.ndarray) and keypoint.dtype.kind in 'fiu'
    return keypoint if numbers and keypoint.ndim == 4 else None


def _third_is_score(annotations: list, meta: dict) -> bool:
    """Whether all clips are (x, y, score); refuses a picture's third channel that may be either."""
    largest = 0.0
    for annotation in annotations:
        keypoint = _coordinates(annotation)
        if keypoint is None or keypoint.shape[3] != 3:
            return False
        third = keypoint[..., 2]
        if annotation.get('keypoint_score') is not None or third.min() < 0 or third.max() > 1:
            return False
        largest = max(largest, float(np.abs(keypoint[..., :2]).max()))
    # Pixels are larger than that and metres are not, so it is a depth, or a normalised picture.
    if largest > 20 or not largest:
        return largest > 0
    try:
        flat = usual_coordinates(get_layout(meta.get('layout') or '')) == 2
    except LayoutError:
        return False
    if flat:
        raise AnnotationError(
            f'clips of the layout {meta["layout"]!r} have three coordinates, the third from 0 to '
            '1: where it is a score, give "keypoint" (M, T, V, 2) in pixels and "keypoint_score" '
            '(M, T, V)'
        )
    return False


def check_split(content: dict, where: Any) -> list[str]:
    """Refuse test clips in a training split; count names given twice and names without a clip."""
    notes, split = [], {name: set(clips) for name, clips in content['split'].items()}
    known = set(clip_names(content['annotations'])) if split else set()
    for name, clips in split.items():
        twice, absent = len(content['split'][name]) - len(clips), clips - known
        if twice:
            notes.append(f'split {name!r} names {counted(twice, "clips")} more than once')
        if absent:
            notes.append(
                f'split {name!r} names {counted(len(absent), "clips that are")} not there, such as '
                f'{min(absent)!r}'
            )
    for one, other in combinations(split, 2):
        both = split[one] & split[other]
        if both and 'train' in one + other and _protocol(one) == _protocol(other):
            raise AnnotationError(
                f'{where}: {counted(len(both), "clips are")} in split {one!r} and in split '
                f'{other!r}, such as {min(both)!r}; take them out of one'
            )
    return notes


def _protocol(split: str) -> str:
    """What a split's name says beside train, val or test: 'xsub' for 'xsub_train'."""
    return re.sub(r'(?<![a-z])(train|val|valid|validation|test)(?![a-z])', '', split.lower())


def label_of(clip: dict, classes: int) -> str:
    """Says that a clip's label is no class."""
    return (
        f'clip {clip["frame_dir"]!r} has label {clip["label"]}, but there are {classes} classes, '
        'counted from 0'
    )


def check_labels(content: dict, where: Any) -> list[str]:
    """Refuse labels beyond the classes, and those of a whole set that begin at 1."""
    annotations, classes = content['annotations'], len(content['meta'].get('classes') or ())
    labels = set(np.unique(clip_labels(annotations)).tolist()) - {-1}
    if not labels:
        return []
    first, last = min(labels), max(labels)
    remedy = f'{len(labels)} labels from {first} to {last}: where they are counted from 1, '
    remedy += 'subtract 1'
    if classes and last >= classes:
        clip = next(clip for clip in annotations if clip.get('label', -1) >= classes)
        raise AnnotationError(f'{where}: {label_of(clip, classes)} ({remedy})')
    if classes or first != 1 or not last == len(labels) > 1:
        return []
    if len(content['split']) > 1:
        remedy += '; where class 0 is empty, name all classes in meta["classes"]'
        raise AnnotationError(f'{where}: no clip has label 0 ({remedy})')
    return [f'no clip has label 0 ({remedy})']


def each(annotations: Iterable[dict], where: str | os.PathLike) -> Iterator[dict]:
    """Annotations one by one, each checked by itself and against those before it."""
    seen, joints = set(), None
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            raise AnnotationError(
                f'{where}: annotation {number} is a {type(annotation).__name__}, expected a dict'
            )
        name = annotation.get('frame_dir', annotation.get('filename'))
        if not isinstance(name, str):
            raise AnnotationError(f'{where}: annotation {number} lacks a "frame_dir" text')
        clip = f'{where}: clip {name!r} (annotation {number})'
        if name in seen:
            raise AnnotationError(f'{clip}: another clip has the same name')
        seen.add(name)
        annotation.setdefault('frame_dir', name)
        wrong = problem(annotation)
        if wrong:
            raise AnnotationError(f'{clip}: {wrong}')
        shape = annotation['keypoint'].shape[2:]
        if joints is None:
            joints = shape
        elif shape != joints:
            raise AnnotationError(
                f'{clip}: {shape[0]} joints with {shape[1]} coordinates, but the clips before it '
                f'have {joints[0]} with {joints[1]}'
            )
        yield annotation


def problem(annotation: dict) -> str | None:
    """What is wrong with one annotation, or None. Turns numpy integers into int."""
    return next(_problems(annotation), None)


def _problems(annotation: dict) -> Iterator[str]:
    if 'keypoint' not in annotation:
        yield "lacks the key 'keypoint'"
    for key in ('label', 'keypoint_score', 'segments', 'frame_times', 'fps'):
        if key in annotation and annotation[key] is None:
            del annotation[key]
    for key in ('label', 'total_frames'):
        if isinstance(annotation.get(key), np.integer):
            annotation[key] = int(annotation[key])
    label, keypoint = annotation.get('label', 0), annotation['keypoint']
    if not _is_label(label):
        yield (
            f'"label" is {label!r}, expected an integer from 0, below {MOST_CLASSES}; leave it out '
            'where it is not known'
        )
    if not isinstance(keypoint, np.ndarray) or keypoint.dtype.kind != 'f' or keypoint.ndim != 4:
        yield f'"keypoint" is {describe(keypoint)}, expected floats of shape (M, T, V, C)'
    if keypoint.shape[3] not in (2, 3) or 0 in keypoint.shape:
        yield f'"keypoint" has shape {keypoint.shape}; C must be 2 or 3 and no size 0'
    frames = keypoint.shape[1]
    if annotation.setdefault('total_frames', frames) != frames:
        given = annotation['total_frames']
        yield f'"total_frames" is {given!r} but "keypoint" has {frames} frames'
    largest = max(keypoint.max(), -keypoint.min())
    if not np.isfinite(largest):
        frame = int(np.argwhere(~np.isfinite(keypoint))[0][1])
        yield f'"keypoint" is not finite in frame {frame}; a missing joint is 0'
    if largest > LARGEST:
        yield f'"keypoint" holds {largest:.3g}, which is neither pixels nor metres'
    score = annotation.get('keypoint_score', keypoint[..., 0])
    if not isinstance(score, np.ndarray) or score.dtype.kind not in 'fiub':
        yield f'"keypoint_score" is {describe(score)}, expected numbers of shape (M, T, V)'
    if score.shape != keypoint.shape[:3]:
        yield f'"keypoint_score" has shape {score.shape}, expected {keypoint.shape[:3]}'
    if 'keypoint_score' in annotation and not np.isfinite(score.sum(dtype=np.float64)):
        yield '"keypoint_score" is not finite'
    fps = annotation.get('fps', 1)
    if isinstance(fps, bool) or not isinstance(fps, (int, float, np.number)) or not 0 < fps < 1e5:
        yield f'"fps" is {fps!r}, expected frames a second'
    if 'frame_times' in annotation:
        times = annotation['frame_times'] = np.asarray(annotation['frame_times'], np.float64)
        if times.shape != (frames,) or not (np.diff(times) > 0).all():
            yield f'"frame_times" must be {frames} rising times in seconds'
    segments = annotation.get('segments', [])
    if not isinstance(segments, (list, tuple)):
        yield f'"segments" is {describe(segments)}, expected a list of dict(label, start, end)'
    for segment in segments:
        ends = [segment.get(key) for key in ('start', 'end')] if isinstance(segment, dict) else []
        if [type(end) for end in ends] != [int, int] or not _is_label(segment.get('label')):
            yield f'a segment is {segment!r}, expected dict(label, start, end) of integers'
        if not 0 <= ends[0] < ends[1] <= frames:
            yield f'segment {ends[0]} to {ends[1]} (end exclusive) is not within {frames} frames'


def _is_label(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST_CLASSES


def filled_scores(annotation: dict) -> np.ndarray:
    """An annotation's scores (M, T, V); without them 1 where a joint has coordinates."""
    score = annotation.get('keypoint_score')
    return (annotation['keypoint'] != 0).any(-1).astype(np.float32) if score is None else score


def describe(value: Any) -> str:
    """What a value is, for messages."""
    if isinstance(value, np.ndarray):
        return f'an array of {value.dtype} with shape {value.shape}'
    if isinstance(value, dict):
        return f'a dict with the keys {[str(key)[:40] for key in list(value)[:8]]}'
    return f'a {type(value).__name__}'


def one_sided(annotations: Iterable[dict], layout: Any) -> list[str]:
    """Notes on clips in which one half of the body is hardly ever detected."""
    pairs = np.array(get_layout(layout).pairs)
    if not len(pairs):
        return []
    found: Counter[str] = Counter()
    for annotation in annotations:
        seen = annotation['keypoint_score'] > 0
        left, right = (seen[..., side].any(-1) for side in pairs.T)
        shown = np.count_nonzero(left | right)
        for side, other in (('left', right), ('right', left)):
            if shown and np.count_nonzero(other) <= (1 - ONE_SIDED) * shown:
                found[side] += 1
    return [
        counted(count, f'clips show the {side} side of the body alone in {ONE_SIDED:.0%} of')
        + ' their frames or more; the joints of the other side are missing'
        for side, count in found.items()
    ]
