"""The one bootstrap: how sure a figure is, clustered by subject and crossed with seeds.

Clips (or sessions) of one person are not independent, so the bootstrap draws people, not clips.
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np

BLOCK = 4_000_000  # numbers in memory at a time while draws are made
Interval = dict[str, float | None]  # value, low and high; None where there is none


def expanded_levels(clusters: int) -> np.ndarray:
    """Two quantile levels (2,) of an expanded percentile interval of 95%.

    With few clusters G the plain one is too narrow, so its levels are moved to
    Φ(±t(G−1) √(G/(G−1))): Hesterberg (2015), What teachers should know about the bootstrap, The
    American Statistician 69(4), section 5.3.
    """
    from scipy.stats import norm, t

    tail = norm.cdf(t.ppf(0.025, clusters - 1) * np.sqrt(clusters / (clusters - 1)))
    return np.array([tail, 1 - tail])


def bootstrap_difference(
    first: np.ndarray, second: np.ndarray, totals: np.ndarray, draws: int = 20_000, seed: int = 0
) -> Interval:
    """How much larger the mean share of ``second`` is than that of ``first``.

    Subjects (clusters) are drawn with replacement, the same for both sides, and seeds with
    replacement for each side by itself: a seed has no meaning across two models. The interval is
    expanded (`expanded_levels`); a side of one seed, or clips of one subject, give none.

    A side is correct clips, or sums of scores in [0, 1], (its own seeds, subjects); ``totals`` are
    the clips of each subject.
    """
    first, second, totals = (np.asarray(a, float) for a in (first, second, totals))
    shapes = first.shape[1:], second.shape[1:], totals.shape
    if first.ndim != 2 or totals.ndim != 1 or len(set(shapes)) > 1:
        got = f'{first.shape}, {second.shape} and totals {totals.shape}'
        raise ValueError(f'counts must be (seeds, subjects) over the same subjects, got {got}')
    value, clusters = (second.mean(0).sum() - first.mean(0).sum()) / totals.sum(), len(totals)
    if min(len(first), len(second), clusters) < 2:
        return dict(value=float(value), low=None, high=None)
    random, found, size = np.random.default_rng(seed), [], max(1, BLOCK // clusters)
    for block in (min(size, draws - start) for start in range(0, draws, size)):
        people = _resampled(random, clusters, block)
        means = [_resampled(random, len(own), block) / len(own) @ own for own in (second, first)]
        more, less = ((mean * people).sum(1) for mean in means)
        found.append((more - less) / (people @ totals))
    low, high = np.quantile(np.concatenate(found), expanded_levels(clusters))
    return dict(value=float(value), low=float(low), high=float(high))


def _resampled(random: np.random.Generator, number: int, draws: int) -> np.ndarray:
    """How often each of ``number`` things is drawn, with replacement: (draws, number)."""
    return random.multinomial(number, np.full(number, 1 / number), size=draws)


class Bootstrap:
    """Intervals of figures that are functions of sums over n samples; their clusters are drawn.

    All figures of one object use the same draws, so the interval of a difference is that of paired
    results. Levels are those of `expanded_levels`; with one cluster there is no interval. Clusters
    (a subject for each sample) count by order of appearance: their names change no figure.
    """

    def __init__(self, clusters: Sequence[Hashable], draws: int = 2000, seed: int = 0) -> None:
        numbers: dict[Hashable, int] = {}
        self._of = np.array([numbers.setdefault(c, len(numbers)) for c in clusters], int)
        self.clusters = count = len(numbers)
        self._weights = np.zeros((0, count))
        if count > 1:
            self._weights = _resampled(np.random.default_rng(seed), count, draws).astype(float)
            self._levels = expanded_levels(count)

    def interval(self, values: np.ndarray, figure: Callable[[np.ndarray], np.ndarray]) -> Interval:
        """A figure of values (n, …) with its interval.

        ``figure`` goes from sums over samples (draws, …) to the figure (draws,); NaN where it has
        no value, which leaves that draw out.
        """
        values, nothing = np.asarray(values, float), dict(value=None, low=None, high=None)
        if len(values) == 0:
            return nothing
        sums = np.zeros((self.clusters, *values.shape[1:]))
        np.add.at(sums, self._of, values)
        with np.errstate(invalid='ignore', divide='ignore'):
            value = float(figure(sums.sum(0)[None])[0])
            drawn = figure(np.tensordot(self._weights, sums, 1))
        drawn = drawn[~np.isnan(drawn)]
        if np.isnan(value) or not len(drawn):
            return nothing if np.isnan(value) else nothing | dict(value=value)
        low, high = np.quantile(drawn, self._levels)
        return dict(value=value, low=float(low), high=float(high))

    def mean(self, values: np.ndarray) -> Interval:
        """Mean over samples (n,); of a difference, the gain."""
        return self.ratio(values, np.ones(len(values)))

    def ratio(self, above: np.ndarray, below: np.ndarray) -> Interval:
        """Sum of ``above`` (n,) over sum of ``below`` (n,)."""
        pair = np.stack([above, below], -1)
        return self.interval(pair, lambda sums: sums[..., 0] / sums[..., 1])
