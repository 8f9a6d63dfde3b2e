"""How the Triton kernels cut their work: one table a kernel.

Every kernel sees a feature map as frames by columns: the joints of several channels side by side,
as many as fit, so that an odd number of joints wastes little of a block. A table says for a chip,
a type and a number of joints what is taken up to how many frames T; these bounds are powers of two,
so that clips of similar lengths share a compilation. The choice was made without a GPU, by counting
the instructions of what the compiler made of each, and nothing for a listed shape spills on sm_80
or sm_90 (``aot.py``); ``NOTES.md`` has what was tried.
"""

from dataclasses import dataclass

from .signatures import Form

#: Channels that share a block at most, however few joints there are.
MOST_CHANNELS = 16


@dataclass(frozen=True)
class Blocks:
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


# (chip, bits of the type, V up to): {T up to: (frames, sources, warps)}; what has no row of its own
# for 16 joints takes that for 32.
_HALF_ON_SM_90 = {
    ('sm_90', 16, 16): {
        16: (16, 16, 1), 32: (32, 32, 1), 64: (64, 64, 4), 128: (128, 128, 8),
        256: (128, 256, 8), 1024: (128, 32, 8),
    },
    ('sm_90', 16, 32): {
        16: (16, 16, 1), 32: (32, 32, 1), 64: (64, 64, 2), 128: (128, 128, 4),
        256: (128, 256, 8), 512: (64, 512, 8), 1024: (128, 32, 8),
    },
    ('sm_90', 16, 64): {
        16: (16, 16, 1), 32: (32, 32, 2), 64: (64, 64, 4), 128: (128, 128, 8), 1024: (64, 64, 8),
    },
}  # fmt: skip
_ON_OTHERS = {
    ('other', 16, 32): {
        16: (16, 16, 1), 32: (32, 32, 1), 64: (64, 64, 2), 128: (128, 128, 4), 1024: (64, 64, 8),
    },
    ('other', 16, 64): {
        16: (16, 16, 1), 32: (32, 32, 2), 64: (64, 64, 4), 128: (128, 128, 8), 1024: (64, 64, 8),
    },
    ('other', 32, 32): {16: (16, 16, 4), 32: (32, 32, 4), 1024: (32, 16, 4)},
    ('other', 32, 64): {16: (16, 16, 8), 32: (32, 32, 8), 1024: (32, 16, 8)},
}  # fmt: skip
MIX_FORWARD = {
    **_HALF_ON_SM_90,
    ('sm_90', 32, 32): {
        16: (16, 16, 1), 32: (32, 32, 1), 64: (64, 64, 4), 128: (128, 128, 8), 1024: (64, 16, 4),
    },
    ('sm_90', 32, 16): {16: (16, 16, 4), 32: (32, 32, 4), 64: (64, 64, 4), 1024: (64, 16, 4)},
    ('sm_90', 32, 64): {16: (16, 16, 4), 32: (32, 32, 4), 64: (32, 16, 4), 1024: (64, 16, 4)},
    **_ON_OTHERS,
}  # fmt: skip
MIX_BACKWARD = MIX_FORWARD | {
    ('sm_90', 32, 16): {16: (16, 16, 4), 32: (32, 32, 8), 64: (64, 64, 4), 1024: (64, 16, 4)},
    ('sm_90', 32, 32): {16: (16, 16, 1), 32: (32, 32, 2), 64: (64, 64, 4), 1024: (64, 16, 4)},
}

