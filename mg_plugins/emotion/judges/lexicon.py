"""The embedded judge: the tone of the words and an affect value for each gesture, added up.

It is a word counter, not a language model: every number that it uses can be read, and its reason
names what weighed. It shows that the apparatus works and what counting alone achieves.

    t = mean VADER compound of the context's sentences that carry any
    g = tanh(sum c_i (a_i - usual) / sqrt(sum c_i))   over the gestures shown
    z = bias + text * t + gestures * g                 log-odds of the more pleasant state

with c_i a gesture's confidence and a_i its affect value; `usual` is the mean affect of an average
timeline, since most gestures of unease are seen in everybody. Without gestures g = 0.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..prompts import LETTERS
from ..scenarios import Gesture, Scenario
from ..tasks import Reply, Task

TABLE = Path(__file__).with_name('affect.json')
# Of the documented prior: words decide, gestures tip the balance where words say little.
TEXT, GESTURES = 2.0, 1.0
FOLDS, C = 5, 1.0  # of `fit_prior`; C is scikit-learn's inverse strength of the L2 penalty


@dataclass(frozen=True)
class Prior:
    """Affect of gestures, and how much text and gestures count.

    Attributes:
        name: Where it comes from, for people.
        affect: Value of each known gesture; the documented ones are in [-1, 1], fitted ones are
            log-odds.
        usual: Mean affect in an average timeline.
        text: Weight of the text's sentiment.
        gestures: Weight of the timeline.
        bias: Log-odds of the more pleasant state with neither.
    """

    name: str
    affect: Mapping[str, float]
    usual: float
    text: float = TEXT
    gestures: float = GESTURES
    bias: float = 0.0

    @staticmethod
    def documented() -> Prior:
        """The prior of ``affect.json``: a judgement with reasons, fitted to nothing."""
        table = json.loads(TABLE.read_text(encoding='utf-8'))
        affect = {name: entry['value'] for name, entry in table['gestures'].items()}
        return Prior('documented', affect, table['usual'])

    def digest(self) -> str:
        """Short hash of all its numbers."""
        numbers = [dict(self.affect), self.usual, self.text, self.gestures, self.bias]
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:16]

    def lean(self, gestures: Sequence[Gesture]) -> float:
        """g of the formula above, in (-1, 1)."""
        known = [gesture for gesture in gestures if gesture.name in self.affect]
        mass = sum(gesture.confidence for gesture in known)
        if not mass:
            return 0.0
        return math.tanh(sum(self.weighed(known).values()) / math.sqrt(mass))

    def weighed(self, gestures: Sequence[Gesture]) -> dict[str, float]:
        """What each known gesture adds to the sum, all its occurrences together."""
        weights: Counter[str] = Counter()
        for gesture in gestures:
            if gesture.name in self.affect:
                weights[gesture.name] += gesture.confidence * (
                    self.affect[gesture.name] - self.usual
                )
        return dict(weights)


def sentiment(text: str) -> float:
    """Mean VADER compound, in [-1, 1], of the sentences that carry any sentiment; 0 if none does.

    VADER is made for sentences: the compound of a long text runs to one end.

    Raises:
        ImportError: vaderSentiment is not installed.
    """
    return _sentiment(text)


@lru_cache(maxsize=16384)
def _sentiment(text: str) -> float:
    sentences = text.replace('\n', '. ').replace('!', '!.').replace('?', '?.').split('.')
    scores = [_analyzer().polarity_scores(sentence)['compound'] for sentence in sentences]
    scores = [score for score in scores if score]
    return sum(scores) / len(scores) if scores else 0.0


@lru_cache
def _analyzer():
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        raise ImportError(
            'the lexicon judge needs vaderSentiment: pip install -e ".[emotion]"'
        ) from None
    return SentimentIntensityAnalyzer()


class LexiconJudge:
    """Answers by `Prior` and `sentiment`; see the module's formula.

    It replies in the JSON that language models are asked for. z becomes a point between the least
    and the most pleasant of the states in question, and the state nearest to it is chosen; of
    equally near ones the first by name, wherever it stands among the options.

    Args:
        prior: None for `Prior.documented`.

    Attributes:
        unknown: How often each gesture came that the prior does not know (it counts as nothing).

    Raises:
        ImportError: vaderSentiment is not installed.
    """

    name = 'lexicon'

    def __init__(self, prior: Prior | None = None) -> None:
        self.prior = prior or Prior.documented()
        self.unknown: Counter[str] = Counter()
        _analyzer()

    def identity(self) -> dict[str, Any]:
        """Kind, version of the formula and the prior's numbers."""
        return {
            'kind': 'lexicon',
            'version': 1,
            'prior': self.prior.name,
            'weights': {
                name: round(getattr(self.prior, name), 4) for name in ('text', 'gestures', 'bias')
            },
            'numbers': self.prior.digest(),
        }

    def reads(self, task: Task) -> dict[str, Any]:
        """What the answer depends on: the fields, not the prose made of them."""
        gestures = task.gestures and [[g.name, g.confidence] for g in task.gestures]
        return {
            'context': task.context,
            'gestures': gestures,
            'options': task.options,
            'states': task.states,
            'valences': task.valences,
        }

    async def reply(self, task: Task) -> Reply:
        """Answer one task."""
        gestures = task.gestures or ()
        unknown = Counter(g.name for g in gestures if g.name not in self.prior.affect)
        self.unknown.update(unknown)
        tone, lean = sentiment(task.context), self.prior.lean(gestures)
        z = self.prior.bias + self.prior.text * tone + self.prior.gestures * lean
        choice, confidence = _choose(z, task.states, task.valences)
        reason = self._reason(tone, gestures, unknown)
        if not task.options:
            return Reply(
                f'{reason} Taken together this leans towards {task.states[choice]} '
                f'({confidence:.0%}).'
            )
        content = {'answer': LETTERS[choice], 'confidence': round(confidence, 4), 'reason': reason}
        return Reply(json.dumps(content, ensure_ascii=False))

    async def close(self) -> None:
        """Nothing is held."""

    def _reason(self, tone: float, gestures: Sequence[Gesture], unknown: Counter[str]) -> str:
        kind = 'neutral' if abs(tone) < 0.05 else 'positive' if tone > 0 else 'negative'
        parts = [f'The words sound {kind} (sentiment {tone:+.2f}).']
        weights = self.prior.weighed(gestures)
        top = sorted(weights, key=lambda name: (-abs(weights[name]), name))[:3]
        if top:
            named = ', '.join(
                f'{name} ({"at ease" if weights[name] > 0 else "ill at ease"})' for name in top
            )
            parts.append(f'Of {len(gestures)} gestures these weigh most: {named}.')
        if unknown:
            parts.append(f'Not in the prior: {", ".join(sorted(unknown))}.')
        return ' '.join(parts)


