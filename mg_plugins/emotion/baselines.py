"""Two learned baselines over recognised gestures: what a judge has to beat.

Both follow the protocol published with iMiGUE: from the sequence of gestures that a recogniser
found in a session to the state (win or lose), fitted on training sessions, tested on others.

- :func:`bag_baseline` only counts: how often each gesture occurs, and how often a minute.
- :func:`gru_baseline` reads them in order, with durations, pauses and confidences.

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
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_sequence

from mg_plugins.errors import UserError

from .scenarios import Gesture, Scenario

OTHER = 0  # number of every name that is not in the vocabulary
STRENGTHS = tuple(10.0**k for k in np.arange(-4, 1.5, 0.5))
LONGEST = 256  # gestures that the GRU reads of one session, the latest ones
EPOCHS, PATIENCE, BATCH = 60, 12, 32


class BaselineError(UserError):
    """The training scenarios do not allow a baseline; the message says why."""


def bag_baseline(train: Sequence[Scenario], test: Sequence[Scenario], seed: int = 0) -> dict:
    """Counts of gestures and their rates a minute, by regularised logistic regression.

    The strength is chosen on the training subjects only, by the log-likelihood of the true state
    under cross-validation that keeps a subject on one side. One session counts once; the states of
    ``test`` are not looked at; ``seed`` is that of the folds.

    Returns:
        ``predictions``, the likeliest state of each test scenario; ``probabilities``, a dict from
        state to probability for each; ``train_sessions``, the number fitted on.

    Raises:
        BaselineError: No labelled training session, or only one state among them.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sessions, states, words, folds = _training(train, seed)
    # Too few subjects to choose by have the weakest trust.
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.01))
    if folds:
        grid = {'logisticregression__C': STRENGTHS}
        model = GridSearchCV(model, grid, scoring=_log_likelihood, cv=folds)
    model.fit([_bag(gestures, words) for gestures in sessions], states)
    bags = [_bag(s.gestures, words) for s in test]
    shares = model.predict_proba(bags) if bags else np.zeros((0, len(model.classes_)))
    return _result(shares, model.classes_, len(sessions))


