"""Recordings of a skeleton CSV (a row a frame) and a label CSV (a row a clip): iMiGUE, SMG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import common
from .common import Clip, ClipError, Parsed


@dataclass(frozen=True)
class Recording:
    """One recording to read.

    Attributes:
        id: The recording's id; clips are called `<id>_<start>_<end>_<label>`.
        root: Folder that error messages name files relative to.
        skeleton: CSV without header; row k is frame k.
        labels: CSV without header: gesture id, start, end (0-based frames, end included).
        split: Split that the release puts the recording in, if any.
        known: What else is known: fps, subject …
    """

    id: str
    root: Path
    skeleton: Path
    labels: Path
    split: str | None = None
    known: dict = field(default_factory=dict)

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def read_recording(
    recording: Recording,
    columns: int,
    used: Sequence[int],
    class_of: Callable[[int], int | None],
    annotate: Callable[..., dict],
) -> Parsed:
    """Cut the labelled clips out of one recording.

    Only rows inside of clips are parsed, so a broken row costs the clips that contain it and no
    others.

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
    labels_name, skeleton_name = map(recording.name, (recording.labels, recording.skeleton))
    try:
        labels = common.read_lines(recording.labels, labels_name)
        if not labels:
            raise ClipError(common.EMPTY, labels_name, None, 'there are no labels')
        lines = common.read_lines(recording.skeleton, skeleton_name)
        if not lines:
            raise ClipError(common.EMPTY, skeleton_name, None, 'there are no frames')
    except ClipError as error:
        parsed.rejects.append(error.reject(recording.id))
        return parsed

    first_line = 1
    if is_header(lines[0]):
        parsed.extra['header'] = True
        first_line, lines = 2, lines[1:]

    for line_number, text in enumerate(labels, 1):
        if not text.strip():
            continue
        clip_id = f'{recording.id} label {line_number}'
        try:
            gesture, start, end = common.parse_window(text, labels_name, line_number)
            label = class_of(gesture)
            if label is None:
                detail = f'there is no gesture {gesture}'
                raise ClipError(common.LABEL_RANGE, labels_name, line_number, detail)
            clip_id = f'{recording.id}_{start:05d}_{end:05d}_{label:02d}'
            common.check_window(start, end, len(lines), labels_name, line_number)
            rows = common.parse_rows(
                lines[start : end + 1], columns, skeleton_name, first_line + start, ',', used
            )
            annotation = annotate(
                clip_id, label, rows, session=recording.id, start=start, end=end, **recording.known
            )
            if not annotation['keypoint'].any():
                detail = f'no joint was detected in any of the {len(rows)} frames'
                raise ClipError(common.ALL_ZERO, skeleton_name, first_line + start, detail)
        except ClipError as error:
            parsed.rejects.append(error.reject(clip_id))
        else:
            parsed.clips.append(Clip(annotation, labels_name, line_number, recording.split))
    return parsed


def is_header(line: str) -> bool:
    """Whether a first row names columns: no cell is a number, or they count 0, 1, 2 …"""
    values = [common.parse_float(cell) for cell in line.split(',')]
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
