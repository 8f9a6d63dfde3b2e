"""Scores of answers: what an answer cites, and of open-ended ones how complete and deep."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from .ask import ask_all
from .parse import json_objects, parse_reply
from .scenarios import Gesture
from .tasks import ANSWERED, CUT, DEPTHS, TEXTS, UNREADABLE, Answer, Judge, Reply, Task

ENOUGH = 3  # supported citations
TOLERANCE = 0.5  # seconds
MOST_TEXT = 20_000  # characters that are looked at
CLOCK = r'(\d{1,4}):(\d{2}(?:\.\d{1,3})?)'
TIME = re.compile(rf'(?<!\d){CLOCK}(?:\s?[-–]\s?{CLOCK})?(?!\d)')  # or a span, which begins there
QUOTED = re.compile(r'["“„«]([^"”“»\n]{4,300})["”“»]')
SENTENCE = re.compile(r'[.!?;](?=\s)|\n')
ENDINGS = re.compile(r'(?:ing|ed|es|s|e)$')

GENERAL_RUBRIC = tuple(TEXTS['general'])


@dataclass(frozen=True)
class Evidence:
    """Of one answer: one that cites nothing scores 0, three supported citations alone score 1."""

    cited: int  # number of citations
    supported: int  # how many of them the scenario supports
    segments: tuple[int, ...]  # indices of the scenario's gestures that are cited rightly

    @property
    def score(self) -> float:
        return self.supported / max(self.cited, 1) * min(1.0, self.supported / ENOUGH)


def score_evidence(
    text: str,
    cited: Iterable[str],
    gestures: Sequence[Gesture],
    context: str,
    vocabulary: Iterable[str],
) -> Evidence:
    """Hold what an answer cites against its scenario, whatever the answer was shown.

    A gesture is cited where its class (one of ``vocabulary`` or the timeline) is named, in any
    inflection ("rubbing her hands" for ``rub hand``), with a time if one stands in the same
    sentence; words where they are quoted. Each place ``cited`` counts as a sentence. A citation is
    supported where the class occurs in the timeline (a time that is given within half a second of
    such a segment), or the quoted words stand in the context.
    """
    classes = tuple(sorted({*vocabulary, *(g.name for g in gestures)}))
    named: set[tuple[str, float | None]] = set()  # classes, each with a time or None
    quotes: set[str] = set()
    listed = [entry for entry in cited if entry.strip()]
    for sentence in [*SENTENCE.split(text[:MOST_TEXT]), *listed]:
        found = _named(sentence, classes)
        named |= {(name, None) for *_, name in found}
        for match in TIME.finditer(sentence) if found else ():
            at = match.start()  # a time belongs to the class named nearest to it
            name = min(found, key=lambda item, at=at: max(item[0] - at, at - item[1]))[2]
            named.add((name, int(match[1]) * 60 + float(match[2])))
        words = QUOTED.findall(sentence)
        if not found and not words and sentence in listed:
            words = [sentence]
        plain = (_plain(quote) for quote in words if not _named(quote, classes))
        quotes |= {quote for quote in plain if ' ' in quote}
    # A class cited with a time needs no further mention without one.
    named -= {(name, None) for name, time in named if time is not None}
    spans = [(g.name, g.start - TOLERANCE, g.end + TOLERANCE) for g in gestures]
    places = [
        {i for i, (of, a, b) in enumerate(spans) if of == name and (time is None or a <= time <= b)}
        for name, time in named
    ]
    said = _plain(context)
    supported = sum(map(bool, places)) + sum(quote in said for quote in quotes)
    return Evidence(len(places) + len(quotes), supported, tuple(sorted(set().union(*places))))


def _named(sentence: str, classes: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """Places and names of the classes in a sentence; a longer name hides a shorter one in it."""
    found: list[tuple[int, int, str]] = []
    for name in sorted(classes, key=lambda n: -len(n)):
        for match in _pattern(name).finditer(sentence):
            if all(match.end() <= a or match.start() >= b for a, b, _ in found):
                found.append((*match.span(), name))
    return found


@lru_cache(maxsize=4096)
def _pattern(name: str) -> re.Pattern:
    """The words of a name in any inflection, with at most one word between two of them."""
    stems = [ENDINGS.sub('', word) or word for word in re.findall(r'\w+', name.lower())]
    words = [rf'{re.escape(stem)}\w{{0,5}}' for stem in stems if stem not in ('or', 'and')]
    between = r'\W{1,3}(?:\w{1,12}\W{1,3})?'
    return re.compile(rf'\b{between.join(words)}\b', re.I)


def _plain(text: str) -> str:
    return ' '.join(re.findall(r'\w+', text.lower()))


def grade(
    tasks: Sequence[Task],
    judge: Judge,
    *,
    seed: int = 0,
    cache: Any = None,
    ask: Mapping[str, Any] | None = None,
) -> tuple[list[dict[str, float] | None], Any]:
    """Score answers (`rubric_task`) in an order shuffled by ``seed``; equal ones once.

    It is blind, with against placebo: an answer tells that it saw gestures, but not whose. Each
    gets the share of the rubric's items that it covers and a depth from 0 to 4 (see
    ``texts.json``), or None. The second result is that of `ask_all`.
    """
    different = list(dict.fromkeys(tasks))
    shuffled = [different[i] for i in np.random.default_rng(seed).permutation(len(different))]
    asked = ask_all(judge, shuffled, cache=cache, **{**(ask or {}), 'read': _read_score})
    told = zip(shuffled, asked.answers, strict=True)
    scores = {task: parse_score(a.text, task) for task, a in told if a.status == ANSWERED}
    return [scores.get(task) for task in tasks], asked


def _read_score(reply: Reply, task: Task) -> Answer:
    """Unreadable where it has no score, so that it is asked again and counted."""
    answer = parse_reply(reply, task)
    if answer.status in (ANSWERED, CUT):
        found = parse_score(answer.text, task)
        answer = replace(answer, status=ANSWERED if found else UNREADABLE)
    return answer


def parse_score(text: str, task: Task) -> dict[str, float] | None:
    """Read a rubric judge's reply: the first JSON object in it with both fields, if any."""
    items = task.schema['properties']['covered']['maxItems']
    for content in json_objects(text, ('covered', 'depth')):
        covered, depth = content['covered'], content['depth']
        numbers = [*covered, depth] if isinstance(covered, list) else [None]
        if all(type(n) in (int, float) for n in numbers):
            if 0 <= depth <= DEPTHS and all(1 <= i <= items for i in covered):
                return {'completeness': len(set(covered)) / items, 'depth': float(depth)}
    return None
