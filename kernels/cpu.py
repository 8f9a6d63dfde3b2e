"""``mix`` for CPUs in eager mode: the reference's result with a fraction of its memory traffic."""

from collections.abc import Iterator

import torch
from torch.autograd.function import once_differentiable

# Size of a part of the feature map. It and what is made of it stay in a core's caches; smaller
# parts would fit them better, but every part costs some thirty calls.
CACHED_BYTES = 2**20


class MixOnCPU(torch.autograd.Function):
    """``mix`` of contiguous or strided CPU tensors, arguments as in ``mix_reference``.

    It takes a part of the sequences at a time, so that what is made of them stays in a core's
    cache, and passes over the feature map as few times as batched products allow. Both streams of
    the backward start from ``z = dy·Asᵀ`` and ``w = Atᵀ·dy``, which give the gradient of x
    (``dy + a·z + b·w``) and, because a and b are factors of a whole channel, theirs:
    ``da = Σ x·z`` and ``db = Σ x·w``. Neither stream is kept from the forward.
    """

    @staticmethod
    def forward(ctx, x, As, At, a, b):
        x = x.contiguous()
        ctx.save_for_backward(x, As, At, a, b)
        y = torch.empty_like(x)
        with torch.autocast('cpu', enabled=False):
            # It makes less beside the map than the backward, so that larger parts fit.
            for part in _parts(2 * CACHED_BYTES, y, x, As, At, a, b):
                _mix_into(*part)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        inputs = ctx.saved_tensors
        gradients = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in inputs]
        with torch.autocast('cpu', enabled=False):
            for part in _parts(CACHED_BYTES, *gradients, dy.contiguous(), *inputs):
                mix_backward_into(part[:5], *part[5:])
        return tuple(gradients)


def _parts(room: int, x: torch.Tensor, *others: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """A few sequences at a time, the same of every tensor, x in ``room`` bytes."""
    bytes_each = x[:1].numel() * x.element_size()
    step = max(1, room // max(bytes_each, 1))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        yield tuple(t[part] for t in (x, *others))


def _by_frame(x: torch.Tensor, heads: int) -> torch.Tensor:
    """x (N, C, T, V) seen as (N·H, T, C/H, V): frames outermost in every head."""
    n, c, t, v = x.shape
    return x.view(n * heads, c // heads, t, v).transpose(1, 2)


def _mix_into(y, x, As, At, a, b):
    """Write the mixture of x into y."""
    n, c, t, v = x.shape
    heads = As.shape[1]
    per_head = c // heads
    # One large product a head: its channels and frames (or joints) side by side.
    by_joint = (n * heads, per_head * t, v)
    scaled = x * a.view(n, c, 1, 1)
    graph = As.reshape(n * heads, v, v)
    torch.baddbmm(x.view(by_joint), scaled.view(by_joint), graph, out=y.view(by_joint))
    # A product a channel, added where it belongs: one large one would turn the map around twice.
    torch.mul(x, b.view(n, c, 1, 1), out=scaled)
    by_channel = (n * heads, per_head, t, v)
    frames = At.reshape(n * heads, 1, t, t).expand(-1, per_head, -1, -1)
    for graph, part, out in zip(frames, scaled.view(by_channel), y.view(by_channel), strict=True):
        out.baddbmm_(graph, part)


def mix_backward_into(gradients, dy, x, As, At, a, b):
    """Write the gradients of x, As, At, a and b."""
    dx, dAs, dAt, da, db = gradients
    n, c, t, v = x.shape
    heads = As.shape[1]
    per_head = c // heads
    by_joint = (n * heads, per_head * t, v)
    by_frame = (n * heads, t, per_head * v)
    dy_by_joint = dy.view(by_joint)
    z = torch.empty_like(x)
    torch.bmm(dy_by_joint, As.reshape(n * heads, v, v).mT, out=z.view(by_joint))
    share = a.view(n, c, 1, 1)
    torch.addcmul(dy, share, z, out=dx)
    torch.sum(z.mul_(x), (2, 3), out=da)
    torch.mul(x, share, out=z)
    torch.bmm(z.view(by_joint).mT, dy_by_joint, out=dAs.view(n * heads, v, v))

    # A row a frame. Two buffers do: each is written again once what it held has been used.
    share = b.reshape(n * heads, 1, per_head, 1)
    xt = torch.mul(_by_frame(x, heads), share, out=z.view(n * heads, t, per_head, v))
    dyt = _by_frame(dy, heads).clone(memory_format=torch.contiguous_format).view(by_frame)
    torch.bmm(dyt, xt.view(by_frame).mT, out=dAt.view(n * heads, t, t))
    wt = torch.bmm(At.reshape(n * heads, t, t).mT, dyt, out=z.view(by_frame))
    w = dyt.view(n, c, t, v)
    _by_frame(w, heads).copy_(wt.view(xt.shape))
    dx.addcmul_(b.view(n, c, 1, 1), w)
    torch.sum(w.mul_(x), (2, 3), out=db)
