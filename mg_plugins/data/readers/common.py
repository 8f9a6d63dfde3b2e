"""What every reader shares. A reader turns one format into MMAction2 annotations in three steps:

plan(source, options) -> Plan     look at the source, refuse it, or list independent jobs
read(job)             -> Parsed   parse one job in a worker process; never raises for bad data
collect(clips, ...)   -> Dataset  decide what needs the whole set: splits, class names, meta
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from mg_plugins.data.checks import Split
from mg_plugins.errors import UserError, counted
from mg_plugins.files import read_table

FORMATS, OPTIONS = (read_table('data/readers/formats.json')[key] for key in ('formats', 'options'))
WORDS = read_table('data/readers/words.json')  # what files of all sorts use
# Options of a format by name, with underscores; `format` is its own name.
Options = Mapping[str, Any]
# Reasons of rejections.
SHORT_ROW, LONG_ROW, NON_NUMERIC, NAN = 'short row', 'long row', 'non-numeric', 'NaN'
EMPTY, ALL_ZERO, UNREADABLE = 'empty', 'all-zero joints', 'unreadable'
LABEL_RANGE, NO_LABEL = 'label out of range', 'no label'
END_BEFORE_START, BEYOND_FILE = 'end before start', 'frames beyond the file'
MISSING_FILE, DUPLICATE = 'missing file', 'duplicate clip'
UNPUBLISHED = 'are of no subject of the published lists'


class FormatError(UserError):
    """The given source is not of the format asked for, or an option does not fit it."""


@dataclass(unsafe_hash=True)
class ClipError(UserError):
    """One clip or file cannot be used; `reading` and `listing` add what parsers leave out."""

    detail: str = ''
    reason: str = UNREADABLE
    line: int | None = None
    file: str = ''
    clip: str = ''

    def __str__(self) -> str:
        said = f'{self.clip}: {self.reason} ({place(self.file, self.line)}): {self.detail}'
        return said.removeprefix(': ')


def place(file: Any, line: int | None) -> str:
    return str(file) if line is None else f'{file}, line {line}'


def expect(fine: Any, *what: Any, error: type[UserError] = ClipError, **where: Any) -> None:
    """Refuse a clip or file with this sentence (and reason, line) unless all is fine."""
    if not fine:
        raise error(*what, **where)


require = partial(expect, error=FormatError)  # refuses the source, or an option


@contextmanager
def reading(file: str, line: int | None = None) -> Iterator[None]:
    """Whatever a parser raises in this block is a `ClipError` that names the file."""
    try:
        yield
    except ClipError as error:
        if not error.file:
            error.file, error.line = file, error.line or line
        raise
    except MemoryError:
        raise ClipError('it needs more memory than there is', file=file) from None
    except Exception as error:
        said = f'it is not built as its format is ({type(error).__name__}: {str(error)[:200]})'
        raise ClipError(getattr(error, 'strerror', None) or said, file=file) from error


@dataclass(slots=True)
class Clip:
    """One usable clip: its MMAction2 annotation, where it was labelled, split and layout if any."""

    annotation: dict
    file: str
    line: int | None = None
    split: str | None = None
    layout: Any = None

    @property
    def name(self) -> str:
        return self.annotation['frame_dir']


@dataclass
class Plan:
    """What `plan` found: jobs (picklable, independent), and what `collect` will want to know."""

    jobs: Sequence
    rejects: list[ClipError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    context: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What `read` needs for some clips: their files, and what `plan` knows of them."""

    name: str
    content: Any
    known: Any
    options: Options


@dataclass
class Parsed:
    """What one job gave; `counts` become notes such as '12 track fragments were joined'."""

    clips: list[Clip] = field(default_factory=list)
    rejects: list[ClipError] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def listing(self, clip: str, file: str, line: int | None = None) -> Iterator[None]:
        """What goes wrong in this block is listed as a rejection of the clip."""
        try:
            with reading(file, line):
                yield
        except ClipError as error:
            self.rejects.append(replace(error, clip=clip))


