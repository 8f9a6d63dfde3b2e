"""iMiGUE and SMG: a skeleton CSV (a row a frame) and a label CSV (a row a clip) a recording."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePosixPath

import numpy as np

from mg_plugins.data.classes import get_classes, protocol
from mg_plugins.data.layouts import get_layout
from mg_plugins.data.storage import ARRAYS

from . import common, sets, tables
from .common import Clip, ClipError, Dataset, Job, Options, Parsed, Plan, expect, reading, require
from .sources import Entry, Source, parse_float, parse_int, parse_rows
from .tables import LabelRow

SWAPPED = [*range(12), *range(17, 22), *range(12, 17)]
# A median over about this many frames, spread over all clips, says enough about the hands.
HAND_FRAMES = 20_000


def plan(source: Source, options: Options) -> Plan:
    """One job a recording."""
    spec, table = common.FORMATS[options['format']]['set'], options.get('subjects')
    subjects, released = read_subjects(table) if table else None, spec.get('released', {})
    name = re.compile(rf'(.*?)({spec["id"]})_({spec["skeleton"]}|{spec["labels"]})\.csv$')
    files = {entry.name: entry for entry in source.find(rf'{spec["id"]}_\w+\.csv$')}
    found = [match.groups() for file in files if (match := name.match(file))]
    source.need(spec['skeleton'] in {kind for _, _, kind in found}, options['format'])
    plan, unlisted = Plan([], context=dict(subjects=subjects)), []
    for folder, recording in sorted({match[:2] for match in found}):
        paths = [f'{folder}{recording}_{k}.csv' for k in (spec['skeleton'], spec['labels'], 'data')]
        skeleton, labels, data = (files.get(p) or Entry(p, source.path / p) for p in paths)
        number = int(re.search(r'\d+', recording)[0])
        known = (subjects or {}).get(number, {})
        if options['format'] == 'smg':  # sample N is subject N
            known = dict(subject=str(number), fps=read_fps(data))
        elif subjects is not None and not known:
            unlisted.append(recording)
        # The split that the release puts a video's folder in, by the folder's parents.
        parents = (*source.path.resolve().parts, *PurePosixPath(folder).parts)
        split = ([None] + [released[part] for part in parents if part in released])[-1]
        known = split, dict(session=recording, fps=spec.get('fps')) | known
        plan.jobs.append(Job(recording, (skeleton, labels), known, options))
    if unlisted:
        what = f'videos are not in {table} and so in no cross-subject or emotion split'
        plan.notes.append(f'{len(unlisted)} {what}, such as {unlisted[0]}')
    return plan


def read_fps(entry: Entry) -> float | None:
    """Frames a second by a sample's `_data.csv`, None if that says nothing."""
    with suppress(ClipError, IndexError):
        fps = parse_float(entry.lines()[0].split(',')[1])
        return fps if fps and 0 < fps < 1000 else None


def read_subjects(path: str) -> dict[int, dict]:
    """Subject and outcome of every video, from a table with a row a video or a row a gesture."""
    subjects: dict[int, dict] = {}
    words = dict(common.WORDS['imigue'])
    outcomes, usual = words.pop('outcomes'), ', '.join(protocol('imigue', 'emotion')['outcomes'])
    for line, row in tables.read_table(path, ('video', 'subject'), ('outcome',), words):
        video, subject = parse_int(PurePosixPath(row['video']).stem), parse_int(row['subject'])
        outcome, where = row.get('outcome', '').lower(), f'{path}, line {line}'
        require(None not in (video, subject), f'{where}: video and subject must be whole numbers')
        fine = not outcome or outcome in outcomes
        require(fine, f'{where}: outcome {outcome!r}, expected {usual} or nothing')
        known = dict(subject=str(subject)) | ({'outcome': outcomes[outcome]} if outcome else {})
        before = subjects.setdefault(video, known)
        require(before == known, f'{where}: video {video} has {known} here and {before} before')
    return subjects


