"""One form of a Triton kernel, to be launched or compiled ahead; needs neither Triton nor a GPU.

Every kernel sees a feature map as frames by columns: the joints of several channels side by side,
as many as fit, so that an odd number of joints wastes little of a block. ``blocks.json`` says for a
chip, bits of the type and a number of joints how a kernel cuts its work up to how many frames T;
these bounds are powers of two, so that clips of similar lengths share a compilation. The choice was
made without a GPU, by counting the instructions of what the compiler made of each, and nothing for
a listed shape spills on sm_80 or sm_90 (``aot.py``); ``NOTES.md`` has what was tried.
"""

import json
import os
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

#: What Triton calls the types of the feature map.
TYPES = {torch.float32: 'fp32', torch.bfloat16: 'bf16', torch.float16: 'fp16'}
#: What to do without a GPU.
INTERPRETER = 'Triton needs CUDA tensors, or TRITON_INTERPRET=1 set before it is imported'
#: Architecture whose block shapes are used under the interpreter.
INTERPRETED_AS = 'sm_90'
#: Channels that share a block at most, however few joints there are.
MOST_CHANNELS = 16

# {kernel: {'chip bits joints': {T up to: cut}}}; what has no row of its own for 16 joints takes
# that for 32. A cut is (frames, sources, warps) of `mix`, (frames, columns, warps) of its graphs'
# gradients, and warps alone of `pool`, of any chip and T.
_TABLES = json.loads(Path(__file__).with_name('blocks.json').read_text())
_TABLES['mix_backward'] = _TABLES['mix_forward'] | _TABLES['mix_backward']

_launches: Counter[str] = Counter()


@dataclass(frozen=True)
class Variant:
    """One form of one kernel; its launches are counted, so that one can tell which path ran."""

    name: str  # what it does, e.g. ``'mix_forward'``; the key in :func:`launches`
    kernel: Any  # the ``@triton.jit`` function
    signature: dict[str, str]  # type of every argument, in order; ``'constexpr'`` of compile time
    constexprs: dict[str, Any]  # values of the compile-time arguments
    num_warps: int  # of a program
    programs: int  # that a launch needs for each batch row: its grid is N times this
    frames: int  # T, an argument at run time, no part of what is compiled

    @property
    def attrs(self) -> dict[tuple[int], list[list]]:
        """Alignment of the pointers, as the launcher finds it on fresh tensors (16 bytes)."""
        kinds = enumerate(self.signature.values())
        return {(i,): [['tt.divisibility', 16]] for i, kind in kinds if kind.startswith('*')}

    @property
    def key(self) -> tuple:
        """What is compiled: variants with equal keys share one compilation."""
        constants = tuple(sorted(self.constexprs.items()))
        return self.name, tuple(self.signature.values()), constants, *self.options.values()

    @property
    def options(self) -> dict[str, Any]:
        """Options for Triton's compiler; said in full, because its defaults change."""
        return dict(num_warps=self.num_warps, num_stages=1, enable_fp_fusion=True)

    def launch(self, rows: int, *tensors: torch.Tensor) -> None:
        """Run over ``rows`` batch rows; tensors in the order of the signature's pointers."""
        device = tensors[0].device
        elsewhere = device.type == 'cuda' and device.index != torch.cuda.current_device()
        with torch.cuda.device(device) if elsewhere else nullcontext():
            run = self.kernel[(rows * self.programs,)]
            run(*tensors, self.frames, **self.constexprs, **self.options)
        _launches[self.name] += 1


