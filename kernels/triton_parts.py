"""What the kernels share: their columns, what they load, and their matrix product."""

import triton
import triton.language as tl


@triton.jit
def columns(first, T, V: tl.constexpr, K: tl.constexpr, BC: tl.constexpr, W: tl.constexpr):
    """The W columns of a block: joints of channels ``first`` … ``first + BC − 1``, side by side.

    Of each the channel in the block, the offset from ``first`` in (K, T, V), and whether it is one.
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
def load_block(ptr, t, at, inside, R: tl.constexpr, T, V: tl.constexpr):
    """Frames t … t + R of the columns at ``at``, (R, columns); 0 outside."""
    row = tl.arange(0, R)
    # Columns before rows: what is added last is known to the compiler and costs no instruction.
    pointers = (ptr + t * V + at)[None, :] + (row * V)[:, None]
    return tl.load(pointers, (row < T - t)[:, None] & inside[None, :], 0.0)


@triton.jit
def store_block(ptr, t, at, inside, block, R: tl.constexpr, T, V: tl.constexpr):
    """Write what :func:`load_block` reads."""
    row = tl.arange(0, R)
    pointers = (ptr + t * V + at)[None, :] + (row * V)[:, None]
    tl.store(pointers, block, (row < T - t)[:, None] & inside[None, :])


@triton.jit
def load_frames(ptr, t, s, R: tl.constexpr, S: tl.constexpr, T, TRANSPOSED: tl.constexpr):
    """Frames t … t + R by frames s … s + S of a frame graph (T, T), or its transpose; 0 outside."""
    if TRANSPOSED:
        return tl.trans(load_frames(ptr, s, t, S, R, T, False))
    row, column = tl.arange(0, R), tl.arange(0, S)
    at = (ptr + (t * T + s) + column)[None, :] + (row * T)[:, None]
    return tl.load(at, (row < T - t)[:, None] & (column < T - s)[None, :], 0.0)


@triton.jit
def load_joints(ptr, V: tl.constexpr, BC: tl.constexpr, W: tl.constexpr, TRANSPOSED: tl.constexpr):
    """A joint graph (V, V) for BC channels: a square a channel along the diagonal of (W, W)."""
    if TRANSPOSED:
        return tl.trans(load_joints(ptr, V, BC, W, False))
    column = tl.arange(0, W)
    if BC == 1:
        inside = (column < V)[:, None] & (column < V)[None, :]
        return tl.load(ptr + (column[:, None] * V + column[None, :]), inside, 0.0)
    channel = column // V
    inside = (channel[:, None] == channel[None, :]) & (channel < BC)[None, :]
    joint = tl.max_contiguous(column % V, W)
    return tl.load(ptr + ((column % V)[:, None] * V + joint[None, :]), inside, 0.0)


@triton.jit
def shares(ptr, channel, inside):
    """Read the share of each column's channel, (1, columns)."""
    return tl.load(ptr + channel, inside, 0.0).to(tl.float32)[None, :]


@triton.jit
def leading(x):
    """float32 x to TF32's ten bits, the rest cut off: what tensor cores read of it."""
    return (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def dot(left, right, acc, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """``left · right (+ acc)`` in float32.

    ``'tf32x3'`` is three products of leading and trailing bits, which leave out the smallest of
    four, about 2⁻²² of the result. Triton's own looks for what is not finite in every element on
    top, which takes four times the instructions of the split itself. The interpreter multiplies the
    raw bits of bfloat16: ``UPCAST`` lets it see float32.
    """
    if PRECISION == 'tf32x3':
        large, other = leading(left), leading(right)
        acc = tl.dot(left - large, other, acc, input_precision='tf32')
        acc = tl.dot(large, right - other, acc, input_precision='tf32')
        return tl.dot(large, other, acc, input_precision='tf32')
    if UPCAST:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, acc, input_precision=PRECISION)
