"""The aims of the kernels, judged from a record: met, missed or not measured.

Ratios are of medians of one run. On a GPU they are of replayed CUDA graphs, which is the device's
own time; the same ratio without graphs, where the processor's share counts, stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mg_plugins.kernels.setups import NTU, OVER_FRAMES, OVER_JOINTS, Shape

from . import results, roofline

MET, MISSED, UNKNOWN = 'met', 'missed', 'not measured'
HALF = ('bfloat16', 'float16')


class Bar(NamedTuple):
    """One aim: what is asked, ``met``, ``missed`` or ``not measured``, and the figures."""

    aim: str
    verdict: str
    figures: str


class Figures:
    """Rows of a record by what they are of."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.groups = results.groups(record['rows'])
        self.ceilings = record['ceilings']
        self.kind = record['machine']['kind']

    def of(
        self, work: str, direction: str, shape: Shape, dtype: str, graphs: bool = True
    ) -> dict[str, dict]:
        """Rows of all implementations; ``own`` only where Triton ran."""
        if self.kind == 'CPU':
            return {}
        rows = self.groups.get((work, direction, tuple(shape), dtype, graphs), {})
        return {
            k: row for k, row in rows.items() if k != 'own' or row['implementation'] == 'triton'
        }

    def over(self, other: str, *key: Any, graphs: bool = True, of: str = 'seconds') -> float | None:
        """How many times as much ``other`` takes as ours; ``compiled`` is the better compile."""
        rows = self.of(*key, graphs=graphs)
        others = ('compile', 'max-autotune') if other == 'compiled' else (other,)
        values = [rows[o][of] for o in others if o in rows and rows[o][of]]
        if not values or 'own' not in rows or not rows['own'][of]:
            return None
        return min(values) / rows['own'][of]


def judge(record: dict[str, Any]) -> list[Bar]:
    """Every aim, with its verdict."""
    figures = Figures(record)
    first = NTU[0]
    pair = ('pool+mix', 'forward', first, 'bfloat16')
    both = ('pool+mix', 'forward+backward', first, 'bfloat16')
    bars = [
        _correct(record),
        _at_least(
            'forward (pool and mix) at least 3 times eager, bf16, C 64', 3, figures, 'eager', pair
        ),
        _at_least(
            'forward at least 1.3 times torch.compile, bf16, C 64', 1.3, figures, 'compiled', pair
        ),
        _every(
            'forward at no listed shape slower than torch.compile',
            {
                f'{shape} {dtype}': figures.over('compiled', 'pool+mix', 'forward', shape, dtype)
                for shape in roofline.listed()
                for dtype in ('bfloat16', 'float32')
            },
            lambda ratio: ratio >= 1,
            '{:.2f}x',
        ),
        _at_least(
            'forward+backward at least 2.5 times eager, bf16, C 64', 2.5, figures, 'eager', both
        ),
        _every(
            'mix forward in bf16 and fp16 at T up to 100 at 70% or more of the copy bandwidth',
            {
                f'{shape} {dtype}': _share_of_copy(figures, shape, dtype)
                for shape in roofline.listed()
                if shape.t <= 100
                for dtype in HALF
            },
            lambda share: share >= 0.7,
            '{:.0%}',
        ),
        _every(
            'mix forward elsewhere at 60% or more of the larger of its two limits',
            {
                f'{shape} {dtype}': _share_of_limit(figures, shape, dtype)
                for shape in roofline.listed()
                for dtype in roofline.SIZES
                if not (dtype in HALF and shape.t <= 100)
            },
            lambda share: share >= 0.6,
            '{:.0%}',
        ),
        _memory(figures, both),
        _step(
            'fused ST-GCN train step at most 1.08 times the plain one, bf16 on a GPU',
            1.08,
            figures,
            'bfloat16',
            on_cpu=False,
        ),
    ]
    for curve, shapes in (('T', OVER_FRAMES), ('V', OVER_JOINTS)):
        bars.append(_growth(figures, curve, shapes))
    bars.append(
        _step(
            'on a CPU, fused train step at most 1.10 times the plain one, fp32',
            1.10,
            figures,
            'float32',
            on_cpu=True,
        )
    )
    return bars


def report(record: dict[str, Any]) -> str:
    """Everything that a record says, as markdown: the tables and the aims."""
    aims = judge(record)
    shown, rest = aims, ''
    if record['machine']['kind'] == 'CPU':
        shown = [bar for bar in aims if bar.aim.startswith(('tests', 'on a CPU'))]
        rest = f'\nNot measured: the {len(aims) - len(shown)} aims for GPUs. This is a CPU.\n'
    return f'{results.markdown(record)}\n### Aims\n\n{markdown(shown)}{rest}'


