"""One recording as a parser found it, and what makes it fit for training: units, scores, times."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mg_plugins.data.checks import LARGEST
from mg_plugins.data.layouts import Layout, LayoutError, get_layout, layout_names

from . import people
from .common import ALL_ZERO, EMPTY, WORDS, ClipError, FormatError, Options, expect, reading
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
# Joints of a person with both hands, and of one without, who is taken to lack them for a while.
WITHOUT_HANDS = {67: 25, 75: 33}
Person = tuple[np.ndarray, np.ndarray | None, Any]  # points (V, C), scores (V,) or None, track id


@dataclass
class Take:
    """One recording: what its files hold, and `found`, `first` and `last` once it is finished."""

    options: Options
    family: str = 'coco'  # whose files these are: openpose, coco, mediapipe or arrays
    layout: Any = None  # what the files say of their joints; None to go by their number
    numbered: bool = False  # whether the files number their frames; else they are counted from 0
    unit: str | None = None  # 'fractions' or 'm'; None where it must be found out
    fps: float | None = None
    size: tuple[int, int] | None = None
    label: str | None = None  # class name that the file gives
    persons: list[tuple] = field(default_factory=list)  # frame number, points, scores, track id
    numbers: set[int] = field(default_factory=set)  # frames, also those that show nobody
    broken: dict[int, ClipError] = field(default_factory=dict)  # frames that cannot be read
    times: dict[int, float] = field(default_factory=dict)  # of frames, in seconds
    counts: Counter[str] = field(default_factory=Counter)  # what was converted
    found: Detections | None = None  # in pixels or metres, with scores from 0 to 1
    first: int = 0  # numbers of the first and the last frame
    last: int = -1

    def add(self, number: int, persons: Iterable[Person], file: str = '') -> None:
        """Take up the persons of a frame as they are read; what goes wrong breaks the frame."""
        self.numbers.add(number)
        try:
            with reading(file):
                self.persons += [(number, *person) for person in persons]
        except ClipError as error:
            self.broken[number] = error

    def assemble(self, found: Detections, start: int, end: int) -> tuple:
        """`people.assemble` of frames `start` to `end` as the options ask."""
        most, who = self.options['max_persons'], self.options['person']
        return people.assemble(found, start, end - start + 1, most, who, self.size)


def finish(take: Take, size: tuple[int, int] | None) -> None:
    """Bring a take into the form that clips are cut from; `size` is that of the labels."""
    expect(take.numbers, 'there are no frames', EMPTY)
    take.first, take.last, frames = min(take.numbers), max(take.numbers), len(take.numbers)
    if take.broken and not take.persons:
        raise next(iter(take.broken.values()))
    expect(take.persons, f'nobody was detected in {frames} frames', ALL_ZERO)
    numbers, points, scores, ids = zip(*sorted(take.persons, key=lambda p: p[0]), strict=True)
    shapes = {joints.shape for joints in points}
    joints, width = max(shapes)
    found = ' and '.join(f'{v} joints x {c}' for v, c in sorted(shapes))
    expect(shapes <= {(joints, width), (WITHOUT_HANDS.get(joints), width)}, f'persons have {found}')
    if take.layout is None:
        # Only counted: a layout of the user's with as many joints says what they are.
        wanted, layouts = take.options['layout'], WORDS['layouts'][take.family]
        counted = wanted and get_layout(wanted).num_joints == joints
        take.layout = wanted if counted else layouts.get(str(joints))
        known = ', '.join(f'{n} ({name})' for n, name in layouts.items())
        expect(take.layout, f'{joints} joints, expected {known}; give --layout with as many joints')
    take.layout = check_joints(take.layout, joints)
    take.size = size or take.options['size'] or take.size
    whole = np.zeros((len(points), joints, width + 1), np.float32)  # 0 for the hands that some lack
    for one, xy, score in zip(whole, points, scores, strict=True):
        one[: len(xy), :-1], one[: len(xy), -1] = xy, 1 if score is None else score
    points, scores = clean(take, whole[..., :-1], whole[..., -1])
    named = None if None in ids else list(ids)
    take.found = Detections(points, scores, np.array(numbers, np.int64), named)
    near = take.last - take.first < min(LONGEST, SPARSEST * frames)
    shown, remedy = f'frames {take.first} to {take.last}', 'or ids of pictures? Add "frame_id"'
    expect(take.first >= 0 and near, f'{shown}: are these numbers of frames, {remedy}')
    if take.times:
        use_times(take)
    take.fps = take.options['fps'] or take.fps


def clean(take: Take, points: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (K, V, C) in pixels or metres, scores (K, V) from 0 to 1; missing joints all 0."""
    options, counts, most = take.options, take.counts, take.options['max_score']
    scores = np.where(np.isfinite(scores), scores, 0).astype(np.float32)
    largest = float(scores.max(initial=0))
    if not most and largest == 2 and np.isin(scores, (0, 1, 2)).all():
        counts['recordings have COCO visibility flags: 2 became score 1, 1 became 0.5'] += 1
        most = 2
    elif not most and 20 < largest <= 100:
        counts['recordings have scores in percent, divided by 100'] += 1
        most = 100
    fine = most or largest <= 1.2  # estimators overshoot a little
    expect(fine, f'scores go up to {largest:g}, not 1: --max-score {largest:g} divides by it')
    scores = np.clip(scores / (most or 1), 0, 1)
    least = options.get('min_score')
    if least is None:
        least = MEDIAPIPE_VISIBLE if take.family == 'mediapipe' else 0.0
    finite = np.isfinite(points).all(-1)
    largest = np.abs(points[finite]).max(initial=0)
    expect(largest <= LARGEST, f'a coordinate is {largest:.3g}, expected pixels or metres')
    counts['joints that are empty, null or NaN count as missing'] += int((~finite).sum())
    seen = finite & points.any(-1) & (scores > 0)
    hidden = seen & (scores < least)
    counts[f'joints with a score below {least:g} count as missing (--min-score)'] += hidden.sum()
    seen &= ~hidden
    expect(seen.any(), f'no joint was detected in any of the {len(points)} poses', ALL_ZERO)
    points = np.where(seen[..., None], points, np.float32(0))
    if points.shape[-1] == 2:
        points = to_pixels(points, seen, take)
    else:
        if not (unit := options['unit']) and (unit := usual_unit(points, seen, take.layout)) != 'm':
            counts[f'recordings are in {unit}, turned into metres (--unit)'] += 1
        points, take.size = points * np.float32(UNITS[unit]), None
    points[~seen] = 0
    return points.astype(np.float32, copy=False), np.where(seen, scores, np.float32(0))


