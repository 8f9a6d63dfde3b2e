"""What is looked at when annotations are read or written: clips, splits, labels."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

import numpy as np

from mg_plugins.errors import counted

from .layouts import LayoutError, get_layout, usual_coordinates
from .unpickle import AnnotationError

Split = dict[str, list[str]]  # names of clips by the name of the split
# No picture has so many pixels and no room so many metres; squares of it fit into float32.
LARGEST = 1e9
MOST_CLASSES = 100_000
# A clip shows one side alone if the other is not seen in this share of its frames.
ONE_SIDED = 0.95


def mended(annotations: list, meta: dict) -> tuple[list, list[str]]:
    """Annotations as float32, without empty clips; what can mean one thing is mended, and said."""
    kept, odd = [], defaultdict(list)
    for annotation in annotations:
        keypoint = coordinates(annotation)
        if keypoint is not None and 0 in keypoint.shape[:2]:
            odd['clips without a person or a frame left out'].append(annotation.get('frame_dir'))
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
            odd['clips with NaN, taken for missing joints'].append(annotation.get('frame_dir'))
    notes = [f'{counted(len(names), what)}, such as {names[0]}' for what, names in odd.items()]
    if _third_is_score(kept, meta.get('layout')):
        notes.append('the third channel is a detection score (0 to 1 beside pixels), taken as such')
        for annotation in kept:
            keypoint = annotation['keypoint']
            annotation['keypoint_score'] = np.ascontiguousarray(keypoint[..., 2])
            annotation['keypoint'] = np.ascontiguousarray(keypoint[..., :2])
    return kept, notes


def coordinates(annotation: Any) -> np.ndarray | None:
    """Keypoints that are numbers of four axes; what else there may be is refused by `each`."""
    keypoint = annotation.get('keypoint') if isinstance(annotation, dict) else None
    numbers = isinstance(keypoint, np.ndarray) and keypoint.dtype.kind in 'fiu'
    return keypoint if numbers and keypoint.ndim == 4 else None


def _third_is_score(annotations: list, layout: Any) -> bool:
    """Whether all clips are (x, y, score); refuses a picture's third channel that may be either."""
    largest = 0.0
    for annotation in annotations:
        keypoint = coordinates(annotation)
        if keypoint is None or keypoint.shape[3] != 3:
            return False
        third = keypoint[..., 2]
        if annotation.get('keypoint_score') is not None or third.min() < 0 or third.max() > 1:
            return False
        largest = max(largest, float(np.abs(keypoint[..., :2]).max()))
    # Pixels are larger than 20 and metres are not, so it is a depth, or a normalised picture.
    with suppress(LayoutError):
        if 0 < largest <= 20 and usual_coordinates(get_layout(layout)) == 2:
            remedy = 'if it is a score, give "keypoint" (M, T, V, 2) in pixels and "keypoint_score"'
            what = f'clips of the layout {layout!r} have three coordinates, the third from 0 to 1'
            raise AnnotationError(f'{what}: {remedy} (M, T, V)')
    return largest > 20


def checked_split(split: Mapping, known: Collection, where: Any) -> tuple[Split, list[str]]:
    """Every clip once, without absent ones, and notes; training clips in a test are refused."""
    checked, notes = {}, []
    for name, clips in split.items():
        once = dict.fromkeys(clips)
        checked[name] = [clip for clip in once if clip in known]
        absent = next((clip for clip in once if clip not in known), None)
        for count, what in (
            (len(clips) - len(once), 'clips more than once'),
            (len(once) - len(checked[name]), f'clips that are not there, such as {absent!r}'),
        ):
            if count:
                notes.append(f'split {name!r} names {counted(count, what)}; taken out')
    # What a name says beside train, val or test: 'xsub' for 'xsub_train'.
    part = re.compile(r'(?<![a-z])(train|val|valid|validation|test)(?![a-z])')
    protocol = {name: part.sub('', name.lower()) for name in checked}
    for one, other in combinations(checked, 2):
        both = set(checked[one]) & set(checked[other])
        if both and 'train' in one + other and protocol[one] == protocol[other]:
            what = f'{counted(len(both), "clips are")} in split {one!r} and in split {other!r}'
            raise AnnotationError(f'{where}: {what}, such as {min(both)!r}; take them out of one')
    return checked, notes


def check_classes(clips: Sequence[dict], labels: np.ndarray, classes: int, where: Any) -> None:
    """Refuse labels (N,) beyond the classes, if their number is known (not 0)."""
    beyond = np.flatnonzero(labels >= classes) if classes else ()
    if len(beyond):
        clip, remedy = clips[int(beyond[0])], 'where labels are counted from 1, subtract 1'
        what = f'has label {clip["label"]}, but there are {classes} classes, counted from 0'
        raise AnnotationError(f'{where}: clip {clip["frame_dir"]!r} {what}; {remedy}')


