"""Answers on disk, keyed by what they depend on: a killed run goes on, a rerun asks nothing.

One SQLite file, readable by its owner only. Several processes may use it at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mg_plugins.errors import UserError

from .tasks import Judge, Reply, Task

# Marks the file as ours ('MGJC'); the version is that of the table and of what keys are made of.
APPLICATION, VERSION = 0x4D474A43, 2
WAIT = 30.0  # seconds for another process to finish its write
TABLE = """CREATE TABLE IF NOT EXISTS replies
(key TEXT, attempt INTEGER, reply TEXT, PRIMARY KEY (key, attempt)) WITHOUT ROWID"""


class CacheError(UserError):
    """The file cannot be used; the message says why and what to do."""


def task_key(judge: Judge, task: Task) -> str:
    """What makes two questions the same: SHA-256 of the judge's identity and of what it reads."""
    reads = {'system': task.system, 'user': task.user, 'schema': task.schema}
    if hasattr(judge, 'reads'):
        reads = judge.reads(task)
    content = {'judge': judge.identity(), 'reads': reads, 'sample': task.sample}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


class Cache(AbstractContextManager):
    """Replies by question; what is put is on disk when `put` returns.

    Every reply that arrived is kept, also refusals and unreadable ones (so that a question is not
    asked anew more often than allowed, however often a run is started). The file has mode 0600,
    its folder, if made here, 0700. What cannot be used raises `CacheError`.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite would make the file as wide as the umask allows; its side files copy this mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            os.chmod(self.path, 0o600)
        except OSError as error:
            raise CacheError(f'the cache {self.path} cannot be written: {error}') from None
        # The asking thread is not the one that opens the file; they never use it at a time.
        self._connection = sqlite3.connect(
            self.path, timeout=WAIT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def replies(self, judge: Judge, task: Task) -> list[Reply]:
        """All replies to one question, in the order in which they came."""
        query = 'SELECT reply FROM replies WHERE key = ? ORDER BY attempt'
        return [Reply(**json.loads(text)) for (text,) in self._run(query, task_key(judge, task))]

    def put(self, judge: Judge, task: Task, reply: Reply) -> None:
        """Keep a reply, beside earlier ones to the same question."""
        insert = 'INSERT INTO replies SELECT ?1, (SELECT COUNT(*) FROM replies WHERE key = ?1), ?2'
        self._run(insert, task_key(judge, task), json.dumps(asdict(reply)))

    def close(self) -> None:
        """Close the file; the cache is not used afterwards."""
        self._connection.close()

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of replies."""
        return self._number('SELECT COUNT(*) FROM replies')

    def _prepare(self) -> None:
        tables = self._number('SELECT COUNT(*) FROM sqlite_master')
        application = self._number('PRAGMA application_id')
        if (tables or application) and application != APPLICATION:
            raise CacheError(
                f'{self.path} is the database of another program; name another file for the cache'
            )
        version = self._number('PRAGMA user_version')
        if tables and version != VERSION:
            raise CacheError(
                f'{self.path} is a cache of version {version}, but this program uses {VERSION}; '
                'move it away or name another file'
            )
        # Changing the journal's kind fails at once where another process does so too: insist.
        self._run('PRAGMA journal_mode = WAL', insist=WAIT)
        # After a kill everything that was committed is there; only a power cut may lose the end.
        self._run('PRAGMA synchronous = NORMAL')
        # The table last: a file that has one has the marks already, whoever looks at it when.
        marks = f'PRAGMA application_id = {APPLICATION}', f'PRAGMA user_version = {VERSION}'
        for statement in () if tables else (*marks, TABLE):
            self._run(statement)

    def _number(self, query: str) -> int:
        return self._run(query)[0][0]

    def _run(self, statement: str, *values: str, insist: float = 0) -> list[tuple]:
        until = time.monotonic() + insist
        while True:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                if 'locked' not in str(error) or time.monotonic() >= until:
                    raise CacheError(
                        f'the cache {self.path} cannot be used ({error}); if it is no cache or '
                        'broken, move it away or name another file'
                    ) from None
            time.sleep(0.01)
