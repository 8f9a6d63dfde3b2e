"""The Triton path as operators ``mg_plugins::pool`` and ``mg_plugins::mix`` of ``torch.library``.

As operators they are opaque to ``torch.compile``, known to autograd, and refuse to be
differentiated twice. Where a kernel fails on a shape, that is reported once and PyTorch computes
the shape from then on, or every shape where Triton cannot be imported; ``strict`` raises instead.
"""

import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch

from .cpu import mix_backward_into
from .reference import mix_reference, pool_reference, spread
from .signatures import INTERPRETER, interpreted

_library = torch.library.Library('mg_plugins', 'FRAGMENT')
#: What has been reported: an operator with the shapes that failed, or ``_IMPORT`` for all of them.
_failed: set[tuple] = set()
_IMPORT = ('import',)


def _register(schema: str, fallback: Callable, fake: Callable, setup=None, backward=None) -> None:
    """Define an operator for CUDA tensors and, for the interpreter, CPU tensors."""
    # In a checkout's folder `import kernels` finds this package too (transformers asks for one of
    # that name): what is imported so defines nothing, for an operator can be defined once only.
    if __name__ != 'mg_plugins.kernels.library':
        return
    name = schema.split('(')[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for device in ('CUDA', 'CPU'):
        _library.impl(name, partial(_guarded, name, fallback), device)
    torch.library.register_fake(f'mg_plugins::{name}', fake, lib=_library)
    torch.library.register_autograd(
        f'mg_plugins::{name}', backward or _no_second, setup_context=setup, lib=_library
    )


def _guarded(name: str, fallback: Callable, *tensors, strict: bool = False):
    """What ``name`` of ``triton_pool`` or ``triton_mix`` makes of tensors, or else ``fallback``."""
    if isinstance(tensors[-1], bool):
        *tensors, strict = tensors
    x = tensors[0]
    if x.device.type == 'cpu' and not interpreted():
        raise RuntimeError(f'mg_plugins::{name} got tensors on the CPU; {INTERPRETER}')
    shape = name, *((tuple(t.shape), t.dtype, t.device) for t in tensors)
    if strict or _failed.isdisjoint((_IMPORT, shape)):
        at_fault = _IMPORT
        try:
            module = import_module(f'.triton_{name.split("_")[0]}', __package__)
            at_fault = shape
            return getattr(module, name)(*tensors)
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
                stacklevel=2,
            )
    with torch.autocast(x.device.type, enabled=False):
        return fallback(*tensors)


def _pool_setup(ctx, inputs, output):
    ctx.set_materialize_grads(False)
    ctx.shape = inputs[0].shape


def _mix_setup(ctx, inputs, output):
    *tensors, ctx.strict = inputs
    ctx.save_for_backward(*tensors)


def _mix_autograd(ctx, dy):
    gradients = torch.ops.mg_plugins.mix_backward(dy, *ctx.saved_tensors, ctx.strict)
    return *gradients, None


def _mix_backward(dy, *inputs):
    gradients = tuple(map(_like, inputs))
    mix_backward_into(gradients, dy.contiguous(), inputs[0].contiguous(), *inputs[1:])
    return gradients


def _like(tensor, *_):
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _no_second(ctx, *_):
    raise RuntimeError(
        'mix: its gradient has no gradient (once_differentiable); MG_KERNELS=torch under '
        'torch.func differentiates it twice'
    )


_TENSORS = 'Tensor x, Tensor As, Tensor At, Tensor a, Tensor b, bool strict=False'
_register(
    'pool(Tensor x, bool strict=False) -> (Tensor, Tensor)',
    pool_reference,
    lambda x, *_: (_like(x[:, :, 0]), _like(x[..., 0])),
    _pool_setup,
    lambda ctx, dxs, dxt: (spread(ctx.shape, None, dxs, dxt), None),
)
_register(
    'pool_backward(Tensor dy, Tensor dxs, Tensor dxt, bool strict=False) -> Tensor',
    lambda dy, dxs, dxt: spread(dy.shape, dy, dxs, dxt).to(dy.dtype),
    _like,
)
_register(f'mix({_TENSORS}) -> Tensor', mix_reference, _like, _mix_setup, _mix_autograd)
_register(
    f'mix_backward(Tensor dy, {_TENSORS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)',
    _mix_backward,
    lambda dy, *inputs: tuple(_like(t) for t in inputs if isinstance(t, torch.Tensor)),
)
