"""``pool`` and ``mix`` on this machine beside eager PyTorch and ``torch.compile``.

    pytest tests/benchmarks/test_kernel_speed.py --benchmark-only -n 0 -s

The whole of it, on a GPU too, is ``python kernels/run.py``.
"""

import pytest
import torch

from mg_plugins.kernels.benchmarks import cases


@pytest.mark.slow
@pytest.mark.parametrize('what', cases.plan(cuda=False), ids=str)
def test_comparison(benchmark, what):
    timed = benchmark.enabled
    what = what if timed else what._replace(compilers=())
    run = lambda: cases.compare(what, torch.device('cpu'), 60 if timed else 1)  # noqa: E731
    found = benchmark.pedantic(run, rounds=1)
    assert not found['failed']
    seconds = {row['implementation']: row['seconds'] for row in found['rows']}
    benchmark.extra_info.update(seconds)
    if timed:
        ratios = {k: round(v / seconds['torch'], 3) for k, v in seconds.items()}
        print(f'\n{what}: {1e6 * seconds["torch"]:.0f} us, over ours {ratios}')
