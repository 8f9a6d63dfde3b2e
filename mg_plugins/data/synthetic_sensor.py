"""What a camera and a pose estimator make of a synthetic body: projection, jitter, missing joints.

Shapes: n clips, T frames, V joints, D = 2 (pixels of a 1280 x 720 frame, x to the right, y down) or
D = 3 (metres in the axes of a depth camera that faces the person: x to the person's right, y up, z
away from the camera).
"""

from __future__ import annotations

import re

import numpy as np

from .synthetic_plan import gesture_table, table_of

WIDTH, HEIGHT = 1280, 720

FINGER = re.compile(
    r'(left|right)_(thumb|index|middle|ring|pinky)(?:_finger)?_(cmc|mcp|pip|ip|dip)'
)
MEMORY, MISS_MEMORY = 0.75, 0.9
# A depth camera errs more, and looks from more sides than one at a press conference.
DEPTH_ERROR, YAW = 2.5, {2: 9.0, 3: 25.0}


def body_point(joint: str) -> str:
    """Name in `BodyMotion.points` for a layout's joint (aliases resolved, otherwise unchanged)."""
    names, (side, _, part) = gesture_table()['joint_names'], joint.partition('_')
    if side in ('left', 'right'):
        return f'{side}_{names.get(part, part)}'
    return names.get(joint, joint)


def pick_joints(points: dict[str, np.ndarray], joints: tuple[str, ...]) -> np.ndarray:
    """(n, T, V, 3) world coordinates of a layout's joints.

    Raises:
        ValueError: a joint that the synthetic body does not have.
    """
    for joint in joints:
        match = FINGER.fullmatch(joint)
        if match:
            side, finger, part = match.groups()
            finger = {'pinky': 'little'}.get(finger, finger)
            knuckle, tip = (points[f'{side}_{finger}_{end}'] for end in ('knuckle', 'tip'))
            points[joint] = knuckle + gesture_table()['along_finger'][part] * (tip - knuckle)
    unknown = [joint for joint in joints if body_point(joint) not in points]
    if unknown:
        raise ValueError(
            f'the synthetic body has no joint called {", ".join(unknown)}; '
            f'name the joints of the layout as in: {", ".join(sorted(points))}'
        )
    return np.stack([points[body_point(joint)] for joint in joints], 2)


