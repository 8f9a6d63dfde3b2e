"""The seam between the fusion module and whatever computes it: ``pool`` and ``mix``.

The module computes the graphs and the balance from the pools; only these two functions touch the
whole feature map, so a faster implementation replaces them and nothing else.
"""

import torch

from .cpu import MixOnCPU
from .reference import mix_reference, pool_reference


def pool(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean over frames (N, C, V) and mean over joints (N, C, T) of x (N, C, T, V).

    Raises:
        ValueError: If x is not four-dimensional.
    """
    if x.dim() != 4:
        raise ValueError(
            f'pool expects a feature map (N, C, T, V), got a tensor of shape {tuple(x.shape)}'
        )
    return pool_reference(x)


def mix(
    x: torch.Tensor, As: torch.Tensor, At: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """``x + a·(x·As) + b·(At·x)``; see :func:`mg_plugins.kernels.reference.mix_reference`.

    Graphs and shares are brought to the type of ``x``, so that a half-precision feature map stays
    half precision under autocast.

    Args:
        x: Feature map (N, C, T, V).
        As: Joint graphs (N, H, V, V).
        At: Frame graphs (N, H, T, T).
        a: Share of the spatial stream (N, C).
        b: Share of the temporal stream (N, C).

    Raises:
        ValueError: If the shapes do not belong together; the message names the argument.
    """
    if x.dim() != 4 or As.dim() != 4:
        raise ValueError(
            'mix expects x (N, C, T, V) and As (N, H, V, V), got '
            f'x {tuple(x.shape)} and As {tuple(As.shape)}'
        )
    n, c, t, v = x.shape
    h = As.shape[1]
    wanted = {'As': (n, h, v, v), 'At': (n, h, t, t), 'a': (n, c), 'b': (n, c)}
    for name, tensor in zip(wanted, (As, At, a, b), strict=True):
        if tensor.shape != wanted[name]:
            raise ValueError(
                f'mix: {name} has shape {tuple(tensor.shape)}, but x {tuple(x.shape)} with '
                f'{h} heads needs {wanted[name]}'
            )
    if h == 0 or c % h:
        raise ValueError(f'mix: {h} heads do not divide the {c} channels of x {tuple(x.shape)}')
    As, At, a, b = (tensor.to(x.dtype) for tensor in (As, At, a, b))
    traced = (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
    )
    if x.device.type == 'cpu' and not traced:
        return MixOnCPU.apply(x, As, At, a, b)
    return mix_reference(x, As, At, a, b)
