"""One form of a Triton kernel, to be launched or compiled ahead; needs neither Triton nor a GPU."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

#: What Triton calls the types of the feature map.
TYPES = {torch.float32: 'fp32', torch.bfloat16: 'bf16', torch.float16: 'fp16'}
#: What to do without a GPU.
INTERPRETER = 'Triton needs CUDA tensors, or TRITON_INTERPRET=1 set before it is imported'
#: Architecture whose block shapes are used under the interpreter.
INTERPRETED_AS = 'sm_90'

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
    def of(cls, x: torch.Tensor, heads: int = 1) -> Form:
        """The form for a feature map x (N, C, T, V)."""
        _, c, t, v = x.shape
        arch = architecture(x.device)
        how = arch, precision(x.dtype, arch), interpreted()
        return cls(x.dtype, t, v, c // heads, heads, *how)

    def variant(
        self, kernel: Any, name: str, cut: Any, tensors: str, parts: str = '', **switches: bool
    ) -> Variant:
        """A kernel in this form, cut by `Blocks`, with what it asks for as compile-time arguments.

        ``parts`` are float32, the other ``tensors`` of the map's type. A kernel without the switch
        ``ONE`` goes through all frames.
        """
        channels = cut.channels(self.V)
        sizes = dict(V=self.V, K=self.channels, BT=cut.frames, BS=cut.sources, BC=channels)
        sizes |= dict(ONE=cut.frames >= self.T, HELD=cut.sources >= self.T, STEPS=cut.steps)
        sizes |= dict(W=cut.columns, **switches, PRECISION=self.product, UPCAST=self.interpret)
        constexprs = {k: value for k, value in sizes.items() if k in kernel.arg_names}
        kinds = {f'{tensor}_ptr': '*' + TYPES[self.dtype] for tensor in tensors.split()}
        kinds |= {f'{tensor}_ptr': '*fp32' for tensor in parts.split()}
        kinds |= dict(T='i32') | dict.fromkeys(constexprs, 'constexpr')
        tiles = -(-self.T // cut.frames) if 'ONE' in constexprs else 1
        tiles **= 2 if switches.get('FRAMES') else 1
        programs = self.heads * -(-self.channels // (channels * cut.steps)) * tiles
        return Variant(name, kernel, kinds, constexprs, cut.warps, programs, self.T)


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
