"""The seam against a slow, literal transcription of its formula, and its errors."""

import pytest
import torch

from mg_plugins.kernels import cpu, mix, mix_reference, pool, pool_through


def literal_mix(x, As, At, a, b):
    """``y = x + a·(x·As) + b·(At·x)``, one sequence and one channel after another."""
    y = torch.empty_like(x)
    per_head = x.shape[1] // As.shape[1]
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            h = c // per_head
            y[n, c] = x[n, c] + a[n, c] * x[n, c] @ As[n, h] + b[n, c] * At[n, h] @ x[n, c]
    return y


def operands(n=2, c=6, t=5, v=4, h=3, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = (n, c, t, v), (n, h, v, v), (n, h, t, t), (n, c), (n, c)
    return [torch.randn(s, generator=g, dtype=dtype).requires_grad_() for s in shapes]


@pytest.mark.parametrize(
    'sizes',
    [
        dict(),
        dict(n=5),
        dict(n=1, h=1),
        dict(t=1),
        dict(v=1),
        dict(c=4, h=4, t=7, v=3),
    ],
)
@pytest.mark.parametrize('cached', [1, 700, 2**19], ids=['one', 'some', 'all'])
@pytest.mark.parametrize('function', [mix, mix_reference])
def test_mix_and_its_gradients_follow_the_formula(sizes, cached, function, monkeypatch):
    monkeypatch.setattr(cpu, 'CACHED_BYTES', cached)  # sequences taken at a time
    args = operands(**sizes)
    out, wanted = function(*args), literal_mix(*args)
    torch.testing.assert_close(out, wanted)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    for got, want in zip(
        torch.autograd.grad(out, args, pull),
        torch.autograd.grad(wanted, args, pull, allow_unused=True, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def test_other_numbers_are_refused():
    args = [t.detach().long() for t in operands()]
    for name, call in {'mix': lambda: mix(*args), 'pool': lambda: pool(args[0])}.items():
        with pytest.raises(ValueError, match=f'{name} expects floating-point .* torch.int64'):
            call()


def test_an_empty_batch_passes_and_has_gradients():
    args = operands(n=0)
    out = mix(*args)
    out.sum().backward()
    assert out.shape == args[0].shape and args[0].grad.shape == args[0].shape


def test_mix_takes_strided_maps_and_gradients():
    args = operands()
    strided = args[0].detach().permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    strided.requires_grad_()
    mix(strided, *args[1:]).sum().backward()  # the incoming gradient has stride 0
    mix(*args).sum().backward()
    torch.testing.assert_close(strided.grad, args[0].grad)


@pytest.mark.parametrize('sizes', [dict(), dict(t=1), dict(c=3, h=3)], ids=str)
def test_nothing_that_came_in_is_written_to(sizes):
    args = operands(**sizes)
    out = mix(*args)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    before = [t.detach().clone() for t in (pull, *args)]
    torch.autograd.grad(out, args, pull)
    assert all(map(torch.equal, before, (pull, *args)))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_mix_keeps_the_type_of_the_feature_map(dtype):
    args = [t.detach() for t in operands()]
    out = mix(args[0].to(dtype), *(t.float() for t in args[1:]))
    assert out.dtype == dtype
    error = (out.double() - mix(*args)).norm() / mix(*args).norm()
    assert error < (1e-5 if dtype == torch.float32 else 2e-2)


def test_pool_is_the_mean_over_frames_and_over_joints():
    x = operands()[0].detach()
    xs, xt = pool(x)
    torch.testing.assert_close(xs, x.sum(2) / x.shape[2])
    torch.testing.assert_close(xt, x.sum(3) / x.shape[3])


@pytest.mark.parametrize('used', [(0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
def test_passing_through_adds_all_gradients(used):
    x = operands()[0]
    pulls = [torch.randn_like(t) for t in (x, *pool(x))]
    outputs = pool_through(x)
    apart = x, *pool(x)
    for one, other in zip(outputs, apart, strict=True):
        assert torch.equal(one, other)

    def gradient(outputs):
        loss = sum((outputs[i] * pulls[i]).sum() for i in used)
        return torch.autograd.grad(loss, x)[0]

    torch.testing.assert_close(gradient(outputs), gradient(apart))


def test_passing_through_keeps_the_incoming_gradients():
    x = operands()[0]
    pulls = [torch.randn_like(t) for t in (x, *pool(x))]
    before = [pull.clone() for pull in pulls]
    torch.autograd.grad(pool_through(x), x, pulls)
    assert all(map(torch.equal, before, pulls))


def test_passing_through_compiles_transforms_and_traces():
    x = operands(dtype=torch.float32)[0]

    def work(x):
        same, xs, xt = pool_through(x)
        return same.square().sum() + xs.exp().sum() + xt.exp().sum()

    (wanted,) = torch.autograd.grad(work(x), x)
    compiled = torch.compile(work, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x)[0], wanted)
    torch.testing.assert_close(torch.func.grad(work)(x.detach()), wanted)
    torch.testing.assert_close(torch.jit.trace(work, x.detach())(x), work(x))


@pytest.mark.parametrize('name, position', [('As', 1), ('At', 2), ('a', 3), ('b', 4)])
def test_a_wrong_shape_is_named(name, position):
    args = operands()
    args[position] = torch.randn(*args[position].shape[:-1], 9)
    with pytest.raises(ValueError, match=rf'mix: {name} has shape .*needs'):
        mix(*args)


def test_heads_must_divide_channels():
    x, As, At, a, b = operands(c=6, h=4)
    with pytest.raises(ValueError, match='4 heads do not divide the 6 channels'):
        mix(x, As, At, a, b)


def test_pool_refuses_other_ranks():
    with pytest.raises(ValueError, match=r'\(N, C, T, V\)'):
        pool(torch.zeros(2, 3, 4))


def test_the_gradient_has_no_gradient_and_says_so():
    args = operands()
    (gradient,) = torch.autograd.grad(mix(*args).square().sum(), args[:1], create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


def test_mix_compiles_without_a_break():
    args = operands(dtype=torch.float32)
    compiled = torch.compile(mix, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(*args), mix(*args))


def test_function_transforms_and_tracing_take_the_reference():
    args = [t.detach() for t in operands()]
    wanted = torch.autograd.grad(mix(args[0].requires_grad_(), *args[1:]).sum(), args[0])[0]
    x = args[0].detach()
    torch.testing.assert_close(torch.func.grad(lambda x: mix(x, *args[1:]).sum())(x), wanted)
    traced = torch.jit.trace(lambda x: mix(x, *args[1:]), x)
    torch.testing.assert_close(traced(x), mix(x, *args[1:]))


def test_backward_inside_autocast():
    args = [t.detach().float().requires_grad_() for t in operands()]
    wanted = torch.autograd.grad(mix(*args).sum(), args)
    with torch.autocast('cpu', torch.bfloat16):
        got = torch.autograd.grad(mix(*args).sum(), args)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)