@dataclass
class Dataset:
    """What `collect` decided; the clips that it was given stay, but for the `rejects`."""

    split: Split
    layout: str | dict
    classes: Sequence[str]
    notes: list[str] = field(default_factory=list)
    meta: dict = field(default_factory=dict)
    rejects: list[ClipError] = field(default_factory=list)


class Reader:
    """One format: its entry in `formats.json` as attributes, and the three steps of its module."""

    # The config that reads the result, its usual path, the unit of all coordinates: if any.
    config = out = unit = None
    needs_source, files = True, ()

    def __init__(self, name: str):
        entry = FORMATS[name]
        known = [OPTIONS[key] for key in entry['options']]
        options = {o['flag'][2:].replace('-', '_'): o.get('default') for o in known}
        module = import_module(f'{__package__}.{entry["module"]}')
        self.plan, self.read, self.collect = module.plan, module.read, module.collect
        vars(self).update(entry, name=name, options=options)


def make_annotation(
    frame_dir: str,
    label: int | None,
    keypoint: np.ndarray,
    score: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
    **known: Any,
) -> dict:
    """An MMAction2 annotation of keypoint (M, T, V, 2 or 3) and score (M, T, V); None is 1 for all.

    A joint is missing where all its coordinates are 0 or its score is not above 0; then both become
    0. `size` is (width, height) in pixels, None in 3D. What is None in `known` is left out.
    """
    keypoint = np.ascontiguousarray(keypoint, np.float32)
    frames = keypoint.shape[1]
    expect(frames, 'there are no frames', EMPTY)
    # Axis by axis: numpy reduces an axis of length 2 or 3 slowly.
    missing = keypoint[..., 0] == 0
    for axis in range(1, keypoint.shape[-1]):
        missing &= keypoint[..., axis] == 0
    score = np.ones(missing.shape, np.float32) if score is None else np.array(score, np.float32)
    missing |= ~(score > 0)
    if missing.any():
        keypoint = np.where(missing[..., None], np.float32(0), keypoint)
        score[missing] = 0
    # float64 sums of finite float32 are finite.
    expect(np.isfinite(keypoint.sum(dtype=np.float64)), 'a coordinate is not finite', NAN)
    expect(score.any(), f'no joint was detected in any of the {frames} frames', ALL_ZERO)
    known = dict(label=None if label is None else int(label), total_frames=frames) | known
    if size is not None:
        known['img_shape'] = known['original_shape'] = size[::-1]
    known = {name: value for name, value in known.items() if value is not None}
    return dict(frame_dir=frame_dir, keypoint=keypoint, keypoint_score=score, **known)


def make_segments(windows: Iterable[tuple[int, int, int]], frames: int) -> list[dict]:
    """Segments of a recording from (label, first, last frame): `end` is excluded, in its frames."""
    return [
        dict(label=label, start=max(first, 0), end=min(last + 1, frames))
        for label, first, last in sorted({*windows}, key=lambda window: (*window[1:], window[0]))
        if last >= 0 and first < frames
    ]


def split_clips(
    clips: Sequence[Clip],
    part: Callable[[Clip], str | None],
    split: Split,
    rest: str = 'are in no split: their subject or split is not given',
) -> list[str]:
    """Put clips in the split of their `part`, recordings in `recordings_…`; a note on the rest."""
    left = 0
    for clip in clips:
        if (name := part(clip)) is None:
            left += 1
        else:
            name = f'recordings_{name}' if 'segments' in clip.annotation else name
            split.setdefault(name, []).append(clip.name)
    return [counted(left, f'clips {rest}')] * (left > 0)


def split_by_subject(clips: Sequence[Clip], lists: Mapping, split: Split, *rest: str) -> list[str]:
    """Add `xsub_train` and `xsub_val` of the subjects listed; a note on clips of others."""
    parts = dict.fromkeys(map(str, lists['train_subjects']), 'xsub_train')
    parts |= dict.fromkeys(map(str, lists['test_subjects']), 'xsub_val')
    split.update(xsub_train=[], xsub_val=[])
    return split_clips(clips, lambda clip: parts.get(clip.annotation.get('subject')), split, *rest)
