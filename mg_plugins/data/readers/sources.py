"""Files, folders and archives, listed and read in bounded memory, and the text in them."""

import codecs
import csv
import json
import os
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from . import common
from .common import EMPTY, MISSING_FILE, ClipError, FormatError, expect, require

# A text file or a member of an archive larger than this is no skeleton file.
LARGEST_FILE, LARGEST_MEMBER, LARGEST_ARCHIVE = 2 << 30, 256 << 20, 4 << 30
LARGEST = float(np.finfo(np.float32).max)
ARCHIVES = ('.tar', '.tar.gz', '.tgz', '.tar.xz', '.tar.bz2', '.zip')


@dataclass(frozen=True)
class Entry:
    """One file of a source. It can be pickled, and read in another process."""

    name: str  # its path relative to the source, with `/`
    place: Path | bytes  # the file, the content of a tar file's member, or a zip file
    zipped: str | None = None  # what it is called in there

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.name)

    def read(self, limit: int | None = None) -> bytes:
        """The content, or its first `limit` bytes."""
        if isinstance(self.place, bytes):
            return self.place[:limit]
        with common.reading(self.name):
            expect(self.place.exists(), 'no such file', MISSING_FILE)
            if self.zipped is not None:
                with zipfile.ZipFile(self.place) as archive, archive.open(self.zipped) as file:
                    return file.read(LARGEST_MEMBER if limit is None else limit)
            size = self.place.stat().st_size
            fine = limit is not None or size <= LARGEST_FILE
            expect(fine, f'{size} bytes are too many for a skeleton file')
            with self.place.open('rb') as file:
                return file.read(limit)

    def lines(self) -> list[str]:
        """Its lines of text; see `split_lines`."""
        return split_lines(self.read())

    def json(self) -> Any:
        """Its content as JSON; errors give the line."""
        text = decode(self.read())
        with common.reading(self.name):
            expect(text.strip(), 'the file is empty', EMPTY)
            try:
                return json.loads(text)
            except RecursionError:
                raise ClipError('lists are nested too deep') from None
            except ValueError as error:  # of the syntax, or a number with too many digits
                line, detail = getattr(error, 'lineno', None), getattr(error, 'msg', error)
                raise ClipError(f'not JSON: {detail}', line=line) from None


class Source:
    """A file, a folder or an archive (tar in any compression, zip), without the files to `skip`."""

    def __init__(self, path: str | os.PathLike, skip: Iterable[Path] = ()):
        self.path = Path(path)
        self.skip = {os.path.realpath(other) for other in skip}

    def __str__(self) -> str:
        return shown(str(self.path))

    @property
    def is_file(self) -> bool:
        """Whether it is a single file that is no archive."""
        return self.path.is_file() and not str(self.path).lower().endswith(ARCHIVES)

    @cached_property
    def entries(self) -> list[Entry]:
        if self.is_file:
            return [Entry(shown(self.path.name), self.path)]
        found = self._archived() if self.path.is_file() else self._folder()
        return sorted(found, key=lambda entry: entry.name)

    def find(self, pattern: str) -> list[Entry]:
        """Entries whose name matches a regular expression somewhere."""
        return [entry for entry in self.entries if re.search(pattern, entry.name)]

    def need(self, found: Any, format_name: str) -> None:
        """Refuse a source in which nothing of its format was found; say what is there."""
        expects = f'Expected: {common.FORMATS[format_name]["expects"]}'
        require(found or self.path.exists(), f'{self} does not exist. {expects}')
        require(found, found or f'{expects}\nFound: {self.describe()}')

    def describe(self) -> str:
        """What it holds, in one line."""
        if self.is_file:
            return f'{self} is a file of {self.path.stat().st_size} bytes.'
        kinds = Counter(entry.path.suffix or 'no suffix' for entry in self.entries).most_common(3)
        shown = [f'{count} {kind}' for kind, count in kinds] or ['no files']
        such = f', such as {self.entries[0].name}' if kinds else ''
        return f'{self} holds {", ".join(shown)}{such}.'

    def _folder(self) -> Iterator[Entry]:
        for folder, folders, names in os.walk(self.path):
            folders[:] = [n for n in folders if not self._skipped(Path(folder, n))]
            for path in (Path(folder, name) for name in names):
                if not self._skipped(path):
                    yield Entry(shown(path.relative_to(self.path).as_posix()), path)

    def _skipped(self, path: Path) -> bool:
        return bool(self.skip) and os.path.realpath(path) in self.skip  # links may run in a circle

    def _archived(self) -> Iterator[Entry]:
        """Members of an archive; those of a tar file in memory, as nothing is unpacked to disk."""
        is_zip, total = self.path.suffix.lower() == '.zip', 0
        kind, opened = ('zip', zipfile.ZipFile) if is_zip else ('tar', tarfile.open)
        try:
            with opened(self.path) as archive:
                for m in archive.infolist() if is_zip else archive:
                    name, size = (m.filename, m.file_size) if is_zip else (m.name, m.size)
                    if m.is_dir() if is_zip else not m.isfile():
                        continue
                    total += size
                    fine = size <= LARGEST_MEMBER and total <= LARGEST_ARCHIVE
                    what = f'unpacks to too much ({shown(name)} alone has {size} bytes)'
                    require(fine, f'{self} {what}: unpack it and give the folder')
                    where = (self.path, name) if is_zip else (archive.extractfile(m).read(),)
                    yield Entry(shown(name), *where)
        except FormatError:
            raise
        except Exception as error:  # each compression has errors of its own
            raise FormatError(f'{self} cannot be read as a {kind} archive: {error}') from None


