"""How the Triton kernels cut their work.

Every kernel sees a feature map as frames by columns: the joints of several channels side by side,
as many as fit, so that an odd number of joints wastes little of a block. The choice is a function
of frames, joints, channels of a head, type and chip. It was made without a GPU, by counting the
instructions of what the compiler made of each, and no choice for a
listed shape spills on sm_80 or sm_90 (``aot.py``); ``NOTES.md`` has what was tried.
"""

from dataclasses import dataclass

import torch

#: Channels that share a block at most, however few joints there are.
MOST_CHANNELS = 16


@dataclass(frozen=True)
class Blocks:
    """How a kernel cuts its work.

    Attributes:
        frames: Frames of a program's tile; all of T where they reach it.
        sources: Frames that a product over frames sums over at a time; all of T where the tile is.
        columns: Columns of a block, each a joint of one of its channels.
        steps: Blocks of columns that a program does one after another, its graphs at hand.
        warps: Warps of a program.
        stages: Depth of the software pipeline.
        rest: Frames beside ``sources`` that a program holds.
    """

    frames: int
    sources: int
    columns: int
    steps: int
    warps: int
    stages: int = 1
    rest: int = 0

    def keeps(self, T: int) -> bool:
        """Whether a program holds all T frames of its channels and goes through all tiles."""
        return self.sources + self.rest >= T

    def channels(self, V: int) -> int:
        """Channels of a block."""
        return min(self.columns // V, MOST_CHANNELS)


def padded(size: int) -> int:
    """The power of two, at least 16, that a matrix product takes for ``size``."""
    return max(16, 1 << (size - 1).bit_length())


def _columns(V: int) -> int:
    """Columns of a block: one channel's joints, or several channels' where these are few."""
    return max(32, padded(V))


def mix_forward(dtype: torch.dtype, T: int, V: int, K: int, arch: str) -> Blocks:
    """Blocks of the forward of ``mix`` for the K channels of a head."""
    columns, whole = _columns(V), padded(T)
    if dtype == torch.float32:
        if whole <= 128 and 16 < V <= 32 and arch == 'sm_90':
            return Blocks(whole, whole, columns, 8, {16: 1, 32: 1, 64: 4, 128: 8}[whole])
        return _few_frames(T, columns, arch)
    if whole <= 128:
        return Blocks(whole, whole, columns, 8, max(1, whole // 32 * columns // 32))
    if T <= 512 and columns == 32 and arch == 'sm_90':
        # Rows of an odd number of joints are slow to read: a program reads those of its channels
        # once or twice, not once a tile.
        if T <= 256:
            return Blocks(256, 256, columns, 8, 8)
        return Blocks(64, 256, columns, 8, 4, rest=padded(T - 256))
    return Blocks(64, 64, columns, 8, 4 if arch == 'sm_90' else 8)


def _few_frames(T: int, columns: int, arch: str) -> Blocks:
    """Blocks for float32, whose products in three parts take the most registers."""
    frames = min(padded(T), 64 if arch == 'sm_90' and (T > 64 or columns == 32) else 32)
    sources = frames if T <= frames else 16
    return Blocks(frames, sources, columns, 8, 4 if columns == 32 or arch == 'sm_90' else 8)


def mix_backward(dtype: torch.dtype, T: int, V: int, K: int, arch: str) -> Blocks:
    """Blocks of the gradients of x and b for the K channels of a head."""
    if dtype == torch.float32 and T > 64:
        return _few_frames(T, _columns(V), arch)
    return mix_forward(dtype, T, V, K, arch)


def graphs_backward(
    dtype: torch.dtype, T: int, V: int, K: int, arch: str
) -> dict[tuple[bool, bool], Blocks]:
    """Blocks of the gradients of both graphs and of a for the K channels of a head.

    A launch makes what its key names, (the frame graph's, the joint graph's and that of a): two
    launches where both together take too many registers.
    """
    columns, whole = _columns(V), padded(T)
    # Parts of T × T each are written and added up: few, and as many as keep a GPU busy.
    steps = 16 if T <= 128 else 64
    if dtype != torch.float32 and whole <= 128 and arch == 'sm_90':
        if whole <= 32:
            return {(True, True): Blocks(whole, 0, columns, steps, 1 if columns == 32 else 4)}
        return {(True, True): Blocks(whole, 0, 64, steps, whole // 16)}
    if dtype == torch.float32:
        frames, wide = min(whole, 128 if arch == 'sm_90' else 32), columns
        warps = 4 if frames < 128 else 8
    else:
        frames, wide = min(whole, 128), 128 if arch == 'sm_90' else 64
        warps = max(1, frames // 16)
    tile = min(whole, 64 if columns == 32 or arch == 'sm_90' else 32)
    few = max(1, tile // 32) if columns == 32 else 4
    return {
        (True, False): Blocks(frames, 0, wide, steps, warps),
        (False, True): Blocks(tile, 0, columns, steps, few if arch == 'sm_90' else 2 * few),
    }


def pool(dtype: torch.dtype, T: int, V: int, C: int, arch: str) -> Blocks:
    """Blocks of ``pool``, both ways, for all C channels; a program goes through their frames."""
    columns = _columns(V)
    warps = columns // (16 if dtype == torch.float32 else 32)
    return Blocks(min(padded(T), 64), 0, columns, 1, warps)
