"""The Triton path as operators of PyTorch: schema, compile, autocast, DDP, CUDA graphs."""

import pytest
import torch

from mg_plugins.kernels import mix, pool
from mg_plugins.kernels.setups import DTYPES, Shape, make_inputs

from kernel_oracle import NAMES, assert_close, device, kernels_of, make_pull, mix_oracle

BACKEND = 'inductor' if torch.cuda.is_available() else 'aot_eager'
SHAPE = Shape(2, 4, 6, 5, 2)


def fused(x, As, At, a, b):
    """Both operators, one fed by the other, as in the fusion module."""
    xs, xt = pool(x, backend='triton')
    shares = (a + xs.mean(-1)).tanh(), (b + xt.mean(-1)).tanh()
    return mix(x, As, At, *shares, backend='triton')


def leaves_of(shape, dtype, seed):
    return [t.requires_grad_() for t in make_inputs(shape, dtype, device(), seed)]


def with_gradients(function, leaves):
    out = function(*leaves)
    return out, *torch.autograd.grad(out.square().sum(), leaves)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('differentiable', [True, False])
@pytest.mark.parametrize('operator', ['pool', 'mix'])
def test_opcheck(operator, differentiable, dtype, fresh_seed):
    inputs = [
        t.requires_grad_(differentiable)
        for t in make_inputs(Shape(2, 4, 5, 3, 2), dtype, device(), fresh_seed)
    ]
    arguments = inputs[:1] if operator == 'pool' else inputs
    packet = getattr(torch.ops.mg_plugins, operator).default
    torch.library.opcheck(packet, (*arguments, True), atol=1e-2, rtol=1e-2)


def test_opcheck_of_the_backward(fresh_seed):
    inputs = make_inputs(Shape(2, 4, 5, 3, 2), torch.float32, device(), fresh_seed)
    packet = torch.ops.mg_plugins.mix_backward.default
    torch.library.opcheck(packet, (inputs[0].clone(), *inputs, True))


def test_opcheck_of_the_joined_gradient(fresh_seed):
    x = make_inputs(Shape(2, 4, 5, 3), torch.float32, device(), fresh_seed)[0]
    packet = torch.ops.mg_plugins.pool_backward.default
    torch.library.opcheck(packet, (x, x[:, :, 0].clone(), x[..., 0].clone(), True))


def test_opcheck_of_strided_inputs(fresh_seed):
    x, As, At, a, b = make_inputs(Shape(2, 4, 5, 3, 2), torch.float32, device(), fresh_seed)
    x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).requires_grad_()
    inputs = x, As[:, :1].expand_as(As), At.mT, a, b
    torch.library.opcheck(torch.ops.mg_plugins.mix.default, (*inputs, True))
    torch.library.opcheck(torch.ops.mg_plugins.pool.default, (x, True))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_compiles_without_a_graph_break(dtype, fresh_seed, launched):
    torch.compiler.reset()
    leaves = leaves_of(SHAPE, dtype, fresh_seed)
    wanted = with_gradients(fused, leaves)
    assert launched() == kernels_of(SHAPE, dtype, pool=1, forward=1, backward=1)
    compiled = torch.compile(fused, fullgraph=True, backend=BACKEND)
    got = with_gradients(compiled, leaves)
    assert launched() == kernels_of(SHAPE, dtype, pool=2, forward=2, backward=2)
    for one, other in zip(got, wanted, strict=True):
        assert_close('compiled', one.detach(), other.detach().double(), dtype)


def test_a_compiled_call_follows_the_environment(fresh_seed, launched, monkeypatch):
    torch.compiler.reset()
    monkeypatch.setenv('MG_KERNELS', 'triton')
    leaves = leaves_of(SHAPE, torch.float32, fresh_seed)
    torch.compile(mix, fullgraph=True, backend=BACKEND)(*leaves).sum().backward()
    assert launched() == kernels_of(SHAPE, torch.float32, forward=1, backward=1)


