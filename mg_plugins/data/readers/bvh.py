"""BVH motion capture: a hierarchy of joints with offsets, and their rotations in every frame."""

from collections.abc import Sequence

import numpy as np

from .common import SHORT_ROW, ClipError, expect
from .sources import Entry, parse_rows, shorten
from .takes import Take

CHANNELS = {a + kind: (kind, 'XYZ'.index(a)) for a in 'XYZ' for kind in ('position', 'rotation')}
MOST_JOINTS = 1000


def parse(entry: Entry, take: Take) -> None:
    """The take of one person; the layout is made of the file's own joints."""
    lines = entry.lines()
    at = next((n for n, line in enumerate(lines) if line.strip() == 'MOTION'), None)
    fine = at is not None and lines[0].strip() == 'HIERARCHY'
    expect(fine, 'expected HIERARCHY in the first line and MOTION after it', line=1)
    names, parents, offsets, channels = zip(*read_hierarchy(lines[:at]), strict=True)
    head = ' '.join(lines[at + 1 : at + 3]).replace(':', ' ').split()
    try:
        step = float(head[head.index('Time') + 1])
        frames = int(head[head.index('Frames') + 1])
    except (ValueError, IndexError):
        raise ClipError('expected "Frames: N", "Frame Time: S" after MOTION', line=at + 2) from None
    rows = parse_rows(lines[at + 3 :], sum(map(len, channels)), at + 4, None)
    expect(len(rows) == frames, f'{len(rows)} rows of motion, not {frames}', SHORT_ROW, at + 2)
    other = [name.replace('Left', 'Right').replace('left', 'right') for name in names]
    bones = [[child, parent] for child, parent in enumerate(parents) if parent >= 0]
    pairs = [[a, b] for a, b in zip(names, other, strict=True) if a != b and b in names]
    take.layout = dict(name='bvh', joints=list(names), bones=bones, centre=0, pairs=pairs)
    take.fps = round(1 / step, 3) if step > 0 else None
    points = forward(rows, parents, np.array(offsets), channels)
    # A joint at the origin is not a missing one: keep it away from exactly 0.
    points[~points.any(-1)] = 1e-6
    for number, joints in enumerate(points):
        take.add(number, [(joints, None, None)])


def read_hierarchy(lines: list[str]) -> list[list]:
    """[name, parent (-1 for the root), offset, channels] of the joints."""
    joints, stack = [], []
    for number, line in enumerate(lines, 1):
        try:
            match line.split():
                case [] | ['HIERARCHY' | '{', *_]:
                    pass
                case ['}', *_]:
                    stack.pop()
                case ['ROOT' | 'JOINT' | 'End' as word, *rest]:
                    name = ' '.join(rest) if word != 'End' else f'{joints[stack[-1]][0]}_end'
                    if not name or name in (j[0] for j in joints) or len(joints) >= MOST_JOINTS:
                        raise ValueError(f'joint {name!r} twice')
                    joints.append([name, stack[-1] if stack else -1, [0.0] * 3, []])
                    stack.append(len(joints) - 1)
                case ['OFFSET', *numbers]:
                    joints[stack[-1]][2] = [float(number) for number in numbers[:3]]
                case ['CHANNELS', count, *kinds]:
                    joints[stack[-1]][3] = [CHANNELS[kind] for kind in kinds[: int(count)]]
                case [word, *_]:
                    raise ValueError(f'unknown word {word!r}')
        except (ValueError, LookupError) as error:
            detail = f'{shorten(line.strip())!r} is no line of a hierarchy ({error})'
            raise ClipError(detail, line=number) from None
    expect([joint[1] for joint in joints].count(-1) == 1, 'the hierarchy must have one ROOT')
    return joints


def forward(
    rows: np.ndarray, parents: Sequence[int], offsets: np.ndarray, channels: Sequence
) -> np.ndarray:
    """Positions (T, V, 3) by forward kinematics; rotations in degrees, in the order of channels."""
    frames, joints = len(rows), len(parents)
    points, turns = np.zeros((frames, joints, 3)), np.zeros((frames, joints, 3, 3))
    columns = iter(rows.T.astype(np.float64))
    for joint, parent in enumerate(parents):
        moved = any(kind == 'position' for kind, _ in channels[joint])
        local, turn = np.tile(offsets[joint] * (not moved), (frames, 1)), np.eye(3)
        for kind, axis in channels[joint]:
            if kind == 'position':
                local[:, axis] = next(columns)
            else:  # a rotation matrix (T, 3, 3) about one axis
                angle, one = np.deg2rad(next(columns)), np.tile(np.eye(3), (frames, 1, 1))
                a, b = (axis + 1) % 3, (axis + 2) % 3
                one[:, a, a] = one[:, b, b] = np.cos(angle)
                one[:, b, a], one[:, a, b] = np.sin(angle), -np.sin(angle)
                turn = turn @ one
        if parent >= 0:
            local = points[:, parent] + (turns[:, parent] @ local[..., None])[..., 0]
            turn = turns[:, parent] @ turn
        points[:, joint], turns[:, joint] = local, turn
    return points
