"""The Triton path as operators ``mg_plugins::pool`` and ``mg_plugins::mix`` of ``torch.library``.

As operators they are opaque to ``torch.compile``, known to autograd, and refuse to be
differentiated twice. Triton is imported at the first call. Where a kernel fails on a shape, the
failure is reported once and PyTorch computes that shape from then on; where Triton itself cannot
be imported, PyTorch computes every shape. ``strict`` asks for the error instead.
"""

import warnings
from collections.abc import Callable
from importlib import import_module

import torch

from .cpu import mix_backward_into
from .reference import mix_reference, pool_reference, spread
from .signatures import INTERPRETER, interpreted

_library = torch.library.Library('mg_plugins', 'FRAGMENT')
#: What has been reported: an operator with the shapes that failed, or ``_IMPORT`` for all of them.
_failed: set[tuple] = set()
_IMPORT = ('import',)


def _register(schema: str, implementation: Callable, fake: Callable, setup, backward) -> None:
    """Define an operator for CUDA tensors and, for the interpreter, CPU tensors."""
    # In a checkout's folder `import kernels` finds this package too (transformers asks for one of
    # that name): what is imported so defines nothing, for an operator can be defined once only.
    if __name__ != 'mg_plugins.kernels.library':
        return
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    name = schema.split('(')[0]
    for device in ('CUDA', 'CPU'):
        _library.impl(name, implementation, device)
    torch.library.register_fake(f'mg_plugins::{name}', fake, lib=_library)
    torch.library.register_autograd(
        f'mg_plugins::{name}', backward, setup_context=setup, lib=_library
    )


def _guarded(name: str, module: str, strict: bool, fallback: Callable, *tensors):
    """What ``module``'s function ``name`` makes of the tensors, or ``fallback`` if it cannot."""
    x = tensors[0]
    if x.device.type == 'cpu' and not interpreted():
        raise RuntimeError(f'mg_plugins::{name} got tensors on the CPU; {INTERPRETER}')
    shape = name, *((tuple(t.shape), t.dtype, t.device) for t in tensors)
    if strict or _failed.isdisjoint((_IMPORT, shape)):
        at_fault = _IMPORT
        try:
            run = getattr(import_module(f'.{module}', __package__), name)
            at_fault = shape
            return run(*tensors)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if strict:
                raise
            _failed.add(at_fault)
            what = 'every shape' if at_fault is _IMPORT else 'this shape'
            warnings.warn(
                f'the Triton kernels of mg_plugins::{name} failed on {x.dtype} tensors of shape '
                f'{", ".join(str(tuple(t.shape)) for t in tensors)}; PyTorch computes {what} from '
                f'now on. {type(error).__name__}: {error}',
                RuntimeWarning,
                stacklevel=3,
            )
    with torch.autocast(x.device.type, enabled=False):
        return fallback(*tensors)


def _pool(x, strict=False):
    return _guarded('pool', 'triton_pool', strict, pool_reference, x)


def _pool_fake(x, strict=False):
    n, c, t, v = x.shape
    return x.new_empty(n, c, v), x.new_empty(n, c, t)


def _pool_setup(ctx, inputs, output):
    ctx.set_materialize_grads(False)
    ctx.shape = inputs[0].shape


def _pool_autograd(ctx, dxs, dxt):
    return spread(ctx.shape, None, dxs, dxt), None


def _pool_backward(dy, dxs, dxt, strict=False):
    return _guarded('pool_backward', 'triton_pool', strict, _spread, dy, dxs, dxt)


def _spread(dy, dxs, dxt):
    return spread(dy.shape, dy, dxs, dxt).to(dy.dtype)


def _pool_backward_fake(dy, dxs, dxt, strict=False):
    return torch.empty_like(dy, memory_format=torch.contiguous_format)


def _mix(x, As, At, a, b, strict=False):
    return _guarded('mix', 'triton_mix', strict, mix_reference, x, As, At, a, b)


def _mix_fake(x, As, At, a, b, strict=False):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _mix_setup(ctx, inputs, output):
    *tensors, ctx.strict = inputs
    ctx.save_for_backward(*tensors)


def _mix_autograd(ctx, dy):
    gradients = torch.ops.mg_plugins.mix_backward(dy, *ctx.saved_tensors, ctx.strict)
    return *gradients, None


def _mix_backward(dy, x, As, At, a, b, strict=False):
    return _guarded('mix_backward', 'triton_mix', strict, _fallback, dy, x, As, At, a, b)


def _fallback(dy, x, *weights):
    gradients = tuple(
        torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, *weights)
    )
    mix_backward_into(gradients, dy.contiguous(), x.contiguous(), *weights)
    return gradients


def _mix_backward_fake(dy, *tensors, **_):
    return tuple(
        torch.empty_like(t, memory_format=torch.contiguous_format)
        for t in tensors
        if isinstance(t, torch.Tensor)
    )


def _no_second(ctx, *_):
    raise RuntimeError(
        'mix: its gradient has no gradient (once_differentiable); MG_KERNELS=torch under '
        'torch.func differentiates it twice'
    )


_TENSORS = 'Tensor x, Tensor As, Tensor At, Tensor a, Tensor b, bool strict=False'
_register(
    'pool(Tensor x, bool strict=False) -> (Tensor, Tensor)',
    _pool,
    _pool_fake,
    _pool_setup,
    _pool_autograd,
)
_register(
    'pool_backward(Tensor dy, Tensor dxs, Tensor dxt, bool strict=False) -> Tensor',
    _pool_backward,
    _pool_backward_fake,
    lambda ctx, inputs, output: None,
    _no_second,
)
_register(f'mix({_TENSORS}) -> Tensor', _mix, _mix_fake, _mix_setup, _mix_autograd)
_register(
    f'mix_backward(Tensor dy, {_TENSORS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)',
    _mix_backward,
    _mix_backward_fake,
    lambda ctx, inputs, output: None,
    _no_second,
)
