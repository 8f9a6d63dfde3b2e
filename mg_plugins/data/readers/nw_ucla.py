"""Northwestern-UCLA Multiview Action 3D, as CTR-GCN publishes it; see `formats.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from . import common
from .common import Clip, ClipError, Dataset, Plan
from .sources import Entry, Source

NAME = r'(?:^|/)(a(\d+)_s(\d+)_e(\d+)_v(\d+))\.json$'
JOINTS = 20
FILES_A_JOB = 100
TRAIN_CAMERAS = {1, 2}


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """Jobs of `FILES_A_JOB` files."""
    files = source.need(NAME, 'nw-ucla')
    return Plan(common.packets(files, FILES_A_JOB))


def parse(entry: Entry) -> list[Clip]:
    """The clip of one file."""
    clip_id, _, subject, _, camera = re.search(NAME, entry.name).groups()
    content = entry.json()
    keypoint, label = np.array(content['skeletons'], np.float32), content['label']
    if keypoint.ndim != 3 or keypoint.shape[1:] != (JOINTS, 3):
        detail = f'"skeletons" has shape {keypoint.shape}, expected (frames, {JOINTS}, 3)'
        raise ClipError(common.UNREADABLE, entry.name, None, detail)
    classes = len(common.format_entry('nw-ucla')['classes'])
    if not isinstance(label, int) or not 1 <= label <= classes:
        detail = f'"label" is {label!r}, expected 1 to {classes}'
        raise ClipError(common.LABEL_RANGE, entry.name, None, detail)
    annotation = common.make_annotation(
        clip_id, label - 1, keypoint[None], subject=str(int(subject)), session=clip_id[:-4],
        camera=int(camera),
    )  # fmt: skip
    common.check_content(annotation, entry.name)
    return [Clip(annotation, entry.name)]


read = partial(common.read_files, parse=parse)


def view_part(clip: Clip) -> str:
    return 'xview_train' if clip.annotation['camera'] in TRAIN_CAMERAS else 'xview_val'


def subject_part(clip: Clip) -> str:
    return 'xsub_train' if int(clip.annotation['subject']) % 2 else 'xsub_val'


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Splits by camera (the usual ones) and by subject."""
    split: dict[str, list[str]] = {}
    common.split_clips(clips, view_part, split)
    common.split_clips(clips, subject_part, split)
    note = (
        'xview (cameras 1 and 2 against 3) is the usual split and has the same people in both '
        'halves; xsub trains on the subjects with odd numbers'
    )
    meta = dict(
        layout='kinect_v1_20',
        classes=list(common.format_entry('nw-ucla')['classes']),
        source='nw-ucla',
        note=f'Camera coordinates in metres; {note}',
    )
    return Dataset(split, meta, [note])
