"""Train step of the fused ST-GCN over MSR-Action3D against its plain twin's, turn by turn.

``pytest tests/benchmarks --benchmark-only -s`` prints the ratio of the medians.
"""

import statistics
import time

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from mg_plugins.openmmlab.memory import keep_memory

from paths import ROOT


@pytest.mark.slow
def test_step(benchmark):
    init_default_scope('mmaction')
    keep_memory()  # as tools/train.py does
    samples = [ActionDataSample().set_gt_label(label) for label in range(16)]
    inputs = torch.randn(16, 1, 1, 48, 20, 3)

    def stepper(config):
        cfg = Config.fromfile(ROOT / 'configs' / config)
        model = MODELS.build(cfg.model).train()
        model.init_weights()
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)

        def step():
            wrapper.update_params(model(inputs, samples, mode='loss')['loss_cls'])

        return step

    plain, fused = (
        stepper(name) for name in ('stgcn_msr_action3d.py', 'stgcn_mgfuse_msr_action3d.py')
    )
    times = []

    def plain_turn():
        start = time.perf_counter()
        plain()
        times.append(time.perf_counter() - start)

    benchmark.pedantic(fused, setup=plain_turn, rounds=60, warmup_rounds=3)
    if benchmark.stats is not None:  # the plugin only times where it is asked to
        ratio = benchmark.stats.stats.median / statistics.median(times)
        benchmark.extra_info['fused over plain'] = ratio
        print(f'\nplain {1000 * statistics.median(times):.0f} ms, fused over plain {ratio:.3f}')
    assert times, 'the plain twin took no turn'
