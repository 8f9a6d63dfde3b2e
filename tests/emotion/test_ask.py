"""Asking: nothing is lost, nothing asked after its answer came, nobody hammered.

Most of it goes over real HTTP to `fake_server`; judges that only count are toys of this file.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from email.utils import formatdate

import pytest

from mg_plugins.emotion import ask
from mg_plugins.emotion.ask import Pace, ask_all
from mg_plugins.emotion.cache import Cache
from mg_plugins.emotion.judges import make_judge
from mg_plugins.emotion.parse import parse_reply
from mg_plugins.emotion.tasks import (
    ANSWERED,
    FAILED,
    NOT_ASKED,
    REFUSED,
    UNREADABLE,
    JudgeError,
    Reply,
    Task,
    answer_schema,
)
from mg_plugins.errors import UserError

from fake_server import serve
from paths import HELPERS, ROOT

FAULTS = {
    '429': 0.05,
    '500': 0.05,
    'drop': 0.05,
    'truncated body': 0.05,
    'broken body': 0.05,
    'truncated content': 0.05,
}


def make_tasks(number, first=0):
    return [
        Task(
            system='You judge.',
            user=f'scenario {i}',
            schema=answer_schema(2),
            context='',
            gestures=None,
            options=('lost', 'won'),
            states=('lose', 'win'),
            valences=(-1.0, 1.0),
        )
        for i in range(first, first + number)
    ]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(ask, 'FIRST_WAIT', 0.01)


def openai_judge(server, **options):
    return make_judge('openai', model='fake', base_url=server.url, **options)


def kept(cache):
    return cache.path.read_bytes().count(b'\n') - 1  # the first line is no reply


def statuses(asked):
    return [answer.status for answer in asked.answers]


class Toy:
    """Replies what ``act(call number, task)`` returns, or raises it."""

    name = 'toy'

    def __init__(self, act=lambda call, task: 'A', seconds=0.0):
        self.act, self.seconds, self.tasks, self.closed, self.waiting, self.most = (
            act,
            seconds,
            [],
            0,
            0,
            0,
        )

    def identity(self):
        return {'kind': 'toy'}

    async def reply(self, task):
        self.tasks.append(task)
        call = len(self.tasks)
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await asyncio.sleep(self.seconds)
            result = self.act(call, task)
        finally:
            self.waiting -= 1
        if isinstance(result, BaseException):
            raise result
        return result if isinstance(result, Reply) else Reply(result, 10)

    async def close(self):
        self.closed += 1


def test_thirty_percent_faults_lose_nothing_and_repeat_nothing(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(ask, 'REASK', 8)
    tasks = make_tasks(150)
    with serve(faults=FAULTS, retry_after=0.05) as server, Cache(tmp_path / 'c') as cache:
        asked = ask_all(openai_judge(server), tasks, cache=cache, concurrency=16, retries=12)
        assert statuses(asked) == [ANSWERED] * 150 and not asked.stopped
        requests = server.requests()
        kinds = {request['behaviour'] for request in requests}
        assert kinds == {'answer', *FAULTS}
        assert asked.calls == len(requests) > 170
        assert server.asked_after_answer() == []
        assert sum(request['answered'] for request in requests) == 150
        again = ask_all(openai_judge(server), tasks, cache=cache)
        assert (again.calls, again.cached) == (0, 150) and again.answers == asked.answers
        assert len(server.requests()) == len(requests)
    clean = {i: answer.choice for i, answer in enumerate(asked.answers)}
    with serve() as server:
        asked = ask_all(openai_judge(server), tasks)
    assert clean == {i: answer.choice for i, answer in enumerate(asked.answers)}


def test_as_many_at_a_time_as_allowed_and_no_more():
    with serve(latency=0.1) as server:
        ask_all(openai_judge(server), make_tasks(40), concurrency=7)
        assert server.most_at_once() == 7


def test_a_slow_server_is_given_no_more_than_it_serves(quick):
    """One at a time, 0.1 s each, under a time-out of 0.15 s: nobody waits in its queue in vain."""
    turn = asyncio.Lock()

    class Slow(Toy):
        async def reply(self, task):
            async with turn:
                return await super().reply(task)

    judge = Slow(seconds=0.1)
    asked = ask_all(judge, make_tasks(15), concurrency=8, timeout=0.35)
    assert statuses(asked) == [ANSWERED] * 15 and asked.calls == len(judge.tasks) == 15


def test_a_late_reply_is_kept_and_not_asked_for_twice(quick):
    """The first reply takes longer than a time-out, but no longer than two."""

    class Late(Toy):
        async def reply(self, task):
            first = not self.tasks
            reply = await super().reply(task)
            await asyncio.sleep(0.6 if first else 0)
            return reply

    judge = Late()
    asked = ask_all(judge, make_tasks(6), concurrency=4, timeout=0.4)
    assert statuses(asked) == [ANSWERED] * 6 and asked.calls == len(judge.tasks) == 6


def test_the_pace_grows_while_replies_come_as_fast_and_falls_when_they_do_not():
    pace = Pace(8)
    allowed = []
    for seconds in [1.0] * 15 + [5.0] * 8 + [1.0] * 7:
        pace.replied(seconds)
        allowed.append(pace.allowed)
    assert allowed[:3] == [2, 2, 4] and allowed[14] == 8 and allowed[22] == 7
    assert allowed[-1] == 8
    pace.overloaded()
    assert pace.allowed == 4


@pytest.mark.parametrize('as_date', [False, True])
def test_retry_after_is_waited_for(as_date, quick):
    until = int(time.time()) + 2
    wait = formatdate(until, usegmt=True) if as_date else 1.1
    with serve(script=['429'], retry_after=wait) as server:
        asked = ask_all(openai_judge(server), make_tasks(1))
        first, second = server.requests()
    assert statuses(asked) == [ANSWERED] and asked.calls == 2
    # The clock of waiting and the clock of the day may run apart by a little.
    assert second['start'] > (until if as_date else first['end'] + 1.1) - 0.02


def test_one_that_asks_to_wait_for_hours_ends_the_run():
    with serve(script=['429'], retry_after=3600) as server:
        asked = ask_all(openai_judge(server), make_tasks(20), concurrency=1)
        assert len(server.requests()) == 1
    assert 'asks to wait 3600 s' in asked.stopped
    assert statuses(asked) == [NOT_ASKED] * 20 and '429' in asked.answers[0].text


def test_back_off_doubles_and_ends(monkeypatch):
    waits = []

    class Jitter(random.Random):
        def uniform(self, low, high):
            waits.append((low, high))
            return 0.0

    monkeypatch.setattr(random, 'Random', Jitter)
    ask_all(Toy(lambda call, task: JudgeError('busy', retry=True)), make_tasks(1), retries=8)
    assert waits == [(0, limit) for limit in (0.5, 1, 2, 4, 8, 16, 30, 30)]


def test_a_stalled_request_is_given_up_and_made_anew(quick):
    with serve(script=['stall']) as server:
        asked = ask_all(openai_judge(server), make_tasks(1), timeout=0.5)
        assert [r['behaviour'] for r in server.requests()] == ['stall', 'answer']
    assert statuses(asked) == [ANSWERED]


def test_retries_end_with_the_reason(quick):
    judge = Toy(lambda call, task: JudgeError('too busy', retry=True))
    asked = ask_all(judge, make_tasks(1), retries=3)
    assert len(judge.tasks) == asked.calls == 4
    assert statuses(asked) == [FAILED] and asked.replies == [None]
    assert asked.answers[0].text == 'too busy (asked 4 times)'


def test_an_error_that_stays_is_not_retried_and_a_judges_mistake_loses_nothing():
    judge = Toy(lambda call, task: [JudgeError('no such model'), KeyError('x'), 'B'][call - 1])
    asked = ask_all(judge, make_tasks(3), concurrency=1)
    assert statuses(asked) == [FAILED, FAILED, ANSWERED] and asked.calls == 3
    assert [answer.text for answer in asked.answers[:2]] == ['no such model', "KeyError: 'x'"]


def test_equal_questions_are_asked_once_and_other_draws_are_not_equal():
    (task,) = make_tasks(1)
    judge = Toy()
    asked = ask_all(judge, [task, replace(task, sample=1), task, replace(task)], concurrency=4)
    assert [t.sample for t in judge.tasks] == [0, 1]
    assert statuses(asked) == [ANSWERED] * 4 and asked.cached == 0
    assert [reply.text for reply in asked.replies] == ['A'] * 4


def test_an_unreadable_reply_is_drawn_anew_so_many_times_ever(tmp_path, monkeypatch):
    with Cache(tmp_path / 'c') as cache:
        judge = Toy(lambda call, task: 'hm')
        for calls, reask in ((3, 2), (0, 2), (1, 3), (0, 1)):
            monkeypatch.setattr(ask, 'REASK', reask)
            asked = ask_all(judge, make_tasks(1), cache=cache)
            assert (asked.calls, statuses(asked)) == (calls, [UNREADABLE])
            assert asked.replies[0].text == 'hm'
        assert len({task.sample for task in judge.tasks}) == 4  # each another draw
        judge = Toy(lambda call, task: 'B')
        monkeypatch.setattr(ask, 'REASK', 4)
        assert statuses(ask_all(judge, make_tasks(1), cache=cache)) == [ANSWERED]
        assert statuses(ask_all(judge, make_tasks(1), cache=cache)) == [ANSWERED]
        assert len(judge.tasks) == 1


def test_refusals_are_kept_and_failures_are_not(tmp_path):
    with Cache(tmp_path / 'c') as cache:
        judge = Toy(lambda call, task: [Reply('no', 5, True), JudgeError('broken')][call - 1])
        asked = ask_all(judge, make_tasks(2), cache=cache, concurrency=1)
        assert statuses(asked) == [REFUSED, FAILED]
        judge = Toy()
        asked = ask_all(judge, make_tasks(2), cache=cache)
        assert statuses(asked) == [REFUSED, ANSWERED] and (asked.calls, asked.cached) == (1, 1)


def test_the_budget_of_calls_counts_retries_and_is_exact(quick):
    with serve(faults={'500': 0.3}) as server:
        asked = ask_all(openai_judge(server), make_tasks(50), concurrency=8, max_calls=20)
        assert len(server.requests()) == asked.calls == 20
        assert 'budget of 20 calls' in asked.stopped
        answered = sum(request['answered'] for request in server.requests())
        assert statuses(asked).count(ANSWERED) == answered < 20
        assert statuses(asked).count(NOT_ASKED) == 50 - answered


def test_what_is_under_way_when_the_budget_ends_is_awaited(tmp_path):
    with serve(latency=0.1, tokens=100) as server, Cache(tmp_path / 'c') as cache:
        asked = ask_all(
            openai_judge(server), make_tasks(50), concurrency=4, max_calls=10, cache=cache
        )
        assert statuses(asked).count(ANSWERED) == len(server.requests()) == 10
        assert asked.tokens == asked.total_tokens == 1000
        rest = ask_all(openai_judge(server), make_tasks(50), cache=cache)
        assert statuses(rest) == [ANSWERED] * 50 and len(server.requests()) == 50
        assert (rest.tokens, rest.total_tokens, rest.total_replies) == (4000, 5000, 50)


def test_a_dead_endpoint_is_told_after_a_few_requests(quick):
    with serve() as server:
        server.kill()
        asked = ask_all(openai_judge(server), make_tasks(500), concurrency=4)
    assert 'nobody answers at http://127.0.0.1' in asked.stopped
    assert asked.calls <= 8 + 4 and set(statuses(asked)) <= {FAILED, NOT_ASKED}


def test_one_that_dies_on_the_way_too(quick):
    judge = Toy(
        lambda call, task: 'A' if call <= 20 else JudgeError('gone', True, unreachable=True)
    )
    asked = ask_all(judge, make_tasks(500), concurrency=4, retries=2)
    assert 'gone' in asked.stopped and asked.calls <= 20 + 3 * (8 + 4)
    assert statuses(asked).count(ANSWERED) == 20


def test_a_wrong_key_is_not_tried_with_every_question():
    with serve(key='right') as server:
        asked = ask_all(openai_judge(server), make_tasks(100), concurrency=2)
        assert len(server.requests()) <= 5 + 2
    assert 'OPENAI_API_KEY' in asked.stopped


def test_some_bad_questions_do_not_end_the_run():
    judge = Toy(lambda call, task: 'A' if call % 4 == 0 else JudgeError('too long'))
    asked = ask_all(judge, make_tasks(100), concurrency=2)
    assert not asked.stopped and statuses(asked).count(ANSWERED) == 25


def test_inside_a_running_loop_and_twice_with_one_judge():
    with serve() as server:
        judge = openai_judge(server)

        async def main():
            return ask_all(judge, make_tasks(3)), ask_all(judge, make_tasks(3, first=3))

        for asked in asyncio.run(main()):
            assert statuses(asked) == [ANSWERED] * 3


def test_progress_reaches_the_total_and_the_judge_is_closed(tmp_path):
    with Cache(tmp_path / 'c') as cache:
        ask_all(Toy(), make_tasks(2), cache=cache)
        seen, judge = [], Toy()
        tasks = [*make_tasks(5), *make_tasks(5)]
        ask_all(judge, tasks, cache=cache, progress=lambda *numbers: seen.append(numbers))
    assert seen == [(4, 10), (6, 10), (8, 10), (10, 10)] and judge.closed == 1


def test_no_tasks_no_calls():
    asked = ask_all(Toy(), [])
    assert (asked.answers, asked.calls, asked.stopped) == ([], 0, '')


def test_a_cache_that_fails_is_an_error_and_ends_it(tmp_path):
    cache = Cache(tmp_path / 'd')
    judge = Toy(lambda call, task: cache.close() or 'A', seconds=0.01)
    with pytest.raises(UserError):
        ask_all(judge, make_tasks(50), cache=cache, concurrency=2)
    assert len(judge.tasks) <= 4 and judge.closed == 1


@pytest.mark.parametrize('wrong', [{'concurrency': 0}, {'timeout': 0}, {'retries': -1}], ids=str)
def test_settings_out_of_range(wrong):
    with pytest.raises(UserError, match=f'{next(iter(wrong))} {next(iter(wrong.values()))}'):
        ask_all(Toy(), [], **wrong)


def test_ctrl_c_keeps_what_arrived_and_closes_the_judge(tmp_path):
    def act(call, task):
        if call == 40:
            os.kill(os.getpid(), signal.SIGINT)
        return 'A'

    judge = Toy(act, seconds=0.02)
    with Cache(tmp_path / 'c') as cache:
        with pytest.raises(KeyboardInterrupt):
            ask_all(judge, make_tasks(2000), cache=cache, concurrency=4)
        assert 0 < kept(cache) < 2000 and judge.closed == 1
        asked = len(judge.tasks)
        time.sleep(0.1)
        assert len(judge.tasks) == asked  # nothing goes on behind the scenes


def test_a_reply_is_kept_before_anything_else_happens(tmp_path):
    seen = []
    with Cache(tmp_path / 'c') as cache:

        def act(call, task):
            # Runs as soon as the asking lets go, be it for a time-out or for Ctrl-C.
            asyncio.get_running_loop().call_soon(lambda: seen.append(kept(cache)))
            return 'A'

        ask_all(Toy(act), make_tasks(5), cache=cache, concurrency=1)
    assert seen == [1, 2, 3, 4, 5]


def test_after_an_error_nothing_new_is_begun():
    def progress(done, total):
        if done == 1:
            raise RuntimeError('the screen is gone')

    judge = Toy(seconds=0.02)
    with pytest.raises(RuntimeError, match='the screen is gone'):
        ask_all(judge, make_tasks(100), concurrency=4, progress=progress)
    assert len(judge.tasks) <= 8 and judge.closed == 1


def test_every_reply_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(ask, 'REASK', 4)
    read = []
    with Cache(tmp_path / 'c') as cache:
        judge = Toy(lambda call, task: 'A' if call % 3 == 0 else 'hm')
        asked = ask_all(judge, make_tasks(4), cache=cache, concurrency=1,
                        read=lambda *what: read.append(what) or parse_reply(*what))  # fmt: skip
        assert statuses(asked) == [ANSWERED] * 4 and len(read) == asked.calls == 12


def test_a_judge_takes_its_secrets_out_of_what_the_answers_say():
    said = [Reply('{"answer": "A", "reason": "\\u0073ecret"}'), KeyError('secret')]
    judge = Toy(lambda call, task: said[call - 1])
    judge.scrub = lambda text: text.replace('secret', '***')
    asked = ask_all(judge, make_tasks(2), concurrency=1)
    assert [answer.text for answer in asked.answers] == ['***', "KeyError: '***'"]


SCRIPT = """
import sys, types
# Without OpenMMLab, which has nothing to do with it and takes seconds to import.
sys.modules['mg_plugins'] = types.ModuleType('mg_plugins')
sys.modules['mg_plugins'].__path__ = [sys.argv[1]]
sys.path[:0] = sys.argv[2].split(':')
from test_ask import Cache, ask_all, make_judge, make_tasks
judge = make_judge('openai', model='fake', base_url=sys.argv[3])
asked = ask_all(judge, make_tasks(60), cache=Cache(sys.argv[4]), concurrency=4)
print(asked.calls, asked.cached, sum(answer.status == 'answered' for answer in asked.answers))
"""


def start(server, path):
    """Run `SCRIPT` in a process of its own."""
    folders = [str(ROOT / 'mg_plugins'), f'{HELPERS}:{ROOT / "tests/emotion"}']
    command = [sys.executable, '-c', SCRIPT, *folders, server.url, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_process_goes_on_where_it_was(tmp_path):
    with serve(latency=0.1) as server:
        process = start(server, tmp_path / 'c')
        try:
            until = time.monotonic() + 60
            while len(server.requests()) < 25 and time.monotonic() < until:
                time.sleep(0.02)
        finally:
            process.kill()
            process.communicate()
        first = server.requests()
        assert 25 <= len(first) < 60
        output, _ = start(server, tmp_path / 'c').communicate(timeout=60)
        calls, cached, answered = map(int, output.split())
        # Only those whose answer was under way when the process died are asked a second time.
        assert answered == 60 and cached + calls == 60 and cached >= len(first) - 4
        assert len(server.requests()) == len(first) + calls
