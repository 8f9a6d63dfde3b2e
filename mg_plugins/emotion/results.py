"""What an evaluation leaves behind: figures, every prompt and answer, and the report."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from mg_plugins.files import write_text

from .evaluation import VERSION, Evaluation
from .report import render_report


def write_results(folder: str | os.PathLike, evaluations: Sequence[Evaluation]) -> dict[str, Path]:
    """Write ``metrics.json``, ``answers.jsonl`` and ``report.html``, each whole or not at all.

    Nothing is replaced before the contents of all three are there.

    Returns:
        The paths, by what they are: ``metrics``, ``answers``, ``report``.
    """
    folder = Path(folder)
    metrics = [evaluation.metrics for evaluation in evaluations]
    records = [evaluation.records for evaluation in evaluations]
    lines = (json.dumps(record, ensure_ascii=False) for of in records for record in of)
    contents = {
        'metrics.json': json.dumps(
            {'version': VERSION, 'evaluations': metrics}, indent=1, ensure_ascii=False
        ),
        'answers.jsonl': ''.join(f'{line}\n' for line in lines),
        'report.html': render_report(metrics, records),
    }
    for text in contents.values():
        text.encode()  # what cannot be written is found before anything is
    for name, text in contents.items():
        write_text(folder / name, text)
    return {name.partition('.')[0]: folder / name for name in contents}
