"""How the Triton kernels cut their work, by ``blocks.json``: a table a kernel.

Every kernel sees a feature map as frames by columns: the joints of several channels side by side,
as many as fit, so that an odd number of joints wastes little of a block. A table says for a chip,
bits of the type and a number of joints what is taken up to how many frames T; these bounds are
powers of two, so that clips of similar lengths share a compilation. The choice was made without a
GPU, by counting the instructions of what the compiler made of each, and nothing for a listed shape
spills on sm_80 or sm_90 (``aot.py``); ``NOTES.md`` has what was tried.
"""

import json
from pathlib import Path
from typing import NamedTuple

from .signatures import Form

#: Channels that share a block at most, however few joints there are.
MOST_CHANNELS = 16

# {kernel: {'chip bits joints': {T up to: cut}}}; what has no row of its own for 16 joints takes
# that for 32. A cut is (frames, sources, warps) of `mix`, (frames, columns, warps) of its graphs'
# gradients, and warps alone of `pool`, of any chip and T.
_TABLES = json.loads(Path(__file__).with_name('blocks.json').read_text())
_TABLES['mix_backward'] = _TABLES['mix_forward'] | _TABLES['mix_backward']


class Blocks(NamedTuple):
    """How a kernel cuts its work."""

    frames: int  # of a program's tile
    #: Frames that a product over frames sums over at a time; where these reach all T, a program
    #: keeps its rows of the frame graph for all of its channels.
    sources: int
    columns: int  # of a block, each a joint of one of its channels
    steps: int  # blocks of columns that a program does one after another
    warps: int  # of a program

    def channels(self, V: int) -> int:
        """Channels of a block."""
        return min(self.columns // V, MOST_CHANNELS)


def _padded(size: int) -> int:
    """The power of two, at least 16, that a matrix product takes for ``size``."""
    return max(16, 1 << (size - 1).bit_length())


def blocks(kernel: str, form: Form) -> Blocks | None:
    """Blocks of a kernel; None where the table has nothing, for it would take too many registers.

    ``'mix_backward'`` makes the gradients of x and b, ``'graphs_backward'`` those of both graphs
    and of a, ``'frame_graph_backward'`` and ``'joint_graph_backward'`` do that in two launches;
    ``'pool'``, either way, does all channels, and a program goes through their frames.
    """
    width, bits = _padded(form.V), 8 * form.dtype.itemsize
    columns = max(32, width)
    if kernel == 'pool':
        warps = _TABLES['pool'][f'{bits} {width}']
        return Blocks(min(_padded(form.T), 64), 0, columns, 1, warps)
    table, kind = _TABLES[kernel], f'{"sm_90" if form.arch == "sm_90" else "other"} {bits}'
    rows = table.get(f'{kind} {width}') or table.get(f'{kind} {columns}', {})
    cut = next((cut for most, cut in rows.items() if form.T <= int(most)), None)
    if cut is None:
        return None
    frames, own, warps = cut
    if kernel.startswith('mix'):
        return Blocks(frames, own, columns, 8, warps)
    # Parts of T × T each are written and added up: few, and as many as keep a GPU busy.
    return Blocks(frames, 0, own, 16 if form.T <= 128 else 64, warps)
