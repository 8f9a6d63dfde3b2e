"""Users' own recordings from pose estimators: JSON, tables, text; cut by frame number."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mg_plugins.data.layouts import get_layout, joint_parts, layout_names, relayout

from . import bvh, common, landmarks, posejson, tables, takes
from .common import MISSING_FILE, NON_NUMERIC, ClipError, Job, Options, Parsed, Plan, expect
from .sources import Entry, Source, parse_float
from .tables import LabelRow
from .tables import collect as collect
from .takes import Person, Take

# Files that hold one frame each; their names end in its number, as those of pictures do.
FRAME_FILE = re.compile(r'(?P<stem>.*?)[_\-. ]?(?P<number>\d+)(_keypoints\.json|\.txt)$')
PARSERS = {'.json': posejson, '.bvh': bvh, '.csv': landmarks, '.tsv': landmarks}
YOLO_HEAD = 5  # class, box


def plan(source: Source, options: Options) -> Plan:
    """One job a recording, matched with the labels."""
    plan = Plan([], context=dict(layout=takes.check_layout(options['layout'])))
    options = dict(options, size=tables.parse_size(options['size']))
    found, table = group(source, options, plan.notes), options['labels']
    if not table:
        plan.jobs = [Job(name, content, (), options) for name, content in found.items()]
        return plan
    said = tables.read_labels(table, options['classes'], options['first_label'])
    rows, plan.context['classes'], plan.rejects, notes = said
    plan.notes += notes
    mentioned = {reject.clip for reject in plan.rejects}
    for row in (row for name in rows if name not in found for row in rows[name]):
        detail = f'there is no recording {row.clip!r}; there is {next(iter(found))!r}'
        plan.rejects.append(ClipError(detail, MISSING_FILE, row.line, row.file, row.frame_dir))
    detail = 'the labels do not mention this recording'
    for name, content in found.items():
        if name in rows:
            plan.jobs.append(Job(name, content, rows[name], options))
        elif name not in mentioned:
            plan.rejects.append(ClipError(detail, common.NO_LABEL, None, Path(table).name, name))
    return plan


def group(source: Source, options: Options, notes: list[str]) -> dict[str, Any]:
    """Recordings by name: a file, or a list of (frame number, file)."""
    own = {os.path.realpath(options[key]) for key in ('labels', 'classes') if options[key]}
    found: list[tuple[str, Any]] = []
    frames: dict[tuple[str, str], list[tuple[int, Entry]]] = {}
    for entry in source.entries:
        if own and isinstance(entry.place, Path) and os.path.realpath(entry.place) in own:
            continue
        match, path = FRAME_FILE.match(entry.path.name), entry.path
        if match and (path.suffix == '.json' or options['format'] in ('yolo', 'poses')):
            key = (path.parent.as_posix(), match['stem'])
            frames.setdefault(key, []).append((int(match['number']), entry))
        elif path.suffix.lower() in PARSERS:
            found.append((path.with_suffix('').as_posix(), entry))
    folders = Counter(folder for folder, _ in frames)
    for (folder, stem), files in sorted(frames.items()):
        alone = folder != '.' and folders[folder] == 1
        name = folder if alone else PurePosixPath(folder, stem).as_posix()
        found.append((name, sorted(files, key=lambda pair: pair[0])))
    source.need(found, options['format'])
    recordings: dict[str, Any] = {}
    for name, content in found:
        kept = recordings.setdefault(name, content)
        if kept is not content:
            files = (c.name if isinstance(c, Entry) else c[0][1].name for c in (content, kept))
            notes.append('{} was left out: {} has the same name'.format(*files))
    return recordings


def persons_of(file: Entry, walk: posejson.Walk) -> Iterator[Person]:
    """Persons of one frame: in a list of OpenPose, or a line each of YOLO-pose."""
    if file.path.suffix != '.txt':
        content = file.json()
        people = content.get('people') if isinstance(content, dict) else None
        expect(isinstance(people, list), 'there is no list "people"')
        yield from walk.persons(people)
        return
    walk.take.unit = 'fractions'
    for number, line in enumerate(file.lines(), 1):
        cells = line.split()
        expect(None not in map(parse_float, cells), 'a cell is not a number', NON_NUMERIC, number)
        values = np.array(cells[YOLO_HEAD:], np.float32)
        for each in (3, 2):  # x y visible of each joint, or x y
            count, rest = divmod(len(values), each)
            if count in (17, 21, 26, 133) and rest <= 2:
                joints = values[: each * count].reshape(count, each)
                # What follows the joints is the box's confidence, then the track.
                identity = cells[-1] if rest == 2 else None
                yield joints[:, :2], joints[:, 2] if each == 3 else None, identity
                break
        else:
            detail = f'{len(cells)} numbers, expected class, box and 17 joints of x y visible'
            raise ClipError(detail, common.SHORT_ROW, number)


def read(job: Job) -> Parsed:
    """Cut the clips out of one recording: of a file, or of files of one frame each."""
    parsed, content, options = Parsed(), job.content, job.options
    take = Take(options, common.FORMATS[options['format']].get('family', 'coco'))
    file = getattr(content, 'name', job.name)
    rows = job.known or [LabelRow(job.name, None, file, None)]
    try:
        with common.reading(file):
            if isinstance(content, list):
                walk, take.numbered = posejson.Walk(take), True
                for number, frame in content:
                    take.add(number, persons_of(frame, walk), frame.name)
            else:
                PARSERS[content.path.suffix.lower()].parse(content, take)
            takes.finish(take, next((row.size for row in rows if row.size), None))
    except ClipError as error:
        parsed.rejects = [replace(error, clip=row.frame_dir) for row in rows]
        return parsed
    parsed.counts, frames = take.counts, range(take.first, take.last + 1)
    tables.cut(parsed, job, file, rows, frames, partial(annotate, job, take, file))
    for clip in parsed.clips:
        clip.layout = take.layout.name if take.layout.name in layout_names() else take.layout
        if take.label and not job.known:
            clip.annotation['label'] = take.label
    return parsed


def annotate(job: Job, take: Take, file: str, row: LabelRow, whole: bool) -> dict:
    """The annotation of one row of the labels; frames that the files leave out have no joints."""
    start, end = (take.first, take.last) if row.start is None else (row.start, row.end)
    for number in () if whole else sorted(n for n in take.broken if start <= n <= end):
        with common.reading(file):
            raise take.broken[number]
    found = take.found.between(start, end)
    expect(len(found.frame), f'nobody was detected in {end - start + 1} frames', common.ALL_ZERO)
    keypoint, score, said = take.assemble(found, start, end)
    take.counts += Counter() if whole else said
    wanted = get_layout(job.options['layout'] or take.layout)
    if wanted.joints != take.layout.joints:
        keypoint, score = relayout(keypoint, score, joint_parts(take.layout, wanted))
    known = dict(session=job.name, start=start, end=end, fps=take.fps) | row.known
    return common.make_annotation(row.frame_dir, row.label, keypoint, score, take.size, **known)
