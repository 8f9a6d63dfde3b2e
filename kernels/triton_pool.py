"""``pool`` in Triton: both means in one pass over the feature map.

``xs[n, c, v] = Σ_t x[n, c, t, v] / T`` and ``xt[n, c, t] = Σ_v x[n, c, t, v] / V``.

The sum over joints is a matrix product with a matrix of zeros and ones: neighbouring joints sit in
neighbouring lanes, and adding across lanes would cost five shuffles a frame, more than reading it.
The backward, ``dx = dxs / T + dxt / V``, is one broadcast sum, which PyTorch writes in one pass.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from . import blocks
from .signatures import TYPES, Variant, architecture, interpreted, precision
from .triton_parts import columns, dot, load_block


@triton.jit
def _pool_forward(
    x_ptr,
    xs_ptr,
    xt_ptr,
    T: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BT: tl.constexpr,
    BC: tl.constexpr,
    W: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    BLOCKS: tl.constexpr = (C + BC - 1) // BC
    program = tl.program_id(0)
    first = program % BLOCKS * BC
    # Only the offset of the block takes 64 bits.
    start = (program // BLOCKS).to(tl.int64) * C + first
    channel, at, inside = columns(first, T, V, C, BC, W)
    k = tl.arange(0, 16)
    # By way of float32: the interpreter casts integers to bfloat16 by their bits.
    same = tl.where(channel[:, None] == k[None, :], 1.0, 0.0)
    selector = same.to(x_ptr.dtype.element_ty)
    over_frames = tl.zeros((W,), tl.float32)
    for tile in range(0, T, BT):
        t = tile + tl.arange(0, BT)
        x = load_block(x_ptr + start * (T * V), t, at, inside, T, V)
        over_frames += tl.sum(x.to(tl.float32), 0)
        over_joints = dot(x, selector, None, PRECISION, UPCAST) / V
        within = (k < BC) & (first + k < C)
        tl.store(
            xt_ptr + start * T + (k[None, :] * T + t[:, None]),
            over_joints,
            (t < T)[:, None] & within[None, :],
        )
    tl.store(xs_ptr + start * V + tl.arange(0, W), over_frames / T, inside)


@lru_cache
def forward_variant(
    dtype: torch.dtype, T: int, V: int, C: int, arch: str, product: str, interpret: bool = False
) -> Variant:
    """The form of the kernel for x (N, C, T, V)."""
    cut = blocks.pool_forward(dtype, T, V, C, arch)
    constexprs = dict(
        T=T,
        V=V,
        C=C,
        BT=cut.frames,
        BC=cut.channels(V),
        W=cut.columns,
        PRECISION=product,
        UPCAST=interpret,
    )
    pointers = dict.fromkeys(('x_ptr', 'xs_ptr', 'xt_ptr'), '*' + TYPES[dtype])
    return Variant(
        name='pool_forward',
        kernel=_pool_forward,
        signature=pointers | dict.fromkeys(constexprs, 'constexpr'),
        constexprs=constexprs,
        num_warps=cut.warps,
        num_stages=cut.stages,
        programs=-(-C // cut.channels(V)),
    )


def pool(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of x (N, C, T, V) over frames (N, C, V) and over joints (N, C, T)."""
    n, c, t, v = x.shape
    x = x.contiguous()
    xs, xt = x.new_empty(n, c, v), x.new_empty(n, c, t)
    if n:
        arch = architecture(x.device)
        product = precision(x.dtype, arch)
        forward_variant(x.dtype, t, v, c, arch, product, interpreted()).launch(n, x, xs, xt)
    return xs, xt
