"""NTU RGB+D `.skeleton` files; see `formats.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import common, parsing
from .common import Clip, ClipError, Dataset, Parsed, Plan
from .sources import Entry, Source

NAME = r'(S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3}))\.skeleton$'
JOINTS, NUMBERS = 25, 12
FPS = 30.0
FILES_A_JOB = 50
# Denoising as CTR-GCN does it: bodies seen this short, or wider than this share of their height in
# this share of their frames.
SHORTEST, FLAT, FLAT_SHARE = 11, 0.8, 0.69754
MOST_BODIES, MOST_FRAMES = 50, 100_000
TRAIN_60 = {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}
TRAIN_120 = TRAIN_60 | {45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82,
                        83, 84, 85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103}  # fmt: skip
TRAIN_CAMERAS = {2, 3}
ACTIONS_60, ACTIONS_120 = 60, 120


@dataclass(frozen=True)
class Job:
    files: list[Entry]
    most: int
    keep_all: bool


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """Jobs of `FILES_A_JOB` files."""
    files = source.need(NAME, 'ntu')
    most, keep_all = options['max_persons'], options['keep_all_bodies']
    return Plan([Job(part, most, keep_all) for part in common.packets(files, FILES_A_JOB)])


def read(job: Job) -> Parsed:
    """Every file is a clip."""
    parsed = Parsed()
    whole = common.read_files(job.files, partial(parse, job=job, counts=parsed.counts))
    parsed.clips, parsed.rejects = whole.clips, whole.rejects
    return parsed


def parse(entry: Entry, job: Job, counts) -> list[Clip]:
    """The clip of one file."""
    clip_id, setup, camera, subject, _, action = re.search(NAME, entry.name).groups()
    bodies, frames = read_bodies(entry.lines(), entry.name)
    if not bodies:
        detail = f'no body in any of the {frames} frames'
        raise ClipError(common.ALL_ZERO, entry.name, None, detail)
    if not job.keep_all and len(bodies) > 1:
        clean = {name: body for name, body in bodies.items() if not is_noise(body)}
        counts['bodies were dropped as noise (--keep-all-bodies)'] += len(bodies) - len(clean)
        bodies = clean or bodies
    motion = {name: float(np.var(body[1], axis=0).sum()) for name, body in bodies.items()}
    kept = sorted(bodies, key=lambda name: -motion[name])[: job.most]
    keypoint = np.zeros((len(kept), frames, JOINTS, 3), np.float32)
    for m, name in enumerate(kept):
        at, joints = bodies[name]
        keypoint[m, at] = joints
    annotation = common.make_annotation(
        clip_id, int(action) - 1, keypoint, subject=str(int(subject)), session=clip_id, fps=FPS,
        camera=int(camera), setup=int(setup),
    )  # fmt: skip
    common.check_content(annotation, entry.name)
    return [Clip(annotation, entry.name)]


def read_bodies(lines: list[str], file: str) -> tuple[dict[str, tuple], int]:
    """(frames, joints (T', 25, 3)) of every body id, and the number of frames."""
    at = 0

    def count(most: int, what: str) -> int:
        nonlocal at
        value = parsing.parse_int(lines[at]) if at < len(lines) else None
        at += 1
        if value is None or not 0 <= value <= most:
            found = repr(parsing.shorten(lines[at - 1])) if at <= len(lines) else 'the end'
            detail = f'expected the number of {what}, found {found}'
            raise ClipError(common.UNREADABLE, file, at, detail)
        return value

    found: dict[str, tuple[list[int], list[np.ndarray]]] = {}
    frames = count(MOST_FRAMES, 'frames')
    for frame in range(frames):
        for _ in range(count(MOST_BODIES, 'bodies')):
            identity = lines[at].split()[0] if at < len(lines) and lines[at].split() else ''
            at += 1
            if count(JOINTS, 'joints') != JOINTS:
                raise ClipError(common.SHORT_ROW, file, at, f'expected {JOINTS} joints')
            block = [line.strip() for line in lines[at : at + JOINTS]]
            if len(block) == JOINTS:
                rows = parsing.parse_rows(block, NUMBERS, file, at + 1, ' ', (0, 1, 2))
            else:
                raise ClipError(common.SHORT_ROW, file, len(lines), 'the file ends within a body')
            at += JOINTS
            when, joints = found.setdefault(identity, ([], []))
            if not when or when[-1] != frame:
                when.append(frame)
                joints.append(rows)
    return {name: (np.array(t), np.stack(joints)) for name, (t, joints) in found.items()}, frames


def is_noise(body: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether a body is seen too short, or is wider than high too often."""
    at, joints = body
    spread = np.ptp(joints, axis=1)
    flat = spread[:, 0] > FLAT * spread[:, 1]
    return len(at) <= SHORTEST or flat.mean() >= FLAT_SHARE


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """The three published splits."""
    large = any(clip.annotation['label'] >= ACTIONS_60 for clip in clips)
    train = TRAIN_120 if large else TRAIN_60

    def part(name: str, test) -> None:
        common.split_clips(
            clips, lambda clip: f'{name}_train' if test(clip.annotation) else f'{name}_val', split
        )

    split: dict[str, list[str]] = {}
    part('xsub', lambda annotation: int(annotation['subject']) in train)
    part('xview', lambda annotation: annotation['camera'] in TRAIN_CAMERAS)
    part('xset', lambda annotation: annotation['setup'] % 2 == 0)
    count = ACTIONS_120 if large else ACTIONS_60
    meta = dict(
        layout='ntu25',
        classes=[f'A{action + 1:03d}' for action in range(count)],
        source='ntu',
        note='Camera coordinates in metres',
    )
    return Dataset(split, meta, [f'subjects of NTU-{count}'])
