"""Users' own recordings from a pose estimator: JSON, tables, text; see `formats.json`.

What a file holds decides how it is read. The formats openpose, coco, mediapipe, yolo … differ in
what they expect and assume where a file leaves it open.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from . import bvh, common, landmarks, posejson, recordings
from .common import Clip, ClipError, Dataset, FormatError, Parsed, Plan
from .recordings import Job
from .sources import Entry, Source
from .takes import Take

# Files that hold one frame each; their names end in its number.
FRAME_FILE = re.compile(r'(?P<stem>.*?)[_\-. ]?(?P<number>\d+)(_keypoints\.json|\.txt)$')
SUFFIXES = ('.json', '.csv', '.tsv', '.bvh')
YOLO_HEAD = 5  # class, box


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """One job a recording."""
    notes: list[str] = []
    if options.get('images'):
        found = by_images(source, options)
    else:
        own = {Path(options[key]).resolve() for key in ('labels', 'classes') if options[key]}
        entries = [e for e in source.entries if not (own and is_one_of(e, own))]
        found = group(entries, source, options, notes)
        if not found:
            raise source.refuse(options['format'])
    plan = recordings.plan_recordings(found, source, options)
    plan.notes += notes
    return plan


def is_one_of(entry: Entry, paths: set[Path]) -> bool:
    return isinstance(entry.place, Path) and entry.place.resolve() in paths


def group(
    entries: list[Entry], source: Source, options: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """Recordings by name: a file, or a list of (frame number, file)."""
    found: dict[str, Any] = {}
    frames: dict[tuple[str, str], list[tuple[int, Entry]]] = {}
    for entry in entries:
        match = FRAME_FILE.match(entry.path.name)
        if match and (entry.path.suffix == '.json' or options['format'] in ('yolo', 'poses')):
            key = (entry.path.parent.as_posix(), match['stem'])
            frames.setdefault(key, []).append((int(match['number']), entry))
        elif entry.path.suffix.lower() in SUFFIXES:
            name = entry.path.with_suffix('').as_posix()
            if name in found:
                notes.append(f'{entry.name} was left out: {found[name].name} has the same name')
            else:
                found[name] = entry
    folders = [folder for folder, _ in frames]
    for (folder, stem), files in sorted(frames.items()):
        alone = folder != '.' and folders.count(folder) == 1
        name = folder if alone else PurePosixPath(folder, stem).as_posix()
        found[name] = sorted(files, key=lambda pair: pair[0])
    return found


def by_images(source: Source, options: Mapping[str, Any]) -> dict[str, list[tuple[int, Any]]]:
    """Results of many recordings in one file, with the file that says which picture is which.

    Raises:
        FormatError: Either file is not what it should be.
    """
    file = Path(options['images'])
    try:
        images = Entry(file.name, file).json()
        images = images.get('images') if isinstance(images, dict) else None
        results = source.entries[0].json()
    except ClipError as error:
        raise FormatError(f'{error.file}: {error.detail}') from None
    if not isinstance(images, list) or not images or not all(
        isinstance(image, dict) and {'id', 'file_name'} <= set(image) for image in images
    ):  # fmt: skip
        raise FormatError(f'--images {file} must hold a list "images" with id and file_name')
    if not isinstance(results, list) or not all(
        isinstance(r, dict) and {'image_id', 'keypoints'} <= set(r) for r in results
    ):
        raise FormatError(
            f'{source} must be a list of COCO results with image_id and keypoints, as --images says'
        )
    persons: dict[str, list] = {str(image['id']): [] for image in images}
    for result in results:
        if str(result['image_id']) not in persons:
            raise FormatError(f'{source}: image_id {result["image_id"]!r} is not in {file}')
        persons[str(result['image_id'])].append(result)
    found: dict[str, list[tuple[int, Any]]] = {}
    for image in images:
        path = PurePosixPath(str(image['file_name']))
        match = re.search(r'(\d+)$', path.stem)
        stem = path.stem[: match.start()].rstrip('_-. ') if match else path.stem
        name = path.parent.as_posix() if path.parent.name else stem
        number = int(match[1]) if match else 0
        found.setdefault(name, []).append((number, persons[str(image['id'])]))
    return {name: sorted(found[name], key=lambda pair: pair[0]) for name in sorted(found)}


def read_take(job: Job) -> Take:
    """The take of one recording."""
    content, options = job.content, job.options
    family = common.format_entry(options['format']).get('family', 'coco')
    if isinstance(content, list):
        return read_frames(content, job.name, options, family)
    suffix = content.path.suffix.lower()
    if suffix == '.json':
        return posejson.parse_poses(content.json(), content.name, options, family)
    if suffix == '.bvh':
        return bvh.parse(content.lines(), content.name)
    return landmarks.parse_table(content.lines(), content.name, options)


def read_frames(
    files: list[tuple[int, Any]], name: str, options: Mapping[str, Any], family: str
) -> Take:
    """A take of files, or lists of persons, of one frame each."""
    take = Take([], family, numbered=True)
    walk = posejson.Walk(name, options, family)
    text = isinstance(files[0][1], Entry) and files[0][1].path.suffix == '.txt'
    for number, content in files:
        walk.file = content.name if isinstance(content, Entry) else name
        try:
            with common.reading(walk.file):
                if text:
                    lines = enumerate(content.lines(), 1)
                    found = [read_yolo(line, walk.file, n) for n, line in lines]
                elif isinstance(content, Entry):
                    found = list(walk.persons(people_of(content)))
                else:
                    found = list(walk.persons(content))
        except ClipError as error:
            take.broken[number] = error
        else:
            take.persons += [(number, *person) for person in found]
    take.frames, take.span = len(files), (files[0][0], files[-1][0])
    walk.describe(take)
    take.unit = 'fractions' if text else take.unit
    return take


def people_of(entry: Entry) -> Any:
    """The persons of one OpenPose file."""
    content = entry.json()
    if not isinstance(content, dict) or not isinstance(content.get('people'), list):
        raise ClipError(common.UNREADABLE, entry.name, None, 'there is no list "people"')
    return content['people']


def read_yolo(line: str, file: str, number: int) -> tuple[np.ndarray, np.ndarray | None, Any]:
    """A person of YOLO-pose: class, box, then x y [visible] a joint, maybe a confidence and id."""
    cells = line.split()
    try:
        values = np.array(cells, np.float32)
    except ValueError:
        raise ClipError(common.NON_NUMERIC, file, number, 'a cell is not a number') from None
    for each in (3, 2):
        count, rest = divmod(len(values) - YOLO_HEAD, each)
        if count in (17, 21, 26, 133) and rest <= 2:
            joints = values[YOLO_HEAD : YOLO_HEAD + each * count].reshape(count, each)
            # What follows the joints is the box's confidence, then the track.
            identity = cells[-1] if rest == 2 else None
            return joints[:, :2], joints[:, 2] if each == 3 else None, identity
    detail = f'{len(values)} numbers, expected class, box and 17 joints of x y visible'
    raise ClipError(common.SHORT_ROW, file, number, detail)


def read(job: Job) -> Parsed:
    """Cut the clips out of one recording."""
    return recordings.read_recording(job, read_take)


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Splits of the user's own choice."""
    return recordings.collect_recordings(clips, extras, plan, options)
