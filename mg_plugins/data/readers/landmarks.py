"""Joints in tables: a row a frame with a column a number, or a row a joint.

Column names are taken apart into a part of the body, a joint and an axis, so that `x0`, `0_x`,
`nose_x`, `x_nose`, `landmark_0_x`, `pose_0_x`, `left_hand_4_y` and `PoseLandmark.NOSE_x` are read
by one rule.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mg_plugins.data.layouts import get_layout, layout_names

from . import common, parsing
from .common import ClipError
from .posejson import NUMBERS, TIMES, TRACKS, plain_name
from .takes import BY_COUNT, LONGEST, Take

AXES = {'x': 0, 'y': 1, 'z': 2, 'visibility': 3, 'v': 3, 'vis': 3, 'score': 3, 's': 3, 'c': 3,
        'conf': 3, 'confidence': 3, 'likelihood': 3, 'p': 3, 'visible': 3}  # fmt: skip
JOINT_COLUMNS = ('landmark', 'landmark_index', 'landmark_id', 'landmark_name', 'joint', 'joint_id',
                 'joint_name', 'keypoint', 'keypoint_id', 'index')  # fmt: skip
PART_COLUMNS = ('type', 'part', 'hand', 'handedness')
FRAME_COLUMNS = (*NUMBERS, 'frame_no', 'frameid')
# Words of a column that say nothing of the joint.
FILLER = {'landmark', 'landmarks', 'poselandmark', 'handlandmark', 'keypoint', 'keypoints', 'kp',
          'joint', 'point', 'pt', 'lm', 'norm', 'body'}  # fmt: skip
PARTS = {'pose': 'pose', 'left_hand': 'left', 'lefthand': 'left', 'lh': 'left',
         'right_hand': 'right', 'righthand': 'right', 'rh': 'right', 'face': 'face'}  # fmt: skip
# The joints of a hand, from layout names.
HOLISTIC, HAND = 'holistic75', 'hand21'

Key = tuple[str, str, int]


def parse_table(lines: list[str], file: str, options: Mapping[str, Any]) -> Take:
    """The take of a table with a header."""
    if not lines:
        raise ClipError(common.EMPTY, file, None, 'the file is empty')
    delimiter = max(',;\t', key=lines[0].count)
    header = [plain_name(cell) for cell in lines[0].split(delimiter)]
    if delimiter == ';':  # then a comma in a number is its decimal point
        lines = [line.replace(',', '.') for line in lines]
    if '"' in lines[-1] or any('"' in line for line in lines[:2]):
        try:
            cells = list(csv.reader(lines, delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise ClipError(common.UNREADABLE, file, None, f'no table: {error}') from None
        header = [plain_name(cell) for cell in cells[0]]
    else:
        cells = [line.split(delimiter) for line in lines]
    joint_column = next((name for name in JOINT_COLUMNS if name in header), None)
    long = joint_column is not None and {'x', 'y'} <= set(header)
    if long:
        keys = None
    else:
        keys = {k: key for k, name in enumerate(header) if (key := column_key(name)) is not None}
    return Table(cells, header, file, options).take(keys, joint_column)


def column_key(name: str) -> Key | None:
    """(part, joint, axis) of a plain column name, or None."""
    words = name.split('_')
    if match := re.fullmatch(r'([a-z]+?)(\d+)', name):
        words = [*match.groups()]
    if len(words) < 2:
        return None
    if words[-1] in AXES and not (words[0] in AXES and words[-1].isdigit()):
        axis, rest = AXES[words[-1]], words[:-1]
    elif words[0] in AXES:
        axis, rest = AXES[words[0]], words[1:]
    else:
        return None
    part, joint = split_part([word for word in rest if word not in FILLER])
    joint = re.sub(r'^[a-z]+(?=\d+$)', '', joint)
    return (part, joint, axis) if joint else None


def split_part(words: list[str]) -> tuple[str, str]:
    """('left', '4') of left hand 4; no part where none is named."""
    for count in (2, 1):
        part = PARTS.get('_'.join(words[:count]))
        if part and len(words) > count:
            return part, '_'.join(words[count:])
    return '', '_'.join(words)


def holistic_joints() -> dict[tuple[str, str], int]:
    """Index in `holistic75` by part of the body and joint, by number or by name."""
    index = {}
    body, hand = get_layout('mediapipe33').joints, get_layout(HAND).joints
    for part, first, names in (('pose', 0, body), ('', 0, body), ('left', 33, hand),
                               ('right', 54, hand)):  # fmt: skip
        for at, name in enumerate(names):
            index[part, str(at)] = index[part, name] = first + at
    return index


class Table:
    """Cells of a table, and what they are."""

    def __init__(self, cells: list[list[str]], header: list[str], file: str, options: Mapping):
        self.cells, self.header, self.file, self.options = cells, header, file, options
        self.frame = self.column(FRAME_COLUMNS)
        self.time = self.column(TIMES)
        self.track = self.column(TRACKS)

    def column(self, names: tuple[str, ...]) -> int | None:
        return next((self.header.index(name) for name in names if name in self.header), None)

    def take(self, keys: dict[int, Key] | None, joint_column: str | None) -> Take:
        """The take of all rows; a row or frame that cannot be read is a broken frame."""
        if keys is not None:
            found = {key[:2] for key in keys.values()}
            complete = {j for j in found if {(*j, 0), (*j, 1)} <= set(keys.values())}
            twice = len(set(keys.values())) < len(keys)
            layout, index = self.joints(complete, file_line=1, wanted=len(found), twice=twice)
        else:
            named = self.header.index(joint_column)
            part = self.column(PART_COLUMNS)
            seen = {
                self.long_key(row, named, part) for row in self.cells[1:] if len(row) > named
            } - {None}
            layout, index = self.joints(seen, None, len(seen), False)
        joints = get_layout(layout).num_joints
        take = Take([], 'mediapipe', layout, numbered=self.frame is not None)
        if layout not in ('mediapipe33', HOLISTIC, HAND):
            take.family = 'coco'
        elif not self.options['world']:
            take.unit = 'fractions'
        persons: dict[tuple[int, Any], np.ndarray] = {}
        numbers: set[int] = set()
        current = -1
        for line, row in enumerate(self.cells[1:], 2):
            try:
                number, identity = self.place(row, line, len(numbers), keys is None)
                current = number
                numbers.add(number)
                if keys is not None:
                    values = [(index.get(key[:2]), key[2], row[k]) for k, key in keys.items()]
                else:
                    key = self.long_key(row, named, part)
                    values = [
                        (index.get(key), AXES[name], row[k])
                        for k, name in enumerate(self.header)
                        if name in AXES
                    ]
                self.fill(persons, (number, identity), values, joints, line)
                time = None if self.time is None else parsing.parse_float(row[self.time])
                if time is not None:
                    take.times.setdefault(number, time)
            except ClipError as error:
                at = max(current, 0) if keys is None else current + 1
                take.broken[at] = error
                if keys is not None:
                    current = at
                numbers.add(at)
        dims = 3 if self.options['world'] or self.is_metric(layout) else 2
        for (number, identity), joint in persons.items():
            if joint.any():
                take.persons.append((number, joint[:, :dims], joint[:, 3], identity))
        take.frames = len(numbers)
        take.span = (min(numbers), max(numbers)) if numbers else (0, -1)
        return take

    def is_metric(self, layout: str) -> bool:
        """Tables of Kinect layouts hold metres."""
        return layout in ('ntu25', 'kinect_v1_20', 'msr_action3d')

    def place(self, row: list[str], line: int, count: int, long: bool) -> tuple[int, Any]:
        """Frame number and track id of a row."""
        if row in ([], ['']):
            raise ClipError(common.EMPTY, self.file, line, 'blank line among the rows')
        if len(row) != len(self.header):
            reason = common.SHORT_ROW if len(row) < len(self.header) else common.LONG_ROW
            detail = f'{len(row)} cells, expected {len(self.header)}'
            raise ClipError(reason, self.file, line, detail)
        identity = row[self.track].strip() or None if self.track is not None else None
        if self.frame is None:
            return (line - 2 if not long else 0), identity
        number = parsing.parse_int(row[self.frame].strip())
        if number is None:
            match = re.search(r'(\d+)(\.\w+)?$', row[self.frame].strip())
            number = int(match[1]) if match else None
        if number is None or abs(number) > 10 * LONGEST:
            detail = f'{parsing.shorten(row[self.frame])!r} is no number of a frame'
            raise ClipError(common.NON_NUMERIC, self.file, line, detail)
        return number, identity

    def fill(self, persons: dict, key: tuple, values: list, joints: int, line: int) -> None:
        """Put the cells of a row in its person; an empty cell is a missing joint."""
        row = np.full((joints, 4), np.nan, np.float32)
        given = np.zeros(joints, bool)
        for joint, axis, cell in values:
            text = cell.strip()
            if joint is not None and axis == 3:
                given[joint] = True
            if joint is None or text.lower() in parsing.MISSING_CELLS:
                continue
            value = parsing.parse_float(text)
            if value is None:
                detail = f'{parsing.shorten(text)!r} is not a number'
                raise ClipError(common.NON_NUMERIC, self.file, line, detail)
            row[joint, axis] = value if abs(value) < 1e30 else np.nan
        there = np.isfinite(row[:, :2]).all(1)
        row[:, 2] = np.nan_to_num(row[:, 2])
        row[:, 3] = np.where(np.isfinite(row[:, 3]), row[:, 3], np.where(given, 0, 1))
        person = persons.setdefault(key, np.zeros((joints, 4), np.float32))
        person[there] = row[there]

    def long_key(self, row: list[str], named: int, part: int | None) -> tuple[str, str] | None:
        words = [w for w in plain_name(row[named]).split('_') if w not in FILLER]
        own, joint = split_part(words)
        if part is not None and part < len(row):
            own = PARTS.get(plain_name(row[part]), PARTS.get(plain_name(row[part]) + '_hand', own))
        joint = re.sub(r'^[a-z]+(?=\d+$)', '', joint)
        return (own, joint) if joint else None

    def joints(
        self, found: set[tuple[str, str]], file_line: int | None, wanted: int, twice: bool
    ) -> tuple[str, dict[tuple[str, str], int]]:
        """The layout of these joints, and the index of each."""
        parts = {part for part, _ in found}
        given = self.options['layout']
        if not twice and parts & {'left', 'right'}:
            index = holistic_joints()
            if all(key in index for key in found if key[0] != 'face'):
                return HOLISTIC, index
        plain = {
            f'{part}_hand_{joint}' if part in ('left', 'right') else joint: (part, joint)
            for part, joint in found
            if part != 'face'
        }
        counted = {int(joint) for joint in plain if joint.isdigit()}
        if counted and not twice and len(counted) == len(plain):
            first = 1 if min(counted) == 1 and len(counted) == max(counted) else 0
            count = max(counted) + 1 - first
            layout = BY_COUNT['mediapipe'].get(count) or BY_COUNT['coco'].get(count)
            if given and get_layout(given).num_joints == count:
                layout = given
            # A long table may leave out joints that were never seen.
            if file_line is None and layout is None and count < 33:
                layout, first = 'mediapipe33', 0
            if layout and (file_line is None or len(counted) == count):
                return layout, {plain[str(joint)]: joint - first for joint in counted}
        elif plain and not twice:
            for layout in [given] * bool(given) + ['mediapipe33', *layout_names()]:
                names = [plain_name(joint) for joint in get_layout(layout).joints]
                if set(names) <= set(plain) or (file_line is None and set(plain) <= set(names)):
                    return layout, {plain[n]: at for at, n in enumerate(names) if n in plain}
        shown = ', '.join(sorted(joint for _, joint in found)[:4]) or 'none'
        detail = (
            'the header must give x and y of the joints of a layout once each (x0,y0,… or '
            f'nose_x,nose_y,…) or be frame,landmark,x,y; found {len(found)} joints ({shown})'
        )
        raise ClipError(common.UNREADABLE, self.file, file_line, detail)