def check_joints(layout: Any, joints: int) -> Layout:
    """This layout, if it has as many joints as a file."""
    layout = get_layout(layout)
    own = f'but the layout {layout.name} has {layout.num_joints}'
    expect(layout.num_joints == joints, f'{joints} joints, {own}')
    return layout


def check_layout(given: Any, where: str = '--layout') -> str | dict | None:
    """A layout asked for, as an annotation file carries it: whole where it is not built in."""
    try:
        layout = None if given is None else get_layout(given)
    except LayoutError as error:
        raise FormatError(f'{where}: {error}') from None
    return layout and (layout.name if layout.name in layout_names() else layout.as_dict())


def to_pixels(points: np.ndarray, seen: np.ndarray, take: Take) -> np.ndarray:
    """2D coordinates in pixels of the take's picture."""
    expect(take.size, 'the size of the picture is not known: give --size WIDTHxHEIGHT')
    size, there = np.array(take.size, np.float32), points[seen]
    far, largest = np.abs(there), np.abs(there).max()
    if take.unit == 'fractions':
        if largest <= 10:
            return points * size
        expect(np.median(far) > 10, f'x and y are fractions of the picture, found {largest:g}')
        take.counts['recordings hold pixels where fractions of the picture are usual'] += 1
    elif take.unit is None and (far <= FRACTION).mean() >= 0.99:
        take.counts['recordings hold fractions of the picture, turned into pixels'] += 1
        if (there < 0).mean() > 0.05:  # from -1 to 1
            points = (points + 1) / 2
        return points * size
    beyond, (width, height), (x, y) = (there > size).any(-1).mean(), size, there.max(0)
    shown = f'a picture of {width:g}x{height:g} (x and y go up to {x:g} and {y:g})'
    expect(beyond <= 0.1, f'{beyond:.0%} of the joints lie beyond {shown}: give the true --size')
    return points


