"""What is compared: eager PyTorch, ``torch.compile`` of it, and the package's own path."""

import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import torch

from .. import launches, mix, mix_reference, pool, pool_reference, pool_through
from ..setups import IMIGUE, NTU, OVER_FRAMES, OVER_JOINTS, SMALL, Shape, make_inputs

#: Modes of ``torch.compile``, both without CUDA graphs of their own.
COMPILERS = {'compile': 'default', 'max-autotune': 'max-autotune-no-cudagraphs'}
DIRECTIONS = ('forward', 'forward+backward')
# How far two right ways of computing may be apart; what is further is not worth a time.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
HALF, LOW, FULL = torch.bfloat16, torch.float16, torch.float32


def eager_pair(x, As, At, a, b):
    """Both operations as plain PyTorch."""
    return mix_reference(x, As, At, a, b), *pool_reference(x)


def own_pair(x, As, At, a, b):
    """Both operations by the package's choice."""
    x, xs, xt = pool_through(x)
    return mix(x, As, At, a, b), xs, xt


#: Plain form and own form of each piece of work; ``pool`` takes x alone.
WORKS: dict[str, tuple[Callable, Callable]] = {
    'pool': (pool_reference, lambda x: pool_through(x)[1:] if x.requires_grad else pool(x)),
    'mix': (mix_reference, mix),
    'pool+mix': (eager_pair, own_pair),
}


class Comparison(NamedTuple):
    """One piece of work at one shape, and which compilers take part beside eager and own."""

    work: str
    direction: str
    shape: Shape
    dtype: torch.dtype
    compilers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f'{self.work} {self.direction} {self.shape} {name_of(self.dtype)}'


def plan(cuda: bool) -> list[Comparison]:
    """Everything that is measured on a GPU or on a CPU; what the aims need most comes first."""
    if not cuda:
        what = product(DIRECTIONS, ('pool+mix', 'mix'), SMALL)
        return [Comparison(work, way, shape, FULL, ('compile',)) for way, work, shape in what]
    listed = [*NTU, *IMIGUE]
    growth = [s for s in (*OVER_FRAMES, *OVER_JOINTS) if s not in listed]
    most, one = tuple(COMPILERS), ('compile',)
    return [
        *(Comparison('pool+mix', d, NTU[0], HALF, most) for d in DIRECTIONS),
        *(Comparison('mix', 'forward', s, t) for t in (HALF, LOW, FULL) for s in listed),
        *(Comparison('mix', 'forward', s, t) for t in (HALF, FULL) for s in growth),
        *(Comparison('pool', 'forward', s, HALF) for s in listed),
        *(Comparison('pool+mix', 'forward', s, t, one) for t in (HALF, FULL) for s in listed),
        *(Comparison('pool+mix', DIRECTIONS[1], s, t) for t in (HALF, FULL) for s in listed),
    ]


def compare(what: Comparison, device: torch.device, rounds: int) -> dict[str, Any]:
    """Measure one comparison; on a CPU in so many turns, on CUDA ``do_bench`` decides.

    There are ``rows``, one a contender (see ``results``), and ``failed``, a sentence for each that
    did not run or came to another result than eager.
    """
    inputs = make_inputs(what.shape, what.dtype, device, 0)
    inputs = inputs[:1] if what.work == 'pool' else inputs
    eager, own = WORKS[what.work]
    with torch.no_grad():
        outputs = _tuple(eager(*inputs))
    generator = torch.Generator(device).manual_seed(1)
    pulls = [torch.randn(o.shape, generator=generator, device=device).to(o) for o in outputs]
    before = sum(launches().values())
    pairs = zip(_tuple(own(*inputs)), outputs, strict=True)
    error = max(float((f.double() - w.double()).norm() / w.double().norm()) for f, w in pairs)
    path = 'triton' if sum(launches().values()) > before else 'torch'
    failed = []
    if error > TOLERANCE[what.dtype]:
        failed.append(f'{what}: {path} differs from eager by {error:.1e} of its size')
    if device.type == 'cuda' and path == 'torch':
        failed.append(f'{what}: Triton did not take it, the figures are of PyTorch')
    calls = {'eager': _caller(eager, inputs, pulls, what.direction)}
    calls[path] = _caller(own, inputs, pulls, what.direction)
    for name in what.compilers:
        torch._dynamo.reset()
        compiled = torch.compile(eager, mode=COMPILERS[name], dynamic=False)
        call = _caller(compiled, inputs, pulls, what.direction)
        try:
            call()
            calls[name] = call
        except Exception as error:  # whatever stops a compiler must not stop the others
            failed.append(f'{what}: {name}: {type(error).__name__}: {str(error)[:160]}')
    seconds = measure(calls, device, rounds)
    n, c, t, v, _ = what.shape
    moved = sum(tensor.nbytes for tensor in (*inputs, *outputs))
    about = dict(work=what.work, direction=what.direction)
    about |= dict(shape=str(what.shape), dtype=name_of(what.dtype))
    about |= dict(bytes=moved if what.direction == 'forward' else 3 * moved)
    about |= dict(operations=0 if what.work == 'pool' else 2 * n * c * t * v * (t + v + 2))
    rows = [
        about | dict(implementation=name, seconds=seconds[name], peak=peak_bytes(call, device))
        for name, call in calls.items()
    ]
    return dict(rows=rows, failed=failed)


def _caller(function, inputs, pulls, direction) -> Callable[[], Any]:
    def forward():
        with torch.no_grad():
            return function(*inputs)

    def both():
        leaves = [t.detach().requires_grad_() for t in inputs]
        return torch.autograd.grad(_tuple(function(*leaves)), leaves, pulls)

    return forward if direction == 'forward' else both


def measure(calls: dict[str, Callable], device: torch.device, rounds: int) -> dict[str, float]:
    """Median seconds of each call, on CUDA by ``triton.testing.do_bench``.

    On a CPU the calls take turns and the clock is this process's CPU time, so that neighbours on a
    shared machine count as little as they can.
    """
    if device.type == 'cuda':
        from triton.testing import do_bench

        return {name: do_bench(call, return_mode='median') / 1e3 for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 3):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            if turn >= 3:
                times[name].append(time.process_time() - begin)
    return {name: statistics.median(found) for name, found in times.items()}


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int | None:
    """Memory that a call takes at its peak on top of what was there; None on a CPU."""
    if device.type != 'cuda':
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def rates(device: torch.device) -> dict[str, float]:
    """Bytes a second of a large copy (read and written) and operations a second of products.

    ``float32`` is a third of TF32 on CUDA: three products in TF32 make one in float32's accuracy.
    """
    cuda = device.type == 'cuda'
    source = torch.randn((2**28 if cuda else 2**25), device=device)
    target = torch.empty_like(source)
    seconds = measure({'': lambda: target.copy_(source)}, device, 5)['']
    found = {'copy': 2 * source.nbytes / seconds}
    size = 8192 if cuda else 512
    for dtype in (FULL, HALF, LOW) if cuda else (FULL,):
        one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        torch.set_float32_matmul_precision('high' if cuda else 'highest')
        try:
            seconds = measure({'': lambda one=one, other=other: one @ other}, device, 5)['']
        finally:
            torch.set_float32_matmul_precision('highest')
        found[name_of(dtype)] = 2 * size**3 / seconds / (3 if cuda and dtype == FULL else 1)
    return found


def name_of(dtype: torch.dtype) -> str:
    """``'float32'`` for ``torch.float32``."""
    return str(dtype).removeprefix('torch.')


def _tuple(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)