def observe(
    world: np.ndarray,
    joints: tuple[str, ...],
    view: np.ndarray,
    draws: np.ndarray,
    quality: np.ndarray,
    noise: float,
    dims: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Key points (n, T, V, dims) and scores (n, T, V) as a pose estimator would give them.

    A missing joint is all 0 in both. Of standard normal draws are ``view`` (n, 6; distance, size
    in the frame, sideways, up, yaw, roll), ``draws`` (n, T, V, dims + 2) and ``quality`` (n,; high
    is bad footage). ``noise`` is a factor of all errors; 0 gives true places with score 1.
    """
    seen = _turned(world, view, YAW[dims])
    detector = table_of('detector')
    spread, usual, limit = np.array([detector[_kind(joint)][1:] for joint in joints]).T
    hidden = _hidden(seen, joints)

    smooth = _remember(draws[..., :dims], MEMORY)
    error = 0.8 * smooth + 0.5 * draws[..., :dims]
    worse = np.exp(0.25 * quality)[:, None, None] * (1 + 1.5 * hidden) * (1 + 2 * _speed(seen))
    noise = noise * DEPTH_ERROR if dims == 3 else noise
    size = (0.01 * noise * spread * worse)[..., None]
    place = (_project if dims == 2 else _depth_axes)(seen, view, size * error)
    # Rounded, the last bits in which processors differ are gone.
    place = np.round(place, 2 if dims == 2 else 4)

    off = np.sqrt((error**2).sum(-1)) * worse
    score = usual - 0.1 * (off - 1.2) - 0.25 * hidden + 0.04 * draws[..., dims]
    # A depth camera's skeleton says tracked or not, no more.
    score = np.clip(score, 0.05, 1) if noise and dims == 2 else np.ones_like(off)
    latent = _remember(draws[..., dims + 1 :], MISS_MEMORY)[..., 0]
    missed = latent + 0.4 * quality[:, None, None] + 0.9 * hidden > limit
    missed &= noise > 0
    if dims == 2:
        u, v = place[..., 0], place[..., 1]
        missed |= (u < 0) | (u >= WIDTH) | (v < 0) | (v >= HEIGHT)
    return np.where(missed[..., None], 0, place), np.where(missed, 0, np.round(score, 3))


def _kind(joint: str) -> str:
    name, detector = body_point(joint), table_of('detector')
    return next(kind for kind, (marks, *_) in detector.items() if any(m in name for m in marks))


def _turned(world: np.ndarray, view: np.ndarray, spread: float) -> np.ndarray:
    """The world as seen by a camera that stands a little to the side and is not quite level."""
    yaw, roll = np.radians(spread * view[:, 4]), np.radians(1.2 * view[:, 5])
    (cy, sy), (cr, sr) = ((np.cos(a)[:, None, None], np.sin(a)[:, None, None]) for a in (yaw, roll))
    x, y, z = np.moveaxis(world, -1, 0)
    x, z = cy * x + sy * z, cy * z - sy * x
    return np.stack([cr * x - sr * y, sr * x + cr * y, z], -1)


def _project(seen: np.ndarray, view: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Pin-hole projection; the neck of an average sitter comes to about (640, 330)."""
    distance = (3 * np.exp(0.15 * view[:, 0]))[:, None, None]
    focal = 560 * np.exp(0.15 * view[:, 1])[:, None, None] * distance
    scale = focal / (distance - seen[..., 2])
    u = 640 + 70 * view[:, 2, None, None] + scale * (seen[..., 0] + error[..., 0])
    v = 330 + 20 * view[:, 3, None, None] - scale * (seen[..., 1] - 0.5 + error[..., 1])
    return np.stack([u, v], -1)


def _depth_axes(seen: np.ndarray, view: np.ndarray, error: np.ndarray) -> np.ndarray:
    distance = (2.5 * np.exp(0.12 * view[:, 0]))[:, None, None]
    # The error along the ray of a depth camera is the largest.
    x = -seen[..., 0] + 0.2 * view[:, 2, None, None] + error[..., 0]
    y = seen[..., 1] + 0.1 * view[:, 3, None, None] + error[..., 1]
    return np.stack([x, y, distance - seen[..., 2] + 1.5 * error[..., 2]], -1)


def _speed(seen: np.ndarray) -> np.ndarray:
    """(n, T, V) way of each joint since the frame before, in units of 10 cm, at most 1."""
    step = np.zeros(seen.shape[:-1])
    step[:, 1:] = np.sqrt((np.diff(seen, axis=1) ** 2).sum(-1))
    return np.minimum(step / 0.1, 1)


def _hidden(seen: np.ndarray, joints: tuple[str, ...]) -> np.ndarray:
    """(n, T, V), 0 to 1: how far a hand in front, the body or the head hides a joint."""
    hidden = np.zeros(seen.shape[:-1])
    body = [i for i, joint in enumerate(joints) if _kind(joint) not in ('finger', 'wrist')]
    behind = seen[:, :, body]
    for hand in (
        i
        for i, joint in enumerate(joints)
        if joint.endswith(('_wrist', 'finger3', 'middle_finger_tip'))
    ):
        gap = behind - seen[:, :, hand, None]
        cover = np.exp(-(gap[..., :2] ** 2).sum(-1) / (2 * 0.05**2)) * (gap[..., 2] < -0.02)
        hidden[:, :, body] = np.maximum(hidden[:, :, body], cover)
    if 'left_shoulder' in joints and 'right_shoulder' in joints:
        chest = 0.5 * sum(seen[:, :, joints.index(f'{s}_shoulder')] for s in ('left', 'right'))
        hands = [i for i, joint in enumerate(joints) if _kind(joint) in ('finger', 'wrist')]
        gap = seen[:, :, hands] - chest[:, :, None]
        hidden[:, :, hands] = (gap[..., 2] < -0.06) & (np.abs(gap[..., 0]) < 0.16)
    if 'nose' in joints:
        nose = seen[:, :, joints.index('nose')]
        for ear in (i for i, joint in enumerate(joints) if joint.endswith('_ear')):
            beside = np.abs(nose[..., 0] - seen[:, :, ear, 0])
            hidden[:, :, ear] = np.maximum(hidden[:, :, ear], np.clip(2 - beside / 0.03, 0, 1))
    return hidden


def _remember(white: np.ndarray, memory: float) -> np.ndarray:
    """First-order autoregressive noise of unit variance along axis 1."""
    out = np.empty_like(white)
    out[:, 0] = white[:, 0]
    fresh = np.sqrt(1 - memory**2).astype(white.dtype)
    for t in range(1, white.shape[1]):
        out[:, t] = memory * out[:, t - 1] + fresh * white[:, t]
    return out
