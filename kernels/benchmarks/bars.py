"""The aims of the kernels, judged from a record: met, missed or not measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..setups import IMIGUE, NTU, OVER_FRAMES, OVER_JOINTS, SMALL, Shape
from . import results

MET, MISSED, UNKNOWN = 'met', 'missed', 'not measured'
HALF, LOW, FULL = 'bfloat16', 'float16', 'float32'
LISTED = [*NTU, *IMIGUE]


class Figures:
    """Rows of a record by what they are of."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.kind, self.rates = record['machine']['kind'], record['rates']
        self.groups = results.groups(record['rows'])

    def rows(self, work: str, direction: str, shape: Shape, dtype: str) -> dict[str, dict]:
        """All implementations' rows; on a GPU ``own`` only where Triton ran."""
        found = self.groups.get((work, direction, str(shape), dtype), {})
        fallback = self.kind == 'cuda' and found.get('own', {}).get('implementation') == 'torch'
        return {k: row for k, row in found.items() if not (k == 'own' and fallback)}

    def over(self, other: str, *key: Any, of: str = 'seconds') -> float | None:
        """How many times ours ``other`` takes; ``compiled`` is the better of both modes."""
        rows = self.rows(*key)
        names = results.COMPILED if other == 'compiled' else (other,)
        values = [rows[name][of] for name in names if name in rows]
        own = rows.get('own')
        return min(values) / own[of] if own and own[of] and values and None not in values else None

    def of_copy(self, shape: Shape, dtype: str) -> float | None:
        """Rate of ``mix`` forward over that of a copy."""
        own = self.rows('mix', 'forward', shape, dtype).get('own')
        return own and own['bytes'] / own['seconds'] / self.rates['copy']

    def of_limit(self, shape: Shape, dtype: str) -> float | None:
        """The larger of the times that bytes and products take at least, over ``mix`` forward's."""
        own = self.rows('mix', 'forward', shape, dtype).get('own')
        least = own and max(
            own['bytes'] / self.rates['copy'], own['operations'] / self.rates[dtype]
        )
        return own and least / own['seconds']

    def growth(self, shapes: list[Shape]) -> dict[str, float | None]:
        """Growth of bytes over growth of time, from the first shape to each other one."""
        own = {s: self.rows('mix', 'forward', s, HALF).get('own') for s in shapes}
        rates = {s: row and row['bytes'] / row['seconds'] for s, row in own.items()}
        first = rates.pop(shapes[0])
        return {str(s): rate and first and rate / first for s, rate in rates.items()}

    def steps(self) -> dict[str, float | None]:
        """Fused over plain train step, by network and type."""
        return {
            f'{key[1]} {key[3]}': rows['own']['seconds'] / rows['plain']['seconds']
            for key, rows in self.groups.items()
            if key[0] == 'step' and {'plain', 'own'} <= rows.keys()
        }


class Bar(NamedTuple):
    """An aim: on which device, the values that it is about, and the bar that each must reach."""

    aim: str
    device: str
    values: Callable[[Figures], dict[str, float | None]]
    least: float | None = None
    most: float | None = None

    def judge(self, figures: Figures) -> tuple[str, str]:
        """Verdict and figures; missed if any value is, met only if all are there."""
        if self.device != figures.kind:
            return UNKNOWN, ''
        found = self.values(figures)
        measured = {k: v for k, v in found.items() if v is not None}
        if not measured:
            return UNKNOWN, ''
        pick = min if self.most is None else max
        worst = pick(measured, key=measured.get)
        text = f'worst {measured[worst]:.3g} ({worst}) of {len(measured)}'
        if len(measured) < len(found):
            text += f', {len(found) - len(measured)} not measured'
        bad = measured[worst] < self.least if self.most is None else measured[worst] > self.most
        return (MISSED if bad else UNKNOWN if len(measured) < len(found) else MET), text


