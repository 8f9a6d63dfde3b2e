"""An evaluation on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .tasks import STATUSES

CHOICE = {
    'accuracy': 'accuracy, %',
    'accuracy_when_answered': 'if answered, %',
    'macro_f1': 'macro F1, %',
    'evidence': 'evidence, %',
}
OPEN = {'completeness': 'completeness, %', 'depth': 'depth, 0 to 4', 'evidence': 'evidence, %'}


def print_tables(metrics: dict) -> None:
    """Print one set's ``metrics``, whose parts `figures` describes."""
    console = Console(highlight=False)
    judge, open_ended = metrics['judge'], metrics['open_ended']
    synthetic = 'SYNTHETIC data, ' if 'synthetic' in metrics['source'] else ''
    lexicon = judge.get('kind') == 'lexicon'
    who = 'lexicon judge (not a language model)' if lexicon else judge['name']
    console.print(f'\n{metrics["name"]}: {synthetic}{who}', style='bold', markup=False)
    counts = f'{metrics["scenarios"]} scenarios of {metrics["subjects"]} subjects'
    console.print(f'{counts}; in brackets: 95% intervals, clustered by subject')
    if lexicon:
        weights = judge['weights']
        console.print(
            f'prior: {judge["prior"]}; it weighs text by {weights["text"]:.2f}, '
            f'gestures by {weights["gestures"]:.2f}'
        )
    arms = metrics['arms']
    table = _table('', *arms)
    for figure, title in (OPEN if open_ended else CHOICE).items():
        figures = metrics['open'] if open_ended else arms
        scale = 1 if figure == 'depth' else 100
        table.add_row(title, *(_interval(figures[arm][figure], scale) for arm in arms))
    for figure, title in (('ece', 'calibr. error'), ('brier', 'Brier score')):
        if not open_ended:
            values = [of[figure] for of in arms.values()]
            table.add_row(title, *('–' if v is None else f'{v:.3f}' for v in values))
    for status in ('asked', *STATUSES[1:]):
        counts = [of[status] for of in arms.values()]
        if status == 'asked' or any(counts):
            table.add_row(status, *map(str, counts))
    console.print(table)
    if metrics['comparisons']:
        table = _table('paired', 'gain, points', 'b : c', 'McNemar p')
        for title, comparison in metrics['comparisons'].items():
            test, gain = comparison['mcnemar'], _interval(comparison['gain'], sign='+')
            table.add_row(title, gain, f'{test["b"]} : {test["c"]}', f'{test["p"]:.2g}')
        console.print(table)
        console.print('b : c = scenarios right in the first arm only : in the second only')
    if metrics['open_comparisons']:
        table = _table('paired', 'gain in completeness, points', 'gain in depth')
        for title, gains in metrics['open_comparisons'].items():
            completeness = _interval(gains['completeness'], sign='+')
            table.add_row(title, completeness, _interval(gains['depth'], 1, '+'))
        console.print(table)
        console.print(f'scored by: {metrics["rubric_judge"]}', markup=False)
    if metrics['baselines']:
        table = _table('fitted on training sessions', 'accuracy, %', 'macro F1, %')
        for title, baseline in metrics['baselines'].items():
            table.add_row(title, _interval(baseline['accuracy']), _interval(baseline['macro_f1']))
        console.print(table)
    lines = [f'* {finding}' for finding in metrics['findings']]
    for line in [*lines, *(f'note: {note}' for note in metrics['notes'])]:
        console.print(line, markup=False)
    if metrics['total_tokens']:
        console.print(
            f'{metrics["total_tokens"]} tokens in {metrics["total_replies"]} replies over all runs '
            f'with this cache; this run: {metrics["tokens"]} in {metrics["calls"]} requests'
        )


def _table(*headers: str) -> Table:
    return Table(*headers, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def _interval(figure: dict, scale: float = 100, sign: str = '') -> str:
    if figure['value'] is None:
        return '–'
    digits = 1 if scale > 1 else 2
    # The sum turns -0.0 into 0.0.
    value, *ends = (
        f'{round(figure[key] * scale, digits) + 0.0:{sign}.{digits}f}'
        for key in ('value', 'low', 'high')
        if figure[key] is not None
    )
    return f'{value} [{", ".join(ends)}]' if ends else value
