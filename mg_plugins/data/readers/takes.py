"""One recording as a parser found it, and what makes it fit for training: units, scores, times.

What is certain is converted and counted, what is not is refused with the remedy; nothing is passed
through in another unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mg_plugins.data.layouts import Layout, LayoutError, get_layout, layout_names

from . import common, people
from .common import ClipError, FormatError
from .people import Detections

# A recording longer than this has frame numbers that are something else, such as times.
LONGEST = 1_000_000
# Frame numbers further apart than this, for each one that is there, are no frame numbers.
SPARSEST = 200
# Coordinates up to this are fractions of the picture; larger ones are pixels.
FRACTION = 2.0
UNITS = {'m': 1.0, 'cm': 0.01, 'mm': 0.001}
# Below this visibility MediaPipe's joints are invented (measured: 0.03 to 0.2 outside the picture).
MEDIAPIPE_VISIBLE = 0.4
# Layouts by family and number of joints, where the files name no joints.
BY_COUNT = {
    'openpose': {25: 'body25', 18: 'openpose18', 67: 'openpose67', 135: 'openpose67'},
    'mediapipe': {33: 'mediapipe33', 75: 'holistic75', 21: 'hand21'},
    'coco': {17: 'coco17', 18: 'openpose18', 21: 'hand21', 25: 'body25', 26: 'halpe26',
             133: 'coco_wholebody133', 136: 'halpe136'},
}  # fmt: skip


@dataclass
class Take:
    """One recording.

    Attributes:
        persons: (frame number, points (V, C), scores (V,) or None, track id) of every person.
        family: Whose files these are: openpose, coco or mediapipe.
        layout: What the files say of their joints; None to go by their number.
        broken: Frames that cannot be read.
        frames: Frames that the files hold, also those that show nobody.
        span: Their first and last number.
        numbered: Whether the files number their frames; else they are counted from 0.
        times: Seconds of frames, by number, where the files have times.
        unit: 'pixels', 'fractions' or 'm'; None where it must be found out.
        label: Class name that the file gives, if any.
    """

    persons: list[tuple[int, np.ndarray, np.ndarray | None, Any]]
    family: str = 'coco'
    layout: str | dict | None = None
    broken: dict[int, ClipError] = field(default_factory=dict)
    frames: int = 0
    span: tuple[int, int] = (0, -1)
    numbered: bool = False
    times: dict[int, float] = field(default_factory=dict)
    unit: str | None = None
    fps: float | None = None
    size: tuple[int, int] | None = None
    label: str | None = None


@dataclass
class Ready:
    """A take whose detections are pixels or metres with scores from 0 to 1."""

    found: Detections
    broken: dict[int, ClipError]
    first: int
    last: int
    layout: Layout
    fps: float | None
    size: tuple[int, int] | None
    label: str | None


def finish(take: Take, options: Mapping[str, Any], size, file: str) -> tuple[Ready, Counter[str]]:
    """Bring a take into the form that clips are cut from.

    Args:
        take: What the parser found.
        options: The format's options.
        size: (width, height) of the picture by the labels, if they say.
        file: Named in errors.
    """
    counts: Counter[str] = Counter()
    size = size or options['size'] or take.size
    if not take.frames:
        raise ClipError(common.EMPTY, file, None, 'there are no frames')
    if not take.persons:
        if take.broken:
            raise next(iter(take.broken.values()))
        raise ClipError(common.ALL_ZERO, file, None, f'nobody was detected in {take.frames} frames')
    take.persons.sort(key=lambda person: person[0])
    take.persons = with_hands(take.persons)
    shapes = Counter(person[1].shape for person in take.persons)
    shape, _ = shapes.most_common(1)[0]
    if len(shapes) > 1:
        detail = f'persons have {" and ".join(f"{v} joints x {c}" for v, c in sorted(shapes))}'
        raise ClipError(common.UNREADABLE, file, None, detail)
    points = np.stack([person[1] for person in take.persons]).astype(np.float32)
    given = [person[2] for person in take.persons]
    scores = np.stack([np.ones(shape[0], np.float32) if s is None else s for s in given])
    layout = find_layout(take, shape[0], options['layout'], file)
    limit = options['min_score']
    if limit is None:
        limit = MEDIAPIPE_VISIBLE if take.family == 'mediapipe' else 0.0
    points, scores, size = clean(
        points, scores, Unit(take.unit, limit, size, layout), options, file, counts
    )
    ids = [person[3] for person in take.persons]
    named = None if any(identity is None for identity in ids) else ids
    found = Detections(points, scores, np.array([p[0] for p in take.persons], np.int64), named)
    first, last = take.span
    if first < 0 or last - first >= min(LONGEST, SPARSEST * take.frames):
        detail = (
            f'frames {first} to {last}: are these numbers of frames? (ids of pictures: --images)'
        )
        raise ClipError(common.UNREADABLE, file, None, detail)
    ready = Ready(found, take.broken, first, last, layout, take.fps, size, take.label)
    if take.times:
        use_times(ready, take, options, counts)
    ready.fps = options['fps'] or ready.fps
    return ready, counts


def with_hands(persons: list[tuple]) -> list[tuple]:
    """Persons without hands beside persons with hands get two hands that are missing."""
    largest = max(len(person[1]) for person in persons)
    for joints, whole in ((25, 67), (33, 75)):
        if largest == whole:
            grown = []
            for number, points, scores, identity in persons:
                if len(points) == joints:
                    points = np.pad(points, ((0, whole - joints), (0, 0)))
                    scores = None if scores is None else np.pad(scores, (0, whole - joints))
                grown.append((number, points, scores, identity))
            return grown
    return persons


@dataclass(frozen=True)
class Unit:
    """What is known of coordinates: see `Take.unit`; the least score; picture size and layout."""

    name: str | None
    least: float
    size: tuple[int, int] | None
    layout: Layout


def clean(
    points: np.ndarray,
    scores: np.ndarray,
    unit: Unit,
    options: Mapping[str, Any],
    file: str,
    counts: Counter[str],
) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
    """Coordinates in pixels or metres, scores from 0 to 1; missing joints all 0.

    Args:
        points: float32 (K, V, C).
        scores: (K, V).
        unit: What is known of them.
        options: `max_score` and `unit`.
        file: Named in errors.
        counts: Takes up what was converted.

    Returns:
        points, scores, and the size of the picture (None in 3D).
    """
    scores = clean_scores(np.array(scores, np.float32), options, file, counts)
    finite = np.isfinite(points).all(-1)
    missing = ~finite | ~(np.abs(np.where(finite[..., None], points, 0)).max(-1) < 1e9)
    if not finite.all():
        counts['joints that are empty, null or NaN count as missing'] += int((~finite).sum())
    missing |= ~points.any(-1) | ~(scores > 0)
    hidden = ~missing & (scores < unit.least)
    if hidden.any():
        what = f'joints with a score below {unit.least:g} count as missing (--min-score)'
        counts[what] += int(hidden.sum())
    missing |= hidden
    if missing.all():
        detail = f'no joint was detected in any of the {len(points)} poses'
        raise ClipError(common.ALL_ZERO, file, None, detail)
    points, scores = np.where(missing[..., None], 0, points), np.where(missing, 0, scores)
    if points.shape[-1] == 2:
        points, size = to_pixels(points, ~missing, unit, file, counts), unit.size
    else:
        points = points * metres(points, ~missing, options['unit'], unit.layout, counts)
        size = None
    points[missing] = 0
    return points.astype(np.float32, copy=False), scores, size


def find_layout(take: Take, joints: int, wanted: str | None, file: str) -> Layout:
    """The layout of the joints in a file."""
    named = take.layout
    if named is None:
        named = BY_COUNT[take.family].get(joints)
        # Only counted: a layout of the user's with as many joints says what they are.
        if wanted and get_layout(wanted).num_joints == joints:
            named = wanted
    if named is None:
        known = ', '.join(f'{n} ({name})' for n, name in BY_COUNT[take.family].items())
        detail = f'{joints} joints, expected {known}; give --layout with as many joints'
        raise ClipError(common.UNREADABLE, file, None, detail)
    layout = get_layout(named)
    if layout.num_joints != joints:
        detail = f'{joints} joints, but the layout {layout.name} has {layout.num_joints}'
        raise ClipError(common.UNREADABLE, file, None, detail)
    return layout


def check_layout(name: str | None) -> str | dict | None:
    """The layout asked for, as an annotation file carries it.

    Raises:
        FormatError: There is no such layout.
    """
    if name is None:
        return None
    try:
        layout = get_layout(name)
    except LayoutError as error:
        raise FormatError(f'--layout: {error}') from None
    # A layout from a file travels inside the annotation file, which may be read elsewhere.
    return layout.name if layout.name in layout_names() else layout.as_dict()


def clean_scores(
    scores: np.ndarray, options: Mapping[str, Any], file: str, counts: Counter[str]
) -> np.ndarray:
    """Scores from 0 to 1."""
    scores = np.where(np.isfinite(scores), scores, 0)
    largest = float(scores.max(initial=0))
    if options['max_score']:
        return np.clip(scores / options['max_score'], 0, 1)
    if largest <= 1.2:  # estimators overshoot a little
        return np.clip(scores, 0, 1)
    if largest == 2 and np.isin(scores, (0, 1, 2)).all():
        counts['recordings have COCO visibility flags: 2 became score 1, 1 became 0.5'] += 1
        return scores / 2
    if 20 < largest <= 100:
        counts['recordings have scores in percent, divided by 100'] += 1
        return np.clip(scores / 100, 0, 1)
    detail = f'scores go up to {largest:g}, expected 0 to 1; --max-score {largest:g} divides by it'
    raise ClipError(common.UNREADABLE, file, None, detail)


def to_pixels(
    points: np.ndarray,
    seen: np.ndarray,
    unit: Unit,
    file: str,
    counts: Counter[str],
) -> np.ndarray:
    """2D coordinates in pixels of a picture of this size."""
    size = unit.size
    if size is None:
        detail = 'the size of the picture is not known: give --size WIDTHxHEIGHT'
        raise ClipError(common.UNREADABLE, file, None, detail)
    there = points[seen]
    fractions = (np.abs(there) <= FRACTION).mean() >= 0.99
    if unit.name == 'fractions' and np.abs(there).max() > 10:
        if np.median(np.abs(there)) <= 10:
            detail = f'x and y are fractions of the picture, found {np.abs(there).max():g}'
            raise ClipError(common.UNREADABLE, file, None, detail)
        counts['recordings hold pixels where fractions of the picture are usual'] += 1
    elif unit.name == 'fractions' or (unit.name is None and fractions):
        if unit.name is None:
            counts['recordings hold fractions of the picture, turned into pixels'] += 1
            if (there < 0).mean() > 0.05:  # from -1 to 1
                points = (points + 1) / 2
        return points * np.array(size, np.float32)
    beyond = (there > np.array(size)).any(-1).mean()
    if beyond > 0.1:
        largest = ' and '.join(f'{value:g}' for value in there.max(0))
        detail = (
            f'{beyond:.0%} of the joints lie beyond a picture of {size[0]}x{size[1]} (x and y go '
            f'up to {largest}): give the true --size'
        )
        raise ClipError(common.UNREADABLE, file, None, detail)
    return points


def metres(
    points: np.ndarray, seen: np.ndarray, unit: str | None, layout: Layout, counts: Counter[str]
) -> np.float32:
    """Factor that makes 3D coordinates metres, by the size of a body where it is not given."""
    if unit:
        return np.float32(UNITS[unit])
    low = np.where(seen[..., None], points, np.inf).min(1)
    high = np.where(seen[..., None], points, -np.inf).max(1)
    extent = float(np.median((high - low)[seen.sum(1) > 1].max(-1, initial=0))) if seen.any() else 0
    # A body extends over 0.3 to 2.7 metres, a hand over a tenth of that.
    names = ' '.join(layout.joints).lower()
    is_hand = 'thumb' in names and not any(part in names for part in ('shoulder', 'hip', 'head'))
    extent *= 10 if is_hand else 1
    found = 'mm' if 270 < extent < 5000 else 'cm' if 15 < extent <= 270 else 'm'
    if found != 'm':
        counts[f'recordings are in {found}, turned into metres (--unit)'] += 1
    return np.float32(UNITS[found])


def use_times(ready: Ready, take: Take, options: Mapping[str, Any], counts: Counter[str]) -> None:
    """Frame rate, gaps and even spacing from the times of frames."""
    numbers = sorted(take.times)
    times = np.array([take.times[number] for number in numbers])
    steps = np.diff(times)
    if len(times) < 3 or not (steps > 0).all():
        return
    step = float(np.median(steps))
    unit = 1.0 if step < 1 else 1e-3 if step < 1000 else 1e-6
    ready.fps = round(1 / (step * unit), 3)
    if take.numbered:
        return
    place = (times - times[0]) / step
    slots = np.rint(place).astype(np.int64)
    if slots[-1] >= LONGEST:
        return
    by_number = dict(zip(numbers, slots.tolist(), strict=True))
    if np.abs(place - slots).max() < 0.25 and len(set(by_number.values())) == len(slots):
        if slots[-1] != len(slots) - 1:
            lost = int(slots[-1]) + 1 - len(slots)
            counts['frames are missing by their times and stay gaps'] += lost
        ready.found.frame = np.array([by_number[n] for n in ready.found.frame.tolist()], np.int64)
        ready.broken = {by_number[n]: error for n, error in ready.broken.items() if n in by_number}
        ready.last = int(slots[-1])
        return
    counts['recordings have irregular times and were resampled'] += 1
    most = options['max_persons']
    keypoint, score, _ = people.assemble(
        ready.found, ready.first, ready.last - ready.first + 1, most, options['person'], ready.size
    )
    even = np.arange(slots[-1] + 1) * step + times[0]
    index = np.array(numbers) - ready.first
    ready.found = resample(keypoint[:, index], score[:, index], times, even, 2 * step)
    ready.first, ready.last, ready.broken = 0, len(even) - 1, {}


def resample(
    keypoint: np.ndarray, score: np.ndarray, times: np.ndarray, even: np.ndarray, widest: float
) -> Detections:
    """Persons at even times: between two frames that show a joint, by their distance in time."""
    after = np.clip(np.searchsorted(times, even), 1, len(times) - 1)
    before = after - 1
    weight = np.clip((even - times[before]) / (times[after] - times[before]), 0, 1)
    near = np.where(weight < 0.5, before, after)
    w = weight.astype(np.float32)[None, :, None, None]
    both = (score[:, before] > 0) & (score[:, after] > 0)
    both &= (times[after] - times[before] <= widest)[None, :, None]
    mixed = keypoint[:, before] * (1 - w) + keypoint[:, after] * w
    close = (np.abs(times[near] - even) <= widest / 4)[None, :, None]
    single = keypoint[:, near] * close[..., None]
    points = np.where(both[..., None], mixed, single)
    scores = np.where(both, np.minimum(score[:, before], score[:, after]), score[:, near] * close)
    persons, frames = points.shape[:2]
    shown = [(t, m) for t in range(frames) for m in range(persons) if scores[m, t].any()]
    t, m = np.array(shown, np.int64).reshape(-1, 2).T
    return Detections(points[m, t], scores[m, t].astype(np.float32), t, m.tolist())
