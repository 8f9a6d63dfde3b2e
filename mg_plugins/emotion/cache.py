"""Answers on disk, keyed by what they depend on: a killed run goes on, a rerun asks nothing.

One SQLite file, readable by its owner only. Several processes may use it at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mg_plugins.errors import UserError

from .tasks import Judge, Reply, Task

# Marks the file as ours ('MGJC'); the version is that of the table and of what keys are made of.
APPLICATION, VERSION = 0x4D474A43, 2
WAIT = 30.0  # seconds for another process to finish its write


class CacheError(UserError):
    """The file cannot be used; the message says why and what to do."""


def task_key(judge: Judge, task: Task) -> str:
    """What makes two questions the same: SHA-256 of the judge's identity and of what it reads.

    A judge that reads other fields than the two messages has a method ``reads(task)``, which
    returns them as JSON-able data.
    """
    reads = getattr(judge, 'reads', _prompt)(task)
    content = {'judge': judge.identity(), 'reads': reads, 'sample': task.sample}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def _prompt(task: Task) -> dict[str, Any]:
    return {'system': task.system, 'user': task.user, 'schema': task.schema}


class Cache:
    """Replies by question; what is put is on disk when `put` returns.

    Every reply that arrived is kept, also refusals and unreadable ones (so that a question is not
    asked anew more often than allowed, however often a run is started).

    Args:
        path: The file; made with mode 0600, its folder, if missing, with mode 0700.

    Raises:
        CacheError: The file is broken, foreign, of another version, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite would make the file as wide as the umask allows; its side files copy this mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            os.chmod(self.path, 0o600)
        except OSError as error:
            raise CacheError(f'the cache {self.path} cannot be written: {error}') from None
        self._connection = self._guarded(self._open)

    def replies(self, judge: Judge, task: Task) -> list[Reply]:
        """All replies to one question, in the order in which they came."""
        query = 'SELECT reply FROM replies WHERE key = ? ORDER BY attempt'
        rows = self._guarded(
            lambda: self._connection.execute(query, [task_key(judge, task)]).fetchall()
        )
        return [Reply(**json.loads(text)) for (text,) in rows]

    def put(self, judge: Judge, task: Task, reply: Reply) -> None:
        """Keep a reply, beside earlier ones to the same question."""
        row = [task_key(judge, task), json.dumps(asdict(reply))]
        self._guarded(
            lambda: self._connection.execute(
                'INSERT INTO replies SELECT ?1, (SELECT COUNT(*) FROM replies WHERE key = ?1), ?2',
                row,
            )
        )

    def close(self) -> None:
        """Close the file; the cache is not used afterwards."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of replies."""
        query = 'SELECT COUNT(*) FROM replies'
        return self._guarded(lambda: self._connection.execute(query).fetchone()[0])

    def _open(self) -> sqlite3.Connection:
        # The asking thread is not the one that opened the file; `_guarded` lets one in at a time.
        connection = sqlite3.connect(
            self.path, timeout=WAIT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        tables = connection.execute('SELECT COUNT(*) FROM sqlite_master').fetchone()[0]
        application = connection.execute('PRAGMA application_id').fetchone()[0]
        if (tables or application) and application != APPLICATION:
            raise CacheError(
                f'{self.path} is the database of another program; name another file for the cache'
            )
        version = connection.execute('PRAGMA user_version').fetchone()[0]
        if tables and version != VERSION:
            raise CacheError(
                f'{self.path} is a cache of version {version}, but this program uses {VERSION}; '
                'move it away or name another file'
            )
        _persist(connection, 'PRAGMA journal_mode = WAL')
        # After a kill everything that was committed is there; only a power cut may lose the end.
        connection.execute('PRAGMA synchronous = NORMAL')
        if not tables:
            connection.executescript(
                f'BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION}; '
                f'PRAGMA user_version = {VERSION}; '
                'CREATE TABLE IF NOT EXISTS replies (key TEXT, attempt INTEGER, reply TEXT, '
                'PRIMARY KEY (key, attempt)) WITHOUT ROWID; COMMIT'
            )

    def _guarded(self, action):
        try:
            with self._lock:
                return action()
        except sqlite3.Error as error:
            raise CacheError(
                f'the cache {self.path} cannot be used ({error}); if it is no cache or '
                'broken, move it away or name another file'
            ) from None


def _persist(connection: sqlite3.Connection, statement: str) -> None:
    """Changing the journal's kind fails at once where another process does so too: insist."""
    until = time.monotonic() + WAIT
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if 'locked' not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
