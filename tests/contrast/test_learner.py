"""The learner in plain PyTorch: it runs without OpenMMLab, and takes keys from the other view."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from mg_plugins.contrast import (
    ContrastError,
    DualStream,
    GRUStream,
    InfoNCE,
    MaskedMotion,
    SkeletonTransformer,
    Terms,
    evaluating,
)
from mg_plugins.contrast.masked import motion, take

from paths import ROOT


class Joints(nn.Module):
    """A backbone of one layer: clips (N, M, T, V, 3) to maps (N, M, 8, T, V)."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 8), nn.BatchNorm3d(8)

    def forward(self, clips):
        return self.norm(self.layer(clips).relu().movedim(-1, 1)).movedim(1, 2)


def small(**options):
    return DualStream(Joints(), 8, GRUStream(8, 5), head=lambda: InfoNCE(6, 20), **options)


ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmengine', 'mmcv', 'mmaction'):
            raise ImportError(f'{name} is blocked')

sys.meta_path.insert(0, Blocked())
import torch
from torch import nn
from mg_plugins.contrast import DualStream, GRUStream, InfoNCE, MomentumQueue, knn_probe
from mg_plugins.losses import LongTailLoss

class Joints(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 8), nn.BatchNorm3d(8)

    def forward(self, clips):
        return self.norm(self.layer(clips).relu().movedim(-1, 1)).movedim(1, 2)

torch.manual_seed(0)
learner = DualStream(Joints(), 8, GRUStream(8, 5), head=lambda: InfoNCE(6, 24, 0.2))
assert isinstance(learner.heads['graph'].queue, MomentumQueue)
optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
clips = torch.randn(24, 1, 1, 5, 3) + 0.1 * torch.randn(24, 1, 6, 5, 3)
right = []
for step in range(40):
    at = torch.randperm(24)[:12]
    views = torch.stack([clips[at] + 0.05 * torch.randn_like(clips[at]) for _ in range(2)], 1)
    losses = learner(views, at)
    optimizer.zero_grad()
    sum(value for name, value in losses.items() if name.startswith('loss_')).backward()
    optimizer.step()
    learner.update_momentum(0.9)
    right.append(float(losses.get('contrast/acc', 0)))  # none while the queue is empty
first, last = sum(right[5:15]), sum(right[-10:])
assert last > first + 1, (first, last)
assert learner.extract(clips, 'fused').shape == (24, 64)
assert LongTailLoss([3, 1])(torch.zeros(2, 2), torch.tensor([0, 1])) > 0
assert not {'mmengine', 'mmcv', 'mmaction'} & set(sys.modules)
"""


def test_it_learns_where_openmmlab_cannot_be_imported():
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', ALONE], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_keys_come_from_the_other_view():
    """With a still encoder both queries and keys are known: they are the two views' embeddings."""
    learner = small().eval()
    views = torch.randn(6, 2, 1, 4, 5, 3)
    learner(views, torch.arange(6))
    for stream in learner.streams:
        queue = learner.heads[stream].queue
        query, key = (
            nn.functional.normalize(
                learner.projectors[stream](learner.extract(views[:, k], stream)), dim=1
            )
            for k in range(2)
        )
        assert torch.allclose(queue.held()[0], key, atol=1e-5)
        assert torch.allclose(learner.queries[stream], query, atol=1e-5)
        assert not torch.allclose(query, key, atol=1e-2)


@pytest.mark.parametrize('other', [GRUStream(6, 5), GRUStream(8, 5, segments=2)])
def test_a_sequence_stream_of_another_width_is_named(other):
    learner = DualStream(Joints(), 8, other, head=lambda: InfoNCE(6, 20))
    with pytest.raises(ContrastError, match='channels · segments = 32.* were expected: build it'):
        learner(torch.randn(6, 2, 1, 4, 5, 3))


@pytest.mark.parametrize('broken', [False, True])
def test_extracting_leaves_every_module_in_its_mode(broken):
    learner = small()
    learner.train()
    learner.backbone.norm.eval()  # frozen statistics, as fine-tuning likes them
    before = [module.training for module in learner.modules()]
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    if broken:
        with pytest.raises(RuntimeError):
            learner.extract(torch.randn(2, 1, 4, 5, 7))
        with pytest.raises(KeyError), evaluating(learner):
            raise KeyError
    else:
        learner.extract(torch.randn(2, 1, 4, 5, 3))
    assert [module.training for module in learner.modules()] == before
    assert all(torch.equal(value, state[name]) for name, value in learner.state_dict().items())


def test_masked_motion_is_learned_and_the_hidden_tokens_stay_hidden():
    torch.manual_seed(0)
    encoder = SkeletonTransformer(5, channels=16, layers=1)
    masked = MaskedMotion(encoder, share=0.5)
    learner = DualStream(encoder, 16, segments=2, terms=Terms(within=0), masked=masked)
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    time = torch.linspace(0, 6, 16)[:, None, None]
    views = (time + torch.rand(8, 1, 1, 1, 5, 3) * 6).sin()
    history = []
    for _ in range(25):
        losses = learner(views.expand(-1, 2, -1, -1, -1, -1))
        assert set(losses) == {'loss_masked'}
        optimizer.zero_grad()
        losses['loss_masked'].backward()
        optimizer.step()
        history.append(float(losses['loss_masked']))
    assert sum(history[-5:]) < 0.8 * sum(history[:5])
    assert learner.extract(views[:, 0], 'graph').shape == (8, 32)
    # What is hidden has no way into the encoder: its gradient by the clip is 0.
    clips = views[:, 0].clone().requires_grad_()
    encoder.eval()
    masked.order = lambda target: torch.arange(target.shape[1]).expand(len(target), -1)
    target = encoder.patches(motion(clips.detach().flatten(0, 1)))
    shown = encoder.encode(take(encoder.embed(clips), masked.order(target)[:, 10:]))
    (gradient,) = torch.autograd.grad(shown.sum(), clips)
    assert not gradient[:, :, :8].any() and gradient[:, :, 8:].any()


def test_masked_motion_joins_contrast():
    encoder = SkeletonTransformer(5, channels=8, layers=1, heads=2)
    learner = DualStream(
        encoder,
        8,
        GRUStream(8, 5),
        head=lambda: InfoNCE(6, 20),
        masked=MaskedMotion(encoder, 0.5, heads=2),
    )
    losses = learner(torch.randn(4, 2, 1, 8, 5, 3))
    assert {'loss_masked', 'loss_graph', 'loss_fused'} <= set(losses)
    with pytest.raises(ContrastError, match='patches of 4 frames'):
        learner(torch.randn(4, 2, 1, 6, 5, 3))
