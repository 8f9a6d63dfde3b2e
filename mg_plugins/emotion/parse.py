"""Reading an answer out of what a judge wrote: JSON, whole or broken, prose, thoughts, refusals."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from string import ascii_uppercase
from typing import Any

from mg_plugins.files import read_table

from .tasks import ANSWERED, CUT, REFUSED, THOUGHTS_ONLY, TOOL_CALL, UNREADABLE, Answer, Reply, Task

MOST_OBJECTS = 100  # braces that are looked at; a hostile reply may be full of them
MOST_TEXT = 10_000  # characters of prose that are looked at, at the beginning and at the end
MOST_REPLY = 1_000_000  # characters of a reply that are looked at
MOST_EVIDENCE, LONGEST_EVIDENCE = 20, 300
QUOTES = '"\'`*“”'
# Some chat templates put the opening tag into the prompt: only the closing one comes back.
THOUGHTS = ('<think>', '</think>'), ('<thinking>', '</thinking>'), ('[THINK]', '[/THINK]')
# OpenAI's open models: the last channel is the answer.
FINAL, ANALYSIS, MESSAGE = '<|channel|>final', '<|channel|>analysis', '<|message|>'
HARMONY = re.compile(r'(?:.*?<\|message\|>)?(.*?)(?:<\|(?:return|end|start|call)\|>|\Z)', re.S)

# The patterns below read plain text (see `_plain`): white space is one character there. They repeat
# nothing without a limit beside what may match the same characters, so that no reply takes long.
_BOXED = re.compile(r'\\boxed\{\s?(?:\\(?:text|textbf|mathrm)\{)?\s?([^{}\n]{1,200})\}')
_SPACES = re.compile(r'\s{2,}')
_MARKS = re.compile(r'([*_])\1{3,}')
_FIELD = r"""(?i)["'](?:answer|choice)["']\s?:\s?(["'])"""
_ANSWER_VALUE = re.compile(_FIELD + r'(.{0,1000}?)\1(?=\s?[,}\n])')
_CUT_ANSWER = re.compile(_FIELD + r"""([^"']*)\1""")
_NUMBER = r'(-?\d+(?:\.\d+)?)'
_CONFIDENCE = re.compile(
    r"""(?i)\bconfidence\b["'*]{0,4}\s?(?:level|score)?\s?(?:is|[:=])?[\s"'*]{0,8}"""
    rf"""{_NUMBER}(?:\s?(%|/\s?\d+))?(?=["'*\s,;)}}]|\.\s|\.?\Z)"""
)
# In JSON that is cut off the last number may be cut off too.
_WHOLE_CONFIDENCE = re.compile(
    rf"""(?i)["']confidence["']\s?:\s?["']?{_NUMBER}\s?(%)?(?=["'\s,}}])"""
)
# In prose an "A" may be the article and an "I" the pronoun: what follows has to end the letter.
_SAID = re.compile(
    r"""\b(?:[aA]nswer|ANSWER|[cC]hoice|choose|select|pick)\b(?:\swould\sbe|\sis)?\s?[:=]?"""
    r"""[\s*_`"']{0,8}(?:(?:[oO]ption|[cC]hoice|[lL]etter)\s)?[*_`"'(\[]{0,8}([A-Z])\b"""
    r"""(?=\s?(?:\Z|[).,:;!"'*`\]}—–\n]|-\s|because\b|since\b|as\b|with\b|\(|[oO]r\b|[aA]nd\b|/))"""
)
_SAID_LOWER = re.compile(
    r"""\banswer\s?[:=]\s?[*_`"'(\[]{0,8}([a-z])\b[*_`"')\].]{0,8}\s?(?:\n|\Z)""", re.I
)
_FIRST = re.compile(
    r"""\A[\s*_`"'(\[]{0,8}(?:[oO]ption\s)?([A-Z])\b(?:\s?[).:*\]]|["'`]?\s?(?:\n|\Z))"""
)
_MARKED = re.compile(r'\(([A-Z])\)|\*\*([A-Z])\b[.)]?\*\*|\b[oO]ption\s([A-Z])\b')
_SAID_OPTION = re.compile(r'\banswer(?:\sis|\s?[:=])\s?([^\n]+)', re.I)
_LETTER = re.compile(r'(?:(?:option|choice|answer)\s?:?\s?)?[(\[]?([A-Z])[)\].:]?', re.I)
_LETTERED = re.compile(r'(?:[oO]ption\s)?[(\[]?([A-Z])(?:[)\].:]|\s[-–—:(])\s?([^\n]*)')
_OTHER = re.compile(r"""[)*_`"'\].,\s]*(?:or|and|/)\s(?:\w+\s)?(?:option\s)?[(*"']{0,8}([A-Z])\b""")
_QUOTED = re.compile(r"""["“'‘*`]{1,2}([^"“”'‘’*`\n]+?)[.,]?["”'’*`]{1,2}""")
_REFUSAL, _NOT_HELPING, _EXCUSE = (
    re.compile('|'.join(read_table('emotion/texts.json')[name]), re.I)
    for name in ('refusals', 'not_helping', 'excuses')
)


def parse_reply(reply: Reply, task: Task) -> Answer:
    """Read a reply; never raises.

    Thoughts are set apart first. The letter, or the option itself, is looked for in JSON, in JSON
    that is cut off or badly quoted, and in prose; where the message is empty, in finished thoughts
    that state an answer as JSON or in a box. Nothing is guessed: two letters, or one that no option
    has, are unreadable. Of an open-ended task any text is an answer.
    """
    text, thoughts = split_thoughts(reply.text[:MOST_REPLY])
    thoughts, cut = reply.thoughts[:MOST_REPLY] or thoughts, reply.finish == 'length'
    answer = _read(text, task, reply.refusal)
    if answer.status == UNREADABLE and not text and not cut and task.options:
        found = _read(thoughts, task, False, stated=True)
        answer = found if found.status == ANSWERED else answer
    status = answer.status
    if status == UNREADABLE and not text and reply.finish in ('tool_calls', 'function_call'):
        status = TOOL_CALL
    elif cut and (status == UNREADABLE or status == ANSWERED and not task.options):
        status = CUT
    elif status == UNREADABLE and not text and thoughts:
        status = THOUGHTS_ONLY
    # JSON may name half of a character ("\\ud83d"), which no file takes.
    said, thoughts = writable(answer.text), writable(thoughts)
    evidence = tuple(map(writable, answer.evidence))
    return replace(answer, status=status, text=said, evidence=evidence, thoughts=thoughts)


def split_thoughts(text: str) -> tuple[str, str]:
    """The message without the thoughts written into it, and the thoughts."""
    thoughts = []
    if FINAL in text:
        before, _, text = text.rpartition(FINAL)
        thoughts.append(before)
        text = HARMONY.match(text)[1] if MESSAGE in text else ''
    elif ANALYSIS in text:
        return '', text
    for first, last in THOUGHTS:
        folded = text.lower() if first.islower() else text
        if len(folded) != len(text):  # a letter whose lower case is two
            folded = text
        end, start = folded.rfind(last), folded.find(first)
        if end >= 0:
            kept = text[:start] if 0 <= start < end else ''
            thoughts.append(text[len(kept) : end].removeprefix(first))
            text = kept + text[end + len(last) :]
        elif start >= 0:
            thoughts.append(text[start + len(first) :])
            text = text[:start]
    return text.strip(), '\n'.join(thoughts).strip()


def writable(text: str) -> str:
    """A text without halves of characters, which UTF-8 cannot hold."""
    return text.encode('utf-8', 'replace').decode()


def _read(text: str, task: Task, refusal: bool, stated: bool = False) -> Answer:
    """Read a message; of thoughts (``stated``) only what they state as an answer."""
    if refusal:
        return Answer(REFUSED, text=text)
    plain, options, sure = _plain(text), task.options, _CONFIDENCE
    if not options:
        # It declines where it opens with not helping, with nothing before that but excuses.
        found, status = _NOT_HELPING.search(plain), ANSWERED if text else UNREADABLE
        if found and not re.search(r'\w', _EXCUSE.sub('', plain[: found.start()])):
            status = REFUSED
        return Answer(status, text=text)
    # Every whole JSON object in the text that has an answer.
    whole = [{str(k).lower(): v for k, v in content.items()} for content in json_objects(text)]
    objects = [{'answer': o.get('choice')} | o for o in whole if {'answer', 'choice'} & o.keys()]
    content = objects[-1] if objects else {}
    if objects:
        choices = {_choice(found['answer'], options) for found in objects}
    elif boxed := _BOXED.findall(plain):
        choices = {_choice(boxed[-1].strip(), options)}
    elif stated:
        return Answer(UNREADABLE)
    elif found := _ANSWER_VALUE.findall(plain) or _CUT_ANSWER.findall(plain):
        choices, sure = {_choice(value, options) for _, value in found}, _WHOLE_CONFIDENCE
    else:
        choices = _said(plain, options)
    if len(choices) != 1 or None in choices:
        return Answer(REFUSED if _REFUSAL.search(plain) else UNREADABLE, text=text)
    if not objects and (found := sure.search(plain)) and not (found[2] or '').startswith('/'):
        content = {'confidence': found[1] + (found[2] or '')}
    reason, cited = content.get('reason'), content.get('evidence')
    cited = [v for v in (cited if isinstance(cited, list) else [cited]) if isinstance(v, str)]
    cited = dict.fromkeys(v.strip()[:LONGEST_EVIDENCE] for v in cited if v.strip())
    return Answer(
        ANSWERED,
        choices.pop(),
        _confidence(content.get('confidence')),
        reason if isinstance(reason, str) and reason else text,
        tuple(cited)[:MOST_EVIDENCE],
    )


def _plain(text: str) -> str:
    """The text with runs of white space and of marks made short, and without a long middle."""
    text = _SPACES.sub(lambda run: '\n' if '\n' in run[0] else ' ', text.strip())
    text = _MARKS.sub(r'\1\1\1', text)
    if len(text) <= 2 * MOST_TEXT:
        return text
    return f'{text[:MOST_TEXT]}\n{text[-MOST_TEXT:]}'


def json_objects(text: str, needed: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The whole JSON objects in a text that have all fields ``needed``."""
    at, decoder = text.find('{'), json.JSONDecoder(strict=False)
    for _ in range(MOST_OBJECTS):
        if at < 0:
            return
        try:
            content, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            content, end = None, at + 1
        if isinstance(content, dict) and all(name in content for name in needed):
            yield content
        at = text.find('{', end)


def _choice(value: Any, options: tuple[str, ...]) -> int | None:
    """The option that the value of an ``answer`` field names, or None."""
    if not isinstance(value, str):
        return None
    value = _plain(value).strip(QUOTES).strip()
    named = _named(value, options)
    if match := _LETTER.fullmatch(value):
        # A letter was asked for: it counts before an option whose text is a single letter.
        index = _index(match[1].upper(), options)
        return named if index is None else index
    if match := _LETTERED.match(value):
        letter, rest = _index(match[1], options), _named(match[2].strip(' ")\''), options)
        named = letter if rest in (None, letter) and not _OTHER.match(match[2]) else None
    return named


def _named(value: str, options: tuple[str, ...]) -> int | None:
    value, *names = (_plain(text).rstrip('.').casefold() for text in (value, *options))
    return names.index(value) if names.count(value) == 1 else None


def _index(letter: str, options: tuple[str, ...]) -> int | None:
    index = ascii_uppercase.find(letter)
    return index if 0 <= index < len(options) else None


def _said(text: str, options: tuple[str, ...]) -> set[int | None]:
    """The options that prose names as its answer; None stands for a letter that no option has."""
    whole = text.strip().strip(QUOTES).strip()
    if _LETTER.fullmatch(whole) or _LETTERED.match(whole) or _named(whole, options) is not None:
        return {_choice(whole, options)}
    for pattern in (_SAID, _SAID_LOWER, _FIRST, _MARKED):
        letters = set()
        for match in pattern.finditer(text):
            letters.add(next(filter(None, match.groups())).upper())
            if other := _OTHER.match(text, match.end()):
                letters.add(other[1])
        if letters:
            return {_index(letter, options) for letter in letters}
    quoted = [*_SAID_OPTION.findall(text), *_QUOTED.findall(text)]
    found = {_named(value.strip(' "\'`*“”'), options) for value in quoted}
    return found - {None}


def _confidence(value: Any) -> float | None:
    """A share in [0, 1], also from ``'85%'`` and from 85; None for what is neither."""
    text = str(value).strip()
    try:
        share = float(text.rstrip('% '))
    except (ValueError, OverflowError):
        return None
    if text.endswith('%') or 2 <= share <= 100:  # nobody means 1.2%
        share = share / 100
    return share if 0 <= share <= 1 else None