def shown(name: str) -> str:
    """A file name that can be printed and written, whatever bytes it is made of."""
    return name.encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')


def decode(content: bytes) -> str:
    """Text in UTF-8, UTF-16 or Latin-1; other bytes become U+FFFD, for parsers to name the line."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode('utf-16', 'replace')
    head = content[:200]  # without a byte order mark, UTF-16 has a zero in every second byte
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
    lines = decode(content).replace('\r\n', '\n').replace('\r', '\n').split('\n')
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def delimiter_of(header: str) -> str:
    """The separator of a table: comma, semicolon or tab, whichever its header has most of."""
    return max(',;\t', key=header.count)


def read_cells(lines: Sequence[str]) -> list[tuple[int, list[str]]]:
    """(1-based line, cells) of the rows of a table; quotes count."""
    reader = csv.reader(lines, delimiter=delimiter_of(lines[0]), strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise ClipError(f'no table: {error}', line=reader.line_num) from None


def parse_rows(
    lines: Sequence[str],
    columns: int,
    first_line: int = 1,
    delimiter: str | None = ',',
    used: Sequence[int] | None = None,
) -> np.ndarray:
    """Lines of so many finite numbers, as float32 (lines, columns or used).

    Only when something is wrong are the lines walked one by one, to name it: `lines[0]` is
    `first_line` in its file. With `used` (columns from 0), other columns may hold anything; this
    needs a delimiter. Without one, white space parts numbers.
    """
    # With the last column among those parsed, loadtxt finds short rows. Rows that are too long are
    # then the only reason for more delimiters than there should be.
    parsed = range(columns) if used is None else (*used, columns - 1)
    usecols = None if used is None else parsed
    right_width = used is None or ''.join(lines).count(delimiter) == len(lines) * (columns - 1)
    # A blank first line is left to the slow path: loadtxt skips blank lines, and warns if all are.
    if right_width and lines and lines[0].strip():
        with suppress(ValueError):
            rows = np.loadtxt(
                lines, np.float32, comments=None, delimiter=delimiter, usecols=usecols, ndmin=2
            )
            if rows.shape == (len(lines), len(parsed)) and np.isfinite(rows).all():
                return rows if used is None else rows[:, :-1]
    for number, line in enumerate(lines, first_line):
        fields = line.split(delimiter)
        expect(line.strip(), 'blank line among the rows', EMPTY, number)
        reason = common.SHORT_ROW if len(fields) < columns else common.LONG_ROW
        expect(len(fields) == columns, f'{len(fields)} numbers, expected {columns}', reason, number)
        for column in sorted(parsed):
            value = parse_float(fields[column])
            where = f'{shorten(fields[column])!r} in column {column + 1}'
            expect(value is not None, f'{where} is not a number', common.NON_NUMERIC, number)
            expect(abs(value) <= LARGEST, f'{where} is not finite in float32', common.NAN, number)
    expect(lines, 'the file holds no rows', EMPTY)
    raise ClipError('the rows from this line on cannot be parsed', line=first_line)


def parse_float(text: str) -> float | None:
    """A float, or None. Underscores, which `float` would take, are not digits here."""
    try:
        return None if '_' in text else float(text)
    except ValueError:
        return None


def parse_int(text: str) -> int | None:
    """An integer, also when written as `3.0`, or None."""
    value = parse_float(text)
    return int(value) if value is not None and value.is_integer() else None


def shorten(text: str, limit: int = 24) -> str:
    return text if len(text) <= limit else text[: limit - 1] + '…'


def plain_name(name: Any) -> str:
    """A name in small letters, with `_` for whatever is neither letter nor digit."""
    return re.sub(r'[^a-z0-9]+', '_', str(name).lower()).strip('_')
