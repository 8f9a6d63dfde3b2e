"""Asking many questions at a time, without losing, repeating or hammering.

Every question ends as one `Answer`, whatever happens to it. A reply is in the cache before anything
is done with it, so that no question is asked again after its answer has arrived, be it in another
process with the same cache.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from .cache import Cache, CacheError, task_key
from .judges import Unreachable
from .parse import parse_reply
from .tasks import (
    FAILED,
    NOT_ASKED,
    UNPARSABLE,
    Answer,
    Judge,
    JudgeError,
    Reply,
    Task,
)

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds of back-off: the first limit and the last
PATIENCE = 300.0  # an endpoint that asks to wait longer ends the run; a later one goes on from here
ANEW = 1_000_000  # added to a task's sample for each time that its reply could not be read
CLOSING = 10.0  # seconds for connections to close


@dataclass
class Budget:
    """Limits over one call of `ask_all`, or over all that are given the same object.

    Attributes:
        calls: Requests that may be made, retries included; None for no limit.
        tokens: Tokens after which nothing new is asked (what is under way is awaited, so that a
            few answers more may come); None for no limit.
        used_calls: Requests made.
        used_tokens: Tokens of all replies.
    """

    calls: int | None = None
    tokens: int | None = None
    used_calls: int = 0
    used_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ('calls', 'tokens'):
            limit = getattr(self, name)
            if limit is not None and limit < 0:
                raise ValueError(f'budget of {limit} {name}: a number of at least 0 was expected')

    def over(self) -> str:
        """Which limit is reached, or an empty text."""
        if self.calls is not None and self.used_calls >= self.calls:
            return f'the budget of {self.calls} calls is used up'
        if self.tokens is not None and self.used_tokens >= self.tokens:
            return f'the budget of {self.tokens} tokens is used up ({self.used_tokens} used)'
        return ''


@dataclass
class Asked:
    """What became of the tasks, in their order.

    Attributes:
        answers: One for each task.
        replies: What the answers were read from; None where nothing came.
        calls: Requests made, retries included.
        tokens: Tokens of the replies to them.
        cached: Tasks answered from the cache.
        stopped: Why it ended early, or empty.
    """

    answers: list[Answer]
    replies: list[Reply | None]
    calls: int = 0
    tokens: int = 0
    cached: int = 0
    stopped: str = ''


def ask_all(
    judge: Judge,
    tasks: Sequence[Task],
    *,
    cache: Cache | None = None,
    concurrency: int = 8,
    timeout: float = 60.0,
    retries: int = 6,
    reask: int = 1,
    budget: Budget | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Asked:
    """Ask all tasks and wait for their answers; the judge is closed at the end.

    It works inside a running event loop too: the asking has a thread of its own. Ctrl-C stops it;
    what has arrived is in the cache.

    Args:
        judge: Who answers. One with an attribute ``concurrency`` is asked no more at a time. One
            with a method ``scrub(text)`` takes its secrets out of all texts of answers.
        tasks: Questions; equal ones (same messages, same sample) are asked once.
        cache: Where replies are looked for and kept.
        concurrency: Requests under way at a time.
        timeout: Seconds for one request.
        retries: How often a request is made anew after an error that may pass. Before, it waits:
            a random time below a limit that doubles from 0.5 to 30 s, and at least the time that
            the endpoint asked for.
        reask: How often a question is asked anew, ever, because its reply could not be read.
        budget: Limits on requests and tokens.
        progress: Called with the number of tasks done and of all, from the asking thread.

    Raises:
        CacheError: The cache cannot be written.
        ValueError: A setting out of its range.
    """
    if concurrency < 1 or not timeout > 0 or retries < 0 or reask < 0:
        raise ValueError(
            f'concurrency {concurrency}, timeout {timeout}, retries {retries}, reask {reask}: '
            'at least 1, above 0, at least 0 and at least 0 were expected'
        )
    concurrency = min(concurrency, getattr(judge, 'concurrency', concurrency))
    run = _Run(
        judge,
        list(tasks),
        cache,
        concurrency,
        timeout,
        retries,
        reask,
        budget or Budget(),
        progress,
    )
    done: Future[Asked] = Future()

    def work() -> None:
        try:
            done.set_result(asyncio.run(run.main()))
        except BaseException as error:  # noqa: BLE001  it belongs to the waiting thread
            done.set_exception(error)

    thread = threading.Thread(target=work, name='ask', daemon=True)
    thread.start()
    try:
        return done.result()
    except KeyboardInterrupt:
        run.interrupt()
        thread.join()
        raise


@dataclass
class _Question:
    """Tasks that are one question, and how far it has come."""

    task: Task
    places: list[int] = field(default_factory=list)
    read: list[tuple[Reply, Answer]] = field(default_factory=list)  # all replies
    answer: Answer | None = None

    def best(self) -> tuple[Reply | None, Answer | None]:
        """The first readable reply with what it says, or the last one."""
        for reply, answer in self.read:
            if answer.status != UNPARSABLE:
                return reply, answer
        return self.read[-1] if self.read else (None, None)


@dataclass
class _Run:
    """One call of `ask_all`."""

    judge: Judge
    tasks: list[Task]
    cache: Cache | None
    concurrency: int
    timeout: float
    retries: int
    reask: int
    budget: Budget
    progress: Callable[[int, int], None] | None
    stopped: str = ''
    arrived: bool = False  # any reply at all
    # Since the last reply: questions given up, and, before any, connections refused.
    failures: int = 0
    done: int = 0
    cached: int = 0
    shared: bool = False  # another process asks the same questions
    jitter: random.Random = field(default_factory=lambda: random.Random(0))

    async def main(self) -> Asked:
        self.loop, self.current = asyncio.get_running_loop(), asyncio.current_task()
        self.stop = asyncio.Event()
        used = self.budget.used_calls, self.budget.used_tokens
        questions = self._questions()
        self.cached = sum(len(q.places) for q in questions if q.answer is not None)
        self._count(self.cached)
        self.waiting = deque(q for q in questions if q.answer is None)
        workers = [
            asyncio.ensure_future(self._work())
            for _ in range(min(self.concurrency, len(questions)))
        ]
        try:
            await asyncio.gather(*workers)
        except BaseException:
            # `wait_for` may swallow a cancellation where a reply has just come: start nothing new.
            self._stop('interrupted')
            raise
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            try:
                await asyncio.wait_for(self.judge.close(), CLOSING)
            except Exception:  # noqa: BLE001  the answers are there; nothing depends on this
                pass
        asked = Asked(
            [Answer(NOT_ASKED, text=self.stopped)] * len(self.tasks),
            [None] * len(self.tasks),
            self.budget.used_calls - used[0],
            self.budget.used_tokens - used[1],
            self.cached,
            self.stopped,
        )
        for question in questions:
            for place in question.places:
                asked.answers[place] = question.answer or asked.answers[place]
                asked.replies[place] = question.best()[0]
        return asked

    def interrupt(self) -> None:
        """Cancel everything; called from another thread."""
        if hasattr(self, 'loop'):
            try:
                self.loop.call_soon_threadsafe(self.current.cancel)
            except RuntimeError:
                pass  # it has just ended by itself

    def _questions(self) -> list[_Question]:
        """Equal tasks made one, with what the cache has about them."""
        questions: dict[str, _Question] = {}
        for place, task in enumerate(self.tasks):
            key = task_key(self.judge, task)
            if key not in questions:
                questions[key] = _Question(task)
                self._look(questions[key])
            questions[key].places.append(place)
        return list(questions.values())

    def _look(self, question: _Question) -> None:
        if self.cache is not None:
            self._take(question, self.cache.replies(self.judge, question.task))

    def _take(self, question: _Question, replies: list[Reply]) -> None:
        """Read what is new among all replies; one that cannot be read counts where no more come."""
        for reply in replies[len(question.read) :]:
            answer = parse_reply(reply, question.task)
            question.read.append((reply, replace(answer, text=self._scrub(answer.text))))
        answer = question.best()[1]
        if answer and (answer.status != UNPARSABLE or len(question.read) > self.reask):
            question.answer = answer

    def _scrub(self, text: str) -> str:
        return getattr(self.judge, 'scrub', str)(text)

    async def _work(self) -> None:
        while self.waiting:
            question = self.waiting.popleft()
            while question.answer is None and not self._over():
                await self._ask(question)
            if question.answer is None:
                question.answer = question.best()[1]  # unparsable, if any
            if question.answer is not None:
                self._count(len(question.places))
            if self.stopped:
                return

    async def _ask(self, question: _Question) -> None:
        """Get one reply, with its retries, or give the question up."""
        error = None
        for attempt in range(self.retries + 1):
            if error is not None:
                await self._pause(attempt - 1, error.after)
            if self._over():
                return  # not asked, as far as its outcome goes
            self._look(question)
            if question.answer is not None:  # another process has asked meanwhile
                self.cached += len(question.places)
                return
            drawn = len(question.read)
            self.budget.used_calls += 1
            try:
                await asyncio.wait_for(self._once(question), self.timeout)
                return
            except CacheError:
                raise
            except (asyncio.TimeoutError, TimeoutError):
                error = JudgeError(f'no reply within {self.timeout:g} s', retry=True)
            except JudgeError as problem:
                error = problem
            except Exception as problem:  # noqa: BLE001  no question is lost to a judge's mistake
                error = JudgeError(self._scrub(f'{type(problem).__name__}: {problem}'))
            if len(question.read) > drawn:
                return  # it came in the very moment in which the time was over
            if isinstance(error, Unreachable) and not self.arrived:
                self._failed(str(error))
            if error.after is not None and error.after > PATIENCE:
                self._stop(f'the endpoint asks to wait {error.after:.0f} s; {error}')
            if not error.retry:
                break
        tries = f' (asked {attempt + 1} times)' if attempt else ''
        # An earlier draw, unreadable, is better than nothing.
        question.answer = question.best()[1] or Answer(FAILED, text=f'{error}{tries}')
        if not isinstance(error, Unreachable) or self.arrived:
            self._failed(str(error))

    async def _once(self, question: _Question) -> None:
        # Another number for another draw: the same one would bring the same text back.
        drawn = len(question.read)
        task = replace(question.task, sample=question.task.sample + ANEW * drawn)
        reply = await self.judge.reply(task)
        # No await from here on: what has arrived is kept.
        self.budget.used_tokens += reply.tokens
        self.arrived, self.failures = True, 0
        if self.cache is None:
            self._take(question, [*(kept for kept, _ in question.read), reply])
            return
        self.cache.put(self.judge, question.task, reply)
        self._look(question)
        if len(question.read) > drawn + 1 and not self.shared:
            # Another process is at the same questions in the same order: leave its path.
            self.shared = True
            random.SystemRandom().shuffle(self.waiting)

    async def _pause(self, attempt: int, after: float | None) -> None:
        limit = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)
        wait = max(after or 0.0, self.jitter.uniform(0, limit))
        try:
            await asyncio.wait_for(self.stop.wait(), wait)
        except (asyncio.TimeoutError, TimeoutError):
            pass

    def _failed(self, message: str) -> None:
        self.failures += 1
        limit = max(5, 2 * self.concurrency)
        if self.failures >= limit:
            self._stop(f'{self.failures} failures in a row and no reply, the last: {message}')

    def _over(self) -> bool:
        if not self.stopped and self.budget.over():
            self._stop(self.budget.over())
        return bool(self.stopped)

    def _stop(self, why: str) -> None:
        self.stopped = self.stopped or why
        self.stop.set()

    def _count(self, number: int) -> None:
        self.done += number
        if self.progress is not None and number:
            self.progress(self.done, len(self.tasks))
