"""Compile the kernels for chips that are not here, and read what they cost a thread block.

``python -m mg_plugins.kernels.aot`` prints the table of ``kernels/NOTES.md`` and ends with 1 where
a kernel spills or asks for more shared memory than its chip has. It needs no GPU: Triton brings
the compilers and NVIDIA's ``cuobjdump``.
"""

import argparse
import importlib.util
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from .setups import DTYPES, IMIGUE, NTU, OVER_FRAMES, OVER_JOINTS, Shape

# Architecture: Triton's backend, its name there, threads of a warp, bytes of shared memory that a
# block may ask for (CUDA programming guide, technical specifications; CDNA3 ISA, local data share).
CHIPS = {
    'sm_80': ('cuda', 80, 32, 163 * 1024),
    'sm_90': ('cuda', 90, 32, 227 * 1024),
    'gfx942': ('hip', 'gfx942', 64, 64 * 1024),
    'sm_89': ('cuda', 89, 32, 99 * 1024),
    'sm_120': ('cuda', 120, 32, 99 * 1024),
}
# Those that tests and notes are about; the others on request.
USUAL = ('sm_80', 'sm_90', 'gfx942')

# The first and the last stage of both sets, and the ends of the curves over frames and joints.
SHAPES = [NTU[0], NTU[-1], IMIGUE[0], OVER_FRAMES[4], OVER_FRAMES[-1], OVER_JOINTS[-1]]
ALL = [(shape, dtype) for shape in SHAPES for dtype in DTYPES]
# Every kernel in every type, a tile of all frames and several tiles, and the most joints.
FEW = [
    *((NTU[0], dtype) for dtype in DTYPES),
    *((OVER_FRAMES[4], dtype) for dtype in DTYPES),
    (OVER_JOINTS[-1], torch.bfloat16),
]


@dataclass(frozen=True)
class Cost:
    """What one compiled kernel takes.

    Attributes:
        kernel: Name of the kernel.
        arch: Chip, a key of ``CHIPS``.
        dtype: Type of the feature map.
        shape: Sizes of the call, as text.
        constants: The compile-time arguments, as text.
        warps: Warps of a block.
        stages: Stages of the software pipeline.
        registers: Registers of a thread.
        stack: Bytes of a thread's registers that spill to memory.
        shared: Bytes of shared memory of a block.
    """

    kernel: str
    arch: str
    dtype: str
    shape: str
    constants: str
    warps: int
    stages: int
    registers: int
    stack: int
    shared: int

    @property
    def problem(self) -> str | None:
        """Why the kernel must not ship, or None."""
        if self.stack and self.arch.startswith('sm_'):
            return f'spills {self.stack} bytes a thread'
        room = CHIPS[self.arch][3]
        if self.shared > room:
            return f'asks for {self.shared} bytes of shared memory, a block has {room}'
        return None


def need_triton() -> None:
    """End with a message where Triton is not installed."""
    if importlib.util.find_spec('triton') is None:
        sys.exit('error: triton is not installed: pip install -c constraints.txt -e ".[triton]"')


def compile_variant(variant, arch: str):
    """Compile a ``signatures.Variant`` for ``arch`` as a launch on aligned tensors would.

    Returns:
        Triton's compiled kernel: ``asm`` holds the binary, ``metadata`` its shared memory.

    Raises:
        RuntimeError: If the process runs Triton's interpreter, which replaces the compiler.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if triton.knobs.runtime.interpret:
        raise RuntimeError(
            'kernels cannot be compiled where TRITON_INTERPRET is set: unset it before Triton is '
            'imported'
        )
    source = ASTSource(
        variant.kernel, variant.signature, constexprs=variant.constexprs, attrs=variant.attrs
    )
    backend, name, warp, _ = CHIPS[arch]
    return triton.compile(
        source,
        target=GPUTarget(backend, name, warp),
        options=variant.options,
    )


def read_cost(compiled) -> tuple[int, int, int]:
    """Registers of a thread, bytes that it spills, and bytes of shared memory of a block."""
    if 'cubin' in compiled.asm:
        registers, stack = _read_cubin(compiled.asm['cubin'])
    else:
        listing = compiled.asm['amdgcn']
        registers = int(re.search(r'\.vgpr_count:\s*(\d+)', listing)[1])
        stack = int(re.search(r'\.private_segment_fixed_size:\s*(\d+)', listing)[1])
    return registers, stack, compiled.metadata.shared


def _read_cubin(cubin: bytes) -> tuple[int, int]:
    """Registers and STACK of a cubin; spills count as STACK, LOCAL stays 0 whatever is spilled."""
    import triton

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'kernel.cubin')
        file.write_bytes(cubin)
        usage = subprocess.run(
            [triton.knobs.nvidia.cuobjdump.path, '--dump-resource-usage', str(file)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    found = re.findall(r'REG:(\d+) STACK:(\d+)', usage)
    if len(found) != 1:
        raise RuntimeError(f'cuobjdump was to name one kernel, it printed:\n{usage}')
    return int(found[0][0]), int(found[0][1])


def costs(archs: Iterable[str], calls: Iterable[tuple[Shape, torch.dtype]]) -> Iterator[Cost]:
    """Compile every kernel that the calls launch on each architecture, one after another.

    Kernels that several calls share come once, with the first of them.
    """
    from .signatures import variants

    seen = set()
    for arch, (shape, dtype) in itertools.product(archs, calls):
        for variant in variants(dtype, shape.t, shape.v, shape.c, shape.heads, arch):
            constants = ' '.join(f'{name}={value}' for name, value in variant.constexprs.items())
            key = (arch, variant.name, str(variant.signature), constants)
            key += (variant.num_warps, variant.num_stages)
            if key in seen:
                continue
            seen.add(key)
            registers, stack, shared = read_cost(compile_variant(variant, arch))
            yield Cost(
                kernel=variant.name,
                arch=arch,
                dtype=str(dtype).removeprefix('torch.'),
                shape=str(shape),
                constants=constants,
                warps=variant.num_warps,
                stages=variant.num_stages,
                registers=registers,
                stack=stack,
                shared=shared,
            )


COLUMNS = ('kernel', 'arch', 'dtype', 'shape', 'warps', 'stages', 'registers', 'stack', 'shared')


def row(cost: Cost) -> str:
    """A line of the Markdown table, shared memory in bytes."""
    return '| ' + ' | '.join(str(getattr(cost, column)) for column in COLUMNS) + ' |'


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns 1 where a kernel must not ship."""
    parser = argparse.ArgumentParser(
        prog='python -m mg_plugins.kernels.aot', description=__doc__.split('\n')[0]
    )
    parser.add_argument('--arch', nargs='+', choices=list(CHIPS), default=USUAL)
    parser.add_argument(
        '--few', action='store_true', help='only what the tests compile, half a minute a chip'
    )
    parser.add_argument('--json', type=Path, help='also write every kernel to this file')
    given = parser.parse_args(arguments)
    need_triton()

    print('| ' + ' | '.join(COLUMNS) + ' |')
    print('| ' + ' | '.join('---' for _ in COLUMNS) + ' |', flush=True)
    table = []
    for cost in costs(given.arch, FEW if given.few else ALL):
        print(row(cost), flush=True)
        table.append(cost)
    if given.json:
        given.json.write_text(json.dumps([asdict(cost) for cost in table], indent=1))
    problems = [cost for cost in table if cost.problem]
    for cost in problems:
        print(
            f'error: {cost.kernel} for {cost.arch}, {cost.dtype}, {cost.shape} {cost.problem} '
            f'({cost.constants}, {cost.warps} warps)',
            file=sys.stderr,
        )
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
