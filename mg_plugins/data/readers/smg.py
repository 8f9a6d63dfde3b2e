"""SMG (spontaneous micro-gestures), Kinect v2 skeletons; see `formats.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mg_plugins.data.classes import get_classes

from . import common, parsing, windows
from .common import Clip, ClipError, Dataset, Plan
from .sources import Entry, Source

JOINTS, NUMBERS = 25, 11
USED = tuple(NUMBERS * joint + axis for joint in range(JOINTS) for axis in range(3))
FILE_NAME = re.compile(r'(.*?)(Sample(\d+))_(skeleton|finelabels)\.csv$')


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """One job a sample."""
    files = {entry.name: entry for entry in source.find(r'Sample\d+_\w+\.csv$')}
    matches = [match for name in files if (match := FILE_NAME.match(name))]
    if not any(match[4] == 'skeleton' for match in matches):
        raise source.refuse('smg')

    def file(name: str) -> Entry:
        return files.get(name) or Entry(name, source.path / name)

    plan = Plan([])
    for folder, sample, number in sorted({match.groups()[:3] for match in matches}):
        stem = f'{folder}{sample}'
        known = dict(subject=str(int(number)), fps=read_fps(file(f'{stem}_data.csv')))
        files_of = file(f'{stem}_skeleton.csv'), file(f'{stem}_finelabels.csv')
        keep = options['keep_recordings']
        plan.jobs.append(windows.Recording(sample, *files_of, keep=keep, known=known))
    return plan


def read_fps(entry: Entry) -> float | None:
    """Frames a second by a sample's `_data.csv`, None if that says nothing."""
    try:
        cells = entry.lines()[0].split(',')
        fps = parsing.parse_float(cells[1])
    except (ClipError, IndexError):
        return None
    return fps if fps and 0 < fps < 1000 else None


def class_of(gesture: int) -> int | None:
    """Class index of a released gesture id."""
    return gesture - 1 if 1 <= gesture <= len(get_classes('smg')) else None


def annotate(frame_dir: str, label: int | None, rows: np.ndarray, **known: Any) -> dict:
    """Annotation of the used columns (T, 75) of some rows of a `_skeleton.csv`."""
    return common.make_annotation(frame_dir, label, rows.reshape(1, -1, JOINTS, 3), **known)


read = partial(
    windows.read_recording,
    columns=JOINTS * NUMBERS,
    used=USED,
    class_of=class_of,
    annotate=annotate,
)


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Cross-subject splits."""
    split, notes = common.split_by_subject(clips, 'smg')
    notes += windows.header_note(extras, 'skeleton files')
    meta = dict(
        layout='ntu25',
        classes=list(get_classes('smg')),
        source='smg',
        note='; '.join(['Camera coordinates in metres; sample N is subject N', *notes]),
    )
    return Dataset(split, meta, notes)
