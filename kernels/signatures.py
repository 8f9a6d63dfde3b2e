"""What is launched: one form of a Triton kernel, for the launchers and for compiling ahead.

Launching a :class:`Variant` counts it, so that a test or a user can tell which path ran. This
module needs neither Triton nor a GPU.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

#: What Triton calls the types of the feature map.
TYPES = {torch.float32: 'fp32', torch.bfloat16: 'bf16', torch.float16: 'fp16'}
#: What to do without a GPU.
INTERPRETER = (
    'Triton needs CUDA tensors, or its interpreter: set TRITON_INTERPRET=1 before triton is '
    'imported'
)
#: Architecture whose block shapes are used under the interpreter.
INTERPRETED_AS = 'sm_90'

_launches: Counter[str] = Counter()


@dataclass(frozen=True)
class Variant:
    """One form of one kernel.

    Attributes:
        name: What it does, e.g. ``'mix_forward'``; the key in :func:`launches`.
        kernel: The ``@triton.jit`` function.
        signature: Type of every argument, in order; ``'constexpr'`` for compile-time ones.
        constexprs: Values of the compile-time arguments.
        num_warps: Warps of a program.
        programs: Programs per batch row that a launch needs (its grid is N times this).
        frames: T, an argument at run time, no part of what is compiled.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constexprs: dict[str, Any]
    num_warps: int
    programs: int
    frames: int

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
        grid = (rows * self.programs,)
        if device.type == 'cuda' and device.index != torch.cuda.current_device():
            with torch.cuda.device(device):
                self.kernel[grid](*tensors, self.frames, **self.constexprs, **self.options)
        else:
            self.kernel[grid](*tensors, self.frames, **self.constexprs, **self.options)
        _launches[self.name] += 1


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


def plain_tf32() -> bool:
    """Whether PyTorch was told to multiply float32 in plain TF32 on CUDA.

    ``torch.set_float32_matmul_precision('high')`` tells it, or
    ``torch.backends.cuda.matmul.allow_tf32 = True``, or ``.fp32_precision = 'tf32'`` there.
    """
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, 'fp32_precision'):  # since 2.9; reading the old flag may raise there
        return matmul.fp32_precision == 'tf32'
    return matmul.allow_tf32


def precision(dtype: torch.dtype, arch: str) -> str:
    """How float32 is multiplied: in three TF32 parts where there are TF32 units, else as it is.

    Three parts keep the error at 2e-7; one alone leaves 3e-4 and is taken where PyTorch's own
    products are allowed it (:func:`plain_tf32`).
    """
    if dtype != torch.float32 or not arch.startswith('sm_'):
        return 'ieee'
    return 'tf32' if plain_tf32() else 'tf32x3'
