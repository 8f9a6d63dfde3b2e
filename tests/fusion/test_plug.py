"""Plugging the fusion into plain PyTorch models: where it goes, what it refuses, what survives."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mg_plugins.fusion import PlugError, STBalancedFusion, fusions, is_fused, plug, unplug

from paths import HELPERS
from ranks import run_on_ranks
from toy_models import (
    JOINTS,
    Branched,
    BranchedBlock,
    JointsThird,
    PlainSTGCN,
    Recurrent,
    Tokens,
    chain_graph,
    clips,
    wake,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def plain():
    return PlainSTGCN().eval()


@pytest.fixture
def fused(plain):
    """A fused model whose fusions do something."""
    return wake(plug(copy.deepcopy(plain)))


# Where it goes


def test_numbered_attributes_are_fused_after_each_width(plain):
    assert plug(plain) is plain
    found = {name: (f.channels, f.num_joints) for name, f in fusions(plain).items()}
    assert found == {'l4': (8, JOINTS), 'l7': (16, JOINTS), 'l10': (32, JOINTS)}


def test_multi_branch_blocks_are_fused_after_their_branches_are_summed():
    model = Branched().eval()
    x = torch.randn(2, 3, 10, JOINTS)
    before = model(x)
    assert list(fusions(plug(model))) == ['blocks.1', 'blocks.2']
    assert torch.equal(model(x), before)
    assert not torch.allclose(wake(model)(x), before)


def stream(channels, *widths):
    """Stages of one block each, one after the other."""
    before = (channels, *widths)
    blocks = (BranchedBlock(a, b) for a, b in zip(before, widths, strict=False))
    return nn.Sequential(*map(nn.Sequential, blocks))


def test_the_largest_sequence_is_fused_and_both_of_twin_streams():
    class Twins(nn.Module):
        num_joints = JOINTS

        def __init__(self):
            super().__init__()
            self.stem = stream(3, 3, 3)
            self.joint, self.bone = stream(3, 8, 8, 16), stream(3, 8, 8, 16)

        def forward(self, x):
            x = self.stem(x)
            return self.joint(x) + self.bone(x)

    assert list(fusions(plug(Twins()))) == ['joint.1', 'joint.2', 'bone.1', 'bone.2']


def test_a_sequence_is_what_hands_its_data_on():
    class Chain(nn.Sequential):
        num_joints = JOINTS

        def forward(self, x):
            for block in self:
                x = block(x).view(x.shape)
            return x

    class Parallel(nn.Sequential):
        num_joints = JOINTS

        def forward(self, x):
            return sum(block(x) for block in self)

    assert list(fusions(plug(Chain(*stream(3, 3, 3, 3))))) == ['2']
    with pytest.raises(PlugError, match=r'hand \(N, C, T, V\) from one to the next.*: 0, 1, 2'):
        plug(Parallel(*stream(3, 3, 3, 3)))


def test_names_patterns_and_options_of_their_own(plain):
    options = {'l[14]': {'heads': 2}, 'l1': {'reduction': 4}, 'l10': {}}
    plug(plain, options, window=3)
    built = {name: (f.heads, f.window) for name, f in fusions(plain).items()}
    assert built == {'l1': (2, 3), 'l4': (2, 3), 'l10': (1, 3)}
    assert list(fusions(plug(PlainSTGCN(), 'l*'))) == [f'l{i}' for i in range(1, 11)]
    relus = {f'l{i}.relu' for i in range(1, 11)}
    assert set(fusions(plug(PlainSTGCN(), ['l2', '*.relu']))) == {'l2'} | relus


def test_joint_graph_is_the_models_own_unless_another_is_given(plain):
    own = STBalancedFusion(8, JOINTS, graph=chain_graph().sum(0)).joint_bias
    assert own.any()
    assert torch.equal(fusions(plug(plain))['l4'].joint_bias, own)
    assert not fusions(plug(PlainSTGCN(), graph=None))['l4'].joint_bias.any()
    given = torch.eye(JOINTS).tolist()
    diagonal = fusions(plug(PlainSTGCN(), graph=given))['l4'].joint_bias[0]
    assert diagonal.count_nonzero() == JOINTS


def test_fusions_follow_the_blocks_type_and_device():
    model = PlainSTGCN().double()
    plug(model)
    assert {p.dtype for f in fusions(model).values() for p in f.parameters()} == {torch.float64}
    assert model(clips().double()).dtype == torch.float64
    on_meta = plug(PlainSTGCN().to('meta'))
    assert {p.device.type for p in on_meta.parameters()} == {'meta'}


class Unusual(nn.Module):
    """Takes two keyword arguments and names neither joints nor channels."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([BranchedBlock(4, 8), BranchedBlock(8, 8)])

    def forward(self, *, pose, scale):
        x = pose.permute(0, 3, 1, 2) * scale
        for block in self.blocks:
            x = block(x)
        return x


