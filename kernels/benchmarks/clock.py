"""Timing: turns of several contenders over several input sets, graphs, memory, and the ceilings."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

WARM_UPS = 3
# What the last level of cache may hold: 60 MB on an H200, and on most CPUs not more.
CACHE_BYTES = 64 * 2**20
# Clock cycles of a GPU, some 0.2 ms.
LEAD_IN = 400_000


def synchronize(device: torch.device) -> None:
    """Wait for everything that was started on the device."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


@dataclass
class Contender:
    """One way of computing something, over all input sets.

    Attributes:
        implementation: Name, as in the results.
        graphs: Whether it replays a CUDA graph.
        call: What is timed; takes what ``prepare`` returned and covers every input set.
        prepare: Runs before each call, outside the clock.
        sets: Number of input sets that one call covers.
        times: Seconds a set, one entry a turn.
        peak_bytes: Memory that one set needs on top of its inputs, None where it is not known.
        behind: Whether it is started behind other work of the device, so that the microseconds
            that the processor needs to start it do not count.
    """

    implementation: str
    graphs: bool
    call: Callable[[Any], Any]
    prepare: Callable[[], Any]
    sets: int
    times: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    behind: bool = False

    @property
    def median(self) -> float:
        """Median seconds a set."""
        return statistics.median(self.times)


class Stopwatch:
    """Takes the time of calls, on CUDA by events; its reading moves by that time alone.

    pytest-benchmark reads ``now`` before and after a round, and so records device time.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.reading = device, 0.0

    def now(self) -> float:
        """Seconds of all turns so far."""
        return self.reading

    def turn(self, contender: Contender) -> float:
        """Let a contender run once; returns its seconds a set and keeps them."""
        ready = contender.prepare()
        synchronize(self.device)
        if self.device.type == 'cuda':
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            if contender.behind:
                # The device is kept busy until everything is queued.
                torch.cuda._sleep(LEAD_IN)
            start.record()
            result = contender.call(ready)
            end.record()
            end.synchronize()
            seconds = start.elapsed_time(end) / 1000
        else:
            begin = time.perf_counter()
            result = contender.call(ready)
            seconds = time.perf_counter() - begin
        del result, ready
        contender.times.append(seconds / contender.sets)
        self.reading += contender.times[-1]
        return contender.times[-1]


def number_of_sets(bytes_each: int) -> int:
    """Input sets that together are four times the cache, between 2 and 8."""
    return min(8, max(2, -(-4 * CACHE_BYTES // max(bytes_each, 1))))


def rounds_for(contenders: list[Contender], seconds: float) -> int:
    """Rounds that fit into so many seconds, between 5 and 100; each contender has run once."""
    one = sum(c.times[-1] * c.sets for c in contenders)
    return min(100, max(5, round(seconds / max(one, 1e-6))))


def peak_bytes(device: torch.device, call: Callable[[], Any]) -> int | None:
    """Memory that a call takes at its peak on top of what was there; None on a CPU."""
    if device.type != 'cuda':
        return None
    call()
    gc.collect()
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def graphed(
    implementation: str,
    prepare: Callable[[], Any],
    call: Callable[[Any], Any],
    sets: int,
    prepared: bool,
) -> Contender:
    """The same work as a replay of CUDA graphs.

    Args:
        implementation: Name.
        prepare: As in ``Contender``; captured into a graph of its own that runs outside the clock.
        call: As in ``Contender``; captured into the graph that is timed.
        sets: Number of input sets.
        prepared: Whether ``prepare`` does any work on the device.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            result = call(prepare())
            del result
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    first, timed = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    pool = torch.cuda.graph_pool_handle()
    if prepared:
        with torch.cuda.graph(first, pool=pool, stream=side):
            ready = prepare()
    else:
        ready = prepare()
    with torch.cuda.graph(timed, pool=pool, stream=side):
        result = call(ready)
    # The outputs lie in the graphs' memory and are written by every replay.
    keep = (ready, result)

    def replay(_):
        timed.replay()
        return keep and None

    before = first.replay if prepared else nothing
    return Contender(implementation, True, replay, before, sets, behind=True)


def nothing() -> None:
    return None


def _least_seconds(device: torch.device, call: Callable[[], Any], repeat: int) -> float:
    contender = Contender('', False, lambda _: call(), nothing, 1, behind=device.type == 'cuda')
    watch = Stopwatch(device)
    for _ in range(repeat + WARM_UPS):
        watch.turn(contender)
    return min(contender.times[WARM_UPS:])


def copy_rate(device: torch.device) -> float:
    """Bytes a second, read and written ones, of the best of 20 copies larger than any cache."""
    numbers = (2**30 if device.type == 'cuda' else 2**27) // 4
    source = torch.randn(numbers, device=device)
    target = torch.empty_like(source)
    seconds = _least_seconds(device, lambda: target.copy_(source), 20)
    return 8 * numbers / seconds


def product_rates(device: torch.device) -> dict[str, float]:
    """Operations a second of the best of 10 large products of random matrices, by type.

    ``tf32`` is only measured on CUDA. ``float32`` is the faster of plain float32 and a third of
    tf32: three products in tf32 make one in float32's accuracy.
    """
    cuda = device.type == 'cuda'
    size = 8192 if cuda else 1024

    def rate(dtype: torch.dtype, tf32: bool = False) -> float:
        one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            return 2 * size**3 / _least_seconds(device, lambda: one @ other, 10)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    rates = {'float32': rate(torch.float32)}
    if cuda:
        rates['tf32'] = rate(torch.float32, tf32=True)
        rates['plain float32'] = rates['float32']
        rates['float32'] = max(rates['float32'], rates['tf32'] / 3)
        rates['bfloat16'] = rate(torch.bfloat16)
        rates['float16'] = rate(torch.float16)
    return rates
