"""Write a file whole or not at all, and one lock a folder."""

import glob
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import UserError


class InUse(UserError):
    """Another process works in the folder; the message names it."""


@contextmanager
def replacing(path: str | os.PathLike, folder: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error.

    The folder around it is made if it is not there. What a killed process left behind of an earlier
    write to the same path is removed. The file's mode follows the umask. With ``folder`` it is a
    folder, and one that is there is removed with all that it holds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}')
    temporary.mkdir() if folder else temporary.touch(exist_ok=False)
    try:
        yield temporary
        if folder and path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8', newline='\n')


def write_json(path: str | os.PathLike, content: Any, indent: int | None = 1) -> None:
    """Write ``content`` as JSON, whole or not at all; NaN is a ValueError."""
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    write_text(path, text + '\n')


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file; a UserError names one that is not there, cannot be read or is not JSON."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is not JSON: {error}') from error


@cache
def read_table(name: str) -> Any:
    """A JSON table that comes with the package, by its path in it; callers do not change it."""
    return json.loads((Path(__file__).parent / name).read_text(encoding='utf-8'))


def cache_folder() -> Path:
    """What is made once for all commands: ``MG_PLUGINS_CACHE``, or ``~/.cache/mg_plugins``."""
    path = Path(os.environ.get('MG_PLUGINS_CACHE') or Path.home() / '.cache' / 'mg_plugins')
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        advice = 'set MG_PLUGINS_CACHE to a folder that can be written'
        raise UserError(f'the cache {path} cannot be made ({error.strerror}): {advice}') from None
    return path


@contextmanager
def locked(folder: str | os.PathLike, what: str = 'this folder') -> Iterator[None]:
    """Hold the folder's lock for the block; the system lets go of it when the process ends.

    The folder is made if it is not there; `InUse` calls it ``what`` and names who holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(folder / '.lock', timeout=0), folder / '.lock.owner'
    try:
        lock.acquire()
    except Timeout as error:
        by = 'another process'
        with suppress(OSError):
            by = f'process {owner.read_text().strip()}'
        advice = 'wait for it, end it, or name another folder'
        raise InUse(f'{what}, {folder}, is in use by {by}: {advice}') from error
    try:
        command = ' '.join([Path(sys.argv[0] or 'python').name, *sys.argv[1:]])[:200]
        write_text(owner, f'{os.getpid()} ({command})\n')
        yield
    finally:
        with suppress(OSError):
            owner.unlink()
        lock.release()


def _remove_leftovers(path: Path) -> None:
    form = re.compile(rf'\.{re.escape(path.name)}\.(\d+)-[0-9a-f]{{8}}{re.escape(path.suffix)}')
    for other in path.parent.glob(f'.{glob.escape(path.name)}.*'):
        if match := form.fullmatch(other.name):
            try:
                os.kill(int(match[1]), 0)
            except ProcessLookupError:
                _remove(other)
            except (PermissionError, OverflowError):
                pass  # somebody else's process, or no number of one


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
