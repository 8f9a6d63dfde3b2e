"""Data sets whose files are a clip each: MSR-Action3D, NTU RGB+D, NW-UCLA, SFINGE3D.

`formats.json` declares what their file names say, classes, layout and the training parts of splits.
A parser gives the keypoint (M, T, V, 3) of a file, and adds to what its name says.
"""

import re
from collections import Counter

import numpy as np

from mg_plugins.data.classes import get_classes, protocol

from . import common
from .common import ALL_ZERO, LABEL_RANGE, SHORT_ROW, Clip, Job, Options, Parsed, Plan, expect
from .sources import Entry, Source, parse_int, parse_rows, shorten

MSR_JOINTS, UCLA_JOINTS = 20, 20
NTU_JOINTS, NTU_NUMBERS, MOST_BODIES, MOST_FRAMES = 25, 12, 50, 100_000
# Denoising as CTR-GCN does it: bodies seen this short, or wider than this share of their height in
# this share of their frames.
SHORTEST, FLAT, FLAT_SHARE = 11, 0.8, 0.69754
HAND_JOINTS, HAND_NUMBERS = 20, 7
TRUTH = r'(?:^|/)Sequences/sequencesGT\.csv$'

Body = tuple[np.ndarray, np.ndarray]  # its frames, joints (T', 25, 3) in them


def plan(source: Source, options: Options) -> Plan:
    """Jobs of some files each."""
    name = options['format']
    spec, truth, found = common.FORMATS[name]['set'], {}, Parsed()
    files, step = source.find(spec['name']), spec['files']
    for entry in source.find(TRUTH) if name == 'sfinge3d' else ():
        for number, line in enumerate(entry.lines(), 1):
            with found.listing(f'{entry.name} line {number}', entry.name, number):
                truth.update([parse_truth(line)])
    source.need(files, name)
    parts = (files[i : i + step] for i in range(0, len(files), step))
    return Plan([Job(name, part, truth, options) for part in parts], found.rejects)


def read(job: Job) -> Parsed:
    """Every file is a clip, or a recording."""
    name, parsed = job.name, Parsed()
    spec, classes = common.FORMATS[name]['set'], len(class_names(name))
    for entry in job.content:
        known = re.search(spec['name'], entry.name).groupdict()
        clip, session = known.pop('clip', None), known.pop('session', None)
        known = {key: int(value) for key, value in known.items() if value}
        forms = (form for key, form in spec.get('clip', {}).items() if key in known)
        clip = clip or next(forms).format(**known)
        with parsed.listing(clip, entry.name):
            keypoint = PARSERS[name](entry, known, job, parsed.counts)
            if (label := known.pop('label', None)) is not None:
                expect(0 < label <= classes, f'label {label}, expected 1 to {classes}', LABEL_RANGE)
                label -= 1
            if 'subject' in known:
                known['subject'] = str(known['subject'])
            known = dict(session=session or clip, fps=spec.get('fps')) | known
            annotation = common.make_annotation(clip, label, keypoint, **known)
            parsed.clips.append(Clip(annotation, entry.name))
    return parsed


def collect(clips: list[Clip], plan: Plan, options: Options) -> common.Dataset:
    """The published splits."""
    name = options['format']
    entry, split, classes = common.FORMATS[name], {}, class_names(name)
    spec, notes = entry['set'], list(entry.get('notes', ()))
    if 'published' in spec:
        lists = protocol(entry['classes'])
        notes += common.split_by_subject(clips, lists, split, common.UNPUBLISHED)
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
        notes.append(entry['dropped'].format(sum(dropped), np.count_nonzero(dropped)))
    return common.Dataset(split, entry['layout'], classes, notes)


def class_names(name: str) -> list[str]:
    classes = common.FORMATS[name]['classes']  # a list, or the name of a data set
    return list(get_classes(classes) if isinstance(classes, str) else classes)


def parse_msr(entry: Entry, known: dict, job: Job, counts: Counter[str]) -> np.ndarray:
    """MSR-Action3D: 20 lines `x y z c` a frame; frames without any joint are dropped."""
    rows = parse_rows(entry.lines(), 4, delimiter=None)
    rest = len(rows) % MSR_JOINTS
    expect(not rest, f'the last frame has {rest} of {MSR_JOINTS} joints', SHORT_ROW, len(rows))
    keypoint = rows.reshape(-1, MSR_JOINTS, 4)[..., :3]
    tracked = keypoint.any((1, 2))
    expect(tracked.any(), f'all {len(tracked)} frames hold only zeros', ALL_ZERO, 1)
    known['dropped_frames'] = int((~tracked).sum())
    return keypoint[tracked][None]


def parse_ucla(entry: Entry, known: dict, job: Job, counts: Counter[str]) -> np.ndarray:
    """NW-UCLA: JSON with "skeletons" (T, 20, 3) and "label" from 1."""
    content = entry.json()
    keypoint, label = np.array(content['skeletons'], np.float32), content['label']
    detail = f'"skeletons" has shape {keypoint.shape}, expected (frames, {UCLA_JOINTS}, 3)'
    expect(keypoint.shape[1:] == (UCLA_JOINTS, 3), detail)
    expect(isinstance(label, int), f'"label" is {label!r}, expected a number', LABEL_RANGE)
    known['label'] = label
    return keypoint[None]


