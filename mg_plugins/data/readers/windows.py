"""iMiGUE and SMG: a skeleton CSV (a row a frame) and a label CSV (a row a clip) a recording."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mg_plugins.data.classes import get_classes, protocol
from mg_plugins.data.hands import attach_hands

from . import common, parsing, tables
from .common import Clip, ClipError, Dataset, FormatError, Options, Parsed, Plan, reading
from .sources import Entry, Source

SWAPPED = [*range(12), *range(17, 22), *range(12, 17)]
# A median over about this many frames, spread over all clips, says enough about the hands.
HAND_FRAMES = 20_000
RELEASED = {'imigue_skeleton_train': 'train', 'imigue_skeleton_validate': 'val',
            'imigue_skeleton_test': 'test'}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One recording; clips are called `<name>_<start>_<end>_<label>`."""

    name: str
    skeleton: Entry
    labels: Entry
    split: str | None
    known: dict
    options: Options


def plan(source: Source, options: Options) -> Plan:
    """One job a recording."""
    spec = common.format_entry(options['format'])['set']
    table = options.get('subjects')
    subjects = read_subjects(table) if table else None
    name = re.compile(rf'(.*?)({spec["id"]})_({spec["skeleton"]}|{spec["labels"]})\.csv$')
    files = {entry.name: entry for entry in source.find(rf'{spec["id"]}_\w+\.csv$')}
    found = [match.groups() for file in files if (match := name.match(file))]
    if not any(kind == spec['skeleton'] for _, _, kind in found):
        raise source.refuse(options['format'])
    plan = Plan([], context=dict(subjects=subjects))
    unlisted = []
    for folder, recording in sorted({match[:2] for match in found}):
        paths = [f'{folder}{recording}_{k}.csv' for k in (spec['skeleton'], spec['labels'], 'data')]
        skeleton, labels, data = (files.get(p) or Entry(p, source.path / p) for p in paths)
        number = int(re.search(r'\d+', recording)[0])
        if options['format'] == 'smg':  # sample N is subject N
            known = dict(subject=str(number), fps=read_fps(data))
        else:
            known = (subjects or {}).get(number, {})
            if subjects is not None and not known:
                unlisted.append(recording)
        split = released_split(source.path, folder)
        known = dict(session=recording, fps=spec.get('fps')) | known
        plan.jobs.append(Job(recording, skeleton, labels, split, known, options))
    if unlisted:
        plan.notes.append(
            f'{len(unlisted)} videos are not in {table} and so in no cross-subject '
            f'or emotion split: {", ".join(unlisted[:10])}' + ' …' * (len(unlisted) > 10)
        )
    return plan


def released_split(source: Path, folder: str) -> str | None:
    """The split that the release puts a video's folder in, by the folder's parents."""
    names = (*source.resolve().parts, *PurePosixPath(folder).parts)
    found = [RELEASED[name] for name in names if name in RELEASED]
    return found[-1] if found else None


def read_fps(entry: Entry) -> float | None:
    """Frames a second by a sample's `_data.csv`, None if that says nothing."""
    try:
        fps = parsing.parse_float(entry.lines()[0].split(',')[1])
    except (ClipError, IndexError):
        return None
    return fps if fps and 0 < fps < 1000 else None


def read_subjects(path: str) -> dict[int, dict]:
    """Subject and outcome of every video, from a table with a row a video or a row a gesture."""
    subjects: dict[int, dict] = {}
    words = dict(common.words('imigue'))
    outcomes = words.pop('outcomes')
    for line, row in tables.read_table(path, ('video', 'subject'), ('outcome',), words):
        video = parsing.parse_int(PurePosixPath(row['video']).stem)
        subject = parsing.parse_int(row['subject'])
        outcome = row.get('outcome', '').lower()
        wrong = None
        if video is None or subject is None:
            wrong = 'video and subject must be whole numbers'
        elif outcome and outcome not in outcomes:
            expected = ', '.join(protocol('imigue', 'emotion')['outcomes'])
            wrong = f'outcome {outcome!r}, expected {expected} or nothing'
        else:
            known = dict(subject=str(subject))
            known |= {'outcome': outcomes[outcome]} if outcome else {}
            if subjects.setdefault(video, known) != known:
                wrong = f'video {video} has {known} here and {subjects[video]} before'
        if wrong:
            raise FormatError(f'{path}, line {line}: {wrong}')
    return subjects