def _ratios(
    other: str, work: str, direction: str, shapes: Iterable[Shape], *dtypes: str, **of: str
) -> Callable[[Figures], dict[str, float | None]]:
    keys = [(work, direction, shape, dtype) for shape in shapes for dtype in dtypes]
    return lambda figures: {f'{key[2]} {key[3]}': figures.over(other, *key, **of) for key in keys}


def _shares(
    method: str, shapes: Iterable[Shape], *dtypes: str
) -> Callable[[Figures], dict[str, float | None]]:
    pairs = [(shape, dtype) for shape in shapes for dtype in dtypes]
    return lambda f: {f'{s} {d}': getattr(f, method)(s, d) for s, d in pairs}


FIRST, BOTH = NTU[:1], 'forward+backward'
BARS = [
    Bar('pool+mix forward at least 3 times eager, bf16, C 64', 'cuda',
        _ratios('eager', 'pool+mix', 'forward', FIRST, HALF), least=3),
    Bar('pool+mix forward at least 1.3 times torch.compile max-autotune, bf16, C 64', 'cuda',
        _ratios('max-autotune', 'pool+mix', 'forward', FIRST, HALF), least=1.3),
    Bar('pool+mix forward at no listed shape slower than torch.compile', 'cuda',
        _ratios('compiled', 'pool+mix', 'forward', LISTED, HALF, FULL), least=1),
    Bar('pool+mix forward+backward at least 2.5 times eager, bf16, C 64', 'cuda',
        _ratios('eager', 'pool+mix', BOTH, FIRST, HALF), least=2.5),
    Bar('mix forward at 70% of the copy rate, bf16 and fp16, T up to 100', 'cuda',
        _shares('of_copy', LISTED, HALF, LOW), least=0.7),
    Bar('mix forward in float32 at 60% of the larger of its two limits', 'cuda',
        _shares('of_limit', LISTED, FULL), least=0.6),
    Bar('peak memory of forward+backward at most half of eager, bf16, C 64', 'cuda',
        _ratios('eager', 'pool+mix', BOTH, FIRST, HALF, of='peak'), least=2),
    Bar('time of mix forward grows no faster than its bytes over T up to 300, bf16', 'cuda',
        lambda f: f.growth([s for s in OVER_FRAMES if s.t <= 300]), least=1),
    Bar('time of mix forward grows no faster than its bytes over V, bf16', 'cuda',
        lambda f: f.growth(OVER_JOINTS), least=1),
    Bar('train step of fused ST-GCN at most 1.08 times the plain one', 'cuda',
        Figures.steps, most=1.08),
    Bar('pool+mix forward no slower than eager', 'cpu',
        _ratios('eager', 'pool+mix', 'forward', SMALL, FULL), least=1),
    Bar('pool+mix forward within 1.15 of torch.compile', 'cpu',
        _ratios('compiled', 'pool+mix', 'forward', SMALL, FULL), least=1 / 1.15),
    Bar('pool+mix forward+backward no slower than eager', 'cpu',
        _ratios('eager', 'pool+mix', BOTH, SMALL, FULL), least=1),
    Bar('train step of fused ST-GCN at most 1.08 times the plain one', 'cpu',
        Figures.steps, most=1.08),
]  # fmt: skip


def judge(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(aim, verdict, figures) of every aim, with the device that it is for."""
    found = record['correctness']
    correct = {'passed': MET, 'failed': MISSED}.get(found.split(' ')[0], UNKNOWN)
    figures = Figures(record)
    names = {'cuda': 'GPU', 'cpu': 'CPU'}
    return [
        ('tests of the kernels pass', correct, found),
        *((f'{names[bar.device]}: {bar.aim}', *bar.judge(figures)) for bar in BARS),
    ]


def report(record: dict[str, Any]) -> str:
    """Everything that a record says, as Markdown: tables and aims."""
    lines = ['| aim | verdict | figures |', '| --- | --- | --- |']
    lines += [f'| {aim} | **{verdict}** | {text} |' for aim, verdict, text in judge(record)]
    return f'{results.markdown(record)}\n### Aims\n\n' + '\n'.join(lines) + '\n'