def read(job: Job) -> Parsed:
    """Cut the labelled clips out of one recording; a broken row costs those that contain it."""
    parsed, name = Parsed(), job.options['format']
    spec = common.FORMATS[name]['set']
    starts = (spec['first'] + spec['stride'] * joint for joint in spec['joints'])
    used = [start + number for start in starts for number in range(3)]
    (skeleton, table), (split, always), names = job.content, job.known, get_classes(name)
    lines, first, rows = [], 1, []
    with parsed.listing(job.name, table.name):
        labels = table.lines()
        expect(labels, 'there are no labels', common.EMPTY)
        with reading(skeleton.name):
            lines = skeleton.lines()
            expect(lines, 'there are no frames', common.EMPTY)
        # A header: no cell is a number, or they count 0, 1, 2 …
        cells = [parse_float(cell) for cell in lines[0].split(',')]
        named, wide = set(cells) == {None} and lines[0].strip(), len(cells)
        if named or (wide > 3 and cells[1:] in ([*range(wide - 1)], [*range(1, wide)])):
            parsed.counts['skeleton files began with a header row; frame 0 is the row after it'] = 1
            first, lines = 2, lines[1:]
        for number, line in ((n, line) for n, line in enumerate(labels, 1) if line.strip()):
            with parsed.listing(f'{job.name} label {number}', table.name, number):
                fields = [field.strip() for field in line.split(',')]
                reason = common.LONG_ROW if len(fields) > 3 else common.SHORT_ROW
                detail = f'{len(fields)} fields, expected gesture id, start, end'
                expect(len(fields) == 3 and all(fields), detail, reason)
                row = dict(zip(('label', 'start', 'end'), fields, strict=True), clip=job.name)
                other = spec.get('others', {}).get(str(parse_int(row['label'])), row['label'])
                row |= dict(label=other, split=split)
                rows.append(tables.parse_label_row(row, names, 1, table.name, number))

    def parse(start: int, end: int, lenient: bool = False) -> np.ndarray:
        """Rows of numbers; if lenient, zeros for those that cannot be read, which are counted."""
        try:
            return parse_rows(lines[start:end], spec['columns'], first + start, ',', used)
        except ClipError:
            if not lenient:
                raise
        if end - start > 1:  # halves: one bad row of many costs few readings
            middle = (start + end) // 2
            return np.concatenate([parse(start, middle, True), parse(middle, end, True)])
        parsed.counts['rows that cannot be read are frames without joints'] += 1
        return np.zeros((1, len(used)), np.float32)

    def annotate(row: LabelRow, whole: bool) -> dict:
        start, end = (0, len(lines)) if whole else (row.start, row.end + 1)
        with reading(skeleton.name, first + start):
            joints = parse(start, end, whole).reshape(1, end - start, -1, 3)
            score, size = None, spec.get('size')
            if size:
                joints, score, size = joints[..., :2], joints[..., 2], tuple(size)
            known = always | dict(start=row.start, end=row.end)
            return common.make_annotation(row.frame_dir, row.label, joints, score, size, **known)

    tables.cut(parsed, job, skeleton.name, rows, range(len(lines)), annotate)
    return parsed


def collect(clips: list[Clip], plan: Plan, options: Options) -> Dataset:
    """Splits by release and by protocol, and for iMiGUE the decision about the hands."""
    name, subjects, split = options['format'], plan.context['subjects'], {}
    if name == 'smg':
        return sets.collect(clips, plan, options)
    entry, classes = common.FORMATS[name], get_classes(name)
    notes = [match_hands(clips, entry['hands'])]
    common.split_clips(clips, lambda clip: clip.split, split)
    if subjects is None:
        if not split:
            common.split_clips(clips, lambda _: 'all', split)
        return Dataset(split, entry['layout'], classes, [*notes, *entry['notes']])
    published, emotion = protocol(name), protocol(name, 'emotion')
    notes += common.split_by_subject(clips, published, split, common.UNPUBLISHED)
    counts = published['train_clips'], published['test_clips']
    notes.append('published clips: xsub_train {}, xsub_val {}'.format(*counts))
    half = dict.fromkeys(emotion['train_videos'], 'emotion_train')
    half |= dict.fromkeys(emotion['test_videos'], 'emotion_test')
    split.update(emotion_train=[], emotion_test=[])
    known = [clip for clip in clips if 'outcome' in clip.annotation]
    common.split_clips(known, lambda clip: half.get(int(clip.annotation['session'])), split)
    return Dataset(split, entry['layout'], classes, notes)


def match_hands(clips: list[Clip], notes: Mapping[str, str]) -> str:
    """Make arrays agree with `imigue22` on which wrist carries which fingertips; a note on it."""
    annotations = [clip.annotation for clip in clips]
    step = -(-sum(annotation['total_frames'] for annotation in annotations) // HAND_FRAMES)
    parts = ([a[key][0, ::step] for a in annotations] for key in ARRAYS)
    swapped, median = attach_hands(*map(np.concatenate, parts))
    for annotation in annotations if swapped else ():
        for key in ARRAYS:
            annotation[key][:] = annotation[key][:, :, SWAPPED]
    distances = ', '.join(f'{pair} {distance:.1f}' for pair, distance in median.items())
    found = {True: 'swapped', False: 'kept', None: 'undecided'}[swapped]
    return notes[found].format(distances=distances)


def attach_hands(keypoint: np.ndarray, score: np.ndarray) -> tuple[bool | None, dict[str, float]]:
    """Whether the fingertips of `imigue22` belong to the other wrist than the layout says.

    Of (T, 22, C) and scores (T, 22): the assignment of the two sets of fingertips to the two wrists
    with the smaller sum of median distances wins. None where the data say too little. The medians
    are named 'left_finger* -> left_wrist (joint 7)' and so on.
    """
    layout, median = get_layout('imigue22'), {}
    for hand in ('left', 'right'):
        tips = [layout.index(f'{hand}_finger{number}') for number in range(1, 6)]
        for side in ('left', 'right'):
            wrist = layout.index(f'{side}_wrist')
            both = (score[:, tips] > 0) & (score[:, [wrist]] > 0)
            away = keypoint[:, tips].astype(np.float64) - keypoint[:, [wrist]]
            distance = np.linalg.norm(away, axis=-1)[both]
            name = f'{hand}_finger* -> {side}_wrist (joint {wrist})'
            median[name] = float(np.median(distance)) if distance.size else float('nan')
    left_left, left_right, right_left, right_right = median.values()
    same, crossed = left_left + right_right, left_right + right_left
    decided = np.isfinite(same + crossed) and same != crossed
    return bool(crossed < same) if decided else None, median
