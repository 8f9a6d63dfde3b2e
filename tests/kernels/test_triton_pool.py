"""``pool`` in Triton and its gradient, against float64 autograd."""

import pytest
import torch

from mg_plugins.kernels import pool, pool_through
from mg_plugins.kernels.setups import DTYPES, Shape, make_inputs

from kernel_oracle import Poison, assert_close, awkward, device, in_margins, pool_oracle


def triton_pool(x):
    return pool(x, backend='triton')


def feature_map(shape, dtype, seed):
    return make_inputs(shape, dtype, device(), seed)[0]


def make_pulls(x, seed):
    n, c, t, v = x.shape
    generator = torch.Generator(device=x.device).manual_seed(seed)
    sizes = (n, c, v), (n, c, t)
    return [torch.randn(s, generator=generator, device=x.device).to(x.dtype) for s in sizes]


def compare(x, pulls, function=triton_pool):
    leaf = x.detach().requires_grad_()
    pools = function(leaf)
    (gradient,) = torch.autograd.grad(pools, leaf, pulls)
    wanted, wanted_gradient = pool_oracle(x, pulls)
    for name, one, other in zip(('xs', 'xt'), pools, wanted, strict=True):
        assert_close(name, one.detach(), other, x.dtype)
    assert_close('gradient of x', gradient, wanted_gradient, x.dtype)


@pytest.mark.parametrize('shape, dtype', awkward(), ids=str)
def test_pool_and_its_gradient(shape, dtype, fresh_seed, launched, monkeypatch):
    x = in_margins(feature_map(shape, dtype, fresh_seed))
    pulls = make_pulls(x, fresh_seed + 1)

    def poisoned(leaf):
        with monkeypatch.context() as patch:
            poison = Poison(patch)
            pools = triton_pool(leaf)
        poison.check()
        return pools

    compare(x, pulls, poisoned)
    assert launched() == {'pool_forward': 1}


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize(
    'strided',
    [
        lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        lambda x: torch.stack((x, x * float('nan')), -1)[..., 0],
        lambda x: x[:, :, :1].expand_as(x),
        lambda x: x[:1].expand_as(x),
    ],
    ids=['reversed', 'sliced', 'one_frame', 'one_sequence'],
)
def test_strided_inputs_and_gradients(strided, dtype, fresh_seed, launched):
    x = strided(feature_map(Shape(3, 6, 7, 5), dtype, fresh_seed))
    pulls = [strided_pull.mT.contiguous().mT for strided_pull in make_pulls(x, fresh_seed + 1)]
    assert not any(t.is_contiguous() for t in (x, *pulls))
    compare(x, pulls)
    assert launched() == {'pool_forward': 1}


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('used', [(0,), (1,), (0, 1)], ids=str)
def test_sum_of_either_then_backward(used, dtype, fresh_seed, launched):
    x = feature_map(Shape(2, 3, 9, 5), dtype, fresh_seed).requires_grad_()
    pools = triton_pool(x)
    sum(pools[i].sum() for i in used).backward()
    _, wanted = pool_oracle(x, [torch.full_like(p, i in used) for i, p in enumerate(pools)])
    assert_close('gradient of x', x.grad, wanted, dtype)
    assert launched() == {'pool_forward': 1}


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_an_empty_batch(dtype, fresh_seed):
    x = feature_map(Shape(0, 6, 300, 25), dtype, fresh_seed).requires_grad_()
    xs, xt = triton_pool(x)
    assert xs.shape == (0, 6, 25) and xt.shape == (0, 6, 300) and xs.dtype == xt.dtype == dtype
    (xs.sum() + xt.sum()).backward()
    assert x.grad.shape == x.shape


