"""Plain-PyTorch reference of ``pool`` and ``mix``: what every other path must equal.

Shapes throughout: N sequences (batch × persons), C channels, T frames, V joints, H heads;
head h serves the channels h·C/H … (h+1)·C/H − 1. ``torch.compile`` and ``torch.export`` see this.
"""

import torch
from torch import Tensor


def pool_reference(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over frames (N, C, V) and mean over joints (N, C, T) of a feature map x (N, C, T, V)."""
    if x.dtype == torch.float16:  # whose largest number, 65,504, a sum soon passes
        return x.mean(2), x.mean(3)
    # Dividing the sums keeps the division out of the backward pass over the whole map.
    return x.sum(2) / x.shape[2], x.sum(3) / x.shape[3]


def spread(
    shape: torch.Size, dy: Tensor | None, dxs: Tensor | None, dxt: Tensor | None
) -> Tensor | None:
    """The gradient ``dy + dxs / T + dxt / V`` of a feature map (N, C, T, V), used and pooled.

    A gradient that is None counts as 0: dy of the map's other use, dxs (N, C, V), dxt (N, C, T).
    """
    t, v = shape[2:]
    # The map comes last: what is read of the pools is small.
    terms = [] if dxs is None else [(dxs / t).unsqueeze(2).expand(shape)]
    terms += [] if dxt is None else [(dxt / v).unsqueeze(3).expand(shape)]
    terms += [] if dy is None else [dy]
    if len(terms) < 2:
        return terms[0] if terms else None
    total = terms[0] + terms[1]
    return total.add_(terms[2]) if len(terms) == 3 else total


def mix_reference(x: Tensor, As: Tensor, At: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``y = x + a·(x·As) + b·(At·x)``, for every sequence and channel of x (N, C, T, V).

    ``(x·As)[t, v] = Σ_u x[t, u] As[u, v]`` goes over joints and
    ``(At·x)[t, v] = Σ_s At[t, s] x[s, v]`` over frames, both with the graph of the channel's head.

    Args:
        x: Feature map.
        As: Joint graphs (N, H, V, V), source joint u by target joint v.
        At: Frame graphs (N, H, T, T), target frame t by source frame s.
        a, b: Shares (N, C) of the spatial and of the temporal stream.
    """
    n, c, t, v = x.shape
    heads = As.shape[1]
    per_head = c // heads
    # One large product a head: its channels and frames (or joints) side by side.
    by_joint = x.reshape(n * heads, per_head * t, v)
    ys = torch.bmm(by_joint, As.reshape(n * heads, v, v)).view(n, c, t, v)
    by_frame = x.reshape(n * heads, per_head, t, v).transpose(1, 2)
    yt = torch.bmm(At.reshape(n * heads, t, t), by_frame.reshape(n * heads, t, per_head * v))
    yt = yt.view(n * heads, t, per_head, v).transpose(1, 2).reshape(n, c, t, v)
    return torch.addcmul(torch.addcmul(x, a[..., None, None], ys), b[..., None, None], yt)
