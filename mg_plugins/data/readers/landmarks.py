"""Joints in tables: a row a frame with a column a number, or a row a joint.

Column names are taken apart into a part of the body, a joint and an axis, so that `x0`, `0_x`,
`nose_x`, `x_nose`, `landmark_0_x`, `pose_0_x`, `left_hand_4_y` and `PoseLandmark.NOSE_x` are read
by one rule.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Set
from typing import Any

import numpy as np

from mg_plugins.data.layouts import get_layout, layout_names

from . import parsing
from .common import EMPTY, LONG_ROW, NON_NUMERIC, SHORT_ROW, ClipError, Options, words
from .parsing import plain_name, shorten
from .takes import LONGEST, Take, by_count

WORDS = words('table')
AXES: dict[str, int] = WORDS['axes']
PARTS: dict[str, str] = WORDS['parts']
HOLISTIC, HAND = 'holistic75', 'hand21'

Joint = tuple[str, str]  # part of the body ('' where none is named), name or number


def read_cells(lines: list[str]) -> list[list[str]]:
    """Cells of a table's rows; quotes count, and in a table with ; a comma is a decimal point."""
    delimiter = parsing.delimiter_of(lines[0])
    if delimiter == ';':
        lines = [line.replace(',', '.') for line in lines]
    if '"' not in lines[-1] and not any('"' in line for line in lines[:2]):
        return [line.split(delimiter) for line in lines]
    try:
        return list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ClipError(f'no table: {error}') from None


def column_key(name: str) -> tuple[Joint, int] | None:
    """Joint and axis of a plain column name, or None."""
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
    joint = joint_of(rest)
    return (joint, axis) if joint[1] else None


def joint_of(words: list[str]) -> Joint:
    """('left', '4') of left hand 4."""
    words, part = [word for word in words if word not in WORDS['filler']], ''
    for count in (2, 1):
        named = PARTS.get('_'.join(words[:count]))
        if named and len(words) > count and words[:count] not in (['left'], ['right']):
            part, words = named, words[count:]
            break
    return part, re.sub(r'^[a-z]+(?=\d+$)', '', '_'.join(words))


def parse_table(lines: list[str], options: Options) -> Take:
    """The take of a table with a header; a row or frame that cannot be read is a broken frame."""
    if not lines:
        raise ClipError('the file is empty', EMPTY)
    head, *rows = read_cells(lines)
    table = Table([plain_name(cell) for cell in head])
    named = table.column(WORDS['joint'])
    long = named is not None and {'x', 'y'} <= set(table.header)
    part = table.column(WORDS['part'])
    if long:
        axes = {k: AXES[name] for k, name in enumerate(table.header) if name in AXES}
        seen = {table.joint(row, named, part) for row in rows if len(row) > named}
        found = {joint for joint in seen if joint[1]}
        layout, index = find_joints(found, len(found), None, options['layout'])
    else:
        keys = {k: key for k, name in enumerate(table.header) if (key := column_key(name))}
        given = set(keys.values())
        found = {joint for joint, _ in given if {(joint, 0), (joint, 1)} <= given}
        wanted = len({joint for joint, _ in given})
        if len(given) < len(keys):  # a column is there twice
            found, wanted = set(), -wanted
        layout, index = find_joints(found, wanted, 1, options['layout'])
        where = np.array([(index.get(joint, -1), axis) for joint, axis in keys.values()]).T
        scored = [index[joint] for joint, axis in given if axis == 3 and joint in index]
    take = Take(layout=layout, family='mediapipe', numbered=table.frame is not None)
    if layout not in ('mediapipe33', HOLISTIC, HAND):
        take.family = 'coco'
    elif not options['world']:
        take.unit = 'fractions'
    joints = get_layout(layout).num_joints
    persons: dict[tuple[int, Any], np.ndarray] = {}
    numbers: set[int] = set()
    current = -1
    for line, row in enumerate(rows, 2):
        try:
            current, identity = table.place(row, line, 0 if long else line - 2)
            numbers.add(current)
            if long:
                at = index.get(table.joint(row, named, part), -1)
                where = np.array([(at, axis) for axis in axes.values()]).T
                cells, scored = [row[k] for k in axes], [at] if 3 in axes.values() else []
            else:
                cells = [row[k] for k in keys]
            values = np.full((joints + 1, 4), np.nan, np.float32)  # the last is of no joint
            values[tuple(where)] = [number(cell, line) for cell in cells]
            person = persons.setdefault((current, identity), np.zeros((joints, 4), np.float32))
            fill(person, values[:-1], scored)
            time = None if table.time is None else parsing.parse_float(row[table.time])
            if time is not None:
                take.times.setdefault(current, time)
        except ClipError as error:
            current = max(current, 0) if long else current + 1
            take.broken[current] = error
            numbers.add(current)
    dims = 3 if options['world'] or layout in WORDS['metric'] else 2
    take.persons = [
        (at, person[:, :dims], person[:, 3], identity)
        for (at, identity), person in persons.items()
        if person.any()
    ]
    take.numbers = sorted(numbers)
    return take


