"""Scenarios from sessions: a template asks, names, subjects and recordings are hidden."""

import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mg_plugins.errors import UserError, counted
from mg_plugins.files import read_json, read_table

from .redact import Redactor, opaque_id
from .scenarios import RECOGNISED, SYNTHETIC, Gesture, KnownOnly, Scenario, Text, Valence, check
from .sessions import Session

FOLDER = Path(__file__).with_name('templates')
SLOT = '{transcript}'
NO_TRANSCRIPT = '(What was said is not known.)'
AGREEMENT = 0.65  # share of synthetic sessions in which what is said has the tone of the outcome
SENTENCES = read_table('emotion/sentences.json')  # what an invented player says


@dataclass(frozen=True)
class State(KnownOnly):
    """One answer to the question."""

    name: Text  # what data sets call it
    option: Text  # the answer that is offered
    valence: Valence  # how pleasant it is, −1 to 1; read by the lexicon judge only


@dataclass(frozen=True)
class Template(KnownOnly):
    """How scenarios of one domain are asked."""

    name: Text
    instruction: Text  # one or two sentences on the situation, for the system text
    context: Text  # what was said takes the place of {transcript}
    question: Text  # asked with the options of the states
    open_question: Text  # asked without options
    rubric: Annotated[tuple[Text, ...], Field(min_length=1)]  # what a full open answer mentions
    states: Annotated[tuple[State, ...], Field(min_length=2)]

    def render_context(self, transcript: str) -> str:
        """The context text with a redacted transcript, or a note where there is none, in it."""
        return self.context.replace(SLOT, transcript.strip() or NO_TRANSCRIPT)

    def state(self, name: str) -> str:
        """The template's own spelling of a state, whatever its case; empty if it has none such."""
        return {s.name.casefold(): s.name for s in self.states}.get(name.strip().casefold(), '')


def template_names() -> list[str]:
    """Names of the templates that come with the package."""
    return sorted(path.stem for path in FOLDER.glob('*.json'))


def load_template(name_or_path: str | os.PathLike) -> Template:
    """Read a template of the package by its name, or one's own by its path."""
    text, names = os.fspath(name_or_path), template_names()
    path = FOLDER / f'{text}.json' if text in names else Path(text)
    if not path.is_file():
        known = f'{", ".join(names)}, or the path of a .json file (copy one from {FOLDER})'
        raise UserError(f'there is no template {text!r}: expected one of {known}')
    made = check(Template, read_json(path), str(path))
    taken = made.name in names and path.resolve().parent != FOLDER
    if taken or not re.fullmatch(r'[\w.-]+', made.name):
        own = f'no name of a template of the package ({", ".join(names)}) were expected'
        raise UserError(f'{path}, field name: letters, digits, _ - . and {own}, not {made.name!r}')
    if made.context.count(SLOT) != 1:
        raise UserError(f'{path}, field context: {SLOT} must stand in it, once')
    for part in ('name', 'option'):
        if len({getattr(s, part).casefold() for s in made.states}) < len(made.states):
            raise UserError(f'{path}, field states: each with a {part} of its own was expected')
    return made


def shipped_templates(scenarios: Sequence[Scenario]) -> dict[str, Template]:
    """The package's own templates that these scenarios were built with, by domain."""
    names = {s.domain for s in scenarios} & set(template_names())
    return {name: load_template(name) for name in sorted(names)}


def build_scenarios(
    sessions: Iterable[Session],
    template: Template,
    *,
    open_ended: bool = False,
    source: str,
    redactor: Redactor | None = None,
    salt: str | None = None,
    threshold: float | None = None,
    notes: list[str] | None = None,
) -> list[Scenario]:
    """A scenario a session, with opaque ids and redacted text.

    The order stays that of the sessions (ids differ by salt): which timelines an evaluation
    exchanges depends on it.

    Args:
        sessions: One whose state is neither the template's nor empty is left out.
        template: How to ask; for free text if ``open_ended``.
        source: Where the sessions come from, for reports; it is not sent.
        redactor: Masks given names in what was said and in names of gestures, and counts.
        salt: Of the ids; random by default, so that nobody can recompute them from known names.
        threshold: Confidence below which gestures are left out.
        notes: What was left out is added to it.
    """
    redactor, salt = redactor or Redactor(), salt or secrets.token_hex(16)
    scenarios: dict[str, Scenario] = {}
    unknown: dict[str, list[str]] = {}
    states = tuple(s.name for s in template.states)
    for session in sessions:
        state = template.state(session.state)
        if session.state and not state:
            unknown.setdefault(session.state, []).append(session.id)
            continue
        if session.id in scenarios:
            raise UserError(f'session {session.id!r} comes twice')
        recording = opaque_id('recording', session.id, salt)
        gestures = [g for g in session.gestures if g.confidence >= (threshold or 0)]
        scenarios[session.id] = Scenario(
            id=f'{template.name}-{recording}' + '-open' * open_ended,
            subject=opaque_id('person', session.subject, salt),
            session=recording,
            domain=template.name,
            source=source,
            context=template.render_context(redactor.mask(session.transcript, session.id)),
            question=template.open_question if open_ended else template.question,
            options=() if open_ended else tuple(s.option for s in template.states),
            states=states,
            valences=tuple(s.valence for s in template.states),
            gestures=tuple(replace(g, name=redactor.mask_names(g.name)) for g in gestures),
            state=state,
            split=session.split,
            origin=SYNTHETIC if source == SYNTHETIC else session.origin,
            threshold=threshold if session.origin == RECOGNISED else None,
        )
    has = f'the states of the template {template.name}: {", ".join(states)}'
    left_out = [f'state {state!r} is none of {has}' for state in unknown]
    if not scenarios:
        why = left_out[0] if left_out else 'there are no clips'
        raise UserError(f'no session is left: {why}; is the template right?')
    if notes is not None:
        for ids, why in zip(unknown.values(), left_out, strict=True):
            notes.append(f'{counted(len(ids), "sessions")} left out, such as {ids[0]}: {why}')
    return list(scenarios.values())


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
        timelines[session].append(Gesture(task.names[label], round(start, 2), round(end, 2)))
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
