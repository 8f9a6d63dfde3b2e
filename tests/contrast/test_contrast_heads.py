"""The queue, the heads and the streams."""

import math

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.logging import MessageHub

from mg_plugins.contrast.losses import NEVER, ContrastError, InfoNCE, MomentumQueue
from mg_plugins.contrast.mm.models import GCNSupConHead, NearestNeighbourMining
from mg_plugins.contrast.streams import (
    LIMBS,
    GraphPool,
    GRUStream,
    StreamFusion,
    limbs,
    pool_frames,
)
from mg_plugins.data import get_layout
from mg_plugins.data.layouts import layout_names


def numbered(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None], torch.tensor(values)


def test_queue_wraps_around_and_keeps_the_newest():
    queue = MomentumQueue(1, 5)
    assert len(queue.held()[0]) == 0
    queue.put(*numbered(0, 1, 2))
    assert queue.held()[1].tolist() == [0, 1, 2]
    queue.put(*numbered(3, 4, 5))
    features, clips = queue.held()
    assert clips.tolist() == [5, 1, 2, 3, 4] and features[:, 0].tolist() == clips.tolist()
    assert queue.pointer == 1 and queue.filled == 5
    queue.put(*numbered(*range(6, 19)))
    assert sorted(queue.held()[1].tolist()) == [14, 15, 16, 17, 18]
    copy = MomentumQueue(1, 5)
    copy.load_state_dict(queue.state_dict())
    for old in (queue, copy):
        old.put(*numbered(19))
    assert copy.held()[1].tolist() == queue.held()[1].tolist()
    assert 14 not in queue.held()[1]


