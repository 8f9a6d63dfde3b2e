"""What a judge is asked about: a scenario, its micro-gestures, and the JSON lines they live in.

One line of a scenarios file is one JSON object:

    {"version": 1, "id": "…", "source": "synthetic", "split": "test", "subject": "p03",
     "session": "v17", "domain": "post_match", "context": "…",
     "gestures": [{"name": "rub hand", "start": 3.2, "end": 4.0, "confidence": 0.81}],
     "question": "…", "options": ["won", "lost"], "states": ["win", "lose"],
     "valences": [1, -1], "state": "win"}

A multiple-choice scenario has two options or more; an open-ended one has ``"options": []``.
Needs the standard library only.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mg_plugins.errors import UserError

VERSION = 1
SPLITS = ('train', 'test', '')
LONGEST = 1e7  # seconds; a session of months is a mistake
SHOWN = 80  # characters of a wrong value that a message repeats


class ScenarioError(UserError):
    """A scenario that does not follow the schema; the message names line and field."""


@dataclass(frozen=True)
class Gesture:
    """One micro-gesture of a timeline.

    Attributes:
        name: Class name, as the data set calls it.
        start: Seconds from the beginning of the session.
        end: Seconds from the beginning of the session, not before ``start``.
        confidence: The recogniser's, in [0, 1]; 1 for ground truth.
    """

    name: str
    start: float
    end: float
    confidence: float = 1.0


@dataclass(frozen=True)
class Scenario:
    """One question about one session.

    Attributes:
        id: Opaque and unique in a file.
        subject: Opaque id of the person; intervals are clustered by it.
        session: Opaque id of the recording.
        domain: Name of the template that it was built with.
        source: Where it comes from; figures of ``'synthetic'`` are called so everywhere.
        split: ``'train'`` for fitting priors and baselines, ``'test'`` for judging, or empty.
        context: What was said and known, redacted.
        gestures: The session's timeline, by start.
        question: What is asked.
        options: Answers to choose from; none for an open-ended question.
        states: Short name of the state behind each option (or, open-ended, of each possible one).
        valences: How pleasant each state is, −1 to 1. Read by the lexicon judge only, never sent.
        state: The true one of ``states``, or empty where it is not known.
    """

    id: str
    subject: str
    session: str
    domain: str
    source: str
    context: str
    gestures: tuple[Gesture, ...]
    question: str
    options: tuple[str, ...]
    states: tuple[str, ...]
    valences: tuple[float, ...]
    state: str = ''
    split: str = ''

    @property
    def open_ended(self) -> bool:
        """Whether the answer is free text."""
        return not self.options

    def to_json(self) -> dict[str, Any]:
        """The object that stands on this scenario's line."""
        return {'version': VERSION, **asdict(self)}


def scenario_from_json(content: Any, where: str = 'scenario') -> Scenario:
    """Check one JSON object and make a scenario of it.

    Args:
        content: The parsed object.
        where: What messages begin with, such as ``'file.jsonl, line 3'``.

    Raises:
        ScenarioError: What is wrong, with the field.
    """
    if not isinstance(content, Mapping):
        raise ScenarioError(f'{where}: a JSON object was expected, not {_kind(content)}')
    if content.get('version') != VERSION:
        raise ScenarioError(
            f'{where}, field version: {content.get("version")!r}, but this program reads {VERSION}'
        )
    known = {field.name for field in fields(Scenario)}
    unknown = sorted(set(content) - known - {'version'})
    if unknown:
        raise ScenarioError(
            f'{where}, field {unknown[0][:SHOWN]}: not in the schema; known: '
            f'{", ".join(sorted(known))}'
        )
    texts = {
        name: _text(content, name, where, empty=name in ('context',))
        for name in ('id', 'subject', 'session', 'domain', 'source', 'context', 'question')
    }
    for name in ('state', 'split'):
        texts[name] = _text({name: '', **content}, name, where, empty=True)
    if texts['split'] not in SPLITS:
        raise ScenarioError(f'{where}, field split: {texts["split"]!r} is none of {list(SPLITS)}')
    options = _texts(content, 'options', where)
    states = _texts(content, 'states', where)
    valences = tuple(
        _number(value, f'{where}, field valences[{i}]', -1, 1)
        for i, value in enumerate(_list(content, 'valences', where))
    )
    if len(options) == 1 or len(set(options)) < len(options):
        raise ScenarioError(f'{where}, field options: two different ones or more, or none at all')
    if len(states) < 2 or len(set(states)) < len(states):
        raise ScenarioError(f'{where}, field states: two different ones or more were expected')
    if options and len(options) != len(states):
        raise ScenarioError(f'{where}, field states: {len(states)} for {len(options)} options')
    if len(valences) != len(states):
        raise ScenarioError(f'{where}, field valences: {len(valences)} for {len(states)} states')
    if texts['state'] and texts['state'] not in states:
        raise ScenarioError(f'{where}, field state: {texts["state"]!r} is none of {list(states)}')
    gestures = tuple(
        _gesture(value, f'{where}, field gestures[{i}]')
        for i, value in enumerate(_list(content, 'gestures', where))
    )
    return Scenario(
        **texts,
        gestures=tuple(sorted(gestures, key=lambda g: (g.start, g.end))),
        options=options,
        states=states,
        valences=valences,
    )


