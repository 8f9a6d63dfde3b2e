"""What the kernels' machine code asks of a GPU, counted without one.

``python -m mg_plugins.kernels.benchmarks.instructions`` prints the table of ``kernels/NOTES.md``.

A feature map in half precision with an odd number of joints can only be read two bytes at a time,
and products in three parts multiply instructions: then bytes and operations no longer say how long
a kernel takes. This counts the instructions of what the compiler made of a kernel, times the trips
of the loops that they stand in, and divides by what a GPU's multiprocessors do in a clock. The
largest of the times is what the kernel takes at least; waiting, conflicts in shared memory and
reading again from the cache come on top. Nothing here is measured.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from mg_plugins.kernels.aot import compile_variant, need_triton, read_cost
from mg_plugins.kernels.setups import IMIGUE, NTU, OVER_FRAMES, OVER_JOINTS, Shape
from mg_plugins.kernels.signatures import Variant, variants

from . import roofline

# H200 (SXM): 132 multiprocessors; the clock at which their products make the datasheet's 989
# TFLOP/s. In a clock each starts 4 instructions, of them one that loads, stores or shuffles (CUDA
# programming guide, throughput of native instructions, compute capability 9.0).
PROCESSORS, CLOCK, STARTED = 132, 1.83e9, 4
# Products of single warps reach this share of that rate ("Benchmarking and Dissecting the Nvidia
# Hopper GPU Architecture via Microbenchmarking", arXiv 2402.13499).
WARP_PRODUCTS = 0.62
REGISTERS, SHARED, WARPS, BLOCKS = 65536, 227 * 1024, 64, 32

MOVES = ('LDG', 'STG', 'LDS', 'STS', 'LDSM', 'STSM', 'SHFL', 'LDGSTS', 'LDL', 'STL')
SHAPES = [*NTU, IMIGUE[0], OVER_FRAMES[3], OVER_FRAMES[4], OVER_FRAMES[-1], OVER_JOINTS[-1]]


@dataclass(frozen=True)
class Demand:
    """What a launch of one kernel takes at least, in seconds.

    Attributes:
        kernel: Name.
        shape: Sizes of the call.
        dtype: Type of the feature map.
        bytes: By the bytes that must be moved.
        started: By the instructions that must be started.
        moves: By those that load, store or shuffle.
        products: By matrix products, padding included.
        useful: Share of the products' operations that is not padding.
        resident: Warps that a multiprocessor holds at once.
    """

    kernel: str
    shape: Shape
    dtype: str
    bytes: float
    started: float
    moves: float
    products: float
    useful: float
    resident: int

    @property
    def least(self) -> float:
        """The largest of the limits."""
        return max(self.bytes, self.started, self.moves, self.products)


def disassemble(cubin: bytes) -> str:
    """Machine code as text, by the nvdisasm that Triton brings."""
    import triton

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'kernel.cubin')
        file.write_bytes(cubin)
        command = [triton.knobs.nvidia.nvdisasm.path, '-c', str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def weigh(listing: str, trips: list[float]) -> list[tuple[str, float]]:
    """Every instruction of a listing and how often a warp runs it.

    Args:
        listing: From nvdisasm; a branch back to an earlier label is a loop.
        trips: Of the loops, the outermost first.
    """
    labels, waiting, instructions = {}, [], []
    for line in listing.splitlines():
        if label := re.match(r'(\.L_x_\d+):', line):
            waiting.append(label[1])
        elif found := re.search(r'/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?(\S+)(.*?)\s*;', line):
            labels |= dict.fromkeys(waiting, len(instructions))
            waiting = []
            instructions.append((found[1], found[2]))
    depth = [0] * len(instructions)
    for at, (name, operands) in enumerate(instructions):
        label = re.search(r'`\((\.L_x_\d+)\)', operands) if name.startswith('BRA') else None
        # One that goes to itself ends the program.
        if label and labels.get(label[1], at) < at:
            for i in range(labels[label[1]], at + 1):
                depth[i] += 1
    return [
        (name, math.prod(trips[:level]))
        for (name, _), level in zip(instructions, depth, strict=True)
        if name != 'NOP'
    ]


def operations(name: str) -> float:
    """Floating-point operations of a warp's share of one product instruction; 0 for others."""
    if sizes := re.match(r'HGMMA\.(\d+)x(\d+)x(\d+)', name):  # four warps make it together
        return math.prod(map(int, sizes.groups())) / 2
    if name.startswith('HMMA.'):  # a warp makes 16 x 8 x 8 or 16 x 8 x 16
        return 2 * 16 * 8 * (8 if name.startswith('HMMA.1688') else 16)
    return 0


def trips_of(variant: Variant) -> list[float]:
    """Trips of a kernel's loops, the outermost first; one trip is no loop."""
    cut = variant.constexprs
    tiles = math.ceil(cut['T'] / cut['BT'])
    if 'STEPS' not in cut:
        trips = [tiles]
    else:
        blocks = math.ceil(cut['K'] / cut['BC'])
        trips = [blocks / math.ceil(blocks / cut['STEPS'])]
        if 'BS' in cut:
            kept = cut['BS'] + cut['BR'] >= cut['T']
            trips.append(tiles if kept else math.ceil(cut['T'] / cut['BS']))
    return [trip for trip in trips if trip != 1]


