"""A kernel that cannot keep what it holds in registers; prints its cost as JSON."""

import json

import triton
import triton.language as tl

from mg_plugins.kernels import aot
from mg_plugins.kernels.signatures import Variant


@triton.jit
def spill(x_ptr, y_ptr, ROWS: tl.constexpr):
    at = tl.arange(0, ROWS)[:, None] * 64 + tl.arange(0, 64)[None, :]
    x = tl.load(x_ptr + at)
    # All of x is alive until the last sum is known: ROWS · 64 numbers in the registers of a warp.
    for _ in range(8):
        x = x * tl.sum(x)
    tl.store(y_ptr + at, x)


if __name__ == '__main__':
    costs = {}
    for rows in (8, 256):
        signature = dict(x_ptr='*fp32', y_ptr='*fp32', ROWS='constexpr')
        variant = Variant('spill', spill, signature, dict(ROWS=rows), 1, 1, 1)
        costs[rows] = aot.read_cost(aot.compile_variant(variant, 'sm_90'))
    print(json.dumps(costs))
