"""Clips that are arrays already: axes, channels, scores, units; shared by npz and pickle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mg_plugins.data.layouts import get_layout
from mg_plugins.data.relayout import usual_coordinates

from . import common, tables, takes
from .common import Clip, ClipError, Dataset, FormatError, Plan
from .recordings import parse_size

# Joints of layouts where nothing names one.
BY_COUNT = {17: 'coco17', 18: 'openpose18', 22: 'imigue22', 26: 'halpe26', 33: 'mediapipe33',
            75: 'holistic75', 133: 'coco_wholebody133', 136: 'halpe136'}  # fmt: skip
CLIPS_A_JOB = 512


def settle(
    shape: Sequence[int],
    options: Mapping[str, Any],
    named: str | None,
    file: Any,
    by_count: bool = False,
) -> dict:
    """What holds for all clips: layout, picture size, options.

    Raises:
        FormatError: The layout is not known or has another number of joints.
    """
    joints, channels = shape[-2:]
    guess = 'ntu25' if joints == 25 and channels == 3 else BY_COUNT.get(joints)
    wanted = options['layout'] or named or (guess if by_count else None)
    if not wanted:
        raise FormatError(f'--layout is needed: {file} does not say what its {joints} joints are')
    layout = takes.check_layout(wanted)
    known = get_layout(layout)
    if known.num_joints != joints:
        raise FormatError(
            f'{file}: keypoint has {joints} joints, the layout {known.name} {known.num_joints}'
        )
    if options['max_score'] is not None and not options['max_score'] > 0:
        raise FormatError(f'--max-score {options["max_score"]:g} must be above 0')
    return dict(layout=layout, size=parse_size(options['size']), options=dict(options))


def with_scores(keypoint: np.ndarray, layout: str | dict) -> bool:
    """Whether the third channel of (..., V, 3) is a score: from 0 to 1 beside pixels."""
    if keypoint.shape[-1] != 3:
        return False
    there = keypoint.reshape(-1, 3)[:200_000].astype(np.float32)
    there = there[np.isfinite(there).all(1) & there.any(1)]
    if not len(there) or there[:, 2].min() < 0 or there[:, 2].max() > 1:
        return False
    return np.median(np.abs(there[:, :2])) > 10 or usual_coordinates(get_layout(layout)) == 2


def find_unit(clips: Sequence[np.ndarray], about: dict) -> list[str]:
    """Decide the unit of 3D coordinates once for all clips, and say so where it is not metres."""
    options = about['options']
    if about['scored'] or clips[0].shape[-1] == 2 or options['unit']:
        return []
    points = np.concatenate([np.nan_to_num(clip).reshape(-1, *clip.shape[-2:]) for clip in clips])
    points = points.astype(np.float32)[:20_000]
    counts: Counter[str] = Counter()
    factor = takes.metres(points, points.any(-1), None, get_layout(about['layout']), counts)
    options['unit'] = min(takes.UNITS, key=lambda name: abs(takes.UNITS[name] - factor))
    return [f'coordinates are in {options["unit"]}, turned into metres (--unit)'] if counts else []


def make_clip(
    name: str, row: Mapping[str, Any], about: Mapping[str, Any], file: str, counts: Counter[str]
) -> dict:
    """The annotation of one clip.

    Args:
        name: Its id.
        row: keypoint (M, T, V, C), and what else is known: keypoint_score, label, size …
        about: From `settle`, with `scored` from `with_scores`, `classes` (a number) and `first`.
        file: Named in errors, with the entry.
        counts: Takes up what was converted.
    """
    keypoint = row['keypoint']
    if keypoint.ndim != 4 or keypoint.dtype.kind not in 'fiu' or keypoint.shape[-1] not in (2, 3):
        detail = f'keypoint is {keypoint.dtype} of shape {keypoint.shape}, not (M, T, V, 2 or 3)'
        raise ClipError(common.UNREADABLE, file, None, detail)
    if 0 in keypoint.shape:
        raise ClipError(common.EMPTY, file, None, f'keypoint has the shape {keypoint.shape}')
    layout = get_layout(about['layout'])
    if keypoint.shape[2] != layout.num_joints:
        detail = f'{keypoint.shape[2]} joints, but the layout {layout.name} has {layout.num_joints}'
        raise ClipError(common.UNREADABLE, file, None, detail)
    label = row.get('label')
    if label is not None:
        label = int(label) - about['first']
        if not 0 <= label < about['classes']:
            detail = f'label {label}, expected 0 to {about["classes"] - 1}'
            raise ClipError(common.LABEL_RANGE, file, None, detail)
    start, end = row.get('start'), row.get('end')
    if start is not None and end is not None and end < start:
        raise ClipError(common.END_BEFORE_START, file, None, f'start {start}, end {end}')
    score = row.get('keypoint_score')
    keypoint = keypoint.astype(np.float32)
    if about['scored']:
        counts['clips held x, y, score as three channels'] += 1
        score, keypoint = keypoint[..., 2] if score is None else score, keypoint[..., :2]
    if score is None:
        score = np.ones(keypoint.shape[:3], np.float32)
    if score.shape == (*keypoint.shape[:3], 1):
        score = score[..., 0]
    if score.shape != keypoint.shape[:3] or score.dtype.kind not in 'fiub':
        detail = f'keypoint_score is {score.dtype} of shape {score.shape}, not {keypoint.shape[:3]}'
        raise ClipError(common.UNREADABLE, file, None, detail)
    shape = keypoint.shape
    size = about['size'] or row.get('size')
    unit = takes.Unit(None, 0.0, size, layout)
    points, score, size = takes.clean(
        keypoint.reshape(-1, *shape[2:]), score.reshape(-1, shape[2]), unit, about['options'], file,
        counts,
    )  # fmt: skip
    known = {key: row[key] for key in row.keys() - KEPT_APART}
    points, score = points.reshape(shape), score.reshape(shape[:3])
    there = score.any((1, 2))  # absent persons are padded with zeros
    annotation = common.make_annotation(name, label, points[there], score[there], size, **known)
    common.check_content(annotation, file)
    return annotation


KEPT_APART = {'keypoint', 'keypoint_score', 'label', 'size', 'frame_dir', 'total_frames',
              'img_shape', 'original_shape'}  # fmt: skip


def class_names(
    labels: Sequence[int], options: Mapping[str, Any], own: Sequence[str] | None, file: Any
) -> tuple[list[str], int]:
    """Class names, and what labels are counted from.

    Raises:
        FormatError: Labels may be counted from 0 or from 1, or there are too many.
    """
    names = tables.read_classes(options['classes']) if options['classes'] else own
    cells = [str(label) for label in set(labels)]
    first, _ = tables.count_from(cells, names, options['first_label'], str(file))
    largest = max(labels, default=first - 1)
    if names is None and largest - first >= tables.MOST_CLASSES:
        raise FormatError(f'{file}: label {largest} is larger than any number of classes')
    return list(names or tables.infer_classes(cells, first)), first


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """The file's own splits, or those of the user's choice."""
    about, own = plan.context, plan.context.get('split')
    notes: list[str] = []
    if own:
        kept = {clip.annotation['frame_dir'] for clip in clips}
        split = {name: [m for m in members if m in kept] for name, members in own.items()}
        lost = sum(map(len, own.values())) - sum(map(len, split.values()))
        if lost:
            notes.append(f'{lost} names in the splits are of clips that are absent or rejected')
    else:
        split, notes = tables.user_splits(clips, options['val_subjects'])
    bare = sum('label' not in clip.annotation for clip in clips)
    notes += [f'{bare} clips have no label'] * (bare > 0)
    meta = dict(
        layout=about['layout'],
        classes=about['names'],
        source=about['source'],
        note='; '.join(notes),
    )
    return Dataset(split, meta, notes)
