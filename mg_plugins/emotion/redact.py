"""Opaque ids, and text without the names that somebody knew to name.

Names that are given are masked by stable placeholders, and so are addresses, links, handles and
long numbers. Whatever else looks like a name is reported, never masked: a person decides. None of
this is a promise: what was said can identify somebody without any name. Needs the standard
library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

# Parts of names that are ordinary words everywhere; only the whole name is masked then.
PARTICLES = frozenset(
    'al bin da das de del della den der di do dos du el ibn la las le les los of san st ter the '
    'van vel von y zu'.split()
)
# First or last names that are also common words: masked only where they are capitalised.
WORDS = frozenset(
    'ace art bill bird black bloom brown case chance chase christian cook day dean drew earl faith '
    'field fields fish fox frank gay gene grace grant gray green guy hall hand hill hope hunter '
    'iris jack joy king knight lane law little long major mark may mercy miles miller moon '
    'page park penny pierce price ray rich rob rock rose ruby sky stone sue summer '
    'victor wade ward will wood woods young'.split()
)
# Capitalised in mid sentence without being a name.
CAPITALISED = frozenset(
    'i monday tuesday wednesday thursday friday saturday sunday january february march april may '
    'june july august september october november december christmas easter god ok okay tv person '
    'speaker english mr mrs ms miss dr'.split()
)
# Begin sentences before a comma or a name, and are none.
OPENERS = frozenset(
    'a after again ah all also although an and anyway are as at because before being both but by '
    'can coming could dear did do does during even every first for from good great had has have he '
    'hello hey hi how however if in instead is it just last later like listen look man maybe more '
    'my never next no not now of oh ok okay on once one or our out over perhaps playing please '
    'right second see since so still sure thank thanks that the then there these they this those '
    'though three to today tomorrow two was we well were what when where which while who why with '
    'would yeah yes yesterday yet you your'.split()
)
# Letters that have no base letter in Unicode's tables.
LETTERS = str.maketrans('øłđðıħŧ', 'olddiht')
PATTERNS = (
    ('[EMAIL]', re.compile(r"(?<![\w.+'-])[\w.+'-]+@[\w-]+(?:\.[\w-]+)+")),
    (
        '[LINK]',
        re.compile(
            r'(?:https?://|www\.)[^\s<>"]*[^\s<>".,;:!?)\]]'
            r'|\b(?:[\w-]+\.)+(?:com|org|net|info|edu|gov|io|tv|eu|uk|de|fr|es|it|fi|cn|jp)'
            r'\b(?:/[^\s<>"]*[^\s<>".,;:!?)\]])?',
            re.IGNORECASE,
        ),
    ),
    ('[HANDLE]', re.compile(r'(?<![\w@])@\w[\w.]*\w')),
)
# Groups of two digits or more, so that tennis scores stay; seven digits or more are masked.
NUMBER = re.compile(
    r'(?<![\w.,])(?:\+\s?)?\(?\d+(?:(?:[\s./-]?\(0\)\s?|[\s./()-]{1,3})\d{2,})*(?!\w)'
)
DIGITS = 7
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
# Before a word that begins a sentence: nothing, an end of sentence, a bracket, a line or a colon.
SENTENCE_START = re.compile(r'(?:^|[.!?…:\n]["”’\')\]]*)[\s"“„‘\'(\[–—-]*$')
# What `transcripts.as_text` begins lines with.
LINE_HEAD = re.compile(r'^\[\d+:\d\d\] (?:Speaker [A-Z]+: )?', re.MULTILINE)
SHOWN_PLACES = 5


def opaque_id(kind: str, text: str, salt: str) -> str:
    """A short id that tells nothing about ``text`` to somebody without the salt.

    Args:
        kind: First letter of the id; the same text gives different ids for different kinds.
        text: What is hidden, such as a subject's name.
        salt: Secret of the build; whoever knows it can try names.
    """
    key = hashlib.sha256(salt.encode()).digest()
    content = f'{kind}\0{text}'.encode()
    return kind[0] + hashlib.blake2b(content, key=key, digest_size=6).hexdigest()


def new_salt() -> str:
    """A random salt, for ids that nobody can recompute from a list of names."""
    return secrets.token_hex(16)


def read_names(path: str | os.PathLike) -> list[str]:
    """Lines of a names file: a person a line, other names of the same person after commas.

    Empty lines and lines that begin with ``#`` are skipped.
    """
    lines = Path(path).read_text(encoding='utf-8-sig').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith('#')]


class Redactor:
    """Masks names, addresses, links, handles and long numbers; keeps count.

    A name is found whatever its case, accents and hyphens, with possessives, as a whole and by its
    parts ("Ann Lee" gives "Ann" and "Lee"); what two persons share becomes ``[PERSON]``.

    Args:
        names: One entry a person; other names of the same person after commas.

    Attributes:
        persons: Placeholder to the entry it stands for. Never to be sent.
        masked: How often each placeholder was put in.
        possible: What else looks like a name, to how often and where.
        uncased: Texts without any capital letter, in which names cannot be spotted.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.persons: dict[str, str] = {}
        self.masked: Counter[str] = Counter()
        self.possible: dict[str, Counter[str]] = defaultdict(Counter)
        self.uncased: list[str] = []
        found: dict[str, set[str]] = defaultdict(set)
        spoken: set[str] = set()
        for entry in dict.fromkeys(' '.join(_clean(name).split()) for name in names):
            placeholder = f'[PERSON {len(self.persons) + 1}]'
            for name in _variants(entry):
                found[_key(name)].add(placeholder)
                spoken.add(_fold(name))
                self.persons[placeholder] = entry
        self._placeholder = {
            key: next(iter(who)) if len(who) == 1 else '[PERSON]' for key, who in found.items()
        }
        # The longest first, so that a whole name is not taken for its parts.
        patterns = [_pattern(name) for name in sorted(spoken, key=lambda n: (-len(n), n))]
        self._names = re.compile('|'.join(patterns)) if patterns else None

    def mask(self, text: str, where: str = '') -> str:
        """The text with placeholders; ``where`` is kept with what looks like a name."""
        text = _clean(text)
        for placeholder, pattern in PATTERNS:
            text, count = pattern.subn(placeholder, text)
            self.masked[placeholder] += count
        text = NUMBER.sub(self._number, text)
        text = self._mask_names(text)
        self.masked = +self.masked
        plain = LINE_HEAD.sub('', re.sub(r'\[[A-Z]+(?: \d+)?\]', '[]', text))
        if plain.lower() == plain and any(c.isalpha() for c in plain):
            self.uncased.append(where)
        for name in _possible_names(plain):
            self.possible[name][where] += 1
        return text

    def report(self) -> list[str]:
        """One line for each thing that looks like a name, the most frequent first."""
        ranked = sorted(self.possible.items(), key=lambda item: (-item[1].total(), item[0]))
        lines = []
        for name, places in ranked:
            shown = ', '.join(list(places)[:SHOWN_PLACES]) + ' …' * (len(places) > SHOWN_PLACES)
            lines.append(f'{name} ({places.total()}×: {shown})')
        return lines

    def _number(self, match: re.Match) -> str:
        if sum(c.isdigit() for c in match[0]) < DIGITS:
            return match[0]
        self.masked['[NUMBER]'] += 1
        return '[NUMBER]'

    def _mask_names(self, text: str) -> str:
        if self._names is None:
            return text
        pieces, last = [], 0
        for match in self._names.finditer(_fold(text)):
            first, end = match.span()
            placeholder = self._placeholder[_key(match[0])]
            if _key(match[0]) in WORDS and not text[first].isupper():
                continue
            self.masked[placeholder] += 1
            pieces += text[last:first], placeholder
            last = end
        return ''.join(pieces) + text[last:]


