"""The seam in a process without Triton's interpreter, and without Triton."""

import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from mg_plugins.kernels import launches, mix, mix_reference, pool, pool_reference, supported
from mg_plugins.kernels.setups import Shape, make_inputs

INPUTS = make_inputs(Shape(2, 4, 5, 3, 2), torch.float32, 'cpu', seed=0)


def in_a_process(code, **environment):
    """Run ``code`` after the imports above, on the CPU and without the interpreter."""
    given = {k: v for k, v in os.environ.items() if k not in ('TRITON_INTERPRET', 'MG_KERNELS')}
    setup = (
        # Nothing here needs OpenMMLab.
        'import sys, torch\n'
        'sys.modules["mmaction"] = None\n'
        'from mg_plugins.kernels import launches, mix, mix_reference, pool, supported\n'
        'from mg_plugins.kernels.setups import Shape, make_inputs\n'
        'inputs = make_inputs(Shape(2, 4, 5, 3, 2), torch.float32, "cpu", seed=0)\n'
    )
    return subprocess.run(
        [sys.executable, '-c', environment.pop('before', '') + setup + code],
        capture_output=True,
        text=True,
        env=given | {'CUDA_VISIBLE_DEVICES': ''} | environment,
    )


def test_triton_is_there_where_the_kernels_must_be_tested():
    """The tests of the kernels skip without Triton; where the project is developed they may not."""
    if platform.system() != 'Linux' or find_spec('hypothesis') is None:
        pytest.skip('not Linux, or not an environment with the extra "test"')
    import triton

    assert tuple(map(int, triton.__version__.split('.')[:2])) >= (3, 6)


def test_cpu_tensors_take_pytorch_by_themselves(monkeypatch):
    monkeypatch.delenv('MG_KERNELS', raising=False)
    before = launches()
    torch.testing.assert_close(mix(*INPUTS), mix_reference(*INPUTS))
    torch.testing.assert_close(pool(INPUTS[0]), pool_reference(INPUTS[0]))
    assert launches() == before


NEVER_IMPORTED = """
leaves = [t.requires_grad_() for t in inputs]
(mix(*leaves).sum() + sum(p.sum() for p in pool(leaves[0]))).backward()
assert not launches()
print('mg_plugins.kernels.triton_mix' in sys.modules, 'triton' in sys.modules)
"""


def test_triton_is_imported_where_it_is_used_alone():
    done = in_a_process(NEVER_IMPORTED)
    assert done.stdout.split() == ['False', 'False'], done.stdout + done.stderr[-2000:]


ASKED = """
for call in (lambda: mix(*inputs, **asked), lambda: pool(inputs[0], **asked)):
    try:
        call()
    except ValueError as error:
        print(error)
    else:
        print('no error')
"""


@pytest.mark.parametrize('how', ['argument', 'environment'])
def test_asking_for_triton_on_a_cpu_names_the_interpreter(how):
    if find_spec('triton') is None:
        pytest.skip('Triton is not installed: pip install "mg-plugins[triton]"')
    environment = {'MG_KERNELS': 'triton'} if how == 'environment' else {}
    asked = 'asked = {}' if environment else 'asked = {"backend": "triton"}'
    done = in_a_process(asked + ASKED, **environment)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout + done.stderr[-2000:]
    assert all('TRITON_INTERPRET=1' in line and 'cpu' in line for line in lines)


def test_without_triton_pytorch_serves_and_asking_says_how_to_install():
    code = (
        'torch.testing.assert_close(mix(*inputs), mix_reference(*inputs))\n'
        'print(supported(inputs[0]))\n'
        'asked = {"backend": "triton"}' + ASKED
    )
    done = in_a_process(code, before="import sys; sys.modules['triton'] = None\n")
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout + done.stderr[-2000:]
    assert all('pip install "mg-plugins[triton]"' in line for line in lines)


def test_a_checkout_that_is_not_installed_has_its_own_kernels(tmp_path):
    root = Path(__file__).resolve().parents[2]
    code = (
        'import sys\n'
        f'sys.path.insert(0, {str(root)!r})\n'
        'sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]\n'
        'sys.modules["mmaction"] = None\n'
        'import mg_plugins.kernels\n'
        'print(mg_plugins.kernels.__file__)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == str(root / 'kernels' / '__init__.py'), done.stderr[-2000:]


def test_supported_gives_a_reason_or_none():
    if os.environ.get('TRITON_INTERPRET') != '1' and find_spec('triton') is not None:
        assert 'TRITON_INTERPRET=1' in supported(INPUTS[0], heads=2)


def test_the_folder_may_be_imported_by_its_bare_name_too():
    """In a checkout's folder other packages that look for one called ``kernels`` find ours."""
    code = (
        'import sys; sys.modules["mmaction"] = None\n'
        'import kernels.functional, mg_plugins.kernels as ours, kernels; ours.mix; kernels.mix'
    )
    environment = os.environ | {'PYTHONPATH': str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, '-c', code], env=environment, check=True)
