"""Views of a batch: equal to those of single clips, repeatable, and kind to their input."""

import numpy as np
import pytest
import torch

from mg_plugins.augment.base import Draws
from mg_plugins.augment.batched import BatchedViews, batch_draws, write_features
from mg_plugins.augment.chain import Drawn
from mg_plugins.data.layouts import get_layout
from mg_plugins.data.skeleton import FEATURES, features

VIEWS = [
    dict(chain='strong', feat='joint'),
    dict(chain='micro_gesture', feat='bone'),
    dict(chain=['weak', dict(type='MGMaskRegion')], feat='joint_motion'),
    dict(chain='aimclr_extreme', feat='bone_motion'),
    dict(chain=[], feat='joint'),
]


def make_batch(clips=8, layout='ntu25', dims=3, frames=40):
    rng = np.random.default_rng(5)
    shape = (clips, 2, frames, get_layout(layout).num_joints)
    keypoint = rng.normal(size=(*shape, dims)).cumsum(2).astype(np.float32)
    score = (rng.random(shape) * (rng.random(shape) > 0.2)).astype(np.float32)
    keypoint[score == 0] = 0
    return keypoint, score


def together(drawn):
    """What was drawn for N clips by themselves, as one draw for a batch of N."""
    steps = []
    for step in zip(*drawn, strict=True):
        hit = [number for number, one in enumerate(step) if one.params is not None]
        params = [step[number].params for number in hit]
        if not hit:
            steps.append(Drawn(None, None))
            continue
        stacked = {key: np.stack([one[key] for one in params]) for key in params[0]}
        steps.append(Drawn(np.array(hit), stacked))
    return steps


@pytest.mark.parametrize(('layout', 'dims'), [('ntu25', 3), ('imigue22', 2), ('coco17', 2)])
def test_a_batch_gets_what_single_clips_get(layout, dims):
    keypoint, score = make_batch(layout=layout, dims=dims)
    batched = BatchedViews(layout, VIEWS)
    drawn, expected = [], np.empty((len(keypoint), len(VIEWS), *keypoint.shape[1:4], 3))
    for number, view in enumerate(batched.views):
        alone = [
            view.chain.draw(Draws(np.random.default_rng((number, clip))), keypoint.shape[1:])
            for clip in range(len(keypoint))
        ]
        for clip, what in enumerate(alone):
            points, scores = view.chain.apply(keypoint[clip], score[clip], what)
            expected[clip, number] = features(points, scores, batched.layout, view.feat)
        drawn.append(together(alone))
    given = torch.from_numpy(keypoint.copy()), torch.from_numpy(score.copy())
    out = batched.apply(*given, drawn)
    assert out.dtype == torch.float32 and out.is_contiguous()
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(given[0], keypoint)
    np.testing.assert_array_equal(given[1], score)


@pytest.mark.parametrize(('layout', 'dims'), [('ntu25', 3), ('imigue22', 2)])
def test_features_are_those_of_single_clips(layout, dims):
    keypoint, score = make_batch(layout=layout, dims=dims)
    layout = get_layout(layout)
    out = torch.empty(*keypoint.shape[:4], 3 * len(FEATURES))
    write_features(torch.from_numpy(keypoint), torch.from_numpy(score), layout, FEATURES, out)
    for clip, got in enumerate(out):
        expected = features(keypoint[clip], score[clip], layout, FEATURES)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_the_seed_decides():
    keypoint, score = map(torch.from_numpy, make_batch())
    batched = BatchedViews('ntu25', VIEWS)

    def views(seed):
        return batched(keypoint, score, torch.Generator().manual_seed(seed))

    assert torch.equal(views(1), views(1)) and not torch.equal(views(1), views(2))
    torch.manual_seed(3)
    first, second = batched(keypoint, score), batched(keypoint, score)
    torch.manual_seed(3)
    assert torch.equal(batched(keypoint, score), first) and not torch.equal(first, second)


def test_views_and_clips_differ():
    keypoint, score = map(torch.from_numpy, make_batch(clips=1))
    keypoint, score = keypoint.expand(4, -1, -1, -1, -1), score.expand(4, -1, -1, -1)
    out = BatchedViews('ntu25', [dict(chain='weak'), dict(chain='weak')])(keypoint, score)
    flat = out.reshape(8, -1)
    assert (torch.cdist(flat, flat) + torch.eye(8) > 1e-3).all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    keypoint, score = map(torch.from_numpy, make_batch(clips=3))
    batched = BatchedViews('ntu25', VIEWS)
    plain = batched(keypoint, score, torch.Generator().manual_seed(0))
    with torch.autocast('cpu', dtype=dtype):
        cast = batched(keypoint, score, torch.Generator().manual_seed(0))
    assert torch.equal(plain, cast) and not plain.requires_grad
    half = batched(keypoint.to(dtype), score, torch.Generator().manual_seed(0))
    assert half.dtype == torch.float32 and half.isfinite().all()


def test_a_batch_where_none_or_all_are_augmented():
    draws = batch_draws(3, 'cpu', torch.Generator().manual_seed(0))
    views = BatchedViews('ntu25', [dict(chain=[dict(type='MGNoise', p=p) for p in (0.0, 1.0)])])
    drawn = views.views[0].chain.draw(draws, (1, 4, 25, 3))
    assert drawn[0] == (None, None)
    assert drawn[1].index is None and drawn[1].params['noise'].shape == (3, 1, 4, 25, 3)


def test_wrong_views_are_named():
    for views, message in (
        ([], 'views is empty'),
        ([dict(chian='weak')], "view 0 has the key 'chian'"),
        ([dict(feat='bones')], 'view 0 has feat='),
        ([dict(feat='bone'), dict(feat=['joint', 'bone'])], r'have \[1, 2\] features'),
    ):
        with pytest.raises(ValueError, match=message):
            BatchedViews('ntu25', views)