def test_example_input_as_tensor_shape_arguments_or_keywords(plain):
    with pytest.raises(PlugError, match='Pass example_input'):
        plug(Unusual())
    example = {'pose': torch.zeros(1, 9, 6, 4), 'scale': torch.ones(())}
    fusion = fusions(plug(Unusual(), example_input=example))['blocks.1']
    assert fusion.num_joints == 6
    shape = tuple(clips().shape)
    for example in (clips(), shape, list(shape), tuple(np.array(shape)), (clips(),)):
        assert is_fused(plug(PlainSTGCN(), example_input=example))
    with pytest.raises(PlugError, match=r'failed on example_input .*\(2, 7\)'):
        plug(plain, example_input=torch.zeros(2, 7))


# What it refuses


@pytest.mark.parametrize(
    ('model', 'positions', 'words'),
    [
        (Tokens, 'encoder.layers.0', r'passes a tensor of shape \(1, 32, 16\); expected'),
        (Tokens, 'auto', r'No module of this model passes .* \(1, 32, 16\)'),
        (JointsThird, 'blocks.1', r'\(1, 8, 5, 32\); expected .* 5 joints on the last axis'),
        (lambda: Branched(split=True), 'blocks.2', r'a tuple .*branches leave it separately'),
        (Recurrent, 'shared', r'calls it 2 times .*\(1, 3, 32, 5\), .*\(1, 3, 32, 2\)'),
        (Branched, 'blocks', r'never calls it. Modules that pass .*blocks.0, blocks.1'),
        (PlainSTGCN, 'gcn.*', r"no module fits the position 'gcn.\*'. .*l1, l2, l3"),
        (PlainSTGCN, [], 'positions is empty'),
        (PlainSTGCN, None, "positions must be 'auto', .* got None"),
        (PlainSTGCN, [3], r'positions must be .* got \[3\]'),
        (PlainSTGCN, {'l4': 2}, "positions must be .* got {'l4': 2}"),
        (lambda: nn.Sequential(BranchedBlock(3, 3)), '0', 'Pass example_input'),
    ],
)
def test_what_does_not_fit_is_refused_with_what_it_passed(model, positions, words):
    model = model()
    keys = list(model.state_dict())
    with pytest.raises(PlugError, match=words):
        plug(model, positions)
    assert not is_fused(model)
    assert list(model.state_dict()) == keys
    assert not any(m._forward_hooks for m in model.modules())


def test_a_dict_of_branches_is_refused_by_name():
    class Named(BranchedBlock):
        def forward(self, x):
            body = super().forward(x)
            return {'body': body, 'hands': body * 2}

    size = r'a tensor of shape \(1, 8, 9, 5\)'
    with pytest.raises(PlugError, match=rf'a dict \(body: {size}, hands: {size}\)'):
        plug(Named(3, 8), '', example_input=(1, 3, 9, JOINTS))


def test_plugging_twice_is_refused_and_names_where(plain):
    plug(plain)
    with pytest.raises(PlugError, match=r'fused already, after l4, l7, l10: call unplug'):
        plug(plain, 'l1')
    assert list(fusions(plain)) == ['l4', 'l7', 'l10']


def test_a_wrong_option_leaves_the_model_unchanged(plain):
    with pytest.raises(ValueError, match='heads=3 does not divide'):
        plug(plain, heads=3)
    with pytest.raises(TypeError, match='haeds'):
        plug(plain, haeds=2)
    assert not is_fused(plain)


