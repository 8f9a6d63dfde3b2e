"""One recording as a parser found it, and what makes it fit for training: units, scores, times.

What is certain is converted and counted, what is not is refused with the remedy; nothing is passed
through in another unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mg_plugins.data.checks import LARGEST
from mg_plugins.data.layouts import Layout, LayoutError, get_layout, layout_names

from . import people
from .common import ALL_ZERO, EMPTY, ClipError, FormatError, Options, words
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


@dataclass
class Take:
    """One recording.

    Attributes:
        persons: (frame number, points (V, C), scores (V,) or None, track id) of every person.
        family: Whose files these are: openpose, coco or mediapipe.
        layout: What the files say of their joints; None to go by their number.
        broken: Frames that cannot be read.
        numbers: Frames that the files hold, also those that show nobody.
        numbered: Whether the files number their frames; else they are counted from 0.
        times: Seconds of frames, by number, where the files have times.
        unit: 'pixels', 'fractions' or 'm'; None where it must be found out.
        label: Class name that the file gives, if any.
        found: The persons in pixels or metres with scores from 0 to 1, once `finish` is done.
        first, last: Numbers of the first and the last frame, once `finish` is done.
    """

    persons: list[tuple[int, np.ndarray, np.ndarray | None, Any]] = field(default_factory=list)
    family: str = 'coco'
    layout: Any = None
    broken: dict[int, ClipError] = field(default_factory=dict)
    numbers: Sequence[int] = ()
    numbered: bool = False
    times: dict[int, float] = field(default_factory=dict)
    unit: str | None = None
    fps: float | None = None
    size: tuple[int, int] | None = None
    label: str | None = None
    found: Detections | None = None
    first: int = 0
    last: int = -1


class Unit(NamedTuple):
    """What is known of coordinates: see `Take.unit`; the least score; picture size and layout."""

    name: str | None
    least: float
    size: tuple[int, int] | None
    layout: Layout


def finish(take: Take, options: Options, size) -> Counter[str]:
    """Bring a take into the form that clips are cut from; gives what was converted.

    `take.layout` becomes a `Layout`; `size` (width, height) is that of the labels, if they say.
    """
    counts: Counter[str] = Counter()
    if not take.numbers:
        raise ClipError('there are no frames', EMPTY)
    take.first, take.last, frames = min(take.numbers), max(take.numbers), len(take.numbers)
    if not take.persons:
        if take.broken:
            raise next(iter(take.broken.values()))
        raise ClipError(f'nobody was detected in {frames} frames', ALL_ZERO)
    persons = with_hands(sorted(take.persons, key=lambda person: person[0]))
    shapes = Counter(person[1].shape for person in persons)
    if len(shapes) > 1:
        found = ' and '.join(f'{v} joints x {c}' for v, c in sorted(shapes))
        raise ClipError(f'persons have {found}')
    numbers, points, scores, ids = zip(*persons, strict=True)
    joints = len(points[0])
    scores = np.stack([np.ones(joints, np.float32) if s is None else s for s in scores])
    take.layout = find_layout(take, joints, options['layout'])
    least = options['min_score']
    if least is None:
        least = MEDIAPIPE_VISIBLE if take.family == 'mediapipe' else 0.0
    unit = Unit(take.unit, least, size or options['size'] or take.size, take.layout)
    points = np.stack(points).astype(np.float32)
    points, scores, take.size = clean(points, scores, unit, options, counts)
    named = None if None in ids else list(ids)
    take.found = Detections(points, scores, np.array(numbers, np.int64), named)
    if take.first < 0 or take.last - take.first >= min(LONGEST, SPARSEST * frames):
        shown = f'frames {take.first} to {take.last}'
        raise ClipError(f'{shown}: are these numbers of frames? (ids of pictures: --images)')
    if take.times:
        use_times(take, options, counts)
    take.fps = options['fps'] or take.fps
    return counts


def with_hands(persons: list[tuple]) -> list[tuple]:
    """Persons without hands beside persons with hands get two hands that are missing."""
    largest = max(len(person[1]) for person in persons)
    body = {67: 25, 75: 33}.get(largest)
    return [
        (
            number,
            np.pad(points, ((0, largest - body), (0, 0))),
            None if scores is None else np.pad(scores, (0, largest - body)),
            identity,
        )
        if len(points) == body
        else (number, points, scores, identity)
        for number, points, scores, identity in persons
    ]


def clean(
    points: np.ndarray,
    scores: np.ndarray,
    unit: Unit,
    options: Options,
    counts: Counter[str],
) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
    """Coordinates in pixels or metres, scores from 0 to 1; missing joints all 0.

    Args:
        points: float32 (K, V, C).
        scores: (K, V).
        unit: What is known of them.
        options: `max_score` and `unit`.
        counts: Takes up what was converted.

    Returns:
        points, scores, and the size of the picture (None in 3D).
    """
    scores = clean_scores(np.array(scores, np.float32), options, counts)
    finite = np.isfinite(points).all(-1)
    largest = np.abs(points[finite]).max(initial=0)
    if largest > LARGEST:
        raise ClipError(f'a coordinate is {largest:.3g}, expected pixels or metres')
    missing = ~finite
    if not finite.all():
        counts['joints that are empty, null or NaN count as missing'] += int((~finite).sum())
    missing |= ~points.any(-1) | ~(scores > 0)
    hidden = ~missing & (scores < unit.least)
    if hidden.any():
        what = f'joints with a score below {unit.least:g} count as missing (--min-score)'
        counts[what] += int(hidden.sum())
    missing |= hidden
    if missing.all():
        raise ClipError(f'no joint was detected in any of the {len(points)} poses', ALL_ZERO)
    points, scores = np.where(missing[..., None], 0, points), np.where(missing, 0, scores)
    if points.shape[-1] == 2:
        points, size = to_pixels(points, ~missing, unit, counts), unit.size
    else:
        points = points * metres(points, ~missing, options['unit'], unit.layout, counts)
        size = None
    points[missing] = 0
    return points.astype(np.float32, copy=False), scores, size


def by_count(family: str, joints: int) -> str | None:
    """The layout of files that name no joints, by their number."""
    return words('layouts')[family].get(str(joints))


def find_layout(take: Take, joints: int, wanted: str | None) -> Layout:
    """The layout of the joints in a file."""
    named = take.layout
    if named is None:
        named = by_count(take.family, joints)
        # Only counted: a layout of the user's with as many joints says what they are.
        if wanted and get_layout(wanted).num_joints == joints:
            named = wanted
    if named is None:
        known = ', '.join(f'{n} ({name})' for n, name in words('layouts')[take.family].items())
        raise ClipError(f'{joints} joints, expected {known}; give --layout with as many joints')
    layout = get_layout(named)
    if layout.num_joints != joints:
        own = f'but the layout {layout.name} has {layout.num_joints}'
        raise ClipError(f'{joints} joints, {own}')
    return layout


def check_layout(name: str | None) -> str | dict | None:
    """The layout asked for, as an annotation file carries it."""
    if name is None:
        return None
    try:
        layout = get_layout(name)
    except LayoutError as error:
        raise FormatError(f'--layout: {error}') from None
    # A layout from a file travels inside the annotation file, which may be read elsewhere.
    return layout.name if layout.name in layout_names() else layout.as_dict()


def clean_scores(scores: np.ndarray, options: Options, counts: Counter[str]) -> np.ndarray:
    """Scores from 0 to 1."""
    scores = np.where(np.isfinite(scores), scores, 0)
    largest, divisor = float(scores.max(initial=0)), 1.0
    if options['max_score']:
        divisor = options['max_score']
    elif largest == 2 and np.isin(scores, (0, 1, 2)).all():
        counts['recordings have COCO visibility flags: 2 became score 1, 1 became 0.5'] += 1
        divisor = 2
    elif 20 < largest <= 100:
        counts['recordings have scores in percent, divided by 100'] += 1
        divisor = 100
    elif largest > 1.2:  # estimators overshoot a little
        remedy = f'--max-score {largest:g} divides by it'
        raise ClipError(f'scores go up to {largest:g}, expected 0 to 1; {remedy}')
    return np.clip(scores / divisor, 0, 1)


def to_pixels(points: np.ndarray, seen: np.ndarray, unit: Unit, counts: Counter[str]) -> np.ndarray:
    """2D coordinates in pixels of a picture of this size."""
    if unit.size is None:
        raise ClipError('the size of the picture is not known: give --size WIDTHxHEIGHT')
    size, there = np.array(unit.size, np.float32), points[seen]
    if unit.name == 'fractions' and np.abs(there).max() > 10:
        if np.median(np.abs(there)) <= 10:
            largest = np.abs(there).max()
            raise ClipError(f'x and y are fractions of the picture, found {largest:g}')
        counts['recordings hold pixels where fractions of the picture are usual'] += 1
    elif unit.name == 'fractions':
        return points * size
    elif unit.name is None and (np.abs(there) <= FRACTION).mean() >= 0.99:
        counts['recordings hold fractions of the picture, turned into pixels'] += 1
        if (there < 0).mean() > 0.05:  # from -1 to 1
            points = (points + 1) / 2
        return points * size
    beyond = (there > size).any(-1).mean()
    if beyond > 0.1:
        largest = ' and '.join(f'{value:g}' for value in there.max(0))
        raise ClipError(
            f'{beyond:.0%} of the joints lie beyond a picture of {size[0]:g}x{size[1]:g} (x and y '
            f'go up to {largest}): give the true --size'
        )
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


def use_times(take: Take, options: Options, counts: Counter[str]) -> None:
    """Frame rate, gaps and even spacing from the times of frames."""
    numbers = sorted(take.times)
    times = np.array([take.times[number] for number in numbers])
    steps = np.diff(times)
    if len(times) < 3 or not (steps > 0).all():
        return
    step = float(np.median(steps))
    unit = 1.0 if step < 1 else 1e-3 if step < 1000 else 1e-6
    take.fps = round(1 / (step * unit), 3)
    place = (times - times[0]) / step
    slots = np.rint(place).astype(np.int64)
    if take.numbered or slots[-1] >= LONGEST:
        return
    if np.abs(place - slots).max() < 0.25 and (np.diff(slots) > 0).all():
        lost = int(slots[-1]) + 1 - len(slots)
        if lost:
            counts['frames are missing by their times and stay gaps'] += lost
        slot = dict(zip(numbers, slots.tolist(), strict=True))
        take.found.frame = np.array([slot[n] for n in take.found.frame.tolist()], np.int64)
        take.broken = {slot[n]: error for n, error in take.broken.items() if n in slot}
        take.last = int(slots[-1])
        return
    counts['recordings have irregular times and were resampled'] += 1
    keypoint, score, _ = people.assemble(
        take.found, take.first, take.last - take.first + 1, options['max_persons'],
        options['person'], take.size,
    )  # fmt: skip
    even = np.arange(slots[-1] + 1) * step + times[0]
    index = np.array(numbers) - take.first
    take.found = resample(keypoint[:, index], score[:, index], times, even, 2 * step)
    take.first, take.last, take.broken = 0, len(even) - 1, {}


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
    points = np.where(both[..., None], mixed, keypoint[:, near] * close[..., None])
    scores = np.where(both, np.minimum(score[:, before], score[:, after]), score[:, near] * close)
    t, m = np.nonzero(scores.any(-1).T)
    return Detections(points[m, t], scores[m, t].astype(np.float32), t, m.tolist())
