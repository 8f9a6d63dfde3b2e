"""SMG (spontaneous micro-gestures), Kinect v2 skeletons.

`SampleNNNN/SampleNNNN_skeleton.csv` holds a row a frame: 25 joints x 11 numbers (x, y, z in metres,
four of orientation, four others, of which only x, y, z are kept), in the joint order of NTU RGB+D.
`SampleNNNN_finelabels.csv` holds gesture id from 1, start, end (read as 0-based frames, end
included). `SampleNNNN_data.csv`, where there is one, gives the frame rate (frames, fps, depth).

Sample N is subject N (1-40): `xsub_train` are subjects 1-35, `xsub_val` 36-40.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.data.classes import get_classes

from . import common, windows
from .common import Clip, ClipError, Dataset, Plan, Reader

JOINTS, NUMBERS = 25, 11
USED = tuple(NUMBERS * joint + axis for joint in range(JOINTS) for axis in range(3))
EXPECTS = 'a folder with SampleNNNN/SampleNNNN_skeleton.csv and SampleNNNN_finelabels.csv'
FILE_NAME = re.compile(r'(Sample(\d+))_(skeleton|finelabels)\.csv$')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SMG has no options of its own."""


def plan(source: Path, options: Mapping[str, Any]) -> Plan:
    """One job a sample."""
    samples = {}
    skeletons = 0
    for path in sorted(source.rglob('*.csv')):
        if match := FILE_NAME.search(path.name):
            samples[path.parent, match[1]] = match[2]
            skeletons += match[3] == 'skeleton'
    if not skeletons:
        raise common.refuse_source(source, EXPECTS)
    jobs = [
        windows.Recording(
            sample,
            source,
            folder / f'{sample}_skeleton.csv',
            folder / f'{sample}_finelabels.csv',
            known=dict(subject=str(int(number)), fps=read_fps(folder / f'{sample}_data.csv')),
        )
        for (folder, sample), number in samples.items()
    ]
    return Plan(jobs)


def read_fps(path: Path) -> float | None:
    """Frames a second by a sample's `_data.csv`, None if that says nothing."""
    try:
        cells = common.read_lines(path)[0].split(',')
        fps = common.parse_float(cells[1])
    except (ClipError, IndexError):
        return None
    return fps if fps and fps > 0 else None


def class_of(gesture: int) -> int | None:
    """Class index of a released gesture id."""
    return gesture - 1 if 1 <= gesture <= len(get_classes('smg')) else None


def annotate(frame_dir: str, label: int, rows: np.ndarray, **known: Any) -> dict:
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


READER = Reader(
    name='smg',
    summary='SMG, Kinect v2 skeletons: 25 joints, 17 classes, 40 subjects',
    doc=__doc__,
    expects=EXPECTS,
    example='python tools/prepare_data.py smg SMG/',
    add_arguments=add_arguments,
    plan=plan,
    read=read,
    collect=collect,
    config='configs/stgcn_mgfuse_smg.py',
    out='data/smg/smg.pkl',
)
