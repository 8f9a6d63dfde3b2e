"""``mix`` in Triton, forward and backward, against float64 autograd."""

import dataclasses

import pytest
import torch
import triton
import triton.language as tl

from mg_plugins.kernels import mix, mix_reference
from mg_plugins.kernels.aot import variants
from mg_plugins.kernels.setups import DTYPES, Shape, make_inputs
from mg_plugins.kernels.signatures import Variant, architecture
from mg_plugins.kernels.triton_parts import leading

from kernel_oracle import (
    NAMES,
    Poison,
    assert_close,
    awkward,
    device,
    in_margins,
    kernels_of,
    make_pull,
    mix_oracle,
)


def triton_mix(*inputs):
    return mix(*inputs, backend='triton')


def gradients(inputs, pull, function=triton_mix):
    """Output and gradients of fresh leaves that share the inputs' memory and strides."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    out = function(*leaves)
    return out.detach(), torch.autograd.grad(out, leaves, pull)


def compare(inputs, pull, got, dtype):
    out, grads = got
    wanted, wanted_grads = mix_oracle(inputs, pull)
    assert_close('y', out, wanted, dtype)
    for name, one, other in zip(NAMES, grads, wanted_grads, strict=True):
        assert_close(f'gradient of {name}', one, other, dtype)


@pytest.mark.parametrize('shape, dtype', awkward(), ids=str)
def test_mix_and_its_gradients(shape, dtype, fresh_seed, launched, monkeypatch):
    inputs = [in_margins(t) for t in make_inputs(shape, dtype, device(), fresh_seed)]
    pull = in_margins(make_pull(inputs, fresh_seed + 1))
    with monkeypatch.context() as patch:
        poison = Poison(patch)
        got = gradients(inputs, pull)
    poison.check()
    assert launched() == kernels_of(shape, dtype, forward=1, backward=1)
    compare(inputs, pull, got, dtype)


@pytest.mark.parametrize('shape', [Shape(1, 4, 9, 5, 2), Shape(1, 2, 130, 5)], ids=str)
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_what_is_launched_is_what_is_compiled_ahead(shape, dtype, fresh_seed, monkeypatch):
    ran = []
    launch = Variant.launch
    monkeypatch.setattr(
        Variant, 'launch', lambda self, *args: (ran.append(self), launch(self, *args))
    )
    inputs = make_inputs(shape, dtype, device(), fresh_seed)
    gradients(inputs, inputs[0])
    # The interpreter alone wants its operands cast.
    ran = [dataclasses.replace(v, constexprs=v.constexprs | {'UPCAST': False}) for v in ran]
    arch = architecture(inputs[0].device)
    ahead = variants(dtype, shape.t, shape.v, shape.c, shape.heads, arch)
    assert ran == [v for v in ahead if not v.name.startswith('pool')]


@triton.jit
def _split(x_ptr, leading_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(leading_ptr + at, leading(tl.load(x_ptr + at)))


def test_leading_bits_are_those_of_tf32(fresh_seed):
    x = make_inputs(Shape(1, 64, 4, 4), torch.float32, device(), fresh_seed)[0].flatten()
    large = torch.empty_like(x)
    _split[(1,)](x, large, x.numel())
    assert not (large.view(torch.int32) & 0x1FFF).any() and (large != x).any()
    assert ((x - large).abs() < x.abs() * 2**-10).all()
    # What tensor cores read of the rest completes it to float32's own accuracy.
    rest = ((x - large).view(torch.int32) & -8192).view(torch.float32)
    assert ((x - large - rest).abs() <= x.abs() * 2**-20).all()


def permuted(tensor, *order):
    """The same values with the strides of the permuted tensor."""
    back = [order.index(i) for i in range(len(order))]
    return tensor.permute(order).contiguous().permute(back)


def sliced(tensor):
    """The same values as every second element of a wider tensor of NaN."""
    wide = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1]), float('nan'))
    wide[..., 1::2] = tensor
    return wide[..., 1::2]


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize(
    'strided',
    [
        lambda t: permuted(t, *reversed(range(t.dim()))),
        lambda t: permuted(t, 0, 2, 1, 3) if t.dim() == 4 else t.mT.contiguous().mT,
        sliced,
    ],
    ids=['reversed', 'channels_last_but_one', 'sliced'],
)
def test_strided_inputs_and_gradients(strided, dtype, fresh_seed, launched):
    shape = Shape(2, 6, 7, 5, 2)
    plain = make_inputs(shape, dtype, device(), fresh_seed)
    inputs = [strided(t) for t in plain]
    pull = strided(make_pull(plain, fresh_seed + 1))
    assert not any(t.is_contiguous() for t in (*inputs, pull))
    compare(inputs, pull, gradients(inputs, pull), dtype)
    assert launched() == kernels_of(shape, dtype, forward=1, backward=1)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_inputs_of_stride_zero(dtype, fresh_seed, launched):
    shape = Shape(3, 8, 9, 6, 2)
    x, As, At, a, b = make_inputs(shape, dtype, device(), fresh_seed)
    # One joint everywhere, one graph for all sequences and heads, one share for all channels.
    inputs = (
        x[..., :1].expand_as(x),
        As[:1, :1].expand_as(As),
        At[:1, :1].expand_as(At),
        a[:, :1].expand_as(a),
        b[:1].expand_as(b),
    )
    pull = make_pull([x, *inputs[1:]], fresh_seed + 1)
    compare(inputs, pull, gradients(inputs, pull), dtype)
    assert launched() == kernels_of(shape, dtype, forward=1, backward=1)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('shape', [Shape(4, 6, 5, 4, 2), Shape(2, 3, 129, 3)], ids=str)
def test_sum_then_backward(shape, dtype, fresh_seed, launched):
    inputs = make_inputs(shape, dtype, device(), fresh_seed)
    ones = torch.ones((), dtype=dtype, device=inputs[0].device).expand(inputs[0].shape)
    leaves = [t.clone().requires_grad_() for t in inputs]
    out = triton_mix(*leaves)
    out.sum().backward()
    compare(inputs, ones, (out.detach(), [t.grad for t in leaves]), dtype)
    assert launched() == kernels_of(shape, dtype, forward=1, backward=1)


@pytest.mark.parametrize('shape', [Shape(0, 6, 5, 4, 2), Shape(0, 4, 300, 25)], ids=str)
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_an_empty_batch(shape, dtype, fresh_seed):
    inputs = [t.requires_grad_() for t in make_inputs(shape, dtype, device(), fresh_seed)]
    out = triton_mix(*inputs)
    assert out.shape == inputs[0].shape and out.dtype == dtype
    out.sum().backward()
    assert all(t.grad.shape == t.shape for t in inputs)


@pytest.mark.parametrize('missing', range(5), ids=NAMES)
def test_only_some_gradients_wanted(missing, fresh_seed):
    inputs = make_inputs(Shape(2, 4, 5, 3, 2), torch.float32, device(), fresh_seed)
    pull = make_pull(inputs, fresh_seed + 1)
    leaves = [t.detach().requires_grad_(i != missing) for i, t in enumerate(inputs)]
    wanted = [t for t in leaves if t.requires_grad]
    got = torch.autograd.grad(triton_mix(*leaves), wanted, pull)
    exact = [g for i, g in enumerate(mix_oracle(inputs, pull)[1]) if i != missing]
    for one, other in zip(got, exact, strict=True):
        assert_close('gradient', one, other, torch.float32)


@pytest.mark.filterwarnings('ignore:Input #.* requires gradient and is not a double')
@pytest.mark.parametrize('shape', [Shape(1, 2, 3, 2, 2), Shape(1, 3, 1, 2)], ids=str)
def test_finite_differences(shape, fresh_seed):
    inputs = [t.requires_grad_() for t in make_inputs(shape, torch.float32, device(), fresh_seed)]
    # In each argument alone mix is linear: a wide step has no error but float32's.
    assert torch.autograd.gradcheck(triton_mix, inputs, eps=0.5, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    'shape, dtype',
    [
        (Shape(2, 6, 33, 25, 2), torch.bfloat16),
        (Shape(1, 35, 20, 20), torch.float16),  # several chunks of channels, added up afterwards
        (Shape(1, 2, 140, 20), torch.float32),  # several tiles of frames, likewise
    ],
    ids=str,
)
def test_equal_runs_give_equal_bits(shape, dtype, fresh_seed):
    inputs = make_inputs(shape, dtype, device(), fresh_seed)
    pull = make_pull(inputs, fresh_seed + 1)
    out, grads = gradients(inputs, pull)
    again, grads_again = gradients([t.clone() for t in inputs], pull.clone())
    assert torch.equal(out, again)
    assert all(map(torch.equal, grads, grads_again))


@pytest.mark.parametrize('bad', [float('nan'), float('inf')], ids=str)
def test_what_is_not_finite_stays_in_its_sequence_and_head(bad, fresh_seed):
    """Within a head the kernels may spread it further than the formula, never less far."""
    inputs = make_inputs(Shape(3, 6, 20, 7, 3), torch.float32, device(), fresh_seed)
    pull = make_pull(inputs, fresh_seed + 1)
    out, grads = gradients(inputs, pull)
    inputs[0][1, 3, 4, 5] = bad  # second sequence, second head
    got = gradients(inputs, pull)
    wanted = gradients(inputs, pull, function=mix_reference)
    for before, one, other in zip(
        (out, *grads), (got[0], *got[1]), (wanted[0], *wanted[1]), strict=True
    ):
        assert not one[~other.isfinite()].isfinite().any()
        # Three heads: of the channels of x, a and b, or of the graphs.
        before, one = (t.unflatten(1, (3, -1)) for t in (before, one))
        assert torch.equal(one[::2], before[::2])
        assert torch.equal(one[1, ::2], before[1, ::2])


def test_the_gradient_has_no_gradient_and_says_so(fresh_seed):
    inputs = [
        t.requires_grad_()
        for t in make_inputs(Shape(1, 2, 3, 2), torch.float32, device(), fresh_seed)
    ]
    (gradient,) = torch.autograd.grad(
        triton_mix(*inputs).square().sum(), inputs[:1], create_graph=True
    )
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


@pytest.mark.cuda
def test_more_than_two_to_the_31_elements(fresh_seed, launched):
    shape = Shape(2**31 // (64 * 100 * 25) + 2, 64, 100, 25)
    inputs = make_inputs(shape, torch.bfloat16, 'cuda', fresh_seed)
    out, grads = gradients(inputs, inputs[0])
    assert launched() == kernels_of(shape, torch.bfloat16, forward=1, backward=1)
    last = [t[-1:].clone() for t in inputs]
    out_last, grads_last = gradients(last, last[0])
    for one, other in zip((out, *grads), (out_last, *grads_last), strict=True):
        assert torch.equal(one[-1:], other)
