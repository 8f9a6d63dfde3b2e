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
        scores = 2 * right / total
        seen = total > 0
        return np.where(seen, scores, 0).sum(-1) / seen.sum(-1)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float | None:
    """Mean distance between confidence and share of right answers, over 10 equal bins of [0, 1].

    Bins are weighted by the answers in them (Naeini et al. 2015; Guo et al. 2017, equation 3).

    Args:
        confidence: (m,) in [0, 1].
        correct: (m,) 0 or 1.
    """
    confidence, correct = np.asarray(confidence, float), np.asarray(correct, float)
    if not len(confidence):
        return None
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(place, confidence - correct, BINS)
    return float(abs(gap).sum() / len(confidence))


def brier_score(confidence: np.ndarray, correct: np.ndarray) -> float | None:
    """Mean squared distance between the confidence (m,) and whether the answer is right (m,)."""
    if not len(confidence):
        return None
    return float(np.mean((np.asarray(confidence, float) - np.asarray(correct, float)) ** 2))


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Exact McNemar test on scenarios that two arms judged.

    It takes scenarios as independent; where sessions of one person go together, the interval of
    the gain, which is clustered, is the safer of the two.

    Args:
        first: (n,) whether the choice was right in the first arm.
        second: (n,) the same in the second arm.

    Returns:
        ``b`` right in the first only, ``c`` right in the second only, and the two-sided ``p``.
    """
    from scipy.stats import binomtest

    first, second = np.asarray(first, bool), np.asarray(second, bool)
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    p = float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0
    return {'b': b, 'c': c, 'p': p}


def majority(votes: np.ndarray) -> np.ndarray:
    """What most of a scenario's questions chose.

    Args:
        votes: (n, K + 1) questions of each scenario by what came of them; the last column counts
            those without an answer, which can win like any other.

    Returns:
        (n,) index of the column with the most votes; −1 where several share the first place, and
        K where most questions have no answer.
    """
    most = votes.max(1, initial=0)
    first = votes.argmax(1)
    return np.where((votes == most[:, None]).sum(1) > 1, -1, first)
