"""What an evaluation leaves behind: figures, every prompt and answer, and the report."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .evaluate import VERSION, Evaluation
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
    encoded = {name: text.encode('utf-8') for name, text in contents.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in encoded.items():
        _replace(folder / name, content)
    return {name.partition('.')[0]: folder / name for name in contents}


def _replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}')
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
