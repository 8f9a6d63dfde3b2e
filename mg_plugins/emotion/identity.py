"""How well people can be told apart from what is kept of them: a probe, a lower bound."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mg_plugins.errors import UserError

from .scenarios import Scenario

FOLDS, LEVEL, DRAWS = 5, 0.95, 2000  # draws of sessions, for the interval


class Samples(NamedTuple):
    """What the probe sees: of each session its features (sessions, D) and subject."""

    name: str
    features: np.ndarray
    subjects: tuple[str, ...]


def keypoint_samples(content: Mapping[str, Any]) -> Samples:
    """Statistics of body and posture from the key points of an annotation file's ``content``.

    Mean and deviation over time, and median bone lengths, of the person with most detected joints,
    in body-centred coordinates (2D: in shoulder widths), averaged over the clips of a session.
    """
    from mg_plugins.data.layouts import get_layout
    from mg_plugins.data.skeleton import detected_joints, normalise

    if not content['meta'].get('layout'):
        wanted = 'joint layout (meta: layout), which tools/prepare_data.py --layout writes'
        raise UserError(f'the annotation file does not say its {wanted}')
    table, rows, owners = get_layout(content['meta']['layout']), [], []
    a, b = np.array(table.bones).T
    for clip in content['annotations']:
        keypoint = clip['keypoint']
        owner = [str(clip.get(key, '')).strip() for key in ('subject', 'session')]
        if not all(owner) or keypoint.shape[2] != table.num_joints:
            given = f'subject {owner[0]!r}, session {owner[1]!r} and {keypoint.shape[2]} joints'
            wanted = f'both names and the {table.num_joints} joints of {table.name} were expected'
            raise UserError(f'clip {clip["frame_dir"]!r} has {given}: {wanted}')
        detected = detected_joints(keypoint, clip.get('keypoint_score'))
        person = int(detected.sum((1, 2)).argmax())
        points, seen = normalise(keypoint, detected, table)[person].astype(float), detected[person]
        length = np.linalg.norm(points[:, a] - points[:, b], axis=-1)
        length = np.ma.median(np.ma.array(length, mask=~(seen[:, a] & seen[:, b])), 0)
        body = np.ma.array(points, mask=np.repeat(~seen[..., None], points.shape[-1], -1))
        parts = body.mean(0), body.std(0), length
        rows.append(np.concatenate([np.ma.filled(part, 0).ravel() for part in parts]))
        owners.append(owner)
    return _by_session('key points', np.array(rows), owners)


def timeline_samples(scenarios: Sequence[Scenario]) -> Samples:
    """Bags of gestures: of each session, the share of each class and gestures per minute."""
    names = sorted({g.name for s in scenarios for g in s.gestures})
    if not names:
        raise UserError('the scenarios have no gestures')
    rows = []
    for scenario in scenarios:
        count = Counter(g.name for g in scenario.gestures)
        minutes = max((g.end for g in scenario.gestures), default=0) / 60
        share = [count[name] / max(1, count.total()) for name in names]
        rows.append([*share, count.total() / minutes if minutes else 0.0])
    owners = [(s.subject, s.session) for s in scenarios]
    return _by_session('gesture timelines', np.array(rows), owners)


def probe_subjects(samples: Samples, *, shuffles: int = 200, seed: int = 0) -> dict[str, Any]:
    """Measure how well a logistic regression names the subjects of held-out sessions.

    ``accuracy`` is the share that it named, with a 95% interval ``low``, ``high`` (both equal it at
    0 and 1); ``null_high`` the 95th percentile with subjects shuffled among the sessions, ``p`` how
    often these do as well.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from tqdm import tqdm

    name, features, names = samples
    subjects, counts = np.array(names), Counter(names)
    single = sorted(subject for subject, count in counts.items() if count < 2)
    if single or len(counts) < 2:
        wanted = 'two subjects or more with two sessions or more were expected'
        few = f'these have one session only: {", ".join(single[:10]) or "none"} (leave them out)'
        raise UserError(f'{name}: {wanted}; there are {len(counts)}, of which {few}')
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    # A row is a whole session, so that no session is ever on both sides of a fold.
    folds = StratifiedKFold(min(FOLDS, *counts.values()), shuffle=True, random_state=seed)

    def named_rightly(labels: np.ndarray) -> np.ndarray:
        return cross_val_predict(model, features, labels, cv=folds) == labels

    correct, stream, null = named_rightly(subjects), np.random.default_rng(seed), []
    for _ in tqdm(range(shuffles), name, leave=False, disable=None):
        null.append(named_rightly(stream.permutation(subjects)).mean())
    draws, accuracy = stream.choice(correct, (DRAWS, len(correct))).mean(1), correct.mean()
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    shares = dict(accuracy=accuracy, low=low, high=high, chance=1 / len(counts))
    shares |= dict(null_high=np.quantile(null, LEVEL))
    shares |= dict(p=(1 + sum(value >= accuracy for value in null)) / (1 + shuffles))
    sizes = dict(subjects=len(counts), sessions=len(subjects), features=features.shape[1])
    return {'name': name, **{key: float(share) for key, share in shares.items()}, **sizes}


def _by_session(name: str, rows: np.ndarray, owners: Sequence[Sequence[str]]) -> Samples:
    """Mean of the rows of each session; ``owners`` has subject and session of each."""
    if not len(rows):
        raise UserError(f'{name}: there is nothing to probe')
    subjects: dict[str, str] = {}
    for subject, session in owners:
        if (first := subjects.setdefault(session, subject)) != subject:
            wrong = f'session {session!r} is of the subjects {first!r} and {subject!r}'
            raise UserError(f'{name}: {wrong}')
    sessions, at = np.unique([session for _, session in owners], return_inverse=True)
    features = np.stack([rows[at == k].mean(0) for k in range(len(sessions))])
    return Samples(name, features, tuple(subjects[str(session)] for session in sessions))
