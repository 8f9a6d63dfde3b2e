"""Opaque ids, and text without given names: no promise, what was said can identify without any."""

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mg_plugins.files import read_table

from .scenarios import readable

_LISTS = read_table('emotion/words.json')  # which explains each
PARTICLES, WORDS, CAPITALISED, ACRONYMS, OPENERS, NO_LABELS, ROLES, PRONOUNS = (
    frozenset(_LISTS[name])
    for name in ('particles words capitalised acronyms openers no_labels roles pronouns'.split())
)
LETTERS = str.maketrans('łđðıħŧςæøœ', 'lddihtσäöö')  # without a base in Unicode, or others' equals
# Letters that are also written as two; names that have one are also written with its base letter.
SPELLINGS = str.maketrans({'ä': 'ae', 'ö': 'oe', 'ü': 'ue', 'å': 'aa', 'ß': 'ss'})
BASES = str.maketrans('äöüåß', 'aouas')
# A run of letters or digits, or one letter of a script that has no spaces between words.
TOKEN = re.compile(r'[\u2e80-\u9fff\uac00-\ud7ff]|[^\W\d_ʼ\u2e80-\u9fff\uac00-\ud7ff]+|\d+')
# What may stand between two tokens of one name; an end of sentence only after "St" and the like.
WITHIN = re.compile(r"[\s'’ʼ`-]{0,3}|[.*]{1,2}|(?<![^\W\d_]{4})\.\s")
DOMAIN = 'com|org|net|info|edu|gov|io|tv|eu|uk|de|fr|es|it|fi|cn|jp'
PATH = r'[^\s<>"]*[^\s<>".,;:!?)\]]'
HOST = rf'(?<![\w-])(?:[\w-]{{1,63}}\.){{1,9}}(?:{DOMAIN})\b'
PATTERNS = {
    '[EMAIL]': re.compile(r"(?<![\w.+'-])[\w.+'-]+@[\w-]+(?:\.[\w-]+)+"),
    '[LINK]': re.compile(rf'(?i)(?:https?://|www\.){PATH}|{HOST}(?:/{PATH})?'),
    '[HANDLE]': re.compile(r'(?<![\w@])@\w[\w.]*\w'),
}
# Groups of two digits or more, so that tennis scores stay; seven digits or more are masked.
NUMBER = re.compile(
    r'(?<![\w.,])(?:\+\s?)?\(?\d+(?:(?:[\s./-]?\(0\)\s?|[\s./()-]{1,3})\d{2,})*(?!\w)'
)
DIGITS = 7
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
# Before a word that begins a sentence: nothing, an end of sentence, a bracket, a line or a colon.
SENTENCE_START = re.compile(r'(?:^|[.!?…:\n]["”’\')\]]*)[\s"“„‘\'(\[–—-]*$')
LINE_START = re.compile(r'\[\d+:\d\d\] $')  # or the time of a line
# Not an end of sentence: "Mr. Smith", "J. Smith".
TITLE = re.compile(r'(?i)(?<![^\W\d_])(?:mr|mrs|ms|miss|dr|prof|st|coach|[^\W\d_])\.[^\S\n]*$')
CONTRACTION = re.compile(r"(?i)(?:['’](?:s|m|re|ve|ll|d)|(n['’]t))$")
LINE_HEAD = re.compile(r'(?m)^\[\d+:\d\d\] (?:Speaker [A-Z]+: )?')  # of `transcripts.as_text`
SHOWN_PLACES = 5
FIRST = ', only as the first word of a sentence'
KEPT = ', common word and part of a given name: not masked first in a sentence; give it alone too'


def opaque_id(kind: str, text: str, salt: str) -> str:
    """The first letter of ``kind``, and what tells nothing of both without the secret ``salt``."""
    key = hashlib.sha256(salt.encode()).digest()
    return kind[0] + hashlib.blake2b(f'{kind}\0{text}'.encode(), key=key, digest_size=6).hexdigest()


def read_names(path: str | os.PathLike) -> list[str]:
    """A person a line, other names of the same person after commas; ``#`` begins a comment line."""
    with readable(path, ': UTF-8 text with a person a line'):
        lines = map(str.strip, Path(path).read_text(encoding='utf-8-sig').splitlines())
    return [line for line in lines if line and not line.startswith('#')]


