"""Tables that users write by hand: labels of clips, subjects of videos, lists of classes."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mg_plugins.data.checks import Split
from mg_plugins.data.classes import dataset_names, get_classes
from mg_plugins.data.layouts import get_layout
from mg_plugins.errors import counted

from . import common, takes
from .common import Clip, ClipError, Dataset, FormatError, Options, Parsed, Plan, expect, require
from .sources import Entry, parse_float, parse_int, read_cells, shorten

MOST_CLASSES = 10_000
LARGEST_SIDE = 100_000
TEXTS, NUMBERS = ('subject', 'session', 'outcome'), ('start', 'end', 'width', 'height', 'fps')
OPTIONAL = ('label', 'start', 'end', *TEXTS, 'fps', 'split', 'width', 'height')


def read_table(
    path: str | Path, required: Sequence, optional: Sequence = (), aliases: Mapping | None = None
) -> list[tuple[int, dict[str, str]]]:
    """(1-based line, {column: text}) of rows under a header; `aliases` leave other columns out."""
    try:
        rows = read_cells(Entry(str(path), Path(path)).lines() or [''])
    except ClipError as error:
        raise FormatError(f'{common.place(path, error.line)}: {error.detail}') from None
    rows = [(line, [cell.strip() for cell in cells]) for line, cells in rows]
    header = columns = [name.lower() for name in rows[0][1]]
    found = ','.join(header) or 'nothing'
    if aliases:
        known = {name: column for column, names in aliases.items() for name in names}
        header = [known.get(name, '') for name in header]
        columns = [name for name in header if name]
    fine = set(required) <= set(columns) <= {*required, *optional}
    expected = ','.join(required) + ''.join(f'[,{name}]' for name in optional)
    once = len(set(columns)) == len(columns)
    require(fine and once, f'{path} must begin with the header {expected}; found {found}')
    rows = [(line, cells) for line, cells in rows[1:] if any(cells)]
    for line, cells in rows:
        detail = f'{len(cells)} cells under {len(header)} columns'
        require(len(cells) <= len(header), f'{path}, line {line}: {detail}')
    return [(line, dict(zip_longest(header, cells, fillvalue=''))) for line, cells in rows]


def read_classes(name_or_file: str) -> list[str]:
    """Class names: of a data set we know, from a JSON list, or one a line."""
    if name_or_file in dataset_names():
        return list(get_classes(name_or_file))
    path = Path(name_or_file)
    entry, known = Entry(f'--classes {path}', path), ', '.join(dataset_names())
    try:
        if path.suffix == '.json':
            names = entry.json()
        else:
            names = [name for line in entry.lines() if (name := line.strip())]
    except ClipError as error:
        where = common.place(entry.name, error.line)
        raise FormatError(f'{where}: {error.detail}; or give one of {known}') from None
    fine = isinstance(names, list) and all(isinstance(name, str) for name in names)
    require(fine, f'{entry.name} must hold a JSON list of names')
    repeated = ', '.join(sorted({name for name in names if names.count(name) > 1}))
    require(not repeated, f'{entry.name} repeats {repeated}')
    require(names, f'{entry.name} holds no name')
    return names


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(width, height) of '1280x720'."""
    if text is None:
        return None
    match = re.fullmatch(r'(\d{1,9})\s*[x×]\s*(\d{1,9})', text.strip().lower())
    sides = tuple(map(int, match.groups())) if match else (0,)
    fine = all(0 < side <= LARGEST_SIDE for side in sides)
    require(fine, f'--size {text!r} must be WIDTHxHEIGHT in pixels, such as 1280x720')
    return sides


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


def read_labels(path: str, classes: str | None, first_label: int | None = None) -> tuple:
    """Rows of a labels CSV by recording, class names, rows that were rejected, and notes."""
    table, file, notes = read_table(path, ('clip',), OPTIONAL), Path(path).name, []
    require(table, f'{path} holds a header and no rows')
    cells = {row.get('label', '') for _, row in table} - {''}
    own = read_classes(classes) if classes else None
    names, first = class_names(cells, own, first_label, path, notes)
    rows, rejected = {}, Parsed()
    for line, row in table:
        with rejected.listing(row['clip'] or f'{file} line {line}', file, line):
            parsed = parse_label_row(row, names, first, file, line)
            rows.setdefault(parsed.clip, []).append(parsed)
    return rows, names, rejected.rejects, notes


def class_names(
    cells: Set[str], names: list[str] | None, first: int | None, path: Any, notes: list[str]
) -> tuple[list[str], int]:
    """Class names, and what label indices are counted from (`first`, or found out with a note)."""
    indices = {cell: parse_int(cell) for cell in cells if cell not in (names or ())}
    found = set(indices.values())
    if first is None and found and None not in found and min(found) == 1:
        if names and max(found) == len(names):
            notes.append(f'labels go from 1 to {len(names)}, the number of classes: counted from 1')
            first = 1
        gapless = not names and len(found) > 1 and max(found) == len(found)
        remedy = '--first-label 1 if they are counted from 1, 0 if class 0 has no clip'
        require(not gapless, f'labels in {path} go from 1 to {len(found)} without a 0: {remedy}')
    first = first or 0
    if names is None and None in found:
        names = sorted(cell for cell, index in indices.items() if index is None)
    elif names is None:
        count = max(found, default=first - 1) + 1 - first
        names = [f'class {index}' for index in range(min(count, MOST_CLASSES))]
    return names, first