# (chip, bits of the type, V up to): {T up to: (frames, columns, warps)}
#: Both graphs' gradients in one launch; where a type is missing, both together take too many
#: registers, and each has a launch of its own.
GRAPHS_BACKWARD = {
    ('sm_90', 16, 32): {16: (16, 32, 1), 32: (32, 32, 1), 64: (64, 64, 8), 128: (128, 64, 8)},
    ('sm_90', 16, 64): {16: (16, 64, 4), 32: (32, 64, 4), 64: (64, 64, 4), 128: (128, 64, 8)},
}
_FRAMES_OF_HALF = {16: (16, 64, 1), 32: (32, 64, 2), 64: (64, 64, 4), 1024: (128, 64, 8)}
FRAME_GRAPH_BACKWARD = {
    ('sm_90', 16, 32): {1024: (128, 128, 8)},
    ('sm_90', 16, 64): {1024: (128, 128, 8)},
    ('sm_90', 32, 32): {16: (16, 32, 4), 32: (32, 32, 4), 64: (64, 32, 4), 1024: (128, 32, 8)},
    ('sm_90', 32, 64): {16: (16, 64, 4), 32: (32, 64, 4), 64: (64, 64, 4), 1024: (128, 64, 8)},
    ('other', 16, 32): _FRAMES_OF_HALF,
    ('other', 16, 64): _FRAMES_OF_HALF,
    ('other', 32, 32): {16: (16, 32, 4), 1024: (32, 32, 4)},
    ('other', 32, 64): {16: (16, 64, 4), 1024: (32, 64, 4)},
}
JOINT_GRAPH_BACKWARD = {
    (chip, bits, columns): cuts
    for bits in (16, 32)
    for (chip, columns), cuts in {
        ('sm_90', 32): {16: (16, 32, 1), 32: (32, 32, 1), 1024: (64, 32, 2)},
        ('sm_90', 64): {16: (16, 64, 4), 32: (32, 64, 4), 1024: (64, 64, 4)},
        ('other', 32): {16: (16, 32, 2), 32: (32, 32, 2), 1024: (64, 32, 4)},
        ('other', 64): {16: (16, 64, 8), 1024: (32, 64, 8)},
    }.items()
}

# (bits of the type, V up to): warps
POOL = {(16, 16): 2, (16, 32): 1, (16, 64): 4, (32, 16): 2, (32, 32): 2, (32, 64): 4}


def _padded(size: int) -> int:
    """The power of two, at least 16, that a matrix product takes for ``size``."""
    return max(16, 1 << (size - 1).bit_length())


def _look_up(table: dict, form: Form) -> tuple | None:
    """What a table has, None where it has nothing."""
    kind = 'sm_90' if form.arch == 'sm_90' else 'other', 8 * form.dtype.itemsize
    rows = table.get((*kind, _padded(form.V))) or table.get((*kind, max(32, _padded(form.V))), {})
    return next((cut for most, cut in rows.items() if form.T <= most), None)


def mix(table: dict, form: Form) -> Blocks:
    """Blocks of ``MIX_FORWARD`` or of ``MIX_BACKWARD``, the gradients of x and b."""
    frames, sources, warps = _look_up(table, form)
    return Blocks(frames, sources, max(32, _padded(form.V)), 8, warps)


def graphs_backward(form: Form) -> dict[tuple[bool, bool], Blocks]:
    """Blocks of the gradients of both graphs and of a.

    A launch makes what its key names, (the frame graph's, the joint graph's and that of a).
    """
    # Parts of T × T each are written and added up: few, and as many as keep a GPU busy.
    steps = 16 if form.T <= 128 else 64
    found = {(True, True): _look_up(GRAPHS_BACKWARD, form)}
    if found[True, True] is None:
        alone = {(True, False): FRAME_GRAPH_BACKWARD, (False, True): JOINT_GRAPH_BACKWARD}
        found = {key: _look_up(table, form) for key, table in alone.items()}
    return {
        key: Blocks(frames, 0, columns, steps, warps)
        for key, (frames, columns, warps) in found.items()
    }


def pool(form: Form) -> Blocks:
    """Blocks of ``pool``, both ways, for all channels; a program goes through their frames."""
    width = _padded(form.V)
    warps = POOL[8 * form.dtype.itemsize, width]
    return Blocks(min(_padded(form.T), 64), 0, max(32, width), 1, warps)
