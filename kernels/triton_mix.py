"""``mix`` in Triton: ``y = x + a·(x·As) + b·(At·x)`` and its gradients.

A block is frames by columns, a column one joint of one of its channels; side by side, the channels
of a head share both products: ``At · block`` as it is, and ``block · As`` with As repeated along a
diagonal, one square a channel.

Forward. A program owns some channels of one head of one sequence and a tile of frames; it reads
those of x once, both graphs once, and writes y once. Where T fits one tile, the block that was read
is a factor of both products.

Backward. With ``z = dy·Asᵀ`` and ``w = Atᵀ·dy``,

    dx  = dy + a·z + b·w            da = Σ x·z          dAs = Σ_c (a x)ᵀ·dy
                                    db = Σ x·w          dAt = Σ_c dy·(b x)ᵀ

so z and w serve twice, and one kernel that reads x and dy once gives all but dAt. Making dx apart
from the rest would read dy again and make z and w twice. dAt needs an accumulator of T × T, a third
of all registers that the other four then lack, so a kernel of its own makes it, a tile a program,
and reads x and dy again. The gradient through the pools is autograd's to add.

Sums over channels and tiles that several programs share are written in parts and added up by
PyTorch in a fixed order, never by atomics: equal runs give equal bits.

The repeated As holds zeros between channels, and 0 · inf is NaN: what is not finite spreads over
the channels of its block, never to another head or sequence. The reference keeps channels apart.

All tensors are contiguous here. Head h of sequence n is row ``g = n·H + h`` of every one of them:
x (G, K, T, V), As (G, V, V), At (G, T, T), a and b (G, K), with K = C / H channels.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from . import blocks
from .signatures import TYPES, Variant, architecture, interpreted, precision
from .triton_parts import columns, dot, load_block


@triton.jit
def _load_frames(ptr, rows, at, T: tl.constexpr):
    """Part of a frame graph (T, T), 0 outside."""
    inside = (rows < T)[:, None] & (at < T)[None, :]
    return tl.load(ptr + (rows[:, None] * T + at[None, :]), inside, 0.0)


@triton.jit
def _load_joints(ptr, V: tl.constexpr, BC: tl.constexpr, W: tl.constexpr):
    """A joint graph (V, V) for BC channels: a square a channel along the diagonal of (W, W)."""
    column = tl.arange(0, W)
    if BC == 1:
        inside = (column < V)[:, None] & (column < V)[None, :]
        return tl.load(ptr + (column[:, None] * V + column[None, :]), inside, 0.0)
    channel = column // V
    inside = (channel[:, None] == channel[None, :]) & (channel < BC)[None, :]
    joint = tl.max_contiguous(column % V, W)
    return tl.load(ptr + ((column % V)[:, None] * V + joint[None, :]), inside, 0.0)


@triton.jit
def _load_share(ptr, channel, inside):
    """Share of each column's channel, (1, columns)."""
    return tl.load(ptr + channel, inside, 0.0).to(tl.float32)[None, :]


