"""The embedded judge, a word counter and no language model.

It adds up the tone of the words and an affect value for each gesture:

    t = mean VADER compound of the context's sentences that carry any
    g = tanh(sum c_i (a_i - usual) / sqrt(sum c_i))   over the gestures shown
    z = bias + text * t + gestures * g                 log-odds of the more pleasant state

with c_i a gesture's confidence and a_i its affect value; `usual` is the mean affect of an average
timeline, since most gestures of unease are seen in everybody. Without gestures g = 0.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mg_plugins.files import read_table

from ..scenarios import Gesture, Scenario
from ..tasks import LETTERS, Reply, Task

FOLDS, C = 5, 1.0  # of `fit_prior`; C is scikit-learn's inverse strength of the L2 penalty


@dataclass(frozen=True)
class Prior:
    """Affect of gestures, and how much text and gestures count."""

    name: str  # where it comes from, for people
    affect: Mapping[str, float]  # of each known gesture: documented, in [-1, 1], or log-odds
    usual: float  # mean affect in an average timeline
    # Weights; those of the documented prior: words decide, gestures tip where words say little.
    text: float = 2.0
    gestures: float = 1.0
    bias: float = 0.0  # log-odds of the more pleasant state with neither

    @staticmethod
    def documented() -> 'Prior':
        """The prior of ``affect.json``: a judgement with reasons, fitted to nothing."""
        table = read_table('emotion/judges/affect.json')
        affect = {name: entry['value'] for name, entry in table['gestures'].items()}
        return Prior('documented', affect, table['usual'])

    def lean(self, gestures: Sequence[Gesture]) -> float:
        """g of the formula above, in (-1, 1)."""
        mass = sum(g.confidence for g in gestures if g.name in self.affect)
        return math.tanh(sum(self.weighed(gestures).values()) / math.sqrt(mass)) if mass else 0.0

    def weighed(self, gestures: Sequence[Gesture]) -> dict[str, float]:
        """What each known gesture adds to the sum, all its occurrences together."""
        weights: Counter[str] = Counter()
        for g in gestures:
            if g.name in self.affect:
                weights[g.name] += g.confidence * (self.affect[g.name] - self.usual)
        return weights


@lru_cache(maxsize=16384)
def sentiment(text: str) -> float:
    """Mean VADER compound, in [-1, 1], of the sentences that carry any; 0 if none does."""
    sentences = re.findall(r'[^.!?\n]*[!?]?', text)  # of a long text it would run to one end
    scores = [_analyzer().polarity_scores(sentence)['compound'] for sentence in sentences]
    scores = [score for score in scores if score]
    return sum(scores) / len(scores) if scores else 0.0


@lru_cache
def _analyzer():
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


class LexiconJudge:
    """Answers by a `Prior` (the documented one by default) and `sentiment`, as a model would."""

    name = 'lexicon'

    def __init__(self, prior: Prior | None = None) -> None:
        self.prior = prior or Prior.documented()
        _analyzer()

    def identity(self) -> dict[str, Any]:
        prior = self.prior
        weights = {n: round(getattr(prior, n), 4) for n in ('text', 'gestures', 'bias')}
        numbers = [dict(prior.affect), prior.usual, prior.text, prior.gestures, prior.bias]
        digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:16]
        return dict(kind='lexicon', version=1, prior=prior.name, weights=weights, numbers=digest)

    def reads(self, task: Task) -> dict[str, Any]:
        """What the answer depends on: the fields, not the prose made of them."""
        gestures = task.gestures and [[g.name, g.confidence] for g in task.gestures]
        fields = {n: getattr(task, n) for n in ('context', 'options', 'states', 'valences')}
        return {'gestures': gestures, **fields}

    async def reply(self, task: Task) -> Reply:
        gestures, prior = task.gestures or (), self.prior
        unknown = {g.name for g in gestures if g.name not in prior.affect}
        tone = sentiment(task.context)
        z = prior.bias + prior.text * tone + prior.gestures * prior.lean(gestures)
        choice, confidence = _choose(z, task.states, task.valences)
        kind = 'neutral' if abs(tone) < 0.05 else 'positive' if tone > 0 else 'negative'
        reason = f'The words sound {kind} (sentiment {tone:+.2f}).'
        weights = prior.weighed(gestures)
        if top := sorted(weights, key=lambda name: (-abs(weights[name]), name))[:3]:
            named = (f'{n} ({"at ease" if weights[n] > 0 else "ill at ease"})' for n in top)
            reason += f' Of {len(gestures)} gestures these weigh most: {", ".join(named)}.'
        if unknown:
            reason += f' Not in the prior: {", ".join(sorted(unknown))}.'
        if not task.options:
            state = task.states[choice]
            return Reply(f'{reason} Taken together this leans towards {state} ({confidence:.0%}).')
        content = {'answer': LETTERS[choice], 'confidence': round(confidence, 4), 'reason': reason}
        return Reply(json.dumps(content, ensure_ascii=False))

    async def close(self) -> None:
        """Nothing is held."""


def _choose(z: float, states: Sequence[str], valences: Sequence[float]) -> tuple[int, float]:
    """The state nearest to log-odds ``z`` between least and most pleasant, and a confidence."""
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


def fit_prior(scenarios: Sequence[Scenario]) -> Prior:
    """Fit the affect of gestures, and the weights of text and gestures, to labelled scenarios.

    A gesture's affect is the log of its share among the gestures of pleasant states over that among
    those of unpleasant ones (states above and below the middle of the valences), smoothed towards
    its overall share by as many gestures as there are classes. Weights and bias are a logistic
    regression's whose gesture feature comes from folds of subjects, so that chance earns no weight;
    a negative one of the gestures becomes 0. Scenarios of split ``'test'`` are left out.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.naive_bayes import MultinomialNB

    labelled, pleasant = [], []
    for s in scenarios:
        if s.split != 'test' and s.state:
            middle = (min(s.valences) + max(s.valences)) / 2
            if (valence := s.valences[s.states.index(s.state)]) != middle:
                labelled.append(s)
                pleasant.append(valence > middle)
    pleasant, groups = np.array(pleasant), [s.subject for s in labelled]
    if len(set(pleasant)) < 2 or len(set(groups)) < 2:
        given = f'{len(labelled)} labelled training scenarios of {len(set(groups))} subjects'
        wanted = 'two subjects or more and both kinds of state are needed'
        raise ValueError(f'a prior cannot be fitted to {given}: {wanted}')
    names = sorted({g.name for s in labelled for g in s.gestures})
    seen = [[(g.name, g.confidence) for g in s.gestures] for s in labelled]
    bags = np.array([[sum(c for n, c in of if n == name) for name in names] for of in seen])

    def affect(of: np.ndarray) -> Prior:
        overall = (bags[of].sum(0) + 1) / (bags[of].sum() + len(names))
        model = MultinomialNB(alpha=len(names) * overall)
        model.partial_fit(bags[of], pleasant[of], classes=[False, True])
        values = model.feature_log_prob_[1] - model.feature_log_prob_[0]
        return Prior('fitted', dict(zip(names, values.tolist(), strict=True)), overall @ values)

    features = np.array([[sentiment(s.context), 0.0] for s in labelled])
    for train, test in GroupKFold(min(FOLDS, len(set(groups)))).split(features, groups=groups):
        fold = affect(train)
        features[test, 1] = [fold.lean(labelled[i].gestures) for i in test]
    scale = features.std(axis=0)
    scale[scale < 1e-9] = 1.0  # the same text everywhere deviates by rounding noise, not by 0
    model = LogisticRegression(C=C).fit(features / scale, pleasant)
    if model.coef_[0, 1] < 0:  # against their own log-odds: the sign of no link at all
        model.fit(features / scale * [1, 0], pleasant)
    text, gestures = (model.coef_[0] / scale).tolist()
    name, whole = f'fitted on {len(labelled)} sessions', affect(np.arange(len(labelled)))
    usual, bias = float(whole.usual), float(model.intercept_[0])
    return Prior(name, whole.affect, usual, text=text, gestures=gestures, bias=bias)
