"""BVH motion capture: a hierarchy of joints with offsets, and their rotations in every frame."""

from __future__ import annotations

import numpy as np

from . import common, parsing
from .common import ClipError
from .takes import Take

CHANNELS = {f'{axis}{kind}': (kind, 'XYZ'.index(axis)) for axis in 'XYZ'
            for kind in ('position', 'rotation')}  # fmt: skip
MOST_JOINTS = 1000


def parse(lines: list[str], file: str) -> Take:
    """The take of one person; the layout is made of the file's own joints."""
    at = next((n for n, line in enumerate(lines) if line.strip() == 'MOTION'), None)
    if at is None or not lines or lines[0].strip() != 'HIERARCHY':
        detail = 'expected HIERARCHY in the first line and MOTION after it'
        raise ClipError(common.UNREADABLE, file, 1, detail)
    names, parents, offsets, channels = read_hierarchy(lines[:at], file)
    head = ' '.join(lines[at + 1 : at + 3]).replace(':', ' ').split()
    try:
        step = float(head[head.index('Time') + 1])
        frames = int(head[head.index('Frames') + 1])
    except (ValueError, IndexError):
        detail = 'expected "Frames: N" and "Frame Time: S" after MOTION'
        raise ClipError(common.UNREADABLE, file, at + 2, detail) from None
    width = sum(map(len, channels))
    rows = parsing.parse_rows(lines[at + 3 :], width, file, at + 4, None)
    if len(rows) != frames:
        detail = f'{len(rows)} rows of motion, but "Frames: {frames}"'
        raise ClipError(common.SHORT_ROW, file, at + 2, detail)
    points = forward(rows, parents, offsets, channels)
    # A joint at the origin is not a missing one: keep it away from exactly 0.
    points[~points.any(-1)] = 1e-6
    layout = dict(
        name='bvh',
        joints=names,
        bones=[[child, parent] for child, parent in enumerate(parents) if parent >= 0],
        centre=0,
        pairs=mirror_pairs(names),
    )
    persons = [(number, points[number], None, None) for number in range(len(points))]
    fps = round(1 / step, 3) if step > 0 else None
    return Take(persons, 'coco', layout, frames=frames, span=(0, frames - 1), fps=fps)


def read_hierarchy(lines: list[str], file: str) -> tuple[list[str], list[int], np.ndarray, list]:
    """Names, parents (-1 for the root), offsets (V, 3) and channels of the joints."""
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[tuple[str, int]]] = []
    stack: list[int] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        try:
            if not words or words[0] in ('HIERARCHY', '{'):
                continue
            if words[0] == '}':
                stack.pop()
            elif words[0] in ('ROOT', 'JOINT', 'End'):
                end = words[0] == 'End'
                name = f'{names[stack[-1]]}_end' if end else ' '.join(words[1:])
                if name in names or not name or len(names) >= MOST_JOINTS:
                    raise ValueError(f'joint {name!r} twice')
                parents.append(stack[-1] if stack else -1)
                names.append(name)
                offsets.append([0.0] * 3)
                channels.append([])
                stack.append(len(names) - 1)
            elif words[0] == 'OFFSET':
                offsets[stack[-1]] = [float(word) for word in words[1:4]]
            elif words[0] == 'CHANNELS':
                channels[stack[-1]] = [CHANNELS[word] for word in words[2 : 2 + int(words[1])]]
            else:
                raise ValueError(f'unknown word {words[0]!r}')
        except (ValueError, LookupError) as error:
            detail = f'{parsing.shorten(line.strip())!r} is no line of a hierarchy ({error})'
            raise ClipError(common.UNREADABLE, file, number, detail) from None
    if not names or parents.count(-1) != 1:
        raise ClipError(common.UNREADABLE, file, None, 'the hierarchy must have one ROOT')
    return names, parents, np.array(offsets, np.float64).reshape(-1, 3), channels


def forward(
    rows: np.ndarray, parents: list[int], offsets: np.ndarray, channels: list
) -> np.ndarray:
    """Positions (T, V, 3) by forward kinematics; rotations in degrees, in the order of channels."""
    points = np.zeros((len(rows), len(parents), 3))
    turns = np.zeros((len(rows), len(parents), 3, 3))
    column = 0
    for joint, parent in enumerate(parents):
        local, turn = np.tile(offsets[joint], (len(rows), 1)), np.tile(np.eye(3), (len(rows), 1, 1))
        moved = np.zeros_like(local)
        for kind, axis in channels[joint]:
            values = rows[:, column].astype(np.float64)
            column += 1
            if kind == 'position':
                moved[:, axis] = values
            else:
                turn = turn @ rotation(np.deg2rad(values), axis)
        local = moved if any(kind == 'position' for kind, _ in channels[joint]) else local
        if parent < 0:
            points[:, joint], turns[:, joint] = local, turn
        else:
            points[:, joint] = points[:, parent] + (turns[:, parent] @ local[..., None])[..., 0]
            turns[:, joint] = turns[:, parent] @ turn
    return points


def rotation(angle: np.ndarray, axis: int) -> np.ndarray:
    """Rotation matrices (T, 3, 3) about one axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.tile(np.eye(3), (len(angle), 1, 1))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    turn[:, a, a], turn[:, a, b], turn[:, b, a], turn[:, b, b] = cos, -sin, sin, cos
    return turn


def mirror_pairs(names: list[str]) -> list[list[str]]:
    """(left, right) names that differ in the side alone."""
    pairs = []
    for name in names:
        other = name.replace('Left', 'Right').replace('left', 'right')
        if other != name and other in names:
            pairs.append([name, other])
    return pairs
