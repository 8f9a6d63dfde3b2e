"""From a scenario to what a judge reads.

The arms of an evaluation differ in the timeline and in nothing else: the system text is the same
in all of them and mentions no gestures, and the arm without them has no word about any. What is
sent is the context, gesture names with times and confidences, the question and the options; ids,
subject, session, states, valences and the truth never are.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .scenarios import Gesture, Scenario
from .tasks import Task

if TYPE_CHECKING:
    from .template import Template

LETTERS = string.ascii_uppercase

TEXTS = json.loads(Path(__file__).with_name('texts.json').read_text(encoding='utf-8'))
ROLE, CHOOSE, WRITE, TIMELINE, NO_GESTURES, SURE = TEXTS['prompts'].values()
GLOSSARY = Path(__file__).with_name('glossary.json')
LONGEST_REASON, MOST_EVIDENCE, LONGEST_EVIDENCE = 1500, 5, 120


def render(
    scenario: Scenario,
    gestures: Sequence[Gesture] | None,
    order: Sequence[int],
    template: Template | None = None,
) -> Task:
    """Turn a scenario into the question of one arm.

    Args:
        scenario: What is asked about.
        gestures: The timeline to show, the scenario's own or another's; None shows none.
        order: The options (open-ended: the states, which nobody is shown) in the order wanted, as
            indices: a permutation.
        template: The scenario's template, whose sentence on the domain begins the system text.
    """
    states, options = len(scenario.states), len(scenario.options)
    if sorted(order) != list(range(states)):
        what = f'order {list(order)} is no permutation of the {states} states'
        raise ValueError(f'{what} of scenario {scenario.id!r}')
    if options > len(LETTERS):
        what = f'{options} options; at most {len(LETTERS)} can be lettered'
        raise ValueError(f'scenario {scenario.id!r} has {what}')
    options = () if scenario.open_ended else tuple(scenario.options[i] for i in order)
    parts = [f'Context:\n{scenario.context.strip() or "(nothing is known)"}']
    if gestures is not None:
        parts.append(timeline(gestures))
    parts.append(f'Question: {scenario.question.strip()}')
    if options:
        lettered = zip(LETTERS, options, strict=False)
        parts.append('\n'.join(['Options:', *(f'{a}. {_line(text)}' for a, text in lettered)]))
    domain = [template.instruction.strip()] if template else []
    return Task(
        system='\n'.join([*domain, ROLE, CHOOSE if options else WRITE]),
        user='\n\n'.join(parts),
        schema=answer_schema(len(options)) if options else None,
        context=scenario.context,
        gestures=None if gestures is None else tuple(gestures),
        options=options,
        states=tuple(scenario.states[i] for i in order),
        valences=tuple(scenario.valences[i] for i in order),
        domain=scenario.domain,
    )


def timeline(gestures: Sequence[Gesture]) -> str:
    """The gestures as text, a line each: ``00:03.2-00:04.0 rub hand (confidence 0.81)``.

    The confidence is left out where it is 1, as in ground truth.
    """
    if not gestures:
        return NO_GESTURES
    lines = [
        f'{clock(g.start)}-{clock(g.end)} {_line(g.name)}'
        + (f' (confidence {g.confidence:.2f})' if g.confidence < 1 else '')
        for g in gestures
    ]
    meanings = glossary()
    names = sorted({g.name for g in gestures} & set(meanings))
    explained = '; '.join(f'{name}: {meanings[name]}' for name in names)
    notes = [f'What the names mean: {explained}.'] if names else []
    notes += [SURE] if any(g.confidence < 1 for g in gestures) else []
    return '\n'.join([TIMELINE, *lines, *notes])


@cache
def glossary() -> dict[str, str]:
    """Class names that do not explain themselves, in a few words each."""
    return json.loads(GLOSSARY.read_text(encoding='utf-8'))


def clock(seconds: float) -> str:
    """Seconds as ``mm:ss.s``."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f'{minutes:02d}:{tenths // 10:02d}.{tenths % 10}'


def answer_schema(options: int) -> dict[str, Any]:
    """Strict JSON schema of an answer that chooses among so many options.

    The reason comes before the answer, as room to think; every field is bounded.
    """
    return object_schema(
        reason=text_of_at_most(LONGEST_REASON),
        evidence={
            'type': 'array',
            'items': text_of_at_most(LONGEST_EVIDENCE),
            'maxItems': MOST_EVIDENCE,
            'uniqueItems': True,
        },
        answer={'type': 'string', 'enum': list(LETTERS[:options])},
        confidence={'type': 'number', 'minimum': 0, 'maximum': 1},
    )


def object_schema(**fields: dict[str, Any]) -> dict[str, Any]:
    """Strict JSON schema of an object with these fields and no others."""
    return {
        'type': 'object',
        'properties': fields,
        'required': list(fields),
        'additionalProperties': False,
    }


def text_of_at_most(characters: int) -> dict[str, Any]:
    """JSON schema of a bounded text."""
    return {'type': 'string', 'maxLength': characters}


def _line(text: str) -> str:
    """Without line breaks: a class name must not be able to begin a part of its own."""
    return ' '.join(text.split())
