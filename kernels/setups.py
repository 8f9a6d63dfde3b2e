"""The shapes of the benchmarks and their inputs, which are those of the tests too."""

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
