"""Users' own recordings: frames of persons from a pose estimator, labelled by a CSV.

Shared by the formats openpose, coco and mediapipe, which differ only in how frames are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import common, parsing, people, tables
from .common import Clip, ClipError, Dataset, FormatError, Parsed, Plan
from .people import Frame
from .sources import Entry
from .tables import LabelRow

LABELS_HELP = (
    'file with the header clip,label and, as you like, start,end (0-based frames, end included: '
    'several clips of one recording), subject, session, outcome, fps, split, width, height; label '
    'is a class name or an index from 0'
)


@dataclass(frozen=True)
class Job:
    """One recording: its name, its files (or content read already), its rows of the labels."""

    name: str
    root: Path
    content: Any
    rows: tuple[LabelRow, ...]
    options: dict

    def shown(self, path: Path) -> str:
        """A file as error messages call it."""
        return path.relative_to(self.root).as_posix() if path != self.root else path.name


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(width, height) of '1280x720'.

    Raises:
        FormatError: Any other text.
    """
    if text is None:
        return None
    match = re.fullmatch(r'(\d+)\s*[x×]\s*(\d+)', text.strip().lower())
    if not match or '0' in match.groups():
        raise FormatError(f'--size {text!r} must be WIDTHxHEIGHT in pixels, such as 1280x720')
    return int(match[1]), int(match[2])


def plan_recordings(
    found: Mapping[str, Any], root: Path, options: Mapping[str, Any], sized: bool = True
) -> Plan:
    """Match recordings with the labels; one job a recording.

    Args:
        found: Recording name to whatever the format's reader needs.
        root: Folder that error messages name files relative to.
        options: As `add_arguments` made them.
        sized: Whether coordinates are pixels, so that the picture size must be known.

    Raises:
        FormatError: Labels or size are missing.
    """
    if options.get('max_persons', 1) < 1:
        raise FormatError(f'--max-persons {options["max_persons"]} must be at least 1')
    labels = tables.read_labels(options['labels'], options['classes'])
    size = parse_size(options.get('size'))
    if (
        sized
        and size is None
        and any(r.size is None for rows in labels.rows.values() for r in rows)
    ):
        raise FormatError(
            '--size WIDTHxHEIGHT is needed: the files do not say how large the pictures were '
            '(or give the columns width,height in the labels)'
        )
    plan = Plan([], labels.rejects, context=dict(classes=labels.classes))
    mentioned = {reject.clip for reject in labels.rejects}
    for name, rows in labels.rows.items():
        if name not in found:
            detail = f'there is no recording {name!r} in {root.name or root}'
            error = [ClipError(common.MISSING_FILE, row.file, row.line, detail) for row in rows]
            plan.rejects += [e.reject(row.frame_dir) for e, row in zip(error, rows, strict=True)]
    for name, content in found.items():
        if name in labels.rows:
            rows = tuple(labels.rows[name])
            plan.jobs.append(Job(name, root, content, rows, dict(options, size=size)))
        elif name not in mentioned:
            detail = 'the labels do not mention this recording'
            error = ClipError(common.NO_LABEL, labels.file, None, detail)
            plan.rejects.append(error.reject(name))
    return plan


def read_recording(
    job: Job, read_frames: Callable[[Job], Sequence[Frame | ClipError | None]], sized: bool = True
) -> Parsed:
    """Cut the labelled clips out of one recording.

    Args:
        read_frames: Gives the recording's T frames: persons, None where nobody was found, or the
            error of a frame that cannot be read, which costs the clips that contain it. It raises
            ClipError where no frame can be read.
        sized: Whether coordinates are pixels.
    """
    parsed = Parsed()
    try:
        frames = read_frames(job)
    except ClipError as error:
        parsed.rejects += [error.reject(row.frame_dir) for row in job.rows]
        return parsed
    for row in job.rows:
        try:
            annotation = cut_clip(job, row, frames, sized)
        except ClipError as error:
            parsed.rejects.append(error.reject(row.frame_dir))
        else:
            parsed.clips.append(Clip(annotation, row.file, row.line, row.split))
    return parsed


def cut_clip(
    job: Job, row: LabelRow, frames: Sequence[Frame | ClipError | None], sized: bool
) -> dict:
    """The annotation of one row of the labels.

    Raises:
        ClipError: The window does not fit, a frame in it is broken, or nobody is in it.
    """
    if not frames:
        raise ClipError(common.EMPTY, job.name, None, 'the recording has no frames')
    start, end = (0, len(frames) - 1) if row.start is None else (row.start, row.end)
    parsing.check_window(start, end, len(frames), row.file, row.line)
    window = frames[start : end + 1]
    for frame in window:
        if isinstance(frame, ClipError):
            raise frame
    if not any(frame is not None and frame.scores.any() for frame in window):
        detail = f'nobody was detected in any of the {len(window)} frames'
        raise ClipError(common.ALL_ZERO, row.file, row.line, detail)
    keypoint, score = people.assemble(window, job.options['max_persons'])
    known = dict(session=job.name, start=start, end=end) | row.known
    size = (row.size or job.options['size']) if sized else None
    return common.make_annotation(row.frame_dir, row.label, keypoint, score, size, **known)


def collect_recordings(
    clips: list[Clip], plan: Plan, options: Mapping[str, Any], layout: str, source: str
) -> Dataset:
    """Splits of the user's own choice, and the meta of the set."""
    split, notes = tables.user_splits(clips, options['val_subjects'])
    meta = dict(
        layout=layout, classes=plan.context['classes'], source=source, note='; '.join(notes)
    )
    return Dataset(split, meta, notes)


def make_frame(
    points: np.ndarray, scores: np.ndarray, file: str, line: int | None, ids: tuple | None = None
) -> Frame | ClipError | None:
    """Check one frame's persons: points (P, V, C), scores (P, V)."""
    if not len(points):
        return None
    if not (np.isfinite(points).all() and np.isfinite(scores).all()):
        return ClipError(common.NAN, file, line, 'a coordinate or score is not finite')
    missing = ~points.any(-1) | ~(scores > 0)
    points, scores = np.array(points, np.float32), np.array(scores, np.float32)
    points[missing], scores[missing] = 0, 0
    return Frame(points, scores, ids)


def frame_number(name: str) -> tuple[str, int] | None:
    """('dance', 12) of 'dance_000012', or None if the name does not end in digits."""
    match = re.search(r'(\d+)$', name)
    return (name[: match.start()].rstrip('_-. '), int(match[1])) if match else None


def load_json(path: Path, shown: str) -> Any:
    return Entry(shown, path).json()
