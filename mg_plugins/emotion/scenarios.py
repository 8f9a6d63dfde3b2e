"""What a judge is asked about: scenarios and their gestures, a JSON object a line of a file."""

import codecs
import csv
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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

Text = Annotated[str, Strict(), StringConstraints(pattern=r'\S')]
# A pattern that everything matches: with one, half of a cut emoji is refused.
AnyText = Annotated[str, Strict(), StringConstraints(pattern='')]
Seconds = Annotated[float, Strict(), Field(ge=0, le=LONGEST)]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Valence = Annotated[float, Strict(), Field(ge=-1, le=1)]

# What pydantic says in other words than a JSON file's.
WORDS = {'string_pattern_mismatch': 'a text was expected', 'tuple_type': 'a list was expected',
         'dataclass_type': 'a JSON object was expected'}  # fmt: skip
_adapter = cache(TypeAdapter)


class KnownOnly:
    """A dataclass that `check` makes of JSON without further fields."""

    __pydantic_config__ = ConfigDict(extra='forbid')


@dataclass(frozen=True)
class Gesture(KnownOnly):
    """One micro-gesture of a timeline."""

    name: Text  # class name, as the data set calls it
    start: Seconds  # from the beginning of the session
    end: Seconds
    confidence: Share = 1.0  # the recogniser's; 1 for ground truth


@dataclass(frozen=True)
class Scenario(KnownOnly):
    """One question about one session."""

    id: Text  # opaque, like the next two
    subject: Text  # by which intervals are clustered
    session: Text
    domain: Text  # name of the template that it was built with
    source: Text  # which data it comes from; figures of ``'synthetic'`` are called so everywhere
    context: AnyText  # what was said and known, redacted
    gestures: tuple[Gesture, ...]  # the session's timeline, by start
    question: Text
    options: Annotated[tuple[Text, ...], Field(max_length=26)]  # none for an open-ended question
    states: Annotated[tuple[Text, ...], Field(min_length=2)]  # behind the options, or all possible
    valences: tuple[Valence, ...]  # how pleasant each state is; for the lexicon judge, never sent
    state: AnyText = ''  # the true one of ``states``, or empty where it is not known
    split: Literal['train', 'test', ''] = ''  # ``'train'`` is for fitting, the rest is judged
    origin: Literal['annotated', 'recognised', 'synthetic', ''] = ''  # who named the gestures
    threshold: Share | None = None  # confidence below which recognised gestures were left out

    @property
    def open_ended(self) -> bool:
        """Whether the answer is free text."""
        return not self.options

    def to_json(self) -> dict[str, Any]:
        """The object that stands on this scenario's line."""
        return {'version': VERSION, **asdict(self)}


@contextmanager
def readable(path: str | os.PathLike, expected: str) -> Iterator[None]:
    """A file that the block cannot read is a `UserError`, which ends in what was expected."""
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UserError(f'{path} cannot be read ({reason}){expected} was expected') from None


def check(kind: type[T], content: Any, where: str) -> T:
    """The dataclass ``kind`` from JSON; a `UserError` has ``where`` and the first wrong field."""
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False)[0]
    path = ''.join(f'[{p}]' if isinstance(p, int) else f'.{p}' for p in first['loc'])[1:]
    said = WORDS.get(first['type'], first['msg'])
    if first['type'] not in ('missing', 'unexpected_keyword_argument'):
        said += f', not {_shown(first["input"])}'
    raise UserError(f'{where}, field {path[:SHOWN]}: {said}' if path else f'{where}: {said}')


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**SHOWN:
        return 'a number of very many digits'
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f'{text[:SHOWN]}…'


def scenario_from_json(content: Any, where: str = 'scenario') -> Scenario:
    """Check one JSON object and make a scenario of it; errors begin with ``where``."""
    if isinstance(content, dict):
        if (version := content.get('version')) != VERSION:
            read = f'{_shown(version)}, but this program reads {VERSION}'
            raise UserError(f'{where}, field version: {read}')
        content = {name: value for name, value in content.items() if name != 'version'}
    made = check(Scenario, content, where)
    options, states, values = made.options, made.states, made.valences
    back = [i for i, g in enumerate(made.gestures) if g.end < g.start]
    wrong = {
        f'gestures{back[:1]}.end: it comes before the start': back,
        'options: different ones were expected': len(set(options)) < len(options),
        'states: different ones were expected': len(set(states)) < len(states),
        f'states: {len(states)} for {len(options)} options': len(states) != len(options or states),
        f'valences: {len(values)} for {len(states)} states': len(values) != len(states),
        f'state: {made.state!r} is none of {list(states)}': made.state not in ('', *states),
    }
    for what, is_so in wrong.items():
        if is_so:
            raise UserError(f'{where}, field {what}')
    return replace(made, gestures=in_order(made.gestures))


def in_order(gestures: Iterable[Gesture]) -> tuple[Gesture, ...]:
    """Gestures by start, then by end."""
    return tuple(sorted(gestures, key=lambda g: (g.start, g.end)))


def load_scenarios(path: str | os.PathLike) -> list[Scenario]:
    """Read a scenarios file; empty lines are skipped, a wrong line is named (`UserError`)."""
    found: dict[str, tuple[int, Scenario]] = {}
    with readable(path, '; a scenarios file, which tools/build_scenarios.py writes,'):
        lines = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    for number, line in enumerate(lines, 1):
        where = f'{path}, line {number}'
        if not line.strip():
            continue
        try:
            content = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise UserError(f'{where}: not JSON in UTF-8 ({error})') from None
        made = scenario_from_json(content, where)
        first, _ = found.setdefault(made.id, (number, made))
        if first != number:
            raise UserError(f'{where}, field id: {made.id!r} is already on line {first}')
    if not found:
        raise UserError(f'{path}: there is no scenario in it')
    return [made for _, made in found.values()]


def save_scenarios(path: str | os.PathLike, scenarios: Iterable[Scenario]) -> None:
    """Write a scenarios file, whole or not at all."""
    lines = (json.dumps(scenario.to_json(), ensure_ascii=False) for scenario in scenarios)
    write_text(path, ''.join(f'{line}\n' for line in lines))