def _variants(entry: str) -> Iterator[str]:
    """All names of one entry, and their parts."""
    for name in entry.split(','):
        name = name.strip()
        if _key(name):
            yield name
        parts = re.split(r'[\s-]+', name)
        if len(parts) > 1:
            yield from (p for p in parts if len(_key(p)) > 1 and _key(p) not in PARTICLES)


def _pattern(name: str) -> str:
    """Expression for a folded name, without the s of a possessive."""
    words = [re.escape(word) for word in re.split(r'[\s-]+', name) if word]
    body = r'[\s-]+'.join(re.sub(r"['’ʼ`]", "['’ʼ`]?", word) for word in words)
    if re.search(r'[\u2e80-\u9fff\uac00-\ud7ff]', name):
        return body  # written without spaces between words
    return rf'(?<![^\W\d_]){body}(?=s?(?![^\W\d_]))'


def _clean(text: str) -> str:
    """Composed letters, and none of the invisible characters that could split a name."""
    text = unicodedata.normalize('NFC', text)
    return ''.join(c for c in text if unicodedata.category(c) != 'Cf')


def _fold(text: str) -> str:
    """Lower case without accents, every character in its place."""
    return ''.join(map(_fold_letter, text))


def _fold_letter(letter: str) -> str:
    if letter.isascii():
        return letter.lower()
    base, *rest = unicodedata.normalize('NFKD', letter)
    if all(unicodedata.combining(c) for c in rest):
        letter = base
    lower = letter.lower().translate(LETTERS)
    return lower if len(lower) == 1 else letter


def _key(name: str) -> str:
    """What different spellings of a name have in common."""
    return ''.join(c for c in _fold(name) if c.isalnum())


def _possible_names(text: str) -> Iterator[str]:
    """Runs of capitalised words.

    A word that begins a sentence counts before a comma ("Ann, how was it?") and before another
    such word, unless it is a usual opener.
    """
    run: list[str] = []
    last = 0
    for match in WORD.finditer(text):
        word = re.sub(r"['’]s?$", '', match[0])
        if run and text[last : match.start()].strip(' ') not in ('', '-'):
            yield from _finished(run)
            run = []
        last = match.end()
        begins = SENTENCE_START.search(text[max(0, match.start() - 12) : match.start()])
        if not _capitalised(word) or (begins and _opens(word)):
            yield from _finished(run)
            run = []
        elif begins:
            # Kept for what may follow; an empty text marks that it does not count alone.
            run = [word] if text[last : last + 1] == ',' else ['', word]
        else:
            run.append(word)
    yield from _finished(run)


def _finished(run: list[str]) -> Iterator[str]:
    words = [word for word in run if word]
    if words and (len(words) == len(run) or len(words) > 1):
        yield ' '.join(words)


def _opens(word: str) -> bool:
    return word.casefold() in OPENERS or word.endswith('ly') or "'" in word or '’' in word


def _capitalised(word: str) -> bool:
    first = re.split(r"['’]", word)[0]
    if len(word) < 2 or not word[0].isupper() or first.casefold() in CAPITALISED:
        return False
    return not word.isupper() or len(word) > 3