class Form(NamedTuple):
    """What a kernel is made for: feature maps (N, heads · channels, T, V) of one type and chip."""

    dtype: torch.dtype
    T: int
    V: int
    channels: int
    heads: int
    arch: str
    product: str  # how float32 is multiplied, see :func:`precision`
    interpret: bool = False  # whether Triton's interpreter runs it

    @classmethod
    def of(cls, x: torch.Tensor, heads: int = 1) -> 'Form':
        """The form for a feature map x (N, C, T, V)."""
        _, c, t, v = x.shape
        arch = architecture(x.device)
        how = arch, precision(x.dtype, arch), interpreted()
        return cls(x.dtype, t, v, c // heads, heads, *how)

    def cut(self, name: str) -> tuple[int, int, int, int, int] | None:
        """How a kernel cuts its work; None where it would take too many registers.

        Frames of a program's tile; frames that a product over frames sums over at a time (where
        these reach all T, a program keeps its rows of the frame graph for all of its channels);
        columns of a block, each a joint of one of its channels; blocks of columns that a program
        does one after another; and its warps.
        """
        width, bits = _padded(self.V), 8 * self.dtype.itemsize
        columns = max(32, width)
        if name.startswith('pool'):
            warps = _TABLES['pool'][f'{bits} {width}']
            return min(_padded(self.T), 64), 0, columns, 1, warps
        table, kind = _TABLES[name], f'{"sm_90" if self.arch == "sm_90" else "other"} {bits}'
        rows = table.get(f'{kind} {width}') or table.get(f'{kind} {columns}', {})
        cut = next((cut for most, cut in rows.items() if self.T <= int(most)), None)
        if cut is None:
            return None
        frames, own, warps = cut
        if name.startswith('mix'):
            return frames, own, columns, 8, warps
        # Parts of T × T each are written and added up: few, and as many as keep a GPU busy.
        return frames, 0, own, 16 if self.T <= 128 else 64, warps

    def variant(
        self, kernel: Any, name: str, tensors: str, parts: str = '', **switches: bool
    ) -> Variant:
        """A kernel in this form, with what it asks for as compile-time arguments.

        ``parts`` are float32, the other ``tensors`` of the map's type. A kernel without the switch
        ``ONE`` goes through all frames.
        """
        frames, sources, columns, steps, warps = self.cut(name)
        channels = min(columns // self.V, MOST_CHANNELS)
        # In the order of the kernels' arguments.
        sizes = dict(V=self.V, K=self.channels, BT=frames, BS=sources, BC=channels)
        sizes |= dict(ONE=frames >= self.T, HELD=sources >= self.T, STEPS=steps)
        sizes |= dict(W=columns, **switches, PRECISION=self.product, UPCAST=self.interpret)
        constexprs = {k: value for k, value in sizes.items() if k in kernel.arg_names}
        kinds = {f'{tensor}_ptr': '*' + TYPES[self.dtype] for tensor in tensors.split()}
        kinds |= {f'{tensor}_ptr': '*fp32' for tensor in parts.split()}
        kinds |= dict(T='i32') | dict.fromkeys(constexprs, 'constexpr')
        tiles = -(-self.T // frames) if 'ONE' in constexprs else 1
        tiles **= 2 if switches.get('FRAMES') else 1
        programs = self.heads * -(-self.channels // (channels * steps)) * tiles
        return Variant(name, kernel, kinds, constexprs, warps, programs, self.T)


def _padded(size: int) -> int:
    """The power of two, at least 16, that a matrix product takes for ``size``."""
    return max(16, 1 << (size - 1).bit_length())


def launches() -> dict[str, int]:
    """How often each kernel was launched since the start or the last :func:`reset_launches`."""
    return dict(_launches)


def reset_launches() -> None:
    """Start counting launches anew."""
    _launches.clear()


def interpreted() -> bool:
    """Whether Triton's kernels run under its interpreter (``TRITON_INTERPRET=1``)."""
    return os.environ.get('TRITON_INTERPRET', '0').lower() in ('1', 'true', 'on', 'y', 'yes')


def architecture(device: torch.device) -> str:
    """``'sm_90'``, ``'gfx942'``, …: what a device's kernels are compiled for."""
    if device.type != 'cuda':
        return INTERPRETED_AS
    if torch.version.hip:
        return torch.cuda.get_device_properties(device).gcnArchName.split(':')[0]
    return 'sm_{}{}'.format(*torch.cuda.get_device_capability(device))


def precision(dtype: torch.dtype, arch: str) -> str:
    """How float32 is multiplied: in three TF32 parts where there are TF32 units, else as it is.

    Three parts keep the error at 2e-7; one alone leaves 3e-4 and is taken where PyTorch was told
    to: by ``torch.set_float32_matmul_precision('high')``,
    ``torch.backends.cuda.matmul.allow_tf32 = True``, or ``.fp32_precision = 'tf32'`` there.
    """
    if dtype != torch.float32 or not arch.startswith('sm_'):
        return 'ieee'
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, 'fp32_precision'):  # since 2.9; reading the old flag may raise there
        return 'tf32' if matmul.fp32_precision == 'tf32' else 'tf32x3'
    return 'tf32' if matmul.allow_tf32 else 'tf32x3'
