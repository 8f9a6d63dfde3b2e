"""BVH motion capture: a hierarchy of joints with offsets, and their rotations in every frame."""

from __future__ import annotations

import numpy as np

from . import parsing
from .common import SHORT_ROW, ClipError
from .takes import Take

CHANNELS = {f'{axis}{kind}': (kind, 'XYZ'.index(axis)) for axis in 'XYZ'
            for kind in ('position', 'rotation')}  # fmt: skip
MOST_JOINTS = 1000


def parse(lines: list[str]) -> Take:
    """The take of one person; the layout is made of the file's own joints."""
    at = next((n for n, line in enumerate(lines) if line.strip() == 'MOTION'), None)
    if at is None or not lines or lines[0].strip() != 'HIERARCHY':
        raise ClipError('expected HIERARCHY in the first line and MOTION after it', line=1)
    names, parents, offsets, channels = read_hierarchy(lines[:at])
    head = ' '.join(lines[at + 1 : at + 3]).replace(':', ' ').split()
    try:
        step = float(head[head.index('Time') + 1])
        frames = int(head[head.index('Frames') + 1])
    except (ValueError, IndexError):
        detail = 'expected "Frames: N" and "Frame Time: S" after MOTION'
        raise ClipError(detail, line=at + 2) from None
    rows = parsing.parse_rows(lines[at + 3 :], sum(map(len, channels)), at + 4, None)
    if len(rows) != frames:
        raise ClipError(f'{len(rows)} rows of motion, but "Frames: {frames}"', SHORT_ROW, at + 2)
    points = forward(rows, parents, offsets, channels)
    # A joint at the origin is not a missing one: keep it away from exactly 0.
    points[~points.any(-1)] = 1e-6
    other = [name.replace('Left', 'Right').replace('left', 'right') for name in names]
    layout = dict(
        name='bvh',
        joints=names,
        bones=[[child, parent] for child, parent in enumerate(parents) if parent >= 0],
        centre=0,
        pairs=[[a, b] for a, b in zip(names, other, strict=True) if a != b and b in names],
    )
    persons = [(number, points[number], None, None) for number in range(frames)]
    fps = round(1 / step, 3) if step > 0 else None
    return Take(persons, layout=layout, numbers=range(frames), fps=fps)


def read_hierarchy(lines: list[str]) -> tuple[list[str], list[int], np.ndarray, list]:
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
                name = ' '.join(words[1:]) if words[0] != 'End' else f'{names[stack[-1]]}_end'
                if name in names or not name or len(names) >= MOST_JOINTS:
                    raise ValueError(f'joint {name!r} twice')
                parents.append(stack[-1] if stack else -1)
                stack.append(len(names))
                names.append(name)
                offsets.append([0.0] * 3)
                channels.append([])
            elif words[0] == 'OFFSET':
                offsets[stack[-1]] = [float(word) for word in words[1:4]]
            elif words[0] == 'CHANNELS':
                channels[stack[-1]] = [CHANNELS[word] for word in words[2 : 2 + int(words[1])]]
            else:
                raise ValueError(f'unknown word {words[0]!r}')
        except (ValueError, LookupError) as error:
            detail = f'{parsing.shorten(line.strip())!r} is no line of a hierarchy ({error})'
            raise ClipError(detail, line=number) from None
    if not names or parents.count(-1) != 1:
        raise ClipError('the hierarchy must have one ROOT')
    return names, parents, np.array(offsets, np.float64).reshape(-1, 3), channels


def forward(
    rows: np.ndarray, parents: list[int], offsets: np.ndarray, channels: list
) -> np.ndarray:
    """Positions (T, V, 3) by forward kinematics; rotations in degrees, in the order of channels."""
    frames, joints = len(rows), len(parents)
    points, turns = np.zeros((frames, joints, 3)), np.zeros((frames, joints, 3, 3))
    columns = iter(rows.T.astype(np.float64))
    for joint, parent in enumerate(parents):
        local, turn = np.tile(offsets[joint], (frames, 1)), np.tile(np.eye(3), (frames, 1, 1))
        if any(kind == 'position' for kind, _ in channels[joint]):
            local[:] = 0
        for kind, axis in channels[joint]:
            if kind == 'position':
                local[:, axis] = next(columns)
            else:
                turn = turn @ rotation(np.deg2rad(next(columns)), axis)
        if parent >= 0:
            local = points[:, parent] + (turns[:, parent] @ local[..., None])[..., 0]
            turn = turns[:, parent] @ turn
        points[:, joint], turns[:, joint] = local, turn
    return points


def rotation(angle: np.ndarray, axis: int) -> np.ndarray:
    """Rotation matrices (T, 3, 3) about one axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.tile(np.eye(3), (len(angle), 1, 1))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    turn[:, a, a], turn[:, a, b], turn[:, b, a], turn[:, b, b] = cos, -sin, sin, cos
    return turn
