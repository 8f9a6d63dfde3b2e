"""Text as files hold it: encodings, rows of numbers, JSON, and what is wrong with them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .common import EMPTY, LONG_ROW, NAN, NON_NUMERIC, SHORT_ROW, ClipError

LARGEST = float(np.finfo(np.float32).max)


def decode(content: bytes) -> str:
    """Text in UTF-8, UTF-16 or Latin-1.

    UTF-16 is known by its byte order mark, or by a zero in every second byte. Latin-1 is taken for
    text whose bytes are not UTF-8 and that holds no control characters; other bytes become U+FFFD,
    so that the parsers can name the line they are on.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode('utf-16', 'replace')
    head = content[:200]
    for start, encoding in ((1, 'utf-16-le'), (0, 'utf-16-be')):
        if len(head) > 3 and not any(head[start::2]) and all(head[1 - start :: 2]):
            return content.decode(encoding, 'replace')
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        # A few bytes above 0x9f among plain text are accented letters; anything else is damage.
        odd = content[error.start : error.start + 4096]
        if not any(byte < 9 or 0x7F <= byte < 0xA0 for byte in odd) and odd[:1] < b'\xfe':
            return content.decode('latin-1')
        return content.decode('utf-8-sig', 'replace')


def split_lines(content: bytes) -> list[str]:
    """Lines without line ends, byte order mark and trailing blank lines; CRLF and CR count."""
    text = decode(content)
    if '\r' in text:
        text = text.replace('\r\n', '\n').replace('\r', '\n')
    lines = text.split('\n')
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def delimiter_of(header: str) -> str:
    """The separator of a table: comma, semicolon or tab, whichever its header has most of."""
    return max(',;\t', key=header.count)


def parse_rows(
    lines: Sequence[str],
    columns: int,
    first_line: int = 1,
    delimiter: str | None = ',',
    used: Sequence[int] | None = None,
) -> np.ndarray:
    """Parse lines of numbers, all of the same width, all finite: float32 (lines, columns or used).

    The whole block goes through `numpy.loadtxt` (C speed); only when something is wrong are the
    lines walked one by one, to name the first that is blank, short, long, no number or not finite.

    Args:
        lines: Text lines without line ends.
        columns: Numbers expected on every line.
        first_line: 1-based number of `lines[0]` in its file, for errors.
        delimiter: Between numbers; None means any white space.
        used: Columns (from 0) to parse; the others may hold anything. Needs a delimiter.
    """
    # With the last column among those parsed, loadtxt finds short rows. Rows that are too long are
    # then the only reason for more delimiters than there should be.
    parsed = range(columns) if used is None else (*used, columns - 1)
    usecols = None if used is None else parsed
    right_width = used is None or ''.join(lines).count(delimiter) == len(lines) * (columns - 1)
    rows = None
    # A blank first line is left to the slow path: loadtxt skips blank lines, and warns if all are.
    if right_width and lines and lines[0].strip():
        try:
            rows = np.loadtxt(
                lines, np.float32, comments=None, delimiter=delimiter, usecols=usecols, ndmin=2
            )
        except ValueError:
            pass
    if rows is None or rows.shape != (len(lines), len(parsed)) or not np.isfinite(rows).all():
        raise _first_fault(lines, columns, first_line, delimiter, parsed)
    return rows if used is None else rows[:, :-1]


def _first_fault(
    lines: Sequence[str], columns: int, first: int, delimiter: str | None, parsed: Sequence[int]
) -> ClipError:
    """The error of the first bad line; see `parse_rows` for the arguments."""
    if not lines:
        return ClipError('the file holds no rows', EMPTY)
    for number, line in enumerate(lines, first):
        fields = line.split(delimiter)
        if not line.strip():
            return ClipError('blank line among the rows', EMPTY, number)
        if len(fields) != columns:
            reason = SHORT_ROW if len(fields) < columns else LONG_ROW
            return ClipError(f'{len(fields)} numbers, expected {columns}', reason, number)
        for column in sorted(parsed):
            value = parse_float(fields[column])
            if value is None or not abs(value) <= LARGEST:
                wrong = 'a number' if value is None else 'finite in float32'
                detail = f'{shorten(fields[column])!r} in column {column + 1} is not {wrong}'
                return ClipError(detail, NON_NUMERIC if value is None else NAN, number)
    return ClipError('the rows from this line on cannot be parsed', line=first)


def parse_float(text: str) -> float | None:
    """A float, or None. Underscores, which `float` would take, are not digits here."""
    try:
        return None if '_' in text else float(text)
    except ValueError:
        return None


def parse_int(text: str) -> int | None:
    """An integer, also when written as `3.0`, or None."""
    value = parse_float(text)
    return int(value) if value is not None and np.isfinite(value) and value == int(value) else None


def shorten(text: str, limit: int = 24) -> str:
    return text if len(text) <= limit else text[: limit - 1] + '…'


def plain_name(name: Any) -> str:
    """A name in small letters, with `_` for whatever is neither letter nor digit."""
    return re.sub(r'[^a-z0-9]+', '_', str(name).lower()).strip('_')
