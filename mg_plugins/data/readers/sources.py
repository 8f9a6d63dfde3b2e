"""Where data come from: a file, a folder or an archive, listed and read in bounded memory."""

from __future__ import annotations

import json
import os
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from . import parsing
from .common import EMPTY, MISSING_FILE, ClipError, FormatError, format_entry

# A text file or a member of an archive larger than this is no skeleton file.
LARGEST_FILE, LARGEST_MEMBER, LARGEST_ARCHIVE = 2 << 30, 256 << 20, 4 << 30
# More entries than this are not described in a refusal.
DESCRIBED = 20_000
ARCHIVES = ('.tar', '.tar.gz', '.tgz', '.tar.xz', '.tar.bz2', '.zip')


@dataclass(frozen=True)
class Entry:
    """One file of a source. It can be pickled, and read in another process.

    Attributes:
        name: Path relative to the source, with `/`, as messages call it.
        place: The file, the content of an archive's member, or a zip file of which `name` is one.
    """

    name: str
    place: Path | bytes
    zipped: str | None = None

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.name)

    def read(self, limit: int | None = None) -> bytes:
        """The content, or its first `limit` bytes."""
        if isinstance(self.place, bytes):
            return self.place[:limit]
        try:
            if self.zipped is not None:
                with zipfile.ZipFile(self.place) as archive, archive.open(self.zipped) as file:
                    return file.read(LARGEST_MEMBER if limit is None else limit)
            size = self.place.stat().st_size
            if limit is None and size > LARGEST_FILE:
                raise ClipError(f'{size} bytes are too many for a skeleton file', file=self.name)
            with self.place.open('rb') as file:
                return file.read(-1 if limit is None else limit)
        except FileNotFoundError:
            raise ClipError('no such file', MISSING_FILE, file=self.name) from None
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            detail = getattr(error, 'strerror', None) or str(error)
            raise ClipError(detail, file=self.name) from None

    def lines(self) -> list[str]:
        """Its lines of text; see `parsing.split_lines`."""
        return parsing.split_lines(self.read())

    def json(self) -> Any:
        """Its content as JSON; errors give the line."""
        text = parsing.decode(self.read())
        if not text.strip():
            raise ClipError('the file is empty', EMPTY, file=self.name)
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ClipError(f'not JSON: {error.msg}', line=error.lineno, file=self.name) from None
        except RecursionError:
            raise ClipError('lists are nested too deep', file=self.name) from None
        except ValueError as error:
            raise ClipError(f'not JSON: {error}', file=self.name) from None


class Source:
    """A file, a folder or an archive (tar in any compression, zip).

    Args:
        path: What the user gave.
        skip: Files that are no part of it, such as an output inside of the folder.
    """

    def __init__(self, path: str | os.PathLike, skip: Iterable[Path] = ()):
        self.path = Path(path)
        self.skip = {Path(other).resolve() for other in skip}

    def __str__(self) -> str:
        return shown(str(self.path))

    @property
    def is_file(self) -> bool:
        """Whether it is a single file that is no archive."""
        return self.path.is_file() and not str(self.path).lower().endswith(ARCHIVES)

    @cached_property
    def entries(self) -> list[Entry]:
        """Every file, by name."""
        if self.is_file:
            return [Entry(shown(self.path.name), self.path)]
        if self.path.is_file():
            found = self._zip() if self.path.suffix.lower() == '.zip' else self._tar()
        else:
            found = self._folder()
        return sorted(found, key=lambda entry: entry.name)

    def find(self, pattern: str) -> list[Entry]:
        """Entries whose name matches a regular expression somewhere."""
        return [entry for entry in self.entries if re.search(pattern, entry.name)]

    def refuse(self, format_name: str) -> FormatError:
        """The error for a source of another format: what was expected, what is there."""
        expects = format_entry(format_name)['expects']
        if not self.path.exists():
            return FormatError(f'{self} does not exist. Expected: {expects}')
        return FormatError(f'Expected: {expects}\nFound: {self.describe()}')

    def describe(self) -> str:
        """What it holds, in one line."""
        if self.is_file:
            return f'{self} is a file of {self.path.stat().st_size} bytes.'
        suffixes: Counter[str] = Counter()
        examples: dict[str, str] = {}
        for entry in self.entries[:DESCRIBED]:
            suffix = entry.path.suffix or 'no suffix'
            suffixes[suffix] += 1
            examples.setdefault(suffix, entry.name)
        if not suffixes:
            return f'{self} holds no files.'
        kinds = [f'{n} {kind} (such as {examples[kind]})' for kind, n in suffixes.most_common(3)]
        return f'{self} holds {", ".join(kinds)}.'

    def _folder(self) -> list[Entry]:
        found = []
        for folder, folders, names in os.walk(self.path):
            if self.skip:
                folders[:] = [n for n in folders if Path(folder, n).resolve() not in self.skip]
            for name in names:
                path = Path(folder, name)
                if not self.skip or path.resolve() not in self.skip:
                    found.append(Entry(shown(path.relative_to(self.path).as_posix()), path))
        return found

    def _zip(self) -> list[Entry]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise FormatError(f'{self} cannot be read as a zip archive: {error}') from None
        total = 0
        for member in members:
            total = self._add(total, member.filename, member.file_size)
        return [Entry(shown(member.filename), self.path, member.filename) for member in members]

    def _tar(self) -> list[Entry]:
        """Members in memory; nothing is unpacked to disk."""
        found, total = [], 0
        try:
            with tarfile.open(self.path) as archive:
                for member in archive:
                    if member.isfile():
                        total = self._add(total, member.name, member.size)
                        content = archive.extractfile(member).read()
                        found.append(Entry(shown(member.name), content))
        except FormatError:
            raise
        except Exception as error:  # each compression has errors of its own
            raise FormatError(f'{self} cannot be read as a tar archive: {error}') from None
        return found

    def _add(self, total: int, name: str, size: int) -> int:
        """The bytes unpacked so far with this member's; refuses what is too large."""
        if size > LARGEST_MEMBER or total + size > LARGEST_ARCHIVE:
            raise FormatError(
                f'{self} unpacks to more than this reads from an archive ({shown(name)} alone has '
                f'{size} bytes): unpack it and give the folder'
            )
        return total + size


def shown(name: str) -> str:
    """A file name that can be printed and written, whatever bytes it is made of."""
    return name.encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')
