"""The answers of an evaluation, counted by scenario, and the figures that come of the counts.

Parts of an evaluation's ``metrics``, where I is ``{"value", "low", "high"}``, a figure with its 95%
interval clustered by subject, each None where there is none:

    arms[arm]          asked and one count a status (questions); accuracy, accuracy_when_answered,
                       macro_f1, evidence (I); ece, brier, mean_confidence (of answers with a
                       confidence); positions: share of answers that name the 1st, 2nd, … option
                       shown
    comparisons[pair]  gain (I): difference of accuracies, paired; mcnemar: b, c, p
    gestures           name, scenarios, in how many of them the arm with gestures is right where
                       the one without is not (to_right), the reverse (to_wrong), or neither; and in
                       how many its answers cite this gesture rightly (cited)
    baselines[name]    accuracy, macro_f1 (I), train_sessions
    open[arm]          completeness in [0, 1], depth in [0, 4], evidence in [0, 1] (I); None if
                       multiple choice
    open_comparisons   the same by pair of arms, as paired gains

A scenario counts once in every figure but for ece, brier and positions, which count answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mg_plugins.data.statistics import Bootstrap

from .arms import ARMS, PLACEBO, WITH, WITHOUT, Question
from .evidence import Evidence, score_evidence
from .rubric import Score
from .scenarios import Scenario
from .statistics import (
    brier_score,
    expected_calibration_error,
    macro_f1,
    majority,
    mcnemar,
)
from .tasks import ANSWERED, NOT_ASKED, STATUSES, Answer

COMPARISONS = ((WITH, WITHOUT), (WITH, PLACEBO), (PLACEBO, WITHOUT))
NO_INTERVAL = {'value': None, 'low': None, 'high': None}


class Tally:
    """The answers of an evaluation, counted by scenario.

    Scenarios of unknown state, and those of which the budget left questions unasked, take no part
    in figures that need the truth.
    """

    def __init__(
        self,
        cases: Sequence[Scenario],
        questions: Sequence[Question],
        answers: Sequence[Answer],
        draws: int,
        seed: int,
    ) -> None:
        self.cases = cases
        self.classes = {gesture.name for case in cases for gesture in case.gestures}
        self.pairs = list(zip(questions, answers, strict=True))
        self.arms = [arm for arm in ARMS if any(q.arm == arm for q in questions)]
        self.states = list(dict.fromkeys(state for case in cases for state in case.states))
        self.cut = {q.scenario for q, a in self.pairs if a.status == NOT_ASKED}
        judged = sorted({q.scenario for q in questions})
        self.judged = [i for i in judged if i not in self.cut]
        self.known = [i for i in self.judged if cases[i].state]
        self.truth = np.array([self.states.index(cases[i].state) for i in self.known], int)
        self.draws, self.seed = draws, seed
        self.boot = self._bootstrap(self.known)
        self.evidence = [self._evidence(question, answer) for question, answer in self.pairs]
        self.votes = {arm: self._votes(arm) for arm in self.arms}
        rows = np.arange(len(self.known))
        self.score, self.answered, self.right = {}, {}, {}
        for arm, votes in self.votes.items():
            total = np.maximum(votes.sum(1), 1)
            self.score[arm] = votes[rows, self.truth] / total
            self.answered[arm] = votes[:, :-1].sum(1) / total
            self.right[arm] = majority(votes) == self.truth

    def arm(self, arm: str) -> dict[str, Any]:
        """Counts and figures of one arm."""
        pairs = [(q, a) for q, a in self.pairs if q.arm == arm]
        told = [(q, a) for q, a in pairs if a.choice is not None]
        known = set(self.known)
        sure = [(q, a) for q, a in told if a.confidence is not None and q.scenario in known]
        confidence = np.array([a.confidence for _, a in sure])
        correct = np.array(
            [chosen_state(q, a) == self.cases[q.scenario].state for q, a in sure], float
        )
        choices = [] if self.cases[0].open_ended else [a.choice for _, a in told]
        positions = np.bincount(
            choices, minlength=max(len(q.task.options) for q, _ in pairs)
        ) / max(len(choices), 1)
        figures = dict.fromkeys(('accuracy', 'accuracy_when_answered', 'macro_f1'), NO_INTERVAL)
        if not self.cases[0].open_ended:
            total = self.votes[arm].sum(1)[:, None, None]
            confusion = np.zeros((len(self.known), len(self.states), len(self.states) + 1))
            confusion[np.arange(len(self.known)), self.truth] = self.votes[arm]
            figures = {
                'accuracy': self.boot.mean(self.score[arm]),
                'accuracy_when_answered': self.boot.ratio(self.score[arm], self.answered[arm]),
                'macro_f1': self.boot.interval(confusion / np.maximum(total, 1), macro_f1),
            }
        counts = Counter(a.status for _, a in pairs)
        return {
            'asked': len(pairs) - counts[NOT_ASKED],
            **{status: counts[status] for status in STATUSES},
            **{key: dict(value) for key, value in figures.items()},
            'evidence': self._mean_evidence(arm),
            'ece': expected_calibration_error(confidence, correct),
            'brier': brier_score(confidence, correct),
            'mean_confidence': float(confidence.mean()) if len(confidence) else None,
            'positions': [float(share) for share in positions],
        }

    def compare(self, first: str, second: str) -> dict[str, Any]:
        """Paired gain of the first arm over the second; b is right in the first only."""
        return {
            'gain': self.boot.mean(self.score[first] - self.score[second]),
            'mcnemar': mcnemar(self.right[first], self.right[second]),
        }

    def gestures(self) -> list[dict[str, Any]]:
        """In how many scenarios with each gesture seeing the timeline made the choice right."""
        if not {WITH, WITHOUT} <= set(self.arms):
            return []
        cited: dict[int, set[str]] = {}
        for (question, _), evidence in zip(self.pairs, self.evidence, strict=True):
            if question.arm == WITH and evidence:
                timeline = self.cases[question.scenario].gestures
                names = {timeline[i].name for i in evidence.segments}
                cited.setdefault(question.scenario, set()).update(names)
        table: dict[str, Counter] = {}
        for row, i in enumerate(self.known):
            before, after = self.right[WITHOUT][row], self.right[WITH][row]
            change = 'unchanged' if before == after else 'to_right' if after else 'to_wrong'
            for gesture in {g.name for g in self.cases[i].gestures}:
                counts = table.setdefault(gesture, Counter())
                counts.update(['scenarios', change])
                counts['cited'] += gesture in cited.get(i, ())
        keys = ('scenarios', 'to_right', 'to_wrong', 'unchanged', 'cited')
        rows = [{'name': n, **{key: c[key] for key in keys}} for n, c in table.items()]
        return sorted(rows, key=lambda r: (-r['to_right'] - r['to_wrong'], -r['scenarios']))

    def baselines(self, train: Sequence[Scenario], seed: int, notes: list[str]) -> dict[str, Any]:
        """What counting achieves on the same scenarios, fitted on the training ones."""
        from .baselines import BaselineError, bag_baseline, gru_baseline

        if not self.known or not train:
            notes.append('No baselines: they need labelled scenarios of split train, and of test.')
            return {}
        test = [self.cases[i] for i in self.known]
        common = Counter(s.state for s in train)
        favourite = max(self.states, key=lambda state: common[state])
        predictions = {'majority': ([favourite] * len(test), len(train))}
        for title, fit in (('bag of gestures', bag_baseline), ('GRU', gru_baseline)):
            try:
                result = fit(train, test, seed)
            except (BaselineError, ImportError) as error:
                notes.append(f'No baseline {title!r}: {error}')
                continue
            predictions[title] = result['predictions'], result['train_sessions']
        return {
            title: {**self._predicted(chosen), 'train_sessions': sessions}
            for title, (chosen, sessions) in predictions.items()
        }

    def open(self, scores: Sequence[Score | None]) -> tuple[dict, dict]:
        """Completeness, depth and evidence by arm, and their paired gains by pair of arms.

        A question without an answer has 0 in all; one that the rubric judge gave no score is left
        out. A gain runs over the scenarios that have scores in both arms.
        """
        sums: dict[str, dict[int, list]] = {arm: {} for arm in self.arms}
        for (question, answer), score, evidence in zip(
            self.pairs, scores, self.evidence, strict=True
        ):
            if question.scenario in self.cut or (score is None and answer.status == ANSWERED):
                continue
            three = (score.completeness, score.depth, evidence.score) if score else (0, 0, 0)
            sums[question.arm].setdefault(question.scenario, []).append(three)
        means = {arm: {i: np.mean(p, 0) for i, p in of.items()} for arm, of in sums.items()}
        return {arm: self._open_figures(of) for arm, of in means.items()}, {
            f'{a} - {b}': self._open_figures(
                {i: means[a][i] - means[b][i] for i in means[a] if i in means[b]}
            )
            for a, b in COMPARISONS
            if {a, b} <= set(self.arms)
        }

    def _open_figures(self, values: Mapping[int, np.ndarray]) -> dict[str, Any]:
        """Mean completeness, depth and evidence of some scenarios."""
        boot = self._bootstrap(list(values))
        rows = np.array(list(values.values())).reshape(-1, 3)
        names = ('completeness', 'depth', 'evidence')
        return {name: boot.mean(rows[:, k]) for k, name in enumerate(names)}

    def _evidence(self, question: Question, answer: Answer) -> Evidence | None:
        """What an answer cites, against its own scenario; the arm takes no part."""
        if answer.status != ANSWERED:
            return None
        case = self.cases[question.scenario]
        text, cited = answer.text, answer.evidence
        return score_evidence(text, cited, case.gestures, case.context, self.classes)

    def _mean_evidence(self, arm: str) -> dict[str, Any]:
        """Mean evidence score of an arm's answers, over scenarios that have any."""
        scores: dict[int, list[float]] = {}
        for (question, _), evidence in zip(self.pairs, self.evidence, strict=True):
            if question.arm == arm and evidence and question.scenario not in self.cut:
                scores.setdefault(question.scenario, []).append(evidence.score)
        boot = self._bootstrap(list(scores))
        return boot.mean(np.array([np.mean(values) for values in scores.values()]))

    def _bootstrap(self, rows: Sequence[int]) -> Bootstrap:
        return Bootstrap([self.cases[i].subject for i in rows], self.draws, self.seed)

    def _votes(self, arm: str) -> np.ndarray:
        """(known scenarios, states + 1) questions by state chosen; the last column: none."""
        votes = np.zeros((len(self.known), len(self.states) + 1))
        row = {i: k for k, i in enumerate(self.known)}
        for question, answer in self.pairs:
            if question.arm == arm and question.scenario in row:
                state = chosen_state(question, answer)
                column = self.states.index(state) if state else -1
                votes[row[question.scenario], column] += 1
        return votes

    def _predicted(self, chosen: Sequence[str]) -> dict[str, Any]:
        rows = np.arange(len(self.known))
        columns = [self.states.index(state) for state in chosen]
        confusion = np.zeros((len(rows), len(self.states), len(self.states) + 1))
        confusion[rows, self.truth, columns] = 1
        return {
            'accuracy': self.boot.mean((columns == self.truth).astype(float)),
            'macro_f1': self.boot.interval(confusion, macro_f1),
        }


def chosen_state(question: Question, answer: Answer) -> str:
    """The state that was chosen; empty where none was."""
    return '' if answer.choice is None else question.task.states[answer.choice]
