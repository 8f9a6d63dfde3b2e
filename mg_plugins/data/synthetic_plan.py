"""Who does what when in the synthetic set: its options, classes, subjects, sessions, timelines."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from mg_plugins.files import read_table

from .classes import class_counts, get_classes

# Streams of random numbers, so that changing one part of the set leaves the others alone.
SUBJECT, SESSION, PLAN, MOTION, REPAIR, SHUFFLE, GAP = range(7)
HELD_OUT = 1 / 3
FEWEST = 4
FRAMES = ('seat', 'torso', 'head', 'other', 'none')
PER_LIMB = ('near', 'far')
REST_LEAN = 6.0


def gesture_table() -> dict:
    """Movements, landmarks, resting postures and bodies: ``synthetic_gestures.json``."""
    return read_table('data/synthetic_gestures.json')


CHANNELS = tuple(gesture_table()['channels'])
# Standard deviations of each channel: habit, from clip to clip, and slow motion during a clip.
HABIT, POSTURE, SWAY = np.array(list(gesture_table()['channels'].values())).T
FINGERS = gesture_table()['fingertips']
# What a clip draws, one row a clip; a field added at the end changes no other.
NORMALS, UNIFORMS = (
    np.dtype([(name, 'f8', tuple(shape)) for name, shape in fields.items()])
    for fields in gesture_table()['draws'].values()
)


class Rows(dict):
    """Arrays by name, one row of each for every movement, subject or clip; also as attributes."""

    __getattr__ = dict.__getitem__

    def take(self, rows: np.ndarray) -> 'Rows':
        """The given rows, one a clip."""
        return Rows({k: v.take(rows) if isinstance(v, Rows) else v[rows] for k, v in self.items()})


def compile_movements(entries: list[dict], posture: str) -> Rows:
    """Entries of the gesture table (which explains them) as arrays, row k for class k.

    Of each hand, near and far (K, 2, …): ``frame`` (an index into ``FRAMES``), ``at``, ``reach``,
    ``pole`` and ``rub``; of each class ``fingers`` (K, 5), ``body`` and ``sway`` (K, 12) and so on.
    """
    table, rows = gesture_table(), []
    rests = [rest['name'] for rest in table['rests'][posture]]
    nowhere = table['landmarks']['nowhere']
    for entry in ({**table['defaults'], **entry} for entry in entries):
        marks = [{**nowhere, **table['landmarks'][entry[limb]]} for limb in PER_LIMB]
        row = {key: [mark[key] for mark in marks] for key in ('at', 'reach', 'pole')}
        row['frame'] = [FRAMES.index(mark['frame']) for mark in marks]
        row |= {key: [entry[key].get(name, 0) for name in CHANNELS] for key in ('body', 'sway')}
        as_is = ('hz', 'approach', 'rub_share', 'stay', 'both', 'foot', 'wander')
        row |= {key: entry[key] for key in as_is}
        row['fingers'] = table['fingers'][entry['fingers']]
        row['rub'] = np.outer((1, entry['rub_far']), entry['rub'])
        rows.append(row)
    made = {key: np.array([row[key] for row in rows], float) for key in rows[0]}
    starts = [entry.get('from') for entry in entries]
    return Rows(made, rest=np.array([rests.index(s) if s in rests else -1 for s in starts]))


def draw_subjects(rngs: list[np.random.Generator], posture: str) -> Rows:
    """Bodies and habits, a subject from each generator, row s for subject s.

    ``size`` are lengths by name (``skull`` is a factor), ``habit`` (S, 12) is of the channels,
    ``rest_weights`` (S, R) say how often each rest is taken, ``right_handed`` (S,) are shares.
    """
    weights = np.array([rest['weight'] for rest in gesture_table()['rests'][posture]], float)
    normal = np.array([rng.standard_normal(40) for rng in rngs])
    stature = np.exp(0.05 * normal[:, 0])
    size = {
        name: length * stature * np.exp(0.04 * normal[:, 1 + i])
        for i, (name, length) in enumerate(gesture_table()['proportions'].items())
    }
    habit = HABIT * normal[:, 11:23]
    habit[:, 0] += REST_LEAN if posture == 'seated' else 0
    liking = np.array([rng.standard_normal(len(weights)) for rng in rngs])
    return Rows(
        size=Rows(size, skull=np.exp(0.04 * normal[:, 10])),
        habit=habit,
        rest_habit=0.025 * normal[:, 23:29].reshape(-1, 2, 3),
        touch_habit=0.008 * normal[:, 29:35].reshape(-1, 2, 3),
        rest_weights=weights * np.exp(0.8 * liking),
        right_handed=np.where(normal[:, 35] > -1.2, 0.8, 0.2),
        tempo=np.exp(0.15 * normal[:, 36]),
        vigour=np.exp(0.15 * normal[:, 37]),
    )


@dataclass(frozen=True)
class SyntheticOptions:
    """Options of the synthetic set."""

    seed: int = 0  #: Everything random follows from it.
    subjects: int = 24  #: People, at least 2; a third of them is held out.
    clips: int = 2000  #: In all, at least one a subject.
    linked: bool = True  #: Whether the outcome of a session shifts how often its gestures occur.
    sessions: int = 6  #: Of each subject, half of them won.
    dataset: str = 'imigue'  #: Whose classes, layout and posture to imitate.
    layout: str | None = None  #: Another joint layout than the data set's own.
    classes: int | None = None  #: Another number of classes; movements are generic then.
    noise: float = 1.0  #: Factor of the detector's errors; 0 gives exact joints.
    recordings: bool = False  #: Whole sessions, with segments in place of labels.

    def __post_init__(self) -> None:
        known = gesture_table()['datasets']
        if self.dataset not in known:
            raise ValueError(f'dataset={self.dataset!r}: there is one for {", ".join(known)}')
        least = dict(seed=0, subjects=2, sessions=1, clips=self.subjects, noise=0, classes=2)
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ValueError(f'{name}={value!r}: must be at least {bound}')

    @property
    def variant(self) -> dict:
        """The entry of the imitated data set: layout, classes, dims, posture, frames."""
        return gesture_table()['datasets'][self.dataset]

    def stream(self, *key: int) -> np.random.Generator:
        """A generator of its own for every subject, session and clip."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


