"""Tables that users write by hand: labels of clips, subjects of videos, lists of classes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mg_plugins.data.classes import dataset_names, get_classes

from . import common, parsing
from .common import Clip, ClipError, FormatError, Reject
from .sources import Entry

# A label beyond this is no class.
MOST_CLASSES = 10_000
# Wider and higher than any picture.
LARGEST_SIDE = 100_000
TEXTS = ('subject', 'session', 'outcome')


def read_table(
    path: str | Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    aliases: Mapping[str, Sequence[str]] | None = None,
) -> list[tuple[int, dict[str, str]]]:
    """Rows of a table with a header, as (1-based line, {column: text}); blank rows are skipped.

    Columns have other names by `aliases`; those that are none of them are then ignored.
    """
    try:
        lines = Entry(str(path), Path(path)).lines()
    except ClipError as error:
        raise FormatError(f'{path}: {error.detail}') from None
    delimiter = parsing.delimiter_of((lines or [''])[0])
    reader = csv.reader(io.StringIO('\n'.join(lines)), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise FormatError(f'{path}, line {reader.line_num}: {error}') from None
    header = [name.strip().lower() for name in rows[0][1]] if rows else []
    found = ','.join(header) or 'nothing'
    if aliases:
        known = {name: column for column, names in aliases.items() for name in names}
        header = [known.get(name, '') for name in header]
    columns = [name for name in header if name or not aliases]
    if (
        not set(required) <= set(columns) <= {*required, *optional}
        or len(set(columns)) != len(columns)
    ):  # fmt: skip
        expected = ','.join(required) + ''.join(f'[,{name}]' for name in optional)
        raise FormatError(f'{path} must begin with the header {expected}; found {found}')
    table = []
    for line, cells in rows[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(header):
            detail = f'{len(cells)} cells under {len(header)} columns'
            raise FormatError(f'{path}, line {line}: {detail}')
        cells += [''] * (len(header) - len(cells))
        table.append((line, {n: cell.strip() for n, cell in zip(header, cells, strict=True)}))
    return table


def read_classes(name_or_file: str) -> list[str]:
    """Class names: of a data set we know, from a JSON list, or one a line."""
    if name_or_file in dataset_names():
        return list(get_classes(name_or_file))
    path = Path(name_or_file)
    try:
        lines = Entry(str(path), path).lines()
        names = [line.strip() for line in lines if line.strip()]
        if path.suffix == '.json':
            names = json.loads('\n'.join(lines))
    except ClipError as error:
        known = ', '.join(dataset_names())
        raise FormatError(f'--classes {path}: {error.detail}; or give one of {known}') from None
    except json.JSONDecodeError as error:
        raise FormatError(f'--classes {path}, line {error.lineno}: {error.msg}') from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError(f'--classes {path} must hold a JSON list of names')
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        detail = f'repeats {", ".join(repeated)}' if repeated else 'holds no name'
        raise FormatError(f'--classes {path} {detail}')
    return names


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(width, height) of '1280x720'."""
    if text is None:
        return None
    match = re.fullmatch(r'(\d+)\s*[x×]\s*(\d+)', text.strip().lower())
    sides = [int(side) for side in match.groups()] if match and len(text) < 40 else [0]
    if not all(0 < side <= LARGEST_SIDE for side in sides):
        raise FormatError(f'--size {text!r} must be WIDTHxHEIGHT in pixels, such as 1280x720')
    return sides[0], sides[1]


@dataclass(frozen=True)
class LabelRow:
    """One row of a labels CSV: a clip, or a window (end included) of a longer recording."""

    clip: str
    label: int | None
    file: str
    line: int | None
    start: int | None = None
    end: int | None = None
    size: tuple[int, int] | None = None
    split: str | None = None
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def frame_dir(self) -> str:
        if self.start is None:
            return self.clip
        label = '' if self.label is None else f'_{self.label:02d}'
        return f'{self.clip}_{self.start:05d}_{self.end:05d}{label}'


@dataclass
class LabelTable:
    """A labels CSV: usable rows by recording, class names, and rows that were rejected."""

    file: str
    rows: dict[str, list[LabelRow]]
    classes: list[str]
    rejects: list[Reject]
    notes: list[str]


def read_labels(path: str, classes: str | None, first_label: int | None = None) -> LabelTable:
    """Read a labels CSV: columns clip and label, and those of `LabelRow` as far as known.

    `label` is a class name, or an index counted from `first_label` (None to find out). An empty one
    is an unlabelled clip. Without `classes` (see `read_classes`), names are those of the column in
    alphabetical order, and indices are called 'class 0' …
    """
    optional = ('label', 'start', 'end', *TEXTS, 'fps', 'split', 'width', 'height')
    table = read_table(path, ('clip',), optional)
    if not table:
        raise FormatError(f'{path} holds a header and no rows')
    names = read_classes(classes) if classes else None
    cells = [row.get('label', '') for _, row in table]
    first, notes = count_from(cells, names, first_label, path)
    names = infer_classes(cells, first) if names is None else names
    labels = LabelTable(Path(path).name, {}, names, [], notes)
    for line, row in table:
        try:
            with common.reading(labels.file):
                parsed = parse_label_row(row, names, labels.file, line, first)
                labels.rows.setdefault(parsed.clip, []).append(parsed)
        except ClipError as error:
            error.line = line
            labels.rejects.append(error.reject(row['clip'] or f'{labels.file} line {line}'))
    return labels


