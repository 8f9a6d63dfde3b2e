"""STBalancedFusion: identity at the start, the balance from pools alone, any length, its errors."""

import pytest
import torch

from mg_plugins.fusion import STBalancedFusion
from mg_plugins.fusion.module import unit_gain
from mg_plugins.kernels import pool


def trained(channels=8, joints=5, **options):
    """A fusion with every parameter moved away from its start."""
    torch.manual_seed(3)
    fusion = STBalancedFusion(channels, joints, **options)
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return fusion


def test_a_new_fusion_changes_nothing_and_can_learn():
    x = torch.randn(3, 8, 11, 5)
    fusion = STBalancedFusion(8, 5, heads=2)
    assert torch.equal(fusion(x), x)
    fusion(x).square().sum().backward()
    assert fusion.gamma_s.grad.abs().min() > 0
    assert fusion.gamma_t.grad.abs().min() > 0


@pytest.mark.parametrize('heads', [1, 2, 4])
def test_forward_is_what_the_docstring_says(heads):
    fusion, x = trained(heads=heads), torch.randn(2, 8, 7, 5)
    As, At, a, b = fusion.shares(x)
    ys = torch.einsum('nhctu,nhuv->nhctv', x.view(2, heads, -1, 7, 5), As).reshape(x.shape)
    yt = torch.einsum('nhts,nhcsv->nhctv', At, x.view(2, heads, -1, 7, 5)).reshape(x.shape)
    wanted = x + a[..., None, None] * ys + b[..., None, None] * yt
    torch.testing.assert_close(fusion(x), wanted)
    # The gate sees the averages of both streams, though it only ever read the pools.
    averages = torch.cat([ys.mean((2, 3)), yt.mean((2, 3))], 1)
    torch.testing.assert_close(fusion.balance(*pool(x), As, At), fusion.gate(averages))
    torch.testing.assert_close(a, 5 * fusion.gamma_s * fusion.gate(averages))
    torch.testing.assert_close(b, 5 * fusion.gamma_t * (1 - fusion.gate(averages)))


def test_both_graphs_have_unit_gain():
    As, At, _, _ = trained(heads=2).shares(torch.randn(2, 8, 7, 5))
    torch.testing.assert_close(As.abs().sum(2), torch.ones(2, 2, 5))
    torch.testing.assert_close(At.abs().sum(3), torch.ones(2, 2, 7))
    assert unit_gain(torch.zeros(2, 3), 1).isfinite().all()


def test_the_joint_bias_starts_from_the_skeleton():
    graph = torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 0, 2]])
    fusion = STBalancedFusion(4, 3, heads=2, graph=graph)
    # Rows are targets: each sums to one over its sources.
    torch.testing.assert_close(
        fusion.joint_bias, torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0, 1]]).expand(2, 3, 3)
    )


@pytest.mark.parametrize('frames', [1, 2, 300])
def test_any_number_of_frames(frames):
    fusion = trained(window=4)
    assert fusion(torch.randn(1, 8, frames, 5)).shape == (1, 8, frames, 5)
    bias = fusion.frame_bias(frames)
    for t in range(min(frames, 8)):
        for s in range(min(frames, 8)):
            offset = max(-4, min(4, s - t))
            assert torch.equal(bias[:, t, s], fusion.offset_bias[:, 4 + offset])


@pytest.mark.parametrize('part', ['space', 'time', 'gate', 'bias'])
def test_parts_can_be_left_out(part):
    fusion, x = trained(without=[part]), torch.randn(2, 8, 7, 5)
    As, At, a, b = fusion.shares(x)
    whole = trained().shares(x)
    if part == 'space':
        assert not a.any() and torch.equal(b, whole[3])
    elif part == 'time':
        assert not b.any() and torch.equal(a, whole[2])
    elif part == 'gate':
        torch.testing.assert_close(a, 2.5 * fusion.gamma_s.expand(2, -1))
        torch.testing.assert_close(b, 2.5 * fusion.gamma_t.expand(2, -1))
    else:
        start = STBalancedFusion(8, 5, without=['bias'], graph=torch.eye(5))
        assert not start.joint_bias.any() and not start.joint_bias.requires_grad


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(heads=3), 'heads=3 does not divide channels=8'),
        (dict(heads=0), 'heads must be a positive integer, got 0'),
        (dict(gamma_scale=0), 'gamma_scale must be positive, got 0'),
        (dict(window=-1), 'window must be a positive integer'),
        (dict(graph=torch.eye(4)), r'graph must be \(5, 5\).*got \(4, 4\)'),
        (dict(without=['spce']), r"without must name parts.*\['spce'\]"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        STBalancedFusion(8, 5, **options)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r'built for \(N, 8, T, 5\), got \(2, 8, 7, 6\)'):
        STBalancedFusion(8, 5)(torch.zeros(2, 8, 7, 6))


@pytest.mark.parametrize('scale', [1e2, 1e3, 6e4])
def test_large_maps_in_half_precision_stay_what_they_are(scale):
    x = (torch.rand(2, 16, 48, 5) * scale).half()
    assert torch.equal(STBalancedFusion(16, 5).half()(x), x)


def test_autocast_keeps_half_precision_and_agrees():
    fusion, x = trained(), torch.randn(2, 8, 7, 5)
    with torch.autocast('cpu', torch.bfloat16):
        half = fusion(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.float() - fusion(x)).norm() / fusion(x).norm() < 3e-2


@pytest.mark.parametrize('without', [(), ('space',), ('time', 'gate')], ids=str)
def test_a_traced_module_computes_the_same(without):
    fusion, x = trained(), torch.randn(2, 8, 7, 5)
    fusion.without = frozenset(without)
    traced = torch.jit.trace(fusion.eval(), x)
    other = torch.randn(2, 8, 7, 5)
    torch.testing.assert_close(traced(other), fusion(other))
