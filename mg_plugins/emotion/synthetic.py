"""Scenarios of the embedded synthetic set, with and without a link of gestures and outcome."""

from collections import defaultdict
from itertools import product

import numpy as np

from mg_plugins.files import read_table

from .build import build_scenarios, load_template
from .scenarios import SYNTHETIC, Gesture, Scenario
from .sessions import Session

AGREEMENT = 0.65  # share of sessions in which what is said has the tone of the outcome
SENTENCES = read_table('emotion/sentences.json')  # what an invented player says


def synthetic_scenarios(
    linked: bool, *, seed: int = 0, open_ended: bool = False, **sizes: int
) -> list[Scenario]:
    """Sessions of the synthetic set as scenarios; the same ones for the same arguments.

    Args:
        linked: Whether the outcome shifts how often gestures occur; if not, they tell nothing, and
            nothing else differs.
        sizes: Numbers of ``subjects`` (24; a third of them, held out as in the set, in split
            'test'), of ``sessions`` of each (6), and of ``clips``, gestures in all (2000).
    """
    from mg_plugins.data.synthetic_plan import SyntheticOptions, make_plan, make_task

    options = SyntheticOptions(seed=seed, linked=linked, **sizes)
    task = make_task(options)
    plan, subjects = make_plan(options, task), options.subjects
    seconds = 1 / plan.fps[plan.session]
    spans = np.stack([plan.start * seconds, (plan.start + plan.frames - 1) * seconds], 1).tolist()
    timelines: dict[int, list[Gesture]] = defaultdict(list)
    for session, label, (start, end) in zip(plan.session.tolist(), plan.label, spans, strict=True):
        gesture = Gesture(task.names[label], round(start, 2), round(end, 2))
        timelines[session].append(gesture)
    held_out = dict(zip(plan.subject.tolist(), plan.held_out.tolist(), strict=True))
    held = np.array([held_out.get(s % subjects, False) for s in range(len(plan.outcome))])
    # Whether tone and outcome agree: by quota in each split and outcome, so that the text alone is
    # worth as much in small sets as in large ones, and without a look at the gestures.
    agrees, stream = np.zeros(len(held), bool), _stream(seed, 0)
    for test, won in product((False, True), (0, 1)):
        members = stream.permutation(np.flatnonzero((held == test) & (plan.outcome == won)))
        agrees[members[: round(AGREEMENT * len(members))]] = True
    made = [
        Session(
            id=f'V{session:04d}',
            subject=f'S{session % subjects:03d}',
            gestures=tuple(timeline),
            state='win' if plan.outcome[session] else 'lose',
            transcript=_said(plan.outcome[session] == agrees[session], _stream(seed, 1, session)),
            split='test' if held[session] else 'train',
            origin=SYNTHETIC,
        )
        for session, timeline in sorted(timelines.items())
    ]
    template, salt = load_template('post_match'), f'{SYNTHETIC} {seed}'
    return build_scenarios(made, template, open_ended=open_ended, source=SYNTHETIC, salt=salt)


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(97, *key)))


def _said(pleased: bool, stream: np.random.Generator) -> str:
    """Four sentences, one of which has a tone."""
    sentences = [str(s) for s in stream.choice(SENTENCES['neutral'], 3, replace=False)]
    tone = str(stream.choice(SENTENCES['pleased' if pleased else 'displeased']))
    sentences.insert(int(stream.integers(1, 4)), tone)
    return ' '.join(sentences)
