"""Counting what a kernel asks of a GPU in its machine code."""

import os
import re
import subprocess
import sys

import pytest
import torch

from mg_plugins.kernels.benchmarks import instructions
from mg_plugins.kernels.setups import NTU, Shape
from mg_plugins.kernels.signatures import variants

pytest.importorskip('triton', reason='pip install "mg-plugins[triton]"')

LISTING = """
.text.kernel:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDG.E.U16 R2, desc[UR4][R2.64] ;
.L_x_0:
        /*0020*/              @!P0 STS.U16 [R3], R2 ;
        /*0030*/                   HMMA.16816.F32.BF16 R4, R4, R6, RZ ;
        /*0040*/               @P1 BRA `(.L_x_0) ;
        /*0050*/                   SHFL.BFLY PT, R5, R4, 0x1, 0x1f ;
        /*0060*/               @P2 BRA `(.L_x_1) ;
        /*0070*/                   EXIT ;
.L_x_2:
        /*0080*/                   BRA `(.L_x_2);
        /*0090*/                   NOP;
"""


def test_instructions_count_as_often_as_their_loops_run():
    counted = instructions.weigh(LISTING, [3, 5])
    times = {name.split('.')[0]: count for name, count in counted if not name.startswith('BRA')}
    assert times == {'MOV': 1, 'LDG': 3, 'STS': 15, 'HMMA': 15, 'SHFL': 3, 'EXIT': 1}
    assert sorted(count for name, count in counted if name == 'BRA') == [1, 3, 15]


def test_operations_of_products():
    assert instructions.operations('HMMA.16816.F32.BF16') == 2 * 16 * 8 * 16
    assert instructions.operations('HMMA.1688.F32.TF32') == 2 * 16 * 8 * 8
    # Four warps make it together.
    assert instructions.operations('HGMMA.64x32x16.F32.BF16') == 2 * 64 * 32 * 16 / 4
    assert instructions.operations('FFMA') == 0


def run(*arguments):
    kept = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=kept | {'TRITON_DEFAULT_FP_FUSION': '1'},
    )


@pytest.mark.slow
def test_the_table_holds_every_kernel_and_its_bytes():
    done = run('-m', 'mg_plugins.kernels.benchmarks.instructions', '--few')
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split('|')[1:-1] for line in done.stdout.splitlines()[2:]]
    names = [(row[1].strip(), row[0].strip(' `')) for row in rows]
    wanted = [
        (str(dtype).removeprefix('torch.'), variant.name)
        for dtype in (torch.bfloat16, torch.float32)
        for variant in variants(dtype, *NTU[0][2:4], NTU[0].c, 1, 'sm_90')
    ]
    assert names == wanted
    for row in rows:
        limits = [float(cell.strip(' *')) for cell in row[3:7]]
        assert min(limits[:3]) > 0 and row[3 + limits.index(max(limits))].strip().startswith('**')
        assert re.fullmatch(r'\d+%', row[7].strip()) and 4 <= int(row[8]) <= 64
    # x is read once and both means are written.
    n, c, t, v, _ = NTU[0]
    expected = (n * c * t * v + n * c * (t + v)) * 2 / 4.3e12 * 1e6
    assert float(rows[0][3].strip(' *')) == pytest.approx(expected, abs=0.06)


@pytest.mark.slow
def test_a_loop_that_is_not_seen_is_an_error():
    code = (
        'import torch\n'
        'from mg_plugins.kernels.benchmarks import instructions\n'
        'from mg_plugins.kernels.setups import Shape\n'
        'instructions.trips_of = lambda variant: []\n'
        'list(instructions.demands([Shape(2, 64, 25, 25)], [torch.bfloat16]))\n'
    )
    assert 'a loop was not recognised' in run('-c', code).stderr


def test_one_trip_is_no_loop():
    shape = Shape(1, 64, 300, 25)
    trips = {
        variant.name: instructions.trips_of(variant)
        for variant in variants(torch.bfloat16, shape.t, shape.v, shape.c, 1, 'sm_90')
    }
    assert trips['pool_forward'] == [5] and trips['mix_forward'] == [8, 5]
    (pool, *_) = variants(torch.bfloat16, 20, 25, 64, 1, 'sm_90')
    assert instructions.trips_of(pool) == []
