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
``valence``, −1 to 1, how pleasant it is (read by the lexicon judge only).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mg_plugins.errors import UserError
from mg_plugins.files import read_json

from .checks import KNOWN_ONLY, Text, Valence, check

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

    __pydantic_config__ = KNOWN_ONLY

    name: Text
    option: Text
    valence: Valence


@dataclass(frozen=True)
class Template:
    """How scenarios of one domain are asked; see the module docstring for the fields."""

    __pydantic_config__ = KNOWN_ONLY

    name: Text
    instruction: Text
    context: Text
    question: Text
    open_question: Text
    rubric: tuple[Text, ...]
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
        content = read_json(path)
    except UserError as error:
        raise TemplateError(str(error)) from None
    template = _template(content, path)
    if not shipped and template.name in template_names() and path.resolve().parent != FOLDER:
        raise TemplateError(
            f'{path}, field name: {template.name!r} is a template of the package; give your copy '
            'a name of its own, so that the two cannot be mixed up'
        )
    return template


def _template(content: Any, path: Path) -> Template:
    template = check(Template, content, str(path), TemplateError)
    if not NAME.fullmatch(template.name):
        raise TemplateError(
            f'{path}, field name: letters, digits, _, - and . were expected, not {template.name!r}'
        )
    if template.context.count(SLOT) != 1:
        raise TemplateError(f'{path}, field context: {SLOT} must stand in it, once')
    if not template.rubric:
        raise TemplateError(f'{path}, field rubric: one item or more was expected')
    for part in ('name', 'option'):
        values = {getattr(state, part).casefold() for state in template.states}
        if len(template.states) < 2 or len(values) < len(template.states):
            raise TemplateError(
                f'{path}, field states: two or more were expected, each with a {part} of its own'
            )
    return template
