"""Compile the kernels for chips that are not here, and read what they cost a thread block.

``python -m mg_plugins.kernels.aot`` prints registers, spills and shared memory, and ends with 1
where one must not ship. Triton brings the compilers and NVIDIA's ``cuobjdump``: no GPU is needed.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch

from .setups import DTYPES, IMIGUE, NTU, OVER_FRAMES, OVER_JOINTS, Shape
from .signatures import Form, Variant, precision

# Architecture: Triton's backend, its name there, threads of a warp, bytes of shared memory that a
# block may ask for (CUDA programming guide, technical specifications; CDNA3 ISA, local data share).
CHIPS = {
    'sm_80': ('cuda', 80, 32, 163 * 1024),
    'sm_90': ('cuda', 90, 32, 227 * 1024),
    'gfx942': ('hip', 'gfx942', 64, 64 * 1024),
    'sm_89': ('cuda', 89, 32, 99 * 1024),
    'sm_120': ('cuda', 120, 32, 99 * 1024),
}

# The first and the last stage of both sets, and the ends of the curves over frames and joints.
SHAPES = [NTU[0], NTU[-1], IMIGUE[0], OVER_FRAMES[4], OVER_FRAMES[-1], OVER_JOINTS[-1]]
ALL = [*product(SHAPES, DTYPES)]
# Every kernel in every type, a tile of all frames and several tiles, and the most joints.
FEW = [*product((NTU[0], OVER_FRAMES[4]), DTYPES), (OVER_JOINTS[-1], torch.bfloat16)]


@dataclass(frozen=True)
class Cost:
    """What a compiled kernel takes: ``stack`` spilled bytes a thread, ``shared`` bytes a block."""

    kernel: str
    arch: str
    dtype: str
    shape: str
    constants: str
    warps: int
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


def variants(dtype: torch.dtype, T: int, V: int, C: int, H: int, arch: str) -> list[Variant]:
    """Every kernel that pooling and mixing x (N, C, T, V) with H heads launches, for any N.

    The launchers take theirs from the same functions. How float32 is multiplied is read at the time
    of the call, there and here (:func:`signatures.precision`).
    """
    from . import triton_mix, triton_pool

    form = Form(dtype, T, V, C // H, H, arch, precision(dtype, arch))
    whole = form._replace(channels=C, heads=1)
    return [*triton_pool.variants(whole), *triton_mix.variants(form)]


def compile_variant(variant: Variant, arch: str):
    """Triton's compiled kernel for ``arch``, as a launch on aligned tensors would make it."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if triton.knobs.runtime.interpret:
        raise RuntimeError(
            'nothing is compiled where TRITON_INTERPRET is set: unset it before Triton is imported'
        )
    source = ASTSource(
        variant.kernel, variant.signature, constexprs=variant.constexprs, attrs=variant.attrs
    )
    backend, name, warp, _ = CHIPS[arch]
    return triton.compile(source, target=GPUTarget(backend, name, warp), options=variant.options)


def read_cost(compiled) -> tuple[int, int, int]:
    """Registers of a thread, bytes that it spills, and bytes of shared memory of a block."""
    if 'cubin' not in compiled.asm:
        listing = compiled.asm['amdgcn']
        names = 'vgpr_count', 'private_segment_fixed_size'
        registers, stack = (re.search(rf'\.{name}:\s*(\d+)', listing)[1] for name in names)
        return int(registers), int(stack), compiled.metadata.shared
    import triton

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'kernel.cubin')
        file.write_bytes(compiled.asm['cubin'])
        command = [triton.knobs.nvidia.cuobjdump.path, '--dump-resource-usage', str(file)]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Spills count as STACK; LOCAL stays 0 whatever is spilled.
    found = re.findall(r'REG:(\d+) STACK:(\d+)', usage)
    if len(found) != 1:
        raise RuntimeError(f'cuobjdump was to name one kernel, it printed:\n{usage}')
    return int(found[0][0]), int(found[0][1]), compiled.metadata.shared


def costs(archs: Iterable[str], calls: Iterable[tuple[Shape, torch.dtype]]) -> Iterator[Cost]:
    """Compile every kernel that the calls launch on each architecture; what they share, once."""
    seen = set()
    for arch, (shape, dtype) in product(archs, calls):
        for variant in variants(dtype, shape.t, shape.v, shape.c, shape.heads, arch):
            if (arch, variant.key) in seen:
                continue
            seen.add((arch, variant.key))
            constants = ' '.join(f'{name}={value}' for name, value in variant.constexprs.items())
            of_call = arch, str(dtype).removeprefix('torch.'), str(shape), constants
            costs_of = variant.num_warps, *read_cost(compile_variant(variant, arch))
            yield Cost(variant.name, *of_call, *costs_of)


COLUMNS = ('kernel', 'arch', 'dtype', 'shape', 'warps', 'registers', 'stack', 'shared')


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns 1 where a kernel must not ship."""
    name, what = 'python -m mg_plugins.kernels.aot', __doc__.split('\n')[0]
    parser = argparse.ArgumentParser(name, description=what)
    add = parser.add_argument
    add('--arch', nargs='+', choices=list(CHIPS), default=['sm_80', 'sm_90', 'gfx942'])
    add('--few', action='store_true', help='only what the tests compile, half a minute a chip')
    add('--json', type=Path, help='also write every kernel to this file')
    given = parser.parse_args(arguments)
    if importlib.util.find_spec('triton') is None:
        sys.exit('error: triton is not installed: pip install -c constraints.txt -e ".[triton]"')

    def row(cells: Iterable) -> None:
        print('|', ' | '.join(map(str, cells)), '|', flush=True)

    row(COLUMNS)
    row('---' for _ in COLUMNS)
    table = []
    for cost in costs(given.arch, FEW if given.few else ALL):
        row(getattr(cost, column) for column in COLUMNS)
        table.append(cost)
    if given.json:
        given.json.write_text(json.dumps([asdict(cost) for cost in table], indent=1))
    problems = [cost for cost in table if cost.problem]
    for cost in problems:
        of_what = f'{cost.kernel} for {cost.arch}, {cost.dtype}, {cost.shape}'
        how = f'{cost.constants}, {cost.warps} warps'
        print(f'error: {of_what} {cost.problem} ({how})', file=sys.stderr)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
