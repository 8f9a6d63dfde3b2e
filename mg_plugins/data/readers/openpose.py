"""OpenPose JSON: a folder of `<name>_<frame>_keypoints.json`, as OpenPose's --write_json writes.

A file is one frame, `{"people": [{"pose_keypoints_2d": [x, y, c, …], "hand_left_keypoints_2d":
…}]}`, with 25 joints (BODY_25) in pixels of the picture. A recording is a folder; where one folder
holds files of several names, each name is a recording. Frames are taken in the order of their
numbers.

`--layout imigue22` makes the 22 joints of iMiGUE instead, for models trained on it; it needs
OpenPose's hand keypoints (--hand), whose fingertips it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import common, recordings
from .common import Clip, ClipError, Dataset, Parsed, Plan
from .people import Frame
from .recordings import Job
from .sources import Source

SUFFIX = '_keypoints.json'
EXPECTS = 'a folder with one folder a clip that holds OpenPose files <name>_<frame>_keypoints.json'
# OpenPose field to number of joints.
FIELDS = {
    'pose_keypoints_2d': 25,
    'hand_right_keypoints_2d': 21,
    'hand_left_keypoints_2d': 21,
}
FINGERTIPS = (4, 8, 12, 16, 20)
LAYOUTS = ('body25', 'imigue22')


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """One job a recording."""
    source = source.path
    options = dict(options, layout=options['layout'] or 'body25')
    if options['layout'] not in LAYOUTS:
        raise common.FormatError(
            f'--layout {options["layout"]!r} must be one of {", ".join(LAYOUTS)}'
        )
    groups: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
    for path in source.rglob(f'*{SUFFIX}'):
        if stem := recordings.frame_number(path.name.removesuffix(SUFFIX)):
            groups.setdefault((path.parent, stem[0]), []).append((stem[1], path))
    if not groups:
        raise Source(source).refuse(EXPECTS)
    folders = [folder for folder, _ in groups]
    found, notes = {}, []
    for (folder, stem), files in sorted(groups.items()):
        alone = folder != source and folders.count(folder) == 1
        name = (folder if alone else folder / stem).relative_to(source).as_posix()
        files.sort()
        found[name] = tuple(path for _, path in files)
        lost = files[-1][0] - files[0][0] + 1 - len(files)
        if lost:
            notes.append(f'{name}: {lost} frame numbers have no file; the others were joined')
    plan = recordings.plan_recordings(found, source, options)
    plan.notes += notes
    return plan


def read_frames(job: Job) -> list[Frame | ClipError | None]:
    """Every file of a recording is a frame."""
    frames = []
    for path in job.content:
        try:
            frames.append(read_frame(path, job.shown(path), job.options['layout']))
        except ClipError as error:
            frames.append(error)
    return frames


def read_frame(path: Path, shown: str, layout: str) -> Frame | ClipError | None:
    """The persons of one file.

    Raises:
        ClipError: The file is not what OpenPose writes.
    """
    content = recordings.load_json(path, shown)
    people = content.get('people') if isinstance(content, dict) else None
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise ClipError(common.UNREADABLE, shown, None, 'there is no list "people"')
    if not people:
        return None
    body, right, left = (
        np.stack([joints(person, field, shown) for person in people]) for field in FIELDS
    )
    if layout == 'imigue22':
        # BODY_25 puts the right side first: joints 2-4 are the right arm, so right fingertips lead.
        tips = list(FINGERTIPS)
        body = np.concatenate([body[:, :8], body[:, 15:19], right[:, tips], left[:, tips]], axis=1)
    return recordings.make_frame(body[..., :2], body[..., 2], shown, None)


def joints(person: dict, field: str, shown: str) -> np.ndarray:
    """float32 (joints, 3) of one field; a hand that was not looked for is all 0."""
    values = person.get(field) or []
    count = FIELDS[field]
    if not values and field != 'pose_keypoints_2d':
        return np.zeros((count, 3), np.float32)
    if not isinstance(values, list) or len(values) != 3 * count:
        found = len(values) if isinstance(values, list) else 0
        reason = common.LONG_ROW if found > 3 * count else common.SHORT_ROW
        detail = f'{field} has {found} numbers, expected {3 * count} ({count} joints x, y, score)'
        raise ClipError(reason, shown, None, detail)
    try:
        return np.array(values, np.float32).reshape(count, 3)
    except (TypeError, ValueError):
        detail = f'{field} holds something that is not a number'
        raise ClipError(common.NON_NUMERIC, shown, None, detail) from None


def read(job: Job) -> Parsed:
    """Cut the labelled clips out of one recording."""
    return recordings.read_recording(job, read_frames)


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Splits of the user's own choice."""
    return recordings.collect_recordings(
        clips, plan, options, options['layout'] or 'body25', 'openpose'
    )