def parse_truth(line: str) -> tuple[int, list[tuple[int, int, int]]]:
    """SFINGE3D: a sequence's number and its gestures (class index, first and last frame)."""
    cells = [parse_int(cell) for cell in line.split(',') if cell.strip()]
    fine = None not in cells and len(cells) > 1 and len(cells) == 2 + 3 * cells[1]
    detail = 'expected sequence, number of gestures, then class, first and last frame of each'
    expect(fine, detail, SHORT_ROW)
    segments = [(cells[i] - 1, cells[i + 1], cells[i + 2]) for i in range(2, len(cells), 3)]
    classes = len(class_names('sfinge3d'))
    for label, first, last in segments:
        expect(0 <= label < classes, f'class {label + 1}, expected 1 to {classes}', LABEL_RANGE)
        expect(0 <= first <= last, f'frames {first} to {last}', common.END_BEFORE_START)
    return cells[0], segments


def parse_hand(entry: Entry, known: dict, job: Job, counts: Counter[str]) -> np.ndarray:
    """SFINGE3D: a line a frame, of whose seven numbers a joint the position is kept."""
    lines = entry.lines()
    delimiter = ';' if lines and ';' in lines[0] else ','
    lines = [line.rstrip(' ;,') for line in lines]
    rows = parse_rows(lines, HAND_JOINTS * HAND_NUMBERS, delimiter=delimiter)
    if (number := known.get('sequence')) is not None:
        windows = job.known.get(number)
        expect(windows is not None, f'sequencesGT.csv has no row {number}', common.NO_LABEL)
        what = f'segments of sequence {number} go on beyond the last frame; cut there'
        counts[what] += sum(last >= len(rows) for _, _, last in windows)
        known['segments'] = common.make_segments(windows, len(rows))
    return rows.reshape(1, -1, HAND_JOINTS, HAND_NUMBERS)[..., :3]


def parse_ntu(entry: Entry, known: dict, job: Job, counts: Counter[str]) -> np.ndarray:
    """NTU RGB+D: bodies by their ids, the most moving first, each in the first free place."""
    bodies, frames = read_bodies(entry.lines())
    expect(bodies, f'no body in any of the {frames} frames', ALL_ZERO)
    if not job.options['keep_all_bodies']:
        clean = [body for body in bodies if len(body[0]) > SHORTEST] or bodies
        clean = [b for b in clean if is_flat(b[1]).mean() < FLAT_SHARE] or clean[-1:]
        counts['bodies were dropped as noise (--keep-all-bodies)'] += len(bodies) - len(clean)
        bodies = clean
    most = job.options['max_persons']
    keypoint = np.zeros((most, frames, NTU_JOINTS, 3), np.float32)
    taken = np.zeros((most, frames), bool)
    for at, joints in sorted(bodies, key=lambda body: -motion(body[1])):
        span = slice(at[0], at[-1] + 1)
        free = np.flatnonzero(~taken[:, span].any(1))
        if len(free):
            keypoint[free[0], at], taken[free[0], span] = joints, True
    return keypoint[taken.any(1)]


def read_bodies(lines: list[str]) -> tuple[list[Body], int]:
    """Every body, by its id, and the number of frames."""

    def count(at: int, most: int, what: str) -> int:
        value = parse_int(lines[at]) if at < len(lines) else None
        found = repr(shorten(lines[at])) if at < len(lines) else 'the end'
        fine = value is not None and 0 <= value <= most
        expect(fine, f'expected the number of {what}, found {found}', line=at + 1)
        return value

    found: dict[str, dict[int, np.ndarray]] = {}
    frames, at = count(0, MOST_FRAMES, 'frames'), 1
    for frame in range(frames):
        bodies, at = count(at, MOST_BODIES, 'bodies'), at + 1
        for _ in range(bodies):
            joints = count(at + 1, NTU_JOINTS, 'joints')
            expect(joints == NTU_JOINTS, f'expected {NTU_JOINTS} joints', SHORT_ROW, at + 2)
            identity = ''.join(lines[at].split()[:1])
            block = [line.strip() for line in lines[at + 2 : at + 2 + NTU_JOINTS]]
            expect(block[NTU_JOINTS - 1 :], 'the file ends within a body', SHORT_ROW, len(lines))
            rows = parse_rows(block, NTU_NUMBERS, at + 3, ' ', (0, 1, 2))
            found.setdefault(identity, {}).setdefault(frame, rows)
            at += 2 + NTU_JOINTS
    return [(np.array(list(b)), np.stack(list(b.values()))) for b in found.values()], frames


def is_flat(joints: np.ndarray) -> np.ndarray:
    """Frames (T,) in which a body is wider than it is high, as furniture is."""
    spread = np.ptp(joints, axis=1)
    return spread[:, 0] > FLAT * spread[:, 1]


def motion(joints: np.ndarray) -> float:
    """How much a body moves, summed variance of its joints: in all frames, or fewer upright."""
    parts = joints, joints[~is_flat(joints)]
    return min(float(np.var(part.reshape(-1, 3), axis=0).sum()) for part in parts if len(part))


PARSERS = {'msr-action3d': parse_msr, 'ntu': parse_ntu, 'nw-ucla': parse_ucla,
           'sfinge3d': parse_hand}  # fmt: skip
