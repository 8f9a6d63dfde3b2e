"""What an answer cites, held against the scenario: gestures with their times, and words.

The scorer sees an answer and the scenario's own timeline and context, in every arm the same; it
does not see the arm. A gesture is cited where its class is named, in any inflection ("rubbing her
hands" for ``rub hand``), with a time if one stands in the same sentence; words where they are
quoted. A citation is supported by the scenario when

* the class occurs in the timeline and, where a time is given, within half a second of a segment
  of that class;
* the quoted words stand in the context.

    score = supported / cited * min(1, supported / 3)

so that an answer that cites nothing scores 0 however fluent it is, one that cites somebody else's
gestures scores low, and three supported citations without a wrong one score 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .scenarios import Gesture

ENOUGH = 3  # supported citations
TOLERANCE = 0.5  # seconds
MOST_TEXT = 20_000  # characters that are looked at
CLOCK = r'(\d{1,4}):(\d{2}(?:\.\d{1,3})?)'
TIME = re.compile(rf'(?<!\d){CLOCK}(?:\s?[-–]\s?{CLOCK})?(?!\d)')  # or a span, which begins there
QUOTED = re.compile(r'["“„«]([^"”“»\n]{4,300})["”“»]')
SENTENCE = re.compile(r'[.!?;](?=\s)|\n')
ENDINGS = re.compile(r'(?:ing|ed|es|s|e)$')


@dataclass(frozen=True)
class Evidence:
    """Of one answer.

    Attributes:
        score: See the module's formula.
    """

    # cited, supported: Number of citations, and how many the scenario supports.
    cited: int
    supported: int
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
    """Hold what an answer cites against its scenario.

    Args:
        text: The answer, or its reason.
        cited: Places that the answer lists as evidence; each counts as one sentence.
        gestures, context: The scenario's own, whatever the answer was shown.
        vocabulary: Class names that may be cited, beside those of the timeline.
    """
    classes = tuple(sorted({*vocabulary, *(g.name for g in gestures)}))
    named: set[tuple[str, float | None]] = set()  # classes, each with a time or None
    quotes: set[str] = set()
    listed = [entry for entry in cited if entry.strip()]
    for sentence in [*SENTENCE.split(text[:MOST_TEXT]), *listed]:
        found = _named(sentence, classes)
        dated = set()
        for match in TIME.finditer(sentence) if found else ():
            # A time belongs to the class named nearest to it.
            at = match.start()
            name = min(found, key=lambda item, at=at: max(item[0] - at, at - item[1]))[2]
            dated.add((name, int(match[1]) * 60 + float(match[2])))
        named |= dated | {(name, None) for *_, name in found} - {(name, None) for name, _ in dated}
        words = [match[1] for match in QUOTED.finditer(sentence)]
        if not found and not words and sentence in listed:
            words = [sentence]
        plain = (_plain(quote) for quote in words if not _named(quote, classes))
        quotes |= {quote for quote in plain if ' ' in quote}
    # A class cited with a time needs no further mention without one.
    timed = {name for name, time in named if time is not None}
    named -= {(name, None) for name in timed}
    places = {
        (name, time): [
            i
            for i, g in enumerate(gestures)
            if g.name == name and (time is None or g.start - TOLERANCE <= time <= g.end + TOLERANCE)
        ]
        for name, time in named
    }
    said = _plain(context)
    supported = sum(map(bool, places.values())) + sum(quote in said for quote in quotes)
    segments = tuple(sorted({i for found in places.values() for i in found}))
    return Evidence(len(places) + len(quotes), supported, segments)


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
