"""What the synthetic bodies are made of: movements and subjects as arrays, and what a clip draws.

Lengths in metres, angles in degrees, times in seconds; axes as in `synthetic_motion`.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

CHANNELS = (
    'lean', 'side', 'twist', 'rise', 'shift',
    'pitch', 'yaw', 'roll', 'forward', 'sink', 'raise_near', 'raise_far',
)  # fmt: skip
# Standard deviation of a subject's habit in each channel.
HABIT = np.array([4, 1.5, 3, 0.008, 0.01, 4, 5, 2, 0.008, 0.004, 0.006, 0.006])
REST_LEAN = 6.0
FRAMES = ('seat', 'torso', 'head', 'other')
PER_LIMB = ('near', 'far')
NO_HAND = -1

PROPORTIONS = {
    'spine': 0.50, 'half_shoulders': 0.18, 'upper_arm': 0.29, 'forearm': 0.26, 'hand': 0.18,
    'skull': 1.0, 'half_hips': 0.09, 'thigh': 0.43, 'shank': 0.41,
}  # fmt: skip

# What a clip draws, one row a clip; a field added at the end changes no other.
NORMALS = np.dtype(
    [
        ('posture', 'f8', 12),
        ('rest', 'f8', (2, 3)),
        ('target', 'f8', (2, 3)),
        ('reach', 'f8', (2, 3)),
        ('gain', 'f8'),
        ('speed', 'f8'),
        ('view', 'f8', 6),
        ('quality', 'f8'),
        ('wander', 'f8'),
    ]
)
UNIFORMS = np.dtype(
    [
        ('hand', 'f8'),
        ('rest', 'f8', 3),
        ('timing', 'f8', 4),
        ('rub', 'f8', 3),
        ('both', 'f8'),
        ('stay', 'f8'),
        ('sway', 'f8', (18, 3, 2)),
        ('busy', 'f8', 2),
    ]
)


@functools.cache
def gesture_table() -> dict:
    """The movements, landmarks and resting postures, as ``synthetic_gestures.json`` gives them."""
    path = Path(__file__).with_name('synthetic_gestures.json')
    return json.loads(path.read_text(encoding='utf-8'))


class Rows(dict):
    """Arrays by name, one row of each for every movement or subject; also as attributes."""

    __getattr__ = dict.__getitem__

    def take(self, rows: np.ndarray) -> Rows:
        """The given rows, one a clip."""
        return Rows({k: v.take(rows) if isinstance(v, Rows) else v[rows] for k, v in self.items()})


def compile_movements(entries: list[dict], posture: str) -> Rows:
    """Entries of the gesture table as arrays, row k for class k; ``posture`` names the rests.

    Returns:
        frame: (K, 2) index into ``FRAMES`` for the near and the far hand, ``NO_HAND`` if unused.
        at, reach, pole: (K, 2, 3) target point, hand direction and elbow direction, near-side axes.
        fingers: (K, 5) how far each finger is stretched.
        rub: (K, 2, 3) amplitude of the to and fro; hz: (K, 2) its range of rates;
            rub_share: (K,) share of clips that rub.
        body, sway: (K, 12) held and oscillating part of each channel.
        foot: (K, 3) displacement of the near foot.
        wander: (K,) amplitude of free gesturing.
        approach: (K, 2) range of the time to reach the target, in seconds.
        stay, both: (K,) shares of clips that do not return, and that use the far hand.
        rest: (K,) resting posture a movement must start from, -1 for any.
    """
    table = gesture_table()
    rests = [rest['name'] for rest in table['rests'][posture]]
    rows = [_compile_entry(entry, table, rests) for entry in entries]
    return Rows({name: np.array([row[name] for row in rows]) for name in rows[0]})


def _compile_entry(entry: dict, table: dict, rests: list[str]) -> dict:
    marks = [table['landmarks'].get(entry.get(limb)) for limb in PER_LIMB]
    rub = np.array(entry.get('rub', (0, 0, 0)), float)
    channels = {
        field: [float(entry.get(field, {}).get(name, 0)) for name in CHANNELS]
        for field in ('body', 'sway')
    }
    return {
        **channels,
        'frame': [FRAMES.index(mark['frame']) if mark else NO_HAND for mark in marks],
        'at': [mark['at'] if mark else (0, 0, 0) for mark in marks],
        'reach': [mark['reach'] if mark else (0, 0, 0) for mark in marks],
        'pole': [(mark or {}).get('pole', table['default_pole']) for mark in marks],
        'fingers': table['fingers'][entry.get('fingers', 'open')],
        'rub': [rub, rub * entry.get('rub_far', 1)],
        'hz': entry.get('hz', (0.5, 1.5)),
        'rub_share': float(entry.get('rub_share', 1)),
        'foot': np.array(entry.get('foot', (0, 0, 0)), float),
        'wander': float(entry.get('wander', 0)),
        'approach': entry.get('approach', (0.25, 0.55)),
        'stay': float(entry.get('stay', 0.1)),
        'both': float(entry.get('both', 1)),
        'rest': rests.index(entry['from']) if entry.get('from') in rests else -1,
    }


def draw_subjects(rngs: list[np.random.Generator], posture: str) -> Rows:
    """Bodies and habits, a subject from each generator, row s for subject s.

    Returns:
        size: name in ``PROPORTIONS`` to (S,) lengths in metres (``skull`` is a factor).
        habit: (S, 12) usual value of each channel. rest_habit, touch_habit: (S, 2, 3) usual
            offset of the hands at rest and at a target.
        rest_weights: (S, R) how often each resting posture is taken.
        right_handed: (S,) share of one-handed movements done by the right hand.
        tempo, vigour: (S,) factors of speed and of amplitude.
    """
    weights = np.array([rest['weight'] for rest in gesture_table()['rests'][posture]], float)
    normal = np.array([rng.standard_normal(40) for rng in rngs])
    stature = np.exp(0.05 * normal[:, 0])
    size = {
        name: length * stature * np.exp(0.04 * normal[:, 1 + i])
        for i, (name, length) in enumerate(PROPORTIONS.items())
    }
    size['skull'] = np.exp(0.04 * normal[:, 10])
    habit = HABIT * normal[:, 11:23]
    habit[:, 0] += REST_LEAN if posture == 'seated' else 0
    liking = np.array([rng.standard_normal(len(weights)) for rng in rngs])
    return Rows(
        size=Rows(size),
        habit=habit,
        rest_habit=0.025 * normal[:, 23:29].reshape(-1, 2, 3),
        touch_habit=0.008 * normal[:, 29:35].reshape(-1, 2, 3),
        rest_weights=weights * np.exp(0.8 * liking),
        right_handed=np.where(normal[:, 35] > -1.2, 0.8, 0.2),
        tempo=np.exp(0.15 * normal[:, 36]),
        vigour=np.exp(0.15 * normal[:, 37]),
    )
