"""What the kernels' tests compare with, and how: float64 autograd, and memory that tells tales."""

from collections import Counter

import torch

from mg_plugins.kernels import mix_reference, pool_reference
from mg_plugins.kernels.aot import variants
from mg_plugins.kernels.setups import DTYPES, Shape
from mg_plugins.kernels.signatures import architecture

BARS = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
NAMES = ('x', 'As', 'At', 'a', 'b')
MARGIN = 64  # elements, so that what is between two margins stays as aligned as fresh memory
UNTOUCHED = 12288.0  # exact in every type


def device() -> str:
    """Where the kernels run: on the GPU, or on a CPU under Triton's interpreter."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def awkward() -> list[tuple[Shape, torch.dtype]]:
    """Every second pair of awkward T and V, each T in every type; N and C are small.

    Channels of a head are 1 to 5, so that no block of channels divides all of them. At the end
    stand the largest sizes that the kernels promise, sizes that fill their blocks exactly, and
    heads with more channels than a program does.
    """
    cases = []
    for i, t in enumerate((1, 7, 100, 129, 300)):
        for j, v in enumerate((1, 17, 20, 22, 25, 33, 64)):
            if (i + j) % 2:
                continue
            large = t * v > 3000
            heads = 1 if large and j % 2 else 1 + (i + j) % 3
            per_head = (1 + (i + j) % 2) if large else 1 + (2 * i + j) % 5
            n = 1 if large else 1 + (i + 2 * j) % 3
            if 1 in (t, v):
                # A graph of one number: several of them, lest a chance zero is all there is.
                n, per_head = -(-8 // heads), 2 if t > 100 else per_head
            cases.append((Shape(n, heads * per_head, t, v, heads), DTYPES[(i + j) % 3]))
    for k, dtype in enumerate(DTYPES):
        cases.append((Shape(1, 1 + k, (512, 520, 512)[k], (64, 25, 33)[k]), dtype))
        cases.append((Shape(2, 34, (16, 64, 32)[k], (16, 32, 64)[k], 2), dtype))
        cases.append((Shape(1, (26, 26, 18)[k], (33, 7, 20)[k], (20, 17, 25)[k]), dtype))
        cases.append((Shape(2, 10, 9, (8, 4, 2)[k], 2), dtype))
    return cases


def kernels_of(
    shape, dtype, pool: int = 0, through: int = 0, forward: int = 0, backward: int = 0
) -> dict[str, int]:
    """What ``launches()`` shows after so many calls; read from what is compiled ahead of time."""
    arch = architecture(torch.device(device()))
    each = {'pool_forward': pool, 'pool_backward': through, 'mix_forward': forward}
    counts = Counter()
    for kernel in variants(dtype, shape.t, shape.v, shape.c, shape.heads, arch):
        counts[kernel.name] += each.get(kernel.name, backward)
    return {name: count for name, count in counts.items() if count}


def make_pull(inputs, seed: int) -> torch.Tensor:
    """An incoming gradient of ``mix`` under which no gradient is a sum that cancels.

    Both streams and x are in it, beside noise: the gradients of a and b are then near the streams'
    squares, and a relative error means something even where a is a single number.
    """
    x, As, At, a, b = (t.double() for t in inputs)
    generator = torch.Generator(device=x.device).manual_seed(seed)
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    pull = mix_reference(x, As, At, torch.ones_like(a), torch.ones_like(b)) + 0.5 * noise
    return pull.to(inputs[0].dtype)


def mix_oracle(inputs, pull):
    """Output and gradients of ``mix`` in float64."""
    exact = [t.detach().double().requires_grad_() for t in inputs]
    out = mix_reference(*exact)
    return out.detach(), torch.autograd.grad(out, exact, pull.double())


def pool_oracle(x, pulls):
    """Both pools and the gradient of x in float64."""
    exact = x.detach().double().requires_grad_()
    pools = pool_reference(exact)
    (gradient,) = torch.autograd.grad(pools, exact, [pull.double() for pull in pulls])
    return [pool.detach() for pool in pools], gradient


def assert_close(name: str, got: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype) -> None:
    """‖got − wanted‖ / ‖wanted‖ within the type's bar, and no element far off on its own."""
    assert got.dtype == dtype, f'{name} is {got.dtype}, not {dtype}'
    assert got.shape == wanted.shape, f'{name} has shape {got.shape}, not {wanted.shape}'
    off = got.double() - wanted
    error = float(off.norm() / wanted.norm())
    bar = BARS[dtype]
    assert error < bar, f'{name} {tuple(got.shape)} {dtype}: relative error {error:.2g} >= {bar}'
    typical = wanted.square().mean().sqrt()
    worst = float(off.abs().max() / typical)
    assert worst < 20 * bar, (
        f'{name} {tuple(got.shape)} {dtype}: element {int(off.abs().argmax())} of the flat tensor '
        f'is off by {worst:.2g} times the typical size'
    )


def in_margins(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy between margins of NaN: what is read beyond it shows in the result."""
    buffer = tensor.new_full((tensor.numel() + 2 * MARGIN,), float('nan'))
    inner = buffer[MARGIN : MARGIN + tensor.numel()].view(tensor.shape)
    return inner.copy_(tensor)


class Poison:
    """Allocates in place of ``torch.empty`` and its kin: NaN inside, margins that are checked."""

    def __init__(self, monkeypatch) -> None:
        self.buffers = []
        self._empty = torch.empty
        for owner, name in (
            (torch, 'empty'),
            (torch, 'empty_like'),
            (torch, 'empty_strided'),
            (torch.Tensor, 'new_empty'),
        ):
            monkeypatch.setattr(owner, name, self._poisoned(getattr(owner, name)))

    def _poisoned(self, real):
        def allocate(*args, **kwargs):
            made = real(*args, **kwargs)
            if not made.is_floating_point() or not made.is_contiguous():
                return made
            size = made.numel()
            buffer = self._empty(size + 2 * MARGIN, dtype=made.dtype, device=made.device)
            buffer.fill_(UNTOUCHED)
            self.buffers.append(buffer)
            return buffer[MARGIN : MARGIN + size].fill_(float('nan')).view(made.shape)

        return allocate

    def check(self) -> None:
        """No kernel wrote beside what was allocated for it, and something was."""
        assert self.buffers, 'no memory came from the poisoned allocators: the test tests nothing'
        for buffer in self.buffers:
            margins = torch.cat((buffer[:MARGIN], buffer[-MARGIN:]))
            assert (margins == UNTOUCHED).all(), (
                f'written beside an allocation of {buffer.numel() - 2 * MARGIN} elements'
            )
