"""The shapes and inputs of the kernels' tests and benchmarks: one set-up for both."""

from typing import NamedTuple

import torch


class Shape(NamedTuple):
    """Sizes of a call."""

    n: int  # sequences (batch × persons)
    c: int  # channels
    t: int  # frames
    v: int  # joints
    heads: int = 1  # graphs of each kind; divides ``c``

    def __str__(self) -> str:
        return f'N{self.n} C{self.c} T{self.t} V{self.v} H{self.heads}'


# The three stages of ST-GCN, which halves the frames where it doubles the channels.
NTU = [Shape(128, 64, 100, 25), Shape(128, 128, 50, 25), Shape(128, 256, 25, 25)]
IMIGUE = [Shape(128, 64, 90, 22), Shape(128, 128, 45, 22), Shape(128, 256, 23, 22)]

# Growth with one size, the others as in ST-GCN's first stage.
OVER_FRAMES = [Shape(128, 64, t, 25) for t in (50, 100, 150, 200, 300, 400, 500)]
OVER_JOINTS = [Shape(128, 64, 100, v) for v in (17, 20, 22, 25, 33, 48, 64)]

# What a CPU gets through in a benchmark.
SMALL = [Shape(4, 64, 50, 25), Shape(4, 128, 25, 25), Shape(4, 64, 45, 22)]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


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


def make_inputs(
    shape: Shape, dtype: torch.dtype, device: torch.device | str, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random x (N, C, T, V), As (N, H, V, V), At (N, H, T, T), a and b (N, C) of ``mix``.

    The graphs are scaled so that both streams are about as large as x: an error in either shows
    in the result. Equal seeds make equal inputs on one kind of device.
    """
    n, c, t, v, heads = shape
    generator = torch.Generator(device=device).manual_seed(seed)

    def normal(*size: int, scale: float = 1.0) -> torch.Tensor:
        values = torch.randn(size, generator=generator, device=device)
        return values.mul_(scale).to(dtype)

    x, As = normal(n, c, t, v), normal(n, heads, v, v, scale=v**-0.5)
    At = normal(n, heads, t, t, scale=t**-0.5)
    return x, As, At, normal(n, c), normal(n, c)
