"""The one runner: what is not done yet, in processes that end with this one."""

import ctypes
import gc
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mg_plugins.errors import UserError
from mg_plugins.experiments.plan import Run
from mg_plugins.files import read_json, write_json, write_text

#: With so many rows that failed in one command the rest is not tried.
MOST_FAILURES = 3
#: What all rows of a table were tested on.
TESTED = ('clusters', 'names', 'totals', 'clips', 'source')


class Plan:
    """Runs, in the order in which they are started, and what is known of them.

    Outcomes and reports are in a folder, in which one command works at a time (`files.locked`).
    Runs of ``finished``, the content of an earlier ``results.json``, are not run again.
    """

    def __init__(
        self, folder: Path, planned: Sequence[Run], finished: Mapping | None = None
    ) -> None:
        self.folder, self.planned = folder, list(planned)
        self._outcomes: dict[Path, dict] = {}
        tables = (finished or {}).get('tables', ())
        self.finished = {(t['name'], row['name']): (t, row) for t in tables for row in t['rows']}

    def runs(self) -> Iterable[Run]:
        """All runs that can be named now."""
        return self.planned

    @property
    def total(self) -> int:
        """Number of runs in the end."""
        return len(self.planned)

    def done(self, run: Run) -> bool:
        """Whether its outcome is there, or its counts are known."""
        return self.saved(run) or (self.folder / run.path / 'outcome.json').is_file()

    def saved(self, run: Run) -> bool:
        """Whether its counts are among the results saved earlier, which must be of this version."""
        _, row = self.finished.get((run.group, run.name), ({}, dict(seeds=())))
        if run.seed not in row['seeds']:
            return False
        if row['fingerprint'] != self.row_fingerprint(run.group, run.name):
            raise UserError(
                f'the saved results of {run.name!r} are of another version of its config, data or '
                'options: leave --finished out, or give that row another name'
            )
        return True

    def row_fingerprint(self, group: str, name: str) -> str:
        """Hash of all that a row follows from, its folds among it."""
        own = (run for run in self.planned if (run.group, run.name) == (group, name))
        folds = {run.fingerprint for run in own}
        return hashlib.sha256(''.join(sorted(folds)).encode()).hexdigest()

    def check(self, run: Run) -> None:
        """Refuse a folder that holds another version of a run."""
        folder = self.folder / run.path
        note = folder / 'run.json'
        if note.is_file() and read_json(note)['fingerprint'] != run.fingerprint:
            raise UserError(
                f'{folder} holds a run of another version of the config or the annotation file, or '
                'with other options: choose another --out, or remove that folder to run it again'
            )

    def outcome(self, run: Run) -> dict:
        """What a finished run left, if its folder holds this version of it."""
        if run.path not in self._outcomes:
            self.check(run)
            self._outcomes[run.path] = read_json(self.folder / run.path / 'outcome.json')
        return self._outcomes[run.path]

    def counts(self, folds: Sequence[Run]) -> dict:
        """What the finished runs of one row and seed, a run a fold, come to.

        ``clusters`` are 'subjects', or 'clips' where clips have none; ``names`` and ``totals`` of
        these; ``clips``, a hash of their ids; ``source``; ``sums`` of scores by measure and
        cluster; lists of the runs' ``minutes`` and ``step_ms``; how many ``collapsed``.
        """
        run = folds[0]
        if self.saved(run):
            table, row = self.finished[run.group, run.name]
            place = row['seeds'].index(run.seed)
            told = {key: [row.get(key)] for key in ('minutes', 'step_ms')}
            sums = {measure: values[place] for measure, values in row['sums'].items()}
            return {key: table[key] for key in TESTED} | told | dict(sums=sums, collapsed=None)
        outcomes = [self.outcome(run) for run in folds]
        clips = [clip for outcome in outcomes for clip in outcome['clips']]
        who = [subject for outcome in outcomes for subject in outcome['subjects']]
        names, of = np.unique(who if all(who) else clips, return_inverse=True)
        sums = {}
        for measure in sorted(set.intersection(*(set(o['scores']) for o in outcomes))):
            scores = np.concatenate([outcome['scores'][measure] for outcome in outcomes])
            sums[measure] = np.bincount(of, scores, len(names)).round(4).tolist()
        return dict(
            clusters='subjects' if all(who) else 'clips',
            names=names.tolist(),
            totals=np.bincount(of, minlength=len(names)).tolist(),
            clips=hashlib.sha256('\n'.join(sorted(clips)).encode()).hexdigest(),
            source=outcomes[0].get('source', ''),
            sums=sums,
            collapsed=sum(bool(outcome.get('collapsed')) for outcome in outcomes),
            **{key: [o.get(key) for o in outcomes] for key in ('minutes', 'step_ms')},
        )

    def failure(self, run: Run) -> str:
        """Why it failed when it was last run; empty where it did not."""
        note = self.folder / run.path / 'failed.txt'
        return note.read_text(encoding='utf-8').strip() if note.is_file() else ''

    def notes(self) -> list[str]:
        """What a report says beside its tables."""
        return []