def usual_unit(points: np.ndarray, seen: np.ndarray, layout: Layout) -> str:
    """The unit of 3D coordinates, by the size of the body that they show."""
    low, high = people.bounds(points, seen)
    extent = float(np.median((high - low)[seen.sum(1) > 1].max(-1, initial=0))) if seen.any() else 0
    # A body extends over 0.3 to 2.7 metres, a hand over a tenth of that.
    names = ' '.join(layout.joints).lower()
    if 'thumb' in names and not any(part in names for part in ('shoulder', 'hip', 'head')):
        extent *= 10
    return 'mm' if 270 < extent < 5000 else 'cm' if 15 < extent <= 270 else 'm'


def use_times(take: Take) -> None:
    """Frame rate, gaps and even spacing from the times of frames."""
    numbers = sorted(take.times)
    times = np.array([take.times[number] for number in numbers])
    steps = np.diff(times)
    if len(times) < 3 or not (steps > 0).all():
        take.counts['recordings have times that do not increase, which were not used'] += 1
        return
    step = float(np.median(steps))
    take.fps = round((1 if step < 1 else 1e3 if step < 1000 else 1e6) / step, 3)
    place = (times - times[0]) / step
    slots = np.rint(place).astype(np.int64)
    if take.numbered or slots[-1] >= LONGEST:
        return
    if np.abs(place - slots).max() < 0.25 and (np.diff(slots) > 0).all():
        take.counts['frames are missing by their times and stay gaps'] += slots[-1] + 1 - len(slots)
        slot, found = dict(zip(numbers, slots.tolist(), strict=True)), take.found
        timed = np.flatnonzero(np.isin(found.frame, numbers))  # the others have no place
        frame = np.array([slot[n] for n in found.frame[timed].tolist()], np.int64)
        ids = found.ids and [found.ids[k] for k in timed]
        take.found = Detections(found.points[timed], found.scores[timed], frame, ids)
        take.broken = {slot[n]: error for n, error in take.broken.items() if n in slot}
        take.last = int(slots[-1])
        return
    take.counts['recordings have irregular times and were resampled'] += 1
    keypoint, score, _ = take.assemble(take.found, take.first, take.last)
    even = np.arange(slots[-1] + 1) * step + times[0]
    keypoint, score = (part[:, np.array(numbers) - take.first] for part in (keypoint, score))
    # Between two frames that show a joint, by their distance in time.
    after = np.clip(np.searchsorted(times, even), 1, len(times) - 1)
    before = after - 1
    weight = np.clip((even - times[before]) / (times[after] - times[before]), 0, 1)
    near = np.where(weight < 0.5, before, after)
    w = weight.astype(np.float32)[None, :, None, None]
    both = (score[:, before] > 0) & (score[:, after] > 0)
    both &= (times[after] - times[before] <= 2 * step)[None, :, None]
    mixed = keypoint[:, before] * (1 - w) + keypoint[:, after] * w
    close = (np.abs(times[near] - even) <= step / 2)[None, :, None]
    points = np.where(both[..., None], mixed, keypoint[:, near] * close[..., None])
    scores = np.where(both, np.minimum(score[:, before], score[:, after]), score[:, near] * close)
    t, m = np.nonzero(scores.any(-1).T)
    take.found = Detections(points[m, t], scores[m, t].astype(np.float32), t, m.tolist())
    take.first, take.last, take.broken = 0, len(even) - 1, {}
