"""Pure functions on keypoints (M, T, V, C) and scores (M, T, V).

M persons, T frames, V joints, C = 2 or 3 coordinates. A joint is missing where its score is 0;
missing joints have all-zero coordinates and keep them.
"""

import numpy as np


def rotation_matrix(angles: np.ndarray) -> np.ndarray:
    """Rotation from angles in radians.

    Args:
        angles: Three angles about x, y and z (applied in this order), or one in-plane angle.

    Returns:
        Matrix (3, 3), or (2, 2) for one angle.
    """
    cos, sin = np.cos(angles), np.sin(angles)
    if len(angles) == 1:
        return np.array([[cos[0], -sin[0]], [sin[0], cos[0]]], dtype=np.float32)
    about_x = np.array([[1, 0, 0], [0, cos[0], -sin[0]], [0, sin[0], cos[0]]])
    about_y = np.array([[cos[1], 0, sin[1]], [0, 1, 0], [-sin[1], 0, cos[1]]])
    about_z = np.array([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    return (about_z @ about_y @ about_x).astype(np.float32)


def rotate(keypoint: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Turn every joint about the origin: ``p ↦ R p``. Angles as in :func:`rotation_matrix`."""
    return keypoint @ rotation_matrix(angles).T


def scale(keypoint: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Stretch each coordinate axis by its own factor (C,): ``p ↦ factors · p``."""
    return keypoint * np.asarray(factors, dtype=keypoint.dtype)


def resample(
    keypoint: np.ndarray, score: np.ndarray, length: int, start: float, stop: float
) -> tuple[np.ndarray, np.ndarray]:
    """Read ``length`` evenly spaced frames between frames ``start`` and ``stop``, interpolating.

    A joint seen in one of the two neighbouring frames only takes its position there; a joint that
    the nearer frame lacks is missing.

    Args:
        keypoint: Coordinates (M, T, V, C).
        score: Scores (M, T, V).
        length: Number of frames of the result.
        start: First position, in frames, 0 ≤ start ≤ stop.
        stop: Last position, in frames, stop ≤ T − 1.

    Returns:
        Keypoints (M, length, V, C) and scores (M, length, V).
    """
    at = np.linspace(start, stop, length, dtype=np.float32)
    before = at.astype(np.int64)
    after = np.minimum(before + 1, keypoint.shape[1] - 1)
    share = (at - before)[:, None]
    left, right = score[:, before], score[:, after]
    weight_left, weight_right = (1 - share) * (left > 0), share * (right > 0)
    total = weight_left + weight_right
    nearer = np.where(share < 0.5, left, right)
    total = np.where((nearer > 0) & (total > 0), total, np.inf)
    points = (
        keypoint[:, before] * (weight_left / total)[..., None]
        + keypoint[:, after] * (weight_right / total)[..., None]
    )
    scores = (left * weight_left + right * weight_right) / total
    return points.astype(keypoint.dtype), scores.astype(score.dtype)
