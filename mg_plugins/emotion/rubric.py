"""Scores of open-ended answers: how complete they are and how deep.

Completeness is the share of the rubric's items that an answer covers. Depth runs from 0, nothing
about the person's state, to 4, evidence that is tied to a verdict and weighed (see ``texts.json``).

Who scores sees the question, the rubric and one answer; never the arm, the scenario or the true
state, and answers come in shuffled order. One limit cannot be removed: an answer that speaks of
gestures gives away that it saw some. It does not give away whose, so the comparison of the arm
with gestures against the placebo stays blind.

Beside them stands what the answer cites (`evidence`), which no rubric judge has a part in.

Completeness and depth come from a language model, or from the embedded *keyword rubric*. The latter
counts words: it knows no meaning, and an answer can please it with the right words in any order. It
is there to try the machinery without a model, not to be cited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .parse import json_objects, parse_reply
from .prompts import LONGEST_REASON, TEXTS, object_schema, text_of_at_most
from .tasks import ANSWERED, CUT, UNREADABLE, Answer, Judge, Reply, Task

KEYWORD = 'keyword rubric'
DEPTHS = 4
GENERAL_RUBRIC, COMMON = tuple(TEXTS['general']), frozenset(TEXTS['common'].split())
STEM = 5  # letters that two forms of a word share
LINKS, HEDGES = (
    re.compile(rf'\b({"|".join(TEXTS[name])})\b', re.I) for name in ('links', 'hedges')
)


@dataclass(frozen=True)
class Score:
    """Of one answer: ``completeness`` in [0, 1] and ``depth`` in [0, 4]."""

    completeness: float
    depth: float


@dataclass(frozen=True)
class OpenAnswer:
    """What the rubric sees of an answer."""

    question: str
    rubric: tuple[str, ...]
    text: str


def keyword_rubric(answer: OpenAnswer) -> Score:
    """Score an answer by counting words.

    An item is covered when any of its words of three letters or more, but for common ones and those
    of the question, occurs in the answer with the same first five letters; items without a word of
    their own do not count. Depth is 0 for an empty answer; else 1, and 1 more each for the first
    and the second linking word (because, suggests, …), and for a hedge (although, might, …).
    """
    text = answer.text.strip()
    if not text:
        return Score(0.0, 0)
    said, asked = _stems(text), _stems(answer.question)
    items = [words for words in (_stems(item) - asked for item in answer.rubric) if words]
    covered = sum(bool(words & said) for words in items)
    depth = 1 + min(2, len(LINKS.findall(text))) + bool(HEDGES.search(text))
    return Score(covered / max(len(items), 1), depth)


def grade(
    answers: Sequence[OpenAnswer],
    judge: Judge | None = None,
    *,
    seed: int = 0,
    cache: Any = None,
    ask: Mapping[str, Any] | None = None,
) -> tuple[list[Score | None], Any]:
    """Score answers, blind and in an order shuffled by ``seed``; equal answers once.

    ``judge`` is a language model, None for the keyword rubric; ``cache`` and ``ask`` are arguments
    of `ask.ask_all`. Returns a score an answer, None where the judge gave none, and what
    `ask.ask_all` returned (None with the keyword rubric).
    """
    if judge is None:
        return [keyword_rubric(answer) for answer in answers], None
    from .ask import ask_all

    different = list(dict.fromkeys(answers))
    order = np.random.default_rng(seed).permutation(len(different))
    tasks = [rubric_task(different[i]) for i in order]
    asked = ask_all(judge, tasks, cache=cache, **{**(ask or {}), 'read': _read_score})
    scores = {
        different[i]: parse_score(told.text, len(different[i].rubric))
        for i, told in zip(order, asked.answers, strict=True)
        if told.status == ANSWERED
    }
    return [scores.get(answer) for answer in answers], asked


def _read_score(reply: Reply, task: Task) -> Answer:
    """Unreadable where it has no score, so that it is asked again and counted."""
    answer = parse_reply(reply, task)
    if answer.status in (ANSWERED, CUT):
        items = task.schema['properties']['covered']['maxItems']
        found = parse_score(answer.text, items) is not None
        answer = replace(answer, status=ANSWERED if found else UNREADABLE)
    return answer


def rubric_task(answer: OpenAnswer) -> Task:
    """What the rubric judge is sent: question, numbered items and the answer, nothing else."""
    items = '\n'.join(f'{i}. {item}' for i, item in enumerate(answer.rubric, 1))
    numbers = list(range(1, len(answer.rubric) + 1))
    schema = object_schema(
        reason=text_of_at_most(LONGEST_REASON),
        covered={
            'type': 'array',
            'items': {'type': 'integer', 'enum': numbers},
            'maxItems': len(numbers),
            'uniqueItems': True,
        },
        depth={'type': 'integer', 'enum': list(range(DEPTHS + 1))},
    )
    user = f'Question: {answer.question}\n\nRubric:\n{items}\n\nAnswer to grade:\n{answer.text}'
    return Task(TEXTS['grading'], user, schema, '', None, (), (), (), 'rubric')


def parse_score(text: str, items: int) -> Score | None:
    """Read a rubric judge's reply: the first JSON object in it with both fields, if any."""
    for content in json_objects(text, ('covered', 'depth')):
        covered, depth = content['covered'], content['depth']
        numbers = [*covered, depth] if isinstance(covered, list) else [None]
        if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
            continue
        if 0 <= depth <= DEPTHS and all(1 <= i <= items for i in covered):
            return Score(len(set(covered)) / items, float(depth))
    return None


def _stems(text: str) -> set[str]:
    words = re.findall(r'[a-z]{3,}', text.lower())
    return {word[:STEM] for word in words if word not in COMMON}
