"""Joints in tables: a row a frame with a column a number, or a row a joint.

Column names are taken apart: `x0`, `0_x`, `nose_x`, `x_nose`, `pose_0_x`, `left_hand_4_y`, …
"""

import re
from collections.abc import Set
from typing import Any

import numpy as np

from mg_plugins.data.layouts import get_layout, layout_names

from . import common
from .common import EMPTY, LONG_ROW, NON_NUMERIC, SHORT_ROW, ClipError, expect
from .sources import Entry, delimiter_of, parse_float, parse_int, plain_name, read_cells, shorten
from .takes import LONGEST, Take

WORDS = common.WORDS['table']
AXES: dict[str, int] = WORDS['axes']
PARTS: dict[str, str] = WORDS['parts']
HOLISTIC, HAND = 'holistic75', 'hand21'

Joint = tuple[str, str]  # part of the body ('' where none is named), name or number


def column_key(name: str) -> tuple[Joint, int] | None:
    """Joint and axis of a plain column name, or None."""
    match = re.fullmatch(r'([a-z]+?)(\d+)', name)
    words = list(match.groups()) if match else name.split('_')
    axis, rest = (words[-1], words[:-1]) if words[-1] in AXES else (words[0], words[1:])
    joint = joint_of(rest)
    return (joint, AXES[axis]) if axis in AXES and joint[1] else None


def joint_of(words: list[str]) -> Joint:
    """('left', '4') of left hand 4."""
    words, part = [word for word in words if word not in WORDS['filler']], ''
    for count in (2, 1):
        named = PARTS.get('_'.join(words[:count]))
        if named and len(words) > count and words[:count] not in (['left'], ['right']):
            part, words = named, words[count:]
            break
    return part, re.sub(r'^[a-z]+(?=\d+$)', '', '_'.join(words))


def parse(entry: Entry, take: Take) -> None:
    """The take of a table with a header; a row or frame that cannot be read is a broken frame."""
    lines, options = entry.lines(), take.options
    expect(lines, 'the file is empty', EMPTY)
    if delimiter_of(lines[0]) == ';':  # then a comma is a decimal point
        lines = [line.replace(',', '.') for line in lines]
    (_, head), *rows = read_cells(lines)
    header = [plain_name(cell) for cell in head]
    column = {
        what: next((header.index(name) for name in names if name in header), None)
        for what, names in WORDS['columns'].items()
    }
    long = column['joint'] is not None and {'x', 'y'} <= set(header)
    if long:
        keys = {k: AXES[name] for k, name in enumerate(header) if name in AXES}
        found = {joint for _, row in rows if (joint := row_joint(row, column))[1]}
        layout, index = find_joints(found, len(found), long, options['layout'])
    else:
        keys = {k: key for k, name in enumerate(header) if (key := column_key(name))}
        given = set(keys.values())
        found = {joint for joint, _ in given if {(joint, 0), (joint, 1)} <= given}
        once = found if len(given) == len(keys) else set()
        layout, index = find_joints(once, len({j for j, _ in given}), long, options['layout'])
        where = tuple(np.array([(index.get(joint, -1), axis) for joint, axis in keys.values()]).T)
    own, take.layout = layout in ('mediapipe33', HOLISTIC, HAND), layout
    take.family, take.numbered = 'mediapipe' if own else 'coco', column['frame'] is not None
    take.unit = 'fractions' if own and not options.get('world') else None
    empty = np.float32([[np.nan, np.nan, 0, 1]] * (get_layout(layout).num_joints + 1))
    persons: dict[tuple[int, Any, int], np.ndarray] = {}
    moments, current = {}, -1
    for line, row in rows:
        current = max(current, 0) if long else current + 1  # where the row does not say
        try:
            expect(row, 'blank line among the rows', EMPTY)
            reason = SHORT_ROW if len(row) < len(header) else LONG_ROW
            expect(len(row) == len(header), f'{len(row)} cells, expected {len(header)}', reason)
            known = {what: row[k].strip() for what, k in column.items() if k is not None}
            if 'frame' in known:
                current = frame_number(known['frame'])
            elif long and 'time' in known:
                current = moments.setdefault(known['time'], len(moments))
            if long:
                where = index.get(row_joint(row, column), -1), list(keys.values())
            values = empty.copy()  # the last is of no joint
            values[where] = [number(row[k]) for k in keys]
            there = np.isfinite(values[:-1, :2]).all(1)
            key = current, known.get('track') or None, 0 if long else line
            person = persons.setdefault(key, np.zeros((len(there), 4), np.float32))
            detail = f'frame {current} has a joint twice: name frame, person_id and hand in columns'
            expect(not person[there].any(), detail)
            person[there] = np.nan_to_num(values[:-1][there])
            if 'time' in known:
                if (time := parse_float(known['time'])) is not None:
                    take.times.setdefault(current, time)
                take.counts['rows have a time that is no number'] += time is None
        except ClipError as error:
            error.line = line
            take.broken.setdefault(current, error)
        take.numbers.add(current)
    deep = not own and any(person[:, 2].any() for person in persons.values())
    space = options.get('world') or layout in WORDS['metric'] or (deep and not options['size'])
    take.counts['recordings have a z that --size leaves out'] += deep and not space
    for (at, identity, _), person in persons.items():
        if person.any():
            take.add(at, [(person[:, : 2 + bool(space)], person[:, 3], identity)])


