"""Scenarios from sessions: a template asks, names, subjects and recordings are hidden.

Nothing here draws a random number but the salt of the ids.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mg_plugins.files import write_text

from .redact import Redactor, new_salt, opaque_id
from .scenarios import RECOGNISED, SYNTHETIC, Scenario, ScenarioError
from .sessions import (
    Session,
    sessions_from_annotations,
    sessions_from_predictions,
    sessions_from_segments,
)
from .template import Template


def load_sessions(
    paths: Sequence[str | os.PathLike], split: str | None = None, *, notes: list[str] | None = None
) -> tuple[list[Session], str]:
    """Sessions of an annotation file, or of files of predictions or segments, and their source.

    Args:
        paths: A .pkl or .npz file or a .mg folder, or .csv or .json files.
        split: For annotations, the split to take; for predictions, 'train' or 'test', which they
            are from then on.
        notes: What had to be assumed is added to it.

    Returns:
        Sessions, and what to call their source: 'synthetic' where the files say so, else the name
        of the first file or, for predictions, of its folder.
    """
    paths = [Path(path) for path in paths]
    kinds = {path.suffix for path in paths}
    if kinds == {'.csv'} or kinds == {'.json'}:
        source = paths[0].resolve().parent.name
        if split not in (None, 'train', 'test'):
            raise ScenarioError(f'the split of predictions is train or test, not {split!r}')
        if kinds == {'.json'} or 'start_s' in _header(paths[0]):
            sessions, synthetic = sessions_from_segments(paths, split=split or '')
        else:
            sessions = sessions_from_predictions(paths, split=split or '', notes=notes)
            synthetic = any(_says_synthetic(path.with_name('metrics.json')) for path in paths)
    elif len(paths) == 1 and kinds <= {'.pkl', '.npz', '.mg'}:
        from mg_plugins.data.annotations import load_annotations

        content, source = load_annotations(paths[0]), paths[0].stem
        sessions = sessions_from_annotations(content, split, notes=notes)
        synthetic = content['meta'].get('source') == 'synthetic'
    else:
        raise ScenarioError(
            'expected one annotation file (.pkl, .npz or .mg), or one or several files of '
            f'predictions or segments (.csv, .json), not {", ".join(map(str, paths)) or "nothing"}'
        )
    return sessions, SYNTHETIC if synthetic else source


def fitting_sessions(
    sessions: Iterable[Session], template: Template
) -> tuple[list[Session], dict[str, list[str]]]:
    """Sessions of a state that the template knows, or of none; and the others by reason."""
    fitting: list[Session] = []
    left_out: dict[str, list[str]] = {}
    known = ', '.join(state.name for state in template.states)
    for session in sessions:
        state = template.state(session.state)
        if session.state and not state:
            reason = f'state {session.state!r} is none of the template: {known}'
            left_out.setdefault(reason, []).append(session.id)
        else:
            fitting.append(replace(session, state=state))
    return fitting, left_out


def build_scenarios(
    sessions: Iterable[Session],
    template: Template,
    *,
    open_ended: bool = False,
    source: str,
    names: Iterable[str] = (),
    redactor: Redactor | None = None,
    salt: str | None = None,
    mapping: dict[str, str] | None = None,
    threshold: float | None = None,
) -> list[Scenario]:
    """A scenario a session, with opaque ids and redacted text, in the order of the sessions.

    Given names are masked in the names of gestures too. The order is not that of the ids: they are
    others with another salt, and what depends on the order, such as which timelines an evaluation
    exchanges, would change with every build.

    Args:
        sessions: Their states must be the template's or empty; see `fitting_sessions`.
        template: How to ask.
        open_ended: Ask for free text instead of an option.
        source: Where the sessions come from, for reports; it is not sent.
        names: Names to mask; or ``redactor``, whose counts can be read.
        salt: Of the ids; random by default, so that nobody can recompute them from known names.
        mapping: What each opaque id stands for is added to it. Never to be sent.
        threshold: Confidence below which recognised gestures were left out.
    """
    redactor, salt = redactor or Redactor(names), salt or new_salt()
    mapping = {} if mapping is None else mapping
    scenarios: dict[str, Scenario] = {}
    fixed = {
        'domain': template.name,
        'source': source,
        'question': template.open_question if open_ended else template.question,
        'options': () if open_ended else tuple(s.option for s in template.states),
        'states': tuple(s.name for s in template.states),
        'valences': tuple(s.valence for s in template.states),
    }
    for session in sessions:
        state = template.state(session.state)
        if session.state and not state:
            raise ScenarioError(
                f'session {session.id!r}: the template {template.name} has no state '
                f'{session.state!r}; it has {", ".join(fixed["states"])}'
            )
        if session.id in scenarios:
            raise ScenarioError(f'session {session.id!r} comes twice')
        person = opaque_id('person', session.subject, salt)
        recording = opaque_id('recording', session.id, salt)
        mapping |= {person: session.subject, recording: session.id}
        scenarios[session.id] = Scenario(
            id=f'{template.name}-{recording}' + '-open' * open_ended,
            subject=person,
            session=recording,
            context=template.render_context(redactor.mask(session.transcript, session.id)),
            gestures=tuple(replace(g, name=redactor.mask_names(g.name)) for g in session.gestures),
            state=state,
            split=session.split,
            origin=SYNTHETIC if source == SYNTHETIC else session.origin,
            threshold=threshold if session.origin == RECOGNISED else None,
            **fixed,
        )
    return list(scenarios.values())


def save_mapping(
    path: str | os.PathLike, ids: Mapping[str, str], persons: Mapping[str, str]
) -> None:
    """Write what ids and placeholders stand for, readable by its owner only. Never to be sent."""
    content = json.dumps({'ids': dict(ids), 'persons': dict(persons)}, ensure_ascii=False)
    write_text(path, content + '\n', private=True)


def _header(path: Path) -> list[str]:
    with suppress(OSError, UnicodeDecodeError):  # the reader says what is wrong
        with path.open(encoding='utf-8-sig') as file:
            return file.readline(10_000).strip().split(',')
    return []


def _says_synthetic(metrics: Path) -> bool:
    """Whether the metrics beside predictions are called synthetic."""
    try:
        return any(name.startswith('synthetic') for name in json.loads(metrics.read_text()))
    except (OSError, ValueError):
        return False
