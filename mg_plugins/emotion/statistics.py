"""Scores of choices: macro-F1, calibration, McNemar's test, votes.

Intervals come from the project's one bootstrap, `mg_plugins.data.statistics.Bootstrap`.
"""

from __future__ import annotations

import numpy as np

BINS = 10


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 over the states that occur or are chosen, as ``sklearn.metrics.f1_score`` has it.

    Args:
        confusion: (…, K, K + 1) weight of each true state (rows) by state chosen; the last column
            is no answer, which misses the true state and accuses no other.

    Returns:
        (…) macro-F1; NaN where nothing occurs.
    """
    states = confusion.shape[-2]
    right = np.diagonal(confusion[..., :states], axis1=-2, axis2=-1)
    total = confusion.sum(-1) + confusion[..., :states].sum(-2)
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.where(total > 0, 2 * right / total, 0).sum(-1) / (total > 0).sum(-1)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float | None:
    """Mean distance between confidence (m,) and share of right answers (m,), over 10 equal bins.

    Bins are weighted by the answers in them (Naeini et al. 2015; Guo et al. 2017, equation 3).
    """
    if not len(confidence):
        return None
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(abs(np.bincount(place, confidence - correct, BINS)).sum() / len(confidence))


def brier_score(confidence: np.ndarray, correct: np.ndarray) -> float | None:
    """Mean squared distance between the confidence (m,) and whether the answer is right (m,)."""
    return float(np.mean((confidence - correct) ** 2)) if len(confidence) else None


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Exact McNemar test on scenarios that two arms judged, (n,) whether each was right.

    It takes scenarios as independent; where sessions of one person go together, the interval of
    the gain, which is clustered, is the safer of the two.

    Returns:
        ``b`` right in the first only, ``c`` right in the second only, and the two-sided ``p``.
    """
    from scipy.stats import binomtest

    first, second = np.asarray(first, bool), np.asarray(second, bool)
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return {'b': b, 'c': c, 'p': float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0}


def majority(votes: np.ndarray) -> np.ndarray:
    """What most of a scenario's questions chose.

    Args:
        votes: (n, K + 1) questions of each scenario by what came of them; the last column counts
            those without an answer, which can win like any other.

    Returns:
        (n,) index of the column with the most votes; −1 where several share the first place.
    """
    most = votes.max(1, initial=0)[:, None]
    return np.where((votes == most).sum(1) > 1, -1, votes.argmax(1))
