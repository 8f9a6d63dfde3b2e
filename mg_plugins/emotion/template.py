"""Templates: how a recording becomes a question, as JSON files that users copy and edit.

A template is one JSON object (``templates/post_match.json`` is one):

    {"name": "post_match",
     "instruction": "…",                 one or two sentences on the situation, for the system text
     "context": "…\\n\\n{transcript}",     what was said takes the place of {transcript}
     "question": "…",                    asked with the options of the states
     "open_question": "…",               asked without options
     "rubric": ["…", …],                 what a full answer to the open question mentions
     "states": [{"name": "win", "option": "The player won.", "valence": 1}, …]}

``name`` of a state is what data sets call it, ``option`` the answer that is offered, and
``valence``, −1 to 1, how pleasant it is (read by the lexicon judge only). Needs the standard
library only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mg_plugins.errors import UserError

FOLDER = Path(__file__).with_name('templates')
SUFFIX = '.json'
SLOT = '{transcript}'
NO_TRANSCRIPT = '(What was said is not known.)'
NAME = re.compile(r'[\w.-]+')


class TemplateError(UserError):
    """A template that is not there or does not follow the schema; names file and field."""


@dataclass(frozen=True)
class State:
    """One answer to the question.

    Attributes:
        name: What the data calls it, such as ``'win'``.
        option: The answer that is offered.
        valence: How pleasant it is, −1 to 1; never sent.
    """

    name: str
    option: str
    valence: float


@dataclass(frozen=True)
class Template:
    """How scenarios of one domain are asked; see the module docstring for the fields."""

    name: str
    instruction: str
    context: str
    question: str
    open_question: str
    rubric: tuple[str, ...]
    states: tuple[State, ...]

    def render_context(self, transcript: str) -> str:
        """The context text with a redacted transcript, or a note where there is none, in it."""
        return self.context.replace(SLOT, transcript.strip() or NO_TRANSCRIPT)

    def state(self, name: str) -> str:
        """The template's own spelling of a state, whatever its case; empty if it has none such."""
        return {s.name.casefold(): s.name for s in self.states}.get(name.strip().casefold(), '')


def template_names() -> list[str]:
    """Names of the templates that come with the package."""
    return sorted(path.stem for path in FOLDER.glob(f'*{SUFFIX}'))


def load_template(name_or_path: str | os.PathLike) -> Template:
    """Read a template of the package by its name, or one's own by its path.

    Raises:
        TemplateError: There is none, or it does not follow the schema.
    """
    text = os.fspath(name_or_path)
    shipped = text in template_names()
    path = FOLDER / f'{text}{SUFFIX}' if shipped else Path(text)
    if not path.is_file():
        raise TemplateError(
            f'there is no template {text!r}: expected one of {", ".join(template_names())}, or the '
            f'path of a {SUFFIX} file (copy one from {FOLDER} to begin with)'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise TemplateError(f'{path}: no JSON ({error})') from None
    template = _template(content, path)
    if not shipped and template.name in template_names() and path.resolve().parent != FOLDER:
        raise TemplateError(
            f'{path}, field name: {template.name!r} is a template of the package; give your copy '
            'a name of its own, so that the two cannot be mixed up'
        )
    return template


def _template(content: Any, path: Path) -> Template:
    _keys(content, [field.name for field in fields(Template)], f'{path}', f'{path}, field ')
    texts = {
        name: _text(content[name], f'{path}, field {name}')
        for name in ('name', 'instruction', 'context', 'question', 'open_question')
    }
    if not NAME.fullmatch(texts['name']):
        raise TemplateError(
            f'{path}, field name: letters, digits, _, - and . were expected, not {texts["name"]!r}'
        )
    if texts['context'].count(SLOT) != 1:
        raise TemplateError(f'{path}, field context: {SLOT} must stand in it, once')
    rubric = tuple(
        _text(item, f'{path}, field rubric[{i}]')
        for i, item in enumerate(_list(content['rubric'], f'{path}, field rubric'))
    )
    states = tuple(
        _state(item, f'{path}, field states[{i}]')
        for i, item in enumerate(_list(content['states'], f'{path}, field states'))
    )
    if not rubric:
        raise TemplateError(f'{path}, field rubric: one item or more was expected')
    for part in ('name', 'option'):
        values = {getattr(state, part).casefold() for state in states}
        if len(states) < 2 or len(values) < len(states):
            raise TemplateError(
                f'{path}, field states: two or more were expected, each with a {part} of its own'
            )
    return Template(**texts, rubric=rubric, states=states)


def _state(value: Any, where: str) -> State:
    _keys(value, [field.name for field in fields(State)], where, f'{where}.')
    valence = value['valence']
    if isinstance(valence, bool) or not isinstance(valence, int | float) or not -1 <= valence <= 1:
        raise TemplateError(f'{where}.valence: a number from -1 to 1 was expected, not {valence!r}')
    name, option = (_text(value[part], f'{where}.{part}') for part in ('name', 'option'))
    return State(name, option, float(valence))


def _keys(value: Any, names: list[str], where: str, prefix: str) -> None:
    if not isinstance(value, Mapping):
        raise TemplateError(f'{where}: a JSON object was expected, not {value!r}')
    for name in names:
        if name not in value:
            raise TemplateError(f'{prefix}{name}: missing')
    for name in value:
        if name not in names:
            raise TemplateError(f'{prefix}{name}: not known; known are {", ".join(names)}')


def _list(value: Any, where: str) -> list:
    if not isinstance(value, list):
        raise TemplateError(f'{where}: a list was expected, not {value!r}')
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TemplateError(f'{where}: a text was expected, not {value!r}')
    return value.strip()
