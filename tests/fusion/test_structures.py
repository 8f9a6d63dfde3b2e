"""Where ``positions='auto'`` puts the fusion in models built like the public backbones.

The models here are small and written for this test; ``docs/plug-in.md`` lists the real ones.
"""

import warnings
from collections import defaultdict

import pytest
import torch
from torch import nn

from mg_plugins.fusion import PlugError, fusions, plug, unplug

from toy_models import JOINTS, Tokens, chain_graph, wake

T = 12


class Unit(nn.Module):
    """Graph convolution, temporal convolution, residual: (N, C, T, V) in and out."""

    def __init__(self, channels, out, stride=1):
        super().__init__()
        self.gcn = nn.Conv2d(channels, out, 1)
        self.tcn = nn.Conv2d(out, out, (3, 1), (stride, 1), (1, 0))
        self.down = nn.Conv2d(channels, out, 1, (stride, 1))

    def forward(self, x):
        return (self.tcn(self.gcn(x).relu()) + self.down(x)).relu_()


class WithGraph(Unit):
    """Returns the graph beside the map: (x, A)."""

    def forward(self, x, A):
        return super().forward(x), A


class GraphFirst(Unit):
    """Returns a graph of each channel (N, C, V, V) before the map."""

    def forward(self, x):
        x = super().forward(x)
        return torch.einsum('nctv,nctw->ncvw', x, x), x


class Base(nn.Module):
    num_point = JOINTS
    widths = ((3, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 1))

    def forward(self, x):
        return self.body(x).mean((2, 3))


class Numbered(Base):
    """Attributes l1, l2, … as in 2s-AGCN, CTR-GCN and their kin."""

    def __init__(self, unit=Unit):
        super().__init__()
        for i, sizes in enumerate(self.widths, 1):
            setattr(self, f'l{i}', unit(*sizes))

    def body(self, x):
        return self.l4(self.l3(self.l2(self.l1(x))))


class Listed(Base):
    """A ModuleList named ``gcn``, as in MMAction2 and PYSKL."""

    def __init__(self):
        super().__init__()
        self.gcn = nn.ModuleList(Unit(*sizes) for sizes in self.widths)

    def body(self, x):
        for block in self.gcn:
            x = block(x)
        return x


class TupleBlocks(Listed):
    """Blocks that take and return (x, A), as in ST-GCN."""

    def __init__(self):
        super().__init__()
        self.gcn = nn.ModuleList(WithGraph(*sizes) for sizes in self.widths)
        self.register_buffer('A', chain_graph())

    def body(self, x):
        for block in self.gcn:
            x, _ = block(x, self.A)
        return x


class GraphsFirst(Listed):
    """Graph convolutions that return graphs too, before the map."""

    def __init__(self):
        super().__init__()
        self.gcn = nn.ModuleList(GraphFirst(*sizes) for sizes in self.widths)

    def body(self, x):
        for block in self.gcn:
            _, x = block(x)
        return x


class Named(Unit):
    """Returns a dict of the map and a graph."""

    def forward(self, x):
        return defaultdict(list, graph=torch.rand(JOINTS, JOINTS), x=super().forward(x))


class Dicts(Listed):
    """Blocks that return dicts."""

    def __init__(self):
        super().__init__()
        self.gcn = nn.ModuleList(Named(*sizes) for sizes in self.widths)

    def body(self, x):
        for block in self.gcn:
            x = block(x)['x']
        return x


class ParallelJoined(Base):
    """Two parallel paths a stage, joined before ``tcn1``, ``tcn2``, as in MS-G3D."""

    def __init__(self):
        super().__init__()
        for i, (c, out, stride) in enumerate([(3, 8, 1), (8, 16, 2)], 1):
            self.add_module(f'sgcn{i}', nn.Sequential(Unit(c, out, stride), Unit(out, out)))
            self.add_module(f'g3d{i}', Unit(c, out, stride))
            self.add_module(f'tcn{i}', Unit(out, out))

    def body(self, x):
        x = self.tcn1(self.sgcn1(x) + self.g3d1(x))
        return self.tcn2(self.sgcn2(x) + self.g3d2(x))


class ParallelLoose(Base):
    """Two parallel paths that no module joins."""

    def __init__(self):
        super().__init__()
        self.large = nn.Sequential(Unit(3, 8), Unit(8, 16))
        self.small = Unit(3, 16)

    def body(self, x):
        return self.large(x) + self.small(x)


class Added(Numbered):
    """Something is added to each block's input, made from the clip itself, as in BlockGCN."""

    def __init__(self):
        super().__init__()
        self.t = nn.ModuleList(nn.Linear(3, c) for c, *_ in self.widths)

    def body(self, x):
        topology = x.mean((2, 3))
        for i, part in enumerate(self.t, 1):
            x = getattr(self, f'l{i}')(x + part(topology)[..., None, None])
        return x


class Embedded(Numbered):
    """An embedding before the norm, so that its width says nothing of the input; InfoGCN."""

    widths = ((8, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 1))

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.data_bn = nn.BatchNorm1d(2 * 8 * JOINTS)

    def forward(self, x):
        n, c, t, v, m = x.shape
        x = self.embed(x.permute(0, 4, 3, 2, 1)).permute(0, 1, 2, 4, 3)
        x = self.data_bn(x.reshape(n, m * v * 8, t)).view(n, m, v, 8, t)
        return super().forward(x.permute(0, 1, 3, 4, 2).reshape(n * m, 8, t, v))


class GraphTuple(Numbered):
    """Its graph is a tuple of an array (layers, 3, V, V) and a number, as in HD-GCN."""

    def __init__(self):
        super().__init__()
        self.graph = type('Graph', (), {'A': (chain_graph()[None].numpy(), 2)})()