def test_info_nce_head_by_hand_and_own_older_keys_are_no_negatives():
    head = InfoNCE(dim=2, queue_size=4, temperature=0.5)
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    head.queue.put(torch.stack([north, east]), torch.tensor([10, 11]))
    query = torch.stack([east, east]).requires_grad_()
    key = torch.stack([east, north])
    logits = head.logits(query, key, torch.tensor([12, 11]))
    assert logits.tolist() == [[2, 0, 2], [0, 0, NEVER]]
    by_hand = (-2 + math.log(2 * math.exp(2) + 1) + math.log(2)) / 2
    loss = head(query, key, torch.tensor([12, 11]))
    assert loss.item() == pytest.approx(by_hand)
    # Keys that come before the backward pass do not disturb it.
    head.queue.put(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
    loss.backward()
    assert query.grad.abs().max() > 0
    # Clips that nothing is known of are told apart all the same.
    head.queue.put(torch.ones(4, 2), torch.full((4,), -1))
    assert (head.logits(query, key, torch.tensor([-1, -1])) > NEVER).all()


def test_mining_adds_neighbours_from_its_epoch_on():
    logits = torch.tensor([[5.0, 1.0, 3.0, NEVER], [5.0, 2.0, 1.0, 0.0]])
    extreme = torch.tensor([[5.0, 4.0, 3.0, NEVER], [5.0, 2.0, 1.0, 0.0]])
    hub = MessageHub.get_current_instance()
    hub.update_info('epoch', 2)
    try:
        assert NearestNeighbourMining(1, begin=3)([logits, extreme]) is None
        found = NearestNeighbourMining(1, begin=2)([logits, extreme])
        assert found.tolist() == [[True, True, True, False], [True, True, False, False]]
        # A key of the query's own clip is no neighbour, however many are asked for.
        assert not NearestNeighbourMining(9)([logits])[0, 3]
        assert NearestNeighbourMining(1)([logits[:, :1]]) is None
    finally:
        hub.update_info('epoch', 0)


def test_the_sequence_stream_sees_the_order_of_frames():
    clips, maps = torch.randn(3, 2, 7, 5, 3), torch.randn(3, 2, 8, 4, 5)
    made = GRUStream(8, 5, layers=2, segments=1)
    features = made(clips, maps)
    assert features.shape == (3, 8)
    features.sum().backward()
    assert all(p.grad is not None for p in made.parameters())
    made.eval()
    assert not torch.allclose(made(clips, maps), made(clips.flip(2), maps), atol=1e-4)
    with pytest.raises(ContrastError, match='15 values a frame, got 6 joints of 3'):
        made(torch.randn(3, 2, 7, 6, 3), maps)


def standard(features):
    return (features - features.mean(0)) / features.std(0, correction=0)


def test_streams_are_standardised_then_fused():
    first, second = torch.randn(16, 8), 100 * torch.randn(16, 8) + 7
    expected = torch.cat([standard(first), standard(second)], 1)
    fusion = StreamFusion(8, 8)
    for _ in range(200):
        both = fusion(first, second)
    assert torch.allclose(both, expected, atol=1e-3)
    fusion.eval()
    assert torch.allclose(fusion(first[:1], second[:1]), expected[:1], atol=0.1)
    fusion.train()
    assert torch.allclose(fusion(first[:1], second[:1]), expected[:1], atol=0.1)  # a single clip
    wide = StreamFusion(8, 32)(first, torch.randn(16, 32))
    assert wide[:, :8].square().sum() == pytest.approx(float(wide[:, 8:].square().sum()), rel=1e-3)
    balance = StreamFusion(8, 8, 'balance')
    torch.nn.init.constant_(balance.gate[2].bias, 50)
    assert torch.allclose(
        balance(first, second), expected * torch.cat([torch.ones(8), torch.zeros(8)]), atol=1e-3
    )
    with pytest.raises(ContrastError, match="got 'gated'"):
        StreamFusion(8, 8, 'gated')


def test_segments_keep_the_order_of_the_movement():
    frames = torch.randn(3, 8, 5)
    assert torch.equal(pool_frames(frames, 4)[:, 5:10], frames[:, 2:4].mean(1))
    assert torch.allclose(pool_frames(frames, 1), frames.mean(1), atol=1e-6)
    assert not torch.allclose(pool_frames(frames.flip(1), 4), pool_frames(frames, 4))
    maps = torch.randn(2, 2, 4, 8, 5)
    parts = [maps[:, :, :, 4 * k : 4 * k + 4].mean((1, 3, 4)) for k in range(2)]
    assert torch.allclose(GraphPool(2)(maps), torch.cat(parts, 1), atol=1e-6)


@pytest.mark.parametrize('name', layout_names())
def test_limbs_hang_together(name):
    layout = get_layout(name)
    limb = limbs(layout)
    assert len(limb) == layout.num_joints and set(limb) == set(range(max(limb) + 1))
    for number in set(limb):
        joints = {joint for joint in range(len(limb)) if limb[joint] == number}
        reached = {min(joints)}
        for _ in joints:
            reached |= {j for bone in layout.bones if reached & set(bone) for j in bone} & joints
        assert reached == joints, (number, joints)
    if layout.tree:  # left and right alike
        mirrored = [limb[joint] for joint in layout.swap]
        assert len(set(zip(limb, mirrored, strict=True))) == len(set(limb))
    if max(limb) >= LIMBS:  # unconnected parts alone may be more
        assert all((limb[a] == limb[b]) for a, b in layout.bones)


def test_features_are_averaged_by_limbs():
    with pytest.raises(ContrastError, match='without a gap'):
        GraphPool(2, (0, 2, 2))
    fingers = limbs('hand20')
    assert fingers[:1] + fingers[4::4] == (0, 2, 3, 4, 5) and len(set(fingers[4:8])) == 1
    maps = torch.randn(2, 1, 4, 8, 5)
    features = GraphPool(2, (0, 1, 1, 0, 1))(maps)
    rows = [maps[:, 0, :, :4, [0, 3]], maps[:, 0, :, 4:, [0, 3]]]
    rows += [maps[:, 0, :, :4, [1, 2, 4]], maps[:, 0, :, 4:, [1, 2, 4]]]
    assert torch.allclose(features, torch.cat([r.mean((2, 3)) for r in rows], 1), atol=1e-6)


def test_supervised_head_adds_its_loss_to_that_of_the_plain_one():
    config = dict(num_classes=3, in_channels=8, label_smooth_eps=0.1)
    head = MODELS.build(dict(type='GCNSupConHead', **config, supcon=dict(loss_weight=0.7)))
    assert isinstance(head, GCNSupConHead)
    plain = MODELS.build(dict(type='GCNHead', **config))
    plain.load_state_dict(head.state_dict(), strict=False)
    maps = torch.randn(6, 2, 8, 4, 5, requires_grad=True)
    samples = [ActionDataSample().set_gt_label(k % 3) for k in range(6)]
    losses, expected = head.loss(maps, samples), plain.loss(maps, samples)
    assert torch.equal(losses['loss_cls'], expected['loss_cls'])
    assert set(losses) - set(expected) == {'loss_supcon'}
    (gradient,) = torch.autograd.grad(losses['loss_supcon'], maps)
    assert gradient.abs().max() > 0
    assert torch.equal(head(maps), plain(maps))
    with pytest.raises(ContrastError, match='multi_class'):
        GCNSupConHead(3, 8, multi_class=True)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ContrastError, match='temperature must be positive, got 0'):
        InfoNCE(temperature=0)
    with pytest.raises(ContrastError, match='queue_size must be a positive integer, got 0'):
        InfoNCE(queue_size=0)
    with pytest.raises(ContrastError, match='channels=7'):
        GRUStream(7, 20)
