"""The records of an evaluation, counted by scenario, and the figures that come of the counts.

docs/emotion.md describes the parts of ``metrics``. A scenario counts once in every figure but for
ece and brier, which count answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mg_plugins.data.statistics import Bootstrap
from mg_plugins.errors import UserError

from .arms import ARMS, PLACEBO, WITH, WITHOUT
from .scenarios import Scenario
from .tasks import ANSWERED, NOT_ASKED, STATUSES

COMPARISONS = ((WITH, WITHOUT), (WITH, PLACEBO), (PLACEBO, WITHOUT))
NO_INTERVAL = {'value': None, 'low': None, 'high': None}
OPEN = ('completeness', 'depth', 'evidence')
BINS = 10  # of the calibration error
Record = Mapping[str, Any]


class Tally:
    """Records of questions, one dict each (see `evaluation`), counted by scenario.

    Scenarios of unknown state, and those of which the budget left questions unasked, take no part
    in figures that need the truth. ``draws`` and ``seed`` are the bootstrap's.
    """

    def __init__(
        self, cases: Sequence[Scenario], records: Sequence[Record], draws: int, seed: int
    ) -> None:
        self.cases, self.draws, self.seed = {case.id: case for case in cases}, draws, seed
        self.records, self.open_ended = records, cases[0].open_ended
        self.of = {arm: [r for r in records if r['arm'] == arm] for arm in ARMS}
        self.of = {arm: rows for arm, rows in self.of.items() if rows}
        self.pairs = [(a, b) for a, b in COMPARISONS if {a, b} <= set(self.of)]
        self.states = list(dict.fromkeys(state for case in cases for state in case.states))
        asked = {r['scenario'] for r in records}
        self.cut = {r['scenario'] for r in records if r['status'] == NOT_ASKED}
        self.judged = [name for name in self.cases if name in asked - self.cut]
        self.known = [name for name in self.judged if self.cases[name].state]
        self.truth = np.array([self.states.index(self.cases[i].state) for i in self.known], int)
        self.boot = self._bootstrap(self.known)
        # (known scenarios, states + 1) questions by state chosen; the last column: none.
        rows, row = np.arange(len(self.known)), {name: k for k, name in enumerate(self.known)}
        self.votes, self.score, self.right = {}, {}, {}
        for arm, of_arm in self.of.items():
            votes = self.votes[arm] = np.zeros((len(rows), len(self.states) + 1))
            for r in of_arm:
                if r['scenario'] in row:
                    column = self.states.index(r['state']) if r['state'] else -1
                    votes[row[r['scenario']], column] += 1
            self.score[arm] = votes[rows, self.truth] / np.maximum(votes.sum(1), 1)
            self.right[arm] = majority(votes) == self.truth

    def arm(self, arm: str) -> dict[str, Any]:
        """Counts and figures of one arm."""
        rows, known = self.of[arm], set(self.known)
        told = [r for r in rows if r['choice'] is not None]
        sure = [r for r in told if r['confidence'] is not None and r['scenario'] in known]
        confidence = np.array([r['confidence'] for r in sure])
        correct = np.array([r['correct'] for r in sure], float)
        counts, free = Counter(r['status'] for r in rows), self.open_ended
        return {
            'asked': len(rows) - counts[NOT_ASKED],
            **{status: counts[status] for status in STATUSES},
            'accuracy': NO_INTERVAL if free else self.boot.mean(self.score[arm]),
            'macro_f1': NO_INTERVAL if free else self._macro_f1(self.votes[arm]),
            'evidence': self._interval(self._means(arm, lambda r: r.get('grounded'))),
            'ece': expected_calibration_error(confidence, correct),
            'brier': brier_score(confidence, correct),
            'mean_confidence': float(confidence.mean()) if sure else None,
        }

    def compare(self) -> dict[str, dict[str, Any]]:
        """Paired gains of one arm over another; b is right in the first only."""
        return {
            f'{first} - {second}': {
                'gain': self.boot.mean(self.score[first] - self.score[second]),
                'mcnemar': mcnemar(self.right[first], self.right[second]),
            }
            for first, second in self.pairs
        }

    def gestures(self) -> list[dict[str, Any]]:
        """In how many scenarios with each gesture seeing the timeline made the choice right."""
        if not {WITH, WITHOUT} <= set(self.of):
            return []
        # A place that is cited rightly is a time and a name.
        cited = {
            (r['scenario'], place.partition(' ')[2])
            for r in self.of[WITH]
            for place in r.get('cited', ())
        }
        table: dict[str, Counter] = {}
        for i, before, after in zip(self.known, self.right[WITHOUT], self.right[WITH], strict=True):
            moved = [] if before == after else ['to_right' if after else 'to_wrong']
            for gesture in sorted({g.name for g in self.cases[i].gestures}):
                counts = table.setdefault(gesture, Counter())
                counts.update(['scenarios', *moved, *['cited'] * ((i, gesture) in cited)])
        keys = ('scenarios', 'to_right', 'to_wrong', 'cited')
        rows = [{'name': n, **{key: c[key] for key in keys}} for n, c in table.items()]
        return sorted(rows, key=lambda r: (-r['to_right'] - r['to_wrong'], -r['scenarios']))

    def baselines(self, train: Sequence[Scenario], notes: list[str]) -> dict[str, Any]:
        """What counting achieves on the same scenarios, fitted on the training ones."""
        from .baselines import bag_baseline

        if not self.known or not train:
            notes.append('No baselines: they need labelled scenarios of split train, and of test.')
            return {}
        test, common = [self.cases[i] for i in self.known], Counter(s.state for s in train)
        favourite = max(self.states, key=lambda state: common[state])
        results = {'majority': ([favourite] * len(test), len(train))}
        try:
            result = bag_baseline(train, test, self.seed)
            results['bag of gestures'] = result['predictions'], result['train_sessions']
        except (UserError, ImportError) as error:
            notes.append(f'No learned baseline: {error}')
        figures = {}
        for title, (chosen, sessions) in results.items():
            columns = np.array([self.states.index(state) for state in chosen])
            accuracy = self.boot.mean((columns == self.truth).astype(float))
            f1 = self._macro_f1(np.eye(len(self.states) + 1)[columns])
            figures[title] = {'accuracy': accuracy, 'macro_f1': f1, 'train_sessions': sessions}
        return figures

    def open(self) -> tuple[dict, dict]:
        """Completeness, depth and evidence by arm, and their paired gains by pair of arms.

        A question without an answer has 0 in all; one that the rubric judge gave no score is left
        out. A gain runs over the scenarios that have scores in both arms. Without a rubric judge
        there is the evidence alone.
        """
        rated = any('depth' in r for r in self.records)
        parts = ('completeness', 'depth', 'grounded') if rated else ('grounded',)

        def scores(r: Record) -> tuple[float, ...] | None:
            if r['status'] != ANSWERED:
                return (0,) * len(parts)
            return tuple(r[part] for part in parts) if parts[0] in r else None

        means = {arm: self._means(arm, scores) for arm in self.of}
        gains = {
            f'{a} - {b}': {i: means[a][i] - means[b][i] for i in means[a] if i in means[b]}
            for a, b in self.pairs
        }
        return tuple(
            {
                name: dict.fromkeys(OPEN, NO_INTERVAL)
                | {part: self._interval(values, k) for k, part in enumerate(OPEN[-len(parts) :])}
                for name, values in table.items()
            }
            for table in (means, gains)
        )

    def _means(self, arm: str, value: Callable[[Record], Any]) -> dict[str, np.ndarray]:
        """Mean by scenario of what ``value`` has for an arm's records."""
        values: dict[str, list] = {}
        for r in self.of[arm]:
            if r['scenario'] not in self.cut and (found := value(r)) is not None:
                values.setdefault(r['scenario'], []).append(found)
        return {name: np.mean(found, 0) for name, found in values.items()}

    def _interval(self, means: Mapping[str, np.ndarray], column: int = 0) -> dict[str, Any]:
        values = np.array([np.atleast_1d(mean)[column] for mean in means.values()])
        return self._bootstrap(list(means)).mean(values)

    def _macro_f1(self, votes: np.ndarray) -> dict[str, Any]:
        confusion = np.zeros((len(self.known), len(self.states), len(self.states) + 1))
        shares = votes / np.maximum(votes.sum(1), 1)[:, None]
        confusion[np.arange(len(self.known)), self.truth] = shares
        return self.boot.interval(confusion, macro_f1)

    def _bootstrap(self, names: Sequence[str]) -> Bootstrap:
        return Bootstrap([self.cases[name].subject for name in names], self.draws, self.seed)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 over the states that occur or are chosen, as ``sklearn.metrics.f1_score`` has it.

    ``confusion`` (…, K, K + 1) is the weight of each true state (rows) by state chosen; the last
    column is no answer, which misses the true state and accuses no other. NaN where nothing occurs.
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
    the gain, which is clustered, is the safer of the two. ``b`` are right in the first only.
    """
    from scipy.stats import binomtest

    first, second = np.asarray(first, bool), np.asarray(second, bool)
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return {'b': b, 'c': c, 'p': float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0}


def majority(votes: np.ndarray) -> np.ndarray:
    """(n,) column with the most votes in (n, K + 1); −1 where several share the first place."""
    most = votes.max(1, initial=0)[:, None]
    return np.where((votes == most).sum(1) > 1, -1, votes.argmax(1))
