"""Persons in JSON, in whatever way the usual estimators nest them.

One walk serves them all: their keys are in `words.json`, and what a value is shows in its form.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mg_plugins.data.layouts import get_layout, layout_names

from . import common
from .common import EMPTY, NON_NUMERIC, SHORT_ROW, ClipError, expect
from .sources import Entry, plain_name, shorten
from .takes import LONGEST, Person, Take

WORDS = common.WORDS['json']
# Keys of the parts of a person (body, left hand, right hand), which are joined in this order.
PARTS: dict[str, list[list[str]]] = WORDS['parts']
PERSON_KEYS = {key for parts in PARTS.values() for keys in parts for key in keys}
HAND_KEYS = {key for keys in PARTS['mediapipe'] for key in keys}
WHOLE_BODY = {key for keys in PARTS['wholebody'][1:] for key in keys}
IMAGE_NAME = re.compile(r'(\d+)(\.(jpe?g|png|bmp|json))?$', re.I)


def parse(entry: Entry, take: Take) -> None:
    """The take of one file; bare lists of joints are of the take's family."""
    content, walk = entry.json(), Walk(take)
    expect(content is not None and content not in ([], {}), 'there are no frames', EMPTY)
    if isinstance(content, Mapping):
        walk.about(content)
    frames = list(walk.frames(content))
    lacking, at = sum(number is None for number, _, _ in frames), -1
    take.numbered = lacking < len(frames)
    take.counts['frames lack a number: each follows the last'] += lacking * take.numbered
    for number, time, frame in frames:
        at = at + 1 if number is None else number
        expect(-1 < at < 10 * LONGEST, f'frame {shorten(str(at))} is no number of a frame')
        if time is not None:
            take.times[at] = time
        take.add(at, walk.persons(frame))
    for at, error in take.broken.items():
        error.detail = f'frame {at}: {error.detail}'