@pytest.mark.filterwarnings('ignore:Input #.* requires gradient and is not a double')
def test_finite_differences(fresh_seed):
    x = feature_map(Shape(1, 2, 3, 4), torch.float32, fresh_seed).requires_grad_()
    assert torch.autograd.gradcheck(triton_pool, x, eps=0.5, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_equal_runs_give_equal_bits(dtype, fresh_seed):
    x = feature_map(Shape(2, 5, 140, 25), dtype, fresh_seed)
    assert all(map(torch.equal, triton_pool(x), triton_pool(x.clone())))


def triton_through(x):
    return pool_through(x, backend='triton')


def through_oracle(x, pulls):
    """The gradient in float64 of a map that is used and pooled."""
    dy, *of_pools = pulls
    return dy.double() + pool_oracle(x, of_pools)[1]


def through_pulls(x, seed):
    # Means pass on a share of their gradient: these are large, so that none drowns in the others.
    dxs, dxt = make_pulls(x, seed)
    return [feature_map(Shape(*x.shape), x.dtype, seed + 1), dxs * x.shape[2], dxt * x.shape[3]]


@pytest.mark.parametrize('shape, dtype', awkward(), ids=str)
def test_one_pass_adds_the_gradients_of_all_three(shape, dtype, fresh_seed, launched, monkeypatch):
    x = feature_map(shape, dtype, fresh_seed)
    pulls = [in_margins(pull) for pull in through_pulls(x, fresh_seed + 1)]
    leaf = x.requires_grad_()
    same, *pools = triton_through(leaf)
    assert torch.equal(same, x) and all(map(torch.equal, pools, triton_pool(x.detach())))
    with monkeypatch.context() as patch:
        poison = Poison(patch)
        (gradient,) = torch.autograd.grad((same, *pools), leaf, pulls)
    poison.check()
    assert_close('gradient of x', gradient, through_oracle(x.detach(), pulls), dtype)
    assert launched() == {'pool_forward': 2, 'pool_backward': 1}


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_strided_gradients_of_all_three(dtype, fresh_seed, launched):
    x = feature_map(Shape(3, 6, 7, 5), dtype, fresh_seed).requires_grad_()
    pulls = [pull.mT.contiguous().mT for pull in through_pulls(x, fresh_seed + 1)]
    assert not any(pull.is_contiguous() for pull in pulls)
    (gradient,) = torch.autograd.grad(triton_through(x), x, pulls)
    assert_close('gradient of x', gradient, through_oracle(x.detach(), pulls), dtype)
    assert launched() == {'pool_forward': 1, 'pool_backward': 1}


@pytest.mark.parametrize('used', [(0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2)], ids=str)
def test_any_of_the_three_then_backward(used, fresh_seed, launched):
    x = feature_map(Shape(2, 3, 9, 5), torch.float32, fresh_seed).requires_grad_()
    outputs = triton_through(x)
    sum(outputs[i].sum() for i in used).backward()
    pulls = [torch.full_like(out, i in used) for i, out in enumerate(outputs)]
    assert_close('gradient of x', x.grad, through_oracle(x.detach(), pulls), torch.float32)
    assert launched().get('pool_backward', 0) == (len(used) == 3)


def test_an_empty_batch_passes_through(fresh_seed):
    x = feature_map(Shape(0, 6, 30, 25), torch.float32, fresh_seed).requires_grad_()
    sum(out.sum() for out in triton_through(x)).backward()
    assert x.grad.shape == x.shape


def test_a_map_without_gradient_passes_through(fresh_seed):
    x = feature_map(Shape(2, 3, 9, 5), torch.float32, fresh_seed)
    assert not any(out.requires_grad for out in triton_through(x))


def test_passing_through_compiles_without_a_graph_break(fresh_seed):
    torch.compiler.reset()
    x = feature_map(Shape(2, 3, 9, 5), torch.float32, fresh_seed).requires_grad_()
    pulls = through_pulls(x, fresh_seed + 1)
    backend = 'inductor' if torch.cuda.is_available() else 'aot_eager'
    compiled = torch.compile(triton_through, fullgraph=True, backend=backend)
    (gradient,) = torch.autograd.grad(compiled(x), x, pulls)
    assert_close('gradient of x', gradient, through_oracle(x.detach(), pulls), torch.float32)


def test_the_joined_gradient_is_not_differentiated_again(fresh_seed):
    x = feature_map(Shape(2, 3, 9, 5), torch.float32, fresh_seed).requires_grad_()
    outputs = triton_through(x)
    loss = sum(out.square().sum() for out in outputs)
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()
