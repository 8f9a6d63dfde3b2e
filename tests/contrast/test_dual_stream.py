"""The recognizer: what learns from what, and what it refuses."""

import copy

import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.registry import DefaultScope

from mg_plugins.contrast.losses import ContrastError
from mg_plugins.contrast.mm.hooks import MomentumHook, check_queues
from mg_plugins.contrast.mm.models import RecognizerDualStream
from mg_plugins.contrast.probes import filling_statistics

from contrast_toys import BACKBONE, GRU, build

SECOND = {'gru': GRU, 'none': None}
FUSED = dict(type='MGFuse', backbone=BACKBONE)
AIMCLR = dict(
    sequence=None, extreme=1.0, drop=0.3, mining=dict(type='NearestNeighbourMining', neighbours=1)
)


def views(number=2, clips=6, frames=8):
    return torch.randn(clips, number, 1, frames, 20, 3)


def samples(clips=6):
    return [ActionDataSample(metainfo=dict(frame_dir=f'clip {k}')) for k in range(clips)]


def step(model, inputs, data_samples=None):
    losses = model(inputs, data_samples, mode='loss')
    total, log = model.parse_losses(losses)
    total.backward()
    return log


@pytest.mark.parametrize('second', SECOND)
@pytest.mark.parametrize('backbone', [BACKBONE, FUSED], ids=['plain', 'fused'])
@pytest.mark.parametrize('segments, layout', [(1, None), (4, 'msr_action3d')])
def test_every_weight_learns_and_no_key_does(segments, layout, second, backbone):
    own = dict(segments=segments, layout=layout, cross=0.5)
    model = build(backbone=backbone, sequence=SECOND[second], **own)
    for _ in range(2):  # the first batch has no negatives yet
        log = step(model, views(4 if SECOND[second] and layout else 2))
    pairs = {'loss_graph', 'loss_sequence', 'loss_graph_to_sequence', 'loss_sequence_to_graph'}
    expected = pairs | {'loss_fused'} if SECOND[second] else {'loss_graph'}
    assert {name for name in log if name.startswith('loss_')} == expected
    assert {'contrast/acc', 'contrast/positive', 'contrast/negative'} <= set(log)
    for name, weight in model.named_parameters():
        if name.startswith('momentum.'):
            assert not weight.requires_grad and weight.grad is None
        else:
            assert weight.grad is not None and weight.grad.isfinite().all(), name
    still = {n for n, p in model.named_parameters() if p.grad is not None and not p.grad.any()}
    # γ starts at 0, so what is behind it waits for its first step; biases before a norm are idle.
    assert not {n for n in still if 'mg_fusion' not in n and not n.endswith('.bias')}, still


def test_keys_come_from_copies_that_follow():
    model = build()
    model.init_weights()
    for name in model.parts:
        slow, fast = model.momentum[name].state_dict(), getattr(model, name).state_dict()
        assert slow and all(torch.equal(slow[key], fast[key]) for key in fast)
    with torch.no_grad():
        weight = model.projectors['graph'][0].weight
        before = weight.clone()
        weight.add_(1)
    model.update_momentum(0.9)
    slow = model.momentum['projectors']['graph'][0].weight
    assert torch.allclose(slow, before + 0.1, atol=1e-6)
    assert torch.equal(weight, before + 1)


def test_both_streams_are_contrasted_across():
    model = build(within=0.0, cross=1.0, fused=0.0)
    for _ in range(2):
        log = step(model, views())
    assert {n for n in log if n.startswith('loss_')} == {
        'loss_graph_to_sequence',
        'loss_sequence_to_graph',
    }
    assert 'contrast/acc' in log
    assert model.sequence.gru.weight_hh_l0.grad.any()
    assert model.backbone.gcn[0].gcn.conv.weight.grad.any()


def test_the_graph_stream_learns_from_its_own_views():
    model = build(layout='msr_action3d', cross=0.0)
    seen = {'backbone': [], 'sequence': []}
    for name, clips in seen.items():
        for part in (getattr(model, name), model.momentum[name]):
            part.register_forward_pre_hook(lambda m, args, clips=clips: clips.append(args[0]))
    shown = views(4)
    losses = model(shown, mode='loss')
    assert {n for n in losses if n.startswith('loss_')} == {
        'loss_graph',
        'loss_sequence',
        'loss_fused',
    }
    for clips, own in ((seen['sequence'], shown[:, :2]), (seen['backbone'], shown[:, 2:])):
        assert len(clips) == 2 and all(torch.equal(c, own[:, k]) for k, c in enumerate(clips))
    with pytest.raises(ContrastError, match='learns from 2 views.*or two more'):
        model(views(3), mode='loss')
    with pytest.raises(ContrastError, match='limbs are those of 22 joints'):
        build(layout='imigue22')(views(), mode='loss')


def test_a_batch_that_finds_the_queues_empty_logs_no_contrast():
    model = build()
    assert step(model, views()) == {}  # it would be a loss of 0 and an accuracy of 1
    assert step(model, views())['loss'] > 0


def test_aimclr_is_a_setting():
    model = build(**AIMCLR)
    step(model, views(3), samples())
    log = step(model, views(3), samples())
    assert {'loss_graph', 'loss_graph_extreme'} <= set(log) and log['loss_graph_extreme'] > 0
    with pytest.raises(ContrastError, match='learns from 3 views'):
        model(views(2), mode='loss')


