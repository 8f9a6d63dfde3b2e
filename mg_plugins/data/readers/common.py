"""What every reader shares: rejected clips, annotations, splits, the contract of a reader.

A reader turns one dataset format into MMAction2 annotations in three steps, so that the driver
(`mg_plugins.data.prepare`) can run the middle one in parallel:

    plan(source, options) -> Plan     look at the source, refuse it, or list independent jobs
    read(job)             -> Parsed   parse one job in a worker process; never raises for bad data
    collect(clips, ...)   -> Dataset  decide what needs the whole set: splits, class names, meta

Parsers raise `ClipError` without the file; `reading` and `Parsed.listing` add it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.data.classes import protocol
from mg_plugins.errors import UserError

# Options of a format by name, with underscores; `format` is its own name.
Options = Mapping[str, Any]
# Reasons of rejections.
SHORT_ROW, LONG_ROW, NON_NUMERIC, NAN = 'short row', 'long row', 'non-numeric', 'NaN'
EMPTY, ALL_ZERO, UNREADABLE = 'empty', 'all-zero joints', 'unreadable'
LABEL_RANGE, NO_LABEL = 'label out of range', 'no label'
END_BEFORE_START, BEYOND_FILE = 'end before start', 'frames beyond the file'
MISSING_FILE, DUPLICATE = 'missing file', 'duplicate clip'


class FormatError(UserError):
    """The given source is not of the format asked for, or an option does not fit it."""


class ClipError(UserError):
    """One clip (or one file) cannot be used: what was found and expected, a reason, line and file.

    The file is '' for the one that is being read, the line None where the format has none.
    """

    def __init__(
        self, detail: str, reason: str = UNREADABLE, line: int | None = None, file: str = ''
    ):
        super().__init__(detail, reason, line, file)
        self.detail, self.reason, self.line, self.file = detail, reason, line, file

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


@dataclass(slots=True)
class Clip:
    """One usable clip: its MMAction2 annotation, where it was labelled, the user's split if any."""

    annotation: dict
    file: str
    line: int | None = None
    split: str | None = None