def execute(plan: Plan, jobs: int = 1, budget: float | None = None) -> dict[Run, str]:
    """Run what is not done yet, ``jobs`` at a time, sharing the processors evenly.

    The processes end with this one, whatever ends it; a smaller ``OMP_NUM_THREADS`` than the even
    share is kept. What a run prints is in its folder's ``output.txt``. After ``budget`` minutes, or
    once runs of `MOST_FAILURES` rows failed, no more start. Gives the error of each run that
    failed, which the next command tries again. SIGINT, SIGTERM and SIGHUP are a KeyboardInterrupt.
    """
    for run in plan.runs():
        plan.check(run)
        plan.done(run)
    end = float('inf') if budget is None else time.monotonic() + 60 * budget
    share = max(1, len(os.sched_getaffinity(0)) // jobs)
    threads = min(share, int(os.environ.get('OMP_NUM_THREADS') or share))
    # Inherited by the processes: they import numpy and torch before any of our code runs.
    os.environ.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()
    running: dict[Future, Run] = {}
    failed: dict[Path, tuple[Run, str]] = {}
    with (
        Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar,
        _processes(jobs, threads) as pool,
    ):
        task = bar.add_task('runs', total=plan.total)
        while True:
            taken = {run.path for run in running.values()} | set(failed)
            left = (run for run in plan.runs() if run.path not in taken and not plan.done(run))
            while len(running) < jobs and time.monotonic() < end:
                rows = {(run.group, run.name) for run, _ in failed.values()}
                run = next(left, None) if len(rows) < MOST_FAILURES else None
                if run is None:
                    break
                plan.check(run)
                folder = plan.folder / run.path
                # While it is tried again it has not failed.
                (folder / 'failed.txt').unlink(missing_ok=True)
                write_json(folder / 'run.json', dict(name=run.name, fingerprint=run.fingerprint))
                running[pool.submit(_work, run, folder, aside=True)] = run
                bar.update(task, description=f'{run.name}, seed {run.seed}')
            done = sum(plan.done(run) for run in plan.runs())
            bar.update(task, completed=done, total=plan.total)
            if not running:
                break
            # Not without a limit: a signal to a stopped process may reach a thread other than this
            # one (Ctrl-Z, then `kill`), which then must wake up by itself to hear of it.
            for future in wait(running, timeout=2, return_when=FIRST_COMPLETED).done:
                run = running.pop(future)
                try:
                    error = future.result()
                except BrokenProcessPool as problem:
                    raise UserError(
                        f'a process ended by itself during {plan.folder / run.path} (is there '
                        f'enough memory for {jobs} jobs?); what it printed is in output.txt there'
                    ) from problem
                if error:
                    failed[run.path] = run, error
                    write_text(plan.folder / run.path / 'failed.txt', error + '\n')
                    bar.print(f'failed: {run.name}, seed {run.seed}', style='red')
    return dict(failed.values())


@contextmanager
def _processes(jobs: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes are ended at once where the block ends by an error or a signal."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context('spawn')
    pool = ProcessPoolExecutor(jobs, context, _start, (os.getpid(), threads))

    signals = (signal.SIGTERM, signal.SIGHUP)
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: signal.signal(n, signal.default_int_handler) for n in signals}
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(parent: int, threads: int) -> None:
    """Get a process ready: it ends with the one that it serves, and so does what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told as well, and ends this one
    end_with_parent()
    os.register_at_fork(after_in_child=end_with_parent)  # workers of data loading
    if os.getppid() != parent:
        os._exit(1)
    import torch

    torch.set_num_threads(threads)


def end_with_parent() -> None:
    """Have Linux kill this process when the one that started it ends, also by SIGKILL.

    Elsewhere a process ends with its run: it finds no one to tell.
    """
    if sys.platform == 'linux':
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _work(run: Run, folder: Path, aside: bool = False) -> str:
    """Do a run, what it prints in a file if ``aside``, and write its outcome; returns the error."""
    if aside:
        with (folder / 'output.txt').open('wb') as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    started = time.monotonic()
    try:
        outcome = run.task(run, folder)
        minutes = round((time.monotonic() - started) / 60, 2)
        write_json(folder / 'outcome.json', dict(outcome, minutes=minutes), indent=None)
    except Exception as error:
        traceback.print_exc()
        name = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
        return f'{name}{error}' or name
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        gc.collect()  # a runner and its hooks refer to each other
    return ''
