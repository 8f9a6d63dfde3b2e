"""What an evaluation leaves behind: figures, every prompt and answer, and the report.

The report is one HTML file that needs nothing else, not even a network: the style and scripts of
``report_template/`` are put inline, the figures and records go in as one JSON block. Scripts write
text nodes only, and the page's own Content-Security-Policy names the hashes of its style and
script: whatever a prompt or an answer holds, it does not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mg_plugins.files import write_text

if TYPE_CHECKING:
    from .evaluation import Evaluation

TEMPLATE = Path(__file__).with_name('report_template')
# Fields of a record as they stand in the page. Texts repeat (one system text for thousands of
# questions), so the page holds each once and a record its number.
TEXTS = (
    'scenario subject arm system user reply status state truth text thoughts gestures_of'
).split()
PLAIN = (
    'draw rotation sample options choice confidence correct completeness depth grounded cited '
    'prompt_cut'
).split()


def write_results(folder: str | os.PathLike, evaluations: Sequence[Evaluation]) -> dict[str, Path]:
    """Write ``metrics.json``, ``answers.jsonl`` and ``report.html``; returns paths by their stems.

    Each is written whole or not at all, and none before the contents of all three are there.
    """
    from .evaluation import VERSION

    metrics = [evaluation.metrics for evaluation in evaluations]
    records = [evaluation.records for evaluation in evaluations]
    lines = (json.dumps(record, ensure_ascii=False) for of in records for record in of)
    content = {'version': VERSION, 'evaluations': metrics}
    contents = {
        'metrics.json': json.dumps(content, indent=1, ensure_ascii=False),
        'answers.jsonl': ''.join(f'{line}\n' for line in lines),
        'report.html': render_report(metrics, records),
    }
    for text in contents.values():
        text.encode()  # what cannot be written is found before anything is
    for name, text in contents.items():
        write_text(Path(folder) / name, text)
    return {name.partition('.')[0]: Path(folder) / name for name in contents}


def render_report(
    evaluations: Sequence[Mapping[str, Any]], records: Sequence[Sequence[Mapping[str, Any]]]
) -> str:
    """The report's HTML, of the figures and the questions (``records``) of each evaluated set."""
    files = {path.name: path.read_text(encoding='utf-8') for path in TEMPLATE.iterdir()}
    script = f"'use strict';\n(() => {{\n{files['figures.js']}\n{files['cases.js']}\n}})();"
    parts = {
        'POLICY': f"default-src 'none'; style-src '{_digest(files['style.css'])}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'",
        'STYLE': files['style.css'],
        'DATA': _json(_content(evaluations, records)),
        'SCRIPT': script,
    }
    # One pass: a part that holds such a mark itself stays as it is.
    return re.sub('@@([A-Z]+)@@', lambda mark: parts[mark[1]], files['page.html'])


def _content(evaluations: Sequence[Mapping], records: Sequence[Sequence[Mapping]]) -> dict:
    numbers: dict[str, int] = {}

    def number(text: Any) -> int | None:
        return None if text is None else numbers.setdefault(str(text), len(numbers))

    rows = [
        [[number(r.get(k)) for k in TEXTS] + [r.get(k) for k in PLAIN] for r in of_set]
        for of_set in records
    ]
    return {
        'evaluations': list(evaluations),
        'fields': [*TEXTS, *PLAIN],
        'texts': len(TEXTS),
        'strings': list(numbers),
        'records': rows,
    }


def _json(value: Any) -> str:
    """JSON for a script element: ASCII, no ``<``, ``>``, ``&``, no NaN."""
    text = json.dumps(_finite(value), separators=(',', ':'), allow_nan=False)
    return re.sub('[<>&]', lambda match: f'\\u{ord(match[0]):04x}', text)


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not have, and plain numbers for NumPy's."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if hasattr(value, 'tolist'):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _digest(text: str) -> str:
    """A text's hash as a Content-Security-Policy names it."""
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
