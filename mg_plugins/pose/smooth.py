"""Two steps on raw keypoints: `fill_gaps`, then `one_euro`. Off for skeletons that come smoothed.

Arrays: keypoint (T, V, C), score (T, V), times (T,) in seconds. A missing joint has score 0.
"""

from __future__ import annotations

import numpy as np

LONGEST_GAP = 0.3


def fill_gaps(
    keypoint: np.ndarray, score: np.ndarray, times: np.ndarray, longest: float = LONGEST_GAP
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate a joint over gaps of up to ``longest`` seconds; longer ones stay gaps.

    A gap lasts from the joint's last frame before it to its first frame after it. Filled joints
    get the lower score of both ends. Beginnings and ends are not filled.

    Returns:
        New keypoint and score.
    """
    keypoint, score = keypoint.copy(), score.copy()
    for joint in range(score.shape[1]):
        at = np.flatnonzero(score[:, joint] > 0)
        if len(at) < 2:
            continue
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
    was missing.

    Args:
        keypoint: (T, V, C).
        score: (T, V).
        times: (T,) seconds, rising.
        min_cutoff: Hz, for a joint at rest.
        beta: Hz for each body size a second.
        size: The body's size in the unit of ``keypoint``.

    Returns:
        New keypoint; missing joints stay as they are.
    """
    smooth = keypoint.astype(np.float64)
    speed = np.zeros(keypoint.shape[1:])
    for t in range(1, len(keypoint)):
        step = times[t] - times[t - 1]
        known = (score[t] > 0) & (score[t - 1] > 0)
        raw = (smooth[t] - smooth[t - 1]) / step
        speed = np.where(known[:, None], speed + _share(1.0, step) * (raw - speed), 0)
        pace = np.linalg.norm(speed, axis=-1, keepdims=True) / size
        share = _share(min_cutoff + beta * pace, step)
        value = smooth[t - 1] + share * (smooth[t] - smooth[t - 1])
        smooth[t] = np.where(known[:, None], value, smooth[t])
    return smooth.astype(np.float32)


def smooth_track(
    keypoint: np.ndarray, score: np.ndarray, times: np.ndarray, layout: object
) -> tuple[np.ndarray, np.ndarray]:
    """Both steps for every person: keypoint (M, T, V, C) and score (M, T, V)."""
    from mg_plugins.data.skeleton import body_size

    points, scores = [], []
    for own, own_score in zip(keypoint, score, strict=True):
        seen = own_score > 0
        size = body_size(own, seen, layout) if seen.any() else 1.0
        own, own_score = fill_gaps(own, own_score, times)
        points.append(one_euro(own, own_score, times, size=size))
        scores.append(own_score)
    return np.stack(points), np.stack(scores)


def _share(cutoff: float | np.ndarray, step: float) -> float | np.ndarray:
    """Weight of the new value for a cut-off in Hz and a step in seconds."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))
