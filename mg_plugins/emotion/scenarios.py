"""What a judge is asked about: a scenario, its micro-gestures, and the JSON lines they live in.

One line of a scenarios file is one JSON object:

    {"version": 1, "id": "…", "subject": "p03", …, "options": ["won", "lost"], "state": "win",
     "gestures": [{"name": "rub hand", "start": 3.2, "end": 4.0, "confidence": 0.81}], …}

A multiple-choice scenario has two options or more; an open-ended one has ``"options": []``. The
field types of the dataclasses are pydantic's: what a file may hold stands beside its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, Strict, StringConstraints, TypeAdapter, ValidationError

from mg_plugins.errors import UserError
from mg_plugins.files import write_text

VERSION = 1
ANNOTATED, RECOGNISED, SYNTHETIC = 'annotated', 'recognised', 'synthetic'
T = TypeVar('T')
LONGEST = 1e7  # seconds; a session of months is a mistake
SHOWN = 80  # characters of a wrong value that a message repeats
KNOWN_ONLY = ConfigDict(extra='forbid')

Text = Annotated[str, Strict(), StringConstraints(pattern=r'\S')]
# A pattern that everything matches: with one, half of a cut emoji is refused.
AnyText = Annotated[str, Strict(), StringConstraints(pattern='')]
Seconds = Annotated[float, Strict(), Field(ge=0, le=LONGEST)]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Valence = Annotated[float, Strict(), Field(ge=-1, le=1)]

NO_VALUE = {'missing': 'missing', 'unexpected_keyword_argument': 'not in the schema'}
EXPECTED = {
    'string_type': 'a text was expected',
    'string_pattern_mismatch': 'a text was expected',
    'string_unicode': 'a text that UTF-8 can write was expected',
    'tuple_type': 'a list was expected',
    'too_short': 'more were expected',
    'too_long': 'fewer were expected',
    'dataclass_type': 'a JSON object was expected',
}
_adapter = cache(TypeAdapter)


@dataclass(frozen=True)
class Gesture:
    """One micro-gesture of a timeline."""

    __pydantic_config__ = KNOWN_ONLY

    name: Text  # class name, as the data set calls it
    # start, end: Seconds from the beginning of the session.
    start: Seconds
    end: Seconds
    confidence: Share = 1.0  # the recogniser's; 1 for ground truth


@dataclass(frozen=True)
class Scenario:
    """One question about one session."""

    __pydantic_config__ = KNOWN_ONLY

    # id, subject, session: Opaque ids; intervals are clustered by subject.
    id: Text
    subject: Text
    session: Text
    domain: Text  # name of the template that it was built with
    source: Text  # which data it comes from; figures of ``'synthetic'`` are called so everywhere
    context: AnyText  # what was said and known, redacted
    gestures: tuple[Gesture, ...]  # the session's timeline, by start
    question: Text
    # Answers to choose from, as many as letters name; none for an open-ended question.
    options: Annotated[tuple[Text, ...], Field(max_length=26)]
    # Short name of the state behind each option (or, open-ended, of each possible one).
    states: Annotated[tuple[Text, ...], Field(min_length=2)]
    # How pleasant each state is, −1 to 1. Read by the lexicon judge only, never sent.
    valences: tuple[Valence, ...]
    state: AnyText = ''  # the true one of ``states``, or empty where it is not known
    # ``'train'`` for fitting priors and baselines, ``'test'`` for judging, or empty.
    split: Literal['train', 'test', ''] = ''
    # Who named the gestures: people, a model or nobody; empty where the file is silent.
    origin: Literal['annotated', 'recognised', 'synthetic', ''] = ''
    # Confidence below which recognised gestures were left out; None if none was.
    threshold: Share | None = None

    @property
    def open_ended(self) -> bool:
        """Whether the answer is free text."""
        return not self.options

    def to_json(self) -> dict[str, Any]:
        """The object that stands on this scenario's line."""
        return {'version': VERSION, **asdict(self)}


