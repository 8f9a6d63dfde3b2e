"""A learned baseline over recognised gestures: what a judge has to beat.

It follows the protocol published with iMiGUE: from the gestures that a recogniser found in a
session to the state (win or lose), fitted on training sessions, tested on others. It is a
regularised logistic regression on counts of gestures, and how often each occurs a minute.

**Where test timelines come from a recogniser, feed out-of-fold predictions for training too.** A
recogniser names the clips that it was trained on far better than new ones; a baseline fitted on
such timelines learns to trust what it never meets again. ``tools/compare.py --leave-out`` trains a
recogniser a fold and writes ``predictions.csv`` of the clips that this fold left out; scenarios
built from all those files together are out-of-fold for every training session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mg_plugins.errors import UserError

from .scenarios import Gesture, Scenario

STRENGTHS = tuple(10.0**k for k in np.arange(-4, 1.5, 0.5))


def bag_baseline(train: Sequence[Scenario], test: Sequence[Scenario], seed: int = 0) -> dict:
    """Fit to training sessions, and predict others.

    What occurs in a single training session has no feature of its own. The strength of the L2
    penalty is chosen on the training subjects only, by the log-likelihood of the true state under
    cross-validation that keeps a subject on one side. One session counts once; the states of
    ``test`` are not looked at; ``seed`` is that of the folds.

    Returns:
        ``predictions``, the likeliest state of each test scenario; ``train_sessions``, the number
        fitted on.

    Raises:
        UserError: No labelled training session, or only one state among them.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sessions = list({(s.subject, s.session): s for s in train if s.state}.values())
    if not sessions:
        raise UserError(
            "no training session with a known state: baselines need scenarios of split 'train' "
            'whose field state is filled'
        )
    states = np.array([s.state for s in sessions])
    if len(set(states)) < 2:
        raise UserError(
            f'all {len(states)} training sessions have the state {str(states[0])!r}: a baseline '
            'needs sessions of two states or more to learn from'
        )
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
    """Up to five splits by subject with every state on the fitting side; none where none exists."""
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