def test_what_is_no_module_or_scripted_is_refused():
    with pytest.raises(PlugError, match='got str'):
        plug('STGCN')
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(nn.ReLU())
    with pytest.raises(PlugError, match='scripted'):
        plug(scripted)


def test_plugging_into_a_compiled_model_warns(plain):
    wrapped = torch.compile(plain, backend='eager')
    with pytest.warns(UserWarning, match='plug first, then compile'):
        assert plug(wrapped) is wrapped
    assert list(fusions(plain)) == ['l4', 'l7', 'l10']
    compilations = []
    inside = PlainSTGCN()
    inside.l3.compile(backend=lambda graph, _: compilations.append(graph) or graph)
    with pytest.warns(UserWarning, match=r"to 'l3'"):
        plug(inside)
    assert compilations == []  # the dry forward did not have the plain block compiled
    inside(clips())
    assert compilations != []


# What the dry forward leaves alone


class Counting(Branched):
    """Draws random numbers and changes a buffer even in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer('calls', torch.zeros(1))
        self.fail = False

    def forward(self, x):
        assert not self.training
        self.calls += 1
        self.noise = torch.rand(3)
        if self.fail:
            self.blocks[0](x)
            raise RuntimeError('on purpose')
        return super().forward(x)


@pytest.mark.parametrize('fail', [False, True])
def test_dry_forward_leaves_the_model_as_it_was(fail):
    model = Counting().train()
    model.blocks[1].eval()
    model.blocks[0].branches[0].requires_grad_(False)
    model.fail = fail
    state = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [m.training for m in model.modules()]
    grads = [p.requires_grad for p in model.parameters()]
    random = torch.get_rng_state()

    if fail:
        with pytest.raises(PlugError, match='on purpose'):
            plug(model)
    else:
        plug(model)

    assert torch.equal(torch.get_rng_state(), random)
    fused = fusions(model)
    assert [f.training for f in fused.values()] == ([] if fail else [False, True])
    unplug(model)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == flags
    assert [p.requires_grad for p in model.parameters()] == grads
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


# What survives it


def test_identity_at_the_start(plain):
    x = clips()
    before = plain(x)
    assert torch.equal(plug(plain)(x), before)
    assert not torch.allclose(wake(plain)(x), before)


def test_plain_checkpoints_load_and_fused_ones_go_round(plain, fused):
    model = plug(PlainSTGCN()).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == []
    assert missing and all('.mg_fusion.' in key for key in missing)
    x = clips()
    assert torch.equal(model(x), plain(x))

    model.load_state_dict(fused.state_dict())
    assert torch.equal(model(x), fused(x))
    assert not torch.allclose(model(x), plain(x))


def test_copies_use_their_own_fusion(fused):
    x = clips()
    before = fused(x)
    twin = copy.deepcopy(fused)
    assert torch.equal(twin(x), before)
    wake(twin, scale=2.0)
    assert not torch.allclose(twin(x), before)
    assert torch.equal(fused(x), before)
    unplug(twin)
    assert torch.equal(fused(x), before) and is_fused(fused)


def test_unplug_restores_output_and_keys(plain):
    x = clips()
    before, keys = plain(x), list(plain.state_dict())
    assert unplug(plain) is plain
    wake(plug(plain))
    assert list(plain.state_dict()) != keys
    unplug(plain)
    assert torch.equal(plain(x), before)
    assert list(plain.state_dict()) == keys
    assert not is_fused(plain) and fusions(plain) == {}
    assert is_fused(plug(plain))


def test_pickled_fusion_is_the_same(fused):
    fusion = fusions(fused)['l7']
    again = pickle.loads(pickle.dumps(fusion))
    x = torch.randn(2, 16, 6, JOINTS)
    assert torch.equal(again(x), fusion(x))
    assert not torch.equal(again(x), x)


BLOCK_OPENMMLAB = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('mmengine', 'mmcv', 'mmaction'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Block())
"""


