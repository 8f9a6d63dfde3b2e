"""Two steps on raw keypoints: `fill_gaps`, then `one_euro`. Off for skeletons that come smoothed.

Arrays: keypoint (T, V, C), score (T, V), times (T,) in rising seconds. A missing joint has score 0.
"""

from __future__ import annotations

import numpy as np

from mg_plugins.data.layouts import Layout
from mg_plugins.data.skeleton import body_size

LONGEST_GAP = 0.3


def fill_gaps(
    keypoint: np.ndarray, score: np.ndarray, times: np.ndarray, longest: float = LONGEST_GAP
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate a joint over gaps of up to ``longest`` seconds; longer ones stay gaps.

    A gap lasts from the joint's last frame before it to its first frame after it. Filled joints
    get the lower score of both ends. Beginnings and ends are not filled.
    """
    keypoint, score = keypoint.copy(), score.copy()
    for joint in range(score.shape[1]):
        at = np.flatnonzero(score[:, joint] > 0)
        wide = np.flatnonzero((np.diff(at) > 1) & (np.diff(times[at]) <= longest + 1e-6))
        for a, b in zip(at[wide], at[wide + 1], strict=True):
            inner = slice(a + 1, b)
            share = ((times[inner] - times[a]) / (times[b] - times[a]))[:, None]
            keypoint[inner, joint] = (1 - share) * keypoint[a, joint] + share * keypoint[b, joint]
            score[inner, joint] = min(score[a, joint], score[b, joint])
    return keypoint, score


def one_euro(
    keypoint: np.ndarray,
    score: np.ndarray,
    times: np.ndarray,
    min_cutoff: float = 2.0,
    beta: float = 5.0,
    size: float = 1.0,
) -> np.ndarray:
    """The One-Euro filter: still joints are smoothed, quick ones follow without delay.

    A low-pass filter whose cut-off is ``min_cutoff + beta * speed`` (Casiez, Roussel and Vogel,
    CHI 2012), with speeds in body sizes a second, low-passed at 1 Hz. It starts anew where a joint
    was missing; missing joints stay as they are.

    Args:
        keypoint: (T, V, C).
        score: (T, V).
        times: (T,) seconds.
        min_cutoff: Hz, for a joint at rest.
        beta: Hz for each body size a second.
        size: The body's size in the unit of ``keypoint``.
    """
    smooth = keypoint.astype(np.float64)
    speed = np.zeros(keypoint.shape[1:])
    for t in range(1, len(keypoint)):
        step = times[t] - times[t - 1]
        known = ((score[t] > 0) & (score[t - 1] > 0))[:, None]
        move = smooth[t] - smooth[t - 1]
        speed = np.where(known, speed + _share(1.0, step) * (move / step - speed), 0)
        pace = np.linalg.norm(speed, axis=-1, keepdims=True) / size
        share = _share(min_cutoff + beta * pace, step)
        smooth[t] = np.where(known, smooth[t - 1] + share * move, smooth[t])
    return smooth.astype(np.float32)


def smooth_track(
    keypoint: np.ndarray, score: np.ndarray, times: np.ndarray, layout: Layout
) -> tuple[np.ndarray, np.ndarray]:
    """Both steps for every person: keypoint (M, T, V, C) and score (M, T, V)."""
    keypoint, score = keypoint.copy(), score.copy()
    for person, (points, sure) in enumerate(zip(keypoint, score, strict=True)):
        if (sure > 0).any():
            size = body_size(points, sure > 0, layout)
            points, score[person] = fill_gaps(points, sure, times)
            keypoint[person] = one_euro(points, score[person], times, size=size)
    return keypoint, score


def _share(cutoff: float | np.ndarray, step: float) -> float | np.ndarray:
    """Weight of the new value for a cut-off in Hz and a step in seconds."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))