def make_task(options: SyntheticOptions) -> Rows:
    """K ``names``, ``movements`` (``named``: of these names), (K,) ``counts``, pull to 'win'."""
    source = options.variant['classes']
    names = get_classes(source) if isinstance(source, str) else None
    if options.classes not in (None, len(names or ())):
        names, source = None, options.classes
    names = names or tuple(f'movement {k:02d}' for k in range(int(source)))
    try:
        counts = np.array(class_counts(source), float)
    except KeyError:
        counts = np.ones(len(names))
    table = gesture_table()['movements']
    named = all(name in table for name in names)
    if named:
        moves = [{**table.get(table[name].get('like'), {}), **table[name]} for name in names]
        win = np.array([entry['win'] for entry in moves])
    else:
        moves = generic_movements(len(names))
        win = np.random.default_rng(SHUFFLE).normal(0, 0.6, len(names))
    return Rows(names=names, movements=moves, counts=counts, win=win, named=named)


def generic_movements(number: int) -> list[dict]:
    """Movements for classes without a hand-written one: class k is the same in every set."""
    table = gesture_table()['generic']
    targets, rhythms = table['targets'], table['rhythms']
    simple = [{'near': a, **rhythm} for a in targets for rhythm in rhythms]
    simple += [{'far': entry['near'], **entry} for entry in simple]
    simple += [{**body, 'hz': r['hz']} for body in table['whole_body'] for r in rhythms[1:]]
    pairs = [{'near': a, 'far': b, **r} for a, b in permutations(targets, 2) for r in rhythms]
    most = len(simple) + len(pairs)
    if number > most:
        raise ValueError(f'classes={number}: there are {most} generic movements at most')
    shuffle = np.random.default_rng(SHUFFLE)
    return [part[i] for part in (simple, pairs) for i in shuffle.permutation(len(part))][:number]


def make_plan(options: SyntheticOptions, task: Rows) -> Rows:
    """A row a clip: which one is what; a row a session: ``outcome`` (1 is 'win'), fps, view."""
    total = options.subjects * options.sessions
    session = np.arange(options.clips) % total
    subject = session % options.subjects
    held = np.zeros(options.subjects, bool)
    order = options.stream(SUBJECT).permutation(options.subjects)
    held[order[: max(1, round(options.subjects * HELD_OUT))]] = True

    rate, outcome = _rates(options, task)
    draw = np.array([options.stream(PLAN, i).random(4) for i in range(options.clips)])
    share = np.cumsum(rate, 1)[session]
    label = (draw[:, :1] * share[:, -1:] >= share).sum(1)
    for part in (held[subject], ~held[subject]):
        _repair(options, label, np.flatnonzero(part), len(task.names))

    shortest, longest = options.variant['frames']
    frames = np.round(shortest * (longest / shortest) ** draw[:, 1:3].mean(1)).astype(int)
    rates = (25.0, 29.97, 30.0) if options.variant['dims'] == 2 else (30.0,)
    streams = [options.stream(SESSION, s) for s in range(total)]
    fps = np.array([rates[stream.integers(len(rates))] for stream in streams])
    view = np.array([stream.standard_normal(6) for stream in streams])
    # A pause of up to 8 seconds before each clip.
    pause = (1 + 8 * draw[:, 3] * fps[session]).astype(int)
    start = np.empty(options.clips, int)
    for s in range(min(total, options.clips)):
        start[s::total] = np.cumsum((pause + frames)[s::total]) - frames[s::total]
    clips = dict(label=label, subject=subject, session=session, frames=frames, start=start)
    return Rows(clips, held_out=held[subject], outcome=outcome, fps=fps, view=view)


def _rates(options: SyntheticOptions, task: Rows) -> tuple[np.ndarray, np.ndarray]:
    """(sessions, K) rate of each class, and (sessions,) outcome: 1 is 'win'."""
    number, people = len(task.names), options.subjects
    liking, won = [], []
    for k in range(people):
        stream = options.stream(SUBJECT, k, 1)
        liking.append(0.4 * stream.standard_normal(number))
        liking[-1][stream.choice(number, min(3, number), replace=False)] += 1
        # With an odd number of sessions every second subject wins the odd one.
        wins = (options.sessions + k % 2) // 2
        won.append(stream.permutation(np.arange(options.sessions) < wins))
    outcome = np.array(won).T.ravel()
    pull = np.where(outcome, 1, -1)[:, None] * task.win * options.linked
    liking = np.tile(liking, (options.sessions, 1))
    return task.counts * np.exp(liking + pull), outcome.astype(int)


def _repair(options: SyntheticOptions, label: np.ndarray, part: np.ndarray, number: int) -> None:
    """Gives rare classes a few of the commonest class's clips, in place, if there are enough."""
    fewest = min(FEWEST, len(part) // (2 * number))
    stream = options.stream(REPAIR, int(part[0]) if len(part) else 0)
    for k in range(number):
        while (label[part] == k).sum() < fewest:
            common = np.bincount(label[part], minlength=number).argmax()
            label[stream.choice(part[label[part] == common])] = k
