"""A chain drawn for each clip."""

import numpy as np
import pytest
import torch

from mg_plugins.augment import flip
from mg_plugins.augment.base import Draws
from mg_plugins.augment.batched import BatchedViews
from mg_plugins.augment.chain import Chain
from mg_plugins.data.layouts import get_layout

FLIP = dict(type='MGFlip', p=1.0)


def one_of(*chains, **options):
    return dict(type='MGOneOf', chains=chains, **options)


def test_every_clip_and_view_draws_its_own_chain():
    clips, scores = torch.randn(64, 1, 6, 20, 3), torch.ones(64, 1, 6, 20)
    views = BatchedViews('msr_action3d', [dict(chain=[one_of([], [FLIP])])] * 2)
    made = views(clips, scores, torch.Generator().manual_seed(0))
    mirror, _ = flip(clips, scores, get_layout('msr_action3d').swap)
    same = (made == clips[:, None]).flatten(2).all(2)
    turned = (made == mirror[:, None]).flatten(2).all(2)
    assert (same ^ turned).all()
    assert 16 < same[:, 0].sum() < 48 and not torch.equal(same[:, 0], same[:, 1])


def test_a_single_clip_gets_one_of_them():
    clip, score = np.random.default_rng(0).normal(size=(1, 6, 20, 3)), np.ones((1, 6, 20))
    chain = Chain(one_of([], [FLIP]), 'msr_action3d')
    made = [chain(clip, score, Draws(np.random.default_rng(k)))[0] for k in range(20)]
    assert 0 < sum(np.array_equal(other, clip) for other in made) < 20


@pytest.mark.parametrize(
    'chains, message', [('weak', 'list of chains'), ([], 'list of chains'), (['wek'], "'wek' is")]
)
def test_wrong_chains_are_refused(chains, message):
    with pytest.raises(ValueError, match=message):
        Chain(dict(type='MGOneOf', chains=chains), 'msr_action3d')