def test_the_queue_knows_which_clip_a_key_shows():
    model = build(sequence=None)
    for first in (0, 3):
        step(model, views(clips=3), samples()[first : first + 3])
    step(model, views(clips=3), samples()[:3])
    numbers = model.heads['graph'].queue.held()[1]
    assert len(numbers) == 9 and len(numbers.unique()) == 6
    assert torch.equal(numbers[:3], numbers[6:])


def test_features_do_not_depend_on_mode_or_company():
    model = build()
    step(model, views(), samples())
    clips = views(1)[:, 0]
    features = model.extract(clips, None)
    assert set(features) == {'graph', 'sequence', 'fused'}
    widths = dict(graph=32, sequence=32, fused=64)
    assert all(f.shape == (6, widths[name]) for name, f in features.items())
    assert not any(f.requires_grad for f in features.values())
    assert model.training
    assert torch.allclose(model.extract(clips[:1], 'fused'), features['fused'][:1], atol=1e-5)
    crops = model.extract(torch.stack([clips, clips], 1), 'graph')
    assert torch.allclose(crops, features['graph'], atol=1e-5)
    predicted = model(clips[:, None], samples(), mode='predict')
    assert torch.equal(predicted[2].features.fused, features['fused'][2:3])
    model.eval()
    assert torch.allclose(model(clips[:, None]), features['fused'], atol=1e-5)
    with pytest.raises(ContrastError, match="one of graph, got 'fused'"):
        build(sequence=None).extract(clips, 'fused')


def test_untrained_twins_have_the_statistics_of_the_clips():
    model = build().eval()
    clips = 5 + 3 * views(1, clips=40)[:, 0]
    before = {name: value.clone() for name, value in model.named_parameters()}
    with filling_statistics(model):
        for part in clips.split(20):
            model.extract(part, None)
    mean = clips.permute(0, 1, 3, 4, 2).flatten(1, 3).mean((0, 2))
    torch.testing.assert_close(model.backbone.data_bn.running_mean, mean)
    fused = model.extract(clips, 'fused')
    assert fused.mean(0).abs().max() < 0.05 and (fused.std(0) - 1).abs().max() < 0.2
    assert not any(module.training for module in model.modules())
    assert model.backbone.data_bn.momentum == 0.1  # and it is done with learning statistics
    model.extract(-clips, None)
    torch.testing.assert_close(model.backbone.data_bn.running_mean, mean)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_copies_are_whole_and_learn_alone():
    model = build(backbone=FUSED)
    step(model, views())
    twin = copy.deepcopy(model)
    twin.update_momentum(0.0)
    step(twin, views())
    assert twin.heads['graph'].queue.filled == 12 and model.heads['graph'].queue.filled == 6


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(within=-1.0), 'must not be negative'),
        (dict(sequence=None, within=0.0), 'nothing is contrasted'),
        (dict(drop=0.3), 'needs extreme > 0'),
        (dict(masked={}), 'needs a SkeletonTransformer'),
        (dict(fusion='balance', fused=0.0), "learns from fused > 0; take 'concat'"),
    ],
)
def test_settings_without_a_meaning_are_refused(changes, message):
    with pytest.raises(ContrastError, match=message):
        build(**changes)


def test_a_queue_larger_than_the_training_set_is_refused_with_a_suggestion():
    model = build(head=dict(queue_size=64))
    check_queues(model, 64)
    with pytest.raises(ContrastError, match=r'queue of 64 .* set of 63 clips: .*queue_size=16'):
        check_queues(model, 63)


def test_forgotten_momentum_is_noticed(monkeypatch):
    monkeypatch.setattr('mg_plugins.contrast.learner.PATIENCE', 2)
    model = build(sequence=None)
    for _ in range(2):
        step(model, views())
    with pytest.raises(ContrastError, match='MomentumHook'):
        step(model, views())
    model.update_momentum(0.9)
    step(model, views())


def test_momentum_grows_along_a_cosine():
    hook = MomentumHook(0.9, cosine=True)
    values = [hook.value(step, 10) for step in range(11)]
    assert values[0] == pytest.approx(0.9) and values[-1] == 1
    assert values[5] == pytest.approx(0.95) and values == sorted(values)
    with pytest.raises(ContrastError, match='momentum must be'):
        MomentumHook(1.0)


@pytest.mark.parametrize('stream', ['fused', 'graph', 'sequence'])
def test_a_linear_follower_sees_the_features_that_probes_see(stream):
    model = build(backbone=FUSED)
    step(model, views())
    with DefaultScope.overwrite_default_scope('mmaction'):
        follower = RecognizerDualStream(
            FUSED,
            8,
            dict(type='GCNHead', num_classes=5),
            sequence=GRU,
            stream=stream,
            frozen=True,
        )
    missing, unexpected = follower.load_state_dict(model.state_dict(), strict=False)
    assert all(name.startswith('cls_head.') for name in missing)
    left = {name.split('.')[0] for name in unexpected}
    assert left <= {'sequence', 'fusion'} and (stream != 'fused' or not left)
    follower.train()
    clips = views(1)
    features, _ = follower.extract_feat(clips)
    assert torch.allclose(features.flatten(1), model.extract(clips, stream), atol=1e-5)
    learning = {n for n, p in follower.named_parameters() if p.requires_grad}
    assert learning == {'cls_head.fc.weight', 'cls_head.fc.bias'}
