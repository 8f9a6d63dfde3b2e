"""What every reader shares: rejected clips, the fast row parser, annotations, the Reader contract.

A reader turns one dataset format into MMAction2 annotations in three steps, so that the driver
(`mg_plugins.data.prepare`) can run the middle one in parallel:

    plan(source, options) -> Plan     look at the folder, refuse it, or list independent jobs
    read(job)             -> Parsed   parse one job in a worker process; never raises for bad data
    collect(clips, ...)   -> Dataset  decide what needs the whole set: splits, class names, meta
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.data.classes import protocol
from mg_plugins.errors import UserError

SHORT_ROW = 'short row'
LONG_ROW = 'long row'
NON_NUMERIC = 'non-numeric'
NAN = 'NaN'
EMPTY = 'empty'
LABEL_RANGE = 'label out of range'
END_BEFORE_START = 'end before start'
BEYOND_FILE = 'frames beyond the file'
ALL_ZERO = 'all-zero joints'
MISSING_FILE = 'missing file'
NO_LABEL = 'no label'
DUPLICATE = 'duplicate clip'
UNREADABLE = 'unreadable'
REASONS = (
    SHORT_ROW,
    LONG_ROW,
    NON_NUMERIC,
    NAN,
    EMPTY,
    LABEL_RANGE,
    END_BEFORE_START,
    BEYOND_FILE,
    ALL_ZERO,
    MISSING_FILE,
    NO_LABEL,
    DUPLICATE,
    UNREADABLE,
)

LARGEST = float(np.finfo(np.float32).max)


class FormatError(UserError):
    """The given source is not of the format asked for, or an option does not fit it."""


class ClipError(UserError):
    """One clip (or one file) cannot be used.

    Args:
        reason: One of the constants of this module.
        file: The file at fault, as the user would name it.
        line: 1-based line at fault, or None where the format has no lines.
        detail: What was found and what was expected.
    """

    def __init__(self, reason: str, file: str, line: int | None, detail: str):
        super().__init__(reason, file, line, detail)
        self.reason, self.file, self.line, self.detail = reason, file, line, detail

    def reject(self, clip: str) -> Reject:
        return Reject(clip, self.file, self.line, self.reason, self.detail)


@dataclass(frozen=True)
class Reject:
    """A clip that was left out, and why. Fields as in `ClipError`."""

    clip: str
    file: str
    line: int | None
    reason: str
    detail: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f'{self.file}, line {self.line}'
        return f'{self.clip}: {self.reason} ({where}): {self.detail}'


@dataclass
class Clip:
    """One usable clip: its MMAction2 annotation, where it was labelled, the user's split if any."""

    annotation: dict
    file: str
    line: int | None = None
    split: str | None = None


