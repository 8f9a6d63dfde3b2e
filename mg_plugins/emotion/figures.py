"""The records of an evaluation, counted by scenario (ece and brier count answers), and figures."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from mg_plugins.data.statistics import Bootstrap
from mg_plugins.errors import UserError

from .arms import ARMS, PLACEBO, WITH, WITHOUT
from .scenarios import Gesture, Scenario
from .tasks import ANSWERED, NOT_ASKED, STATUSES

COMPARISONS = ((WITH, WITHOUT), (WITH, PLACEBO), (PLACEBO, WITHOUT))
NO_INTERVAL = {'value': None, 'low': None, 'high': None}
OPEN = ('completeness', 'depth', 'evidence')
BINS = 10  # of the calibration error
STRENGTHS = tuple(10.0**k for k in np.arange(-4, 1.5, 0.5))  # of the learned baseline
Record = Mapping[str, Any]


class Tally:
    """Records of questions, counted by scenario; ``draws`` and ``seed`` are the bootstrap's."""

    def __init__(
        self, cases: Sequence[Scenario], records: Sequence[Record], draws: int, seed: int
    ) -> None:
        self.cases, self.draws, self.seed = {case.id: case for case in cases}, draws, seed
        self.records, self.open_ended = records, cases[0].open_ended
        self.of = {arm: rows for arm in ARMS if (rows := [r for r in records if r['arm'] == arm])}
        self.pairs = [(a, b) for a, b in COMPARISONS if {a, b} <= set(self.of)]
        self.states = list(dict.fromkeys(state for case in cases for state in case.states))
        asked = {r['scenario'] for r in records}
        # What was not asked to the end, or has no known state, takes no part where truth is needed.
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
            'ece': expected_calibration_error(confidence, correct) if sure else None,
            'brier': float(np.mean((confidence - correct) ** 2)) if sure else None,
            'mean_confidence': float(confidence.mean()) if sure else None,
        }

    def compare(self) -> dict[str, dict[str, Any]]:
        """Paired gains of one arm over another."""
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
        if not self.known or not train:
            notes.append('No baselines: they need labelled scenarios of split train, and of test.')
            return {}
        test, common = [self.cases[i] for i in self.known], Counter(s.state for s in train)
        favourite = max(self.states, key=lambda state: common[state])
        always = {'predictions': [favourite] * len(test), 'train_sessions': len(train)}
        results = {'majority': always}
        try:
            results['bag of gestures'] = bag_baseline(train, test, self.seed)
        except (UserError, ImportError) as error:
            notes.append(f'No learned baseline: {error}')
        for result in results.values():
            columns = np.array([self.states.index(state) for state in result.pop('predictions')])
            result['accuracy'] = self.boot.mean((columns == self.truth).astype(float))
            result['macro_f1'] = self._macro_f1(np.eye(len(self.states) + 1)[columns])
        return results

    def open(self) -> tuple[dict, dict]:
        """`OPEN` by arm and paired gains, evidence alone if nothing is rated; no answer is 0."""
        rated = any('depth' in r for r in self.records)

        def score(r: Record, part: str) -> float | None:
            if r['status'] != ANSWERED:
                return 0.0
            return r[part] if 'depth' in r or not rated else None  # not graded: left out

        figures = {arm: dict.fromkeys(OPEN, NO_INTERVAL) for arm in self.of}
        gains = {f'{a} - {b}': dict.fromkeys(OPEN, NO_INTERVAL) for a, b in self.pairs}
        for name in OPEN if rated else ('evidence',):
            part = 'grounded' if name == 'evidence' else name
            means = {arm: self._means(arm, partial(score, part=part)) for arm in self.of}
            for arm, of_arm in means.items():
                figures[arm][name] = self._interval(of_arm)
            for a, b in self.pairs:
                gain = {i: means[a][i] - means[b][i] for i in means[a] if i in means[b]}
                gains[f'{a} - {b}'][name] = self._interval(gain)
        return figures, gains

    def _means(self, arm: str, value: Callable[[Record], Any]) -> dict[str, float]:
        """Mean by scenario of what ``value`` has for an arm's records."""
        values: dict[str, list] = {}
        for r in self.of[arm]:
            if r['scenario'] not in self.cut and (found := value(r)) is not None:
                values.setdefault(r['scenario'], []).append(found)
        return {name: np.mean(found) for name, found in values.items()}

    def _interval(self, means: Mapping[str, float]) -> dict[str, Any]:
        return self._bootstrap(list(means)).mean(np.array(list(means.values())))

    def _macro_f1(self, votes: np.ndarray) -> dict[str, Any]:
        confusion = np.zeros((len(self.known), len(self.states), len(self.states) + 1))
        shares = votes / np.maximum(votes.sum(1), 1)[:, None]
        confusion[np.arange(len(self.known)), self.truth] = shares
        return self.boot.interval(confusion, macro_f1)

    def _bootstrap(self, names: Sequence[str]) -> Bootstrap:
        return Bootstrap([self.cases[name].subject for name in names], self.draws, self.seed)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 over the states that occur or are chosen, as ``sklearn.metrics.f1_score`` has it.

    ``confusion`` (…, K, K + 1): weight of each true state by state chosen; the last column is no
    answer, which misses the true state and accuses no other. NaN where nothing occurs.
    """
    states = confusion.shape[-2]
    right = np.diagonal(confusion[..., :states], axis1=-2, axis2=-1)
    total = confusion.sum(-1) + confusion[..., :states].sum(-2)
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.where(total > 0, 2 * right / total, 0).sum(-1) / (total > 0).sum(-1)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Over 10 equal bins of the confidence (m,), as Guo et al. (2017), equation 3, have it."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(abs(np.bincount(place, confidence - correct, BINS)).sum() / len(confidence))


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Exact test on whether two arms were right, (n,); it takes scenarios as independent."""
    from scipy.stats import binomtest

    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return {'b': b, 'c': c, 'p': float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0}


