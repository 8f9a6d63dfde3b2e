"""LongTailLoss against its formulas."""

import pytest
import torch
import torch.nn.functional as F

from mg_plugins.errors import UserError
from mg_plugins.losses import LongTailLoss, NameLoss, embed_names, resolve_counts

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


NAMES = ['touch hair', 'touch face', 'fold arms', 'touch ear']


def test_names_that_share_letters_are_close():
    vectors = embed_names(NAMES)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2] + 0.2
    capitals = embed_names([name.title() for name in NAMES])
    torch.testing.assert_close(capitals @ capitals.T, near)
    assert embed_names('imigue', 16).shape == (32, 16)


def test_every_name_keeps_half_of_its_length():
    apart = embed_names([chr(0x4E00 + i) for i in range(20)])  # no letter in common
    torch.testing.assert_close(apart @ apart.T, torch.eye(20))


@pytest.mark.parametrize(
    'names', ['nonsense', [], ['a', 'A'], ['', 'a'], [' ', 'a'], [None, 'a'], [1, 2]], ids=str
)
def test_names_that_are_none_are_refused(names):
    with pytest.raises(UserError, match='names'):
        NameLoss(4, names)


def test_a_loss_of_names_needs_a_dimension():
    with pytest.raises(UserError, match='dim at least 1'):
        NameLoss(4, NAMES, dim=0)


def test_the_loss_of_names_is_lowest_for_a_clip_beside_its_own():
    loss = NameLoss(4, NAMES[:3], dim=3, temperature=0.5, loss_weight=2.0)
    features, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 2, 0])
    cosines = F.cosine_similarity(loss.project(features)[:, None], loss.names[None], dim=2)
    wanted = 2 * F.cross_entropy(cosines / 0.5, labels)
    torch.testing.assert_close(loss(features, labels), wanted)
    torch.nn.init.zeros_(loss.project.bias)
    loss.project.weight.data = torch.linalg.pinv(torch.eye(4)[:, :3])
    own = torch.cat([loss.names, torch.zeros(3, 1)], 1)
    assert loss(own, torch.arange(3)) < loss(own, torch.tensor([1, 2, 0])) - 1


def test_a_head_with_names_needs_one_a_class():
    pytest.importorskip('mmaction')
    from mmaction.registry import MODELS
    from mmaction.structures import ActionDataSample

    import mg_plugins.losses.mm  # noqa: F401

    head = dict(type='MGNamesHead', num_classes=3, in_channels=4, names=dict(names=NAMES[:3]))
    samples = [ActionDataSample().set_gt_label(label) for label in (0, 2)]
    losses = MODELS.build(head).loss(torch.randn(2, 1, 4, 5, 6), samples)
    assert set(losses) >= {'loss_cls', 'loss_names'} and losses['loss_names'] > 0
    with pytest.raises(UserError, match='4 names were given for 3 classes'):
        MODELS.build(dict(head, names=dict(names=NAMES)))
