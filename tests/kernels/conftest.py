"""Runs the kernels' tests where there is no GPU, under Triton's interpreter, and lets none slip by.

With a CUDA GPU, ``test_triton_*.py`` are ordinary test files and the kernels run on it. Without
one they need Triton's interpreter, which must be switched on before anything imports Triton. So
each file becomes one test here that runs it in a process of its own; it fails where anything in the
file fails or is skipped, and shows that process's report. For a single case:

    TRITON_INTERPRET=1 pytest tests/kernels/test_triton_mix.py -k T300

Needs torch, triton and pytest alone.
"""

import importlib.util
import os
import secrets
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

from paths import ROOT  # noqa: E402

# Fresh inputs in every run; the seed of a failed one brings it back.
SEED = int(os.environ.get('MG_TEST_SEED') or secrets.randbits(31))
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
NEEDS_CUDA = 'needs a CUDA GPU'


def pytest_report_header():
    where = 'the GPU' if torch.cuda.is_available() else "Triton's interpreter"
    return f'kernels: on {where}, inputs from MG_TEST_SEED={SEED}'


def pytest_configure(config):
    config.addinivalue_line('markers', f'cuda: {NEEDS_CUDA}')


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker('cuda'):
                item.add_marker(pytest.mark.skip(reason=NEEDS_CUDA))


@pytest.fixture
def fresh_seed():
    """Seed of a test's inputs, in the report where the test fails."""
    print(f'MG_TEST_SEED={SEED}')
    return SEED


@pytest.fixture
def launched():
    """Counts of launches by kernel name, from the start of the test."""
    from mg_plugins.kernels import launches, reset_launches

    reset_launches()
    return launches


def pytest_pycollect_makemodule(module_path, parent):
    direct = INTERPRETED or torch.cuda.is_available()
    if direct or not module_path.name.startswith('test_triton_'):
        return None
    return InterpretedFile.from_parent(parent, path=module_path)


class InterpretedFile(pytest.File):
    """A test file that runs in a process with the interpreter."""

    def collect(self):
        item = Interpreted.from_parent(self, name='interpreted')
        item.add_marker('slow')
        if self.config.pluginmanager.hasplugin('timeout'):
            item.add_marker(pytest.mark.timeout(1800))  # a whole file, not one test
        yield item


class InterpretedFailed(Exception):
    """The report of a process whose tests did not all pass."""


class Interpreted(pytest.Item):
    """All of a file's tests."""

    def runtest(self):
        if importlib.util.find_spec('triton') is None:
            pytest.skip('Triton is not installed: pip install "mg-plugins[triton]"')
        environment = {k: v for k, v in os.environ.items() if not k.startswith('PYTEST_')}
        environment |= {'TRITON_INTERPRET': '1', 'MG_TEST_SEED': str(SEED)}
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder, 'results.xml')
            command = [sys.executable, '-m', 'pytest', '--tb=short']
            command += ['-p', 'no:cacheprovider', '-p', 'no:logging']
            done = subprocess.run(
                [*command, f'--junitxml={results}', str(self.path)],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            cases = ElementTree.parse(results).findall('.//testcase') if results.exists() else []
        skips = [case.find('skipped') for case in cases]
        unexpected = [
            s.get('message') for s in skips if s is not None and NEEDS_CUDA not in s.get('message')
        ]
        ran = skips.count(None)
        self.add_report_section('call', 'interpreter', done.stdout)
        if done.returncode or not ran or unexpected:
            raise InterpretedFailed(
                f'{done.stdout[-20000:]}\n{ran} tests ran, exit code {done.returncode}, '
                f'skipped: {unexpected}'
            )

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, InterpretedFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, 0, f"{self.path.name} under Triton's interpreter"
