"""Which path runs: argument, ``MG_KERNELS``, shapes Triton does not take, kernels that fail."""

import sys
import warnings

import pytest
import torch

from mg_plugins.kernels import (
    launches,
    library,
    mix,
    mix_reference,
    pool,
    pool_reference,
    supported,
)
from mg_plugins.kernels import triton_mix as triton_mix_module
from mg_plugins.kernels import triton_pool as triton_pool_module
from mg_plugins.kernels.aot import variants
from mg_plugins.kernels.setups import Shape, make_inputs

from kernel_oracle import assert_close, device, kernels_of, make_pull, mix_oracle

SHAPE = Shape(1, 2, 3, 4)


def inputs_of(shape=SHAPE, dtype=torch.float32):
    return make_inputs(shape, dtype, device(), seed=0)


def both(inputs, backend=None):
    pool(inputs[0], backend=backend)
    mix(*inputs, backend=backend)
    return launches()


TRITON, TORCH = {'pool_forward': 1, 'mix_forward': 1}, {}
BY_ITSELF = TRITON if torch.cuda.is_available() else TORCH  # the interpreter is for tests alone


@pytest.mark.parametrize(
    'environment, argument, path',
    [
        (None, None, BY_ITSELF),
        (None, 'auto', BY_ITSELF),
        ('auto', None, BY_ITSELF),
        ('triton', None, TRITON),
        ('triton', 'auto', TRITON),
        ('torch', None, TORCH),
        ('torch', 'auto', TORCH),
        (None, 'triton', TRITON),
        (None, 'torch', TORCH),
        ('torch', 'triton', TRITON),
        ('triton', 'torch', TORCH),
    ],
)
def test_argument_then_environment_then_device(environment, argument, path, launched, monkeypatch):
    monkeypatch.delenv('MG_KERNELS', raising=False)
    if environment:
        monkeypatch.setenv('MG_KERNELS', environment)
    assert both(inputs_of(), argument) == path


def test_the_backward_follows_the_forward(launched, monkeypatch):
    inputs = [t.requires_grad_() for t in inputs_of()]
    monkeypatch.setenv('MG_KERNELS', 'triton')
    out = mix(*inputs)
    monkeypatch.setenv('MG_KERNELS', 'torch')
    out.sum().backward()
    assert launched() == kernels_of(SHAPE, torch.float32, forward=1, backward=1)


@pytest.mark.parametrize('function', [pool, mix])
def test_unknown_backends_are_named(function, monkeypatch):
    inputs = inputs_of()[: 1 if function is pool else 5]
    with pytest.raises(ValueError, match="auto, triton, torch.*'cuda'"):
        function(*inputs, backend='cuda')
    monkeypatch.setenv('MG_KERNELS', 'Triton ')
    with pytest.raises(ValueError, match="MG_KERNELS.*auto, triton, torch.*'Triton '"):
        function(*inputs)


NOT_TAKEN = [
    (Shape(1, 1, 2000, 2), torch.float32, r'\(1, 1, 2000, 2\)'),
    (Shape(1, 1, 2, 300), torch.float32, r'\(1, 1, 2, 300\)'),
    (SHAPE, torch.float64, 'torch.float64'),
]


@pytest.mark.parametrize('shape, dtype, named', NOT_TAKEN, ids=str)
def test_what_triton_does_not_take_goes_to_pytorch(shape, dtype, named, launched):
    inputs = inputs_of(shape, dtype)
    torch.testing.assert_close(mix(*inputs), mix_reference(*inputs))
    torch.testing.assert_close(pool(inputs[0]), pool_reference(inputs[0]))
    assert launched() == {}


@pytest.mark.parametrize('function', [pool, mix])
@pytest.mark.parametrize('shape, dtype, named', NOT_TAKEN, ids=str)
def test_asking_for_triton_then_says_why_not(shape, dtype, named, function, launched, monkeypatch):
    inputs = inputs_of(shape, dtype)[: 1 if function is pool else 5]
    with pytest.raises(ValueError, match=f'Triton.*asked for.*{named}'):
        function(*inputs, backend='triton')
    monkeypatch.setenv('MG_KERNELS', 'triton')
    with pytest.raises(ValueError, match=named):
        function(*inputs)
    assert launched() == {}


