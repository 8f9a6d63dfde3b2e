"""COCO-17 keypoints as MMPose writes them.

A JSON file is one recording (its name is the file's), in any of three forms:

- MMPose's inferencer: `[{"frame_id": 0, "instances": [{"keypoints": [[x, y], …],
  "keypoint_scores": […]}]}, …]`;
- MMPose's demo scripts (--save-predictions): the same list under "instance_info";
- COCO results: `[{"image_id": 12, "keypoints": [x, y, score, …], "score": …}, …]`, where image ids
  are the frame numbers of one recording; or, with `--images FILE` (a COCO annotation file, whose
  "images" give id and file_name), results of many recordings in one file: a recording is the folder
  of file_name, or what comes before the frame number where there is no folder.

Whole-body (133) and Halpe (26) keypoints begin with COCO's 17, which are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from . import common, recordings
from .common import Clip, ClipError, Dataset, FormatError, Parsed, Plan
from .people import Frame
from .recordings import Job
from .sources import Source

JOINTS = 17
# COCO, Halpe and COCO whole-body all begin with COCO's 17.
ACCEPTED = (17, 26, 133)
EXPECTS = 'a folder of MMPose predictions <clip>.json, or one such file'
# Image ids further apart than this, for each one that is there, are no frame numbers.
SPARSEST = 20


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """One job a recording."""
    source = source.path
    if options['images']:
        found = group_results(source, Path(options['images']))
        return recordings.plan_recordings(found, source, options)
    paths = [source] if source.is_file() else sorted(source.rglob('*.json'))
    if not paths or any(path.suffix != '.json' for path in paths):
        raise Source(source).refuse(EXPECTS)
    root = source.parent if source.is_file() else source
    found = {path.relative_to(root).with_suffix('').as_posix(): path for path in paths}
    return recordings.plan_recordings(found, root, options)


def group_results(source: Path, images_file: Path) -> dict[str, list[list[dict]]]:
    """Frames (lists of instances) of every recording in one file of COCO results.

    Raises:
        FormatError: Either file is not what it should be.
    """
    try:
        results = recordings.load_json(source, source.name)
        images = recordings.load_json(images_file, images_file.name)
    except ClipError as error:
        raise FormatError(f'{error.file}: {error.detail}') from None
    images = images.get('images') if isinstance(images, dict) else None
    if not images or not all('id' in image and 'file_name' in image for image in images):
        raise FormatError(f'--images {images_file} must hold a list "images" with id and file_name')
    if not isinstance(results, list) or not all(
        isinstance(r, dict) and 'image_id' in r and 'keypoints' in r for r in results
    ):
        raise FormatError(
            f'{source} must be a list of COCO results with image_id and keypoints, as --images says'
        )
    instances: dict[Any, list[dict]] = {image['id']: [] for image in images}
    for result in results:
        if result['image_id'] not in instances:
            raise FormatError(f'{source}: image_id {result["image_id"]!r} is not in {images_file}')
        instances[result['image_id']].append(result)
    numbered: dict[str, list[tuple[int, Any]]] = {}
    for image in images:
        path = PurePosixPath(image['file_name'])
        stem, number = recordings.frame_number(path.stem) or (path.stem, 0)
        name = path.parent.as_posix() if path.parent.name else stem
        numbered.setdefault(name, []).append((number, image['id']))
    return {
        name: [instances[identity] for _, identity in sorted(frames, key=lambda pair: pair[0])]
        for name, frames in sorted(numbered.items())
    }


def read_frames(job: Job) -> list[Frame | ClipError | None]:
    """Frames of one recording, from a file or from what `group_results` gave."""
    if isinstance(job.content, Path):
        shown = job.shown(job.content)
        frames = split_frames(recordings.load_json(job.content, shown), shown)
    else:
        shown, frames = job.root.name, job.content
    return [read_frame(instances, shown, number) for number, instances in enumerate(frames)]


def split_frames(content: Any, shown: str) -> list[list[dict]]:
    """Instances of every frame, whichever of the three forms the file has.

    Raises:
        ClipError: It has none of them.
    """
    if isinstance(content, dict):
        content = content.get('instance_info')
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ClipError(
            common.UNREADABLE, shown, None, 'neither MMPose predictions nor COCO results'
        )
    if not content:
        raise ClipError(common.EMPTY, shown, None, 'there are no frames')
    if all(isinstance(item.get('instances'), list) for item in content):
        if all(isinstance(item.get('frame_id'), int) for item in content):
            content = sorted(content, key=lambda item: item['frame_id'])
        return [item['instances'] for item in content]
    if all('image_id' in item for item in content):
        return frames_by_image(content, shown)
    if all('keypoints' in item for item in content):
        detail = 'these are the persons of one picture; a clip needs frames'
        raise ClipError(common.UNREADABLE, shown, None, detail)
    raise ClipError(common.UNREADABLE, shown, None, 'some frames lack the list "instances"')


def frames_by_image(results: Sequence[dict], shown: str) -> list[list[dict]]:
    """Frames of COCO results whose image ids are frame numbers; a number that lacks has nobody."""
    numbers = []
    for result in results:
        identity = result['image_id']
        named = recordings.frame_number(Path(str(identity)).stem)
        if named is None:
            detail = f'image_id {identity!r} is no frame number; give --images'
            raise ClipError(common.UNREADABLE, shown, None, detail)
        numbers.append(named[1])
    first, span = min(numbers), max(numbers) - min(numbers) + 1
    if span > SPARSEST * len(set(numbers)):
        detail = f'image ids {first} to {max(numbers)} are no frame numbers; give --images'
        raise ClipError(common.UNREADABLE, shown, None, detail)
    frames: list[list[dict]] = [[] for _ in range(span)]
    for number, result in zip(numbers, results, strict=True):
        frames[number - first].append(result)
    return frames


def read_frame(instances: list[dict], shown: str, number: int) -> Frame | ClipError | None:
    """The persons of one frame."""
    if not instances:
        return None
    if not all(isinstance(instance, dict) for instance in instances):
        detail = f'frame {number}: a person is not an object with "keypoints"'
        return ClipError(common.UNREADABLE, shown, None, detail)
    try:
        persons = np.stack([joints(instance, shown, number) for instance in instances])
    except ClipError as error:
        return error
    ids = [instance.get('track_id') for instance in instances]
    distinct = None not in ids and len(set(ids)) == len(ids)
    frame_ids = tuple(ids) if distinct else None
    return recordings.make_frame(persons[..., :2], persons[..., 2], shown, None, frame_ids)


def joints(instance: dict, shown: str, number: int) -> np.ndarray:
    """float32 (17, 3) of one person: x, y, score.

    Raises:
        ClipError: Another number of joints, or something that is not a number.
    """
    where = f'frame {number}: '
    try:
        values = np.array(instance['keypoints'], np.float32)
        scores = instance.get('keypoint_scores')
        scores = None if scores is None else np.array(scores, np.float32)
    except KeyError:
        raise ClipError(
            common.UNREADABLE, shown, None, where + 'a person has no "keypoints"'
        ) from None
    except (TypeError, ValueError):
        detail = where + 'a keypoint is not a number, or lacks a coordinate'
        raise ClipError(common.NON_NUMERIC, shown, None, detail) from None
    if values.ndim == 1 and len(values) % 3 == 0:
        values = values.reshape(-1, 3)
    if values.ndim != 2 or values.shape[1] not in (2, 3) or len(values) not in ACCEPTED:
        count = len(values) if values.ndim == 2 else values.size / 3
        reason = common.LONG_ROW if count > JOINTS else common.SHORT_ROW
        detail = f'{where}keypoints of shape {values.shape}, expected {JOINTS} joints'
        raise ClipError(reason, shown, None, detail)
    if scores is None:
        scores = values[:, 2] if values.shape[1] == 3 else np.ones(len(values), np.float32)
    if scores.shape != (len(values),):
        detail = f'{where}{scores.size} keypoint_scores for {len(values)} joints'
        raise ClipError(common.SHORT_ROW, shown, None, detail)
    return np.concatenate([values[:JOINTS, :2], scores[:JOINTS, None]], axis=1)


def read(job: Job) -> Parsed:
    """Cut the labelled clips out of one recording."""
    return recordings.read_recording(job, read_frames)


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Splits of the user's own choice."""
    return recordings.collect_recordings(clips, plan, options, 'coco17', 'coco')