def test_one_compilation_serves_all_batch_sizes(fresh_seed, launched):
    torch.compiler.reset()
    compiled = torch.compile(fused, fullgraph=True, backend=BACKEND, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n in (7, 9, 11):  # sizes that no other dimension has
            leaves = leaves_of(SHAPE._replace(n=n), torch.float32, fresh_seed)
            got = with_gradients(compiled, leaves)
            for one, other in zip(got, with_gradients(fused, leaves), strict=True):
                assert_close('compiled', one.detach(), other.detach().double(), torch.float32)
    assert launched() == kernels_of(SHAPE, torch.float32, pool=6, forward=6, backward=6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_autocast(dtype, fresh_seed, launched):
    """The result has the type of x, also where graphs and shares come in float32."""
    shape = Shape(2, 8, 9, 7, 2)
    inputs = make_inputs(shape, dtype, device(), fresh_seed)
    inputs = [inputs[0], *(t.float() for t in inputs[1:])]
    leaves = [t.detach().requires_grad_() for t in inputs]
    pull = make_pull(inputs, fresh_seed + 1)
    with torch.autocast(device(), torch.bfloat16):
        out = mix(*leaves, backend='triton')
        inside = torch.autograd.grad(out, leaves, pull, retain_graph=True)
    outside = torch.autograd.grad(out, leaves, pull)
    wanted, wanted_grads = mix_oracle(inputs, pull)
    assert_close('y', out.detach(), wanted, dtype)
    for name, leaf, one, other, exact in zip(
        NAMES, leaves, inside, outside, wanted_grads, strict=True
    ):
        assert one.dtype == leaf.dtype and torch.equal(one, other)
        assert_close(f'gradient of {name}', one.to(dtype), exact, dtype)
    assert launched() == kernels_of(shape, dtype, forward=1, backward=2)


class Mixed(torch.nn.Module):
    """Learned graphs and shares around both operators."""

    def __init__(self, shape, seed):
        super().__init__()
        _, *weights = make_inputs(shape._replace(n=1), torch.float32, device(), seed)
        self.weights = torch.nn.ParameterList(weights)

    def forward(self, x):
        return fused(x, *(w.expand(len(x), *w.shape[1:]) for w in self.weights))


def test_distributed_data_parallel(fresh_seed, launched, tmp_path):
    x = make_inputs(SHAPE, torch.float32, device(), fresh_seed)[0]
    plain, wrapped = Mixed(SHAPE, fresh_seed), Mixed(SHAPE, fresh_seed)
    plain(x).square().sum().backward()
    torch.distributed.init_process_group(
        'gloo', store=torch.distributed.FileStore(str(tmp_path / 'store'), 1), rank=0, world_size=1
    )
    try:
        torch.nn.parallel.DistributedDataParallel(wrapped)(x).square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    for one, other in zip(wrapped.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert launched() == kernels_of(SHAPE, torch.float32, pool=2, forward=2, backward=2)


@pytest.mark.cuda
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_cuda_graph(dtype, fresh_seed):
    leaves = leaves_of(Shape(4, 8, 100, 25, 2), dtype, fresh_seed)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles and warms up
        with_gradients(fused, leaves)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed = with_gradients(fused, leaves)
    fresh = make_inputs(Shape(4, 8, 100, 25, 2), dtype, 'cuda', fresh_seed + 1)
    with torch.no_grad():
        for leaf, values in zip(leaves, fresh, strict=True):
            leaf.copy_(values)
    graph.replay()
    for one, other in zip(replayed, with_gradients(fused, leaves), strict=True):
        assert torch.equal(one, other)


def test_deterministic_algorithms(fresh_seed):
    leaves = leaves_of(Shape(2, 4, 20, 9, 2), torch.bfloat16, fresh_seed)
    wanted = with_gradients(fused, leaves)
    torch.use_deterministic_algorithms(True)
    try:
        got = with_gradients(fused, leaves)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(map(torch.equal, got, wanted))
