"""The cache keeps what arrived, for its owner only, and says what is wrong with a file."""

import os
import stat
import subprocess
import sys
from dataclasses import replace

import pytest

from mg_plugins.emotion.cache import Cache, task_key
from mg_plugins.emotion.tasks import Reply, Task
from mg_plugins.errors import UserError
from mg_plugins.files import InUse

from paths import ROOT

TASK = Task('system', 'user', None, 'c', None, ('a', 'b'), ('x', 'y'), (0.0, 1.0))


class Judge:
    name = 'toy'

    def __init__(self, **identity):
        self.parameters = identity

    def identity(self):
        return {'kind': 'toy', **self.parameters}


def test_a_reply_comes_back_whole_after_reopening(tmp_path):
    with Cache(tmp_path / 'deep' / 'cache.jsonl') as cache:
        assert cache.replies(Judge(), TASK) == []
        reply = Reply('ä "B"', 7, True, 'hm', 'stop', True)
        cache.put(Judge(), TASK, reply)
    with Cache(tmp_path / 'deep' / 'cache.jsonl') as cache:
        assert cache.replies(Judge(), TASK) == [reply]


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
        cache = Cache(tmp_path / 'folder' / 'cache.jsonl')
        cache.put(Judge(), TASK, Reply('B'))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'folder').stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / 'folder/cache.jsonl').stat().st_mode) == 0o600
    cache.close()


def test_a_file_that_was_wider_is_narrowed(tmp_path):
    (tmp_path / 'c').touch(mode=0o644)
    Cache(tmp_path / 'c').close()
    assert stat.S_IMODE((tmp_path / 'c').stat().st_mode) == 0o600


@pytest.mark.parametrize('content', ['precious ' * 1000, '{"mg_plugins": "replies of judges"}\n'])
def test_a_file_that_is_no_cache_is_left_alone(tmp_path, content):
    file = tmp_path / 'notes.txt'
    file.write_text(content)
    with pytest.raises(UserError, match=r'notes\.txt is no cache .*name another file'):
        Cache(file)
    assert file.read_text() == content


def test_a_broken_line_is_named(tmp_path):
    with Cache(tmp_path / 'c') as cache:
        for i in range(3):
            cache.put(Judge(seed=i), TASK, Reply('B'))
    whole = (tmp_path / 'c').read_text()
    typed = ('{"text": null}', '{"text": 12}', '{"text": "A", "tokens": "many"}')
    wrong = ('{', '["key"]', '["key", {"colour": 1}]', '["key", 3]', '3', '[' * 100_000)
    for line in (*wrong, *(f'["key", {reply}]' for reply in typed)):
        (tmp_path / 'c').write_text(whole + line + '\n')
        with pytest.raises(UserError, match='c, line 5 is broken: move it away'):
            Cache(tmp_path / 'c')


def test_wherever_a_kill_cut_the_file_the_rest_is_there_and_it_goes_on(tmp_path):
    with Cache(tmp_path / 'c') as cache:
        for i in range(2):
            cache.put(Judge(seed=i), TASK, Reply(f'{i}'))
    whole = (tmp_path / 'c').read_bytes()
    lines = whole.splitlines(keepends=True)
    for end in range(len(whole)):
        (tmp_path / 'c').write_bytes(whole[:end])
        with Cache(tmp_path / 'c') as cache:
            kept = cache.replies(Judge(seed=0), TASK) + cache.replies(Judge(seed=1), TASK)
            assert len(kept) == (end >= len(lines[0] + lines[1]))
            cache.put(Judge(seed=9), TASK, Reply('new'))
        with Cache(tmp_path / 'c') as cache:
            assert [r.text for r in cache.replies(Judge(seed=9), TASK)] == ['new']


def test_a_folder_in_its_place_says_so(tmp_path):
    with pytest.raises(UserError, match='cannot be written'):
        Cache(tmp_path)


def test_a_full_disk_says_so():
    if not os.path.exists('/dev/full'):
        pytest.skip('no /dev/full here')
    cache = Cache.__new__(Cache)
    cache.path, cache._file = '/dev/full', open('/dev/full', 'wb', buffering=0)
    with pytest.raises(UserError, match='No space left'):
        cache.put(Judge(), TASK, Reply('B'))


SECOND = """
import sys, types
# Without OpenMMLab, which has nothing to do with it and takes seconds to import.
sys.modules['mg_plugins'] = types.ModuleType('mg_plugins')
sys.modules['mg_plugins'].__path__ = [sys.argv[1]]
from mg_plugins.emotion.cache import Cache
with Cache(sys.argv[2]):
    print('has it', flush=True)
    sys.stdin.readline()
"""


def test_one_process_at_a_time_uses_it(tmp_path):
    command = [sys.executable, '-c', SECOND, str(ROOT / 'mg_plugins'), str(tmp_path / 'c')]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == 'has it\n'
    with pytest.raises(InUse, match=f'is in use by process {other.pid}'):
        Cache(tmp_path / 'c')
    other.kill()
    other.communicate()
    with Cache(tmp_path / 'c') as cache:  # what it held ends with it
        assert cache.replies(Judge(), TASK) == []
