"""What is compared: eager PyTorch, ``torch.compile`` and the package's own path, on one input.

``eager`` is the plain form of the formulas (``pool_reference``, ``mix_reference``, and the fusion
module over them), ``compile`` and ``max-autotune`` are ``torch.compile`` of that, and ``triton``
or ``torch`` is what the package's functions choose by themselves on this device.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mg_plugins import kernels
from mg_plugins.fusion.module import STBalancedFusion
from mg_plugins.kernels.setups import Shape, make_inputs

from . import clock, roofline

# Both without inductor's own CUDA graphs: graphs are captured here, in the same way for everyone.
COMPILERS = {'compile': 'default', 'max-autotune': 'max-autotune-no-cudagraphs'}

# How far two right ways of computing may be apart; what is further is not worth a time.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}


def _rebound(function: Callable, **names: Any) -> Callable:
    """The same code with other meanings for some of its global names."""
    return types.FunctionType(function.__code__, {**function.__globals__, **names})


class EagerFusion(STBalancedFusion):
    """The fusion over the plain PyTorch form of ``pool`` and ``mix``, whatever the device."""

    forward = _rebound(
        STBalancedFusion.forward,
        mix=kernels.mix_reference,
        pool_through=lambda x: (x, *kernels.pool_reference(x)),
    )


def eager_pair(x, As, At, a, b):
    """Both operations as plain PyTorch."""
    xs, xt = kernels.pool_reference(x)
    return kernels.mix_reference(x, As, At, a, b), xs, xt


def own_pair(x, As, At, a, b):
    """Both operations by the package's choice."""
    x, xs, xt = kernels.pool_through(x)
    return kernels.mix(x, As, At, a, b), xs, xt


def own_path(device: torch.device, run: Callable[[], Any]) -> str:
    """Name of the path that the package's functions take: ``triton`` if that launched anything."""
    if not hasattr(kernels, 'launches'):
        run()
        return 'torch'
    before = sum(kernels.launches().values())
    run()
    clock.synchronize(device)
    return 'triton' if sum(kernels.launches().values()) > before else 'torch'


