"""Recordings of a skeleton CSV (a row a frame) and a label CSV (a row a clip): iMiGUE, SMG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from . import common, parsing
from .common import Clip, ClipError, Parsed
from .sources import Entry


@dataclass(frozen=True)
class Recording:
    """One recording to read.

    Attributes:
        id: The recording's id; clips are called `<id>_<start>_<end>_<label>`.
        skeleton: CSV without header; row k is frame k.
        labels: CSV without header: gesture id, start, end (0-based frames, end included).
        split: Split that the release puts the recording in, if any.
        keep: Give the whole recording with its segments too.
        known: What else is known: fps, subject …
    """

    id: str
    skeleton: Entry
    labels: Entry
    split: str | None = None
    keep: bool = False
    known: dict = field(default_factory=dict)


def read_recording(
    recording: Recording,
    columns: int,
    used: Sequence[int],
    class_of: Callable[[int], int | None],
    annotate: Callable[..., dict],
) -> Parsed:
    """Cut the labelled clips out of one recording.

    Only rows inside of clips are parsed, so a broken row costs the clips that contain it and no
    others; in a whole recording, it is a frame without joints.

    Args:
        columns: Numbers in a skeleton row.
        used: Which of them `annotate` wants.
        class_of: Gesture id to class index; None if there is no such gesture.
        annotate: Called with (frame_dir, label, rows, **known) where rows is float32
            (T, len(used)).

    Returns:
        Clips and rejects; `extra` is a dict with `header` (the skeleton file began with a header).
    """
    parsed = Parsed(extra=dict(header=False))
    labels_name, skeleton_name = recording.labels.name, recording.skeleton.name
    try:
        with common.reading(labels_name):
            labels = recording.labels.lines()
        if not labels:
            raise ClipError(common.EMPTY, labels_name, None, 'there are no labels')
        with common.reading(skeleton_name):
            lines = recording.skeleton.lines()
        if not lines:
            raise ClipError(common.EMPTY, skeleton_name, None, 'there are no frames')
    except ClipError as error:
        parsed.rejects.append(error.reject(recording.id))
        return parsed

    first_line = 1
    if is_header(lines[0]):
        parsed.extra['header'] = True
        first_line, lines = 2, lines[1:]

    known, windows = dict(session=recording.id) | recording.known, []
    for number, row in enumerate(labels, 1):
        if not row.strip():
            continue
        clip_id = f'{recording.id} label {number}'
        try:
            gesture, start, end = parsing.parse_window(row, labels_name, number)
            label = class_of(gesture)
            if label is None:
                detail = f'there is no gesture {gesture}'
                raise ClipError(common.LABEL_RANGE, labels_name, number, detail)
            clip_id = f'{recording.id}_{start:05d}_{end:05d}_{label:02d}'
            parsing.check_window(start, end, len(lines), labels_name, number)
            windows.append((label, start, end))
            rows = parsing.parse_rows(
                lines[start : end + 1], columns, skeleton_name, first_line + start, ',', used
            )
            annotation = annotate(clip_id, label, rows, start=start, end=end, **known)
            common.check_content(annotation, skeleton_name, first_line + start)
        except ClipError as error:
            parsed.rejects.append(error.reject(clip_id))
        else:
            parsed.clips.append(Clip(annotation, labels_name, number, recording.split))
    if recording.keep and windows:
        rows, broken = read_all(lines, columns, used)
        parsed.counts['rows that cannot be read are frames without joints'] += broken
        segments = common.make_segments(windows, len(rows))
        annotation = annotate(recording.id, None, rows, segments=segments, **known)
        parsed.clips.append(Clip(annotation, skeleton_name, None, recording.split))
    return parsed


def read_all(lines: Sequence[str], columns: int, used: Sequence[int]) -> tuple[np.ndarray, int]:
    """All rows (T, len(used)), zeros for those that cannot be parsed, and how many those are."""
    try:
        return parsing.parse_rows(lines, columns, '', 1, ',', used), 0
    except ClipError:
        rows, broken = np.zeros((len(lines), len(used)), np.float32), 0
    for number, line in enumerate(lines):
        try:
            rows[number] = parsing.parse_rows([line], columns, '', 1, ',', used)
        except ClipError:
            broken += 1
    return rows, broken


def is_header(line: str) -> bool:
    """Whether a first row names columns: no cell is a number, or they count 0, 1, 2 …"""
    values = [parsing.parse_float(cell) for cell in line.split(',')]
    if not any(value is not None for value in values):
        return bool(line.strip())
    counted = values[1:]
    return len(counted) > 2 and counted in (
        list(np.arange(len(counted), dtype=float)),
        list(np.arange(1, len(counted) + 1, dtype=float)),
    )


def header_note(extras: list[dict], what: str) -> list[str]:
    """A note on files that began with a header row, if any did."""
    headers = sum(extra['header'] for extra in extras)
    if not headers:
        return []
    return [f'{headers} {what} began with a header row; frame 0 is the row after it']
