"""One thread a process (the suite itself is parallel), a fixed seed, and a cache of its own."""

import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import mg_plugins  # noqa: F401  mends MMAction2, which test modules import first

from paths import ROOT

# A shell starts background jobs with Ctrl-C ignored, and so would be all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Inherited by the processes that tests start; this one is told by torch.set_num_threads below.
os.environ['OMP_NUM_THREADS'] = '1'
# Ranks meet on the loopback interface, whatever address the machine's name resolves to.
os.environ['GLOO_SOCKET_IFNAME'] = 'lo'

SEED = 20240520


def pytest_report_header():
    return f'mg_plugins: every test starts from seed {SEED}'


@pytest.fixture(autouse=True)
def seed():
    torch.set_num_threads(1)
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@pytest.fixture(autouse=True)
def plain_recognizers():
    """What a test imported autofuse for ends with the test, so that their order does not matter."""
    yield
    if sys.modules.pop('mg_plugins.autofuse', None) is not None:
        kind = sys.modules['mmaction.models'].RecognizerGCN
        kind.__init__ = kind.__init__.__wrapped__


@pytest.fixture(scope='session', autouse=True)
def cache(tmp_path_factory):
    """The synthetic set is generated into the run's own folder, once for all its workers."""
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get('PYTEST_XDIST_WORKER'):
        folder = folder.parent
    os.environ['MG_PLUGINS_CACHE'] = str(folder / 'mg_plugins_cache')


@pytest.fixture(scope='session')
def run_tool():
    """Run ``tools/NAME.py`` as a user would; returns the finished process, output merged."""

    def run(name, *arguments, cwd, check=True, timeout=600, prefix=(), **environment):
        command = [*(prefix or [sys.executable]), str(ROOT / 'tools' / f'{name}.py')]
        done = subprocess.run(
            [*command, *map(str, arguments)],
            cwd=cwd,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, done.stdout[-4000:]
        return done

    return run
