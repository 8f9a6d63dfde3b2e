"""What is asked of a judge, how a scenario is put into words, and what comes back."""

import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mg_plugins.files import read_table

from .build import Template
from .scenarios import Gesture, Scenario

LETTERS = string.ascii_uppercase
TEXTS = read_table('emotion/texts.json')
GLOSSARY = read_table('emotion/glossary.json')  # class names that do not explain themselves
ROLE, CHOOSE, WRITE, TIMELINE, NO_GESTURES, SURE = TEXTS['prompts'].values()
MOST_EVIDENCE, LONGEST_EVIDENCE = 5, 120
DEPTHS = 4
# What became of a question. Every one of them is counted and shown.
ANSWERED, REFUSED, FAILED = 'answered', 'refused', 'failed'
CUT = 'cut'  # at the limit on the answer's length, before an answer could be read
THOUGHTS_ONLY = 'reasoning only'  # a reasoning model ended without an answer
TOOL_CALL = 'tool call'  # called a tool instead of answering
UNREADABLE = 'unreadable'
NOT_ASKED = 'not asked'  # the budget ended before
STATUSES = (ANSWERED, REFUSED, CUT, THOUGHTS_ONLY, TOOL_CALL, UNREADABLE, FAILED, NOT_ASKED)
UNREAD = (CUT, THOUGHTS_ONLY, TOOL_CALL, UNREADABLE)  # asking again may bring an answer


@dataclass(frozen=True)
class Task:
    """One question in one arm: messages and a JSON schema for a model, the rest for the lexicon."""

    system: str
    user: str
    schema: dict[str, Any] | None = field(compare=False)
    context: str
    gestures: tuple[Gesture, ...] | None  # that are shown; None in the arm that shows none
    options: tuple[str, ...]  # the options in the order shown; none if open-ended
    states: tuple[str, ...]  # the state behind each option
    valences: tuple[float, ...]  # and how pleasant it is
    sample: int = 0  # number of the draw


@dataclass(frozen=True)
class Reply:
    """What a judge sent back, as it came."""

    text: str  # the message
    tokens: int = 0  # of prompt and answer together, as the judge counts them
    refusal: bool = False  # the judge marked it as a refusal
    thoughts: str = ''  # what a reasoning model wrote before its message
    finish: str = ''  # why it ended, in OpenAI's words (``'length'``, ``'tool_calls'``)
    prompt_cut: bool = False  # the endpoint counted far fewer tokens than the prompt has


@dataclass(eq=False)
class JudgeError(RuntimeError):
    """A question that got no reply; the message holds no key."""

    message: str
    retry: bool = False  # asking again may help
    after: float | None = None  # seconds that the endpoint asked to wait
    busy: bool = False  # it has too much to do
    free: bool = False  # the request was changed: ask at once and do not count a try
    unreachable: bool = False  # nobody listens there: no use in asking many before saying so

    def __str__(self) -> str:
        return self.message


class Judge(Protocol):
    """Answers tasks.

    It may also have ``reads(task)``, what its answer depends on where that is not the messages and
    the schema (the cache's key is made of it); ``notes``, what a reader should know of how it
    asked; and ``scrub(text)``, which takes a key out of a text.
    """

    name: str  # for people, such as ``'openai: qwen3-8b'``

    def identity(self) -> dict[str, Any]:
        """What an answer depends on beside the task: kind, model, parameters. Never a key."""

    async def reply(self, task: Task) -> Reply:
        """Answer one task; a `JudgeError` where there is no reply."""

    async def close(self) -> None:
        """Let go of connections and memory."""


@dataclass(frozen=True)
class Answer:
    """What a reply says."""

    status: str  # one of ``STATUSES``
    choice: int | None = None  # index of the option chosen, in the order shown, if answered
    confidence: float | None = None  # the judge's own, in [0, 1], where it gave one
    text: str = ''  # the judge's reason, or its open-ended answer, or the error
    evidence: tuple[str, ...] = ()  # what the judge cites of the scenario
    thoughts: str = ''  # what a reasoning model wrote before its answer


