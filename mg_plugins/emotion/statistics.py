"""Figures of an evaluation and how sure they are, clustered by subject.

Several sessions of one person are not independent, so the bootstrap draws people, not sessions.
SciPy's bootstrap cannot draw clusters; every figure here is a function of sums over subjects, so
drawing people is one matrix product. All figures of an evaluation use the same draws, which makes
the interval of a difference that of paired results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

BINS = 10
NO_INTERVAL = {'value': None, 'low': None, 'high': None}


class Bootstrap:
    """Intervals of figures that are functions of sums over scenarios; subjects are drawn.

    With few subjects the plain percentile interval is too narrow. Its levels are therefore moved
    outwards, to Φ(±t(G−1) √(G/(G−1))) for G subjects, the "expanded percentile interval" of
    Hesterberg (2015), What teachers should know about the bootstrap, The American Statistician
    69(4), section 5.3. With one subject there is no interval.

    Args:
        subjects: Subject of each of n scenarios.
        draws: How often people are drawn.
        seed: Of the draws.
        level: Coverage that is aimed at.
    """

    def __init__(
        self, subjects: Sequence[str], draws: int = 2000, seed: int = 0, level: float = 0.95
    ) -> None:
        from scipy.stats import norm, t

        # In order of appearance: opaque ids differ in every build, and must not change a figure.
        numbers: dict[str, int] = {}
        self._of = np.array([numbers.setdefault(str(s), len(numbers)) for s in subjects], int)
        self.groups = groups = len(numbers)
        self._weights = np.zeros((0, groups))
        if groups > 1:
            random = np.random.default_rng(seed)
            share = np.full(groups, 1 / groups)
            self._weights = random.multinomial(groups, share, size=draws).astype(float)
            tail = norm.cdf(t.ppf((1 - level) / 2, groups - 1) * np.sqrt(groups / (groups - 1)))
            self._levels = np.array([tail, 1 - tail])

    def interval(
        self, values: np.ndarray, figure: Callable[[np.ndarray], np.ndarray]
    ) -> dict[str, float | None]:
        """A figure with its interval.

        Args:
            values: (n, …) numbers of each scenario.
            figure: From sums over scenarios (draws, …) to the figure (draws,); NaN where it has
                no value, which leaves that draw out.

        Returns:
            ``value``, ``low`` and ``high``; None where there is none.
        """
        values = np.asarray(values, float)
        if len(values) == 0:
            return dict(NO_INTERVAL)
        sums = np.zeros((self.groups, *values.shape[1:]))
        np.add.at(sums, self._of, values)
        with np.errstate(invalid='ignore', divide='ignore'):
            value = float(figure(sums.sum(0)[None])[0])
            drawn = figure(np.tensordot(self._weights, sums, 1))
        drawn = drawn[~np.isnan(drawn)]
        if np.isnan(value):
            return dict(NO_INTERVAL)
        if not len(drawn):
            return {'value': value, 'low': None, 'high': None}
        low, high = np.quantile(drawn, self._levels)
        return {'value': value, 'low': float(low), 'high': float(high)}

    def mean(self, values: np.ndarray) -> dict[str, float | None]:
        """Mean over scenarios (n,); of a difference, the gain."""
        return self.ratio(values, np.ones(len(values)))

    def ratio(self, above: np.ndarray, below: np.ndarray) -> dict[str, float | None]:
        """Sum of ``above`` (n,) over sum of ``below`` (n,)."""
        pair = np.stack([above, below], -1) if len(above) else np.zeros((0, 2))
        return self.interval(pair, lambda s: s[..., 0] / s[..., 1])

    def macro_f1(self, confusion: np.ndarray) -> dict[str, float | None]:
        """`macro_f1` of each scenario's confusion matrix (n, K, K + 1)."""
        return self.interval(confusion, macro_f1)


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
