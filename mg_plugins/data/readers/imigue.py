"""iMiGUE in the skeleton release of the MiGA challenge.

`imigue_skeleton_train/<ID>/` and `imigue_skeleton_validate/<ID>/` hold `<ID>_light_hand.csv` (a row
a frame: an index, then 35 joints x (x, y, confidence) in pixels of a 1280 x 720 picture) and
`<ID>_label.csv` (gesture id from 1, start, end; 0-based frames, end included; id 99 is the class
"illustrative"). `<ID>` is a four-digit video number.

Joints: of the 35 (BODY_25, five right and five left fingertips) the 22 of the upper body are kept,
in the order of the layout `imigue22`. Which wrist carries which fingertips is ambiguous in the
release, so it is decided from the data; where the data disagree with the layout, the two sets of
fingertips change places in the arrays, so that the layout's bones hold.

Protocols: the published ones name subjects (cross-subject recognition) and outcomes (emotion),
which the release does not; `--subjects` brings them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.data.classes import get_classes, protocol
from mg_plugins.data.layouts import attach_hands

from . import common, tables, windows
from .common import Clip, Dataset, FormatError, Plan, Reader

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
EXPECTS = (
    'the folder of the MiGA release, with imigue_skeleton_train/<ID>/<ID>_light_hand.csv, '
    '<ID>_label.csv and the same under imigue_skeleton_validate/'
)
FILE_NAME = re.compile(r'(\d+)_(light_hand|label)\.csv$')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this format."""
    parser.add_argument(
        '--subjects',
        metavar='CSV',
        help='file with the header video,subject,outcome (outcome: win, lose or nothing); gives '
        'the splits xsub_train, xsub_val, emotion_train and emotion_test',
    )


def plan(source: Path, options: Mapping[str, Any]) -> Plan:
    """One job a video."""
    subjects = read_subjects(options['subjects']) if options['subjects'] else None
    files = [path for path in source.rglob('*.csv') if FILE_NAME.search(path.name)]
    if not any(path.name.endswith('_light_hand.csv') for path in files):
        raise common.refuse_source(source, EXPECTS)
    plan = Plan([], context=dict(subjects=subjects))
    unlisted = []
    for folder, number in sorted({(path.parent, FILE_NAME.search(path.name)[1]) for path in files}):
        if subjects is not None and int(number) not in subjects:
            unlisted.append(number)
        plan.jobs.append(
            windows.Recording(
                number,
                source,
                folder / f'{number}_light_hand.csv',
                folder / f'{number}_label.csv',
                released_split(folder),
                (subjects or {}).get(int(number), {}),
            )
        )
    if unlisted:
        plan.notes.append(
            f'{len(unlisted)} videos are not in {options["subjects"]} and so in no cross-subject '
            f'or emotion split: {", ".join(unlisted[:10])}' + ' …' * (len(unlisted) > 10)
        )
    return plan


def released_split(folder: Path) -> str | None:
    """The split that the release puts a video's folder in, by the folder's parents."""
    for parent in folder.resolve().parents:
        for word, split in SPLITS.items():
            if parent.name == f'imigue_skeleton_{word}':
                return split
    return None


def read_subjects(path: str) -> dict[int, dict]:
    """Subject and outcome of every video.

    Raises:
        FormatError: Not such a table; a video twice; a number or an outcome that is none.
    """
    outcomes = protocol('imigue', 'emotion')['outcomes']
    subjects: dict[int, dict] = {}
    for line, row in tables.read_table(path, ('video', 'subject'), ('outcome',)):
        video, subject = common.parse_int(row['video']), common.parse_int(row['subject'])
        outcome = row.get('outcome', '').lower()
        if video is None or subject is None:
            raise FormatError(f'{path}, line {line}: video and subject must be whole numbers')
        if outcome and outcome not in outcomes:
            raise FormatError(
                f'{path}, line {line}: outcome {outcome!r}, expected {", ".join(outcomes)} '
                'or nothing'
            )
        if video in subjects:
            raise FormatError(f'{path}, line {line}: video {video} is listed twice')
        subjects[video] = dict(subject=str(subject), **({'outcome': outcome} if outcome else {}))
    return subjects


def class_of(gesture: int) -> int | None:
    """Class index of a released gesture id."""
    classes = len(get_classes('imigue'))
    if gesture == ILLUSTRATIVE_ID:
        return classes - 1
    return gesture - 1 if 1 <= gesture <= classes else None


def annotate(frame_dir: str, label: int, rows: np.ndarray, **known: Any) -> dict:
    """Annotation of the used columns (T, 66) of some rows of a `_light_hand.csv`."""
    joints = rows.reshape(1, -1, len(UPPER_BODY), 3)
    return common.make_annotation(frame_dir, label, joints[..., :2], joints[..., 2], SIZE, **known)


read = partial(
    windows.read_recording, columns=COLUMNS, used=USED, class_of=class_of, annotate=annotate
)


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Splits by release and by protocol, and the decision about the hands."""
    notes = windows.header_note(extras, 'skeleton files')
    notes.append(settle_hands(clips))
    split: dict[str, list[str]] = {}
    for clip in clips:
        if clip.split:
            split.setdefault(clip.split, []).append(clip.annotation['frame_dir'])
    if plan.context['subjects'] is None:
        notes.append(
            'only the splits of the release were written. The published protocols need to know the '
            'subject of each video, which the release does not say: give --subjects CSV'
        )
        if not split:
            split['all'] = [clip.annotation['frame_dir'] for clip in clips]
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
        for name, part in (('emotion_train', 'train_videos'), ('emotion_test', 'test_videos')):
            videos = set(emotion[part])
            split[name] = [
                clip.annotation['frame_dir']
                for clip in clips
                if int(clip.annotation['session']) in videos and 'outcome' in clip.annotation
            ]
    meta = dict(
        layout='imigue22',
        classes=list(get_classes('imigue')),
        source='imigue',
        note='; '.join(notes),
    )
    return Dataset(split, meta, notes)


def settle_hands(clips: list[Clip]) -> str:
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


READER = Reader(
    name='imigue',
    summary='iMiGUE, the skeleton release of the MiGA challenge: 22 joints, 32 classes',
    doc=__doc__,
    expects=EXPECTS,
    example='python tools/prepare_data.py imigue MiGA/ --subjects subjects.csv',
    add_arguments=add_arguments,
    plan=plan,
    read=read,
    collect=collect,
    config='configs/stgcn_mgfuse_imigue.py',
    out='data/imigue/imigue.pkl',
)
