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
from typing import TYPE_CHECKING, Any

import numpy as np

from mg_plugins.errors import UserError

from .scenarios import Gesture, Scenario

if TYPE_CHECKING:
    import torch

OTHER = 0  # number of every name that is not in the vocabulary
STRENGTHS = tuple(10.0**k for k in np.arange(-4, 1.5, 0.5))
LONGEST = 256  # gestures that the GRU reads of one session, the latest ones
EPOCHS, PATIENCE, BATCH = 60, 12, 32


class BaselineError(UserError):
    """The training scenarios do not allow a baseline; the message says why."""


def bag_baseline(train: Sequence[Scenario], test: Sequence[Scenario], seed: int = 0) -> dict:
    """Counts of gestures and their rates a minute, by regularised logistic regression.

    The strength is chosen on the training subjects only, by the log-likelihood of the true state
    under cross-validation that keeps a subject on one side.

    Args:
        train: Scenarios with a known state; one session counts once.
        test: Scenarios to predict; their states are not looked at.
        seed: Of the folds.

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

    sessions, states, subjects = _training(train)
    words = _vocabulary(sessions)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    x = np.stack([_bag(gestures, words) for gestures in sessions])
    folds = _folds(states, subjects, seed)
    if folds:
        grid = {'logisticregression__C': STRENGTHS}
        model = GridSearchCV(model, grid, scoring=_log_likelihood, cv=folds)
    else:  # too few subjects to choose by
        model.set_params(logisticregression__C=0.01)
    model.fit(x, states)
    if not test:
        return _result(np.zeros((0, len(model.classes_))), model.classes_, len(sessions))
    shares = model.predict_proba(np.stack([_bag(s.gestures, words) for s in test]))
    return _result(shares, model.classes_, len(sessions))


def gru_baseline(train: Sequence[Scenario], test: Sequence[Scenario], seed: int = 0) -> dict:
    """A recurrent network of one layer over the gestures in order.

    Each step sees an embedding of the gesture's name, its duration, the pause before it (both as
    log(1 + seconds)) and its confidence; the last hidden state (32 numbers) gives the logits.
    Training stops by the loss on held-out training subjects. On the CPU, on one thread, so that the
    same seed gives the same figures.

    Args, returns and errors are those of :func:`bag_baseline`.
    """
    import torch

    sessions, states, subjects = _training(train)
    words = _vocabulary(sessions)
    classes, y = np.unique(states, return_inverse=True)
    folds = _folds(states, subjects, seed)
    fit, held = folds[0] if folds else (np.arange(len(y)), np.arange(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            network = _network(len(words) + 1, len(classes))
            steps = [_steps(gestures, words) for gestures in sessions]
            _fit(network, steps, torch.from_numpy(y), fit, held)
            with torch.no_grad():
                logits = _forward(network, [_steps(s.gestures, words) for s in test])
        shares = logits.double().softmax(1).numpy()
    finally:
        torch.set_num_threads(threads)
    return _result(shares, classes, len(sessions))


def _training(train: Sequence[Scenario]) -> tuple[list[tuple[Gesture, ...]], np.ndarray, list[str]]:
    """Timeline, state and subject of each labelled session, once each."""
    sessions = {(s.subject, s.session): s for s in train if s.state}
    if not sessions:
        raise BaselineError(
            "no training session with a known state: baselines need scenarios of split 'train' "
            'whose field state is filled'
        )
    states = np.array([s.state for s in sessions.values()])
    if len(set(states)) < 2:
        raise BaselineError(
            f'all {len(states)} training sessions have the state {str(states[0])!r}: a baseline '
            'needs sessions of two states or more to learn from'
        )
    return [s.gestures for s in sessions.values()], states, [s.subject for s in sessions.values()]


def _vocabulary(sessions: Sequence[Sequence[Gesture]]) -> dict[str, int]:
    """Numbers from 1 for names of two training sessions or more; the rest is OTHER."""
    counts = Counter(name for gestures in sessions for name in {g.name for g in gestures})
    return {name: k for k, name in enumerate(sorted(n for n in counts if counts[n] > 1), OTHER + 1)}


def _bag(gestures: Sequence[Gesture], words: dict[str, int]) -> np.ndarray:
    """Counts, rates a minute, and the rate of all together (2 * (words + 1) + 1,)."""
    numbers = [words.get(g.name, OTHER) for g in gestures]
    counts = np.bincount(numbers, minlength=len(words) + 1).astype(float)
    minutes = max((max((g.end for g in gestures), default=0.0)) / 60, 0.25)
    return np.concatenate([counts, counts / minutes, [counts.sum() / minutes]])


def _folds(states: np.ndarray, subjects: Sequence[str], seed: int) -> list[tuple]:
    """Up to five splits by subject, every state on the fitting side; none where none exists."""
    from sklearn.model_selection import StratifiedGroupKFold

    # Numbered by appearance: opaque ids differ in every build, and must not change the folds.
    numbers = {subject: number for number, subject in enumerate(dict.fromkeys(subjects))}
    subjects = [numbers[subject] for subject in subjects]
    number = min(5, len(numbers), *Counter(states.tolist()).values())
    if number < 2:
        return []
    split = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    folds = split.split(states, states, subjects)
    return [(a, b) for a, b in folds if set(states[a]) == set(states) and len(b)]


def _log_likelihood(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Mean log-probability of the true state; a scorer of scikit-learn's kind."""
    shares = model.predict_proba(x)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    return float(np.log(np.maximum(shares, 1e-12)).mean())