class Redactor:
    """Masks names (an entry a person, aliases after commas), addresses, links, handles and numbers.

    A name is found whatever its case, accents, hyphens and apostrophes, with possessives, in other
    spellings (see `SPELLINGS`), as a whole and by its parts ("Ann Lee" gives "Ann" and "Lee"); what
    two persons share becomes ``[PERSON]``. Of names that are common words (`WORDS`, `OPENERS`) one
    that is given alone is masked where it is capitalised, a part only if it begins no sentence.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.masked: Counter[str] = Counter()  # placeholders, to how often each was put in
        # Parts in `WORDS` that begin a sentence and were not masked, to how often and where.
        self.kept: dict[str, Counter[str]] = defaultdict(Counter)
        self.uncased: list[str] = []  # texts of one case, where no name can be spotted
        # What looks like a name: within sentences, and as their first word; words in lower case.
        self._within: dict[str, Counter[str]] = defaultdict(Counter)
        self._first: dict[str, Counter[str]] = defaultdict(Counter)
        self._lower: set[str] = set()
        self._names: dict[str, set[str]] = defaultdict(set)  # placeholders by key
        self._alone, self._longest = set(), 0  # keys of names given alone; tokens of a name
        entries = dict.fromkeys(' '.join(_clean(name).split()) for name in names)
        for number, entry in enumerate(filter(_keys, entries), 1):
            for name in entry.split(','):
                joined = re.sub(r'\b(\w) ', r'\1', name)  # "O Brien" is a part as well
                parts = {*name.split(), *re.split(r'[\s-]+', f'{name} {joined}')}
                keys = {key for part in parts for key in _keys(part) if len(key) > 1} - PARTICLES
                for key in keys | _keys(name):
                    self._names[key].add(f'[PERSON {number}]')
                self._alone |= _keys(name)
                self._longest = max(self._longest, len(TOKEN.findall(name)) + 1)

    def mask(self, text: str, where: str = '') -> str:
        """The text with placeholders; ``where`` is kept with what looks like a name."""
        text = _clean(text)
        for placeholder, pattern in PATTERNS.items():
            text, count = pattern.subn(placeholder, text)
            self.masked[placeholder] += count
        text = NUMBER.sub(self._number, text)
        text = self.mask_names(text, where)
        self.masked = +self.masked
        plain = LINE_HEAD.sub('', re.sub(r'\[[A-Z]+(?: \d+)?\]', '[]', text))
        if not (any(map(str.islower, plain)) and any(map(str.isupper, plain))):
            self.uncased += [where] * any(map(str.isalpha, plain))
            return text
        # Only of texts that have both: in others a name is in lower case as well.
        self._lower.update(filter(str.islower, map(without_contraction, WORD.findall(plain))))
        for name, first in _possible_names(plain):
            (self._first if first else self._within)[name][where] += 1
        return text

    @property
    def possible(self) -> dict[str, Counter[str]]:
        """What else looks like a name, to how often and where; not what is in lower case too."""
        found = {name: places.copy() for name, places in self._within.items()}
        for name, places in self._first.items():
            if name in found or name.casefold() not in self._lower:
                found.setdefault(name, Counter()).update(places)
        return found

    def report(self) -> list[str]:
        """A line for each thing that looks like a name: by number, doubtful ones, then `kept`."""
        ranked = sorted(
            (name not in self._within, -places.total(), name, places)
            for name, places in self.possible.items()
            if name not in self.kept
        )
        told = [(name, places, FIRST * only) for only, _, name, places in ranked]
        told += [(name, places, KEPT) for name, places in sorted(self.kept.items())]
        lines = []
        for name, places, doubt in told:
            shown = ', '.join(list(places)[:SHOWN_PLACES]) + ' …' * (len(places) > SHOWN_PLACES)
            lines.append(f'{name} ({places.total()}×: {shown}{doubt})')
        return lines

    def _number(self, match: re.Match) -> str:
        if sum(c.isdigit() for c in match[0]) < DIGITS:
            return match[0]
        self.masked['[NUMBER]'] += 1
        return '[NUMBER]'

    def mask_names(self, text: str, where: str = '') -> str:
        """The text with placeholders for given names only, such as that of a gesture."""
        text = _clean(text)
        tokens = list(TOKEN.finditer(text)) if self._names else []
        folded = [_fold(token[0]).translate(SPELLINGS) for token in tokens]
        pieces, last, after = [], 0, 0  # the first token after the last name
        for at, token in enumerate(tokens):
            found = self._longest_name(text, tokens, folded, at) if at >= after else None
            if found is None:
                continue
            key, count, end = found
            first = token.start()
            if key in WORDS or key in OPENERS:
                if not text[first].isupper() or (key in OPENERS and text.isupper()):
                    continue
                before = text[max(0, first - 12) : first]
                begins = SENTENCE_START.search(before) or LINE_START.search(before)
                if key not in self._alone and begins and not TITLE.search(before):
                    if key in WORDS and where:
                        self.kept[text[first:end]][where] += 1
                    continue
            persons = self._names[key]
            placeholder = next(iter(persons)) if len(persons) == 1 else '[PERSON]'
            self.masked[placeholder] += 1
            pieces += text[last:first], placeholder
            last, after = end, at + count
        return ''.join(pieces) + text[last:]

    def _longest_name(
        self, text: str, tokens: Sequence[re.Match], folded: Sequence[str], at: int
    ) -> tuple[str, int, int] | None:
        """Key, tokens and end of the longest name there, without the s of a possessive."""
        found, key = None, ''
        for i in range(at, min(at + self._longest, len(tokens))):
            if i > at and not WITHIN.fullmatch(text, tokens[i - 1].end(), tokens[i].start()):
                break
            key += folded[i]
            whole, end = key in self._names, tokens[i].end()
            if whole or (folded[i][1:].endswith('s') and key[:-1] in self._names):
                found = key if whole else key[:-1], i + 1 - at, end if whole else end - 1
        return found


def _keys(name: str) -> set[str]:
    """The name in all its spellings, folded and without what stands between its tokens."""
    keys = {''}
    for letter in ''.join(TOKEN.findall(_fold(name))):
        forms = {letter.translate(SPELLINGS), letter.translate(BASES)} if len(keys) < 64 else letter
        keys = {key + form for key in keys for form in forms}
    return keys - {''}


def _clean(text: str) -> str:
    """Composed letters, and none of the invisible characters that could split a name."""
    text = unicodedata.normalize('NFC', text)
    return ''.join(c for c in text if unicodedata.category(c) != 'Cf')


def _fold(text: str) -> str:
    """Lower case without accents but those of `SPELLINGS`."""
    lower = text.lower().translate(LETTERS)
    bases = (c if c in 'äöüåß' else unicodedata.normalize('NFKD', c) for c in lower)
    return ''.join(c for c in ''.join(bases) if not unicodedata.combining(c))


def _possible_names(text: str) -> Iterator[tuple[str, bool]]:
    """Runs of capitalised words, and whether one is only the first word of a sentence."""
    run: list[str] = []
    first, last = False, 0
    for match in [*WORD.finditer(text), None]:
        at = match.start() if match else len(text)
        before = text[max(0, at - 12) : at]
        begins = SENTENCE_START.search(before)
        word = without_contraction(match[0]) if match else ''
        named = word and _looks_like_name(match[0]) and not (begins and word.casefold() in OPENERS)
        if run and (not named or text[last:at].strip(' ') not in ('', '-')):
            yield ' '.join(run), first
            run = []
        if match:
            last = match.end()
        if named:
            # Not where more follows: "Ann, how was it?", "Rafael Nadal won."
            alone = begins and not TITLE.search(before) and text[last : last + 1] != ','
            first = not run if alone else False
            run.append(word)


def without_contraction(word: str) -> str:
    """A word without "'s", "'ll" and the like; that of "don't" is "do"."""
    return CONTRACTION.sub('', word)


def _looks_like_name(word: str) -> bool:
    stem, ending = without_contraction(word), CONTRACTION.search(word)
    if len(stem) < 2 or not stem[0].isupper() or stem.casefold() in CAPITALISED:
        return False
    negated = ending and ending[1]  # "don't", which no name ends in
    return not negated and not (stem.isupper() and stem.casefold() in ACRONYMS)
