"""Persons in JSON, in whatever way the usual estimators nest them.

One walk serves OpenPose, AlphaPose, PoseFlow, MMPose, COCO results, YOLO-pose, Kinetics-skeleton
and MediaPipe: their keys are listed here, and what a value is shows in its form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mg_plugins.data.layouts import get_layout, layout_names

from .common import EMPTY, NON_NUMERIC, SHORT_ROW, ClipError, Options, reading, words
from .parsing import plain_name, shorten
from .takes import LONGEST, Take

WORDS = words('json')
# Keys of the parts of a person (body, left hand, right hand), which are joined in this order.
PARTS: dict[str, list[list[str]]] = WORDS['parts']
PERSON_KEYS = {key for parts in PARTS.values() for keys in parts for key in keys}
HAND_KEYS = {key for keys in PARTS['mediapipe'] for key in keys}
EMPTY_FRAME = {*WORDS['frame'], *WORDS['time']}
HAND = 21
IMAGE_NAME = re.compile(r'(\d+)(\.(jpe?g|png|bmp|json))?$', re.I)


def parse_poses(content: Any, options: Options, family: str = 'coco') -> Take:
    """The take of one file's parsed JSON; bare lists of joints are of this family."""
    if content is None or content in ([], {}):
        raise ClipError('there are no frames', EMPTY)
    take = Take(family=family)
    walk = Walk(options, take)
    if isinstance(content, Mapping):
        walk.about(content)
    frames = list(walk.frames(content))
    numbers = [number for number, _, _ in frames]
    take.numbered = bool(frames) and None not in numbers
    for place, (number, time, frame) in enumerate(frames):
        at = number if take.numbered else place
        if not -1 < at < 10 * LONGEST:
            raise ClipError(f'frame {shorten(str(at))} is no number of a frame')
        if time is not None:
            take.times[at] = time
        try:
            with reading(''):
                take.persons += [(at, *person) for person in walk.persons(frame)]
        except ClipError as error:
            take.broken[at] = ClipError(f'frame {at}: {error.detail}', error.reason)
    take.numbers = numbers if take.numbered else range(len(frames))
    if take.broken and not take.persons:
        raise next(iter(take.broken.values()))
    return take


