"""Replies on disk, keyed by what they depend on: a killed run goes on, a rerun asks nothing."""

import hashlib
import json
import os
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from mg_plugins.errors import UserError
from mg_plugins.files import locked

from .tasks import Judge, Reply, Task

# The first line; the version is that of the lines and of what keys are made of.
HEAD = b'{"mg_plugins": "replies of judges", "version": 3}\n'
KINDS = [str, int, bool, str, str, bool]  # of the fields of a reply


def task_key(judge: Judge, task: Task) -> str:
    """What makes two questions the same: SHA-256 of the judge's identity and of what it reads."""
    sent = {'system': task.system, 'user': task.user, 'schema': task.schema}
    reads = judge.reads(task) if hasattr(judge, 'reads') else sent
    content = {'judge': judge.identity(), 'reads': reads, 'sample': task.sample}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


class Cache(ExitStack):
    """All replies by question, in a JSON-lines file (mode 0600) that one process uses at a time."""

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__()
        self.path, self._replies = Path(path), defaultdict(list)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.enter_context(locked(self.path.parent, "the cache's folder"))
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            self._file = self.enter_context(open(file, 'r+b', buffering=0))
            os.chmod(self.path, 0o600)
            self._load(self._file.read())
        except (OSError, UserError) as error:
            self.close()
            if isinstance(error, UserError):
                raise
            raise UserError(f'the cache {self.path} cannot be written: {error}') from None

    def replies(self, judge: Judge, task: Task) -> list[Reply]:
        """All replies to one question, in the order in which they came."""
        return list(self._replies.get(task_key(judge, task), ()))

    def put(self, judge: Judge, task: Task, reply: Reply) -> None:
        """Keep a reply, beside earlier ones to the same question; it is in the file then."""
        key = task_key(judge, task)
        line = json.dumps([key, asdict(reply)]).encode() + b'\n'
        try:
            if self._file.write(line) < len(line):
                raise OSError('the disk is full')
        except (OSError, ValueError) as error:  # the latter where it is closed
            raise UserError(f'the cache {self.path} cannot be written: {error}') from None
        self._replies[key].append(reply)

    def _load(self, content: bytes) -> None:
        """Read all lines; one that a kill cut off at the end is taken away."""
        advice = 'move it away or name another file for the cache'
        if HEAD.startswith(content):
            self._file.write(HEAD[len(content) :])
            content = HEAD
        if not content.startswith(HEAD):
            raise UserError(f'{self.path} is no cache of this version: {advice}')
        *lines, rest = content.split(b'\n')
        for number, line in enumerate(lines[1:], 2):
            try:
                key, reply = json.loads(line)
                self._replies[key].append(reply := Reply(**reply))
                if [type(value) for value in asdict(reply).values()] != KINDS:
                    raise TypeError
            except (RecursionError, TypeError, ValueError):
                raise UserError(f'{self.path}, line {number} is broken: {advice}') from None
        self._file.truncate(len(content) - len(rest))
        self._file.seek(0, os.SEEK_END)
