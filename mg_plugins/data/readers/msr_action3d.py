"""MSR-Action3D skeletons in world coordinates; see `formats.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mg_plugins.data.classes import get_classes

from . import common, parsing
from .common import Clip, ClipError, Dataset, Plan
from .sources import Entry, Source

JOINTS = 20
# Depth cameras of that work recorded about 15 frames a second.
FPS = 15.0
FILE_NAME = re.compile(r'(a(\d+)_s(\d+)_e(\d+))_skeleton3D\.txt$')
FILES_A_JOB = 24


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """Jobs of `FILES_A_JOB` files."""
    files = source.need(FILE_NAME.pattern, 'msr-action3d')
    return Plan(common.packets(files, FILES_A_JOB))


def parse(entry: Entry) -> list[Clip]:
    """The clip of one file."""
    clip_id, action, subject, _ = FILE_NAME.search(entry.name).groups()
    lines, name = entry.lines(), entry.name
    return [Clip(parse_clip(lines, name, clip_id, int(action), int(subject)), name)]


read = partial(common.read_files, parse=parse)


def parse_clip(lines: list[str], name: str, clip_id: str, action: int, subject: int) -> dict:
    """One file's annotation."""
    classes = len(get_classes('msr_action3d'))
    if not 1 <= action <= classes:
        detail = f'action {action} in the file name, expected 1 to {classes}'
        raise ClipError(common.LABEL_RANGE, name, None, detail)
    rows = parsing.parse_rows(lines, 4, name, delimiter=None)
    if len(rows) % JOINTS:
        detail = f'the last frame has {len(rows) % JOINTS} of {JOINTS} joints'
        raise ClipError(common.SHORT_ROW, name, len(rows), detail)
    keypoint = rows.reshape(-1, JOINTS, 4)[..., :3]
    tracked = keypoint.any(axis=(1, 2))
    if not tracked.any():
        detail = f'all {len(keypoint)} frames hold only zeros'
        raise ClipError(common.ALL_ZERO, name, 1, detail)
    return common.make_annotation(
        clip_id,
        action - 1,
        keypoint[tracked][None],
        subject=str(subject),
        session=clip_id,
        fps=FPS,
        dropped_frames=int((~tracked).sum()),
    )


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Cross-subject splits, and how many frames were dropped."""
    dropped = [clip.annotation['dropped_frames'] for clip in clips]
    note = (
        f'{sum(dropped)} all-zero frames were dropped from {np.count_nonzero(dropped)} clips '
        '(the tracker lost the person); no clip keeps an all-zero frame'
    )
    meta = dict(
        layout='msr_action3d',
        classes=list(get_classes('msr_action3d')),
        source='msr-action3d',
        note=f'World coordinates in metres: y up, z away from the camera. {note}.',
    )
    split, notes = common.split_by_subject(clips, 'msr_action3d')
    return Dataset(split, meta, [note, *notes])
