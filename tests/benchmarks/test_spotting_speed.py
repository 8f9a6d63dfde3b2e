"""How many times faster than real time a 10-minute skeleton recording is spotted on one core.

pytest tests/benchmarks/test_spotting_speed.py -n 0 --benchmark-only --benchmark-json=speed.json
"""

import resource
import time

import numpy as np
import pytest

pytest.importorskip('mmaction')
pytestmark = [pytest.mark.slow, pytest.mark.benchmark(group='spotting')]
SECONDS = 600
CASES = [  # the smallest number of times that will do: 0.5 CPU-seconds a minute is 120
    ('spot_imigue', 'imigue22', 2, 25.0, 30),
    ('spot_demo', 'imigue22', 2, 25.0, 150),
    ('spot_sfinge3d', 'hand20', 3, 20.0, 150),
]


def peak() -> int:
    """Most memory that the process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize('config, layout, dims, fps, least', CASES)
def test_times_real_time(benchmark, config, layout, dims, fps, least) -> None:
    """Features, network and decoder of one person; CPU time of this process, one thread."""
    import torch
    from mmaction.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mg_plugins.data.layouts import get_layout
    from mg_plugins.spotting.mm import Spotter

    from paths import ROOT

    init_default_scope('mmaction')
    torch.set_num_threads(1)
    model = MODELS.build(Config.fromfile(ROOT / 'configs' / f'{config}.py').model).eval()
    classes = tuple(map(str, range(model.head.num_classes)))
    joints = get_layout(layout)
    spotter = Spotter(model, classes, joints, '', '', model.decoder, None)
    rng = np.random.default_rng(0)
    shape = round(fps * SECONDS), joints.num_joints, dims
    keypoint = rng.uniform(2, 4, shape[1:]) + rng.normal(0, 0.001, shape).cumsum(0)
    recording = keypoint.astype(np.float32), np.ones(shape[:2], np.float32), fps
    before, seconds = peak(), []

    def spot() -> None:
        began = time.process_time()
        spotter.spot(*recording)
        seconds.append(time.process_time() - began)

    benchmark.pedantic(spot, rounds=2)
    times = SECONDS / min(seconds)
    benchmark.extra_info.update(
        times_real_time=round(times), cpu_seconds_a_minute=round(60 / times, 3),
        peak_mb=peak(), peak_mb_before=before,
    )  # fmt: skip
    assert times >= least
