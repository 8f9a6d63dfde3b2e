"""Users' own recordings from a pose estimator: JSON, tables, text; clips are cut by frame number.

What a file holds decides how it is read. The formats openpose, coco, mediapipe, yolo … differ in
what they expect and assume where a file leaves it open.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mg_plugins.data.layouts import get_layout, layout_names
from mg_plugins.data.relayout import joint_parts, relayout

from . import bvh, common, landmarks, people, posejson, tables, takes
from .common import Clip, ClipError, Dataset, FormatError, Options, Parsed, Plan, reading
from .sources import Entry, Source
from .tables import LabelRow
from .takes import Take

# Files that hold one frame each; their names end in its number.
FRAME_FILE = re.compile(r'(?P<stem>.*?)[_\-. ]?(?P<number>\d+)(_keypoints\.json|\.txt)$')
SUFFIXES = ('.json', '.csv', '.tsv', '.bvh')
YOLO_HEAD = 5  # class, box


@dataclass(frozen=True)
class Job:
    """One recording: its files, and its rows of the labels (none: one clip, no label)."""

    name: str
    content: Any
    rows: tuple[LabelRow, ...]
    options: dict


def plan(source: Source, options: Options) -> Plan:
    """One job a recording, matched with the labels."""
    plan, options = Plan([]), check_options(options)
    if options.get('images'):
        found = by_images(source, options)
    else:
        own = {Path(options[key]).resolve() for key in ('labels', 'classes') if options[key]}
        entries = [
            entry for entry in source.entries
            if not (own and isinstance(entry.place, Path) and entry.place.resolve() in own)
        ]  # fmt: skip
        found = group(entries, options, plan.notes)
        if not found:
            raise source.refuse(options['format'])
    plan.context['classes'] = None
    if not options['labels']:
        plan.jobs = [Job(name, content, (), options) for name, content in found.items()]
        return plan
    labels = tables.read_labels(options['labels'], options['classes'], options['first_label'])
    plan.rejects, plan.notes = labels.rejects, plan.notes + labels.notes
    plan.context['classes'] = labels.classes
    mentioned = {reject.clip for reject in labels.rejects}
    for name, rows in labels.rows.items():
        if name not in found:
            detail = f'there is no recording {name!r} in {source.path.name or source}'
            for row in rows:
                error = ClipError(detail, common.MISSING_FILE, row.line, row.file)
                plan.rejects.append(error.reject(row.frame_dir))
    for name, content in found.items():
        if name in labels.rows:
            plan.jobs.append(Job(name, content, tuple(labels.rows[name]), options))
        elif name not in mentioned:
            detail = 'the labels do not mention this recording'
            error = ClipError(detail, common.NO_LABEL, file=labels.file)
            plan.rejects.append(error.reject(name))
    return plan


def check_options(options: Options) -> dict:
    """Options as jobs use them."""
    if options['max_persons'] < 1:
        raise FormatError(f'--max-persons {options["max_persons"]} must be at least 1')
    for name in ('max_score', 'fps'):
        if options[name] is not None and not 0 < options[name] < 1e6:
            raise FormatError(f'--{name.replace("_", "-")} {options[name]:g} must be above 0')
    if options['unit'] not in (None, *takes.UNITS):
        raise FormatError(f'--unit {options["unit"]} must be one of {", ".join(takes.UNITS)}')
    takes.check_layout(options['layout'])
    return dict(options, size=tables.parse_size(options['size']))


def group(entries: list[Entry], options: Options, notes: list[str]) -> dict[str, Any]:
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
    folders = Counter(folder for folder, _ in frames)
    for (folder, stem), files in sorted(frames.items()):
        alone = folder != '.' and folders[folder] == 1
        name = folder if alone else PurePosixPath(folder, stem).as_posix()
        found[name] = sorted(files, key=lambda pair: pair[0])
    return found


def by_images(source: Source, options: Options) -> dict[str, list[tuple[int, Any]]]:
    """Results of many recordings in one file, with the file that says which picture is which."""
    file = Path(options['images'])
    try:
        images = Entry(file.name, file).json()
        images = images.get('images') if isinstance(images, dict) else None
        results = source.entries[0].json()
    except ClipError as error:
        raise FormatError(f'{error.file}: {error.detail}') from None
    if not images or not lists_dicts_with(images, 'id', 'file_name'):
        raise FormatError(f'--images {file} must hold a list "images" with id and file_name')
    if not lists_dicts_with(results, 'image_id', 'keypoints'):
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


def lists_dicts_with(value: Any, *keys: str) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict) and set(keys) <= set(item) for item in value
    )


def read_take(job: Job) -> Take:
    """The take of one recording."""
    content, options = job.content, job.options
    family = common.format_entry(options['format']).get('family', 'coco')
    if isinstance(content, list):
        return read_frames(content, job.name, options, family)
    suffix = content.path.suffix.lower()
    if suffix == '.json':
        return posejson.parse_poses(content.json(), options, family)
    if suffix == '.bvh':
        return bvh.parse(content.lines())
    return landmarks.parse_table(content.lines(), options)


def read_frames(files: list[tuple[int, Any]], name: str, options: Options, family: str) -> Take:
    """A take of files, or lists of persons, of one frame each."""
    take = Take(family=family, numbered=True, numbers=[number for number, _ in files])
    walk = posejson.Walk(options, take)
    text = isinstance(files[0][1], Entry) and files[0][1].path.suffix == '.txt'
    for number, content in files:
        try:
            with reading(getattr(content, 'name', name)):
                if text:
                    found = [read_yolo(line, n) for n, line in enumerate(content.lines(), 1)]
                else:
                    one = people_of(content) if isinstance(content, Entry) else content
                    found = list(walk.persons(one))
        except ClipError as error:
            take.broken[number] = error
        else:
            take.persons += [(number, *person) for person in found]
    take.unit = 'fractions' if text else take.unit
    return take


def people_of(entry: Entry) -> Any:
    """The persons of one OpenPose file."""
    content = entry.json()
    if not isinstance(content, dict) or not isinstance(content.get('people'), list):
        raise ClipError('there is no list "people"')
    return content['people']


def read_yolo(line: str, number: int) -> tuple[np.ndarray, np.ndarray | None, Any]:
    """A person of YOLO-pose: class, box, then x y [visible] a joint, maybe a confidence and id."""
    cells = line.split()
    try:
        values = np.array(cells, np.float32)
    except ValueError:
        raise ClipError('a cell is not a number', common.NON_NUMERIC, number) from None
    for each in (3, 2):
        count, rest = divmod(len(values) - YOLO_HEAD, each)
        if count in (17, 21, 26, 133) and rest <= 2:
            joints = values[YOLO_HEAD : YOLO_HEAD + each * count].reshape(count, each)
            # What follows the joints is the box's confidence, then the track.
            identity = cells[-1] if rest == 2 else None
            return joints[:, :2], joints[:, 2] if each == 3 else None, identity
    detail = f'{len(values)} numbers, expected class, box and 17 joints of x y visible'
    raise ClipError(detail, common.SHORT_ROW, number)


def read(job: Job) -> Parsed:
    """Cut the clips out of one recording.

    Returns:
        Clips and rejects; `extra` is (layout, {clip id: class name that the file gives}, ids).
    """
    parsed, take = Parsed(), None
    rows = job.rows or (LabelRow(job.name, None, job.name, None),)
    file = getattr(job.content, 'name', job.name)
    size = next((row.size for row in rows if row.size), None)
    try:
        with reading(file):
            take = read_take(job)
            for error in take.broken.values():
                error.file = error.file or file
            parsed.counts = takes.finish(take, job.options, size)
    except ClipError as error:
        parsed.rejects += [error.reject(row.frame_dir) for row in rows]
        return parsed
    for row in rows:
        with parsed.listing(row.frame_dir, file):
            annotation = cut_clip(job, row, take, parsed.counts)
            parsed.clips.append(Clip(annotation, row.file, row.line, row.split))
    named = {}
    if take.label:
        named = {row.frame_dir: take.label for row in rows if row.label is None}
    windows = [(row.label, row.start, row.end) for row in rows if row.start is not None]
    if job.options['keep_recordings'] and windows:
        row = rows[0]
        split = row.split if len({other.split for other in rows}) == 1 else None
        whole = LabelRow(job.name, None, row.file, None, split=split, known=row.known)
        take.broken = {}
        annotation = cut_clip(job, whole, take, Counter())
        first = take.first
        inside = [(name, max(a, first) - first, b - first) for name, a, b in windows if b >= first]
        annotation['segments'] = common.make_segments(inside, annotation['total_frames'])
        parsed.clips.append(Clip(annotation, file, None, split))
    parsed.extra = (take.layout, named, {clip.annotation['frame_dir'] for clip in parsed.clips})
    return parsed


def cut_clip(job: Job, row: LabelRow, take: Take, counts: Counter[str]) -> dict:
    """The annotation of one row of the labels.

    Frames that the files leave out are frames without joints.
    """
    first, last = take.first, take.last
    start, end = (first, last) if row.start is None else (row.start, row.end)
    with reading(row.file):
        common.check_window(start, end, last + 1 - first, row.line, first)
        for number in sorted(take.broken):
            if start <= number <= end:
                raise take.broken[number]
        frames, found = end - start + 1, take.found.between(start, end)
        if not len(found.frame):
            detail = f'nobody was detected in any of the {frames} frames'
            raise ClipError(detail, common.ALL_ZERO, row.line)
        most, who = job.options['max_persons'], job.options['person']
        try:
            keypoint, score, said = people.assemble(found, start, frames, most, who, take.size)
        except ValueError as error:
            raise ClipError(str(error), common.ALL_ZERO, row.line) from None
        counts += said
        wanted = get_layout(job.options['layout'] or take.layout)
        if wanted.joints != take.layout.joints:
            keypoint, score = relayout(keypoint, score, joint_parts(take.layout, wanted))
        known = dict(session=job.name, start=start, end=end, fps=take.fps) | row.known
        annotation = common.make_annotation(
            row.frame_dir, row.label, keypoint, score, take.size, **known
        )
        common.check_content(annotation, row.line)
    return annotation


def collect(clips: list[Clip], extras: list, plan: Plan, options: Options) -> Dataset:
    """Splits of the user's own choice, classes, layout, and the meta of the set.

    Recordings with other joints than most are rejected, unless --layout brings all to one.
    """
    extras, rejects = [extra for extra in extras if extra], []
    layout = takes.check_layout(options['layout'])
    if layout is None:
        usual, _ = Counter(extra[0] for extra in extras if extra[2]).most_common(1)[0]
        other = {name: own.name for own, _, names in extras if own != usual for name in names}
        for clip in clips:
            if own := other.get(clip.annotation['frame_dir']):
                detail = (
                    f'its joints are {own}, those of most recordings {usual.name}: give '
                    '--layout with one that all can be brought to, or convert it apart'
                )
                error = ClipError(detail, line=clip.line, file=clip.file)
                rejects.append(error.reject(clip.annotation['frame_dir']))
        clips[:] = [clip for clip in clips if clip.annotation['frame_dir'] not in other]
        layout = usual.name if usual.name in layout_names() else usual.as_dict()
    classes = plan.context['classes']
    split, notes = tables.user_splits(clips, options['val_subjects'])
    if classes is None:
        named = {clip_id: label for _, labels, _ in extras for clip_id, label in labels.items()}
        given = options['classes']
        classes = tables.read_classes(given) if given else sorted(set(named.values()))
        for clip in clips:
            label = named.get(clip.annotation['frame_dir'])
            if label in classes:
                clip.annotation['label'] = classes.index(label)
        bare = sum('label' not in clip.annotation for clip in clips)
        if bare:
            notes.append(f'{bare} clips have no label: give --labels CSV to train on them')
    return Dataset(split, layout, classes, notes, rejects=rejects)