def check_labels(content: dict, labels: np.ndarray, where: Any) -> list[str]:
    """Refuse labels (N,) beyond the classes, and those of a whole set that begin at 1."""
    classes, found = len(content['meta'].get('classes') or ()), np.unique(labels[labels >= 0])
    check_classes(content['annotations'], labels, classes, where)
    if classes or len(found) < 2 or found[0] != 1 or found[-1] != len(found):
        return []
    note = f'no clip has label 0; labels go from 1 to {len(found)}'
    remedy = 'where they are counted from 1, subtract 1'
    if len(content['split']) > 1:
        remedy += '; where class 0 is empty, name all classes in meta["classes"]'
        raise AnnotationError(f'{where}: {note}: {remedy}')
    return [f'{note}: {remedy}']


def each(annotations: Iterable[dict], where: str | os.PathLike) -> Iterator[dict]:
    """Annotations one by one, each checked by itself and against those before it."""
    seen, joints = set(), None
    for number, annotation in enumerate(annotations):
        fields = annotation if isinstance(annotation, dict) else {}
        name = fields.get('frame_dir', fields.get('filename'))
        if not isinstance(name, str):
            what = f'{describe(annotation)}, expected a dict with a "frame_dir" text'
            raise AnnotationError(f'{where}: annotation {number} is {what}')
        annotation.setdefault('frame_dir', name)
        twice = 'another clip has the same name' if name in seen else None
        if wrong := twice or next(problems(annotation, joints), None):
            raise AnnotationError(f'{where}: clip {name!r} (annotation {number}): {wrong}')
        joints = annotation['keypoint'].shape[2:]
        seen.add(name)
        yield annotation


def problems(annotation: dict, joints: tuple[int, ...] | None = None) -> Iterator[str]:
    """What is wrong with one annotation: take the first alone. Turns numpy integers into int."""
    for key in ('label', 'keypoint_score', 'segments', 'frame_times', 'fps'):
        if key in annotation and annotation[key] is None:
            del annotation[key]
    for key in ('label', 'total_frames'):
        if isinstance(annotation.get(key), np.integer):
            annotation[key] = int(annotation[key])
    label, keypoint = annotation.get('label', 0), annotation.get('keypoint')
    if not _is_label(label):
        expected = f'expected an integer from 0, below {MOST_CLASSES}'
        yield f'"label" is {label!r}, {expected}; leave it out where it is not known'
    shape = keypoint.shape if isinstance(keypoint, np.ndarray) else ()
    if len(shape) != 4 or 0 in shape or shape[3] not in (2, 3) or keypoint.dtype.kind != 'f':
        yield f'"keypoint" is {describe(keypoint)}, expected floats of shape (M, T, V, 2 or 3)'
    frames = shape[1]
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
    numbers = isinstance(score, np.ndarray) and score.dtype.kind in 'fiub'
    if not numbers or score.shape != shape[:3] or not np.isfinite(score.sum(dtype=np.float64)):
        yield f'"keypoint_score" is {describe(score)}, expected finite numbers of shape {shape[:3]}'
    fps = annotation.get('fps', 1)
    if isinstance(fps, bool) or not isinstance(fps, (int, float, np.number)) or not 0 < fps < 1e5:
        yield f'"fps" is {fps!r}, expected frames a second'
    if 'frame_times' in annotation:
        times = annotation['frame_times'] = np.asarray(annotation['frame_times'], np.float64)
        if times.shape != (frames,) or not (np.diff(times) > 0).all():
            yield f'"frame_times" must be {frames} rising times in seconds'
    segments = annotation.get('segments', [])
    for segment in segments if isinstance(segments, (list, tuple)) else [segments]:
        ends = [segment.get(key) for key in ('start', 'end')] if isinstance(segment, dict) else []
        fine = [type(end) for end in ends] == [int, int] and _is_label(segment.get('label'))
        if not fine or not 0 <= ends[0] < ends[1] <= frames:
            expected = f'dict(label, start, end) of integers, end exclusive, within {frames} frames'
            yield f'a segment is {segment!r}, expected {expected}'
    if joints not in (None, shape[2:]):
        own, others = ('{} joints with {} coordinates'.format(*one) for one in (shape[2:], joints))
        yield f'{own}, but the clips before it have {others}'


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
    alone = f'side of the body alone in {ONE_SIDED:.0%} of their frames or more'
    lacking = 'the joints of the other side are missing'
    return [counted(n, f'clips show the {side} {alone}; {lacking}') for side, n in found.items()]