def count_from(
    cells: Sequence[str], names: list[str] | None, given: int | None, path: str
) -> tuple[int, list[str]]:
    """What label indices are counted from, and notes on it."""
    found = {parsing.parse_int(cell) for cell in cells if cell and cell not in (names or ())}
    if given is not None or not found or None in found or min(found) != 1:
        return given or 0, []
    if names and max(found) == len(names):
        return 1, [f'labels go from 1 to {len(names)}, the number of classes: counted from 1']
    if not names and len(found) > 1 and found == set(range(1, len(found) + 1)):
        raise FormatError(
            f'labels in {path} go from 1 to {len(found)} without a 0: give --first-label 1 if they '
            'are counted from 1, --first-label 0 if class 0 has no clip'
        )
    return 0, []


def infer_classes(cells: Sequence[str], first: int = 0) -> list[str]:
    """Class names from a label column whose indices are counted from `first`."""
    indices = {cell: parsing.parse_int(cell) for cell in cells if cell}
    if None in indices.values():
        return sorted(cell for cell, index in indices.items() if index is None)
    count = max([*indices.values(), first - 1]) + 1 - first
    return [f'class {index}' for index in range(min(count, MOST_CLASSES))]


def parse_label_row(
    row: Mapping[str, str], names: list[str], file: str, line: int, first: int = 0
) -> LabelRow:
    """Check one row."""

    def number(column: str, parse=parsing.parse_int):
        text = row.get(column, '')
        value = parse(text)
        if text and value is None:
            detail = f'{column} {parsing.shorten(text)!r} is not a number'
            raise ClipError(detail, common.NON_NUMERIC)
        return value

    def pair(one: str, two: str) -> tuple[int | None, int | None]:
        values = number(one), number(two)
        if values.count(None) == 1:
            raise ClipError(f'{one} and {two} must both be given, or neither', common.EMPTY)
        return values

    if not row['clip']:
        raise ClipError('the column clip is empty', common.EMPTY)
    text, label = row.get('label', ''), None
    if text:
        index = parsing.parse_int(text)
        label = names.index(text) if text in names else None if index is None else index - first
        if label is None or not 0 <= label < len(names):
            last = len(names) - 1 + first
            detail = f'{text!r} is neither a class name nor an index from {first} to {last}'
            raise ClipError(detail, common.LABEL_RANGE)
    start, end = pair('start', 'end')
    size = pair('width', 'height')
    size = None if None in size else size
    if size and not all(0 < side <= LARGEST_SIDE for side in size):
        raise ClipError(f'width {size[0]} and height {size[1]} are no size of a picture')
    known = {name: row[name] for name in TEXTS if row.get(name)}
    fps = number('fps', parsing.parse_float)
    if fps is not None:
        if not 0 < fps < 1e6:
            raise ClipError(f'fps {fps:g} is no frame rate')
        known['fps'] = fps
    split = row.get('split') or None
    return LabelRow(row['clip'], label, file, line, start, end, size, split, known)


def user_splits(
    clips: Sequence[Clip], val_subjects: str | None
) -> tuple[dict[str, list[str]], list[str]]:
    """Splits of a user's own set, and notes on them.

    By `--val-subjects` (`xsub_train`, `xsub_val`), by the `split` column, or one split `all`.
    """
    named = any(clip.split for clip in clips)
    if val_subjects and named:
        raise FormatError('give either --val-subjects or a split column, not both')
    split: dict[str, list[str]] = {}
    if not val_subjects and not named:
        common.split_clips(clips, lambda _: 'all', split)
        remedy = 'add a column split to the labels, or give --val-subjects'
        return split, [f'there is one split, "all": {remedy}']
    wanted = {name.strip() for name in (val_subjects or '').split(',') if name.strip()}
    known = {clip.annotation['subject'] for clip in clips if 'subject' in clip.annotation}
    if wanted - known:
        raise FormatError(
            f'--val-subjects: no clip has the subject {", ".join(sorted(wanted - known))}; '
            f'subjects are {", ".join(sorted(known)) or "not given in the labels"}'
        )
    if val_subjects:
        split = dict(xsub_train=[], xsub_val=[])
        parts = dict.fromkeys(known, 'xsub_train') | dict.fromkeys(wanted, 'xsub_val')
        left = common.split_clips(clips, lambda c: parts.get(c.annotation.get('subject')), split)
    else:
        left = common.split_clips(clips, lambda clip: clip.split or None, split)
    note = f'{left} clips are in no split: their subject or split is not given'
    return split, [note] * (left > 0)