def majority(votes: np.ndarray) -> np.ndarray:
    """(n,) column with the most votes in (n, K + 1); −1 where several share the first place."""
    most = votes.max(1, initial=0)[:, None]
    return np.where((votes == most).sum(1) > 1, -1, votes.argmax(1))


def bag_baseline(train: Sequence[Scenario], test: Sequence[Scenario], seed: int = 0) -> dict:
    """A learned baseline by the protocol published with iMiGUE: from counts of gestures to states.

    ``predictions`` of a logistic regression on what occurs in two or more of so many
    ``train_sessions``. The strength of its L2 penalty is chosen by the log-likelihood of the true
    state over folds (of ``seed``) by subject. Where test timelines come from a recogniser, training
    ones must be out-of-fold predictions (``tools/compare.py --leave-out``): one names what it was
    trained on far better.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sessions = list({(s.subject, s.session): s for s in train if s.state}.values())
    states = np.array([s.state for s in sessions])
    if len(set(states)) < 2:
        have = f'training sessions of known state have {len(set(states))} of them'
        raise UserError(f"the {len(states)} {have}: a baseline needs two in split 'train' or more")
    seen = Counter(name for s in sessions for name in {g.name for g in s.gestures})
    known = sorted(name for name in seen if seen[name] > 1)
    # Too few subjects to choose by have the weakest trust.
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.01))
    if folds := _folds(states, [s.subject for s in sessions], seed):
        grid = {'logisticregression__C': STRENGTHS}
        model = GridSearchCV(model, grid, scoring=_log_likelihood, cv=folds)
    model.fit([_bag(s.gestures, known) for s in sessions], states)
    bags = [_bag(s.gestures, known) for s in test]
    predictions = model.predict(bags).tolist() if bags else []
    return {'predictions': predictions, 'train_sessions': len(sessions)}


def _folds(states: np.ndarray, subjects: Sequence[str], seed: int) -> list[tuple]:
    """Up to five splits by subject with every state on the fitting side, if there are any."""
    from sklearn.model_selection import StratifiedGroupKFold

    # Numbered by appearance: opaque ids differ in every build, and must not change the folds.
    numbers = {subject: k for k, subject in enumerate(dict.fromkeys(subjects))}
    number = min(5, len(numbers), *Counter(states.tolist()).values())
    if number < 2:
        return []
    split = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    folds = split.split(states, states, [numbers[subject] for subject in subjects])
    return [(a, b) for a, b in folds if set(states[a]) == set(states) and len(b)]


def _bag(gestures: Sequence[Gesture], known: list[str]) -> np.ndarray:
    """Counts of all other names and of each known one, rates of these a minute, and of all."""
    found = Counter(g.name for g in gestures)
    counts = np.array([0.0, *(found[name] for name in known)])
    counts[0] = len(gestures) - counts.sum()
    minutes = max(max((g.end for g in gestures), default=0.0) / 60, 0.25)
    return np.concatenate([counts, counts / minutes, [len(gestures) / minutes]])


def _log_likelihood(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Mean log-probability of the true state; a scorer of scikit-learn's kind."""
    shares = model.predict_proba(x)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    return float(np.log(np.maximum(shares, 1e-12)).mean())