def load_scenarios(path: str | os.PathLike) -> list[Scenario]:
    """Read a scenarios file; empty lines are skipped.

    Raises:
        ScenarioError: A line that is no valid scenario, an id that comes twice, or no line at all.
    """
    path, scenarios, seen = Path(path), [], {}
    with path.open('rb') as file:
        for number, line in enumerate(file, 1):
            where = f'{path}, line {number}'
            try:
                text = line.decode('utf-8-sig' if number == 1 else 'utf-8')
                if not text.strip():
                    continue
                content = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ScenarioError(f'{where}: no JSON in UTF-8 ({error})') from None
            scenario = scenario_from_json(content, where)
            if scenario.id in seen:
                raise ScenarioError(
                    f'{where}, field id: {scenario.id!r} is already on line {seen[scenario.id]}'
                )
            seen[scenario.id] = number
            scenarios.append(scenario)
    if not scenarios:
        raise ScenarioError(f'{path}: there is no scenario in it')
    return scenarios


def save_scenarios(path: str | os.PathLike, scenarios: Iterable[Scenario]) -> None:
    """Write a scenarios file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}')
    try:
        with os.fdopen(handle, 'w', encoding='utf-8') as file:
            for scenario in scenarios:
                file.write(json.dumps(scenario.to_json(), ensure_ascii=False) + '\n')
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _gesture(value: Any, where: str) -> Gesture:
    if not isinstance(value, Mapping):
        raise ScenarioError(f'{where}: an object was expected, not {_kind(value)}')
    known = {field.name for field in fields(Gesture)}
    unknown = sorted(set(value) - known)
    if unknown:
        raise ScenarioError(
            f'{where}.{unknown[0][:SHOWN]}: not in the schema; known: {sorted(known)}'
        )
    missing = [name for name in ('name', 'start', 'end') if name not in value]
    if missing:
        raise ScenarioError(f'{where}.{missing[0]}: missing')
    if not _is_text(value['name']):
        raise ScenarioError(f'{where}.name: a text was expected, not {_shown(value["name"])}')
    start = _number(value['start'], f'{where}.start', 0, LONGEST)
    end = _number(value['end'], f'{where}.end', 0, LONGEST)
    if end < start:
        raise ScenarioError(f'{where}.end: {end} comes before start {start}')
    confidence = _number(value.get('confidence', 1.0), f'{where}.confidence', 0, 1)
    return Gesture(value['name'], start, end, confidence)


def _text(content: Mapping, name: str, where: str, empty: bool = False) -> str:
    if name not in content:
        raise ScenarioError(f'{where}, field {name}: missing')
    value = content[name]
    if not _is_text(value, empty):
        raise ScenarioError(f'{where}, field {name}: a text was expected, not {_shown(value)}')
    return value


def _list(content: Mapping, name: str, where: str) -> list:
    if name not in content:
        raise ScenarioError(f'{where}, field {name}: missing')
    if not isinstance(content[name], list | tuple):
        raise ScenarioError(
            f'{where}, field {name}: a list was expected, not {_shown(content[name])}'
        )
    return list(content[name])


def _texts(content: Mapping, name: str, where: str) -> tuple[str, ...]:
    values = _list(content, name, where)
    for i, value in enumerate(values):
        if not _is_text(value):
            raise ScenarioError(
                f'{where}, field {name}[{i}]: a text was expected, not {_shown(value)}'
            )
    return tuple(values)


def _is_text(value: Any, empty: bool = False) -> bool:
    """A text that can be written as UTF-8, which half of a cut emoji cannot."""
    if not isinstance(value, str) or not (empty or value.strip()):
        return False
    return not any('\ud800' <= character <= '\udfff' for character in value)


def _number(value: Any, where: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ScenarioError(
            f'{where}: a number from {low:g} to {high:g} was expected, not {_shown(value)}'
        )
    return float(value)


def _shown(value: Any) -> str:
    """A value for a message, cut short."""
    if isinstance(value, int) and abs(value) >= 10**SHOWN:
        return 'a number of very many digits'
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f'{text[:SHOWN]}…'


def _kind(value: Any) -> str:
    return type(value).__name__