class JointsThird(Base):
    """Joints before frames, (N, C, V, T), as in SGN: no fusion fits."""

    def __init__(self):
        super().__init__()
        self.gcn1, self.gcn2 = Unit(3, 8), Unit(8, 8)

    def body(self, x):
        return self.gcn2(self.gcn1(x.transpose(2, 3)))


class Windowed(Base):
    """A transformer over parts of the map whose stages pass maps, as in SkateFormer."""

    class Stage(nn.Module):
        def __init__(self, c, out):
            super().__init__()
            self.widen, self.attend = nn.Conv2d(c, out, 1), nn.MultiheadAttention(out, 2)

        def forward(self, x):
            x = self.widen(x)
            tokens = x.flatten(2).permute(2, 0, 1)
            return self.attend(tokens, tokens, tokens)[0].permute(1, 2, 0).reshape(x.shape)

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([self.Stage(3, 8), self.Stage(8, 16)])

    def body(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


FLAT, PERSONS = (2, 3, T, JOINTS), (2, 3, T, JOINTS, 2)


@pytest.mark.parametrize(
    'build, shape, wanted',
    [
        (Numbered, FLAT, ['l2', 'l4']),
        (Listed, FLAT, ['gcn.1', 'gcn.3']),
        (TupleBlocks, FLAT, ['gcn.1', 'gcn.3']),
        (GraphsFirst, FLAT, ['gcn.1', 'gcn.3']),
        (Dicts, FLAT, ['gcn.1', 'gcn.3']),
        (ParallelJoined, FLAT, ['tcn1', 'tcn2']),
        (Added, FLAT, ['l2', 'l4']),
        (Embedded, PERSONS, ['l2', 'l4']),
        (GraphTuple, FLAT, ['l2', 'l4']),
        (Windowed, FLAT, ['stages.0', 'stages.1']),
    ],
)
def test_auto_finds_the_last_block_of_each_width(build, shape, wanted):
    torch.manual_seed(0)
    model, x = build().eval(), torch.randn(shape)
    before = model(x)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert list(fusions(plug(model))) == wanted
    torch.testing.assert_close(model(x), before)
    assert not torch.allclose(wake(model)(x), before)
    unplug(model)
    torch.testing.assert_close(model(x), before)


@pytest.mark.parametrize(
    'build, words',
    [
        (ParallelLoose, "'large.1' to be one of several parallel paths.*Modules .*large, small"),
        (JointsThird, r'No module of this model passes .*\(1, 8, 5, 32\)'),
        (Tokens, 'No module of this model passes'),
    ],
)
def test_auto_refuses_what_it_would_fuse_half_or_not_at_all(build, words):
    with pytest.raises(PlugError, match=words):
        plug(build())


def test_what_the_error_offers_can_be_fused():
    with pytest.raises(PlugError) as caught:
        plug(ParallelLoose())
    offered = str(caught.value).rpartition(': ')[2].rstrip('.').split(', ')
    model = plug(ParallelLoose(), offered)
    assert offered and set(fusions(model)) == set(offered)


def test_the_rest_of_a_tuple_is_passed_on():
    model = wake(plug(GraphsFirst(), 'gcn.0')).eval()
    block, x = model.gcn[0], torch.randn(FLAT)
    graph, fused = block(x)
    assert graph.shape == (2, 8, JOINTS, JOINTS) and fused.shape == (2, 8, T, JOINTS)
    unplug(model)
    plain_graph, plain = block(x)
    assert torch.equal(graph, plain_graph) and not torch.allclose(fused, plain)


def test_a_graph_that_is_not_understood_is_said_and_a_tuple_is_used():
    assert fusions(plug(GraphTuple()))['l2'].joint_bias.any()
    model = Numbered()
    model.graph = {'edges': [(0, 1)]}
    with pytest.warns(UserWarning, match='the graph of Numbered is no adjacency'):
        plug(model)


def test_joints_that_the_model_does_not_name_are_said():
    model = Numbered()
    model.num_point = None
    with pytest.warns(UserWarning, match=r"last axis of 'l4' \(5\) is taken for the joints"):
        plug(model, example_input=FLAT)


def test_a_strict_load_of_a_plain_checkpoint_ends_in_advice():
    plain = Numbered()
    with pytest.raises(RuntimeError, match='of the plain model.*strict=False') as caught:
        plug(Numbered()).load_state_dict(plain.state_dict())
    assert str(caught.value).count('plain model') == 1, 'said once, not once a stage'
    assert str(caught.value).count('gamma_s') > 1
    fused = plug(Numbered())
    with pytest.raises(RuntimeError) as caught:
        fused.load_state_dict({**fused.state_dict(), 'l9': torch.ones(1)})
    assert 'plain model' not in str(caught.value)


@pytest.mark.parametrize(
    'first', [lambda x: torch.einsum('nctv,nctw->ncvw', x, x), lambda x: x > 0]
)
def test_the_map_of_a_tuple_stays_the_map(first):
    """Beside a graph or a mask of its size the member of the trial run is fused."""

    class Pair(Unit):
        def forward(self, x):
            x = super().forward(x)
            return first(x), x

    block = Pair(3, 4)
    model = plug(nn.Sequential(block), positions='0', example_input=(2, 3, T, JOINTS))
    wake(model)
    x = torch.randn(2, 3, JOINTS, JOINTS)
    beside, out = model(x)
    fusion = fusions(model)['0']
    plain_beside, plain = unplug(model)(x)
    assert torch.equal(beside, plain_beside) and torch.allclose(out, fusion(plain))
    assert not torch.allclose(out, plain)