class Table:
    """What the columns of a table are."""

    def __init__(self, header: list[str]):
        self.header = header
        self.frame, self.time = self.column(WORDS['frame']), self.column(words('json')['time'])
        self.track = self.column(words('json')['track'])

    def column(self, names: list[str]) -> int | None:
        return next((self.header.index(name) for name in names if name in self.header), None)

    def place(self, row: list[str], line: int, count: int) -> tuple[int, Any]:
        """Frame number (`count` where the table has none) and track id of a row."""
        if row in ([], ['']):
            raise ClipError('blank line among the rows', EMPTY, line)
        if len(row) != len(self.header):
            reason = SHORT_ROW if len(row) < len(self.header) else LONG_ROW
            raise ClipError(f'{len(row)} cells, expected {len(self.header)}', reason, line)
        identity = None if self.track is None else row[self.track].strip() or None
        if self.frame is None:
            return count, identity
        text = row[self.frame].strip()
        at = parsing.parse_int(text)
        if at is None and (match := re.search(r'(\d+)(\.\w+)?$', text)):
            at = int(match[1])
        if at is None or abs(at) > 10 * LONGEST:
            raise ClipError(f'{shorten(text)!r} is no number of a frame', NON_NUMERIC, line)
        return at, identity

    def joint(self, row: list[str], named: int, part: int | None) -> Joint:
        """The joint of a row of a long table."""
        own, joint = joint_of(plain_name(row[named]).split('_'))
        if part is not None and part < len(row):
            own = PARTS.get(plain_name(row[part]), own)
        return own, joint


def number(cell: str, line: int) -> float:
    """The number in a cell, NaN for a missing one."""
    value = parsing.parse_float(cell)
    if value is None:
        if cell.strip().lower() in WORDS['missing']:
            return np.nan
        raise ClipError(f'{shorten(cell.strip())!r} is not a number', NON_NUMERIC, line)
    return value if abs(value) < 1e30 else np.nan


def fill(person: np.ndarray, values: np.ndarray, scored: list[int]) -> None:
    """Put x, y, z, score of a row in its person; an empty cell is a missing joint."""
    there = np.isfinite(values[:, :2]).all(1)
    usual = np.ones(len(values), np.float32)
    usual[scored] = 0
    values[:, 2] = np.nan_to_num(values[:, 2])
    values[:, 3] = np.where(np.isfinite(values[:, 3]), values[:, 3], usual)
    person[there] = values[there]


def holistic_joints() -> dict[Joint, int]:
    """Index in `holistic75` by part of the body and joint, by number or by name."""
    body, hand = get_layout('mediapipe33').joints, get_layout(HAND).joints
    parts = (('pose', 0, body), ('', 0, body), ('left', 33, hand), ('right', 54, hand))
    return {
        (part, key): first + at
        for part, first, names in parts
        for at, name in enumerate(names)
        for key in (str(at), name)
    }


def find_joints(
    found: Set[Joint], wanted: int, line: int | None, given: str | None
) -> tuple[str, dict[Joint, int]]:
    """The layout of these joints, and the index of each.

    The header names `wanted` of them (below 0: one twice) in this `line` of a wide table; a long
    one, where it is None, may leave out joints that were never seen. `given` is --layout.
    """
    if {part for part, _ in found} & {'left', 'right'}:
        index = holistic_joints()
        if all(key in index for key in found if key[0] != 'face'):
            return HOLISTIC, index
    plain = {
        f'{part}_hand_{joint}' if part in ('left', 'right') else joint: (part, joint)
        for part, joint in found
        if part != 'face'
    }
    counted = {int(joint) for joint in plain if joint.isdigit()}
    if counted and len(counted) == len(plain):
        first = 1 if min(counted) == 1 and len(counted) == max(counted) else 0
        count = max(counted) + 1 - first
        layout = by_count('mediapipe', count) or by_count('coco', count)
        if given and get_layout(given).num_joints == count:
            layout = given
        if line is None and layout is None and count < 33:
            layout, first = 'mediapipe33', 0
        if layout and (line is None or len(counted) == count):
            return layout, {plain[str(joint)]: joint - first for joint in counted}
    elif plain:
        for layout in [given] * bool(given) + ['mediapipe33', *layout_names()]:
            names = [plain_name(joint) for joint in get_layout(layout).joints]
            if set(names) <= set(plain) or (line is None and set(plain) <= set(names)):
                return layout, {plain[n]: at for at, n in enumerate(names) if n in plain}
    shown = ', '.join(sorted(joint for _, joint in found)[:4]) or 'none'
    raise ClipError(
        'the header must give x and y of the joints of a layout once each (x0,y0,… or '
        f'nose_x,nose_y,…) or be frame,landmark,x,y; found {abs(wanted)} joints ({shown})',
        line=line,
    )