def read(job: Job) -> Parsed:
    """Cut the labelled clips out of one recording.

    Only rows inside of clips are parsed, so a broken row costs the clips that contain it and no
    others; in a whole recording, it is a frame without joints.
    """
    parsed, spec = Parsed(), common.format_entry(job.options['format'])['set']
    columns = spec['columns']
    starts = (spec['first'] + spec['stride'] * joint for joint in spec['joints'])
    used = [start + number for start in starts for number in range(3)]
    classes = len(get_classes(job.options['format']))
    labels_name, skeleton_name = job.labels.name, job.skeleton.name
    lines: list[str] = []
    with parsed.listing(job.name, labels_name):
        labels = job.labels.lines()
        if not labels:
            raise ClipError('there are no labels', common.EMPTY)
        with reading(skeleton_name):
            lines = job.skeleton.lines()
            if not lines:
                raise ClipError('there are no frames', common.EMPTY)
    if not lines:
        return parsed
    first = 1
    if is_header(lines[0]):
        parsed.counts['skeleton files began with a header row; frame 0 is the row after it'] += 1
        first, lines = 2, lines[1:]

    windows = []
    for number, row in enumerate(labels, 1):
        window = None
        if not row.strip():
            continue
        with parsed.listing(f'{job.name} label {number}', labels_name):
            gesture, start, end = parse_window(row, number)
            label = spec.get('others', {}).get(str(gesture), gesture - 1)
            if not 0 <= label < classes:
                raise ClipError(f'there is no gesture {gesture}', common.LABEL_RANGE, number)
            window = label, start, end
        if window is None:
            continue
        name = f'{job.name}_{start:05d}_{end:05d}_{label:02d}'
        with parsed.listing(name, labels_name):
            common.check_window(start, end, len(lines), number)
            windows.append(window)
            with reading(skeleton_name):
                rows = parsing.parse_rows(lines[start : end + 1], columns, first + start, ',', used)
                annotation = annotate(spec, name, label, rows, start=start, end=end, **job.known)
                common.check_content(annotation, first + start)
            parsed.clips.append(Clip(annotation, labels_name, number, job.split))
    if job.options['keep_recordings'] and windows:
        rows, broken = read_all(lines, columns, used)
        parsed.counts['rows that cannot be read are frames without joints'] += broken
        segments = common.make_segments(windows, len(rows))
        annotation = annotate(spec, job.name, None, rows, segments=segments, **job.known)
        parsed.clips.append(Clip(annotation, skeleton_name, None, job.split))
    return parsed


def parse_window(line: str, number: int) -> tuple[int, ...]:
    """A label row `gesture id, start, end`."""
    fields = line.split(',')
    if len(fields) != 3:
        reason = common.SHORT_ROW if len(fields) < 3 else common.LONG_ROW
        detail = f'{len(fields)} fields, expected gesture id, start, end'
        raise ClipError(detail, reason, number)
    values = tuple(map(parsing.parse_int, fields))
    for name, text, value in zip(('gesture id', 'start', 'end'), fields, values, strict=True):
        if value is None:
            detail = f'{name} {parsing.shorten(text)!r} is not a whole number'
            raise ClipError(detail, common.NON_NUMERIC, number)
    return values


