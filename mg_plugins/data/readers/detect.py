"""Which format a source is of, by the names of its files and by what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from . import landmarks, parsing
from .common import ClipError, FormatError, format_table, words
from .sources import Entry, Source

# Bytes of a file that are looked at first; files of one kind that are opened until one tells.
HEAD, LOOKED_AT = 1 << 20, 5


def detect(source: Source) -> tuple[str, str]:
    """The format of a source, and why."""
    if not source.path.exists():
        raise FormatError(f'{source} does not exist; give a file, folder or archive')
    formats = format_table()['formats']
    for name, entry in formats.items():
        for pattern in entry.get('files', ()):
            if found := source.find(pattern):
                return name, f'{found[0].name} is named as its files are'
    seen: list[str] = []
    for suffix in ('.json', '.csv', '.tsv', '.txt'):
        for entry in source.find(re.escape(suffix) + '$')[:LOOKED_AT]:
            try:
                told = look_at(entry, suffix)
            except ClipError as error:
                seen.append(f'{entry.name}: {error.detail}')
                continue
            if told:
                return told[0], f'{entry.name} {told[1]}'
            seen.append(f'{entry.name}: nothing that is known')
    detail = f' Looked into {"; ".join(seen[:3])}.' if seen else ''
    raise FormatError(
        f'the format cannot be told from the files. {source.describe()}{detail} Give '
        f'FORMAT, one of {", ".join(formats)}'
    )


def look_at(entry: Entry, suffix: str) -> tuple[str, str] | None:
    """Format and reason by one file's content."""
    if suffix == '.json':
        keys = set(_keys(entry.json()))
        for name, *choices in words('detect'):  # the first that fits counts
            for wanted in choices:
                if set(wanted) <= keys:
                    return name, f'has the keys {", ".join(sorted(wanted))}'
        return None
    first = (parsing.split_lines(entry.read(HEAD)) or [''])[0]
    if suffix == '.txt':
        cells = first.split()
        if len(cells) >= 39 and all(parsing.parse_float(cell) is not None for cell in cells):
            return 'yolo', f'has {len(cells)} numbers a line'
        return None
    delimiter = parsing.delimiter_of(first)
    header = [parsing.plain_name(cell) for cell in first.split(delimiter)]
    named = sum(landmarks.column_key(name) is not None for name in header)
    if named > 20:
        return 'mediapipe', f'has {named} columns of joints in its header'
    if {'x', 'y'} <= set(header) and set(header) & set(words('table')['joint']):
        return 'mediapipe', 'has a row a joint by its header'
    return None


def _keys(content: Any, depth: int = 0) -> Iterator[str]:
    """Keys of nested JSON, of the first items of lists."""
    if depth > 8:
        return
    if isinstance(content, Mapping):
        for key, value in list(content.items())[:50]:
            yield str(key)
            yield from _keys(value, depth + 1)
    elif isinstance(content, list):
        for value in content[:20]:
            yield from _keys(value, depth + 1)
