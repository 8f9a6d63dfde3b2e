"""Checking JSON from outside against a dataclass, with errors that name the field.

The field types of the dataclasses are pydantic's: what a file may hold stands beside its name.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, Strict, StringConstraints, TypeAdapter, ValidationError

from mg_plugins.errors import UserError

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

NO_VALUE = {
    'missing': 'missing',
    'missing_argument': 'missing',
    'unexpected_keyword_argument': 'not in the schema',
}
EXPECTED = {
    'string_type': 'a text was expected',
    'string_pattern_mismatch': 'a text was expected',
    'string_unicode': 'a text that UTF-8 can write was expected',
    'tuple_type': 'a list was expected',
    'dataclass_type': 'a JSON object was expected',
}
_adapter = cache(TypeAdapter)


def check(kind: type[T], content: Any, where: str, error: type[UserError] = UserError) -> T:
    """An instance of the dataclass ``kind`` made from JSON, every field checked.

    ``where`` is what messages begin with, such as ``'file.jsonl, line 3'``; they name the first
    wrong field. ``error`` is what is raised.
    """
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False)[0]
    path = ''.join(f'[{p}]' if isinstance(p, int) else f'.{p}' for p in first['loc'])[1:]
    said = NO_VALUE.get(first['type'])
    if said is None:
        said = EXPECTED.get(first['type'], first['msg'].replace('Input should', 'it should'))
        said += f', not {shown(first["input"])}'
    raise error(f'{where}, field {path[:SHOWN]}: {said}' if path else f'{where}: {said}')


def shown(value: Any) -> str:
    """A value for a message, cut short."""
    if isinstance(value, int) and abs(value) >= 10**SHOWN:
        return 'a number of very many digits'
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f'{text[:SHOWN]}…'
