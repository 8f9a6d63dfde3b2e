"""``pool`` in Triton: ``xs = Σ_t x / T`` and ``xt = Σ_v x / V`` in one pass over the feature map.

The sum over joints is a matrix product with a matrix of zeros and ones: neighbouring joints sit in
neighbouring lanes, and adding across lanes would cost five shuffles a frame, more than reading it.

Backward, beside the gradient dy of x itself: ``dx = dy + dxs / T + dxt / V`` in one pass, which
reads dy and writes dx. Alone, ``dxs / T + dxt / V`` is a sum that PyTorch writes as well.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from .signatures import Form, Variant
from .triton_parts import columns, dot, load_block, store_block


@triton.jit(do_not_specialize=['T'])
def _pool_forward(
    x_ptr, xs_ptr, xt_ptr, T, V: tl.constexpr, K: tl.constexpr, BT: tl.constexpr,
    BC: tl.constexpr, W: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    BLOCKS: tl.constexpr = (K + BC - 1) // BC
    program = tl.program_id(0)
    first = program % BLOCKS * BC
    # Only the offset of the block takes 64 bits.
    start = (program // BLOCKS).to(tl.int64) * K + first
    channel, at, inside = columns(first, T, V, K, BC, W)
    k = tl.arange(0, 16)
    # By way of float32: the interpreter casts integers to bfloat16 by their bits.
    same = tl.where(channel[:, None] == k[None, :], 1.0, 0.0)
    selector = same.to(x_ptr.dtype.element_ty)
    over_frames = tl.zeros((W,), tl.float32)
    for tile in range(0, T, BT):
        t = tile + tl.arange(0, BT)
        x = load_block(x_ptr + start * (T * V), tile, at, inside, BT, T, V)
        over_frames += tl.sum(x.to(tl.float32), 0)
        over_joints = dot(x, selector, None, PRECISION, UPCAST) / V
        within = (k < BC) & (first + k < K)
        pointers = xt_ptr + start * T + (k[None, :] * T + t[:, None])
        tl.store(pointers, over_joints, (t < T)[:, None] & within[None, :])
    tl.store(xs_ptr + start * V + tl.arange(0, W), over_frames / T, inside)


@triton.jit(do_not_specialize=['T'])
def _pool_backward(
    dy_ptr, dxs_ptr, dxt_ptr, dx_ptr, T,
    V: tl.constexpr, K: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    BLOCKS: tl.constexpr = (K + BC - 1) // BC
    program = tl.program_id(0)
    first = program % BLOCKS * BC
    start = (program // BLOCKS).to(tl.int64) * K + first
    channel, at, inside = columns(first, T, V, K, BC, W)
    over_frames = tl.load(dxs_ptr + start * V + tl.arange(0, W), inside, 0.0).to(tl.float32) / T
    for tile in range(0, T, BT):
        t = tile + tl.arange(0, BT)
        if BC == 1:
            over_joints = tl.load(dxt_ptr + start * T + t, t < T, 0.0)[:, None]
        else:
            within = (t < T)[:, None] & inside[None, :]
            pointers = (dxt_ptr + start * T + channel * T)[None, :] + t[:, None]
            over_joints = tl.load(pointers, within, 0.0)
        dy = load_block(dy_ptr + start * (T * V), tile, at, inside, BT, T, V)
        dx = dy.to(tl.float32) + over_frames[None, :] + over_joints.to(tl.float32) / V
        store_block(dx_ptr + start * (T * V), tile, at, inside, dx, BT, T, V)


@lru_cache
def variants(form: Form) -> tuple[Variant, Variant]:
    """The forms of the forward and of the backward kernel, of one head."""
    forward = form.variant(_pool_forward, 'pool_forward', 'x xs xt')
    return forward, form.variant(_pool_backward, 'pool_backward', 'dy dxs dxt dx')


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Means of x (N, C, T, V) over frames (N, C, V) and over joints (N, C, T)."""
    n, c, t, v = x.shape
    x = x.contiguous()
    xs, xt = x.new_empty(n, c, v), x.new_empty(n, c, t)
    if n:
        variants(Form.of(x))[0].launch(n, x, xs, xt)
    return xs, xt


def pool_backward(dy: Tensor, dxs: Tensor, dxt: Tensor) -> Tensor:
    """``dy + dxs / T + dxt / V``, shapes (N, C, T, V), (N, C, V) and (N, C, T)."""
    dy, dxs, dxt = (tensor.contiguous() for tensor in (dy, dxs, dxt))
    dx = torch.empty_like(dy)
    if len(dy):
        variants(Form.of(dy))[1].launch(len(dy), dy, dxs, dxt, dx)
    return dx