def least(variant: Variant, shape: Shape, dtype: str) -> roofline.Cost:
    """Bytes that one kernel moves, parts in float32 included, and operations without padding."""
    n, c, t, v, heads = shape
    full, size = n * c * t * v, roofline.SIZES[dtype]
    joints, frames, pools = n * heads * v * v, n * heads * t * t, n * c * (t + v)
    cut = variant.constexprs
    if variant.name.startswith('pool'):
        maps, products = (1, 2 * full) if variant.name == 'pool_forward' else (2, 0)
        return roofline.Cost((maps * full + pools) * size, products)
    if variant.name in ('mix_forward', 'mix_backward'):
        maps = 2 if variant.name == 'mix_forward' else 3
        moved = (maps * full + joints + frames + 2 * n * c) * size
        return roofline.Cost(moved, 2 * full * (t + v))
    chunks = math.ceil(cut['K'] / (cut['BC'] * cut['STEPS']))
    moved, products = (2 * full + n * c) * size, 0
    if cut['FRAMES']:
        moved, products = moved + 4 * chunks * frames, products + 2 * full * t
    if cut['JOINTS']:
        tiles = math.ceil(t / cut['BT'])
        moved += joints * size + 4 * tiles * (chunks * cut['BC'] * joints + n * c * v)
        products += 2 * full * v
    return roofline.Cost(moved, products)


def demand(variant: Variant, shape: Shape, dtype: torch.dtype) -> Demand:
    """Compile a kernel for sm_90 and count.

    Raises:
        RuntimeError: If the counted products are fewer than the work needs: a loop was not seen.
    """
    name = str(dtype).removeprefix('torch.')
    compiled = compile_variant(variant, 'sm_90')
    registers, _, shared = read_cost(compiled)
    counted = weigh(disassemble(compiled.asm['cubin']), trips_of(variant))
    warps = variant.num_warps * variant.programs * shape.n
    started = sum(times for _, times in counted) * warps
    moves = sum(times for op, times in counted if op.split('.')[0] in MOVES) * warps
    made = sum(times * operations(op) for op, times in counted) * warps
    needed = least(variant, shape, name)
    parts = 3 if variant.constexprs.get('PRECISION') == 'tf32x3' else 1
    if made < 0.999 * needed.operations * parts:
        raise RuntimeError(
            f'{variant.name} {shape} {name}: {made:.3g} operations in products were counted, '
            f'{needed.operations * parts:.3g} are needed: a loop was not recognised'
        )
    rate = roofline.H200.products[name] * parts
    if not any(op.startswith('HGMMA') for op, _ in counted):
        rate *= WARP_PRODUCTS
    a_warp = 32 * 8 * math.ceil(registers / 8)
    blocks = min(
        REGISTERS // (a_warp * variant.num_warps),
        SHARED // (shared + 1024),
        WARPS // variant.num_warps,
        BLOCKS,
    )
    return Demand(
        kernel=variant.name,
        shape=shape,
        dtype=name,
        bytes=needed.bytes / roofline.H200.copy,
        started=started / (PROCESSORS * STARTED * CLOCK),
        moves=moves / (PROCESSORS * CLOCK),
        products=made / rate,
        useful=needed.operations * parts / made if made else 1.0,
        resident=blocks * variant.num_warps,
    )


def demands(shapes: Iterable[Shape], dtypes: Iterable[torch.dtype]) -> Iterable[Demand]:
    """Every kernel of the shapes and types, one after another."""
    for dtype in dtypes:
        for shape in shapes:
            for variant in variants(dtype, shape.t, shape.v, shape.c, shape.heads, 'sm_90'):
                yield demand(variant, shape, dtype)


COLUMNS = (
    '| kernel | type | C, T, V | bytes, µs | started, µs | moves, µs | products, µs '
    '| of these useful | warps held |\n| --- | --- | --- ' + '| --: ' * 6 + '|'
)


def row(of: Demand) -> str:
    """A line of the markdown table; the largest limit is bold."""
    cells = [f'`{of.kernel}`', of.dtype, f'{of.shape.c}, {of.shape.t}, {of.shape.v}']
    for limit in (of.bytes, of.started, of.moves, of.products):
        text = f'{1e6 * limit:.1f}'
        cells.append(f'**{text}**' if limit == of.least else text)
    return f'| {" | ".join([*cells, f"{of.useful:.0%}", str(of.resident)])} |'


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog='python -m mg_plugins.kernels.benchmarks.instructions',
        description='Count what the kernels ask of an H200, without one. Takes a minute or two.',
    )
    parser.add_argument('--few', action='store_true', help="only ST-GCN's first stage on NTU")
    given = parser.parse_args(arguments)
    need_triton()
    print(COLUMNS)
    for of in demands(SHAPES[:1] if given.few else SHAPES, (torch.bfloat16, torch.float32)):
        print(row(of), flush=True)


if __name__ == '__main__':
    main()