def annotate(spec: Mapping, frame_dir: str, label: int | None, rows: np.ndarray, **known) -> dict:
    """Annotation of the used columns of some rows."""
    joints = rows.reshape(1, len(rows), -1, 3)
    if 'size' not in spec:
        return common.make_annotation(frame_dir, label, joints, **known)
    points, score, size = joints[..., :2], joints[..., 2], tuple(spec['size'])
    return common.make_annotation(frame_dir, label, points, score, size, **known)


def read_all(lines: Sequence[str], columns: int, used: list[int]) -> tuple[np.ndarray, int]:
    """All rows (T, len(used)), zeros for those that cannot be parsed, and how many those are."""
    try:
        return parsing.parse_rows(lines, columns, used=used), 0
    except ClipError:
        rows, broken = np.zeros((len(lines), len(used)), np.float32), 0
    for number, line in enumerate(lines):
        try:
            rows[number] = parsing.parse_rows([line], columns, used=used)
        except ClipError:
            broken += 1
    return rows, broken


def is_header(line: str) -> bool:
    """Whether a first row names columns: no cell is a number, or they count 0, 1, 2 …"""
    values = [parsing.parse_float(cell) for cell in line.split(',')]
    if not any(value is not None for value in values):
        return bool(line.strip())
    counted = values[1:]
    count = len(counted)
    return count > 2 and counted in (list(range(count)), list(range(1, count + 1)))


def collect(clips: list[Clip], extras: list, plan: Plan, options: Options) -> Dataset:
    """Splits by release and by protocol, and for iMiGUE the decision about the hands."""
    name, subjects, notes = options['format'], plan.context['subjects'], []
    entry = common.format_entry(name)
    split: dict[str, list[str]] = {}
    if name == 'imigue':
        notes.append(match_hands(clips))
        common.split_clips(clips, lambda clip: clip.split, split)
    if name == 'imigue' and subjects is None:
        notes.append(
            'only the splits of the release were written. The published protocols need to know the '
            'subject of each video, which the release does not say: give --subjects CSV'
        )
        if not split:
            common.split_clips(clips, lambda _: 'all', split)
    else:
        notes += common.split_by_subject(clips, name, split)
    if subjects is not None:
        published = protocol('imigue')
        notes.append(
            f'published clips: xsub_train {published["train_clips"]}, '
            f'xsub_val {published["test_clips"]}'
        )
        emotion, half = protocol('imigue', 'emotion'), {}
        for part, videos in (('emotion_train', 'train_videos'), ('emotion_test', 'test_videos')):
            split[part] = []
            half |= dict.fromkeys(emotion[videos], part)
        known = [clip for clip in clips if 'outcome' in clip.annotation]
        common.split_clips(known, lambda clip: half.get(int(clip.annotation['session'])), split)
    return Dataset(split, entry['layout'], get_classes(name), notes, [entry['unit']])


def match_hands(clips: list[Clip]) -> str:
    """Decide which wrist carries which fingertips; make the arrays agree with `imigue22`.

    Returns:
        A note on the decision.
    """
    annotations = [clip.annotation for clip in clips]
    step = -(-sum(annotation['total_frames'] for annotation in annotations) // HAND_FRAMES)
    _, report = attach_hands(
        'imigue22',
        [annotation['keypoint'][:, ::step] for annotation in annotations],
        [annotation['keypoint_score'][:, ::step] for annotation in annotations],
    )
    pairs = report['median_distance'].items()
    distances = ', '.join(f'{pair} {distance:.1f}' for pair, distance in pairs)
    if not report['decided']:
        return (
            'hands: too few fingertips were detected to say which wrist is theirs; left as released'
        )
    if not report['swapped']:
        return f'hands: fingertips 12-16 belong to wrist 4 (median distance in pixels: {distances})'
    for annotation in annotations:
        for key in ('keypoint', 'keypoint_score'):
            annotation[key][:] = annotation[key][:, :, SWAPPED]
    return (
        'hands: the released fingertips 12-16 belong to wrist 7, so 12-16 and 17-21 changed places '
        f'to fit the layout (median distance in pixels before that: {distances})'
    )