class Case:
    """One piece of work on one shape and type, with every implementation of it.

    Args:
        work: One of ``roofline.WORKS``.
        shape: Sizes of the feature map.
        dtype: Type of the feature map (and of the module, for ``fusion``).
        device: Where it runs.
        seed: Of inputs and parameters.
    """

    def __init__(
        self, work: str, shape: Shape, dtype: torch.dtype, device: torch.device, seed: int
    ) -> None:
        self.work, self.shape, self.dtype, self.device = work, shape, dtype, device
        n, c, t, v, heads = shape
        count = clock.number_of_sets(n * c * t * v * dtype.itemsize)
        inputs = [make_inputs(shape, dtype, device, seed + i) for i in range(count)]
        if work == 'fusion':
            eager, own = self._modules(seed)
        else:
            eager, own = {
                'pool': (kernels.pool_reference, kernels.pool),
                'mix': (kernels.mix_reference, kernels.mix),
                'pool+mix': (eager_pair, own_pair),
            }[work]
        if work in ('pool', 'fusion'):
            inputs = [(x,) for x, *_ in inputs]
        self.inputs = inputs
        with torch.no_grad():
            outputs = _tuple(eager(*inputs[0]))
            path = own_path(device, lambda: own(*inputs[0]))
            error = _error(_tuple(own(*inputs[0])), outputs)
        generator = torch.Generator(device).manual_seed(seed)
        self.pulls = [
            tuple(torch.randn(o.shape, generator=generator, device=device).to(o) for o in outputs)
            for _ in inputs
        ]
        self.functions: dict[str, Callable] = {'eager': eager, path: own}
        self.own = path
        self.compiled: dict[str, Sequence[str]] = {}
        self.failed: dict[str, str] = {}
        if not error < TOLERANCE[dtype]:
            self.failed[path] = f'differs from eager by {error:.1e} of its size'
        if device.type == 'cuda' and path != 'triton':
            self.failed[path] = 'Triton did not take it, the figures are of PyTorch'

    def _modules(self, seed: int) -> tuple[Callable, Callable]:
        eager = EagerFusion(self.shape.c, self.shape.v, heads=self.shape.heads)
        own = STBalancedFusion(self.shape.c, self.shape.v, heads=self.shape.heads)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in eager.parameters():  # the gammas start at 0, where nothing is mixed
                p.add_(torch.randn(p.shape, generator=generator).mul_(0.1))
        own.load_state_dict(eager.state_dict())
        for module in (eager, own):
            module.to(self.device, self.dtype)
        return eager, own

    def compile(self, name: str, directions: Sequence[str]) -> float:
        """Add ``compile`` or ``max-autotune`` for some directions; returns the seconds it took.

        Where it fails (no C++ compiler, say), the reason is kept in ``failed``.
        """
        begin = time.perf_counter()
        function = torch.compile(self.functions['eager'], mode=COMPILERS[name], dynamic=False)
        self.functions[name], self.compiled[name] = function, directions
        try:
            for direction in directions:
                prepare, call = self._steps(name, direction)
                call(prepare())
            clock.synchronize(self.device)
        except Exception as error:  # whatever stops a compiler must not stop the others
            del self.functions[name]
            self.failed[name] = _one_line(error)
        return time.perf_counter() - begin

    def contenders(self, direction: str) -> list[clock.Contender]:
        """Everyone who can do this, warmed up, on CUDA also as a replayed graph.

        A graph that cannot be captured is noted in ``failed`` under ``NAME, graph``.
        """
        all_of_them = []
        for name in self.functions:
            if direction not in self.compiled.get(name, roofline.DIRECTIONS):
                continue
            prepare, call = self._steps(name, direction)
            plain = clock.Contender(name, False, call, prepare, len(self.inputs))
            prepare_one, call_one = self._steps(name, direction, sets=1)
            plain.peak_bytes = clock.peak_bytes(
                self.device, lambda p=prepare_one, c=call_one: c(p())
            )
            for _ in range(clock.WARM_UPS):
                call(prepare())
            all_of_them.append(plain)
            if self.device.type != 'cuda':
                continue
            try:
                twin = clock.graphed(name, prepare, call, plain.sets, direction == 'backward')
                twin.peak_bytes = plain.peak_bytes
                all_of_them.append(twin)
            except Exception as error:
                self.failed[f'{name}, graph'] = _one_line(error)
        return all_of_them

    def _steps(
        self, name: str, direction: str, sets: int | None = None
    ) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """What runs outside the clock and what inside, over all sets or the first few."""
        function, inputs, pulls = self.functions[name], self.inputs[:sets], self.pulls[:sets]
        # What is compiled shares the parameters of what it was compiled from.
        module = self.functions[name if name == self.own else 'eager']
        parameters = tuple(module.parameters()) if self.work == 'fusion' else ()

        def forward(_):
            with torch.no_grad():
                return [function(*args) for args in inputs]

        def graph_of_all():
            with torch.enable_grad():
                ready = []
                for args in inputs:
                    leaves = [t.detach().requires_grad_() for t in args]
                    ready.append((_tuple(function(*leaves)), (*leaves, *parameters)))
                return ready

        def backward(ready):
            return [
                torch.autograd.grad(outputs, leaves, pull, allow_unused=True)
                for (outputs, leaves), pull in zip(ready, pulls, strict=True)
            ]

        def both(_):
            results = []
            with torch.enable_grad():
                for args, pull in zip(inputs, pulls, strict=True):
                    leaves = [t.detach().requires_grad_() for t in args]
                    outputs = _tuple(function(*leaves))
                    wanted = (*leaves, *parameters)
                    results.append(torch.autograd.grad(outputs, wanted, pull, allow_unused=True))
            return results

        return {
            'forward': (clock.nothing, forward),
            'backward': (graph_of_all, backward),
            'forward+backward': (clock.nothing, both),
        }[direction]

    def cost(self, direction: str) -> roofline.Cost:
        """What this work must do at least, for one input set."""
        return roofline.cost(self.work, direction, self.shape, dtype_name(self.dtype))


def _error(found: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...]) -> float:
    """Largest distance of an output, over the size of what it should be."""
    return max(
        ((f.double() - w.double()).norm() / w.double().norm()).item()
        for f, w in zip(found, wanted, strict=True)
    )


def dtype_name(dtype: torch.dtype) -> str:
    """``'float32'`` for ``torch.float32``."""
    return str(dtype).removeprefix('torch.')


def _tuple(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {lines[0] if lines else ""}'[:200]
