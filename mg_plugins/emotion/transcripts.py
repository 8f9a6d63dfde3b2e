"""Transcripts with times: SubRip (.srt), WebVTT (.vtt) and speech recognisers' JSON.

JSON is a list of ``{"start": seconds, "end": seconds, "text": "…", "speaker": "…"}`` (speaker if
known) or an object with it as ``"segments"``; other fields are ignored.
"""

import codecs
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
from .scenarios import AnyText, Seconds, check, readable

SUFFIXES = ('.srt', '.vtt', '.json')
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
    """Read a transcript by its suffix, in order of time; cues without text are left out."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f'{path}: expected a file that ends in {", ".join(SUFFIXES)}')
    with readable(path, ': UTF-8 text'):
        content = path.read_bytes()
        wide = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        text = content.decode('utf-16' if wide else 'utf-8-sig')
    lines = text.splitlines()
    if suffix == '.vtt':
        if not re.match(r'WEBVTT(\s|$)', text):
            raise UserError(f'{path}, line 1: "WEBVTT" was expected')
        head = next((i for i, line in enumerate(lines) if not line.strip()), len(lines))
        lines[:head] = [''] * head
    found = _json(text, path) if suffix == '.json' else _cues(lines, path)
    return sorted((_labelled(u) for u in found if u.text), key=lambda u: (u.start, u.end))


def read_transcripts(folder: str | os.PathLike) -> dict[str, list[Utterance]]:
    """Transcripts of a folder by session, the stem of a file; other files are passed over."""
    found: dict[str, list[Utterance]] = {}
    for path in sorted(Path(folder).glob('[!.]*')):
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            if path.stem in found:
                raise UserError(f'{folder}: two transcripts are of session {path.stem!r}')
            found[path.stem] = read_transcript(path)
    if not found:
        wanted = 'expected SESSION.srt, SESSION.vtt or SESSION.json'
        raise UserError(f'{folder} is no folder with a transcript in it; {wanted}')
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
    cues: list[tuple[Utterance, list[str]]] = []
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
            start, _, end = line.partition(ARROW)  # settings may follow
            times = [_seconds(text, where) for text in (start.strip(), (end.split() or [''])[0])]
            cues.append((_checked({'start': times[0], 'end': times[1], 'text': ''}, where), said))
        elif above and (said is None or line.isdecimal()):
            said = None  # the number or name of a cue
        elif said is None:
            wanted = f'a line such as "00:00:01,000 {ARROW} 00:00:02,500" was expected'
            raise UserError(f'{where}: {wanted}, not {line[:60]!r}')
        else:
            said.append(line)
    for cue, text in cues:
        # One utterance, or one for each of its voices.
        before, *voices = VOICE.split(' '.join(text))
        for who, words in [('', before), *zip(voices[::2], voices[1::2], strict=True)]:
            yield replace(cue, text=_plain(words), speaker=_plain(who))


def _seconds(text: str, where: str) -> float:
    match = CLOCK.fullmatch(text)
    if not match:
        raise UserError(f'{where}: a time such as 00:01:02.500 was expected, not {text[:60]!r}')
    hours, minutes, seconds, fraction = match.groups()
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole + int((fraction or '0').ljust(3, '0')) / 1000


def _checked(content: Any, where: str) -> Utterance:
    made = check(Utterance, content, where)
    if made.end < made.start:
        raise UserError(f'{where}: the end {made.end} comes before the start {made.start}')
    return made


def _plain(text: str) -> str:
    return ' '.join(html.unescape(HUGE_ENTITY.sub('', TAG.sub('', text))).split())


def _labelled(cue: Utterance) -> Utterance:
    """With "NAME:" taken off as the speaker: "LOOK:" and "He Bingjiao:" too, not common "Look:"."""
    label = None if cue.speaker else LABEL.match(cue.text)
    words = [word for word in label[1].split() if not word.isdecimal()] if label else []
    bare = [without_contraction(word).rstrip('.').casefold() for word in words]
    common = [word in OPENERS or word in NO_LABELS for word in bare]
    named = not all(common) and all(word[0].isupper() for word in words)
    if not label or not (label[1].isupper() or not any(common) or named):
        return cue
    return replace(cue, speaker=label[1], text=cue.text[label.end() :])


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
        raise UserError(f'{path}: a list, or an object with a list "segments", was expected')
    for number, item in enumerate(content, 1):
        said = _checked(item, f'{path}, segment {number}')
        speaker = '' if said.speaker is None else str(said.speaker).strip()
        yield replace(said, text=' '.join(said.text.split()), speaker=speaker)