def gru_baseline(train: Sequence[Scenario], test: Sequence[Scenario], seed: int = 0) -> dict:
    """A recurrent network of one layer over the gestures in order.

    Each step sees an embedding of the gesture's name, its duration, the pause before it (both as
    log(1 + seconds)) and its confidence; the last hidden state (32 numbers) gives the logits.
    Training stops by the loss on held-out training subjects. On the CPU, on one thread, so that the
    same seed gives the same figures.

    Args, returns and errors are those of :func:`bag_baseline`.
    """
    sessions, states, words, folds = _training(train, seed)
    classes, y = np.unique(states, return_inverse=True)
    fit, held = folds[0] if folds else (np.arange(len(y)), np.arange(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            network = _Network(len(words) + 1, len(classes))
            steps = [_steps(gestures, words) for gestures in sessions]
            _fit(network, steps, torch.from_numpy(y), fit, held)
            with torch.no_grad():
                shares = network([_steps(s.gestures, words) for s in test]).double().softmax(1)
    finally:
        torch.set_num_threads(threads)
    return _result(shares.numpy(), classes, len(sessions))


def _training(train: Sequence[Scenario], seed: int) -> tuple[list, np.ndarray, dict, list]:
    """Timeline and state of each labelled session, once each; numbers of names; and folds.

    Names of two sessions or more have a number from 1; the rest is OTHER. Folds are up to five
    splits by subject, with every state on the fitting side; none where none exists.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    sessions = list({(s.subject, s.session): s for s in train if s.state}.values())
    if not sessions:
        raise BaselineError(
            "no training session with a known state: baselines need scenarios of split 'train' "
            'whose field state is filled'
        )
    states = np.array([s.state for s in sessions])
    if len(set(states)) < 2:
        raise BaselineError(
            f'all {len(states)} training sessions have the state {str(states[0])!r}: a baseline '
            'needs sessions of two states or more to learn from'
        )
    counts = Counter(name for s in sessions for name in {g.name for g in s.gestures})
    common = sorted(name for name in counts if counts[name] > 1)
    # Numbered by appearance: opaque ids differ in every build, and must not change the folds.
    numbers = {subject: k for k, subject in enumerate(dict.fromkeys(s.subject for s in sessions))}
    folds, number = [], min(5, len(numbers), *Counter(states.tolist()).values())
    if number > 1:
        split = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
        folds = split.split(states, states, [numbers[s.subject] for s in sessions])
        folds = [(a, b) for a, b in folds if set(states[a]) == set(states) and len(b)]
    words = {name: k for k, name in enumerate(common, OTHER + 1)}
    return [s.gestures for s in sessions], states, words, folds


def _bag(gestures: Sequence[Gesture], words: dict[str, int]) -> np.ndarray:
    """Counts, rates a minute, and the rate of all together (2 * (words + 1) + 1,)."""
    numbers = [words.get(g.name, OTHER) for g in gestures]
    counts = np.bincount(numbers, minlength=len(words) + 1).astype(float)
    minutes = max((max((g.end for g in gestures), default=0.0)) / 60, 0.25)
    return np.concatenate([counts, counts / minutes, [counts.sum() / minutes]])


def _log_likelihood(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Mean log-probability of the true state; a scorer of scikit-learn's kind."""
    shares = model.predict_proba(x)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    return float(np.log(np.maximum(shares, 1e-12)).mean())


def _steps(gestures: Sequence[Gesture], words: dict[str, int]) -> tuple:
    """Names (L,) and numbers (L, 3) of a timeline; one step of nothing where it is empty."""
    before, rows = 0.0, []
    for gesture in gestures:
        rows.append((gesture.end - gesture.start, gesture.start - before, gesture.confidence))
        before = max(before, gesture.end)
    rows = np.array(rows[-LONGEST:] or [(0.0, 0.0, 0.0)], np.float32)
    rows[:, :2] = np.log1p(np.maximum(rows[:, :2], 0))
    names = [words.get(g.name, OTHER) for g in gestures][-LONGEST:] or [OTHER]
    return torch.tensor(names), torch.from_numpy(rows)


class _Network(nn.Module):
    """Logits (N, classes) of the steps of N timelines of any lengths."""

    def __init__(self, words: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 16)
        self.gru = nn.GRU(16 + 3, 32, batch_first=True)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(32, classes)

    def forward(self, steps: Sequence[tuple]) -> torch.Tensor:
        if not steps:
            return torch.zeros(0, self.head.out_features)
        rows = [torch.cat([self.embedding(names), rows], 1) for names, rows in steps]
        _, last = self.gru(pack_sequence(rows, enforce_sorted=False))
        return self.head(self.drop(last[0]))


def _fit(network: _Network, steps: list, y: torch.Tensor, fit: np.ndarray, held: np.ndarray):
    """Train in place; end with the weights of the best held-out loss (of all epochs, if none)."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.05)
    best, since, kept = float('inf'), 0, None
    for _ in range(EPOCHS if len(held) else EPOCHS // 3):
        network.train()
        for part in torch.from_numpy(fit)[torch.randperm(len(fit))].split(BATCH):
            loss = cross_entropy(network([steps[i] for i in part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        network.eval()
        if not len(held):
            continue
        with torch.no_grad():
            loss = cross_entropy(network([steps[i] for i in held]), y[held]).item()
        since += 1
        if loss < best:
            best, since = loss, 0
            kept = {k: v.clone() for k, v in network.state_dict().items()}
        if since == PATIENCE:
            break
    if kept:
        network.load_state_dict(kept)


def _result(shares: np.ndarray, classes: Sequence[str], sessions: int) -> dict:
    names = [str(c) for c in classes]
    return dict(
        predictions=[names[k] for k in shares.argmax(1)],
        probabilities=[dict(zip(names, row, strict=True)) for row in shares.tolist()],
        train_sessions=sessions,
    )