def check(kind: type[T], content: Any, where: str) -> T:
    """An instance of the dataclass ``kind`` made from JSON, every field checked.

    ``where`` is what messages (`UserError`) begin with, such as ``'file.jsonl, line 3'``; they name
    the first wrong field.
    """
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False)[0]
    path = ''.join(f'[{p}]' if isinstance(p, int) else f'.{p}' for p in first['loc'])[1:]
    said = NO_VALUE.get(first['type'])
    if said is None:
        said = EXPECTED.get(first['type'], first['msg'].replace('Input should', 'it should'))
        said += f', not {_shown(first["input"])}'
    raise UserError(f'{where}, field {path[:SHOWN]}: {said}' if path else f'{where}: {said}')


def _shown(value: Any) -> str:
    """A value for a message, cut short."""
    if isinstance(value, int) and abs(value) >= 10**SHOWN:
        return 'a number of very many digits'
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f'{text[:SHOWN]}…'


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """A cell of a table as text; empty where it is missing."""
    return '' if fields.get(name) is None else str(fields[name]).strip()


def number_of(
    fields: Mapping[str, Any], name: str, where: str, default: float | None = None
) -> float:
    """A cell as a finite number; ``default``, if there is one, where it is missing."""
    text = text_of(fields, name)
    with suppress(ValueError):
        value = float(default if default is not None and not text else text)
        if abs(value) < float('inf'):
            return value
    raise UserError(f'{where}, field {name}: a number was expected, not {text[:60]!r}')


def scenario_from_json(content: Any, where: str = 'scenario') -> Scenario:
    """Check one JSON object and make a scenario of it; errors begin with ``where``."""
    if isinstance(content, dict):
        content = dict(content)
        version = content.pop('version', None)
        if version != VERSION:
            read = f'{_shown(version)}, but this program reads {VERSION}'
            raise UserError(f'{where}, field version: {read}')
    made = check(Scenario, content, where)
    options, states, values = made.options, made.states, made.valences
    for i, g in enumerate(made.gestures):
        if g.end < g.start:
            back = f'gestures[{i}].end: {g.end} comes before start {g.start}'
            raise UserError(f'{where}, field {back}')
    for wrong, what in (
        (len(set(options)) < len(options), 'options: different ones were expected'),
        (len(set(states)) < len(states), 'states: different ones were expected'),
        (
            options and len(options) != len(states),
            f'states: {len(states)} for {len(options)} options',
        ),
        (len(values) != len(states), f'valences: {len(values)} for {len(states)} states'),
        (
            made.state and made.state not in states,
            f'state: {made.state!r} is none of {list(states)}',
        ),
    ):
        if wrong:
            raise UserError(f'{where}, field {what}')
    return replace(made, gestures=in_order(made.gestures))


def in_order(gestures: Iterable[Gesture]) -> tuple[Gesture, ...]:
    """Gestures by start, then by end."""
    return tuple(sorted(gestures, key=lambda g: (g.start, g.end)))


def load_scenarios(path: str | os.PathLike) -> list[Scenario]:
    """Read a scenarios file; empty lines are skipped, a wrong line is named (`UserError`)."""
    scenarios: dict[str, tuple[int, Scenario]] = {}
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise UserError(
            f'{path} cannot be read ({error.strerror}); a scenarios file, which '
            'tools/build_scenarios.py writes, was expected'
        ) from None
    for number, line in enumerate(lines, 1):
        where = f'{path}, line {number}'
        try:
            text = line.decode('utf-8-sig' if number == 1 else 'utf-8')
            content = json.loads(text) if text.strip() else None
        except (ValueError, RecursionError) as error:
            raise UserError(f'{where}: not JSON in UTF-8 ({error})') from None
        if text.strip():
            made = scenario_from_json(content, where)
            first, _ = scenarios.setdefault(made.id, (number, made))
            if first != number:
                raise UserError(f'{where}, field id: {made.id!r} is already on line {first}')
    if not scenarios:
        raise UserError(f'{path}: there is no scenario in it')
    return [made for _, made in scenarios.values()]


def save_scenarios(path: str | os.PathLike, scenarios: Iterable[Scenario]) -> None:
    """Write a scenarios file, whole or not at all."""
    lines = [json.dumps(scenario.to_json(), ensure_ascii=False) for scenario in scenarios]
    write_text(path, ''.join(f'{line}\n' for line in lines))