def row_joint(row: list[str], column: dict[str, int | None]) -> Joint:
    """The joint of a row of a long table; its name is '' where the row is too short for one."""
    name, part = (
        plain_name(row[k]) if (k := column[what]) is not None and k < len(row) else ''
        for what in ('joint', 'part')
    )
    own, joint = joint_of(name.split('_'))
    return PARTS.get(part, own), joint


def frame_number(text: str) -> int:
    """The number of a frame, or at the end of the name of its picture."""
    match, at = re.search(r'(\d+)(\.\w+)?$', text), parse_int(text)
    at = int(match[1]) if at is None and match else at
    fine = at is not None and abs(at) <= 10 * LONGEST
    expect(fine, f'{shorten(text)!r} is no number of a frame', NON_NUMERIC)
    return at


def number(cell: str) -> float:
    """The number in a cell, NaN for a missing one."""
    value = parse_float(cell)
    if value is None:
        missing = cell.strip().lower() in WORDS['missing']
        expect(missing, f'{shorten(cell.strip())!r} is not a number', NON_NUMERIC)
    return value if value is not None and abs(value) < 1e30 else np.nan


def find_joints(found: Set[Joint], named: int, long: bool, given: str | None) -> tuple[str, dict]:
    """The layout of these of joints `named`, and their indices; a `long` table may lack some."""
    body, hand = get_layout('mediapipe33').joints, get_layout(HAND).joints
    parts = ('pose', 0, body), ('', 0, body), ('left', 33, hand), ('right', 54, hand)
    index = {
        (part, key): first + at
        for part, first, names in parts
        for at, name in enumerate(names)
        for key in (str(at), name)
    }
    joints, hands = {key for key in found if key[0] != 'face'}, {'left', 'right'}
    if joints <= index.keys() and hands & {part for part, _ in joints}:
        return HOLISTIC, index
    plain = {f'{key[0]}_hand_{key[1]}' if key[0] in hands else key[1]: key for key in joints}
    counted = {int(joint) for joint in plain if joint.isdigit()}
    if counted and len(counted) == len(plain):
        first = 1 if min(counted) == 1 and len(counted) == max(counted) else 0
        count = max(counted) + 1 - first
        layouts = common.WORDS['layouts']
        layout = (layouts['coco'] | layouts['mediapipe']).get(str(count))
        if given and get_layout(given).num_joints == count:
            layout = given
        if long and layout is None and count < 33:
            layout, first = 'mediapipe33', 0
        if layout and (long or len(counted) == count):
            return layout, {plain[str(joint)]: joint - first for joint in counted}
    elif plain:
        for layout in [given] * bool(given) + ['mediapipe33', *layout_names()]:
            names = [plain_name(joint) for joint in get_layout(layout).joints]
            if set(names) <= set(plain) or (long and set(plain) <= set(names)):
                return layout, {plain[n]: at for at, n in enumerate(names) if n in plain}
    shown = ', '.join(sorted(joint for _, joint in found)[:4]) or 'none'
    wanted = 'x and y of the joints of a layout once each (x0,y0,… or nose_x,nose_y,…)'
    what = f'the header must give {wanted} or be frame,landmark,x,y'
    raise ClipError(f'{what}; found {named} joints ({shown})', line=None if long else 1)
