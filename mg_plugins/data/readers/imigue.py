"""iMiGUE in the skeleton release of the MiGA challenge; see `formats.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mg_plugins.data.classes import get_classes, protocol
from mg_plugins.data.hands import attach_hands

from . import common, parsing, tables, windows
from .common import Clip, Dataset, FormatError, Plan
from .sources import Entry, Source

SIZE = (1280, 720)
RELEASED_JOINTS = 35
# BODY_25's nose, neck and arms, its eyes and ears, then all ten fingertips.
UPPER_BODY = (*range(8), *range(15, 19), *range(25, 35))
# A row is the frame's index, then x, y, confidence of every joint.
COLUMNS = 1 + 3 * RELEASED_JOINTS
USED = tuple(1 + 3 * joint + part for joint in UPPER_BODY for part in range(3))
FINGERS_A, FINGERS_B = slice(12, 17), slice(17, 22)
ILLUSTRATIVE_ID = 99
# A median over about this many frames, spread over all clips, says enough about the hands.
HAND_FRAMES = 20_000
SPLITS = {'train': 'train', 'validate': 'val', 'test': 'test'}
# By the release's own times.
FPS = 25.0
FILE_NAME = re.compile(r'(.*?)(\d+)_(light_hand|label)\.csv$')
# How tables name what we look for; the label table that comes with the set has a row a gesture.
COLUMN_NAMES = {
    'video': ('video', 'video_id', 'videoid', 'vid', 'clip', 'session', 'file', 'filename'),
    'subject': ('subject', 'subject_id', 'subjectid', 'person', 'person_id', 'player', 'sub'),
    'outcome': ('outcome', 'result', 'emotion', 'win/lose', 'win_lose', 'winlose', 'win'),
}
OUTCOMES = {'win': 'win', 'won': 'win', '1': 'win', 'positive': 'win', 'w': 'win',
            'lose': 'lose', 'lost': 'lose', 'loss': 'lose', '0': 'lose', 'negative': 'lose',
            'l': 'lose'}  # fmt: skip


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """One job a video."""
    subjects = read_subjects(options['subjects']) if options['subjects'] else None
    files = {entry.name: entry for entry in source.find(FILE_NAME.pattern)}
    if not any(name.endswith('_light_hand.csv') for name in files):
        raise source.refuse('imigue')
    plan = Plan([], context=dict(subjects=subjects))
    unlisted = []
    for folder, number in sorted({FILE_NAME.match(name).groups()[:2] for name in files}):
        if subjects is not None and int(number) not in subjects:
            unlisted.append(number)
        names = [f'{folder}{number}_{kind}.csv' for kind in ('light_hand', 'label')]
        skeleton, labels = (files.get(n) or Entry(n, source.path / n) for n in names)
        known = dict(fps=FPS) | (subjects or {}).get(int(number), {})
        split = released_split(source.path, folder)
        keep = options['keep_recordings']
        plan.jobs.append(windows.Recording(number, skeleton, labels, split, keep, known))
    if unlisted:
        plan.notes.append(
            f'{len(unlisted)} videos are not in {options["subjects"]} and so in no cross-subject '
            f'or emotion split: {", ".join(unlisted[:10])}' + ' …' * (len(unlisted) > 10)
        )
    return plan


def released_split(source: Path, folder: str) -> str | None:
    """The split that the release puts a video's folder in, by the folder's parents."""
    for name in reversed((*source.resolve().parts, *PurePosixPath(folder).parts)):
        for word, split in SPLITS.items():
            if name == f'imigue_skeleton_{word}':
                return split
    return None


def read_subjects(path: str) -> dict[int, dict]:
    """Subject and outcome of every video, from a table with a row a video or a row a gesture.

    Raises:
        FormatError: Not such a table; a number or an outcome that is none; rows of one video that
            contradict each other.
    """
    subjects: dict[int, dict] = {}
    for line, row in tables.read_table(path, ('video', 'subject'), ('outcome',), COLUMN_NAMES):
        video = parsing.parse_int(PurePosixPath(row['video']).stem)
        subject = parsing.parse_int(row['subject'])
        outcome = row.get('outcome', '').lower()
        if video is None or subject is None:
            raise FormatError(f'{path}, line {line}: video and subject must be whole numbers')
        if outcome and outcome not in OUTCOMES:
            expected = ', '.join(protocol('imigue', 'emotion')['outcomes'])
            raise FormatError(
                f'{path}, line {line}: outcome {outcome!r}, expected {expected} or nothing'
            )
        known = dict(subject=str(subject), **({'outcome': OUTCOMES[outcome]} if outcome else {}))
        if subjects.setdefault(video, known) != known:
            raise FormatError(
                f'{path}, line {line}: video {video} has {known} here and {subjects[video]} before'
            )
    return subjects


def class_of(gesture: int) -> int | None:
    """Class index of a released gesture id."""
    classes = len(get_classes('imigue'))
    if gesture == ILLUSTRATIVE_ID:
        return classes - 1
    return gesture - 1 if 1 <= gesture <= classes else None


def annotate(frame_dir: str, label: int | None, rows: np.ndarray, **known: Any) -> dict:
    """Annotation of the used columns (T, 66) of some rows of a `_light_hand.csv`."""
    joints = rows.reshape(1, -1, len(UPPER_BODY), 3)
    return common.make_annotation(frame_dir, label, joints[..., :2], joints[..., 2], SIZE, **known)


read = partial(
    windows.read_recording, columns=COLUMNS, used=USED, class_of=class_of, annotate=annotate
)


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Splits by release and by protocol, and the decision about the hands."""
    notes = windows.header_note(extras, 'skeleton files')
    notes.append(match_hands(clips))
    split: dict[str, list[str]] = {}
    common.split_clips(clips, lambda clip: clip.split, split)
    if plan.context['subjects'] is None:
        notes.append(
            'only the splits of the release were written. The published protocols need to know the '
            'subject of each video, which the release does not say: give --subjects CSV'
        )
        if not split:
            common.split_clips(clips, lambda _: 'all', split)
    else:
        cross_subject, left = common.split_by_subject(clips, 'imigue')
        split.update(cross_subject)
        notes += left
        published = protocol('imigue')
        notes.append(
            f'published clips: xsub_train {published["train_clips"]}, '
            f'xsub_val {published["test_clips"]}'
        )
        emotion = protocol('imigue', 'emotion')
        half = {}
        for name, part in (('emotion_train', 'train_videos'), ('emotion_test', 'test_videos')):
            split[name] = []
            half |= dict.fromkeys(emotion[part], name)
        common.split_clips(
            [clip for clip in clips if 'outcome' in clip.annotation],
            lambda clip: half.get(int(clip.annotation['session'])),
            split,
        )
    meta = dict(
        layout='imigue22',
        classes=list(get_classes('imigue')),
        source='imigue',
        note='; '.join(notes),
    )
    return Dataset(split, meta, notes)


