"""``mix`` in Triton: ``y = x + a·(x·As) + b·(At·x)`` and its gradients.

A block is frames by columns, a column one joint of a channel; the channels of a head share both
products: ``At · block``, and ``block · As`` with As repeated along a diagonal, a square a channel.

Forward. A program owns some channels of one head of one sequence and a tile of frames. It keeps its
rows of the frame graph for all of its channels where they fit, else it reads them again for each
and sums over the frames a few at a time. T is an argument at run time.

Backward. With ``w = Atᵀ·dy`` and, for each channel, ``p = xᵀ·dy`` over its frames,

    dx  = dy + a·(dy·Asᵀ) + b·w     db = Σ x·w          dAt = Σ_c dy·(b x)ᵀ
                                    da = Σ As·p         dAs = Σ_c a·p

The forward's kernel makes dx of dy, and db; another the gradients of both graphs and da; one for
all five would spill, because dAt alone takes T × T accumulators.

Sums that several programs share are added up by PyTorch in a fixed order: equal runs, equal bits.
The repeated As holds zeros between channels, and 0 · inf is NaN: what is not finite spreads over
the channels of its block, never to another head or sequence.

All tensors are contiguous here. Head h of sequence n is row ``g = n·H + h`` of every one of them:
x (G, K, T, V), As (G, V, V), At (G, T, T), a and b (G, K), with K = C / H channels.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from .signatures import Form, Variant
from .triton_parts import columns, dot, load_block, load_frames, load_joints, shares, store_block


@triton.jit(do_not_specialize=['T'])
def _mix(
    map_ptr, joints_ptr, frames_ptr, a_ptr, b_ptr, out_ptr, x_ptr, db_ptr, T,
    V: tl.constexpr, K: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BC: tl.constexpr,
    ONE: tl.constexpr, HELD: tl.constexpr, STEPS: tl.constexpr, W: tl.constexpr,
    BACKWARD: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Mixes x to y, or dy to dx: the same with both graphs transposed.

    The backward reads x beside it and writes db in parts: (G, tiles, K, V), or (G, tiles, K) where
    a block is a channel.
    """
    tiles = 1 if ONE else tl.cdiv(T, BT)
    CHUNKS: tl.constexpr = (K + BC * STEPS - 1) // (BC * STEPS)
    program = tl.program_id(0)
    g = (program // (tiles * CHUNKS)).to(tl.int64)
    begin = program // tiles % CHUNKS * (BC * STEPS)
    end = tl.minimum(K, begin + BC * STEPS)
    tile = 0 if ONE else program % tiles
    t = tile * BT
    graph = frames_ptr + g * (T * T)
    joints = load_joints(joints_ptr + g * (V * V), V, BC, W, BACKWARD)
    if HELD:
        frames = load_frames(graph, t, 0, BT, BS, T, BACKWARD)
    for first in range(begin, end, BC):
        start = g * K + first
        plane = map_ptr + start * (T * V)
        channel, at, inside = columns(first, T, V, K, BC, W)
        a = shares(a_ptr + start, channel, inside)
        b = shares(b_ptr + start, channel, inside)
        block = load_block(plane, t, at, inside, BT, T, V)
        if ONE:
            over_frames = dot(frames, block, None, PRECISION, UPCAST)
        elif HELD:
            source = load_block(plane, 0, at, inside, BS, T, V)
            over_frames = dot(frames, source, None, PRECISION, UPCAST)
        else:
            over_frames = tl.zeros((BT, W), tl.float32)
            for s in range(0, T, BS):
                frames = load_frames(graph, t, s, BT, BS, T, BACKWARD)
                source = load_block(plane, s, at, inside, BS, T, V)
                over_frames = dot(frames, source, over_frames, PRECISION, UPCAST)
        over_joints = dot(block, joints, None, PRECISION, UPCAST)
        out = block.to(tl.float32) + a * over_joints + b * over_frames
        store_block(out_ptr + start * (T * V), t, at, inside, out, BT, T, V)
        if BACKWARD:
            x = load_block(x_ptr + start * (T * V), t, at, inside, BT, T, V)
            db = x.to(tl.float32) * over_frames
            part = (g * tiles + tile) * K + first
            if BC == 1:
                tl.store(db_ptr + part, tl.sum(tl.sum(db, 1), 0))
            else:
                tl.store(db_ptr + part * V + tl.arange(0, W), tl.sum(db, 0), inside)


@triton.jit(do_not_specialize=['T'])
def _graphs_backward(
    x_ptr, joints_ptr, a_ptr, b_ptr, dy_ptr, djoints_ptr, dframes_ptr, da_ptr, T,
    V: tl.constexpr, K: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr, ONE: tl.constexpr,
    STEPS: tl.constexpr, W: tl.constexpr, FRAMES: tl.constexpr, JOINTS: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Writes parts: dframes (G, chunks, T, T), djoints (G, chunks, tiles, BC, V, V) and da
    (G, tiles, K, V); a program one tile of dframes, and the others where that is on the diagonal.
    """
    tiles = 1 if ONE else tl.cdiv(T, BT)
    squares = tiles * tiles if FRAMES else tiles
    CHUNKS: tl.constexpr = (K + BC * STEPS - 1) // (BC * STEPS)
    program = tl.program_id(0)
    chunk = (program // squares).to(tl.int64)
    g = chunk // CHUNKS
    begin = program // squares % CHUNKS * (BC * STEPS)
    tile = program % squares % tiles
    s = 0 if ONE else tile * BT
    t = program % squares // tiles * BT if FRAMES and not ONE else s
    if FRAMES:
        dframes = tl.zeros((BT, BT), tl.float32)
    if JOINTS:
        joints = load_joints(joints_ptr + g * (V * V), V, BC, W, False)
        djoints = tl.zeros((W, W), tl.float32)
    for first in range(begin, tl.minimum(K, begin + BC * STEPS), BC):
        start = g * K + first
        channel, at, inside = columns(first, T, V, K, BC, W)
        dy = load_block(dy_ptr + start * (T * V), t, at, inside, BT, T, V)
        x = load_block(x_ptr + start * (T * V), s, at, inside, BT, T, V)
        if FRAMES:
            b = shares(b_ptr + start, channel, inside)
            scaled = (b * x.to(tl.float32)).to(x.dtype)
            dframes = dot(dy, tl.trans(scaled), dframes, PRECISION, UPCAST)
        if JOINTS and t == s:
            # All pairs of channels; those of a channel with itself are kept in the end.
            pairs = dot(tl.trans(x), dy, None, PRECISION, UPCAST)
            djoints += shares(a_ptr + start, channel, inside) * pairs
            da = tl.sum(joints.to(tl.float32) * pairs, 1)
            part = ((g * tiles + tile) * K + first) * V + tl.arange(0, W)
            tl.store(da_ptr + part, da, inside)
    if FRAMES:
        frame = tl.arange(0, BT)
        at = dframes_ptr + (chunk * (T * T) + t * T + s) + (frame[:, None] * T + frame[None, :])
        tl.store(at, dframes, (frame < T - t)[:, None] & (frame < T - s)[None, :])
    if JOINTS and t == s:
        column = tl.arange(0, W)
        channel = column // V
        kept = (channel[:, None] == channel[None, :]) & (channel < BC)[None, :]
        # Row (channel, joint) of the parts is the block's row, its columns are a channel's joints.
        part = djoints_ptr + (chunk * tiles + tile) * (BC * V * V)
        tl.store(part + (column[:, None] * V + (column % V)[None, :]), djoints, kept)


@lru_cache
def variants(form: Form) -> tuple[Variant, ...]:
    """The forms of the kernels: forward, that of dx and db, then those of dAs, da and dAt.

    Forward, the last two of the tensors are not read.
    """
    tensors = 'map joints frames a b out x'
    found = [form.variant(_mix, 'mix_forward', f'{tensors} db', BACKWARD=False)]
    found.append(form.variant(_mix, 'mix_backward', tensors, 'db', BACKWARD=True))
    tensors, parts = 'x joints a b dy', 'djoints dframes da'
    names = ['graphs_backward']
    if form.cut(*names) is None:
        names = ['frame_graph_backward', 'joint_graph_backward']
    for name in names:
        makes = dict(FRAMES=name != 'joint_graph_backward', JOINTS=name != 'frame_graph_backward')
        found.append(form.variant(_graphs_backward, name, tensors, parts, **makes))
    return tuple(found)


def mix(x: Tensor, As: Tensor, At: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The mixture of x (N, C, T, V); arguments as in ``mix_reference``, all of one type."""
    x, As, At, a, b = (tensor.contiguous() for tensor in (x, As, At, a, b))
    y = torch.empty_like(x)
    if len(x):
        variants(Form.of(x, As.shape[1]))[0].launch(len(x), x, As, At, a, b, y, x, y)
    return y


def mix_backward(
    dy: Tensor, x: Tensor, As: Tensor, At: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of x, As, At, a and b from dy (N, C, T, V)."""
    (n, c, t, v), heads = x.shape, As.shape[1]
    dy, x, As, At, a, b = (tensor.contiguous() for tensor in (dy, x, As, At, a, b))
    if not n:
        return tuple(map(torch.empty_like, (x, As, At, a, b)))
    _, of_map, *of_graphs = variants(Form.of(x, heads))

    def parts(*size: int) -> Tensor:
        return x.new_empty(n, heads, *size, dtype=torch.float32)

    dx = torch.empty_like(x)
    width = 1 if of_map.constexprs['BC'] == 1 else v
    db = parts(_cuts(of_map)[1], c // heads, width)
    of_map.launch(n, dy, As, At, a, b, dx, x, db)
    dAs = dAt = da = db  # a launch touches only what it makes
    for graph in of_graphs:
        chunks, tiles = _cuts(graph)
        if graph.constexprs['JOINTS']:
            dAs = parts(chunks * tiles * graph.constexprs['BC'], v, v)
            da = parts(tiles, c // heads, v)
        if graph.constexprs['FRAMES']:
            dAt = parts(chunks, t, t)
        graph.launch(n, x, As, a, b, dy, dAs, dAt, da)
    dAt = dAt.sum(2) if dAt.shape[2] > 1 else dAt.squeeze(2)
    da, db = (share.sum((2, 4)).view(n, c).to(x.dtype) for share in (da, db))
    return dx, dAs.sum(2).to(x.dtype), dAt.to(x.dtype), da, db


def _cuts(variant: Variant) -> tuple[int, int]:
    """Into how many parts a form cuts the channels of a head, and the frames."""
    cut = variant.constexprs
    return triton.cdiv(cut['K'], cut['BC'] * cut['STEPS']), triton.cdiv(variant.frames, cut['BT'])
