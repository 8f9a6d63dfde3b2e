"""Transcripts with times: SubRip (.srt), WebVTT (.vtt) and speech recognisers' JSON.

JSON is a list of ``{"start": seconds, "end": seconds, "text": "…", "speaker": "…"}`` (speaker if
known) or an object with such a list as ``"segments"``; other fields are ignored.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from mg_plugins.errors import UserError

from .checks import LONGEST, AnyText, Seconds, check
from .redact import NO_LABELS, OPENERS, PRONOUNS, ROLES, without_contraction

SUFFIXES = ('.srt', '.vtt', '.json')
EXPECTED = 'SESSION.srt, SESSION.vtt or SESSION.json'
ARROW = '-->'
# Repeats are bounded here and below: files come from anywhere and must not take minutes.
CLOCK = re.compile(r'(?:(\d{1,9}):)?([0-5]?\d):([0-5]\d)(?:[.,](\d{1,3}))?')
SKIPPED_BLOCK = re.compile(r'(NOTE|STYLE|REGION)(\s|$)')
VOICE = re.compile(r'<v(?:\.[^\s<>]{0,200})?\s([^<>]{1,500})>')
TAG = re.compile(r'<[^<>]*>|\{\\[^{}]*\}')
HUGE_ENTITY = re.compile(r'&#\d{8,};?')  # no character, and too long a number for Python
# "NAME:", "first last:" or "Reporter 2:" at the beginning of a cue.
LABEL = re.compile(
    r"(?:>> ?|- ?)?([^\W\d_][\w.'’-]{0,40}(?: [^\W\d_][\w.'’-]{0,40}){0,2}(?: \d{1,4})?) ?: (?=\S)"
)


class TranscriptError(UserError):
    """A transcript that cannot be read; names file, cue and line."""


@dataclass(frozen=True)
class Utterance:
    """What somebody said: seconds, one line without markup, and who, as the file calls them."""

    start: Seconds
    end: Seconds
    text: AnyText
    speaker: Any = ''


def read_transcript(path: str | os.PathLike) -> list[Utterance]:
    """Read a transcript by its suffix, in order of time; cues without text are left out."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise TranscriptError(f'{path}: expected a file that ends in {", ".join(SUFFIXES)}')
    content = path.read_bytes()
    encoding = 'utf-16' if content[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig'
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise TranscriptError(f'{path}: no UTF-8 text ({error}); save it as UTF-8') from None
    lines = text.splitlines()
    if suffix == '.vtt':
        if not re.match(r'WEBVTT(\s|$)', text):
            raise TranscriptError(f'{path}, line 1: "WEBVTT" was expected')
        head = next((i for i, line in enumerate(lines) if not line.strip()), len(lines))
        lines[:head] = [''] * head
    found = _json(text, path) if suffix == '.json' else _cues(lines, path)
    return sorted((_labelled(u) for u in found if u.text), key=lambda u: (u.start, u.end))


def read_transcripts(
    folder: str | os.PathLike, notes: list[str] | None = None
) -> dict[str, list[Utterance]]:
    """Transcripts of a folder, by session: the file's name without its suffix.

    Hidden files are skipped; which files are of other kinds is added to ``notes``.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TranscriptError(f'{folder} is no folder; expected one of {EXPECTED}')
    found: dict[str, list[Utterance]] = {}
    others: Counter[str] = Counter()
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith('.')):
        suffix = path.suffix.lower()
        if path.is_dir() or suffix not in SUFFIXES:
            others['folder' if path.is_dir() else suffix or 'without suffix'] += 1
        elif path.stem in found:
            raise TranscriptError(f'{folder}: two transcripts are of session {path.stem!r}')
        else:
            found[path.stem] = read_transcript(path)
    kinds = ', '.join(f'{count} {kind}' for kind, count in sorted(others.items()))
    if not found:
        raise TranscriptError(
            f'{folder} has no transcript (it has {kinds or "nothing"}); expected {EXPECTED}'
        )
    if others and notes is not None:
        notes.append(
            f'{folder}: {others.total()} of another kind not read ({kinds}); expected {EXPECTED}'
        )
    return found


def speaker_names(utterances: Iterable[Utterance]) -> list[str]:
    """Speaker labels that may be names, whatever their case: such names are said as well."""
    words = {u.speaker: set(re.findall(r'[^\W\d_]+', u.speaker.casefold())) for u in utterances}
    return [
        label
        for label, said in words.items()
        if len(''.join(said)) > 1 and not said & ROLES and said - PRONOUNS
    ]


def mask_speakers(utterances: Iterable[Utterance]) -> list[Utterance]:
    """Speakers as "Speaker A", "Speaker B", … in order of appearance."""
    letters = (''.join(some) for n in count(1) for some in product(ascii_uppercase, repeat=n))
    labels = defaultdict(lambda: f'Speaker {next(letters)}')
    return [replace(u, speaker=u.speaker and labels[u.speaker.casefold()]) for u in utterances]


def as_text(utterances: Iterable[Utterance]) -> str:
    """A line an utterance: "[01:12] Speaker A: …" (minutes and seconds)."""
    return '\n'.join(
        f'[{int(u.start) // 60:02d}:{int(u.start) % 60:02d}] '
        + (f'{u.speaker}: ' if u.speaker else '')
        + u.text
        for u in utterances
    )


def _cues(lines: Sequence[str], path: Path) -> list[Utterance]:
    """Cues of both formats: an optional number or name, a line with times, lines of text."""
    cues: list[Utterance] = []
    number, at = 1, 0
    while at < len(lines):
        line, where = lines[at].strip(), f'{path}, cue {number}, line {at + 1}'
        at += 1
        if ARROW in line:
            start, end = _times(line, where)
            first = at
            while at < len(lines) and lines[at].strip() and not _begins_cue(lines, at):
                at += 1
            number += 1
            # One utterance, or one for each of its voices.
            before, *voices = VOICE.split(' '.join(lines[first:at]))
            parts = [('', before), *zip(voices[::2], voices[1::2], strict=True)]
            cues += [Utterance(start, end, _plain(said), _plain(who)) for who, said in parts]
        elif SKIPPED_BLOCK.match(line):
            while at < len(lines) and lines[at].strip():
                at += 1
        elif line and not _begins_cue(lines, at - 1):
            raise TranscriptError(
                f'{where}: a line such as "00:00:01,000 {ARROW} 00:00:02,500" was expected, '
                f'not {line[:60]!r}'
            )
    return cues


def _begins_cue(lines: Sequence[str], at: int) -> bool:
    """Whether a line has the times of a cue, or is the number or name above them."""
    if ARROW in lines[at]:
        return True
    named = not at or not lines[at - 1].strip() or lines[at].strip().isdecimal()
    return named and ARROW in ''.join(lines[at + 1 : at + 2])


def _times(line: str, where: str) -> tuple[float, float]:
    """Start and end in seconds; settings after them are ignored."""
    left, _, right = line.partition(ARROW)
    times = []
    for text in (left.strip(), (right.split() or [''])[0]):
        match = CLOCK.fullmatch(text)
        if not match:
            raise TranscriptError(
                f'{where}: a time such as 00:01:02.500 was expected, not {text[:60]!r}'
            )
        hours, minutes, seconds, fraction = match.groups()
        whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
        if whole >= LONGEST:
            raise TranscriptError(f'{where}: the time {text[:60]} is beyond {LONGEST:g} s')
        times.append(whole + int((fraction or '0').ljust(3, '0')) / 1000)
        if times[-1] < times[0]:
            raise TranscriptError(f'{where}: the end {text} comes before the start {left.strip()}')
    return times[0], times[1]


def _plain(text: str) -> str:
    return ' '.join(html.unescape(HUGE_ENTITY.sub('', TAG.sub('', text))).split())


def _labelled(cue: Utterance) -> Utterance:
    """With "NAME:" taken from the beginning of a text that has no speaker of its own."""
    label = None if cue.speaker else LABEL.match(cue.text)
    if not label or not _is_label(label[1]):
        return cue
    return replace(cue, speaker=label[1], text=cue.text[label.end() :])


def _is_label(text: str) -> bool:
    """Whether one to three words before a colon say who speaks.

    In capitals they do, else not with a word that is common there ("Look:", "the last set:"),
    unless it is part of a name ("He Bingjiao:").
    """
    words = [word for word in text.split() if not word.isdecimal()]
    bare = [without_contraction(word).rstrip('.').casefold() for word in words]
    common = [word in OPENERS or word in NO_LABELS for word in bare]
    if text.isupper() or not any(common):
        return True
    return not all(common) and all(word[0].isupper() for word in words)


def _json(text: str, path: Path) -> Iterable[Utterance]:
    try:
        # A number of very many digits is infinite then, which the check refuses.
        content = json.loads(text, parse_int=lambda n: int(n) if len(n) < 18 else float(n))
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, 'lineno', 1)
        raise TranscriptError(f'{path}, line {line}: no JSON ({error})') from None
    if isinstance(content, dict):
        content = content.get('segments')
    if not isinstance(content, list):
        raise TranscriptError(
            f'{path}: a list of segments, or an object with a list "segments", was expected'
        )
    for number, item in enumerate(content, 1):
        where = f'{path}, segment {number}'
        if isinstance(item, dict):
            item = {k: v for k, v in item.items() if k in Utterance.__dataclass_fields__}
        said = check(Utterance, item, where, TranscriptError)
        if said.end < said.start:
            raise TranscriptError(
                f'{where}, field end: {said.end} comes before the start {said.start}'
            )
        speaker = '' if said.speaker is None else str(said.speaker).strip()
        yield replace(said, text=' '.join(said.text.split()), speaker=speaker)
