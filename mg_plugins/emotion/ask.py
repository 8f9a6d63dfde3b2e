"""Asking many questions at a time: every one ends as one `Answer`, whatever happens to it."""

import asyncio
import math
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from mg_plugins.errors import UserError

from .cache import Cache, task_key
from .parse import parse_reply
from .tasks import FAILED, NOT_ASKED, UNREAD, Answer, Judge, JudgeError, Reply, Task

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds of back-off: the first limit and the last
PATIENCE = 300.0  # an endpoint that asks to wait longer ends the run; a later one goes on from here
REASK = 1  # how often a question is asked anew because its reply could not be read
ANEW = 1_000_000  # added to a task's sample for each time that its reply could not be read
CLOSING = 10.0  # seconds for connections to close


class Pace:
    """How many requests may be under way (``allowed``): one at first, at last ``most``.

    A refused parameter then costs one request. After each round of as many replies their median
    time is compared with the fastest round's. A time-out or "too many requests" is `overloaded`.
    """

    def __init__(self, most: int) -> None:
        self.most, self.allowed = most, 1
        self._times: list[float] = []
        self._fastest = float('inf')

    def replied(self, seconds: float) -> None:
        self._times.append(seconds)
        if len(self._times) < self.allowed:
            return
        median = statistics.median(self._times)
        self._times.clear()
        self._fastest = min(self._fastest, max(median, 0.01))
        if median <= 1.5 * self._fastest:
            self.allowed = min(self.most, 2 * self.allowed)
        elif median > 3 * self._fastest:
            self.allowed = max(1, self.allowed - 1)

    def overloaded(self) -> None:
        self.allowed = max(1, self.allowed // 2)
        self._times.clear()


@dataclass
class Asked:
    """What became of the tasks, in their order."""

    answers: list[Answer] = field(default_factory=list)
    replies: list[Reply | None] = field(default_factory=list)  # None where none came
    calls: int = 0  # requests made, retries included
    tokens: int = 0  # of the replies to them
    cached: int = 0  # tasks answered from the cache
    stopped: str = ''  # why it ended early, or empty
    total_replies: int = 0  # of these questions over all runs with this cache
    total_tokens: int = 0


def ask_all(judge: Judge, tasks: Sequence[Task], **options: Any) -> Asked:
    """Ask all tasks, equal ones once, and wait for their answers; the judge is closed at the end.

    ``options`` are fields of `Asking`: cache, concurrency, timeout, retries, max_calls and more.
    It works inside a running event loop too: the asking has a thread of its own.
    """
    run = Asking(judge, list(tasks), **options)
    with ThreadPoolExecutor(1, 'ask') as pool:
        asked = pool.submit(asyncio.run, run.main())
        try:
            return asked.result()
        except KeyboardInterrupt:
            with suppress(AttributeError, RuntimeError):  # not begun yet, or just over
                run.loop.call_soon_threadsafe(run.current.cancel)
            raise


@dataclass
class _Question:
    """Tasks that are one question, and how far it has come."""

    task: Task
    places: list[int] = field(default_factory=list)
    read: list[tuple[Reply, Answer]] = field(default_factory=list)  # all replies
    answer: Answer | None = None
    tries: int = 0  # since the last reply
    error: JudgeError | None = None
    late: asyncio.Task | None = None  # a request that ran out of time and is still waited for

    def best(self) -> tuple[Reply | None, Answer | None]:
        """The first readable reply with what it says, or the last one."""
        readable = (pair for pair in self.read if pair[1].status not in UNREAD)
        return next(readable, self.read[-1] if self.read else (None, None))


@dataclass
class Asking:
    """One call of `ask_all`. A reply is in the cache before anything is done with it."""

    judge: Judge
    tasks: list[Task]
    cache: Cache | None = None
    concurrency: int = 8  # the most requests under way at a time; see `Pace`
    timeout: float = 300.0  # seconds for a request from when it can be served; doubled by each try
    # After errors that may pass, with waits: what the endpoint asks, or random ones of up to 30 s.
    retries: int = 6
    max_calls: int | None = None  # the most requests, retries included
    seconds: float = math.inf  # after which no more are made
    progress: Callable[[int, int], None] | None = None  # told tasks done and all, from the thread
    read: Callable[[Reply, Task], Answer] = parse_reply

    def __post_init__(self) -> None:
        if self.concurrency < 1 or not self.timeout > 0 or self.retries < 0:
            got = f'concurrency {self.concurrency}, timeout {self.timeout}, retries {self.retries}'
            raise UserError(f'{got}: at least 1, above 0 and at least 0 were expected')
        self.scrub = getattr(self.judge, 'scrub', str)  # takes a judge's secrets out of a text
        self.asked, self.pace, self.jitter = Asked(), Pace(self.concurrency), random.Random(0)
        self.arrived, self.done, self.began = False, 0, time.monotonic()  # any reply; tasks done
        self.failures = 0  # since the last reply; before any, refused connections count too
        # Requests under way, in the order of their start, with the time from when each is served:
        # from when those made before it have been answered.
        self.served: dict[asyncio.Task, float] = {}

    async def main(self) -> Asked:
        self.loop, self.current = asyncio.get_running_loop(), asyncio.current_task()
        self.stop = asyncio.Event()
        by_key: dict[str, _Question] = {}
        for place, task in enumerate(self.tasks):
            question = by_key.setdefault(task_key(self.judge, task), _Question(task))
            if self.cache is not None and not question.places:
                self._take(question, self.cache.replies(self.judge, task))
            question.places.append(place)
        questions = list(by_key.values())
        self.asked.cached = sum(len(q.places) for q in questions if q.answer is not None)
        self._count(self.asked.cached)
        self.waiting = deque(q for q in questions if q.answer is None)
        self.under_way: set[asyncio.Task] = set()
        first = asyncio.FIRST_COMPLETED
        try:
            while self._begin():
                done, self.under_way = await asyncio.wait(self.under_way, return_when=first)
                for task in done:
                    task.result()
        except BaseException:
            self._stop('interrupted')
            raise
        finally:
            left = [*self.under_way, *(q.late for q in questions if q.late)]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            with suppress(Exception):  # the answers are there; nothing depends on this
                await asyncio.wait_for(self.judge.close(), CLOSING)
        asked = self.asked
        asked.answers = [Answer(NOT_ASKED, text=asked.stopped)] * len(self.tasks)
        asked.replies = [None] * len(self.tasks)
        for question in questions:
            reply, answer = question.best()
            for place in question.places:
                asked.answers[place] = question.answer or answer or asked.answers[place]
                asked.replies[place] = reply
            asked.total_replies += len(question.read)
            asked.total_tokens += sum(reply.tokens for reply, _ in question.read)
        return asked

    def _begin(self) -> bool:
        """Have as many questions under way as the pace allows, if there are any."""
        while self.waiting and len(self.under_way) < self.pace.allowed and not self._over():
            self.under_way.add(asyncio.ensure_future(self._handle(self.waiting.popleft())))
        return bool(self.under_way)

    def _take(self, question: _Question, replies: list[Reply]) -> None:
        """Read replies; one that cannot be read is asked for anew, `REASK` times ever."""
        for reply in replies:
            answer = self.read(reply, question.task)
            question.read.append((reply, replace(answer, text=self.scrub(answer.text))))
            question.tries, question.error = 0, None
        answer = question.best()[1]
        if answer and (answer.status not in UNREAD or len(question.read) > REASK):
            question.answer = answer

    async def _handle(self, question: _Question) -> None:
        """Bring one question on by one request; a late one is waited for as long again."""
        late, question.late = question.late, None
        if late or await self._ready(question):
            request = late or asyncio.ensure_future(self._once(question))
            patience, error = self.timeout * 2 ** (question.tries - 1), None
            if await self._served_in_time(request, patience):
                error = request.exception()
            elif late is None:
                self.pace.overloaded()
                question.late = request
                question.error = JudgeError(f'no reply within {patience:g} s', retry=True)
            else:
                request.cancel()
                await asyncio.gather(request, return_exceptions=True)
                error = JudgeError(f'no reply within {2 * patience:g} s', retry=True)
                error = error if request.cancelled() else request.exception()
            if error is not None and question.answer is None:
                self._failed(question, error)
        if question.answer is not None:
            self._count(len(question.places))
        elif not self.asked.stopped:
            # One that ran out of time goes last: its reply may come while others are asked.
            (self.waiting.append if question.late else self.waiting.appendleft)(question)

    async def _ready(self, question: _Question) -> bool:
        """Whether to make a request, after the pause that an earlier error asks for."""
        if question.error is not None and question.tries and not self._over():
            limit = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (question.tries - 1))
            pause = max(question.error.after or 0.0, self.jitter.uniform(0, limit))
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.stop.wait(), pause)
        if self._over():
            return False  # not asked, as far as its outcome goes
        self.asked.calls += 1
        question.tries += 1
        return True

    async def _served_in_time(self, request: asyncio.Task, patience: float) -> bool:
        """Wait until it is done, or has been served for so many seconds."""
        self.served[request] = time.monotonic()
        try:
            while not request.done():
                left = self.served[request] + patience - time.monotonic()
                if left <= 0:
                    return False
                await asyncio.wait([request], timeout=left)
            made_later = list(self.served)[list(self.served).index(request) + 1 :]
            self.served.update(dict.fromkeys(made_later, time.monotonic()))  # they move up
            return True
        except asyncio.CancelledError:
            request.cancel()
            raise
        finally:
            del self.served[request]

    def _failed(self, question: _Question, error: BaseException) -> None:
        if isinstance(error, UserError):  # of the cache
            raise error
        if not isinstance(error, JudgeError):
            # No question is lost to a judge's mistake.
            error = JudgeError(self.scrub(f'{type(error).__name__}: {error}'))
        question.error = error
        question.tries -= error.free
        if error.busy:
            self.pace.overloaded()
        if error.after is not None and error.after > PATIENCE:
            return self._stop(f'the endpoint asks to wait {error.after:.0f} s; {error}')
        given_up = not error.retry or question.tries > self.retries
        if given_up:
            tries = f' (asked {question.tries} times)' if question.tries > 1 else ''
            # An earlier draw, unreadable, is better than nothing.
            question.answer = question.best()[1] or Answer(FAILED, text=f'{error}{tries}')
        if given_up or error.unreachable and not self.arrived:
            self.failures += 1
            if self.failures >= max(5, 2 * self.pace.most):
                self._stop(f'{self.failures} failures in a row and no reply, the last: {error}')

    async def _once(self, question: _Question) -> None:
        # Another number for another draw: the same one would bring the same text back.
        started, sample = time.monotonic(), question.task.sample + ANEW * len(question.read)
        task = replace(question.task, sample=sample)
        reply = await self.judge.reply(task)
        # No await from here on: what has arrived is kept.
        self.pace.replied(time.monotonic() - started)
        self.asked.tokens += reply.tokens
        self.arrived, self.failures = True, 0
        if self.cache is not None:
            self.cache.put(self.judge, question.task, reply)
        self._take(question, [reply])

    def _over(self) -> bool:
        if self.max_calls is not None and self.asked.calls >= self.max_calls:
            self._stop(f'the budget of {self.max_calls} calls is used up')
        if time.monotonic() > self.began + self.seconds:
            self._stop(f'{self.seconds:g} s are over; what was answered is in the cache')
        return self.stop.is_set()

    def _stop(self, why: str) -> None:
        self.asked.stopped = self.asked.stopped or why
        self.stop.set()

    def _count(self, number: int) -> None:
        self.done += number
        if self.progress is not None and number:
            self.progress(self.done, len(self.tasks))
