"""How the Triton kernels cut their work: a small table, and a rule for what is not in it.

Every kernel sees a feature map as frames by columns: the joints of several channels side by side,
as many as fit, so that an odd number of joints wastes little of a block. Keyed on frames, joints,
channels of a head and type; the choice is a function of these alone. No choice for a listed shape
spills on sm_80 or sm_90 (``aot.py``); what was tried stands in ``NOTES.md``.
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
        sources: Frames summed over at a time where the tile is smaller than T.
        columns: Columns of a block, each a joint of one of its channels.
        steps: Blocks of columns that a program does one after another, its graphs at hand.
        warps: Warps of a program.
        stages: Depth of the software pipeline.
    """

    frames: int
    sources: int
    columns: int
    steps: int
    warps: int
    stages: int = 1

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
    columns = _columns(V)
    if dtype == torch.float32:
        if columns == 32:
            return Blocks(min(padded(T), 64), min(padded(T), 32), columns, 4, 4)
        frames = 64 if arch == 'sm_90' else 32
        return Blocks(min(padded(T), frames), 16, columns, 4, 8)
    if T <= 128:
        return Blocks(padded(T), padded(T), columns, 4, 4 if columns == 32 else 8)
    return Blocks(128, 64, columns, 4, 8)


def mix_backward(dtype: torch.dtype, T: int, V: int, K: int, arch: str) -> Blocks:
    """Blocks of the gradients of x, As, a and b for the K channels of a head."""
    columns = _columns(V)
    if dtype == torch.float32:
        # Three-part TF32 takes the most registers; larger tiles spill, on one chip or the other.
        if columns == 32:
            return Blocks(16, 16, columns, 8, 4)
        if arch == 'sm_90':
            return Blocks(16, 16, columns, 8, 8)
        return Blocks(16, 16, columns, 1, 8, stages=2)
    if T <= 128 and columns == 32 and arch == 'sm_90':
        return Blocks(padded(T), padded(T), columns, 8, 8)
    return Blocks(min(padded(T), 64), min(padded(T), 64), columns, 8, 8)


def frame_graph(dtype: torch.dtype, T: int, V: int, K: int, arch: str) -> Blocks:
    """Blocks of the gradient of At for the K channels of a head."""
    if dtype == torch.float32 and arch != 'sm_90':
        columns = _columns(V)
        return Blocks(min(padded(T), 32), 0, columns, 8, 4 if columns == 32 else 8)
    if dtype != torch.float32 and T > 128:
        # Many tiles keep a GPU busy; fewer parts of T × T each are written and added up.
        return Blocks(128, 0, _columns(V), 32, 8)
    frames = 64 if dtype == torch.float32 else 128
    return Blocks(min(padded(T), frames), 0, max(64, padded(V)), 8, 8)


def pool_forward(dtype: torch.dtype, T: int, V: int, C: int, arch: str) -> Blocks:
    """Blocks of ``pool`` for all C channels; a program goes through all their frames."""
    return Blocks(min(padded(T), 64), 0, _columns(V), 1, 4)
