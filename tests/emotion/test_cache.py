"""The cache keeps what arrived, for its owner only, and says what is wrong with a file."""

import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from mg_plugins.emotion.cache import Cache, CacheError, task_key
from mg_plugins.emotion.tasks import Reply, Task

from paths import ROOT

TASK = Task('system', 'user', None, 'c', None, ('a', 'b'), ('x', 'y'), (0.0, 1.0), 'post_match')


class Judge:
    name = 'toy'

    def __init__(self, **identity):
        self.parameters = identity

    def identity(self):
        return {'kind': 'toy', **self.parameters}


def test_a_reply_comes_back_whole_after_reopening(tmp_path):
    with Cache(tmp_path / 'deep' / 'cache.sqlite') as cache:
        assert cache.replies(Judge(), TASK) == []
        reply = Reply('ä "B"', 7, True, 'hm', 'stop', True)
        cache.put(Judge(), TASK, reply)
    with Cache(tmp_path / 'deep' / 'cache.sqlite') as cache:
        assert cache.replies(Judge(), TASK) == [reply]
        assert len(cache) == 1


def test_attempts_are_kept_side_by_side(tmp_path):
    with Cache(tmp_path / 'c') as cache:
        for text in ('hm', 'B'):
            cache.put(Judge(), TASK, Reply(text))
        assert [reply.text for reply in cache.replies(Judge(), TASK)] == ['hm', 'B']


@pytest.mark.parametrize(
    'change', [{'system': 's'}, {'user': 'u'}, {'schema': {}}, {'sample': 1}], ids=str
)
def test_the_prompt_is_the_key(change):
    assert task_key(Judge(), TASK) != task_key(Judge(), replace(TASK, **change))


def test_so_is_the_judge_and_nothing_that_is_not_sent():
    assert task_key(Judge(), TASK) == task_key(Judge(), replace(TASK, states=('p', 'q')))
    assert task_key(Judge(seed=0), TASK) != task_key(Judge(seed=1), TASK)
    assert task_key(Judge(a=1, b=2), TASK) == task_key(Judge(b=2, a=1), TASK)


def test_only_the_owner_may_read(tmp_path):
    before = os.umask(0)
    try:
        cache = Cache(tmp_path / 'folder' / 'cache.sqlite')
        cache.put(Judge(), TASK, Reply('B'))  # the side files exist now
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'folder').stat().st_mode) == 0o700
    files = list((tmp_path / 'folder').iterdir())
    assert len(files) > 1
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    cache.close()


def test_a_file_that_was_wider_is_narrowed(tmp_path):
    (tmp_path / 'c').touch(mode=0o644)
    Cache(tmp_path / 'c').close()
    assert stat.S_IMODE((tmp_path / 'c').stat().st_mode) == 0o600


def test_a_file_that_is_no_cache_is_left_alone(tmp_path):
    file = tmp_path / 'notes.txt'
    file.write_text('precious ' * 1000)
    with pytest.raises(CacheError, match=r'notes\.txt cannot be used .*name another file'):
        Cache(file)
    assert file.read_text() == 'precious ' * 1000


def test_neither_is_the_database_of_another_program(tmp_path):
    with sqlite3.connect(tmp_path / 'other.db') as other:
        other.execute('CREATE TABLE replies (key TEXT)')
    other.close()
    content = (tmp_path / 'other.db').read_bytes()
    with pytest.raises(CacheError, match='another program'):
        Cache(tmp_path / 'other.db')
    assert (tmp_path / 'other.db').read_bytes() == content


def test_nor_one_of_another_version(tmp_path):
    Cache(tmp_path / 'c').close()
    with sqlite3.connect(tmp_path / 'c') as file:
        file.execute('PRAGMA user_version = 99')
    file.close()
    with pytest.raises(CacheError, match='version 99'):
        Cache(tmp_path / 'c')


def test_a_broken_cache_says_so(tmp_path):
    with Cache(tmp_path / 'c') as cache:
        for i in range(200):
            cache.put(Judge(seed=i), TASK, Reply('B' * 500))
    content = bytearray((tmp_path / 'c').read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    (tmp_path / 'c').write_bytes(content)
    with pytest.raises(CacheError, match='move it away'), Cache(tmp_path / 'c') as cache:
        cache.put(Judge(), TASK, Reply('B'))


def test_a_folder_in_its_place_says_so(tmp_path):
    with pytest.raises(CacheError, match='cannot be written'):
        Cache(tmp_path)


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import mg_plugins_light
from mg_plugins.emotion.cache import Cache
from mg_plugins.emotion.tasks import Reply
from test_cache import Judge, TASK
print('ready', flush=True)
sys.stdin.readline()
cache = Cache(sys.argv[3])
for i in range(100):
    cache.put(Judge(seed=i), TASK, Reply(sys.argv[4]))
"""


def test_processes_share_it(tmp_path):
    # Without OpenMMLab, which has nothing to do with it and takes seconds to import.
    (tmp_path / 'mg_plugins_light.py').write_text(
        textwrap.dedent(f"""
        import sys, types
        package = types.ModuleType('mg_plugins')
        package.__path__ = [{str(ROOT / 'mg_plugins')!r}]
        sys.modules['mg_plugins'] = package
        """)
    )
    (tmp_path / 'paths.py').write_text('ROOT = None\n')
    paths = [str(tmp_path), str(ROOT / 'tests' / 'emotion')]
    writers = [
        subprocess.Popen(
            [sys.executable, '-c', WRITER, *paths, str(tmp_path / 'c'), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ('one', 'two', 'three')
    ]
    for writer in writers:
        assert writer.stdout.readline() == 'ready\n'
    for writer in writers:  # the file is made by all at once
        writer.stdin.write('go\n')
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with Cache(tmp_path / 'c') as cache:
        assert len(cache) == 300
        for i in (0, 99):
            texts = sorted(reply.text for reply in cache.replies(Judge(seed=i), TASK))
            assert texts == ['one', 'three', 'two']