def match_hands(clips: list[Clip]) -> str:
    """Decide which wrist carries which fingertips; make the arrays agree with `imigue22`.

    Returns:
        A note on the decision.
    """
    annotations = [clip.annotation for clip in clips]
    frames = sum(annotation['total_frames'] for annotation in annotations)
    step = -(-frames // HAND_FRAMES)
    _, report = attach_hands(
        'imigue22',
        [annotation['keypoint'][:, ::step] for annotation in annotations],
        [annotation['keypoint_score'][:, ::step] for annotation in annotations],
    )
    distances = ', '.join(
        f'{pair} {distance:.1f}' for pair, distance in report['median_distance'].items()
    )
    if not report['decided']:
        return (
            'hands: too few fingertips were detected to say which wrist is theirs; left as released'
        )
    if not report['swapped']:
        return f'hands: fingertips 12-16 belong to wrist 4 (median distance in pixels: {distances})'
    for annotation in annotations:
        for key in ('keypoint', 'keypoint_score'):
            values = annotation[key]
            first = values[:, :, FINGERS_A].copy()
            values[:, :, FINGERS_A] = values[:, :, FINGERS_B]
            values[:, :, FINGERS_B] = first
    return (
        'hands: the released fingertips 12-16 belong to wrist 7, so 12-16 and 17-21 changed places '
        f'to fit the layout (median distance in pixels before that: {distances})'
    )
