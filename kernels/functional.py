"""The seam between the fusion module and whatever computes it: ``pool`` and ``mix``.

The module computes the graphs and the balance from the pools; only these two functions touch the
whole feature map. CUDA tensors that the Triton kernels take go there, everything else to PyTorch;
``MG_KERNELS`` (``triton``, ``torch`` or ``auto``) or an argument decides otherwise.
"""

import os
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import library  # noqa: F401  (registers the operators)
from .cpu import MixOnCPU
from .reference import mix_reference, pool_reference, spread
from .signatures import INTERPRETER, TYPES, interpreted

BACKENDS = 'auto', 'triton', 'torch'
#: The largest feature maps that the kernels were written and tested for.
MOST_FRAMES, MOST_JOINTS = 1024, 64

_HAS_TRITON = find_spec('triton') is not None


def supported(x: Tensor, heads: int = 1) -> str | None:
    """Why the Triton kernels do not take a feature map x (N, C, T, V); ``None`` if they do."""
    if not _HAS_TRITON:
        return 'triton is not installed: pip install "mg-plugins[triton]"'
    if not (x.device.type == 'cuda' or x.device.type == 'cpu' and interpreted()):
        return f'x is on {x.device}; {INTERPRETER}'
    if x.dtype not in TYPES:
        return f'x is {x.dtype}, which is none of {", ".join(map(str, TYPES))}'
    n, c, t, v = x.shape
    if not (1 <= t <= MOST_FRAMES and 1 <= v <= MOST_JOINTS):
        most = f'1 to {MOST_FRAMES} frames and 1 to {MOST_JOINTS} joints'
        return f'x {tuple(x.shape)} has {t} frames and {v} joints, not {most}'
    if c < 1 or c % heads:
        return f'{heads} heads do not divide the {c} channels of x {tuple(x.shape)}'
    # The compiler traces shapes and types only; the operator itself falls back on an old GPU.
    if not torch.compiler.is_compiling() and x.device.type == 'cuda' and not torch.version.hip:
        major, minor = torch.cuda.get_device_capability(x.device)
        if major < 8:
            return f'{x.device} has compute capability {major}.{minor}, the kernels need 8.0'
    return None


def _chosen(x: Tensor, heads: int, backend: str | None) -> tuple[bool, bool]:
    """Whether the Triton kernels compute x, and whether nothing else may."""
    if backend in (None, 'auto'):
        backend = os.environ.get('MG_KERNELS', 'auto')
    if backend not in BACKENDS:
        known = ', '.join(BACKENDS)
        raise ValueError(f'backend (or MG_KERNELS) must be one of {known}, got {backend!r}')
    if backend == 'torch' or backend == 'auto' and (x.device.type != 'cuda' or interpreted()):
        return False, False
    if _transformed() or torch.compiler.is_exporting():
        reason = 'torch.func, jit.trace and torch.export see plain operators of PyTorch alone'
    else:
        reason = supported(x, heads)
    if backend == 'triton' and reason:
        raise ValueError(f'the Triton kernels were asked for, but {reason}')
    return reason is None, backend == 'triton'


def _transformed() -> bool:
    return torch.jit.is_tracing() or torch._C._are_functorch_transforms_active()


def pool(x: Tensor, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """Mean over frames (N, C, V) and mean over joints (N, C, T) of a feature map x (N, C, T, V).

    Where x holds NaN or inf, Triton may spread it over more means of the same frames and a few
    channels than PyTorch does. What cannot be taken is a ValueError.

    Args:
        backend: ``'triton'``, ``'torch'``, or ``'auto'``: what ``MG_KERNELS`` says, and by itself
            Triton for CUDA tensors in supported shapes, PyTorch for everything else and within
            transforms of ``torch.func``, ``torch.jit.trace`` and ``torch.export``.
    """
    if x.dim() != 4:
        raise ValueError(f'pool expects a feature map (N, C, T, V), got {tuple(x.shape)}')
    if not x.is_floating_point():
        raise ValueError(f'pool expects floating-point numbers, got x of type {x.dtype}')
    triton, strict = _chosen(x, 1, backend)
    if triton:
        return torch.ops.mg_plugins.pool(x, strict)
    return pool_reference(x)


def pool_through(x: Tensor, backend: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """x itself and both of its means: :func:`pool` for a map that is used further.

    Take all three from here, and their gradients are added in one pass over the map. Taken from x
    and from ``pool(x)``, autograd writes the pools' share as a map of its own and then adds two.
    """
    if _transformed() or torch.compiler.is_compiling():
        return x, *pool(x, backend)  # a compiler joins the passes by itself
    return _PoolThrough.apply(x, backend)


class _PoolThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, backend):
        ctx.set_materialize_grads(False)
        pools = pool(x, backend)
        ctx.shape = x.shape
        ctx.triton, ctx.strict = _chosen(x, 1, backend)
        return x.view_as(x), *pools

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dxs, dxt):
        if ctx.triton and None not in (dy, dxs, dxt):
            return torch.ops.mg_plugins.pool_backward(dy, dxs, dxt, ctx.strict), None
        return spread(ctx.shape, dy, dxs, dxt), None


def mix(
    x: Tensor, As: Tensor, At: Tensor, a: Tensor, b: Tensor, backend: str | None = None
) -> Tensor:
    """``x + a·(x·As) + b·(At·x)``; arguments as in :func:`mix_reference`, ``backend`` as in `pool`.

    Graphs and shares are brought to the type of ``x``, so that a half-precision feature map stays
    half precision under autocast. On CUDA, float32 is multiplied to float32's accuracy; in plain
    TF32 only where PyTorch is told so, by ``torch.set_float32_matmul_precision('high')``. Where x
    holds NaN or inf, Triton may spread it over more channels of the same sequence and head than
    PyTorch does. Shapes that do not belong together are a ValueError that names the argument.
    """
    if x.dim() != 4 or As.dim() != 4:
        raise ValueError(
            'mix expects x (N, C, T, V) and As (N, H, V, V), got '
            f'x {tuple(x.shape)} and As {tuple(As.shape)}'
        )
    if not x.is_floating_point():
        raise ValueError(f'mix expects floating-point numbers, got x of type {x.dtype}')
    n, c, t, v = x.shape
    h = As.shape[1]
    wanted = {'As': (n, h, v, v), 'At': (n, h, t, t), 'a': (n, c), 'b': (n, c)}
    for name, tensor in zip(wanted, (As, At, a, b), strict=True):
        # What is being traced has been checked when it ran; its sizes are no numbers.
        if not torch.jit.is_tracing() and tensor.shape != wanted[name]:
            raise ValueError(
                f'mix: {name} has shape {tuple(tensor.shape)}, but x {tuple(x.shape)} with '
                f'{h} heads needs {wanted[name]}'
            )
    if not torch.jit.is_tracing() and (h == 0 or c % h):
        raise ValueError(f'mix: {h} heads do not divide the {c} channels of x {tuple(x.shape)}')
    As, At, a, b = (tensor.to(x.dtype) for tensor in (As, At, a, b))
    triton, strict = _chosen(x, h, backend)
    if triton:
        return torch.ops.mg_plugins.mix(x, As, At, a, b, strict)
    if x.device.type == 'cpu' and not torch.compiler.is_compiling() and not _transformed():
        return MixOnCPU.apply(x, As, At, a, b)
    return mix_reference(x, As, At, a, b)
