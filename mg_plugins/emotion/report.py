"""What an evaluation leaves behind: figures, every prompt and answer, and the report."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mg_plugins.errors import counted
from mg_plugins.files import write_text

from .evaluation import VERSION, Evaluation
from .tasks import STATUSES

TEMPLATE = Path(__file__).with_name('report_template')
# Fields of a record in the page. Texts repeat: the page holds each once and a record its number.
TEXTS = 'scenario subject arm system user reply status'.split()
TEXTS += 'state truth text thoughts gestures_of'.split()
PLAIN = 'draw rotation options choice confidence correct'.split()
PLAIN += 'completeness depth grounded cited prompt_cut'.split()
CHOICE = {'accuracy': 'accuracy, %', 'macro_f1': 'macro F1, %', 'evidence': 'evidence, %'}
OPEN = {'completeness': 'completeness, %', 'depth': 'depth, 0 to 4', 'evidence': 'evidence, %'}


def write_results(folder: str | os.PathLike, evaluations: Sequence[Evaluation]) -> dict[str, Path]:
    """Write ``metrics.json``, ``answers.jsonl`` and ``report.html``; returns paths by their stems.

    Each is written whole or not at all, and none before the contents of all three are there.
    """
    metrics, records = [e.metrics for e in evaluations], [e.records for e in evaluations]
    lines = (json.dumps(record, ensure_ascii=False) for of in records for record in of)
    content = {'version': VERSION, 'evaluations': metrics}
    contents = {
        'metrics.json': json.dumps(content, indent=1, ensure_ascii=False),
        'answers.jsonl': ''.join(f'{line}\n' for line in lines),
        'report.html': render_report(metrics, records),
    }
    ''.join(contents.values()).encode()  # what cannot be written is found before anything is
    for name, text in contents.items():
        write_text(Path(folder) / name, text)
    return {name.partition('.')[0]: Path(folder) / name for name in contents}


def render_report(
    evaluations: Sequence[Mapping[str, Any]], records: Sequence[Sequence[Mapping[str, Any]]]
) -> str:
    """The report's HTML, of the figures and the questions (``records``) of each evaluated set.

    Scripts write text nodes only, and its Content-Security-Policy names the hashes of style and
    script: whatever a prompt or an answer holds, it does not run.
    """
    files = {path.name: path.read_text(encoding='utf-8') for path in TEMPLATE.iterdir()}
    script = f"'use strict';\n(() => {{\n{files['figures.js']}\n{files['cases.js']}\n}})();"
    numbers: dict[str, int] = {}

    def number(text: Any) -> int | None:
        return None if text is None else numbers.setdefault(str(text), len(numbers))

    rows = [
        [[number(r.get(k)) for k in TEXTS] + [r.get(k) for k in PLAIN] for r in of_set]
        for of_set in records
    ]
    fields = {'fields': [*TEXTS, *PLAIN], 'texts': len(TEXTS), 'strings': list(numbers)}
    # JSON for a script element: ASCII, no ``<``, ``>``, ``&``, null for NaN and infinities.
    data = {'evaluations': list(evaluations), **fields, 'records': rows}
    data = json.dumps(data, default=lambda of_numpy: of_numpy.tolist())
    data = json.dumps(json.loads(data, parse_constant=lambda name: None), separators=(',', ':'))
    parts = {
        'POLICY': f"default-src 'none'; style-src '{_digest(files['style.css'])}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'",
        'STYLE': files['style.css'],
        'DATA': re.sub('[<>&]', lambda match: f'\\u{ord(match[0]):04x}', data),
        'SCRIPT': script,
    }
    # One pass: a part that holds such a mark itself stays as it is.
    return re.sub('@@([A-Z]+)@@', lambda mark: parts[mark[1]], files['page.html'])


def _digest(text: str) -> str:
    """A text's hash as a Content-Security-Policy names it."""
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def print_tables(metrics: dict) -> None:
    """Print one set's ``metrics``, whose parts `figures` describes."""
    console = Console(highlight=False)
    judge, open_ended = metrics['judge'], metrics['open_ended']
    synthetic = 'SYNTHETIC data, ' if 'synthetic' in metrics['source'] else ''
    lexicon = judge.get('kind') == 'lexicon'
    who = 'lexicon judge (not a language model)' if lexicon else judge['name']
    console.print(f'\n{metrics["name"]}: {synthetic}{who}', style='bold', markup=False)
    counts = (counted(metrics[what], what) for what in ('scenarios', 'subjects'))
    console.print(f'{" of ".join(counts)}; in brackets: 95% intervals, clustered by subject')
    arms = metrics['arms']
    figures = metrics['open'] if open_ended else arms
    rows = [
        (title, *(_interval(figures[arm][figure], 1 if figure == 'depth' else 100) for arm in arms))
        for figure, title in (OPEN if open_ended else CHOICE).items()
    ]
    for status in ('asked', *STATUSES[1:]):
        counts = [of[status] for of in arms.values()]
        rows += [(status, *map(str, counts))] * (status == 'asked' or any(counts))
    _print(console, ['', *arms], rows)
    rows = [
        (title, _interval(of['gain'], sign='+'), f'{m["b"]} : {m["c"]}', f'{m["p"]:.2g}')
        for title, of in metrics['comparisons'].items()
        for m in [of['mcnemar']]
        if of['gain']['value'] is not None
    ]
    if _print(console, ['paired', 'gain, points', 'b : c', 'McNemar p'], rows):
        console.print('b : c = scenarios right in the first arm only : in the second only')
    elif metrics['comparisons']:
        console.print('no scenario has an outcome: no arm is right or wrong, none is compared')
    rows = [
        (name, *(_interval(of[part], 1 if part == 'depth' else 100, '+') for part in OPEN))
        for name, of in metrics['open_comparisons'].items()
    ]
    if _print(console, ['paired gains', *OPEN.values()], rows) and metrics['rubric_judge']:
        console.print(f'scored by: {metrics["rubric_judge"]}', markup=False)
    fitted = metrics['baselines'].items()
    rows = [(title, _interval(of['accuracy']), _interval(of['macro_f1'])) for title, of in fitted]
    _print(console, ['fitted on training sessions', 'accuracy, %', 'macro F1, %'], rows)
    lines = [f'* {finding}' for finding in metrics['findings']]
    for line in [*lines, *(f'note: {note}' for note in metrics['notes'])]:
        console.print(line, markup=False)
    if metrics['total_tokens']:
        total = f'{metrics["total_tokens"]} tokens in {metrics["total_replies"]} replies'
        this = f'{metrics["tokens"]} in {metrics["calls"]} requests'
        console.print(f'{total} over all runs with this cache; this run: {this}')


def _print(console: Console, headers: list[str], rows: list[tuple[str, ...]]) -> bool:
    """Print a table, and say whether there was anything to print."""
    table = Table(*headers, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for row in rows:
        table.add_row(*row)
    if rows:
        console.print(table)
    return bool(rows)


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
