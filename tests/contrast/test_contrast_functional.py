"""The losses against cases worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from mg_plugins.contrast.losses import (
    NEVER,
    ContrastError,
    distribution_loss,
    drop_energetic,
    effective_rank,
    info_nce,
    spread,
    supervised_contrast,
)


def test_info_nce_by_hand():
    # Two queries; shares of the own key 1/2 and 3/4.
    logits = torch.tensor([[0.0, 0.0, NEVER], [math.log(3), NEVER, 0.0]])
    assert info_nce(logits).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    # A second positive for the first query alone: its log share is that of the first again.
    positives = torch.tensor([[True, True, False], [True, False, False]])
    assert info_nce(logits, positives).item() == pytest.approx(info_nce(logits).item())
    positives[1, 2] = True
    by_hand = (math.log(2) + (math.log(4 / 3) + math.log(4)) / 2) / 2
    assert info_nce(logits, positives).item() == pytest.approx(by_hand)


def test_distribution_loss_is_least_at_the_target_and_leaves_it_alone():
    target = torch.randn(4, 9, requires_grad=True)
    entropy = torch.special.entr(target.softmax(1)).sum(1).mean()
    assert distribution_loss(target, target).item() == pytest.approx(entropy.item(), rel=1e-5)
    other = torch.randn(4, 9, requires_grad=True)
    loss = distribution_loss(other, target)
    assert loss > entropy
    loss.backward()
    assert target.grad is None and other.grad.abs().max() > 0
    never = target.detach().clone()
    never[:, 3] = NEVER
    assert torch.isfinite(distribution_loss(never, never))


def test_supervised_contrast_by_hand():
    # Two clips of class 0, one of class 1, all at right angles: every share is 1/2.
    z, labels = torch.eye(3), torch.tensor([0, 0, 1])
    assert supervised_contrast(z, labels, 0.1).item() == pytest.approx(math.log(2))
    # The pair together and the third away from it: share e^10 / (e^10 + 1) for both anchors.
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    by_hand = math.log1p(math.exp(-10))
    assert supervised_contrast(z, labels, 0.1).item() == pytest.approx(by_hand, rel=1e-3)
    alone = supervised_contrast(z.requires_grad_(), torch.arange(3), 0.1)
    alone.backward()
    assert alone == 0 and torch.isfinite(z.grad).all()


def test_spread_and_rank_tell_collapse():
    even = F.normalize(torch.randn(512, 16), dim=1)
    assert spread(even) == pytest.approx(1, abs=0.1)
    assert 14 < effective_rank(even) <= 16
    constant = even[:1].expand(512, -1)
    assert spread(constant) < 1e-5 and effective_rank(constant) == 0
    line = F.normalize(even[:1] + torch.linspace(-1, 1, 512)[:, None] * even[1:2], dim=1)
    assert effective_rank(line) < 2.5


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_the_rank_of_a_diverged_training_is_an_error_that_says_so(value):
    embeddings = torch.randn(8, 4)
    embeddings[3, 1] = value
    with pytest.raises(ContrastError, match='diverged. Lower the learning rate'):
        effective_rank(embeddings)


def test_dropping_takes_the_share_that_stands_out_most():
    maps = torch.zeros(1, 1, 2, 3, 5)
    maps[0, 0, 0, 1, 2] = maps[0, 0, 1, 2, 4] = 7
    dropped = drop_energetic(maps + 1, 2 / 30)
    assert (dropped == 0).sum() == 2
    assert dropped[0, 0, 0, 1, 2] == dropped[0, 0, 1, 2, 4] == 0
    assert torch.equal(drop_energetic(maps + 1, 0.0), maps + 1)