class Walk:
    """What one recording turns out to be while its files are walked through."""

    def __init__(self, take: Take):
        self.family, self.take, self.order = take.family, take, None
        self.world = take.options.get('world')
        self.parts = PARTS | ({'mediapipe': [WORDS['world']]} if self.world else {})

    def about(self, content: Mapping) -> None:
        """What a file says of itself: joint names, size, rate, label."""
        info = content.get('meta_info')
        if isinstance(info, Mapping):
            names, numbers = info.get('keypoint_id2name'), info.get('keypoint_name2id')
            if not isinstance(names, Mapping) and isinstance(numbers, Mapping):
                names = {index: name for name, index in numbers.items()}
            if isinstance(names, Mapping):
                self.joints_named([names[key] for key in sorted(names, key=int)])
        label, fps, *size = (content.get(key) for key in ('label', 'fps', 'width', 'height'))
        if isinstance(label, str):
            self.take.label = label
        if is_number(fps) and 0 < fps < 10_000:
            self.take.fps = float(fps)
        if all(isinstance(side, int) for side in size) and 0 < size[0] * size[1] < 1e10:
            self.take.size = tuple(size)

    def frames(self, content: Any) -> Iterator[tuple[int | None, float | None, Any]]:
        """(number, time, persons) of every frame; None where the file does not say."""
        if isinstance(content, Mapping):
            names = [IMAGE_NAME.search(str(key)) for key in content]
            if all(names):
                for name, frame in zip(names, content.values(), strict=True):
                    yield int(name[1]), None, frame
                return
            lists = (content[key] for key in WORDS['frame_lists'] if key in content)
            content = next((one for one in lists if isinstance(one, (list, Mapping))), None)
            if isinstance(content, Mapping):
                yield from self.frames(content)
                return
        expect(isinstance(content, list), 'there is no list of frames')
        dicts = [item if isinstance(item, Mapping) else {} for item in content]
        numbers = [number_of(item) for item in dicts]
        joints = content and is_landmark(content[0]) and is_landmark(content[-1])
        listed = all(isinstance(item.get('keypoints'), (list, Mapping)) for item in dicts)
        what = 'joints' if joints else 'persons'
        alone = joints or (listed and set(numbers) == {None})
        expect(not alone, f'these are the {what} of one picture; a clip needs frames')
        for number, known, item in zip(numbers, dicts, content, strict=True):
            time = next((known[key] for key in WORDS['time'] if is_number(known.get(key))), None)
            yield number, time, item

    def persons(self, frame: Any) -> Iterator[Person]:
        """Every person of a frame."""
        if frame is None or frame in ([], {}):
            return
        if isinstance(frame, Mapping):
            keys = set(frame)
            kinds = (kind for kind, parts in self.parts.items() if keys & {*parts[0]})
            kind = max(kinds, key=lambda k: any(map(frame.get, self.parts[k][0])), default=None)
            at = next((key for key in WORDS['person_lists'] if key in frame), None)
            if kind == 'coco' and WHOLE_BODY & keys:
                kind = 'wholebody'
            if kind:
                yield from self.person(frame, kind, self.parts[kind])
            elif at:
                expect(isinstance(frame[at], (list, Mapping)), f'"{at}" is no list of persons')
                yield from self.persons(frame[at])
            elif HAND_KEYS & keys:  # hands alone
                yield from self.person(frame, 'mediapipe', PARTS['mediapipe'])
            else:
                empty = {'x', 'y'} & keys or keys <= {*WORDS['frame'], *WORDS['time']}
                expect(empty, f'no joints under the keys {", ".join(map(str, list(frame)[:5]))}')
        elif not isinstance(frame, list):
            raise ClipError(f'expected persons, found {shorten(repr(frame))}')
        elif is_landmark(frame[0]):
            bare = isinstance(frame[0], Mapping) or len(frame) == 33 or self.family == 'mediapipe'
            kind = 'mediapipe' if bare else 'coco'
            yield from self.person({'keypoints': frame}, kind, [['keypoints']])
        else:
            for part in frame:
                if not isinstance(part, (list, Mapping)):
                    raise ClipError(f'a person is {shorten(repr(part))}, not an object')
                yield from self.persons(part)

    def person(self, item: Mapping, kind: str, parts: Sequence) -> Iterator[Person]:
        """One person, or several where a part is a list of persons."""
        values = [next((item[key] for key in keys if item.get(key)), None) for keys in parts]
        body = values[0]
        first = body[0] if isinstance(body, list) else None
        if first and isinstance(first, list) and is_landmark(first[0]):  # a list of persons
            for one in body:
                yield from self.person({parts[0][0]: one}, kind, parts[:1])
            return
        values = [v.get('landmark', v) if isinstance(v, Mapping) else v for v in values]
        scores = None
        if kind in ('coco', 'wholebody'):
            listed = (item[key] for key in WORDS['scores'] if isinstance(item.get(key), list))
            scores = next((numbers_of(value).reshape(-1) for value in listed), None)
        elif kind == 'mediapipe' and not any(values):
            return
        count = None if scores is None else scores.size
        arrays = [None if value is None else self.joints(value, kind, count) for value in values]
        there = arrays[0] is not None or kind in ('mediapipe', 'wholebody')
        expect(there, f'"{parts[0][0]}" is empty', SHORT_ROW)
        joints = join_parts(arrays, kind)
        expect(count in (None, len(joints)), f'{count} scores for {len(joints)} joints', SHORT_ROW)
        if self.order is not None and len(joints) > max(self.order):
            joints = joints[self.order]
            scores = None if scores is None else scores[self.order]
        self.take.family = WORDS['families'].get(kind, kind)
        identity = next((item[key] for key in WORDS['track'] if key in item), None)
        while isinstance(identity, list):
            identity = identity[0] if len(identity) == 1 else None
        if identity in (-1, '-1') or not isinstance(identity, (int, str)):
            identity = None
        # The third column is a coordinate beside scores of their own.
        dims = joints.shape[1]
        if kind == 'mediapipe':
            scores = joints[:, 3] if dims > 3 else None
            self.take.unit, dims = ('m', 3) if self.world else ('fractions', 2)
        elif kind == 'openpose3d' or dims == 4:
            scores, dims = joints[:, 3], 3
        elif dims == 3 and scores is None:
            scores, dims = joints[:, 2], 2
        yield joints[:, :dims], scores, identity

    def joints_named(self, names: list[str]) -> None:
        """Find the layout of joints by their names, whatever their order."""
        plain, wanted = [plain_name(name) for name in names], self.take.options.get('layout')
        for known in [wanted] * bool(wanted) + layout_names():
            joints = [plain_name(joint) for joint in get_layout(known).joints]
            if set(joints) == set(plain) or (known == wanted and set(joints) <= set(plain)):
                self.take.layout, self.order = known, [plain.index(joint) for joint in joints]
                return
        raise ClipError(
            f'no layout has the joints {", ".join(names[:6])} …: give --layout FILE.json'
        )

    def joints(self, value: Any, kind: str, count: int | None) -> np.ndarray:
        """float32 (V, 2 to 4) of whatever holds joints; `count` is their number, if known."""
        if isinstance(value, Mapping) and {'x', 'y'} <= set(value):  # YOLO: a list an axis
            axes = [value[key] for key in ('x', 'y', 'visible', 'confidence') if value.get(key)]
            return np.stack([numbers_of(axis) for axis in axes[:3]], axis=-1)
        if isinstance(value, Mapping):
            self.joints_named(list(value))
            value = list(value.values())
        if not isinstance(value, list):
            raise ClipError(f'joints are {shorten(repr(value))}, not a list')
        if value and isinstance(value[0], Mapping):
            landmarks, value = value, []
            for index, joint in enumerate(landmarks):
                fine = isinstance(joint, Mapping) and {'x', 'y'} <= set(joint)
                expect(fine, f'landmark {index} has no x and y')
                seen = (joint[key] for key in WORDS['visibility'] if joint.get(key) is not None)
                value.append([joint['x'], joint['y'], joint.get('z', 0), next(seen, 1)])
        array = numbers_of(value)
        if array.ndim == 1:
            each = 4 if kind == 'openpose3d' else 2 if count and array.size == 2 * count else 3
            expect(not array.size % each, f'{array.size} numbers, not {each} a joint', SHORT_ROW)
            array = array.reshape(-1, each)
        fine = array.ndim == 2 and array.shape[1] in (2, 3, 4)
        expect(fine, f'joints have the shape {array.shape}, expected (joints, 2 to 4)')
        return array


