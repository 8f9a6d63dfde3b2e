"""Tables that users write by hand: labels of clips, subjects of videos, lists of classes."""

from __future__ import annotations

import csv
import io
import json
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
KNOWN_COLUMNS = ('subject', 'session', 'outcome', 'fps')


def read_table(
    path: str | Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    aliases: Mapping[str, Sequence[str]] | None = None,
) -> list[tuple[int, dict[str, str]]]:
    """Rows of a table with a header, as (1-based line, {column: text}); blank rows are skipped.

    Cells are separated by commas, semicolons or tabs, whichever the header has most of.

    Args:
        path: The file.
        required: Columns that must be there.
        optional: Columns that may be there.
        aliases: Other names of columns; columns that are none of them are then ignored.

    Raises:
        FormatError: No such file, a required column is missing, a column is unknown or there
            twice, a row is wider than the header, or a quote is not closed.
    """
    try:
        lines = Entry(str(path), Path(path)).lines()
    except ClipError as error:
        raise FormatError(f'{path}: {error.detail}') from None
    delimiter = max(',;\t', key=(lines or [''])[0].count)
    reader = csv.reader(io.StringIO('\n'.join(lines)), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise FormatError(f'{path}, line {reader.line_num}: {error}') from None
    header = [name.strip().lower() for name in rows[0][1]] if rows else []
    found = ','.join(header) or 'nothing'
    if aliases:
        known = {name: column for column, names in aliases.items() for name in names}
        header = [known.get(name, f'({name})') for name in header]
    expected = ','.join(required) + ''.join(f'[,{name}]' for name in optional)
    columns = [name for name in header if not aliases or not name.startswith('(')]
    missing = [name for name in required if name not in columns]
    unknown = [name for name in columns if name not in (*required, *optional)]
    if missing or unknown or len(set(columns)) != len(columns):
        raise FormatError(f'{path} must begin with the header {expected}; found {found}')
    table = []
    for line, cells in rows[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(header):
            raise FormatError(
                f'{path}, line {line}: {len(cells)} cells under {len(header)} columns'
            )
        cells += [''] * (len(header) - len(cells))
        table.append((line, {n: cell.strip() for n, cell in zip(header, cells, strict=True)}))
    return table


def read_classes(name_or_file: str) -> list[str]:
    """Class names: of a data set we know, from a JSON list, or one a line.

    Raises:
        FormatError: Neither, or names that repeat.
    """
    if name_or_file in dataset_names():
        return list(get_classes(name_or_file))
    path = Path(name_or_file)
    try:
        lines = Entry(str(path), path).lines()
    except ClipError as error:
        known = ', '.join(dataset_names())
        raise FormatError(f'--classes {path}: {error.detail}; or give one of {known}') from None
    if path.suffix == '.json':
        try:
            names = json.loads('\n'.join(lines))
        except json.JSONDecodeError as error:
            raise FormatError(f'--classes {path}, line {error.lineno}: {error.msg}') from None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise FormatError(f'--classes {path} must hold a JSON list of names')
    else:
        names = [line.strip() for line in lines if line.strip()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        detail = f'repeats {", ".join(repeated)}' if repeated else 'holds no name'
        raise FormatError(f'--classes {path} {detail}')
    return names


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

    `label` is a class name, or an index. An empty label is an unlabelled clip. Without `classes`,
    names are those of the column in alphabetical order, and indices are called 'class 0' …

    Args:
        path: The CSV.
        classes: See `read_classes`.
        first_label: What indices are counted from; None to find out.

    Raises:
        FormatError: It is no such table, or indices may be counted from 0 or from 1.
    """
    optional = ('label', 'start', 'end', *KNOWN_COLUMNS, 'split', 'width', 'height')
    table = read_table(path, ('clip',), optional)
    if not table:
        raise FormatError(f'{path} holds a header and no rows')
    file = Path(path).name
    names = read_classes(classes) if classes else None
    cells = [row.get('label', '') for _, row in table]
    first, notes = count_from(cells, names, first_label, path)
    if names is None:
        names = infer_classes(cells, first)
    labels = LabelTable(file, {}, names, [], notes)
    for line, row in table:
        try:
            parsed = parse_label_row(row, names, file, line, first)
        except ClipError as error:
            labels.rejects.append(error.reject(row['clip'] or f'{file} line {line}'))
        else:
            labels.rows.setdefault(parsed.clip, []).append(parsed)
    return labels


def count_from(
    cells: Sequence[str], names: list[str] | None, given: int | None, path: str
) -> tuple[int, list[str]]:
    """What label indices are counted from, and notes on it.

    Raises:
        FormatError: It may be 0 or 1.
    """
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
    cells = [cell for cell in cells if cell]
    indices = [parsing.parse_int(cell) for cell in cells]
    if any(index is None for index in indices):
        return sorted({cell for cell, index in zip(cells, indices, strict=True) if index is None})
    count = max([*indices, first - 1]) + 1 - first
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
            raise ClipError(common.NON_NUMERIC, file, line, detail)
        return value

    if not row['clip']:
        raise ClipError(common.EMPTY, file, line, 'the column clip is empty')
    text, label = row.get('label', ''), None
    if text:
        index = parsing.parse_int(text)
        label = names.index(text) if text in names else None if index is None else index - first
        if label is None or not 0 <= label < len(names):
            detail = f'{text!r} is neither a class name nor an index from {first} to '
            raise ClipError(common.LABEL_RANGE, file, line, f'{detail}{len(names) - 1 + first}')
    start, end = number('start'), number('end')
    if (start is None) != (end is None):
        raise ClipError(common.EMPTY, file, line, 'start and end must both be given, or neither')
    width, height = number('width'), number('height')
    if (width is None) != (height is None):
        raise ClipError(common.EMPTY, file, line, 'width and height must both be given, or neither')
    if width is not None and not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        detail = f'width {width} and height {height} are no size of a picture'
        raise ClipError(common.UNREADABLE, file, line, detail)
    known = {name: row[name] for name in ('subject', 'session', 'outcome') if row.get(name)}
    fps = number('fps', parsing.parse_float)
    if fps is not None:
        if not 0 < fps < 1e6:
            raise ClipError(common.UNREADABLE, file, line, f'fps {fps:g} is no frame rate')
        known['fps'] = fps
    return LabelRow(
        clip=row['clip'],
        label=label,
        file=file,
        line=line,
        start=start,
        end=end,
        size=None if width is None else (width, height),
        split=row.get('split') or None,
        known=known,
    )


def user_splits(
    clips: Sequence[Clip], val_subjects: str | None
) -> tuple[dict[str, list[str]], list[str]]:
    """Splits of a user's own set, and notes on them.

    By `--val-subjects` (`xsub_train`, `xsub_val`), by the `split` column, or one split `all`.

    Raises:
        FormatError: Both are given, or a subject that no clip has.
    """
    named = [clip.split for clip in clips]
    if val_subjects and any(named):
        raise FormatError('give either --val-subjects or a split column, not both')
    split: dict[str, list[str]] = {}
    if val_subjects:
        wanted = {name.strip() for name in val_subjects.split(',') if name.strip()}
        known = {clip.annotation['subject'] for clip in clips if 'subject' in clip.annotation}
        if wanted - known:
            raise FormatError(
                f'--val-subjects: no clip has the subject {", ".join(sorted(wanted - known))}; '
                f'subjects are {", ".join(sorted(known)) or "not given in the labels"}'
            )
        split = dict(xsub_train=[], xsub_val=[])

        def part(clip: Clip) -> str | None:
            subject = clip.annotation.get('subject')
            return None if subject is None else 'xsub_val' if subject in wanted else 'xsub_train'

        left = common.split_clips(clips, part, split)
    elif any(named):
        left = common.split_clips(clips, lambda clip: clip.split or None, split)
    else:
        common.split_clips(clips, lambda _: 'all', split)
        return split, [
            'there is one split, "all": add a column split to the labels, or give --val-subjects'
        ]
    return split, [f'{left} clips are in no split: their subject or split is not given'] * (
        left > 0
    )