@dataclass
class Plan:
    """What `plan` found: jobs (picklable, independent), and what `collect` will want to know."""

    jobs: Sequence
    rejects: list[Reject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    context: dict = field(default_factory=dict)


@dataclass
class Parsed:
    """What one job gave.

    `counts` are added up over the jobs and become notes such as '12 track fragments were joined'.
    `extra` goes to `collect` untouched; it must be picklable.
    """

    clips: list[Clip] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    extra: Any = None

    @contextmanager
    def listing(self, clip: str, file: str) -> Iterator[None]:
        """What goes wrong in this block is listed as a rejection of the clip."""
        try:
            with reading(file):
                yield
        except ClipError as error:
            self.rejects.append(error.reject(clip))


@dataclass
class Dataset:
    """What `collect` decided; the annotations themselves are those of the clips it was given.

    `config` is the config that reads the result, where that depends on the options; `about` is
    said in the file beside the notes, `meta` is written beside what is always there; `rejects` are
    clips that were taken out of the list.
    """

    split: dict[str, list[str]]
    layout: str | dict
    classes: Sequence[str]
    notes: list[str] = field(default_factory=list)
    about: Sequence[str] = ()
    config: str | None = None
    meta: dict = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """One dataset format: its entry in `formats.json`, and the three steps of its module.

    `options` are the names of its options and their defaults; none is required: `plan` refuses what
    it lacks. `plan` and `collect` get the format's name as the option `format` too; `read` must be
    a module-level function. `config` reads the result, None where the user's own is needed; `out`
    is None for `data/<source>/<source>.pkl`.
    """

    name: str
    summary: str
    doc: str
    expects: str
    example: str
    options: Options
    plan: Callable[[Any, Options], Plan]
    read: Callable[[Any], Parsed]
    collect: Callable[[list[Clip], list, Plan, Options], Dataset]
    config: str | None = None
    out: str | None = None
    needs_source: bool = True


@cache
def format_table() -> dict[str, Any]:
    """`formats.json`: the options that formats share, and every format."""
    return json.loads(Path(__file__).with_name('formats.json').read_text(encoding='utf-8'))


def format_entry(name: str) -> dict[str, Any]:
    return format_table()['formats'][name]


@cache
def words(kind: str) -> Any:
    """What files of all sorts call things: a part of `words.json`."""
    return json.loads(Path(__file__).with_name('words.json').read_text(encoding='utf-8'))[kind]


@contextmanager
def reading(file: str) -> Iterator[None]:
    """Whatever a parser raises in this block is a `ClipError` that names the file."""
    try:
        yield
    except ClipError as error:
        error.file = error.file or file
        raise
    except MemoryError:
        raise ClipError('it needs more memory than there is', file=file) from None
    except Exception as error:
        raise ClipError(f'{type(error).__name__}: {str(error)[:200]}', file=file) from error


def make_annotation(
    frame_dir: str,
    label: int | None,
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
        label: 0-based class index; None where it is not known.
        keypoint: (M, T, V, C); C is 2 (pixels) or 3 (metres).
        score: (M, T, V) detection scores; None means 1 for every joint that is there.
        size: (width, height) of the picture in pixels; None in 3D.
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
        **({} if label is None else {'label': int(label)}),
        total_frames=int(keypoint.shape[1]),
        keypoint=keypoint,
        keypoint_score=score,
    )
    if size is not None:
        annotation['img_shape'] = annotation['original_shape'] = size[::-1]
    annotation.update((name, value) for name, value in known.items() if value is not None)
    return annotation


def check_content(annotation: Mapping[str, Any], line: int | None = None) -> None:
    """Refuse a clip without frames, without any joint, or with numbers that are not finite."""
    frames = annotation['total_frames']
    if not frames:
        raise ClipError('there are no frames', EMPTY, line)
    # float64 sums of finite float32 are finite.
    if not np.isfinite(annotation['keypoint'].sum(dtype=np.float64)):
        raise ClipError('a coordinate is not finite', NAN, line)
    if not annotation['keypoint_score'].any():
        raise ClipError(f'no joint was detected in any of the {frames} frames', ALL_ZERO, line)


def check_window(start: int, end: int, frames: int, line: int | None, first: int = 0) -> None:
    """Refuse a window (`end` included) that is reversed or outside of a recording's frames."""
    if end < start:
        raise ClipError(f'start {start}, end {end}', END_BEFORE_START, line)
    if start < 0 or end >= first + frames:
        there = f'only frames {first} to {first + frames - 1}' if frames else 'no frames'
        raise ClipError(f'frames {start} to {end}, but there are {there}', BEYOND_FILE, line)


def make_segments(windows: Sequence[tuple[int, int, int]], frames: int) -> list[dict]:
    """Segments of a recording from (label, first, last frame): `end` is excluded, in its frames."""
    return [
        dict(label=label, start=first, end=min(last + 1, frames))
        for label, first, last in sorted(windows, key=lambda window: window[1:])
        if first < frames
    ]


def split_clips(
    clips: Sequence[Clip], part: Callable[[Clip], str | None], split: dict[str, list[str]]
) -> int:
    """Put every clip in the split that `part` names for it; how many are in none.

    An untrimmed recording (one with segments) goes to `recordings_<split>`.
    """
    left = 0
    for clip in clips:
        name = part(clip)
        if name is None:
            left += 1
            continue
        name = f'recordings_{name}' if 'segments' in clip.annotation else name
        split.setdefault(name, []).append(clip.annotation['frame_dir'])
    return left


def split_by_subject(clips: Sequence[Clip], dataset: str, split: dict[str, list[str]]) -> list[str]:
    """Add `xsub_train` and `xsub_val` by the published subject lists; notes on the rest."""
    published = protocol(dataset)
    part_of = {
        str(subject): name
        for name, part in (('xsub_train', 'train_subjects'), ('xsub_val', 'test_subjects'))
        for subject in published[part]
    }
    split.update(xsub_train=[], xsub_val=[])
    left = split_clips(clips, lambda clip: part_of.get(clip.annotation.get('subject')), split)
    return [f'{left} clips are of no subject of the published lists'] * (left > 0)
