"""Tables from outside: rows of .csv files and of segments' JSON, and their cells."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mg_plugins.files import read_json

from .scenarios import ScenarioError


def csv_rows(path: Path, needed: Sequence[str]) -> Iterable[tuple[str, dict[str, str]]]:
    """Where each row stands ("FILE, line 2"), and its cells; every row must be whole."""
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise ScenarioError(
                    f'{path}: the column {missing[0]} is missing; expected {", ".join(needed)}, as '
                    'tools/recognize.py (segments.csv) or tools/test.py (predictions.csv) writes it'
                )
            for row in reader:
                where = f'{path}, line {reader.line_num}'
                if None in row or None in row.values():
                    raise ScenarioError(f'{where}: {len(reader.fieldnames)} cells expected')
                yield where, {name: cell.strip() for name, cell in row.items()}
    except FileNotFoundError:
        raise ScenarioError(
            f'{path} does not exist; a .csv file with the columns {", ".join(needed)} was expected'
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        raise ScenarioError(f'{path} cannot be read: {reason}') from None


def json_rows(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    """Where each segment stands, and its fields by their names in the .csv."""
    content = read_json(path)
    content = content if isinstance(content, dict) else {'segments': content}
    rows = content.get('segments')
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ScenarioError(f'{path}: an object with a list "segments" of objects was expected')
    names = {'label': 'class', 'start': 'start_s', 'end': 'end_s'}
    for number, row in enumerate(rows, 1):
        fields = {names.get(key, key): value for key, value in row.items()}
        yield f'{path}, segment {number}', fields | {'source': content.get('source')}


def text_of(clip: Mapping[str, Any], field: str) -> str:
    """A field as text; empty where it is missing."""
    value = clip.get(field)
    return '' if value is None else str(value).strip()


def number_of(
    clip: Mapping[str, Any], field: str, where: str, default: float | None = None
) -> float:
    """A field as a number; ``default``, if there is one, where it is missing."""
    text = text_of(clip, field)
    if not text and default is not None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float('nan')
    if not abs(value) < float('inf'):
        raise ScenarioError(f'{where}, field {field}: a number was expected, not {text[:60]!r}')
    return value
