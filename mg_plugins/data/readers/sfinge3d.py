"""SFINGE3D version 1: trajectories of one hand, cut gestures and untrimmed sequences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import common, parsing
from .common import Clip, ClipError, Dataset, Parsed, Plan
from .sources import Entry, Source

CUT = r'(?:^|/)Dictionary/(\d+)/(\d+)\.txt$'
UNTRIMMED = r'(?:^|/)Sequences/(\d+)\.txt$'
TRUTH = r'(?:^|/)Sequences/sequencesGT\.csv$'
JOINTS, NUMBERS = 20, 7
FPS = 20.0
TRAIN_INSTANCES, TRAIN_SEQUENCES = 18, 36
FILES_A_JOB = 60


@dataclass(frozen=True)
class Job:
    """Some files, and the labels of those that are untrimmed: (class, first, last) by number."""

    files: Sequence[Entry]
    truth: Mapping[int, Sequence[tuple[int, int, int]]]


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """Jobs of `FILES_A_JOB` files."""
    cut, untrimmed, truth = map(source.find, (CUT, UNTRIMMED, TRUTH))
    if not cut and not (untrimmed and truth):
        raise source.refuse('sfinge3d')
    plan = Plan([])
    labels: dict[int, list[tuple[int, int, int]]] = {}
    for entry in truth:
        for number, line in enumerate(entry.lines(), 1):
            try:
                sequence, segments = parse_truth(line, entry.name, number)
            except ClipError as error:
                plan.rejects.append(error.reject(f'{entry.name} line {number}'))
            else:
                labels[sequence] = segments
    plan.jobs = [Job(files, labels) for files in common.packets(cut + untrimmed, FILES_A_JOB)]
    return plan


def parse_truth(line: str, file: str, number: int) -> tuple[int, list[tuple[int, int, int]]]:
    """A sequence's number and its gestures (class index, first and last frame)."""
    cells = [parsing.parse_int(cell) for cell in line.split(',') if cell.strip()]
    if None in cells or len(cells) < 2 or len(cells) != 2 + 3 * cells[1]:
        detail = 'expected sequence, number of gestures, then class, first and last frame of each'
        raise ClipError(common.SHORT_ROW, file, number, detail)
    segments = [(cells[i] - 1, cells[i + 1], cells[i + 2]) for i in range(2, len(cells), 3)]
    classes = len(common.format_entry('sfinge3d')['classes'])
    for label, first, last in segments:
        if not 0 <= label < classes:
            detail = f'class {label + 1}, expected 1 to {classes}'
            raise ClipError(common.LABEL_RANGE, file, number, detail)
        if last < first or first < 0:
            raise ClipError(common.END_BEFORE_START, file, number, f'frames {first} to {last}')
    return cells[0], segments


def read(job: Job) -> Parsed:
    """Every file is a clip or a recording."""
    beyond: list[str] = []

    def parse(entry: Entry) -> list[Clip]:
        lines = entry.lines()
        delimiter = ';' if lines and ';' in lines[0] else ','
        rows = parsing.parse_rows(
            [line.rstrip(' ;,') for line in lines], JOINTS * NUMBERS, entry.name, 1, delimiter
        )
        keypoint = rows.reshape(1, -1, JOINTS, NUMBERS)[..., :3]
        if match := re.search(CUT, entry.name):
            gesture, instance = map(int, match.groups())
            classes = len(common.format_entry('sfinge3d')['classes'])
            if not 1 <= gesture <= classes:
                detail = f'folder {gesture}, expected 1 to {classes}'
                raise ClipError(common.LABEL_RANGE, entry.name, None, detail)
            clip_id = f'dictionary_{gesture:02d}_{instance:02d}'
            part = 'train' if instance <= TRAIN_INSTANCES else 'val'
            annotation = common.make_annotation(
                clip_id, gesture - 1, keypoint, session=clip_id, fps=FPS
            )
        else:
            sequence = int(re.search(UNTRIMMED, entry.name)[1])
            if sequence not in job.truth:
                detail = f'sequencesGT.csv has no row {sequence}'
                raise ClipError(common.NO_LABEL, entry.name, None, detail)
            part = 'train' if sequence <= TRAIN_SEQUENCES else 'val'
            segments = common.make_segments(job.truth[sequence], len(rows))
            if any(last >= len(rows) for _, _, last in job.truth[sequence]):
                beyond.append(str(sequence))
            annotation = common.make_annotation(
                f'sequence_{sequence:02d}', None, keypoint, session=f'sequence_{sequence:02d}',
                fps=FPS, segments=segments,
            )  # fmt: skip
        common.check_content(annotation, entry.name)
        return [Clip(annotation, entry.name, split=part)]

    parsed = common.read_files(job.files, parse)
    parsed.extra = beyond
    return parsed


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Splits by instance and by sequence."""
    split: dict[str, list[str]] = {}
    common.split_clips(clips, lambda clip: clip.split, split)
    notes = [
        'clips are split by instance (1-18, 19-36), sequences by number (1-36, 37-72); the set '
        'names no subjects, so this is not cross-subject'
    ]
    if beyond := sorted((number for extra in extras for number in extra), key=int):
        notes.append(f'segments of sequences {", ".join(beyond)} go on beyond the last frame; cut')
    meta = dict(
        layout='hand20',
        classes=list(common.format_entry('sfinge3d')['classes']),
        source='sfinge3d',
        note='; '.join(['One hand in metres', *notes]),
    )
    return Dataset(split, meta, notes)