@triton.jit
def _mix_forward(
    x_ptr,
    joints_ptr,
    frames_ptr,
    a_ptr,
    b_ptr,
    y_ptr,
    T: tl.constexpr,
    V: tl.constexpr,
    K: tl.constexpr,
    BT: tl.constexpr,
    BS: tl.constexpr,
    BC: tl.constexpr,
    W: tl.constexpr,
    STEPS: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    TILES: tl.constexpr = (T + BT - 1) // BT
    CHUNKS: tl.constexpr = (K + BC * STEPS - 1) // (BC * STEPS)
    program = tl.program_id(0)
    g = (program // (TILES * CHUNKS)).to(tl.int64)
    begin = program // TILES % CHUNKS * (BC * STEPS)
    t = program % TILES * BT + tl.arange(0, BT)
    graph = frames_ptr + g * (T * T)
    joints = _load_joints(joints_ptr + g * (V * V), V, BC, W)
    if TILES == 1:
        frames = _load_frames(graph, t, t, T)
    for first in range(begin, tl.minimum(K, begin + BC * STEPS), BC):
        start = g * K + first
        plane = x_ptr + start * (T * V)
        channel, at, inside = columns(first, T, V, K, BC, W)
        x = load_block(plane, t, at, inside, T, V)
        if TILES == 1:
            yt = dot(frames, x, None, PRECISION, UPCAST)
        else:
            yt = tl.zeros((BT, W), tl.float32)
            for source in range(0, T, BS):
                s = source + tl.arange(0, BS)
                frames = _load_frames(graph, t, s, T)
                yt = dot(frames, load_block(plane, s, at, inside, T, V), yt, PRECISION, UPCAST)
        ys = dot(x, joints, None, PRECISION, UPCAST)
        a = _load_share(a_ptr + start, channel, inside)
        b = _load_share(b_ptr + start, channel, inside)
        y = x.to(tl.float32) + a * ys + b * yt
        tl.store(
            y_ptr + start * (T * V) + (t[:, None] * V + at[None, :]),
            y,
            (t < T)[:, None] & inside[None, :],
        )


@triton.jit
def _mix_backward(
    x_ptr,
    joints_ptr,
    frames_ptr,
    a_ptr,
    b_ptr,
    dy_ptr,
    dx_ptr,
    djoints_ptr,
    da_ptr,
    db_ptr,
    T: tl.constexpr,
    V: tl.constexpr,
    K: tl.constexpr,
    BT: tl.constexpr,
    BS: tl.constexpr,
    BC: tl.constexpr,
    W: tl.constexpr,
    STEPS: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Writes dx, and parts: djoints (G, chunks, tiles, BC, V, V), da and db (G, tiles, K, V)."""
    TILES: tl.constexpr = (T + BT - 1) // BT
    CHUNKS: tl.constexpr = (K + BC * STEPS - 1) // (BC * STEPS)
    program = tl.program_id(0)
    g = (program // (TILES * CHUNKS)).to(tl.int64)
    begin = program // TILES % CHUNKS * (BC * STEPS)
    tile = program % TILES
    t = tile * BT + tl.arange(0, BT)
    graph = frames_ptr + g * (T * T)
    joints = _load_joints(joints_ptr + g * (V * V), V, BC, W)
    djoints = tl.zeros((W, W), tl.float32)
    if TILES == 1:
        frames = _load_frames(graph, t, t, T)
    for first in range(begin, tl.minimum(K, begin + BC * STEPS), BC):
        start = g * K + first
        plane = dy_ptr + start * (T * V)
        channel, at, inside = columns(first, T, V, K, BC, W)
        dy = load_block(plane, t, at, inside, T, V)
        x = load_block(x_ptr + start * (T * V), t, at, inside, T, V)
        if TILES == 1:
            w = dot(tl.trans(frames), dy, None, PRECISION, UPCAST)
        else:
            w = tl.zeros((BT, W), tl.float32)
            for source in range(0, T, BS):
                s = source + tl.arange(0, BS)
                frames = tl.trans(_load_frames(graph, s, t, T))
                w = dot(frames, load_block(plane, s, at, inside, T, V), w, PRECISION, UPCAST)
        z = dot(dy, tl.trans(joints), None, PRECISION, UPCAST)
        a = _load_share(a_ptr + start, channel, inside)
        b = _load_share(b_ptr + start, channel, inside)
        scaled = (a * x.to(tl.float32)).to(x.dtype)
        # All pairs of channels; those of a channel with itself are kept in the end.
        djoints = dot(tl.trans(scaled), dy, djoints, PRECISION, UPCAST)
        tl.store(
            dx_ptr + start * (T * V) + (t[:, None] * V + at[None, :]),
            dy.to(tl.float32) + a * z + b * w,
            (t < T)[:, None] & inside[None, :],
        )
        part = ((g * TILES + tile) * K + first) * V + tl.arange(0, W)
        tl.store(da_ptr + part, tl.sum(x.to(tl.float32) * z, 0), inside)
        tl.store(db_ptr + part, tl.sum(x.to(tl.float32) * w, 0), inside)
    column = tl.arange(0, W)
    channel = column // V
    kept = (channel[:, None] == channel[None, :]) & (channel < BC)[None, :]
    # Row (channel, joint) of the parts is the block's row; its columns are the joints of a channel.
    part = (program.to(tl.int64) * (BC * V)) * V
    tl.store(djoints_ptr + part + (column[:, None] * V + (column % V)[None, :]), djoints, kept)


@triton.jit
def _frame_graph(
    x_ptr,
    b_ptr,
    dy_ptr,
    dframes_ptr,
    T: tl.constexpr,
    V: tl.constexpr,
    K: tl.constexpr,
    BT: tl.constexpr,
    BC: tl.constexpr,
    W: tl.constexpr,
    STEPS: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Writes parts: dframes (G, chunks, T, T); a program makes one tile of one part."""
    TILES: tl.constexpr = (T + BT - 1) // BT
    CHUNKS: tl.constexpr = (K + BC * STEPS - 1) // (BC * STEPS)
    program = tl.program_id(0)
    chunk = (program // (TILES * TILES)).to(tl.int64)
    g = chunk // CHUNKS
    begin = program // (TILES * TILES) % CHUNKS * (BC * STEPS)
    t = program // TILES % TILES * BT + tl.arange(0, BT)
    s = program % TILES * BT + tl.arange(0, BT)
    dframes = tl.zeros((BT, BT), tl.float32)
    for first in range(begin, tl.minimum(K, begin + BC * STEPS), BC):
        start = g * K + first
        channel, at, inside = columns(first, T, V, K, BC, W)
        dy = load_block(dy_ptr + start * (T * V), t, at, inside, T, V)
        x = load_block(x_ptr + start * (T * V), s, at, inside, T, V)
        b = _load_share(b_ptr + start, channel, inside)
        scaled = (b * x.to(tl.float32)).to(x.dtype)
        dframes = dot(dy, tl.trans(scaled), dframes, PRECISION, UPCAST)
    at = dframes_ptr + chunk * (T * T) + (t[:, None] * T + s[None, :])
    tl.store(at, dframes, (t < T)[:, None] & (s < T)[None, :])


def _variant(
    kernel,
    name: str,
    cut: blocks.Blocks,
    tensors: str,
    parts: str,
    sizes: tuple[torch.dtype, int, int, int, int, str],
    product: str,
    interpret: bool,
    squared: bool = False,
) -> Variant:
    """A form of a kernel: ``parts`` are float32, the other ``tensors`` of the map's type."""
    dtype, T, V, K, H, arch = sizes
    channels = cut.channels(V)
    constexprs = dict(T=T, V=V, K=K, BT=cut.frames, BS=cut.sources, BC=channels, W=cut.columns)
    constexprs |= dict(STEPS=cut.steps, PRECISION=product, UPCAST=interpret)
    constexprs = {k: value for k, value in constexprs.items() if k in kernel.arg_names}
    pointers = {f'{tensor}_ptr': '*' + TYPES[dtype] for tensor in tensors.split()}
    pointers |= {f'{tensor}_ptr': '*fp32' for tensor in parts.split()}
    tiles = triton.cdiv(T, cut.frames)
    return Variant(
        name=name,
        kernel=kernel,
        signature=pointers | dict.fromkeys(constexprs, 'constexpr'),
        constexprs=constexprs,
        num_warps=cut.warps,
        num_stages=cut.stages,
        programs=H * triton.cdiv(K, channels * cut.steps) * tiles ** (2 if squared else 1),
    )


@lru_cache
def forward_variant(
    dtype: torch.dtype,
    T: int,
    V: int,
    K: int,
    H: int,
    arch: str,
    product: str,
    interpret: bool = False,
) -> Variant:
    """The form of the forward kernel for x (N, H·K, T, V)."""
    cut = blocks.mix_forward(dtype, T, V, K, arch)
    sizes = dtype, T, V, K, H, arch
    tensors = 'x joints frames a b y'
    return _variant(_mix_forward, 'mix_forward', cut, tensors, '', sizes, product, interpret)


@lru_cache
def backward_variants(
    dtype: torch.dtype,
    T: int,
    V: int,
    K: int,
    H: int,
    arch: str,
    product: str,
    interpret: bool = False,
) -> tuple[Variant, Variant]:
    """The forms of both backward kernels: all gradients but that of At, and that of At."""
    sizes = dtype, T, V, K, H, arch
    cut = blocks.mix_backward(dtype, T, V, K, arch)
    tensors = 'x joints frames a b dy dx'
    how = sizes, product, interpret
    most = _variant(_mix_backward, 'mix_backward', cut, tensors, 'djoints da db', *how)
    cut = blocks.frame_graph(dtype, T, V, K, arch)
    graph = _variant(_frame_graph, 'frame_graph_backward', cut, 'x b dy', 'dframes', *how, True)
    return most, graph


def _key(x: torch.Tensor, heads: int) -> tuple:
    """Arguments of the variants for a feature map."""
    _, c, t, v = x.shape
    arch = architecture(x.device)
    return x.dtype, t, v, c // heads, heads, arch, precision(x.dtype, arch), interpreted()


def mix(
    x: torch.Tensor, As: torch.Tensor, At: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """The mixture of x (N, C, T, V); arguments as in ``mix_reference``, all of one type."""
    x, As, At, a, b = (tensor.contiguous() for tensor in (x, As, At, a, b))
    y = torch.empty_like(x)
    if len(x):
        forward_variant(*_key(x, As.shape[1])).launch(len(x), x, As, At, a, b, y)
    return y


def mix_backward(
    dy: torch.Tensor,
    x: torch.Tensor,
    As: torch.Tensor,
    At: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, As, At, a and b from dy (N, C, T, V)."""
    n, c, t, v = x.shape
    heads = As.shape[1]
    dy, x, As, At, a, b = (tensor.contiguous() for tensor in (dy, x, As, At, a, b))
    if not n:
        return tuple(torch.empty_like(tensor) for tensor in (x, As, At, a, b))
    most, graph = backward_variants(*_key(x, heads))
    dx = torch.empty_like(x)
    tiles = triton.cdiv(t, most.constexprs['BT'])
    squares = most.programs // heads * most.constexprs['BC']
    dAs = x.new_empty(n, heads, squares, v, v, dtype=torch.float32)
    da, db = (x.new_empty(n, heads, tiles, c // heads, v, dtype=torch.float32) for _ in range(2))
    most.launch(n, x, As, At, a, b, dy, dx, dAs, da, db)

    chunks = graph.programs // heads // triton.cdiv(t, graph.constexprs['BT']) ** 2
    dAt = x.new_empty(n, heads, chunks, t, t, dtype=torch.float32)
    graph.launch(n, x, b, dy, dAt)
    da, db = (parts.sum((2, 4)).view(n, c).to(x.dtype) for parts in (da, db))
    dAt = dAt.sum(2) if chunks > 1 else dAt.squeeze(2)
    return dx, dAs.sum(2).to(x.dtype), dAt.to(x.dtype), da, db
