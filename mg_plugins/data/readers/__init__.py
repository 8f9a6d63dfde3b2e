"""Readers of the dataset formats behind `tools/prepare_data.py`; `formats.json` describes each."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from . import landmarks
from .common import FORMATS, WORDS, ClipError, FormatError, Reader, require
from .sources import Entry, Source, delimiter_of, parse_float, plain_name, split_lines

READERS: dict[str, Reader] = {name: Reader(name) for name in FORMATS}
# Bytes of a file that are looked at first; files of one kind that are opened until one tells.
HEAD, LOOKED_AT = 1 << 20, 5


def detect(source: Source) -> tuple[str, str]:
    """The format of a source by the names of its files or by what is in them, and why."""
    require(source.path.exists(), f'{source} does not exist; give a file, folder or archive')
    seen = []
    for name, reader in READERS.items():
        for pattern in reader.files:
            if found := source.find(pattern):
                return name, f'{found[0].name} is named as files of this kind are'
    for suffix in ('.json', '.csv', '.tsv', '.txt'):
        for entry in source.find(re.escape(suffix) + '$')[:LOOKED_AT]:
            try:
                if told := look_at(entry, suffix):
                    return told[0], f'{entry.name} {told[1]}'
                seen.append(f'{entry.name}: nothing that is known')
            except ClipError as error:
                seen.append(f'{entry.name}: {error.detail}')
    found = source.describe() + f' Looked into {"; ".join(seen[:3])}.' * bool(seen)
    remedy = f'Give FORMAT, one of {", ".join(READERS)}'
    raise FormatError(f'the format cannot be told from the files. {found} {remedy}')


def look_at(entry: Entry, suffix: str) -> tuple[str, str] | None:
    """Format and reason by one file's content."""
    if suffix == '.json':
        keys = set(_keys(entry.json()))
        for name, *choices in WORDS['detect']:  # the first that fits counts
            for wanted in choices:
                if set(wanted) <= keys:
                    return name, f'has the keys {", ".join(sorted(wanted))}'
        return None
    first = (split_lines(entry.read(HEAD)) or [''])[0]
    if suffix == '.txt':
        cells = first.split()
        numbers = len(cells) >= 39 and None not in map(parse_float, cells)
        return ('yolo', f'has {len(cells)} numbers a line') if numbers else None
    header = {plain_name(cell) for cell in first.split(delimiter_of(first))}
    named = sum(landmarks.column_key(name) is not None for name in header)
    if named > 20:
        return 'mediapipe', f'has {named} columns of joints in its header'
    long = {'x', 'y'} <= header and header & set(landmarks.WORDS['columns']['joint'])
    return ('mediapipe', 'has a row a joint by its header') if long else None


def _keys(content: Any, depth: int = 0) -> Iterator[str]:
    """Keys of nested JSON, of the first items of lists."""
    items = content[:20] if isinstance(content, list) else []
    if isinstance(content, Mapping):
        yield from map(str, list(content)[:50])
        items = list(content.values())[:50]
    for value in items if depth < 8 else ():
        yield from _keys(value, depth + 1)