class Walk:
    """What one recording turns out to be while its files are walked through."""

    def __init__(self, options: Options, take: Take):
        self.family, self.take, self.order = take.family, take, None
        self.world, self.wanted = options.get('world'), options.get('layout')

    def about(self, content: Mapping) -> None:
        """What a file says of itself: joint names, size, rate, label."""
        info = content.get('meta_info')
        if isinstance(info, Mapping):
            names, numbers = info.get('keypoint_id2name'), info.get('keypoint_name2id')
            if not isinstance(names, Mapping) and isinstance(numbers, Mapping):
                names = {index: name for name, index in numbers.items()}
            if isinstance(names, Mapping):
                self.joints_named([names[key] for key in sorted(names, key=int)])
        if isinstance(content.get('label'), str):
            self.take.label = content['label']
        fps, width, height = (content.get(key) for key in ('fps', 'width', 'height'))
        if isinstance(fps, (int, float)) and 0 < fps < 10_000:
            self.take.fps = float(fps)
        if isinstance(width, int) and isinstance(height, int) and 0 < width * height < 1e10:
            self.take.size = (width, height)

    def frames(self, content: Any) -> Iterator[tuple[int | None, float | None, Any]]:
        """(number, time, persons) of every frame; None where the file does not say."""
        if isinstance(content, Mapping):
            names = [IMAGE_NAME.search(str(key)) for key in content]
            if content and all(names):
                for name, frame in zip(names, content.values(), strict=True):
                    yield int(name[1]), None, frame
                return
            lists = (content[key] for key in WORDS['frame_lists'] if key in content)
            content = next((one for one in lists if isinstance(one, (list, Mapping))), None)
            if isinstance(content, Mapping):
                yield from self.frames(content)
                return
        if not isinstance(content, list):
            raise ClipError('there is no list of frames')
        dicts = [item for item in content if isinstance(item, Mapping)]
        if dicts and all('image_id' in item and PERSON_KEYS & set(item) for item in dicts):
            yield from self.by_image(dicts)
            return
        if (
            len(dicts) == len(content) > 0
            and all(isinstance(item.get('keypoints'), (list, Mapping)) for item in dicts)
            and all(number_of(item) is None for item in dicts)
        ):
            raise ClipError('these are the persons of one picture; a clip needs frames')
        if content and is_landmark(content[0]) and is_landmark(content[-1]):
            raise ClipError('these are the joints of one picture; a clip needs frames')
        for item in content:
            known = item if isinstance(item, Mapping) else {}
            time = next((known[key] for key in WORDS['time'] if is_number(known.get(key))), None)
            yield number_of(known), time, item

    def by_image(self, results: list) -> Iterator[tuple[int, None, list]]:
        """Results of one picture each, whose ids are frame numbers."""
        frames: dict[int, list] = {}
        for result in results:
            identity = result['image_id']
            match = IMAGE_NAME.search(PurePosixPath(str(identity)).name)
            if match is None:
                raise ClipError(f'image_id {identity!r} is no frame number; give --images')
            frames.setdefault(int(match[1]), []).append(result)
        for number, found in frames.items():
            yield number, None, found

    def persons(self, frame: Any) -> Iterator[tuple[np.ndarray, np.ndarray | None, Any]]:
        """(points, scores, track id) of every person of a frame."""
        if frame is None or (isinstance(frame, (list, Mapping)) and not frame):
            return
        if isinstance(frame, Mapping):
            for kind, parts in PARTS.items():
                keys = [WORDS['world']] if self.world and kind == 'mediapipe' else parts
                if any(key in frame for key in keys[0]):
                    yield from self.person(frame, kind, keys)
                    return
            for key in WORDS['person_lists']:
                if key in frame:
                    if not isinstance(frame[key], (list, Mapping)):
                        raise ClipError(f'"{key}" is no list of persons')
                    yield from self.persons(frame[key])
                    return
            if HAND_KEYS & set(frame):  # hands alone
                yield from self.person(frame, 'mediapipe', PARTS['mediapipe'])
            elif not ({'x', 'y'} & set(frame) or set(frame) <= EMPTY_FRAME):
                keys = ', '.join(map(str, list(frame)[:5]))
                raise ClipError(f'no joints under the keys {keys}')
            return
        if not isinstance(frame, list):
            raise ClipError(f'expected persons, found {shorten(repr(frame))}')
        if is_landmark(frame[0]):
            bare = 'mediapipe' if isinstance(frame[0], Mapping) or len(frame) == 33 else 'coco'
            kind = 'mediapipe' if self.family == 'mediapipe' else bare
            yield from self.person({'keypoints': frame}, kind, (('keypoints',),))
            return
        for part in frame:
            if not isinstance(part, (list, Mapping)):
                raise ClipError(f'a person is {shorten(repr(part))}, not an object')
            yield from self.persons(part)

    def person(self, item: Mapping, kind: str, parts: Sequence) -> Iterator[tuple]:
        """One person, or several where a part is a list of persons."""
        values = [next((item[key] for key in keys if item.get(key)), None) for keys in parts]
        if kind == 'coco' and WORDS['wholebody'].keys() & item.keys():
            values = [whole_body(item, values[0])]
        body = values[0]
        if isinstance(body, list) and isinstance(body[0], list) and body[0] and (
            is_landmark(body[0][0])
        ):  # MediaPipe Tasks: a list of persons  # fmt: skip
            for one in body:
                yield from self.person({parts[0][0]: one}, kind, parts[:1])
            return
        values = [
            value['landmark'] if isinstance(value, Mapping) and 'landmark' in value else value
            for value in values
        ]
        if kind == 'mediapipe' and not any(values):
            return
        scores = None
        if kind == 'coco':
            listed = (item[key] for key in WORDS['scores'] if isinstance(item.get(key), list))
            scores = next((numbers_of(value).reshape(-1) for value in listed), None)
        count = None if scores is None else scores.size
        arrays = [None if value is None else self.joints(value, kind, count) for value in values]
        if arrays[0] is None and kind != 'mediapipe':
            raise ClipError(f'"{parts[0][0]}" is empty', SHORT_ROW)
        if kind != 'mediapipe' and len(arrays[0]) == 18:
            arrays[1:] = []  # no layout has COCO's 18 joints with hands
        joints = join_parts(arrays, kind)
        if scores is not None and scores.size != len(joints):
            raise ClipError(f'{scores.size} scores for {len(joints)} joints', SHORT_ROW)
        if self.order is not None and len(joints) > max(self.order):
            joints = joints[self.order]
            scores = None if scores is None else scores[self.order]
        self.take.family = kind.removesuffix('3d')
        identity = next((item[key] for key in WORDS['track'] if key in item), None)
        while isinstance(identity, list):
            identity = identity[0] if len(identity) == 1 else None
        if identity in (-1, '-1') or not isinstance(identity, (int, str)):
            identity = None
        yield *self.split(joints, scores, kind), identity

    def joints_named(self, names: list[str]) -> None:
        """Find the layout of joints by their names, whatever their order."""
        plain = [plain_name(name) for name in names]
        for known in [self.wanted] * bool(self.wanted) + layout_names():
            joints = [plain_name(joint) for joint in get_layout(known).joints]
            if set(joints) == set(plain) or (known == self.wanted and set(joints) <= set(plain)):
                self.take.layout, self.order = known, [plain.index(joint) for joint in joints]
                return
        shown = ', '.join(names[:6])
        raise ClipError(
            f'no layout has the joints {shown} …: give --layout FILE.json that names and links them'
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
            for index, joint in enumerate(value):
                if not isinstance(joint, Mapping) or not {'x', 'y'} <= set(joint):
                    raise ClipError(f'landmark {index} has no x and y')
            value = [[j['x'], j['y'], j.get('z', 0), visibility(j)] for j in value]
        array = numbers_of(value)
        if array.ndim == 1:
            each = 4 if kind == 'openpose3d' else 2 if count and array.size == 2 * count else 3
            if array.size % each:
                raise ClipError(f'{array.size} numbers are not {each} a joint', SHORT_ROW)
            array = array.reshape(-1, each)
        if array.ndim != 2 or array.shape[1] not in (2, 3, 4):
            raise ClipError(f'joints have the shape {array.shape}, expected (joints, 2 to 4)')
        return array

    def split(
        self, joints: np.ndarray, scores: np.ndarray | None, kind: str
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Coordinates and scores; the third column is a coordinate beside scores of their own."""
        if kind == 'mediapipe':
            self.take.unit = 'm' if self.world else 'fractions'
            visible = joints[:, 3] if joints.shape[1] > 3 else np.ones(len(joints), np.float32)
            return joints[:, : 3 if self.world else 2], visible
        if kind == 'openpose3d' or joints.shape[1] == 4:
            return joints[:, :3], joints[:, 3]
        if joints.shape[1] == 2 or scores is not None:
            return joints, scores
        return joints[:, :2], joints[:, 2]


def whole_body(item: Mapping, body: Any) -> list:
    """The 133 joints of COCO-WholeBody, (133, 3), of its lists for each part of the body."""
    joined = []
    for key, count in {'body': 17, **WORDS['wholebody']}.items():
        value = body if key == 'body' else item.get(key)
        part = numbers_of(value).reshape(-1, 3) if value else np.zeros((count, 3), np.float32)
        if len(part) != count:
            raise ClipError(f'"{key}" has {len(part)} joints, expected {count}', SHORT_ROW)
        flags = part[:, 2]  # a person's own annotation: 0, 1 and 2 for one that is seen
        joined.append(part if flags.max() != 2 else part / [1, 1, 2])
    return np.concatenate(joined).tolist()


def join_parts(arrays: list[np.ndarray | None], kind: str) -> np.ndarray:
    """Body and hands one after the other; zeros for those that are missing beside others."""
    if all(array is None for array in arrays[1:]):
        return arrays[0]
    width = max(array.shape[1] for array in arrays if array is not None)
    joined = []
    for place, array in enumerate(arrays):
        usual = HAND if place else 33 if kind == 'mediapipe' else 25
        if place and array is not None and len(array) != HAND:
            raise ClipError(f'{len(array)} joints of a hand, expected {HAND}')
        whole = np.zeros((usual if array is None else len(array), width), np.float32)
        if array is not None:
            whole[:, : array.shape[1]] = array
            if kind == 'mediapipe' and place:  # hands have no visibility
                whole[:, 3:] = 1
        joined.append(whole)
    return np.concatenate(joined)


def visibility(joint: Mapping) -> Any:
    values = (joint.get(key) for key in WORDS['visibility'])
    return next((value for value in values if value is not None), 1)


def number_of(item: Mapping) -> int | None:
    """The frame number of a frame."""
    for key in WORDS['frame']:
        value = item.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and (match := IMAGE_NAME.search(value)):
            return int(match[1])
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
        detail = 'a joint is not a number, or lacks a coordinate'
        raise ClipError(detail, NON_NUMERIC) from None
    return np.where(np.abs(array) < 1e30, array, np.nan).astype(np.float32)