@dataclass
class Plan:
    """What `plan` found: jobs (picklable, independent), and what `collect` will want to know."""

    jobs: list
    rejects: list[Reject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    context: dict = field(default_factory=dict)


@dataclass
class Parsed:
    """What one job gave. `extra` goes to `collect` untouched; it must be picklable."""

    clips: list[Clip] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extra: Any = None


@dataclass
class Dataset:
    """What `collect` decided; the annotations themselves are those of the clips it was given.

    `config` is the config that reads the result, where that depends on the options.
    """

    split: dict[str, list[str]]
    meta: dict
    notes: list[str] = field(default_factory=list)
    config: str | None = None


@dataclass(frozen=True)
class Reader:
    """One dataset format. `READERS` in `mg_plugins.data.readers` lists them all.

    Attributes:
        name: The word after `tools/prepare_data.py`.
        summary: One line for the list of formats.
        doc: What the format is and how it is read; the help text of the format.
        expects: What the source must look like, for help texts and refusals.
        example: A command line that works.
        add_arguments: Adds the format's own options to a parser. None of them is required by
            argparse: `plan` refuses what it lacks, so that Python callers get the same sentence.
        plan, read, collect: See the module's docstring. `read` must be a module-level function.
        config: The config that reads the result, or None where the user's own is needed.
        out: Default output path, or None for `data/<source>/<source>.pkl`.
        needs_source: False for a format that reads nothing from disk.
    """

    name: str
    summary: str
    doc: str
    expects: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    plan: Callable[[Path | None, Mapping[str, Any]], Plan]
    read: Callable[[Any], Parsed]
    collect: Callable[[list[Clip], list, Plan, Mapping[str, Any]], Dataset]
    config: str | None = None
    out: str | None = None
    needs_source: bool = True


def read_lines(path: Path, name: str | None = None) -> list[str]:
    """Lines of a text file without line ends, BOM and trailing blank lines.

    CRLF and lone CR count as line ends. Bytes that are not UTF-8 become U+FFFD, so that the row
    parser can name the line they are on.

    Args:
        name: How to call the file in errors; the path itself by default.

    Raises:
        ClipError: The file is missing or cannot be opened.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ClipError(MISSING_FILE, name or str(path), None, 'no such file') from None
    except OSError as error:
        raise ClipError(UNREADABLE, name or str(path), None, str(error)) from None
    return split_lines(content)


def split_lines(content: bytes) -> list[str]:
    """`read_lines` for bytes that are in memory already."""
    text = content.decode('utf-8-sig', errors='replace')
    if '\r' in text:
        text = text.replace('\r\n', '\n').replace('\r', '\n')
    lines = text.split('\n')
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def parse_rows(
    lines: Sequence[str],
    columns: int,
    file: str,
    first_line: int = 1,
    delimiter: str | None = ',',
    used: Sequence[int] | None = None,
) -> np.ndarray:
    """Parse lines of numbers, all of the same width, all finite.

    The whole block goes through `numpy.loadtxt` (C speed); only when something is wrong are the
    lines walked one by one, to name the one at fault.

    Args:
        lines: Text lines without line ends.
        columns: Numbers expected on every line.
        file: Name for errors.
        first_line: 1-based number of `lines[0]` in its file, for errors.
        delimiter: Between numbers; None means any white space.
        used: Columns (from 0) to parse; the others may hold anything. All if None. Needs a
            delimiter.

    Returns:
        float32 array (len(lines), columns), or (len(lines), len(used)).

    Raises:
        ClipError: The first line that is blank, short, long, non-numeric or not finite.
    """
    # With the last column among those parsed, loadtxt finds short rows. Rows that are too long are
    # then the only reason for more delimiters than there should be.
    parsed = range(columns) if used is None else (*used, columns - 1)
    usecols = None if used is None else parsed
    right_width = used is None or ''.join(lines).count(delimiter) == len(lines) * (columns - 1)
    rows = None
    # A blank first line is left to the slow path: loadtxt skips blank lines, and warns if all are.
    if right_width and lines and lines[0].strip():
        try:
            rows = np.loadtxt(
                lines, np.float32, comments=None, delimiter=delimiter, usecols=usecols, ndmin=2
            )
        except ValueError:
            pass
    if rows is None or rows.shape != (len(lines), len(parsed)) or not np.isfinite(rows).all():
        raise diagnose_rows(lines, columns, file, first_line, delimiter, parsed)
    return rows if used is None else rows[:, :-1]


def diagnose_rows(
    lines: Sequence[str],
    columns: int,
    file: str,
    first_line: int,
    delimiter: str | None,
    parsed: Sequence[int],
) -> ClipError:
    """The error of the first bad line; see `parse_rows` for the arguments."""
    if not lines:
        return ClipError(EMPTY, file, None, 'the file holds no rows')
    for line_number, line in enumerate(lines, first_line):
        if not line.strip():
            return ClipError(EMPTY, file, line_number, 'blank line among the rows')
        fields = line.split(delimiter)
        if len(fields) != columns:
            reason = SHORT_ROW if len(fields) < columns else LONG_ROW
            detail = f'{len(fields)} numbers, expected {columns}'
            return ClipError(reason, file, line_number, detail)
        for column in sorted(parsed):
            value, shown = parse_float(fields[column]), shorten(fields[column])
            if value is None:
                detail = f'{shown!r} in column {column + 1} is not a number'
                return ClipError(NON_NUMERIC, file, line_number, detail)
            if not abs(value) <= LARGEST:
                detail = f'{shown!r} in column {column + 1} is not finite in float32'
                return ClipError(NAN, file, line_number, detail)
    return ClipError(UNREADABLE, file, first_line, 'the rows from this line on cannot be parsed')


def parse_float(text: str) -> float | None:
    """A float, or None. Underscores, which `float` would take, are not digits here."""
    try:
        return None if '_' in text else float(text)
    except ValueError:
        return None


def parse_int(text: str) -> int | None:
    """An integer, also when written as `3.0`, or None."""
    value = parse_float(text)
    return int(value) if value is not None and np.isfinite(value) and value == int(value) else None


def shorten(text: str, limit: int = 24) -> str:
    return text if len(text) <= limit else text[: limit - 1] + '…'


def parse_window(line: str, file: str, line_number: int) -> tuple[int, int, int]:
    """A label row `gesture id, start, end`.

    Raises:
        ClipError: Too few or too many fields, or one that is not a whole number.
    """
    fields = line.split(',')
    if len(fields) != 3:
        reason = SHORT_ROW if len(fields) < 3 else LONG_ROW
        detail = f'{len(fields)} fields, expected gesture id, start, end'
        raise ClipError(reason, file, line_number, detail)
    values = [parse_int(text) for text in fields]
    for name, text, value in zip(('gesture id', 'start', 'end'), fields, values, strict=True):
        if value is None:
            detail = f'{name} {shorten(text)!r} is not a whole number'
            raise ClipError(NON_NUMERIC, file, line_number, detail)
    return values[0], values[1], values[2]


def check_window(start: int, end: int, frames: int, file: str, line: int | None) -> None:
    """Refuse a window (0-based, `end` included) that is reversed or outside of `frames` frames."""
    if end < start:
        raise ClipError(END_BEFORE_START, file, line, f'start {start}, end {end}')
    if start < 0 or end >= frames:
        detail = f'frames {start} to {end}, but there are only frames 0 to {frames - 1}'
        raise ClipError(BEYOND_FILE, file, line, detail if frames else 'there are no frames')


def make_annotation(
    frame_dir: str,
    label: int,
    keypoint: np.ndarray,
    score: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
    **known: Any,
) -> dict:
    """An MMAction2 pose annotation.

    A joint is missing where all its coordinates are 0 or its score is not above 0; then both
    become 0, so that every format says it the same way.

    Args:
        frame_dir: The clip's id.
        label: 0-based class index.
        keypoint: (M, T, V, C) persons, frames, joints, coordinates; C is 2 (pixels) or 3 (metres).
        score: (M, T, V) detection scores; None means 1 for every joint that is there.
        size: (width, height) of the picture in pixels; None where there is none (3D).
        known: subject, session, start, end, fps, outcome …; those that are None are left out.
    """
    keypoint = np.ascontiguousarray(keypoint, np.float32)
    # Axis by axis: numpy reduces an axis of length 2 or 3 slowly.
    missing = keypoint[..., 0] == 0
    for axis in range(1, keypoint.shape[-1]):
        missing &= keypoint[..., axis] == 0
    if score is None:
        score = np.ones(keypoint.shape[:-1], np.float32)
    else:
        score = np.array(score, np.float32)
        missing |= ~(score > 0)
    if missing.any():
        keypoint = np.where(missing[..., None], np.float32(0), keypoint)
        score[missing] = 0
    annotation = dict(
        frame_dir=frame_dir,
        label=int(label),
        total_frames=int(keypoint.shape[1]),
        keypoint=keypoint,
        keypoint_score=score,
    )
    if size is not None:
        width, height = size
        annotation.update(img_shape=(height, width), original_shape=(height, width))
    annotation.update((name, value) for name, value in known.items() if value is not None)
    return annotation


def split_by_subject(clips: Sequence[Clip], dataset: str) -> tuple[dict[str, list[str]], list[str]]:
    """Splits `xsub_train` and `xsub_val` by the published subject lists, and notes on the rest."""
    published = protocol(dataset)
    split = {}
    for name, part in (('xsub_train', 'train_subjects'), ('xsub_val', 'test_subjects')):
        subjects = {str(number) for number in published[part]}
        split[name] = [
            clip.annotation['frame_dir']
            for clip in clips
            if clip.annotation.get('subject') in subjects
        ]
    left = len(clips) - sum(map(len, split.values()))
    return split, [f'{left} clips are of no subject of the published lists'] * (left > 0)


def refuse_source(source: Path, expects: str) -> FormatError:
    """The error for a folder or file of another format: what was expected, what is there."""
    if not source.exists():
        return FormatError(f'{source} does not exist. Expected: {expects}')
    return FormatError(f'Expected: {expects}\nFound: {describe_source(source)}')


def describe_source(source: Path, limit: int = 20_000) -> str:
    """What a folder or file holds, in one line, without walking more than `limit` entries."""
    if source.is_file():
        return f'{source} is a file of {source.stat().st_size} bytes.'
    suffixes: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for count, path in enumerate(source.rglob('*')):
        if count >= limit:
            break
        if path.is_file():
            suffix = path.suffix or 'no suffix'
            suffixes[suffix] += 1
            examples.setdefault(suffix, path.relative_to(source).as_posix())
    if not suffixes:
        return f'{source} holds no files.'
    kinds = [f'{n} {kind} (such as {examples[kind]})' for kind, n in suffixes.most_common(3)]
    return f'{source} holds {", ".join(kinds)}.'
