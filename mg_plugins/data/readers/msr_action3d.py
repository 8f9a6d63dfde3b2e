"""MSR-Action3D skeletons in world coordinates, from a folder or straight from a `.tar.xz`.

Source: W. Li, Z. Zhang, Z. Liu, "Action Recognition Based on A Bag of 3D Points", CVPR Workshops
2010; the "Real3D" skeleton files. A file `aXX_sYY_eZZ_skeleton3D.txt` is action 1-20, subject
1-10, repetition 1-3. A frame is 20 lines `x y z c`, one line a joint, in metres: x to the side, y
up, z away from the camera.

- The fourth column is not a detection score (it is 0 on valid joints most of the time) and is
  dropped. A joint is missing where x = y = z = 0; every other joint gets score 1.
- Frames whose joints are all zero are dropped: the tracker lost the person for up to 36 frames on
  end, and 20 zero joints would otherwise be a pose. `dropped_frames` in the annotation counts them.
- Splits `xsub_train` and `xsub_val` are the standard cross-subject halves.
"""

from __future__ import annotations

import argparse
import lzma
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.data.classes import get_classes

from . import common
from .common import Clip, ClipError, Dataset, Parsed, Plan, Reader

JOINTS = 20
# Depth cameras of that work recorded about 15 frames a second.
FPS = 15.0
EXPECTS = (
    'a folder with the "Real3D" files aXX_sYY_eZZ_skeleton3D.txt, or the .tar.xz that holds them'
)
FILE_NAME = re.compile(r'(a(\d+)_s(\d+)_e(\d+))_skeleton3D\.txt$')
FILES_A_JOB = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MSR-Action3D has no options of its own."""


def plan(source: Path, options: Mapping[str, Any]) -> Plan:
    """List the skeleton files, in packets of `FILES_A_JOB`; a job is [(name, path or bytes)]."""
    if source.is_file():
        files = read_archive(source)
    else:
        paths = sorted(p for p in source.rglob('*.txt') if FILE_NAME.search(p.name))
        files = [(path.relative_to(source).as_posix(), path) for path in paths]
    if not files:
        raise common.refuse_source(source, EXPECTS)
    return Plan([files[i : i + FILES_A_JOB] for i in range(0, len(files), FILES_A_JOB)])


def read_archive(path: Path) -> list[tuple[str, bytes]]:
    """Skeleton files of a tar archive, in memory; nothing is unpacked to disk."""
    try:
        with tarfile.open(path) as archive:
            members = [m for m in archive if m.isfile() and FILE_NAME.search(m.name)]
            files = [(f'{path.name}:{m.name}', archive.extractfile(m).read()) for m in members]
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise common.FormatError(
            f'{path} cannot be read as a tar archive ({error}). Expected: {EXPECTS}'
        ) from None
    return sorted(files)


def read(job: list[tuple[str, Path | bytes]]) -> Parsed:
    """Parse some files; every file is one clip."""
    parsed = Parsed()
    for name, content in job:
        clip_id, action, subject, _ = FILE_NAME.search(name).groups()
        try:
            if isinstance(content, bytes):
                lines = common.split_lines(content)
            else:
                lines = common.read_lines(content, name)
            annotation = parse_clip(lines, name, clip_id, int(action), int(subject))
        except ClipError as error:
            parsed.rejects.append(error.reject(clip_id))
        else:
            parsed.clips.append(Clip(annotation, name))
    return parsed


def parse_clip(lines: list[str], name: str, clip_id: str, action: int, subject: int) -> dict:
    """One file's annotation.

    Raises:
        ClipError: The file cannot be used as a clip.
    """
    classes = len(get_classes('msr_action3d'))
    if not 1 <= action <= classes:
        detail = f'action {action} in the file name, expected 1 to {classes}'
        raise ClipError(common.LABEL_RANGE, name, None, detail)
    rows = common.parse_rows(lines, 4, name, delimiter=None)
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


READER = Reader(
    name='msr-action3d',
    summary='MSR-Action3D, 20 joints in metres, 20 actions, 10 subjects',
    doc=__doc__,
    expects=EXPECTS,
    example='python tools/prepare_data.py msr-action3d MSRAction3DSkeletonReal3D.tar.xz',
    add_arguments=add_arguments,
    plan=plan,
    read=read,
    collect=collect,
    config='configs/stgcn_mgfuse_msr_action3d.py',
    out='data/msr_action3d/msr_action3d.pkl',
)
