"""What the kernels share: their columns and their matrix product."""

import triton
import triton.language as tl


@triton.jit
def columns(
    first, T: tl.constexpr, V: tl.constexpr, K: tl.constexpr, BC: tl.constexpr, W: tl.constexpr
):
    """The W columns of a block: joints of channels ``first`` … ``first + BC − 1``, side by side.

    Returns:
        Channel within the block, offset from channel ``first`` in (K, T, V), and whether it is one.
    """
    column = tl.arange(0, W)
    if BC == 1:
        return tl.zeros((W,), tl.int32), column, column < V
    channel = column // V
    # Told to be contiguous, columns go to neighbouring lanes. Only V's own power of two is loaded
    # at once, because no frame starts at a larger one: that never crosses into another channel.
    at = tl.max_contiguous(channel * (T * V) + column % V, W)
    return channel, at, (channel < BC) & (first + channel < K)


@triton.jit
def load_block(ptr, t, at, inside, T: tl.constexpr, V: tl.constexpr):
    """Frames t of the columns at ``at``, (frames, columns); 0 outside."""
    return tl.load(ptr + (t[:, None] * V + at[None, :]), (t < T)[:, None] & inside[None, :], 0.0)


@triton.jit
def dot(left, right, acc, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """``left · right (+ acc)`` in float32; ``UPCAST`` is for the interpreter.

    The interpreter multiplies the raw bits of bfloat16, so that it has to see float32 there.
    """
    if UPCAST:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, acc, input_precision=PRECISION)
