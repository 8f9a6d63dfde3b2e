"""Views of a SkeletonCLR/AimCLR-like chain: made clip by clip, and for a whole batch.

``pytest tests/benchmarks/test_augment_speed.py --benchmark-only -s`` prints clips a second of both,
on one core, each turn of one next to a turn of the other. A clip is 3 × 50 × 25 × 2 (C, T, V, M)
and gets one strong and two weak views.
"""

import statistics
import time

import numpy as np
import pytest
import torch
from mmaction.registry import TRANSFORMS
from mmengine.registry import init_default_scope

import mg_plugins  # noqa: F401
from mg_plugins.augment.batched import BatchedViews

VIEWS = [dict(chain='strong'), dict(chain='weak'), dict(chain='weak')]
CLIPS = 128


@pytest.mark.slow
def test_views(benchmark):
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    rng = np.random.default_rng(0)
    keypoint = rng.normal(size=(CLIPS, 2, 50, 25, 3)).astype(np.float32)
    score = np.ones(keypoint.shape[:-1], np.float32)
    steps = (
        dict(type='MultiView', layout='ntu25', views=VIEWS, seed=0),
        dict(type='FormatGCNInput', num_person=2),
    )
    view, form = (TRANSFORMS.build(step) for step in steps)
    views = BatchedViews('ntu25', VIEWS)
    batch = torch.from_numpy(keypoint), torch.from_numpy(score)

    def clip_by_clip():
        done = []
        for number in range(CLIPS):
            results = dict(
                keypoint=keypoint[number], keypoint_score=score[number], sample_idx=number
            )
            done.append(torch.from_numpy(form(view(results))['keypoint']))
        return torch.stack(done)

    times = []

    def turn_of_the_other():
        start = time.perf_counter()
        clip_by_clip()
        times.append(time.perf_counter() - start)

    assert clip_by_clip().shape == views(*batch).shape == (CLIPS, 3, 2, 50, 25, 3)
    benchmark.pedantic(views, batch, setup=turn_of_the_other, rounds=40, warmup_rounds=3)
    if benchmark.stats is not None:  # the plugin only times where it is asked to
        single = CLIPS / statistics.median(times)
        batched = CLIPS / benchmark.stats.stats.median
        benchmark.extra_info.update(
            {'clip by clip, clips/s': single, 'batch, clips/s': batched, 'ratio': batched / single}
        )
        print(f'\nclip by clip {single:.0f}/s, batch {batched:.0f}/s, {batched / single:.1f} times')
