"""Templates: how a recording becomes a question, as JSON files that users copy and edit.

``templates/post_match.json`` is one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mg_plugins.errors import UserError
from mg_plugins.files import read_json

from .checks import KNOWN_ONLY, Text, Valence, check

FOLDER = Path(__file__).with_name('templates')
SUFFIX = '.json'
SLOT = '{transcript}'
NO_TRANSCRIPT = '(What was said is not known.)'


class TemplateError(UserError):
    """A template that is not there or does not follow the schema; names file and field."""


@dataclass(frozen=True)
class State:
    """One answer to the question."""

    __pydantic_config__ = KNOWN_ONLY

    name: Text  # what data sets call it
    option: Text  # the answer that is offered
    valence: Valence  # how pleasant it is, −1 to 1; read by the lexicon judge only


@dataclass(frozen=True)
class Template:
    """How scenarios of one domain are asked."""

    __pydantic_config__ = KNOWN_ONLY

    name: Text
    instruction: Text  # one or two sentences on the situation, for the system text
    context: Text  # what was said takes the place of {transcript}
    question: Text  # asked with the options of the states
    open_question: Text  # asked without options
    rubric: tuple[Text, ...]  # what a full answer to the open question mentions
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
    """Read a template of the package by its name, or one's own by its path."""
    text, names = os.fspath(name_or_path), template_names()
    path = FOLDER / f'{text}{SUFFIX}' if text in names else Path(text)
    if not path.is_file():
        raise TemplateError(
            f'there is no template {text!r}: expected one of {", ".join(names)}, or the '
            f'path of a {SUFFIX} file (copy one from {FOLDER} to begin with)'
        )
    try:
        content = read_json(path)
    except UserError as error:
        raise TemplateError(str(error)) from None
    template = check(Template, content, str(path), TemplateError)
    states = template.states
    alike = [
        part
        for part in ('name', 'option')
        if len({getattr(s, part).casefold() for s in states}) < max(len(states), 2)
    ]
    for wrong, what in (
        (
            not re.fullmatch(r'[\w.-]+', template.name),
            f'name: letters, digits, _, - and . were expected, not {template.name!r}',
        ),
        (template.context.count(SLOT) != 1, f'context: {SLOT} must stand in it, once'),
        (not template.rubric, 'rubric: one item or more was expected'),
        (alike, f'states: two or more were expected, each with a {alike and alike[0]} of its own'),
        (
            template.name in names and path.resolve().parent != FOLDER,
            f'name: {template.name!r} is a template of the package; give your copy a name of its '
            'own, so that the two cannot be mixed up',
        ),
    ):
        if wrong:
            raise TemplateError(f'{path}, field {what}')
    return template