def _choose(z: float, states: Sequence[str], valences: Sequence[float]) -> tuple[int, float]:
    """Index of the state nearest to log-odds ``z``, and a confidence in [0, 1]."""
    low, high = min(valences), max(valences)
    if low == high:
        return min(range(len(states)), key=lambda i: states[i]), 1 / len(states)
    place = low + (high - low) / (1 + math.exp(-max(-500.0, min(500.0, z))))
    nearest = sorted(range(len(states)), key=lambda i: (abs(place - valences[i]), states[i]))
    distances = [abs(place - valences[i]) / (high - low) for i in nearest]
    if len(states) == 2:
        return nearest[0], 1 - distances[0]
    shares = [math.exp(-4 * distance) for distance in distances]
    return nearest[0], shares[0] / sum(shares)


@dataclass
class _Bag:
    """One training session: its gestures, its tone, whether its state is of the pleasant half."""

    subject: str
    tone: float
    pleasant: bool
    gestures: tuple[Gesture, ...] = field(repr=False)


def fit_prior(scenarios: Sequence[Scenario], classes: Sequence[str] | None = None) -> Prior:
    """Fit the affect of gestures, and the weights of text and gestures, to labelled scenarios.

    A gesture's affect is the log of its share among the gestures of pleasant states over that among
    those of unpleasant ones (states above and below the middle of the valences), each share
    smoothed towards the gesture's overall share by as many gestures as there are classes. The two
    weights and the bias are a logistic regression's (L2, C = 1, features scaled to unit variance)
    whose gesture feature comes from folds of subjects, so that a chance pattern in the training
    sessions earns no weight; a negative weight of the gestures becomes 0.

    Args:
        scenarios: Those of split ``'test'``, or without a state, are left out.
        classes: Gestures to fit; all that occur by default.

    Raises:
        ValueError: Only one kind of state is left, or a single subject.
        ImportError: scikit-learn or vaderSentiment is not installed.
    """
    try:
        import numpy as np
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GroupKFold
    except ImportError:
        raise ImportError(
            'fitting a prior needs scikit-learn: pip install -e ".[emotion]"'
        ) from None
    bags = [bag for bag in map(_bag, scenarios) if bag is not None]
    subjects = {bag.subject for bag in bags}
    if len({bag.pleasant for bag in bags}) < 2 or len(subjects) < 2:
        raise ValueError(
            f'a prior cannot be fitted to {len(bags)} labelled training scenarios of '
            f'{len(subjects)} subjects: two subjects or more and both kinds of state are needed'
        )
    names = classes or sorted({g.name for bag in bags for g in bag.gestures})
    leans = np.zeros(len(bags))
    groups = [bag.subject for bag in bags]
    for train, test in GroupKFold(min(FOLDS, len(subjects))).split(bags, groups=groups):
        fold = _affect([bags[i] for i in train], names)
        leans[test] = [fold.lean(bags[i].gestures) for i in test]
    features = np.stack([[bag.tone for bag in bags], leans], axis=1)
    scale = features.std(axis=0)
    # The same text everywhere has a deviation of rounding noise, not of 0.
    scale[scale < 1e-9] = 1.0
    pleasant = [bag.pleasant for bag in bags]
    model = LogisticRegression(C=C).fit(features / scale, pleasant)
    if model.coef_[0, 1] < 0:  # against their own log-odds: the sign of no link at all
        features[:, 1] = 0
        model = LogisticRegression(C=C).fit(features / scale, pleasant)
    text, gestures = (model.coef_[0] / scale).tolist()
    prior = _affect(bags, names)
    return Prior(
        f'fitted on {len(bags)} sessions',
        prior.affect,
        prior.usual,
        text=text,
        gestures=gestures,
        bias=float(model.intercept_[0]),
    )


def _bag(scenario: Scenario) -> _Bag | None:
    if scenario.split == 'test' or not scenario.state:
        return None
    middle = (min(scenario.valences) + max(scenario.valences)) / 2
    valence = scenario.valences[scenario.states.index(scenario.state)]
    if valence == middle:
        return None
    tone = sentiment(scenario.context)
    return _Bag(scenario.subject, tone, valence > middle, scenario.gestures)


def _affect(bags: Sequence[_Bag], names: Sequence[str]) -> Prior:
    counts = {True: Counter(), False: Counter()}
    for bag in bags:
        for gesture in bag.gestures:
            if gesture.name in names:
                counts[bag.pleasant][gesture.name] += gesture.confidence
    totals = {kind: sum(counts[kind].values()) for kind in counts}
    everything, smooth = sum(totals.values()) + len(names), len(names)
    overall = {n: (counts[True][n] + counts[False][n] + 1) / everything for n in names}
    affect = {
        name: math.log((counts[True][name] + smooth * overall[name]) / (totals[True] + smooth))
        - math.log((counts[False][name] + smooth * overall[name]) / (totals[False] + smooth))
        for name in names
    }
    usual = sum(overall[name] * affect[name] for name in names)
    return Prior('fitted', affect, usual)
