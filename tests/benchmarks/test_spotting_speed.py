"""How many times faster than real time skeletons are spotted on one core.

pytest tests/benchmarks/test_spotting_speed.py -n 0 --benchmark-only
"""

import time

import numpy as np
import pytest

pytest.importorskip('mmaction')
pytestmark = [pytest.mark.slow, pytest.mark.benchmark(group='spotting')]
FPS, SECONDS = 25.0, 120


@pytest.mark.parametrize('config, least', [('spot_imigue', 30), ('spot_demo', 150)])
def test_times_real_time(benchmark, config, least) -> None:
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
    spotter = Spotter(model, classes, get_layout('imigue22'), '', '', model.decoder, None)
    rng = np.random.default_rng(0)
    frames = round(FPS * SECONDS)
    keypoint = rng.uniform(200, 400, (22, 2)) + rng.normal(0, 1, (frames, 22, 2)).cumsum(0) * 0.1
    recording = keypoint.astype(np.float32), np.ones((frames, 22), np.float32), FPS

    seconds = []

    def spot() -> None:
        began = time.process_time()
        spotter.spot(*recording)
        seconds.append(time.process_time() - began)

    benchmark.pedantic(spot, rounds=3, warmup_rounds=1)
    benchmark.extra_info['times_real_time'] = round(SECONDS / min(seconds))
    assert SECONDS / min(seconds) >= least