def test_the_sizes_that_are_promised_are_taken():
    for t, v in ((1, 1), (512, 64), (300, 64), (500, 25)):
        assert supported(torch.empty(1, 4, t, v, device=device()), heads=2) is None
    assert '3 heads' in supported(torch.empty(1, 4, 5, 5, device=device()), heads=3)


@pytest.mark.parametrize('position, name', [(1, 'As'), (2, 'At'), (3, 'a'), (4, 'b')])
def test_a_wrong_shape_is_named(position, name):
    inputs = list(inputs_of())
    inputs[position] = inputs[position][..., :-1]
    with pytest.raises(ValueError, match=rf'mix: {name} has shape .*needs'):
        mix(*inputs, backend='triton')


def test_heads_must_divide_channels():
    x, As, At, a, b = inputs_of(Shape(1, 6, 3, 2, 1))
    As, At = As.expand(1, 4, 2, 2), At.expand(1, 4, 3, 3)
    with pytest.raises(ValueError, match='4 heads do not divide the 6 channels'):
        mix(x, As, At, a, b, backend='triton')


def broken(*_):
    raise RuntimeError('the compiler gave up')


def unless_asked_for(*inputs):
    """``mix`` by Triton that may fall back: what ``auto`` takes for CUDA tensors."""
    if torch.cuda.is_available():
        return mix(*inputs)
    return torch.ops.mg_plugins.mix(*inputs)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_a_failing_kernel_is_reported_once_and_pytorch_takes_over(dtype, monkeypatch):
    monkeypatch.delenv('MG_KERNELS', raising=False)
    monkeypatch.setattr(triton_mix_module, 'mix', broken)
    monkeypatch.setattr(triton_mix_module, 'mix_backward', broken)
    inputs = [t.requires_grad_() for t in inputs_of(Shape(2, 6, 11, 7, 3), dtype)]
    pull = make_pull(inputs, 1)
    with pytest.warns(RuntimeWarning, match=r'\(2, 6, 11, 7\)(.|\n)*the compiler gave up') as told:
        out = unless_asked_for(*inputs)
        grads = torch.autograd.grad(out, inputs, pull)
    assert len(told) == 2  # the forward and the backward
    wanted, wanted_grads = mix_oracle(inputs, pull)
    for name, one, other in zip(
        ('y', 'x', 'As', 'At', 'a', 'b'), (out, *grads), (wanted, *wanted_grads), strict=True
    ):
        assert_close(name, one.detach(), other, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        torch.autograd.grad(unless_asked_for(*inputs), inputs, pull)


def test_a_triton_that_cannot_be_imported_is_reported_once_for_all_shapes(monkeypatch):
    monkeypatch.delenv('MG_KERNELS', raising=False)
    monkeypatch.setattr(library, '_failed', set())
    monkeypatch.setitem(sys.modules, 'mg_plugins.kernels.triton_mix', None)
    inputs = inputs_of(Shape(2, 6, 14, 7, 3))
    with pytest.warns(RuntimeWarning, match=r'\(2, 6, 14, 7\)(.|\n)*every shape') as told:
        out = unless_asked_for(*inputs)
        torch.testing.assert_close(out, mix_reference(*inputs))
        others = inputs_of(Shape(2, 6, 15, 7, 3))
        torch.testing.assert_close(unless_asked_for(*others), mix_reference(*others))
    assert len(told) == 1
    with pytest.raises(ImportError):
        mix(*inputs, backend='triton')


@pytest.mark.parametrize('backend', ['auto', 'triton'])
def test_transforms_of_pytorch_see_its_own_operators(backend, launched, monkeypatch):
    """They cannot look into a kernel: by itself they get PyTorch, asked for Triton an error."""
    monkeypatch.delenv('MG_KERNELS', raising=False)
    x, *weights = inputs_of()
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(mix_reference(leaf, *weights).sum(), leaf)
    gradient = torch.func.grad(lambda x: mix(x, *weights, backend=backend).sum())
    if backend == 'auto':
        torch.testing.assert_close(gradient(x), wanted)
    else:
        with pytest.raises(ValueError, match='Triton.*asked for.*torch.func'):
            gradient(x)
    assert launched() == {}


MATMUL = torch.backends.cuda.matmul
WAYS_TO_ASK = {
    'high': lambda: torch.set_float32_matmul_precision('high'),
    'allow_tf32': lambda: setattr(MATMUL, 'allow_tf32', True),
}
if hasattr(MATMUL, 'fp32_precision'):
    WAYS_TO_ASK['fp32_precision'] = lambda: setattr(MATMUL, 'fp32_precision', 'tf32')


@pytest.mark.parametrize('way', WAYS_TO_ASK)
def test_plain_tf32_only_where_pytorch_is_told_so(way):
    def precisions(dtype, arch):
        kernels = variants(dtype, SHAPE.t, SHAPE.v, SHAPE.c, SHAPE.heads, arch)
        found = (kernel.constexprs.get('PRECISION') for kernel in kernels)
        return {product for product in found if product}

    assert precisions(torch.float32, 'sm_90') == {'tf32x3'}
    try:
        WAYS_TO_ASK[way]()
        assert precisions(torch.float32, 'sm_90') == precisions(torch.float32, 'sm_80') == {'tf32'}
        assert precisions(torch.float32, 'gfx942') == {'ieee'}
        assert precisions(torch.bfloat16, 'sm_90') == {'ieee'}
    finally:
        torch.set_float32_matmul_precision('highest')
    assert precisions(torch.float32, 'sm_90') == {'tf32x3'}


def test_a_failing_pool_likewise(monkeypatch):
    monkeypatch.delenv('MG_KERNELS', raising=False)
    monkeypatch.setattr(triton_pool_module, 'pool', broken)
    x = inputs_of(Shape(2, 6, 11, 7))[0]
    run = pool if torch.cuda.is_available() else torch.ops.mg_plugins.pool
    with pytest.warns(RuntimeWarning, match=r'\(2, 6, 11, 7\)(.|\n)*the compiler gave up'):
        pools = run(x)
    torch.testing.assert_close(pools, pool_reference(x))


@pytest.mark.parametrize('asked', ['argument', 'environment'])
def test_a_failure_is_raised_where_triton_was_asked_for(asked, monkeypatch):
    monkeypatch.setattr(triton_mix_module, 'mix', broken)
    monkeypatch.setattr(triton_pool_module, 'pool', broken)
    backend = 'triton' if asked == 'argument' else None
    monkeypatch.setenv('MG_KERNELS', 'auto' if asked == 'argument' else 'triton')
    inputs = inputs_of(Shape(2, 6, 12, 7, 3))
    for _ in range(2):
        with pytest.raises(RuntimeError, match='the compiler gave up'):
            mix(*inputs, backend=backend)
        with pytest.raises(RuntimeError, match='the compiler gave up'):
            pool(inputs[0], backend=backend)


def test_a_failing_backward_is_raised_where_triton_was_asked_for(monkeypatch):
    monkeypatch.setattr(triton_mix_module, 'mix_backward', broken)
    inputs = [t.requires_grad_() for t in inputs_of(Shape(2, 6, 13, 7, 3))]
    out = mix(*inputs, backend='triton')
    with pytest.raises(RuntimeError, match='the compiler gave up'):
        out.sum().backward()


def test_graphs_in_another_type_are_brought_to_that_of_x(launched):
    shape, x_type, other = Shape(2, 4, 6, 5, 2), torch.bfloat16, torch.float32
    exact = [t.requires_grad_() for t in inputs_of(shape, other)]
    x = exact[0].detach().to(x_type)
    out = mix(x, *exact[1:], backend='triton')
    assert out.dtype == x_type
    out.sum().backward()
    assert all(t.grad.dtype == other for t in exact[1:])
    assert launched() == kernels_of(shape, x_type, forward=1, backward=1)
