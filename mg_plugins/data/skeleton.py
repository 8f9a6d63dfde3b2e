"""Normalised coordinates, bones and motion of skeleton clips, from any layout; numpy only.

Shapes: M persons, T frames, V joints, C coordinates. A missing joint keeps coordinates and score 0.
"""

from collections.abc import Sequence

import numpy as np

from mg_plugins.files import read_table

from .arrays import positive, take_joints
from .layouts import Layout

FEATURES = ('joint', 'bone', 'joint_motion', 'bone_motion')

# Lengths as shares of body height, after Drillis and Contini (in D. A. Winter, Biomechanics and
# Motor Control of Human Movement). Several estimates of one size survive missing joints.
SEGMENTS = {tuple(k.split()): v for k, v in read_table('data/relayout.json')['limbs'].items()}
SHOULDER_WIDTH = SEGMENTS['left_shoulder', 'right_shoulder']


def detected_joints(keypoint: np.ndarray, score: np.ndarray | None = None) -> np.ndarray:
    """Joints (M, T, V) that are there: with a coordinate, and a score where there are scores."""
    detected = (keypoint != 0).any(-1)
    return detected if score is None else detected & (score > 0)


def normalise(
    keypoint: np.ndarray,
    detected: np.ndarray,
    layout: Layout,
    scale: bool | None = None,
    per_frame: bool = False,
) -> np.ndarray:
    """Put the body's centre at the origin and, for 2D, its shoulder width to about 1.

    The person with most detected joints is the reference for all, so that persons keep their places
    towards each other. The centre is the layout's centre joint: its median position in 2D, its
    first detected one in 3D; where it is never detected, the median of all detected joints. What
    is not ``detected`` (M, T, V; of `detected_joints`) becomes 0.

    Args:
        scale: Divide by `body_size`; None does so for 2D only, since 3D is in metres.
        per_frame: Follow the centre (interpolated where missing): the body's own travel is gone.
    """
    keypoint, dims = keypoint.astype(np.float32, copy=False), keypoint.shape[-1]
    if not detected.any():
        return np.zeros(keypoint.shape, np.float32)
    person = int(detected.sum((1, 2)).argmax())
    points, seen = keypoint[person], detected[person]
    at = np.flatnonzero(seen[:, layout.centre])
    centre = points[at, layout.centre]
    if per_frame and at.size:
        axes = [np.interp(np.arange(len(points)), at, axis) for axis in centre.T]
        origin = np.stack(axes, -1)[:, None]
    elif dims == 3 and at.size:
        origin = centre[0]
    else:
        origin = np.median(centre if at.size else points[seen], axis=0)
    moved = keypoint - origin
    if dims == 2 if scale is None else scale:
        moved = moved / body_size(points, seen, layout)
    return (moved * detected[..., None]).astype(np.float32)


def body_size(points: np.ndarray, seen: np.ndarray, layout: Layout) -> float:
    """Shoulder width of one person (T, V, C), ``seen`` (T, V), from whatever limbs were detected.

    Every segment of `SEGMENTS`, found by joint names, gives an estimate of body height: its median
    length over the frames that show both ends, divided by its share. An image can only shorten a
    limb, so in 2D the largest estimate counts, in 3D their median. Without any such segment it is
    the RMS distance of the detected joints from their mean, and 1.0 where nothing can be measured.
    """
    joints = layout.joints
    known = [(a, b, share) for (a, b), share in SEGMENTS.items() if a in joints and b in joints]
    if known:
        first, second = ([joints.index(pair[end]) for pair in known] for end in (0, 1))
        difference = points[:, first] - points[:, second]
        length = np.sqrt((difference * difference).sum(-1))
        both = seen[:, first] & seen[:, second]
        # A median along each column of what is there: missing lengths sort to the end.
        count = both.sum(0)
        ordered = np.sort(np.where(both, length, np.inf), axis=0)
        median = ordered[np.maximum(count - 1, 0) // 2, np.arange(len(known))]
        heights = (median / [share for _, _, share in known])[count > 0]
        if heights.size:
            height = heights.max() if points.shape[-1] == 2 else np.median(heights)
            if height > 0:
                return float(height * SHOULDER_WIDTH)
    there = points[seen]
    spread = np.sqrt(((there - there.mean(0)) ** 2).sum(-1).mean()) if there.size else 0
    return float(spread) if spread > 0 else 1.0


def features(
    keypoint: np.ndarray, score: np.ndarray | None, layout: Layout, feat: Sequence[str] = ('joint',)
) -> np.ndarray:
    """`write_features` of one clip; without scores, joints with coordinates are all certain."""
    # Of normalised coordinates only the score can tell: the centre joint itself is at the origin.
    detected = detected_joints(keypoint) if score is None else score > 0
    out = np.empty((*keypoint.shape[:-1], 3 * len(feat)), np.float32)
    certain = detected.astype(np.float32) if score is None else score
    write_features(keypoint * detected[..., None], certain, layout, feat, out)
    return out


def write_features(keypoint, score, layout: Layout, feat: Sequence[str], out) -> None:
    """Write the input channels of a GCN into ``out``, of a clip (arrays) or a batch (tensors).

    A bone is a joint minus its parent (0 for the root), a motion is the next frame minus this one
    (0 in the last frame). Where one end is missing, the bone or motion is 0. In 2D each feature
    gets a score as third channel: the joint's own, the mean of a bone's joints or a motion's
    frames. ``out`` is (..., M, T, V, 3 * len(feat)), ``feat`` some of `FEATURES`.
    """
    dims = keypoint.shape[-1]
    for place, name in enumerate(feat):
        values, certain, there = keypoint, score, None
        if name != 'joint':
            there = positive(score, keypoint)
        if name.startswith('bone'):
            there = there * take_joints(there, layout.parents)
            certain = (score + take_joints(score, layout.parents)) / 2 * there
            values = (keypoint - take_joints(keypoint, layout.parents)) * there[..., None]
        part = out[..., 3 * place : 3 * place + 3]
        if name.endswith('motion'):
            both = there[..., 1:, :] * there[..., :-1, :]
            certain = (certain[..., 1:, :] + certain[..., :-1, :]) / 2 * both
            values = (values[..., 1:, :, :] - values[..., :-1, :, :]) * both[..., None]
            part[..., -1, :, :] = 0
            part = part[..., :-1, :, :]
        part[..., :dims] = values
        if dims == 2:
            part[..., 2] = certain
