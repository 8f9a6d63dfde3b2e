"""``mix`` for CPUs in eager mode: the reference's result with a fraction of its memory traffic."""

import torch
from torch.autograd.function import once_differentiable

# Room for a part of the feature map in a core's second-level cache, beside what is made of it.
CACHED_BYTES = 2**19


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
            for part in _parts(x):
                _mix_into(y[part], x[part], As[part], At[part], a[part], b[part])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, *weights = ctx.saved_tensors
        dy = dy.contiguous()
        gradients = [torch.empty_like(t) for t in (x, *weights)]
        with torch.autocast('cpu', enabled=False):
            for part in _parts(x):
                into = [g[part] for g in gradients]
                mix_backward_into(into, dy[part], x[part], *(t[part] for t in weights))
        return tuple(gradients)


def _parts(x: torch.Tensor) -> list[slice]:
    """Sequences to take at a time."""
    bytes_each = x[:1].numel() * x.element_size()
    step = max(1, CACHED_BYTES // max(bytes_each, 1))
    return [slice(start, start + step) for start in range(0, len(x), step)]


def _by_frame(x: torch.Tensor, heads: int) -> torch.Tensor:
    """A copy (N·H, T, C/H·V) of x (N, C, T, V): a row a frame."""
    n, c, t, v = x.shape
    rows = x.new_empty(n * heads, t, c // heads, v)
    rows.copy_(x.view(n * heads, c // heads, t, v).transpose(1, 2))
    return rows.view(n * heads, t, c // heads * v)


def _mix_into(y, x, As, At, a, b):
    """Write the mixture of x into y."""
    n, c, t, v = x.shape
    heads = As.shape[1]
    per_head = c // heads
    # One large product a head: its channels and frames (or joints) side by side.
    by_joint = (n * heads, per_head * t, v)
    scaled = x * a[..., None, None]
    graph = As.reshape(n * heads, v, v)
    torch.baddbmm(x.view(by_joint), scaled.view(by_joint), graph, out=y.view(by_joint))
    yt = torch.bmm(
        At.reshape(n * heads, t, t), _by_frame(x, heads), out=scaled.view(-1, t, v * per_head)
    )
    yt = yt.view(n * heads, t, per_head, v).transpose(1, 2)
    share = b.reshape(n * heads, per_head, 1, 1)
    y.view(n * heads, per_head, t, v).addcmul_(share, yt)


def mix_backward_into(gradients, dy, x, As, At, a, b):
    """Write the gradients of x, As, At, a and b."""
    dx, dAs, dAt, da, db = gradients
    n, c, t, v = x.shape
    heads = As.shape[1]
    per_head = c // heads
    by_joint = (n * heads, per_head * t, v)
    by_frame = (n * heads, t, per_head, v)
    z = torch.bmm(dy.view(by_joint), As.reshape(n * heads, v, v).mT).view(n, c, t, v)
    torch.addcmul(dy, a[..., None, None], z, out=dx)
    da.copy_(torch.linalg.vecdot(x.view(n, c, t * v), z.view(n, c, t * v)))
    torch.mul(x, a[..., None, None], out=z)
    dAs.copy_(torch.bmm(z.view(by_joint).mT, dy.view(by_joint)).view_as(dAs))

    dyt, xt = _by_frame(dy, heads), _by_frame(x, heads)
    w = torch.bmm(At.reshape(n * heads, t, t).mT, dyt, out=z.view(xt.shape)).view(by_frame)
    share = b.reshape(n * heads, per_head, 1, 1)
    dx.view(n * heads, per_head, t, v).addcmul_(share, w.transpose(1, 2))
    db.copy_(w.mul_(xt.view(by_frame)).sum((1, 3)).view(n, c))
    xt.view(by_frame).mul_(b.reshape(n * heads, 1, per_head, 1))
    dAt.copy_(torch.bmm(dyt, xt.mT).view_as(dAt))