def run_without_openmmlab(code, *args):
    """Run code in a fresh process in which OpenMMLab cannot be imported."""
    path = os.pathsep.join([str(HELPERS), os.environ.get('PYTHONPATH', '')])
    command = [sys.executable, '-c', BLOCK_OPENMMLAB + code, *map(str, args)]
    done = subprocess.run(
        command, env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_needs_torch_alone_and_unpickles_in_a_new_process(fused, tmp_path):
    x = clips()
    (tmp_path / 'model.pkl').write_bytes(pickle.dumps((fused, x, fused(x))))
    # Numbers of hooks start at 0 in a new process: one registered there must not replace ours.
    out = run_without_openmmlab(
        """
import pickle, torch
import mg_plugins.fusion
from mg_plugins.fusion import fusions, unplug
model, x, expected = pickle.load(open(sys.argv[1], 'rb'))
seen = []
for name in fusions(model):
    for _ in range(4):
        model.get_submodule(name).register_forward_hook(lambda *a: seen.append(1))
same = torch.equal(model(x), expected)
plain = not torch.allclose(unplug(model)(x), expected)
print(same, plain, len(seen), 'mmengine' in sys.modules)
""",
        tmp_path / 'model.pkl',
    )
    assert out.split() == ['True', 'True', '24', 'False']


def test_weight_average_keeps_a_fusion_of_its_own(fused):
    average = torch.optim.swa_utils.AveragedModel(
        fused, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    average.update_parameters(fused)
    x = clips()
    assert torch.allclose(average.eval()(x), fused(x))
    wake(fused, scale=1.5)
    average.update_parameters(fused)
    gammas = {f.gamma_s.unique().item() for f in fusions(average.module).values()}
    assert gammas == {1.0}  # half of 0.5 and half of 1.5
    expected = wake(copy.deepcopy(fused), scale=1.0)
    assert torch.allclose(average(x), expected(x), atol=1e-6)


def test_compiles_to_one_graph(fused):
    torch._dynamo.reset()
    compiled = torch.compile(fused, backend='aot_eager', fullgraph=True)
    x = clips()
    expected = fused(x)
    assert torch.allclose(compiled(x), expected, atol=1e-6)
    expected.sum().backward()
    eager = [p.grad.clone() for p in fused.parameters()]
    fused.zero_grad()
    compiled(x).sum().backward()
    for grad, param in zip(eager, fused.parameters(), strict=True):
        torch.testing.assert_close(param.grad, grad, rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


def test_exports(fused):
    x = clips()
    exported = torch.export.export(fused, (x,))
    assert any(name.endswith('mg_fusion.gamma_s') for name in exported.state_dict)
    assert torch.allclose(exported.module()(x), fused(x), atol=1e-6)


def test_mixed_precision(fused):
    x = clips()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = fused(x)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), fused(x), rtol=0.05, atol=0.05)
    mixed.float().sum().backward()
    for fusion in fusions(fused).values():
        assert all(p.grad.isfinite().all() for p in fusion.parameters())
        assert fusion.gamma_s.grad.any()


def train_on_a_rank(rank: int, folder: str) -> None:
    torch.manual_seed(rank)  # different weights and data: DDP has to make the weights equal
    model = nn.parallel.DistributedDataParallel(plug(PlainSTGCN()).train())
    with pytest.raises(PlugError, match='plug first, then wrap'):
        plug(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(clips(4)).square().sum().backward()
        optimizer.step()
    fusion = fusions(model.module)['l4']
    result = {name: (p.detach(), p.grad) for name, p in fusion.named_parameters()}
    torch.save(result, f'{folder}/{rank}.pt')


@pytest.mark.slow
def test_distributed_training_agrees_on_the_fusion(tmp_path):
    run_on_ranks(train_on_a_rank, str(tmp_path))
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name][0], second[name][0]), name
        assert torch.equal(first[name][1], second[name][1]), name
        assert first[name][1].any(), name
    assert first['gamma_s'][0].all() and first['gamma_t'][0].all()


def test_a_twin_from_the_same_seed_shares_every_other_weight():
    def build(fuse):
        torch.manual_seed(3)
        body = PlainSTGCN()
        if fuse:
            plug(body)
        return body.state_dict(), nn.Linear(4, 4).state_dict()

    (with_fusion, head), (without, plain_head) = build(True), build(False)
    assert all(torch.equal(with_fusion[k], v) for k, v in without.items())
    assert torch.equal(head['weight'], plain_head['weight'])
