"""LongTailLoss against its formulas."""

import pytest
import torch
import torch.nn.functional as F

from mg_plugins.losses import LongTailLoss, resolve_counts

COUNTS = [80, 15, 5]


def test_without_options_it_is_cross_entropy():
    scores, labels = torch.randn(7, 3), torch.randint(3, (7,))
    loss = LongTailLoss(COUNTS, tau=0)(scores, labels)
    torch.testing.assert_close(loss, F.cross_entropy(scores, labels))


def test_logit_adjustment_adds_the_log_prior():
    scores, labels = torch.randn(7, 3), torch.randint(3, (7,))
    prior = torch.tensor([0.8, 0.15, 0.05]).log()
    loss = LongTailLoss(COUNTS, tau=1.5, loss_weight=2.0)(scores, labels)
    torch.testing.assert_close(loss, 2 * F.cross_entropy(scores + 1.5 * prior, labels))


def test_class_weights_are_of_mean_one_and_favour_the_rare():
    weight = LongTailLoss(COUNTS, tau=0, beta=0.9).weight
    wanted = torch.tensor([(1 - 0.9) / (1 - 0.9**n) for n in COUNTS])
    torch.testing.assert_close(weight, wanted / wanted.mean())
    assert weight[2] > weight[1] > weight[0]


def test_soft_labels_and_named_counts():
    loss = LongTailLoss('imigue')
    assert len(loss.shift) == 32 and loss.shift.argmax() == 31
    assert loss(torch.randn(2, 32), torch.full((2, 32), 1 / 32)).isfinite()


@pytest.mark.parametrize('counts', [[3, 0, 1], [[1, 2]], [-1, 2]])
def test_counts_must_be_positive(counts):
    with pytest.raises(ValueError, match='one positive number a class'):
        resolve_counts(counts)


def test_a_head_of_another_size_is_named():
    with pytest.raises(ValueError, match='scores 4 classes but counts has 3'):
        LongTailLoss(COUNTS)(torch.randn(2, 4), torch.tensor([0, 1]))
