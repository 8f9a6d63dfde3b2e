"""Bytes and operations of ``pool`` and ``mix``, and the least time that a device needs for them.

``python -m mg_plugins.kernels.benchmarks.roofline`` prints the table of ``kernels/NOTES.md``.
Nothing here is measured: it is counting, with the rates below.
"""

from __future__ import annotations

from typing import NamedTuple

from mg_plugins.kernels.setups import IMIGUE, NTU, OVER_FRAMES, OVER_JOINTS, Shape

#: Bytes of one element.
SIZES = {'float32': 4, 'bfloat16': 2, 'float16': 2}
DIRECTIONS = ('forward', 'backward', 'forward+backward')
#: What is counted: the two kernels, both together, and the module around them.
WORKS = ('pool', 'mix', 'pool+mix', 'fusion')


class Cost(NamedTuple):
    """What a call must do at least.

    Attributes:
        bytes: Bytes between chip and memory, each input read once and each output written once.
        operations: Floating-point operations (an addition and a multiplication are two).
    """

    bytes: int
    operations: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.operations + other.operations)


class Rates(NamedTuple):
    """Rates of a device.

    Attributes:
        copy: Bytes a second of a large copy on the device, read and written bytes counted.
        products: Floating-point operations a second of large matrix products, by type of element.
            For float32 it is the faster way that keeps float32's accuracy.
    """

    copy: float
    products: dict[str, float]


# H200 (SXM). The copy rate is what one is taken to reach; its datasheet has 4.8 TB/s. The
# others are the datasheet's dense rates: 989 TFLOP/s in bf16 and fp16, 495 in tf32, of which a
# product in float32's accuracy (tf32x3) takes three, and 67 by plain float32 arithmetic.
H200 = Rates(4.3e12, {'bfloat16': 989e12, 'float16': 989e12, 'float32': 495e12 / 3})
H200_PLAIN_FLOAT32 = 67e12


def cost(work: str, direction: str, shape: Shape, dtype: str) -> Cost:
    """The least bytes and operations of a call.

    ``pool+mix`` is the sum of its two parts: the graphs depend on the pools of all of x, so x must
    be read twice forward; and the pools' gradients depend on the graphs', so dy must be read twice
    backward. The fusion's small operations (projections, softmax, gate) are not counted, so the
    cost of ``fusion`` is that of ``pool+mix``.

    Args:
        work: One of ``WORKS``.
        direction: One of ``DIRECTIONS``.
        shape: Sizes of the feature map.
        dtype: Type of every element, a key of ``SIZES``.

    Raises:
        ValueError: If work or direction is none of these.
    """
    if direction == 'forward+backward':
        return cost(work, 'forward', shape, dtype) + cost(work, 'backward', shape, dtype)
    if direction not in DIRECTIONS:
        raise ValueError(f'direction must be one of {DIRECTIONS}, got {direction!r}')
    if work in ('pool+mix', 'fusion'):
        return cost('pool', direction, shape, dtype) + cost('mix', direction, shape, dtype)
    if work not in WORKS:
        raise ValueError(f'work must be one of {WORKS}, got {work!r}')
    n, c, t, v, heads = shape
    full = n * c * t * v
    if work == 'pool':
        # Forward reads the map and writes both means; backward reads their gradients and writes
        # a map.
        return Cost((full + n * c * (t + v)) * SIZES[dtype], 2 * full)
    weights = n * heads * (t * t + v * v) + 2 * n * c
    # A product with each graph, and two additions with a factor.
    forward = 2 * full * (t + v) + 4 * full
    if direction == 'forward':
        return Cost((2 * full + weights) * SIZES[dtype], forward)
    # Reads x, dy and the weights; writes dx and the weights' gradients. Both gradients of a product
    # cost what the product cost; da and db fall off on the way to dAs and dAt.
    return Cost((3 * full + 2 * weights) * SIZES[dtype], 2 * forward)


def seconds(of: Cost, dtype: str, rates: Rates) -> tuple[float, float]:
    """Least seconds by memory and least seconds by arithmetic; the larger one is the limit."""
    return of.bytes / rates.copy, of.operations / rates.products[dtype]


def listed() -> list[Shape]:
    """Every shape that is benchmarked on a GPU, once each."""
    return list(dict.fromkeys([*NTU, *IMIGUE, *OVER_FRAMES, *OVER_JOINTS]))


def markdown(rates: Rates = H200) -> str:
    """The roofline as a markdown table; each time is the larger of its two limits."""
    lines = [
        '| N, C, T, V | type | pool forward, MB | µs | mix forward, MB | GFLOP | by bytes, µs '
        '| by arithmetic, µs | mix backward, MB | GFLOP | by bytes, µs | by arithmetic, µs '
        '| all, forward and backward, µs |',
        '| --- | --- ' + '| --: ' * 11 + '|',
    ]
    for shape in listed():
        for dtype in ('bfloat16', 'float32'):
            pool, *mixes = (
                cost(work, direction, shape, dtype)
                for work, direction in (
                    ('pool', 'forward'),
                    ('mix', 'forward'),
                    ('mix', 'backward'),
                )
            )
            cells = [', '.join(map(str, shape[:4])), dtype, f'{pool.bytes / 1e6:.1f}']
            cells.append(f'{1e6 * max(seconds(pool, dtype, rates)):.1f}')
            for of in mixes:
                cells += [f'{of.bytes / 1e6:.1f}', f'{of.operations / 1e9:.2f}']
                cells += [f'{1e6 * limit:.1f}' for limit in seconds(of, dtype, rates)]
            every = [pool, *mixes, cost('pool', 'backward', shape, dtype)]
            cells.append(f'{1e6 * sum(max(seconds(of, dtype, rates)) for of in every):.1f}')
            lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    print(markdown(), end='')
