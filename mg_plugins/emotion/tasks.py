"""What is asked of a judge, what comes back, and how the answer is read from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from .scenarios import Gesture

# What became of a question. Every one of them is counted and shown.
ANSWERED, REFUSED, FAILED = 'answered', 'refused', 'failed'
CUT = 'cut'  # at the limit on the answer's length, before an answer could be read
THOUGHTS_ONLY = 'reasoning only'  # a reasoning model ended without an answer
TOOL_CALL = 'tool call'  # called a tool instead of answering
UNREADABLE = 'unreadable'
NOT_ASKED = 'not asked'  # the budget ended before
STATUSES = (ANSWERED, REFUSED, CUT, THOUGHTS_ONLY, TOOL_CALL, UNREADABLE, FAILED, NOT_ASKED)
# Asking again may bring an answer.
UNREAD = (CUT, THOUGHTS_ONLY, TOOL_CALL, UNREADABLE)


@dataclass(frozen=True)
class Task:
    """One question in one arm, ready to be asked.

    A language model sees ``system`` and ``user`` and is held to ``schema`` (a JSON schema); the
    lexicon judge, which reads no prose, takes the other fields.
    """

    system: str
    user: str
    schema: dict[str, Any] | None = field(compare=False)
    context: str
    # The timeline that is shown; None in the arm that shows none.
    gestures: tuple[Gesture, ...] | None
    options: tuple[str, ...]  # the options in the order shown; none if open-ended
    # states, valences: State behind each option and its pleasantness, in the same order.
    states: tuple[str, ...]
    valences: tuple[float, ...]
    domain: str  # name of the scenario's template
    sample: int = 0  # number of the draw, for voting over several


@dataclass(frozen=True)
class Reply:
    """What a judge sent back, as it came."""

    text: str  # the message
    # Tokens of prompt and answer together, as the judge counts them; 0 if it does not.
    tokens: int = 0
    refusal: bool = False  # the judge marked it as a refusal
    thoughts: str = ''  # what a reasoning model wrote before its message
    # Why it ended, in OpenAI's words (``'length'``, ``'tool_calls'``); empty if unknown.
    finish: str = ''
    # The endpoint counted far fewer tokens than the prompt has: it read a part only.
    prompt_cut: bool = False


class JudgeError(RuntimeError):
    """A question that got no reply; the message holds no key.

    ``retry``: asking again may help; ``after``: seconds that the endpoint asked to wait; ``busy``:
    it has too much to do; ``free``: the request was changed, ask at once and do not count a try.
    """

    def __init__(
        self,
        message: str,
        retry: bool = False,
        after: float | None = None,
        busy: bool = False,
        free: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry, self.after, self.busy, self.free = retry, after, busy, free


class Unreachable(JudgeError):
    """Nobody listens there: no use in asking many questions before saying so."""


class Judge(Protocol):
    """Answers tasks. ``name`` is for people (``'lexicon'``, ``'openai: qwen3-8b'``).

    A judge may have three members more: ``reads(task)``, what its answer depends on where that is
    not the messages and the schema (the cache's key is made of it); ``notes``, what a reader should
    know of how it asked; and ``scrub(text)``, which takes a key out of a text.
    """

    name: str

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
    # Index of the option chosen, in the order shown; None unless answered.
    choice: int | None = None
    confidence: float | None = None  # the judge's own, in [0, 1], where it gave one
    text: str = ''  # the judge's reason, or its open-ended answer, or the error
    evidence: tuple[str, ...] = ()  # what the judge cites of the scenario
    thoughts: str = ''  # what a reasoning model wrote before its answer
