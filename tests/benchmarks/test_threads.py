"""A train step of the main job by how its threads wait: alone, beside a busy process, in pairs.

``pytest tests/benchmarks/test_threads.py --benchmark-only -s`` prints, for each way of waiting, the
median step in seconds: alone, beside one and beside eight busy processes, and of two trainings side
by side. Ways take turns, so that other work on the machine meets them all.
"""

import os
import statistics
import subprocess
import sys
from contextlib import ExitStack

import pytest

from paths import HELPERS

WAYS = {
    'busy (PyTorch)': {},
    'passive': {'OMP_WAIT_POLICY': 'PASSIVE'},
    'spin 2000': {'GOMP_SPINCOUNT': '2000'},
}
ROUNDS = int(os.environ.get('MG_ROUNDS', '12'))
BUSY = [int(number) for number in os.environ.get('MG_BUSY', '1,8').split(',')]
UNSET = ('OMP_NUM_THREADS', 'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')


def start(stack: ExitStack, *command: str, **environment: str) -> subprocess.Popen:
    """A process that ends with the test."""
    kept = {k: v for k, v in os.environ.items() if k not in UNSET}
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen([sys.executable, *command], env=kept | environment, **pipes)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def steps(*trainings: subprocess.Popen) -> list[float]:
    """Let trainings make one step, at the same time."""
    for training in trainings:
        training.stdin.write('\n')
        training.stdin.flush()
    return [float(training.stdout.readline()) for training in trainings]


@pytest.mark.slow
def test_threads(benchmark):
    if not benchmark.enabled:
        pytest.skip('timings are taken with --benchmark-only')
    with ExitStack() as stack:
        pairs = {}
        for way, environment in WAYS.items():
            pair = [start(stack, str(HELPERS / 'step_on_request.py'), **environment) for _ in '12']
            assert [training.stdout.readline() for training in pair] == ['ready\n'] * 2
            pairs[way] = pair
        table = {way: {} for way in WAYS}

        def measure(name: str, both: bool = False) -> None:
            taken = {way: [] for way in WAYS}
            for _ in range(ROUNDS):
                for way, pair in pairs.items():
                    taken[way] += steps(*pair[: 1 + both])
            for way, seconds in taken.items():
                table[way][name] = statistics.median(seconds)
                print(f'{name}, {way}: {table[way][name]:.3f}', flush=True)

        def all_situations() -> None:
            measure('alone')
            measure('two trainings', both=True)
            for busy in BUSY:
                with ExitStack() as others:
                    for _ in range(busy):
                        start(others, '-c', 'while True: pass')
                    measure(f'beside {busy}')

        benchmark.pedantic(all_situations, rounds=1)
        benchmark.extra_info['seconds a step'] = table
        print(f'load of the machine at the end: {os.getloadavg()[0]:.1f}')
