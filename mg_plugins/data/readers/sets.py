"""Data sets whose files are a clip each: MSR-Action3D, NTU RGB+D, NW-UCLA, SFINGE3D.

`formats.json` declares a set: what its file names say (the groups clip and session, and the numbers
label, subject, camera …), its classes, layout and splits (the numbers of the training part). A
parser gives (keypoint (M, T, V, 3), what else is known) of a file, and may correct the numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mg_plugins.data.classes import dataset_names, get_classes

from . import common, parsing
from .common import Clip, ClipError, Dataset, Options, Parsed, Plan
from .sources import Entry, Source

MSR_JOINTS, UCLA_JOINTS = 20, 20
NTU_JOINTS, NTU_NUMBERS, MOST_BODIES, MOST_FRAMES = 25, 12, 50, 100_000
# Denoising as CTR-GCN does it: bodies seen this short, or wider than this share of their height in
# this share of their frames.
SHORTEST, FLAT, FLAT_SHARE = 11, 0.8, 0.69754
HAND_JOINTS, HAND_NUMBERS = 20, 7
TRUTH = r'(?:^|/)Sequences/sequencesGT\.csv$'


@dataclass(frozen=True)
class Job:
    """Some files; `truth` has the gestures of SFINGE3D's sequences by their number."""

    files: Sequence[Entry]
    options: Options
    truth: Mapping[int, Sequence[tuple[int, int, int]]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def plan(source: Source, options: Options) -> Plan:
    """Jobs of some files each."""
    name = options['format']
    spec, truth, plan = common.format_entry(name)['set'], {}, Plan([])
    files = source.find(spec['name'])
    for entry in source.find(TRUTH) if name == 'sfinge3d' else ():
        for number, line in enumerate(entry.lines(), 1):
            try:
                with common.reading(entry.name):
                    truth.update([parse_truth(line, number)])
            except ClipError as error:
                plan.rejects.append(error.reject(f'{entry.name} line {number}'))
    if not files:
        raise source.refuse(name)
    step = spec['files']
    parts = [files[i : i + step] for i in range(0, len(files), step)]
    plan.jobs = [Job(part, options, truth) for part in parts]
    return plan


def read(job: Job) -> Parsed:
    """Every file is a clip, or a recording."""
    name, parsed = job.options['format'], Parsed(counts=job.counts)
    spec, classes = common.format_entry(name)['set'], len(class_names(name))
    for entry in job.files:
        found = re.search(spec['name'], entry.name).groupdict()
        clip, session = found.pop('clip', None), found.pop('session', None)
        numbers = {key: int(value) for key, value in found.items() if value}
        clip = clip or hand_name(numbers)
        with parsed.listing(clip, entry.name):
            keypoint, known = PARSERS[name](entry, numbers, job)
            label = numbers.pop('label', None)
            if label is not None and not 1 <= label <= classes:
                raise ClipError(f'label {label}, expected 1 to {classes}', common.LABEL_RANGE)
            if 'subject' in numbers:
                known['subject'] = str(numbers.pop('subject'))
            annotation = common.make_annotation(
                clip, None if label is None else label - 1, keypoint, session=session or clip,
                fps=spec.get('fps'), **numbers, **known,
            )  # fmt: skip
            common.check_content(annotation)
            parsed.clips.append(Clip(annotation, entry.name))
    return parsed


def collect(clips: list[Clip], extras: list, plan: Plan, options: Options) -> Dataset:
    """The published splits."""
    name = options['format']
    entry, split, classes = common.format_entry(name), {}, class_names(name)
    spec, notes = entry['set'], list(entry.get('notes', ()))
    if 'published' in spec:
        notes += common.split_by_subject(clips, entry['classes'], split)
    tests = dict(spec['splits'])
    if name == 'ntu':
        if any(clip.annotation['label'] >= 60 for clip in clips):
            tests['xsub_'] = spec['large']
        else:
            classes = classes[:60]
        notes.append(f'subjects of NTU-{len(classes)}')
    for part, training in tests.items():
        for clip in clips:
            known = clip.annotation
            train = any(int(known.get(key, 0)) in numbers for key, numbers in training.items())
            clip.split = f'{part}{"train" if train else "val"}'
        common.split_clips(clips, lambda clip: clip.split, split)
    dropped = [clip.annotation.get('dropped_frames', 0) for clip in clips]
    if any(dropped):
        notes.append(
            f'{sum(dropped)} all-zero frames were dropped from {np.count_nonzero(dropped)} clips '
            '(the tracker lost the person); no clip keeps an all-zero frame'
        )
    return Dataset(split, entry['layout'], classes, notes, [entry['unit']])


def class_names(name: str) -> list[str]:
    """Class names of a format: those of a data set, a list, or numbers."""
    classes = common.format_entry(name)['classes']
    if isinstance(classes, int):
        return [f'A{number:03d}' for number in range(1, classes + 1)]
    return list(get_classes(classes) if classes in dataset_names() else classes)


def parse_msr(entry: Entry, numbers: dict, job: Job) -> tuple[np.ndarray, dict]:
    """MSR-Action3D: 20 lines `x y z c` a frame; frames without any joint are dropped."""
    rows = parsing.parse_rows(entry.lines(), 4, delimiter=None)
    if rest := len(rows) % MSR_JOINTS:
        detail = f'the last frame has {rest} of {MSR_JOINTS} joints'
        raise ClipError(detail, common.SHORT_ROW, len(rows))
    keypoint = rows.reshape(-1, MSR_JOINTS, 4)[..., :3]
    tracked = keypoint.any(axis=(1, 2))
    if not tracked.any():
        raise ClipError(f'all {len(keypoint)} frames hold only zeros', common.ALL_ZERO, 1)
    return keypoint[tracked][None], dict(dropped_frames=int((~tracked).sum()))


def parse_ucla(entry: Entry, numbers: dict, job: Job) -> tuple[np.ndarray, dict]:
    """NW-UCLA: JSON with "skeletons" (T, 20, 3) and "label" from 1."""
    content = entry.json()
    keypoint, label = np.array(content['skeletons'], np.float32), content['label']
    if keypoint.ndim != 3 or keypoint.shape[1:] != (UCLA_JOINTS, 3):
        shape = f'(frames, {UCLA_JOINTS}, 3)'
        raise ClipError(f'"skeletons" has shape {keypoint.shape}, expected {shape}')
    if not isinstance(label, int):
        raise ClipError(f'"label" is {label!r}, expected a number', common.LABEL_RANGE)
    numbers['label'] = label
    return keypoint[None], {}


def parse_truth(line: str, number: int) -> tuple[int, list[tuple[int, int, int]]]:
    """SFINGE3D: a sequence's number and its gestures (class index, first and last frame)."""
    cells = [parsing.parse_int(cell) for cell in line.split(',') if cell.strip()]
    if None in cells or len(cells) < 2 or len(cells) != 2 + 3 * cells[1]:
        detail = 'expected sequence, number of gestures, then class, first and last frame of each'
        raise ClipError(detail, common.SHORT_ROW, number)
    segments = [(cells[i] - 1, cells[i + 1], cells[i + 2]) for i in range(2, len(cells), 3)]
    classes = len(class_names('sfinge3d'))
    for label, first, last in segments:
        if not 0 <= label < classes:
            detail = f'class {label + 1}, expected 1 to {classes}'
            raise ClipError(detail, common.LABEL_RANGE, number)
        if last < first or first < 0:
            raise ClipError(f'frames {first} to {last}', common.END_BEFORE_START, number)
    return cells[0], segments


def parse_hand(entry: Entry, numbers: dict, job: Job) -> tuple[np.ndarray, dict]:
    """SFINGE3D: a line a frame, of whose seven numbers a joint the position is kept."""
    lines = entry.lines()
    delimiter = ';' if lines and ';' in lines[0] else ','
    lines = [line.rstrip(' ;,') for line in lines]
    rows = parsing.parse_rows(lines, HAND_JOINTS * HAND_NUMBERS, delimiter=delimiter)
    keypoint = rows.reshape(1, -1, HAND_JOINTS, HAND_NUMBERS)[..., :3]
    if 'sequence' not in numbers:
        return keypoint, {}
    if numbers['sequence'] not in job.truth:
        raise ClipError(f'sequencesGT.csv has no row {numbers["sequence"]}', common.NO_LABEL)
    windows = job.truth[numbers['sequence']]
    what = f'segments of sequence {numbers["sequence"]} go on beyond the last frame; cut there'
    job.counts[what] += sum(last >= len(rows) for _, _, last in windows)
    return keypoint, dict(segments=common.make_segments(windows, len(rows)))


def hand_name(numbers: Mapping[str, int]) -> str:
    if 'sequence' in numbers:
        return f'sequence_{numbers["sequence"]:02d}'
    return f'dictionary_{numbers["label"]:02d}_{numbers["instance"]:02d}'


def parse_ntu(entry: Entry, numbers: dict, job: Job) -> tuple[np.ndarray, dict]:
    """NTU RGB+D: bodies by their ids, those that move most first.

    A body takes the first place that no other body holds in its frames.
    """
    bodies, frames = read_bodies(entry.lines())
    if not bodies:
        raise ClipError(f'no body in any of the {frames} frames', common.ALL_ZERO)
    if not job.options['keep_all_bodies']:
        clean = without_noise(bodies)
        what = 'bodies were dropped as noise (--keep-all-bodies)'
        job.counts[what] += len(bodies) - len(clean)
        bodies = clean
    most = job.options['max_persons']
    keypoint = np.zeros((most, frames, NTU_JOINTS, 3), np.float32)
    taken = np.zeros((most, frames), bool)
    for at, joints in sorted(bodies.values(), key=lambda body: -motion(body[1])):
        span = slice(at[0], at[-1] + 1)
        free = np.flatnonzero(~taken[:, span].any(1))
        if len(free):
            keypoint[free[0], at], taken[free[0], span] = joints, True
    return keypoint[taken.any(1)], {}


def read_bodies(lines: list[str]) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """(frames, joints (T', 25, 3)) of every body id, and the number of frames."""
    at = 0

    def count(most: int, what: str) -> int:
        nonlocal at
        value = parsing.parse_int(lines[at]) if at < len(lines) else None
        at += 1
        if value is None or not 0 <= value <= most:
            found = repr(parsing.shorten(lines[at - 1])) if at <= len(lines) else 'the end'
            raise ClipError(f'expected the number of {what}, found {found}', line=at)
        return value

    found: dict[str, tuple[list[int], list[np.ndarray]]] = {}
    frames = count(MOST_FRAMES, 'frames')
    for frame in range(frames):
        for _ in range(count(MOST_BODIES, 'bodies')):
            identity = (lines[at].split() or [''])[0] if at < len(lines) else ''
            at += 1
            if count(NTU_JOINTS, 'joints') != NTU_JOINTS:
                raise ClipError(f'expected {NTU_JOINTS} joints', common.SHORT_ROW, at)
            block = [line.strip() for line in lines[at : at + NTU_JOINTS]]
            if len(block) < NTU_JOINTS:
                raise ClipError('the file ends within a body', common.SHORT_ROW, len(lines))
            rows = parsing.parse_rows(block, NTU_NUMBERS, at + 1, ' ', (0, 1, 2))
            at += NTU_JOINTS
            when, joints = found.setdefault(identity, ([], []))
            if not when or when[-1] != frame:
                when.append(frame)
                joints.append(rows)
    return {name: (np.array(t), np.stack(joints)) for name, (t, joints) in found.items()}, frames


def is_flat(joints: np.ndarray) -> np.ndarray:
    """Frames (T,) in which a body is wider than it is high, as furniture is."""
    spread = np.ptp(joints, axis=1)
    return spread[:, 0] > FLAT * spread[:, 1]


def motion(joints: np.ndarray) -> float:
    """How much a body moves in the frames that are not flat: summed variance of its joints."""
    upright = joints[~is_flat(joints)]
    both = [np.var(part.reshape(-1, 3), axis=0).sum() for part in (joints, upright) if len(part)]
    return float(min(both))


def without_noise(bodies: dict[str, tuple]) -> dict[str, tuple]:
    """The bodies that are seen long enough and upright; never none."""
    kept = {name: body for name, body in bodies.items() if len(body[0]) > SHORTEST} or bodies
    for name, (_, joints) in list(kept.items()):
        if len(kept) > 1 and is_flat(joints).mean() >= FLAT_SHARE:
            kept = {other: body for other, body in kept.items() if other != name}
    return kept


PARSERS = {
    'msr-action3d': parse_msr,
    'ntu': parse_ntu,
    'nw-ucla': parse_ucla,
    'sfinge3d': parse_hand,
}