def _steps(gestures: Sequence[Gesture], words: dict[str, int]) -> tuple:
    """Names (L,) and numbers (L, 3) of a timeline; one step of nothing where it is empty."""
    import torch

    before, rows = 0.0, []
    for gesture in gestures:
        rows.append((gesture.end - gesture.start, gesture.start - before, gesture.confidence))
        before = max(before, gesture.end)
    rows = np.array(rows[-LONGEST:] or [(0.0, 0.0, 0.0)], np.float32)
    rows[:, :2] = np.log1p(np.maximum(rows[:, :2], 0))
    names = [words.get(g.name, OTHER) for g in gestures][-LONGEST:] or [OTHER]
    return torch.tensor(names), torch.from_numpy(rows)


def _network(words: int, classes: int) -> torch.nn.ModuleDict:
    from torch import nn

    return nn.ModuleDict(
        dict(
            embedding=nn.Embedding(words, 16),
            gru=nn.GRU(16 + 3, 32, batch_first=True),
            drop=nn.Dropout(0.3),
            head=nn.Linear(32, classes),
        )
    )


def _forward(network: torch.nn.ModuleDict, steps: Sequence[tuple]) -> torch.Tensor:
    """Logits (N, classes) of N timelines of any lengths."""
    import torch
    from torch.nn.utils.rnn import pack_sequence

    if not steps:
        return torch.zeros(0, network['head'].out_features)
    rows = [torch.cat([network['embedding'](names), rows], 1) for names, rows in steps]
    _, last = network['gru'](pack_sequence(rows, enforce_sorted=False))
    return network['head'](network['drop'](last[0]))


def _fit(network: torch.nn.ModuleDict, steps: list, y: Any, fit: np.ndarray, held: np.ndarray):
    """Train in place; end with the weights of the best held-out loss (of all epochs, if none)."""
    import torch
    from torch.nn.functional import cross_entropy

    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.05)
    best, since, kept = float('inf'), 0, None
    for _ in range(EPOCHS if len(held) else EPOCHS // 3):
        network.train()
        for part in torch.from_numpy(fit)[torch.randperm(len(fit))].split(BATCH):
            loss = cross_entropy(_forward(network, [steps[i] for i in part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        network.eval()
        if not len(held):
            continue
        with torch.no_grad():
            loss = cross_entropy(_forward(network, [steps[i] for i in held]), y[held]).item()
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
