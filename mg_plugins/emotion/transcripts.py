"""Transcripts with times: SubRip (.srt), WebVTT (.vtt) and speech recognisers' JSON.

JSON is a list of ``{"start": seconds, "end": seconds, "text": "…", "speaker": "…"}`` (speaker if
known) or an object with such a list as ``"segments"``; other fields are ignored.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from mg_plugins.errors import UserError

from .redact import NO_LABELS, OPENERS, PRONOUNS, ROLES, without_contraction
from .scenarios import LONGEST, AnyText, Seconds, check

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


@dataclass(frozen=True)
class Utterance:
    """What somebody said: seconds, one line without markup, and who, as the file calls them."""

    start: Seconds
    end: Seconds
    text: AnyText
    speaker: Any = ''


def read_transcript(path: str | os.PathLike) -> list[Utterance]:
    """Read a transcript by its suffix, in order of time; cues without text are left out.

    One that cannot be read is a `UserError` with file, cue and line.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f'{path}: expected a file that ends in {", ".join(SUFFIXES)}')
    content = path.read_bytes()
    encoding = 'utf-16' if content[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig'
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: no UTF-8 text ({error}); save it as UTF-8') from None
    lines = text.splitlines()
    if suffix == '.vtt':
        if not re.match(r'WEBVTT(\s|$)', text):
            raise UserError(f'{path}, line 1: "WEBVTT" was expected')
        head = next((i for i, line in enumerate(lines) if not line.strip()), len(lines))
        lines[:head] = [''] * head
    found = _json(text, path) if suffix == '.json' else _cues(lines, path)
    return sorted((_labelled(u) for u in found if u.text), key=lambda u: (u.start, u.end))


def read_transcripts(folder: str | os.PathLike) -> dict[str, list[Utterance]]:
    """Transcripts of a folder, by session: the file's name without its suffix.

    Files of other kinds, and hidden ones, are passed over.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder} is no folder; expected one of {EXPECTED}')
    found: dict[str, list[Utterance]] = {}
    files = (p for p in folder.glob('[!.]*') if p.is_file() and p.suffix.lower() in SUFFIXES)
    for path in sorted(files):
        if path.stem in found:
            raise UserError(f'{folder}: two transcripts are of session {path.stem!r}')
        found[path.stem] = read_transcript(path)
    if not found:
        raise UserError(f'{folder} has no transcript; expected {EXPECTED}')
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


def _cues(lines: Sequence[str], path: Path) -> Iterator[Utterance]:
    """Cues of both formats: an optional number or name, a line with times, lines of text."""
    cues: list[tuple[tuple[float, float], list[str]]] = []
    said: list[str] | None = None  # the text of a cue that goes on
    skipping = False
    for at, line in enumerate(map(str.strip, lines)):
        where = f'{path}, cue {len(cues) + 1}, line {at + 1}'
        above = ARROW in ''.join(lines[at + 1 : at + 2])
        if not line:
            said, skipping = None, False
        elif skipping or said is None and SKIPPED_BLOCK.match(line):
            skipping = True
        elif ARROW in line:
            said = []
            cues.append((_times(line, where), said))
        elif above and (said is None or line.isdecimal()):
            said = None  # the number or name of a cue
        elif said is not None:
            said.append(line)
        else:
            raise UserError(
                f'{where}: a line such as "00:00:01,000 {ARROW} 00:00:02,500" was expected, '
                f'not {line[:60]!r}'
            )
    for (start, end), text in cues:
        # One utterance, or one for each of its voices.
        before, *voices = VOICE.split(' '.join(text))
        for who, words in [('', before), *zip(voices[::2], voices[1::2], strict=True)]:
            yield Utterance(start, end, _plain(words), _plain(who))


def _times(line: str, where: str) -> tuple[float, float]:
    """Start and end in seconds; settings after them are ignored."""
    left, _, right = line.partition(ARROW)
    times = []
    for text in (left.strip(), (right.split() or [''])[0]):
        match = CLOCK.fullmatch(text)
        if not match:
            wanted = 'a time such as 00:01:02.500 was expected'
            raise UserError(f'{where}: {wanted}, not {text[:60]!r}')
        hours, minutes, seconds, fraction = match.groups()
        whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
        if whole >= LONGEST:
            raise UserError(f'{where}: the time {text[:60]} is beyond {LONGEST:g} s')
        times.append(whole + int((fraction or '0').ljust(3, '0')) / 1000)
    if times[1] < times[0]:
        raise UserError(f'{where}: the end {text} comes before the start {left.strip()}')
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
    """Whether one to three words before a colon say who speaks: in capitals they do, else not with
    a common word ("Look:", "the last set:"), unless it is part of a name ("He Bingjiao:")."""
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
        raise UserError(f'{path}, line {line}: no JSON ({error})') from None
    if isinstance(content, dict):
        content = content.get('segments')
    if not isinstance(content, list):
        wanted = 'a list of segments, or an object with a list "segments", was expected'
        raise UserError(f'{path}: {wanted}')
    for number, item in enumerate(content, 1):
        where = f'{path}, segment {number}'
        said = check(Utterance, item, where)
        if said.end < said.start:
            back = f'{said.end} comes before the start {said.start}'
            raise UserError(f'{where}, field end: {back}')
        speaker = '' if said.speaker is None else str(said.speaker).strip()
        yield replace(said, text=' '.join(said.text.split()), speaker=speaker)
