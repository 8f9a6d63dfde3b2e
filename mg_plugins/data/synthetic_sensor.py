"""What a camera and a pose estimator make of a synthetic body: projection, jitter, missing joints.

Shapes: n clips, T frames, V joints, D = 2 (pixels of a 1280 x 720 frame, x to the right, y down) or
D = 3 (metres in the axes of a depth camera that faces the person: x to the person's right, y up, z
away from the camera).
"""

from __future__ import annotations

import re

import numpy as np

from .synthetic_plan import gesture_table

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
    for side, finger, part in (match.groups() for match in map(FINGER.fullmatch, joints) if match):
        own = f'{side}_{"little" if finger == "pinky" else finger}'
        knuckle, tip = points[f'{own}_knuckle'], points[f'{own}_tip']
        place = knuckle + gesture_table()['along_finger'][part] * (tip - knuckle)
        points[f'{side}_{finger}_{part}'] = points[f'{side}_{finger}_finger_{part}'] = place
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
    detector = gesture_table()['detector']
    kinds = [
        next(kind for kind, (marks, *_) in detector.items() if any(m in name for m in marks))
        for name in map(body_point, joints)
    ]
    spread, usual, limit = np.array([detector[kind][1:] for kind in kinds]).T
    seen = _turned(world, view, YAW[dims])
    hidden = _hidden(seen, joints, np.isin(kinds, ('finger', 'wrist')))
    # Way of each joint since the frame before, in units of 10 cm.
    step = np.sqrt((np.diff(seen, axis=1, prepend=seen[:, :1]) ** 2).sum(-1))

    error = 0.8 * _remember(draws[..., :dims], MEMORY) + 0.5 * draws[..., :dims]
    worse = np.exp(0.25 * quality)[:, None, None] * (1 + 1.5 * hidden)
    worse = worse * (1 + 2 * np.minimum(step / 0.1, 1))
    noise = noise * DEPTH_ERROR if dims == 3 else noise
    off = (0.01 * noise * spread * worse)[..., None] * error
    place = (_project if dims == 2 else _depth_axes)(seen, view.T[..., None, None], off)
    # Rounded, the last bits in which processors differ are gone.
    place = np.round(place, 2 if dims == 2 else 4)

    off = np.sqrt((error**2).sum(-1)) * worse
    score = usual - 0.1 * (off - 1.2) - 0.25 * hidden + 0.04 * draws[..., dims]
    # A depth camera's skeleton says tracked or not, no more.
    score = np.clip(score, 0.05, 1) if noise and dims == 2 else np.ones_like(off)
    latent = _remember(draws[..., dims + 1], MISS_MEMORY)
    missed = latent + 0.4 * quality[:, None, None] + 0.9 * hidden > limit
    missed &= noise > 0
    if dims == 2:
        missed |= ((place < 0) | (place >= (WIDTH, HEIGHT))).any(-1)
    return np.where(missed[..., None], 0, place), np.where(missed, 0, np.round(score, 3))


def _turned(world: np.ndarray, view: np.ndarray, spread: float) -> np.ndarray:
    """The world as seen by a camera that stands a little to the side and is not quite level."""
    yaw, roll = np.radians(spread * view[:, 4]), np.radians(1.2 * view[:, 5])
    (cy, sy), (cr, sr) = ((np.cos(a)[:, None, None], np.sin(a)[:, None, None]) for a in (yaw, roll))
    x, y, z = np.moveaxis(world, -1, 0)
    x, z = cy * x + sy * z, cy * z - sy * x
    return np.stack([cr * x - sr * y, sr * x + cr * y, z], -1)


def _project(seen: np.ndarray, view: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Pin-hole projection; the neck of an average sitter comes to about (640, 330)."""
    distance = 3 * np.exp(0.15 * view[0])
    scale = 560 * np.exp(0.15 * view[1]) * distance / (distance - seen[..., 2])
    u = 640 + 70 * view[2] + scale * (seen[..., 0] + error[..., 0])
    v = 330 + 20 * view[3] - scale * (seen[..., 1] - 0.5 + error[..., 1])
    return np.stack([u, v], -1)


def _depth_axes(seen: np.ndarray, view: np.ndarray, error: np.ndarray) -> np.ndarray:
    x = -seen[..., 0] + 0.2 * view[2] + error[..., 0]
    y = seen[..., 1] + 0.1 * view[3] + error[..., 1]
    # The error along the ray of a depth camera is the largest.
    return np.stack([x, y, 2.5 * np.exp(0.12 * view[0]) - seen[..., 2] + 1.5 * error[..., 2]], -1)


def _hidden(seen: np.ndarray, joints: tuple[str, ...], is_hand: np.ndarray) -> np.ndarray:
    """(n, T, V), 0 to 1: how far a hand in front, the body or the head hides a joint."""
    hidden, at = np.zeros(seen.shape[:-1]), {joint: j for j, joint in enumerate(joints)}
    body, hands = np.flatnonzero(~is_hand), np.flatnonzero(is_hand)
    for joint, hand in at.items():
        if joint.endswith(('_wrist', 'finger3', 'middle_finger_tip')):
            gap = seen[:, :, body] - seen[:, :, hand, None]
            cover = np.exp(-(gap[..., :2] ** 2).sum(-1) / (2 * 0.05**2)) * (gap[..., 2] < -0.02)
            hidden[:, :, body] = np.maximum(hidden[:, :, body], cover)
    if {'left_shoulder', 'right_shoulder'} <= set(at):
        chest = 0.5 * sum(seen[:, :, at[f'{side}_shoulder']] for side in ('left', 'right'))
        gap = seen[:, :, hands] - chest[:, :, None]
        hidden[:, :, hands] = (gap[..., 2] < -0.06) & (np.abs(gap[..., 0]) < 0.16)
    for joint, ear in at.items() if 'nose' in at else ():
        if joint.endswith('_ear'):
            beside = np.abs(seen[:, :, at['nose'], 0] - seen[:, :, ear, 0])
            hidden[:, :, ear] = np.maximum(hidden[:, :, ear], np.clip(2 - beside / 0.03, 0, 1))
    return hidden


def _remember(white: np.ndarray, memory: float) -> np.ndarray:
    """First-order autoregressive noise of unit variance along axis 1."""
    out = white.copy()
    fresh = np.sqrt(1 - memory**2).astype(white.dtype)
    for t in range(1, white.shape[1]):
        out[:, t] = memory * out[:, t - 1] + fresh * white[:, t]
    return out
