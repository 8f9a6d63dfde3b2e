"""One run of the benchmarks: its device, budget and record, and the turns of the contenders."""

from __future__ import annotations

import gc
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from mg_plugins.kernels.setups import Shape
from mg_plugins.openmmlab.memory import keep_memory

from . import bars, clock, results, roofline
from .cases import COMPILERS, Case

OUT, BUDGET = 'MG_BENCHMARKS_OUT', 'MG_BENCHMARKS_BUDGET'
#: Seconds for the whole run, where the environment does not say.
WHOLE = {'cuda': 290.0, 'cpu': 60.0}
#: Share of the whole for torch.compile, and for its max-autotune within that.
SHARES = {'compile': 0.5, 'max-autotune': 0.3}
#: Share of the whole that must be left when torch.compile is called.
ENOUGH = 0.15
#: Seconds of timed turns for each contender of a comparison.
TURNS = {'cuda': 0.05, 'cpu': 0.3}
SEED = 20240520


class Session:
    """Times contenders turn by turn and keeps what they took.

    Args:
        watch: The clock, of the device that is measured.
        record: Whether a record is kept; without it everything only runs once.
    """

    def __init__(self, watch: clock.Stopwatch, record: bool) -> None:
        self.watch, self.device, self.recording = watch, watch.device, record
        keep_memory()  # as tools/train.py does: page faults are most of a CPU's noise
        device = watch.device
        self.began = time.monotonic()
        self.budget = float(os.environ.get(BUDGET) or WHOLE[device.type])
        self.out = Path(os.environ.get(OUT) or 'work_dirs/kernels')
        self.spent = dict.fromkeys(COMPILERS, 0.0)
        self.case: Case | None = None
        self.record = results.empty(device.type)
        if record:
            copy = clock.copy_rate(device)
            self.record['ceilings'] = dict(copy=copy, products=clock.product_rates(device))

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - (time.monotonic() - self.began)

    def get(
        self, work: str, shape: Shape, dtype: torch.dtype, compiled: dict[str, tuple[str, ...]]
    ) -> Case:
        """A case, compiled as far as the budget goes; the last one is kept for the next call.

        Args:
            work: One of ``roofline.WORKS``.
            shape: Sizes.
            dtype: Type of the feature map.
            compiled: Directions that ``compile`` and ``max-autotune`` are wanted for.
        """
        case = self.case
        if case and (case.work, case.shape, case.dtype) == (work, shape, dtype):
            return case
        if case and case.compiled:
            torch._dynamo.reset()
        self.case = case = None
        gc.collect()
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()
        self.case = case = Case(work, shape, dtype, self.device, SEED)
        what = f'{work}, {shape}, {str(dtype).removeprefix("torch.")}'
        for name, directions in compiled.items():
            allowed = SHARES[name] * self.budget
            used = self.spent[name] if name == 'max-autotune' else sum(self.spent.values())
            if used >= allowed or self.left() < ENOUGH * self.budget:
                self.leave_out(f'{name}: {what}', 'no time left for torch.compile')
                continue
            self.spent[name] += case.compile(name, directions)
        self.record['failed'] += [f'{name}: {what}: {why}' for name, why in case.failed.items()]
        return case

    def leave_out(self, what: str, why: str) -> None:
        """Note what is not measured and why."""
        self.record['left_out'].append(f'{what} ({why})')

    def compare(self, benchmark: Any, case: Case, direction: str) -> list[dict]:
        """Let everyone who can do a case's direction take turns; adds and returns their rows."""
        before = dict(case.failed)
        contenders = case.contenders(direction)
        self.record['failed'] += [
            f'{name}: {case.work} {direction}, {case.shape}, {why}'
            for name, why in case.failed.items()
            if name not in before
        ]
        about = dict(
            work=case.work,
            direction=direction,
            shape=case.shape._asdict(),
            dtype=str(case.dtype).removeprefix('torch.'),
        )
        return self.take_turns(benchmark, contenders, case.own, about, case.cost(direction))

    def take_turns(
        self,
        benchmark: Any,
        contenders: list[clock.Contender],
        own: str,
        about: dict[str, Any],
        cost: roofline.Cost | None,
    ) -> list[dict]:
        """Time contenders in turn; pytest-benchmark keeps the figures of the package's own.

        Args:
            benchmark: pytest-benchmark's fixture, with ``watch.now`` for its timer.
            contenders: All of them, warmed up.
            own: Name of the package's own path; with a graph if there is one with a graph.
            about: The part of the rows that all have in common.
            cost: What the work must do at least, if that is counted.
        """
        main = [c for c in contenders if c.implementation == own][-1]
        others = [c for c in contenders if c is not main]
        if not self.recording:
            benchmark.pedantic(lambda: main.call(main.prepare()))
            return []
        for contender in contenders:
            self.watch.turn(contender)
        seconds = TURNS[self.device.type] * len(contenders)
        rounds = clock.rounds_for(contenders, seconds)
        for contender in contenders:
            contender.times.clear()

        def turns_of_the_others() -> None:
            for contender in others:
                self.watch.turn(contender)

        benchmark.pedantic(lambda: self.watch.turn(main), setup=turns_of_the_others, rounds=rounds)
        rows = [
            dict(
                **about,
                implementation=c.implementation,
                graphs=c.graphs,
                seconds=c.median,
                spread=_spread(c.times),
                turns=len(c.times),
                bytes=cost and cost.bytes,
                operations=cost and cost.operations,
                peak_bytes=c.peak_bytes,
            )
            for c in contenders
        ]
        self.record['rows'] += rows
        for row in rows:
            side = f'{row["implementation"]}{", graph" if row["graphs"] else ""}'
            benchmark.extra_info[side] = row['seconds']
        return rows

    def save(self) -> Path:
        """Write the record as it is."""
        path = self.out / f'{results.name(self.record)}.json'
        results.write(path, results.dumps(self.record))
        return path

    def finish(self, whole: bool) -> str:
        """Write the record if it is to be kept; returns the table and the bars as text.

        Args:
            whole: Whether every benchmark was run or left out for time.
        """
        self.case = None
        self.record['complete'] = whole
        text = bars.report(self.record)
        if not whole and not os.environ.get(OUT):
            return text + '\nNot saved: only a part of the benchmarks ran, or one failed.\n'
        return text + f'\nSaved: {self.save()}\n'


def _spread(times: list[float]) -> float:
    """Distance of the quartiles over the median."""
    low, middle, high = statistics.quantiles(times, n=4)
    return (high - low) / middle
