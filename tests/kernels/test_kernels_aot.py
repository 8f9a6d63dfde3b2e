"""The kernels compile for chips that are not here, and do not spill there.

Each test starts a process of its own: the interpreter, where it is on, replaces the compiler.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from mg_plugins.kernels.aot import ALL, variants
from mg_plugins.kernels.setups import DTYPES

from kernel_oracle import awkward
from paths import HELPERS as HERE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # a test compiles many kernels
    pytest.mark.skipif(
        importlib.util.find_spec('triton') is None,
        reason='Triton is not installed: pip install "mg-plugins[triton]"',
    ),
]


def names(dtype, arch):
    """Every kernel that any shape launches."""
    shapes = {shape for shape, _ in ALL} | {shape for shape, _ in awkward()}
    calls = [(shape.t, shape.v, shape.c, shape.heads) for shape in shapes]
    return {kernel.name for call in calls for kernel in variants(dtype, *call, arch)}


def run(*command):
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        env=environment | {'TRITON_DEFAULT_FP_FUSION': '1'},
    )


@pytest.mark.parametrize('arch', ['sm_80', 'sm_90', 'gfx942'])
def test_every_kernel_compiles_and_none_spills(arch, tmp_path):
    file = tmp_path / 'costs.json'
    done = run('-m', 'mg_plugins.kernels.aot', '--few', '--arch', arch, '--json', file)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    costs = json.loads(file.read_text())
    compiled = {(c['dtype'], c['kernel']) for c in costs}
    assert compiled == {(str(d).removeprefix('torch.'), k) for d in DTYPES for k in names(d, arch)}
    for cost in costs:
        assert cost['arch'] == arch and cost['registers'] > 0
        assert arch == 'gfx942' or cost['stack'] == 0


def test_a_spill_is_seen():
    done = run(HERE / 'spilling_kernel.py')
    assert done.returncode == 0, done.stderr[-4000:]
    costs = json.loads(done.stdout)
    assert costs['8'][1] == 0
    registers, stack, _ = costs['256']
    assert stack > 0, costs


def test_no_load_reaches_from_one_channel_into_the_next():
    """The kernels call channels side by side contiguous; true within V's own power of two alone."""
    done = run(HERE / 'vector_widths.py')
    assert done.returncode == 0, done.stderr[-4000:]
    widths = json.loads(done.stdout)
    assert widths
    for joints, kernels in widths.items():
        power = int(joints) & -int(joints)
        assert all(width <= power * 2 for width in kernels.values()), widths  # bfloat16


def test_a_spill_and_too_much_shared_memory_are_problems():
    from mg_plugins.kernels.aot import Cost

    def cost(arch='sm_80', stack=0, shared=0):
        return Cost('mix_forward', arch, 'float32', 'N1', '', 4, 255, stack, shared)

    assert cost().problem is None and cost(shared=163 * 1024).problem is None
    assert 'spills 8 bytes' in cost(stack=8).problem
    assert 'shared memory' in cost(shared=163 * 1024 + 1).problem
    assert 'shared memory' in cost(arch='gfx942', shared=65537).problem
    assert cost(arch='sm_90', shared=200 * 1024).problem is None


def test_the_interpreter_cannot_compile_and_says_so():
    code = (
        'from mg_plugins.kernels import aot\n'
        'try: aot.main(["--few", "--arch", "sm_90"])\n'
        'except RuntimeError as error: print(error)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        env=os.environ | {'TRITON_INTERPRET': '1'},
    )
    assert 'unset it before Triton is imported' in done.stdout, done.stdout + done.stderr
