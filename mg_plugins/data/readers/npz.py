"""Arrays of your own: one `.npz` file made with `numpy.savez(path, keypoint=…, label=…, …)`.

N clips, M persons, T frames (the longest clip; shorter ones are padded at the end), V joints. With
one person the axis M may be left out.

| array | shape | meaning |
| --- | --- | --- |
| keypoint | (N, M, T, V, C) | C = 2: pixels, 3: metres; a missing joint is all 0 |
| label | (N,) | class index from 0 |
| keypoint_score | (N, M, T, V) | optional: detection scores; default 1 |
| total_frames | (N,) | optional: frames of each clip; default T |
| clip | (N,) text | optional: ids; default clip_00000 … |
| subject, session, outcome, split | (N,) text | optional |
| start, end | (N,) | optional: frames within the session, end included |
| fps | (N,) or () | optional |
| layout | () text | joint layout, unless --layout gives it |
| classes | (K,) text | class names, unless --classes gives them; default class 0 … |
| size | (2,) | width and height of the picture for C = 2, unless --size gives them |
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.data.layouts import LayoutError, get_layout, layout_names

from . import common, recordings, tables
from .common import Clip, ClipError, Dataset, FormatError, Parsed, Plan
from .sources import Source

EXPECTS = 'a .npz file with keypoint (N, M, T, V, C), label (N,) and more, see the documentation'
TEXTS = ('subject', 'session', 'outcome')
CLIPS_A_JOB = 2048


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """Jobs of `CLIPS_A_JOB` clips; checks everything that holds for the whole file."""
    source = source.path
    arrays = load(source)
    keypoint = arrays['keypoint']
    if keypoint.ndim == 4:
        keypoint = keypoint[:, None]
    if keypoint.ndim != 5 or keypoint.shape[-1] not in (2, 3) or keypoint.dtype.kind not in 'fiu':
        raise FormatError(
            f'{source}: keypoint is {keypoint.dtype} of shape {keypoint.shape}, expected numbers '
            'of shape (N, M, T, V, 2) or (N, M, T, V, 3)'
        )
    arrays['keypoint'] = keypoint
    count, persons, frames, joints, channels = keypoint.shape
    check_shapes(arrays, source)

    layout = options['layout'] or str(arrays.get('layout', ''))
    if not layout:
        raise FormatError('--layout is needed (or an array layout): the name of a joint layout')
    try:
        known = get_layout(layout)
    except LayoutError as error:
        raise FormatError(f'--layout: {error}') from None
    if known.num_joints != joints:
        raise FormatError(
            f'{source}: keypoint has {joints} joints, the layout {known.name} {known.num_joints}'
        )
    # A layout from a file travels inside the annotation file, which may be read elsewhere.
    layout = layout if layout in layout_names() else known.as_dict()
    if options['classes']:
        classes = tables.read_classes(options['classes'])
    elif 'classes' in arrays:
        classes = [str(name) for name in arrays['classes']]
    else:
        classes = [f'class {i}' for i in range(int(arrays['label'].max(initial=-1)) + 1)]
    size = recordings.parse_size(options['size'])
    if size is None and 'size' in arrays:
        size = tuple(int(value) for value in arrays['size'])
    if channels == 2 and size is None:
        raise FormatError('--size WIDTHxHEIGHT is needed (or an array size) for pixel coordinates')

    size = size if channels == 2 else None
    rows = {name: values for name, values in arrays.items() if name in PER_CLIP and values.ndim}
    jobs = [
        (
            source.name,
            first,
            {name: values[first : first + CLIPS_A_JOB] for name, values in rows.items()},
            dict(classes=len(classes), size=size, fps=scalar(arrays.get('fps'))),
        )
        for first in range(0, count, CLIPS_A_JOB)
    ]
    return Plan(jobs, context=dict(layout=layout, classes=classes))


PER_CLIP = ('keypoint', 'label', 'keypoint_score', 'total_frames', 'clip', 'split', 'start', 'end',
            'fps', *TEXTS)  # fmt: skip


def load(source: Path) -> dict[str, np.ndarray]:
    """The arrays of the file, without unpickling anything.

    Raises:
        FormatError: Not an .npz, one with pickled objects, or one without keypoint and label.
    """
    if not source.is_file() or source.suffix != '.npz':
        raise Source(source).refuse(EXPECTS)
    try:
        with np.load(source, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f'{source} cannot be read ({error}). Expected: {EXPECTS}') from None
    missing = {'keypoint', 'label'} - set(arrays)
    if missing:
        found = ', '.join(arrays) or 'nothing'
        raise FormatError(f'{source} lacks {", ".join(sorted(missing))}; it holds {found}')
    return arrays


def check_shapes(arrays: dict[str, np.ndarray], source: Path) -> None:
    """Refuse arrays that do not fit `keypoint`, and labels that are no integers."""
    keypoint = arrays['keypoint']
    if 'keypoint_score' in arrays and arrays['keypoint_score'].ndim == 3:
        arrays['keypoint_score'] = arrays['keypoint_score'][:, None]
    expected = {name: keypoint.shape[:1] for name in PER_CLIP if name != 'keypoint'}
    expected['keypoint_score'] = keypoint.shape[:-1]
    for name, shape in expected.items():
        if (
            name in arrays
            and arrays[name].shape != shape
            and not (name == 'fps' and not arrays[name].ndim)
        ):
            raise FormatError(
                f'{source}: {name} has shape {arrays[name].shape}, expected {shape} to fit keypoint'
            )
    for name in ('label', 'total_frames', 'start', 'end'):
        if name in arrays and arrays[name].dtype.kind not in 'iu':
            raise FormatError(f'{source}: {name} is {arrays[name].dtype}, expected integers')


def scalar(array: np.ndarray | None) -> float | None:
    return float(array) if array is not None and array.ndim == 0 else None


def read(job: tuple[str, int, dict[str, np.ndarray], dict]) -> Parsed:
    """Clips of one packet."""
    file, first, rows, about = job
    parsed = Parsed()
    for i in range(len(rows['label'])):
        name = f'clip_{first + i:05d}'
        row = {key: values[i] for key, values in rows.items()}
        clip_id = str(row.get('clip', name))
        try:
            annotation = read_clip(clip_id, row, about, file, f'entry {first + i}')
        except ClipError as error:
            parsed.rejects.append(error.reject(clip_id))
        else:
            split = str(row['split']) if row.get('split') else None
            parsed.clips.append(Clip(annotation, f'{file}, entry {first + i}', None, split))
    return parsed


def read_clip(clip_id: str, row: dict, about: dict, file: str, entry: str) -> dict:
    """The annotation of one entry.

    Raises:
        ClipError: The entry cannot be used.
    """
    label, longest = int(row['label']), row['keypoint'].shape[1]
    if not 0 <= label < about['classes']:
        detail = f'{entry}: label {label}, expected 0 to {about["classes"] - 1}'
        raise ClipError(common.LABEL_RANGE, file, None, detail)
    frames = int(row.get('total_frames', longest))
    if frames < 1:
        raise ClipError(common.EMPTY, file, None, f'{entry}: total_frames is {frames}')
    if frames > longest:
        detail = f'{entry}: total_frames is {frames}, keypoint has {longest}'
        raise ClipError(common.BEYOND_FILE, file, None, detail)
    if 'start' in row and 'end' in row and row['end'] < row['start']:
        detail = f'{entry}: start {row["start"]}, end {row["end"]}'
        raise ClipError(common.END_BEFORE_START, file, None, detail)
    keypoint = row['keypoint'][:, :frames]
    score = row['keypoint_score'][:, :frames] if 'keypoint_score' in row else None
    if not np.isfinite(keypoint).all() or (score is not None and not np.isfinite(score).all()):
        raise ClipError(common.NAN, file, None, f'{entry}: a coordinate or score is not finite')
    known = {name: str(row[name]) for name in TEXTS if name in row and str(row[name])}
    known.update((name, int(row[name])) for name in ('start', 'end') if name in row)
    known['fps'] = float(row['fps']) if 'fps' in row else about['fps']
    annotation = common.make_annotation(clip_id, label, keypoint, score, about['size'], **known)
    if not annotation['keypoint_score'].any():
        raise ClipError(common.ALL_ZERO, file, None, f'{entry}: no joint in {frames} frames')
    return annotation


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Splits of the user's own choice."""
    split, notes = tables.user_splits(clips, options['val_subjects'])
    meta = dict(
        layout=plan.context['layout'],
        classes=plan.context['classes'],
        source='npz',
        note='; '.join(notes),
    )
    return Dataset(split, meta, notes)