def render(
    scenario: Scenario,
    gestures: Sequence[Gesture] | None,
    order: Sequence[int],
    template: Template | None = None,
) -> Task:
    """The question of one arm, which shows ``gestures``, the scenario's own, another's or none.

    Arms differ in nothing else. Ids, subject, session, states, valences, truth are never sent.
    ``order`` permutes the options (open-ended: the states, which nobody is shown); the template's
    sentence on the domain begins the system text.
    """
    if sorted(order) != list(range(len(scenario.states))):
        raise ValueError(f'order {list(order)} is no permutation of {list(scenario.states)}')
    options = () if scenario.open_ended else tuple(scenario.options[i] for i in order)
    parts = [f'Context:\n{scenario.context.strip() or "(nothing is known)"}']
    parts += [] if gestures is None else [timeline(gestures)]
    parts.append(f'Question: {scenario.question.strip()}')
    if options:
        lettered = zip(LETTERS[: len(options)], options, strict=True)
        parts.append('\n'.join(['Options:', *(f'{a}. {_line(text)}' for a, text in lettered)]))
    domain = [template.instruction.strip()] if template else []
    return Task(
        '\n'.join([*domain, ROLE, CHOOSE if options else WRITE]),
        '\n\n'.join(parts),
        answer_schema(len(options)) if options else None,
        scenario.context,
        None if gestures is None else tuple(gestures),
        options,
        states=tuple(scenario.states[i] for i in order),
        valences=tuple(scenario.valences[i] for i in order),
    )


def rubric_task(question: str, rubric: Sequence[str], answer: str) -> Task:
    """What the rubric judge is sent: question, numbered items and the answer, nothing else."""
    numbers = list(range(1, len(rubric) + 1))
    items = '\n'.join(f'{i}. {item}' for i, item in enumerate(rubric, 1))
    schema = _object(
        covered=_list(len(numbers), {'type': 'integer', 'enum': numbers}),
        depth={'type': 'integer', 'enum': list(range(DEPTHS + 1))},
    )
    user = f'Question: {question}\n\nRubric:\n{items}\n\nAnswer to grade:\n{answer}'
    return Task(TEXTS['grading'], user, schema, '', None, (), (), ())


def timeline(gestures: Sequence[Gesture]) -> str:
    """A line each, ``00:03.2-00:04.0 rub hand (confidence 0.81)``; of truth without confidence."""
    if not gestures:
        return NO_GESTURES
    lines = [TIMELINE]
    for g in gestures:
        sure = f' (confidence {g.confidence:.2f})' if g.confidence < 1 else ''
        lines.append(f'{clock(g.start)}-{clock(g.end)} {_line(g.name)}{sure}')
    if names := sorted({g.name for g in gestures} & GLOSSARY.keys()):
        explained = '; '.join(f'{name}: {GLOSSARY[name]}' for name in names)
        lines.append(f'What the names mean: {explained}.')
    return '\n'.join(lines + [SURE] * any(g.confidence < 1 for g in gestures))


def clock(seconds: float) -> str:
    """Seconds as ``mm:ss.s``."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f'{minutes:02d}:{tenths // 10:02d}.{tenths % 10}'


def answer_schema(options: int) -> dict[str, Any]:
    """JSON schema of a choice among so many options; the reason first, as room to think."""
    return _object(
        evidence=_list(MOST_EVIDENCE, {'type': 'string', 'maxLength': LONGEST_EVIDENCE}),
        answer={'type': 'string', 'enum': list(LETTERS[:options])},
        confidence={'type': 'number', 'minimum': 0, 'maximum': 1},
    )


def _object(**fields: dict[str, Any]) -> dict[str, Any]:
    """Strict JSON schema of an object with a reason, these fields and no others."""
    fields = {'reason': {'type': 'string', 'maxLength': 1500}, **fields}
    strict = {'required': list(fields), 'additionalProperties': False}
    return {'type': 'object', 'properties': fields, **strict}


def _list(entries: int, items: dict[str, Any]) -> dict[str, Any]:
    return {'type': 'array', 'items': items, 'maxItems': entries, 'uniqueItems': True}


def _line(text: str) -> str:
    """Without line breaks: a class name must not be able to begin a part of its own."""
    return ' '.join(text.split())