def markdown(bars: list[Bar]) -> str:
    """The bars as a markdown table."""
    lines = ['| aim | verdict | figures |', '| --- | --- | --- |']
    lines += [f'| {bar.aim} | **{bar.verdict}** | {bar.figures} |' for bar in bars]
    return '\n'.join(lines) + '\n'


def _correct(record: dict[str, Any]) -> Bar:
    found = record['correctness']
    verdicts = {'passed': MET, 'failed': MISSED}
    verdict = verdicts.get((found or '').split(' ')[0], UNKNOWN)
    return Bar('tests of the kernels pass', verdict, found or '')


def _at_least(aim: str, bar: float, figures: Figures, other: str, key: tuple) -> Bar:
    ratio, plain = (figures.over(other, *key, graphs=g) for g in (True, False))
    beside = '' if plain is None else f'; without graphs {plain:.2f}x'
    if ratio is None:
        return Bar(aim, UNKNOWN, beside.removeprefix('; '))
    if other == 'compiled' and 'max-autotune' not in figures.of(*key):
        beside += '; max-autotune not measured'
    return Bar(aim, MET if ratio >= bar else MISSED, f'{ratio:.2f}x{beside}')


def _every(
    aim: str, found: dict[str, float | None], good: Callable[[float], bool], form: str
) -> Bar:
    """One figure a shape: missed if any measured one is, met only if all are measured."""
    measured = {k: v for k, v in found.items() if v is not None}
    if not measured:
        return Bar(aim, UNKNOWN, '')
    worst = min(measured, key=measured.get)
    text = f'lowest {form.format(measured[worst])} at {worst}'
    bad = [k for k, v in measured.items() if not good(v)]
    if bad:
        return Bar(aim, MISSED, f'{text}; {len(bad)} of {len(measured)} miss it')
    if len(measured) < len(found):
        return Bar(aim, UNKNOWN, f'{text}; {len(found) - len(measured)} not measured')
    return Bar(aim, MET, f'{text}, all {len(measured)}')


def _share_of_copy(figures: Figures, shape: Shape, dtype: str) -> float | None:
    own = figures.of('mix', 'forward', shape, dtype).get('own')
    return own and own['bytes'] / own['seconds'] / figures.ceilings['copy']


def _share_of_limit(figures: Figures, shape: Shape, dtype: str) -> float | None:
    own = figures.of('mix', 'forward', shape, dtype).get('own')
    if own is None:
        return None
    rates = roofline.Rates(figures.ceilings['copy'], figures.ceilings['products'])
    of = roofline.Cost(own['bytes'], own['operations'])
    return max(roofline.seconds(of, dtype, rates)) / own['seconds']


def _memory(figures: Figures, key: tuple) -> Bar:
    aim = 'peak memory of forward+backward at most half of eager, bf16, C 64'
    ratio = figures.over('eager', *key, graphs=False, of='peak_bytes')
    if ratio is None:
        return Bar(aim, UNKNOWN, '')
    return Bar(aim, MET if ratio >= 2 else MISSED, f'{1 / ratio:.2f} of eager')


def _step(aim: str, bar: float, figures: Figures, dtype: str, *, on_cpu: bool) -> Bar:
    """Judged without graphs, as people train."""
    if on_cpu != (figures.kind == 'CPU'):
        return Bar(aim, UNKNOWN, '')
    texts, ratio = [], None
    for (work, network, _, kind, graphs), rows in figures.groups.items():
        if work == 'step' and kind == dtype and {'plain', 'own'} <= rows.keys():
            value = rows['own']['seconds'] / rows['plain']['seconds']
            ratio = ratio if graphs else value
            texts.append(f'{value:.3f}x{" with graphs" if graphs else f" ({network})"}')
    if ratio is None:
        return Bar(aim, UNKNOWN, '; '.join(texts))
    return Bar(aim, MET if ratio <= bar else MISSED, '; '.join(texts))


def _growth(figures: Figures, curve: str, shapes: list[Shape]) -> Bar:
    """Time over bytes at each point against that at the first; only T up to 300 counts."""
    aim = f'time grows no faster than bytes moved over {curve}, up to T 300 (mix forward, bf16)'
    shapes = [shape for shape in shapes if shape.t <= 300]
    own = {s: figures.of('mix', 'forward', s, 'bfloat16').get('own') for s in shapes}
    start = own[shapes[0]]
    found = {
        str(s): row
        and start
        and (start['seconds'] / start['bytes']) / (row['seconds'] / row['bytes'])
        for s, row in own.items()
        if s != shapes[0]
    }
    return _every(
        aim,
        found,
        lambda ratio: ratio > 1 - 1e-9,
        '{:.2f} of the growth in bytes over that in time',
    )