def join_parts(arrays: list[np.ndarray | None], kind: str) -> np.ndarray:
    """Body, hands and others in a row; zeros for those that are missing beside others."""
    alone = all(array is None for array in arrays[1:])
    # No layout has COCO's 18 joints with hands.
    if kind != 'wholebody' and (alone or kind != 'mediapipe' and len(arrays[0]) == 18):
        return arrays[0]
    width, joined = max((a.shape[1] for a in arrays if a is not None), default=3), []
    for array, usual in zip(arrays, WORDS['sizes'][kind], strict=True):
        whole = np.zeros((usual if array is None else len(array), width), np.float32)
        fine = not joined or len(whole) == usual
        expect(fine, f'{len(whole)} joints of a part, expected {usual}', SHORT_ROW)
        if array is not None:
            whole[:, : array.shape[1]] = array
            if joined and kind == 'mediapipe':  # hands have no visibility
                whole[:, 3:] = 1
            if kind == 'wholebody' and whole[:, 2].max() == 2:  # flags: 2 for one that is seen
                whole[:, 2] /= 2
        joined.append(whole)
    return np.concatenate(joined)


def number_of(item: Mapping) -> int | None:
    """The frame number of a frame, or of the picture that a COCO result is of."""
    for key in WORDS['frame']:
        value = item.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and (match := IMAGE_NAME.search(value)):
            return int(match[1])
    named = 'image_id' in item and PERSON_KEYS & set(item)
    expect(not named, f'image_id {item.get("image_id")!r} is no frame number: add "frame_id"')
    return None


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_landmark(item: Any) -> bool:
    if isinstance(item, Mapping):
        return 'x' in item and 'y' in item and not isinstance(item['x'], list)
    return isinstance(item, list) and len(item) > 1 and (item[0] is None or is_number(item[0]))


def numbers_of(value: Any) -> np.ndarray:
    """A float32 array of nested lists; null is NaN."""
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ClipError('a joint is not a number, or lacks a coordinate', NON_NUMERIC) from None
    return np.where(np.abs(array) < 1e30, array, np.nan).astype(np.float32)