def parse_label_row(row: Mapping, names: Sequence, first: int, file: str, line: int) -> LabelRow:
    """Check one row."""
    expect(row['clip'], 'the column clip is empty', common.EMPTY)
    text, label = row.get('label', ''), None
    if text:
        index = parse_int(text)
        label = names.index(text) if text in names else -1 if index is None else index - first
        last = len(names) - 1 + first
        detail = f'{text!r} is neither a class name nor an index from {first} to {last}'
        expect(0 <= label < len(names), detail, common.LABEL_RANGE)
    values: dict[str, Any] = dict.fromkeys(NUMBERS)
    for column in NUMBERS:
        if text := row.get(column):
            values[column] = (parse_float if column == 'fps' else parse_int)(text.replace(',', '.'))
            detail = f'{column} {shorten(text)!r} is not a number'
            expect(values[column] is not None, detail, common.NON_NUMERIC)
    start, end, width, height, fps = values.values()
    for one, two in (('start', 'end'), ('width', 'height')):
        both = (values[one] is None) == (values[two] is None)
        expect(both, f'{one} and {two} must both be given, or neither', common.EMPTY)
    size = None if width is None else (width, height)
    fine = all(0 < side <= LARGEST_SIDE for side in size or ())
    expect(fine, f'width {width} and height {height} are no size of a picture')
    expect(fps is None or 0 < fps < 1e6, f'fps {fps} is no frame rate')
    known = {name: row[name] for name in TEXTS if row.get(name)} | ({'fps': fps} if fps else {})
    return LabelRow(row['clip'], label, file, line, start, end, size, row.get('split'), known)


def cut(parsed: Parsed, job: common.Job, file: str, rows: list, frames: range, make: Callable):
    """Add the clips of a recording that `make(row, whole)` makes, and the whole if asked for."""
    windows, first = [], frames.start
    there = f'only frames {first} to {frames[-1]}' if frames else 'no frames'
    for row in rows:
        with parsed.listing(row.frame_dir, row.file, row.line):
            if (start := row.start) is not None:
                expect(start <= row.end, f'start {start}, end {row.end}', common.END_BEFORE_START)
                detail = f'frames {start} to {row.end}, but there are {there}'
                expect(start >= 0 and row.end < frames.stop, detail, common.BEYOND_FILE)
                windows += [(row.label, start - first, row.end - first)] * (row.label is not None)
            parsed.clips.append(Clip(make(row, False), row.file, row.line, row.split))
    if windows and job.options['keep_recordings']:
        with parsed.listing(job.name, file):
            annotation = make(LabelRow(job.name, None, file, None, known=rows[0].known), True)
            annotation['segments'] = common.make_segments(windows, len(frames))
            split = rows[0].split if len({row.split for row in rows}) == 1 else None
            parsed.clips.append(Clip(annotation, file, None, split))


def collect(clips: list[Clip], plan: Plan, options: Options) -> Dataset:
    """Layout, classes and splits of a user's own set; those with other joints than most go."""
    rejects, notes = [], []
    layout, classes, split = (plan.context.get(key) for key in ('layout', 'classes', 'split'))
    kinds = [(layout is None and c.layout, c.annotation['keypoint'].shape[-1]) for c in clips]
    usual = Counter(kinds).most_common(1)[0][0]
    layout = layout or takes.check_layout(usual[0])
    remedy = 'give --layout with one that all can be brought to, or convert it apart'
    for clip, kind in zip(clips, kinds, strict=True):
        if kind != usual:
            own, most = (f'{get_layout(k[0] or layout).name} in {k[1]}D' for k in (kind, usual))
            detail = f'its joints are {own}, those of most clips {most}: {remedy}'
            rejects.append(ClipError(detail, line=clip.line, file=clip.file, clip=clip.name))
    clips[:] = [clip for clip, kind in zip(clips, kinds, strict=True) if kind == usual]
    if split:
        named = {name for members in split.values() for name in members}
        left = sum(clip.name not in named for clip in clips)
        notes += [counted(left, 'clips are in no split of the file')] * (left > 0)
    else:
        split, notes = user_splits(clips, options['val_subjects'])
    if classes is None:  # as the files name them
        labels = [clip.annotation.pop('label', None) for clip in clips]
        found, given = sorted({*labels} - {None}), options['classes']
        classes = read_classes(given) if given else found
        lacking = ', '.join(name for name in found if name not in classes)
        notes += [f'--classes lacks {lacking}: clips of these have no label'] * bool(lacking)
        for clip, label in zip(clips, labels, strict=True):
            if label in classes:
                clip.annotation['label'] = classes.index(label)
    bare = sum(not {'label', 'segments'} & clip.annotation.keys() for clip in clips)
    remedy = '' if options.get('labels', True) else ': give --labels CSV to train on them'
    notes += [counted(bare, f'clips have no label{remedy}')] * (bare > 0)
    return Dataset(split, layout, classes, notes, rejects=rejects)


def user_splits(clips: Sequence[Clip], val_subjects: str | None) -> tuple[Split, list[str]]:
    """Splits by `--val-subjects` (`xsub_…`), the column `split`, or one, `all`; notes on them."""
    split: Split = {}
    if any(clip.split for clip in clips):
        require(not val_subjects, 'give either --val-subjects or a split column, not both')
        return split, common.split_clips(clips, lambda clip: clip.split or None, split)
    if not val_subjects:
        common.split_clips(clips, lambda _: 'all', split)
        remedy = 'add a column split to the labels, or give --val-subjects'
        return split, [f'there is one split, "all": {remedy}']
    wanted = {name.strip() for name in val_subjects.split(',')} - {''}
    known = {clip.annotation['subject'] for clip in clips if 'subject' in clip.annotation}
    lacking = ', '.join(sorted(wanted - known))
    subjects = f'subjects are {", ".join(sorted(known)) or "not given in the labels"}'
    require(not lacking, f'--val-subjects: no clip has the subject {lacking}; {subjects}')
    lists = dict(train_subjects=known, test_subjects=wanted)
    return split, common.split_by_subject(clips, lists, split)
