"""Clips that are arrays already: `.npz` and `.npy` files, pickles of PYSKL and MMAction2.

Both kinds become rows, dicts of a clip's arrays and what else is known of it; axes, channels,
scores, units and labels are then settled in one way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.data.layouts import get_layout
from mg_plugins.data.relayout import usual_coordinates
from mg_plugins.data.storage import check_zip
from mg_plugins.data.unpickle import AnnotationError, load_pickle

from . import common, tables, takes
from .common import Clip, ClipError, Dataset, FormatError, Options, Parsed, Plan
from .sources import Source

CLIPS_A_JOB = 512
PLAIN = (str, int, float, bool, np.generic)
NUMBERS = ('label', 'total_frames', 'start', 'end')
PER_CLIP = ('keypoint', 'keypoint_score', 'clip', 'split', 'fps', *NUMBERS, *tables.TEXTS)
# What `read_clip` decides on by itself.
KEPT_APART = {'keypoint', 'keypoint_score', 'label', 'size', 'clip', 'split', 'frame_dir',
              'total_frames', 'img_shape', 'original_shape'}  # fmt: skip


@dataclass
class Content:
    """What the files hold: rows, and what they say of all clips."""

    rows: Any
    labels: Sequence[int]
    sample: list[np.ndarray]
    layout: Any = None
    classes: list[str] | None = None
    size: tuple[int, int] | None = None
    split: dict[str, list[str]] = field(default_factory=dict)
    rejects: list = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan(source: Source, options: Options) -> Plan:
    """Jobs of some clips each; decides what holds for all clips."""
    npz = options['format'] == 'npz'
    content = load_arrays(source) if npz else load_pickles(source)
    joints, channels = usual = content.sample[0].shape[2:]
    points = np.concatenate([clip.reshape(-1, *usual) for clip in content.sample])
    guess = 'ntu25' if joints == 25 and channels == 3 else takes.by_count('arrays', joints)
    wanted = options['layout'] or content.layout or (None if npz else guess)
    if not wanted:
        raise FormatError(f'--layout is needed: {source} does not say what its {joints} joints are')
    layout = takes.check_layout(wanted)
    known = get_layout(layout)
    if known.num_joints != joints:
        raise FormatError(
            f'{source}: keypoint has {joints} joints, the layout {known.name} {known.num_joints}'
        )
    if options['max_score'] is not None and not options['max_score'] > 0:
        raise FormatError(f'--max-score {options["max_score"]:g} must be above 0')
    names, first = class_names(content.labels, options, content.classes, source)
    size = tables.parse_size(options['size']) or content.size
    scored = with_scores(points, layout)
    if npz:
        scored = scored and 'keypoint_score' not in content.rows
        if size is None and (scored or channels == 2):
            raise FormatError(
                '--size WIDTHxHEIGHT is needed (or an array size) for pixel coordinates'
            )
    about = dict(layout=layout, size=size, scored=scored, classes=len(names), first=first)
    about['options'], notes = dict(options), content.notes
    if channels == 3 and not scored and not options['unit']:  # decided once for all clips
        points, counts = np.nan_to_num(points[:20_000]).astype(np.float32), Counter()
        factor = takes.metres(points, points.any(-1), None, known, counts)
        unit = min(takes.UNITS, key=lambda name: abs(takes.UNITS[name] - factor))
        about['options']['unit'] = unit
        if counts:
            notes = [*notes, f'coordinates are in {unit}, turned into metres (--unit)']
    jobs = []
    for start in range(0, len(content.rows['keypoint'] if npz else content.rows), CLIPS_A_JOB):
        part = slice(start, start + CLIPS_A_JOB)
        if source.path.suffix == '.npy':
            rows = part  # each process maps the file into memory by itself
        else:
            rows = {k: v[part] for k, v in content.rows.items()} if npz else content.rows[part]
        jobs.append((source.path, start, rows, about))
    context = dict(layout=layout, names=names, split=content.split)
    return Plan(jobs, content.rejects, notes, context)


def read(job: tuple[Path, int, Any, dict]) -> Parsed:
    """Clips of one packet."""
    path, start, rows, about = job
    parsed = Parsed()
    if isinstance(rows, slice):
        rows = dict(keypoint=load_arrays(Source(path)).rows['keypoint'][rows])
    for name, where, row in rows if isinstance(rows, list) else split_rows(rows, path.name, start):
        with parsed.listing(name, where):
            annotation = read_clip(name, dict(row), about, parsed.counts)
            split = str(row.get('split') or '') or None
            parsed.clips.append(Clip(annotation, where, None, split))
    return parsed


def split_rows(
    arrays: dict[str, np.ndarray], file: str, start: int
) -> Iterator[tuple[str, str, dict]]:
    """(name, place, row) of the clips of some arrays."""
    for i in range(len(arrays['keypoint'])):
        row = {key: values[i] for key, values in arrays.items()}
        row |= {key: str(row[key]) or None for key in (*tables.TEXTS, 'split') if key in row}
        yield str(row.get('clip', f'clip_{start + i:05d}')), f'{file}, entry {start + i}', row


def load_arrays(source: Source) -> Content:
    """The arrays of a `.npz` or `.npy` file, without unpickling anything."""
    if not source.is_file or source.path.suffix not in ('.npz', '.npy'):
        raise source.refuse('npz')
    path = source.path
    try:
        if path.suffix == '.npy':
            found = dict(keypoint=np.load(path, mmap_mode='r', allow_pickle=False))
        else:
            check_zip(path)
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
    except Exception as error:  # the zip, zlib and array readers have errors of their own
        expects = common.format_entry('npz')['expects']
        raise FormatError(f'{path} cannot be read ({error}). Expected: {expects}') from None
    if 'keypoint' not in found:
        raise FormatError(f'{path} lacks keypoint; it holds {", ".join(found) or "nothing"}')
    keypoint = found['keypoint'] = usual_axes(found['keypoint'], source)
    score = found.get('keypoint_score')
    if score is not None:
        score = score[:, None] if score.ndim == 3 else score
        if score.ndim == 5 and score.shape[1] == 1 and score.shape[1:] != keypoint.shape[1:]:
            score = score.transpose(0, 4, 2, 3, 1)[..., 0]
        found['keypoint_score'] = score
    for name in PER_CLIP[1:]:
        array = found.get(name)
        expected = keypoint.shape[: 4 if name == 'keypoint_score' else 1]
        if array is not None and array.shape != expected and not (name == 'fps' and not array.ndim):
            raise FormatError(f'{source}: {name} has shape {array.shape}, expected {expected}')
        if array is not None and name in NUMBERS and array.dtype.kind not in 'iu':
            raise FormatError(f'{source}: {name} is {array.dtype}, expected integers')
    if 'fps' in found:
        found['fps'] = np.broadcast_to(found['fps'], len(keypoint))
    size = found.get('size')
    if size is not None and (size.dtype.kind not in 'iuf' or not np.isfinite(size).all()):
        raise FormatError(f'{source}: size is {size}, expected two numbers, width and height')
    unknown = [name for name in found if name not in (*PER_CLIP, 'size', 'layout', 'classes')]
    return Content(
        {name: values for name, values in found.items() if name in PER_CLIP},
        found['label'].tolist() if 'label' in found else [],
        list(keypoint[:50]),
        str(found.get('layout', '')),
        [str(name) for name in found['classes']] if 'classes' in found else None,
        None if size is None else tuple(int(side) for side in size.reshape(-1)[:2]),
        notes=[f'arrays of other names are not read: {", ".join(unknown)}'] * bool(unknown),
    )


def usual_axes(keypoint: np.ndarray, source: Source) -> np.ndarray:
    """(N, M, T, V, C), also from (N, T, V, C) and from ST-GCN's (N, C, T, V, M)."""
    shape = keypoint.shape
    if keypoint.ndim == 4:
        keypoint = keypoint[:, None]
    elif keypoint.ndim == 5 and shape[1] in (2, 3) and shape[3] >= 14 and shape[4] <= 4:
        # (N, C, T, V, M) and (N, M, T, V, C) differ where both ends are 2 or 3 in this alone: a
        # coordinate holds other numbers than the next one everywhere, an absent person is all 0.
        if shape[4] not in (2, 3) or not keypoint[:, :, :, :, -1].any():
            keypoint = keypoint.transpose(0, 4, 2, 3, 1)
    if keypoint.ndim != 5 or keypoint.shape[-1] not in (2, 3) or keypoint.dtype.kind not in 'fiu':
        raise FormatError(
            f'{source}: keypoint is {keypoint.dtype} of shape {shape}, expected numbers '
            'of shape (N, M, T, V, 2) or (N, M, T, V, 3)'
        )
    return keypoint


def load_pickles(source: Source) -> Content:
    """The annotations of one pickle or several; of several, those without splits are one each."""
    files = source.find(r'\.(pkl|pickle)$')
    if not files:
        raise source.refuse('pickle')
    rows, split, rejects, layout, classes = [], {}, [], None, None
    for entry in files:
        try:
            content = load_pickle(entry.place)
        except AnnotationError as error:
            if len(files) == 1:
                raise FormatError(str(error)) from None
            rejects.append(ClipError(str(error), file=entry.name).reject(entry.path.stem))
            continue
        content = dict(annotations=content) if isinstance(content, list) else content
        found = content.get('annotations') if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise FormatError(
                f'{entry.name} holds no annotations: expected a list of dicts, or a dict with '
                '"annotations"'
            )
        named = [str(row.get('frame_dir', f'clip_{n:05d}')) for n, row in enumerate(found)]
        if {name for name, _, _ in rows} & set(named):  # two files that count their clips alike
            named = [f'{entry.path.stem}/{name}' for name in named]
        own = content.get('split')
        if not isinstance(own, dict) or not all(isinstance(m, (list, tuple)) for m in own.values()):
            own = {entry.path.stem: named} if len(files) > 1 else {}
        for name, members in own.items():
            split.setdefault(str(name), []).extend(map(str, members))
        meta = content.get('meta') if isinstance(content.get('meta'), dict) else {}
        layout, classes = meta.get('layout', layout), meta.get('classes', classes)
        where = (f'{entry.name}, clip {name}' for name in named)
        rows += zip(named, where, found, strict=True)
    arrays = [row.get('keypoint') for _, _, row in rows]
    arrays = [part for part in arrays if isinstance(part, np.ndarray) and part.ndim == 4]
    if not arrays:
        raise FormatError(f'{source} holds no annotation with a keypoint array (M, T, V, C)')
    usual = Counter(part.shape[2:] for part in arrays).most_common(1)[0][0]
    sample = [part for part in arrays[:50] if part.shape[2:] == usual] or arrays[:1]
    labels = [row.get('label') for _, _, row in rows]
    labels = [int(label) for label in labels if isinstance(label, (int, np.integer))]
    return Content(rows, labels, sample, layout, classes, None, split, rejects)


def with_scores(keypoint: np.ndarray, layout: str | dict) -> bool:
    """Whether the third channel of (..., V, 3) is a score: from 0 to 1 beside pixels."""
    if keypoint.shape[-1] != 3:
        return False
    there = keypoint.reshape(-1, 3)[:200_000].astype(np.float32)
    there = there[np.isfinite(there).all(1) & there.any(1)]
    if not len(there) or there[:, 2].min() < 0 or there[:, 2].max() > 1:
        return False
    return np.median(np.abs(there[:, :2])) > 10 or usual_coordinates(get_layout(layout)) == 2


def class_names(
    labels: Sequence[int], options: Options, own: Sequence[str] | None, file: Any
) -> tuple[list[str], int]:
    """Class names, and what labels are counted from."""
    names = tables.read_classes(options['classes']) if options['classes'] else own
    cells = [str(label) for label in set(labels)]
    first, _ = tables.count_from(cells, names, options['first_label'], str(file))
    largest = max(labels, default=first - 1)
    if names is None and largest - first >= tables.MOST_CLASSES:
        raise FormatError(f'{file}: label {largest} is larger than any number of classes')
    return list(names or tables.infer_classes(cells, first)), first


def read_clip(name: str, row: dict, about: Mapping[str, Any], counts: Counter[str]) -> dict:
    """The annotation of one row; `about` is what `plan` decided."""
    keypoint, score = row.get('keypoint'), row.get('keypoint_score')
    if not isinstance(keypoint, np.ndarray):
        found = type(keypoint).__name__
        raise ClipError(f'keypoint is a {found}, expected an array (M, T, V, C)')
    if keypoint.ndim != 4 or keypoint.dtype.kind not in 'fiu' or keypoint.shape[-1] not in (2, 3):
        found = f'{keypoint.dtype} of shape {keypoint.shape}'
        raise ClipError(f'keypoint is {found}, not (M, T, V, 2 or 3)')
    if 0 in keypoint.shape:
        raise ClipError(f'keypoint has the shape {keypoint.shape}', common.EMPTY)
    frames = row.get('total_frames')
    if isinstance(frames, (int, np.integer)) and frames != keypoint.shape[1]:
        if frames < 1:
            raise ClipError(f'total_frames is {frames}', common.EMPTY)
        if frames > keypoint.shape[1]:
            detail = f'total_frames is {frames}, keypoint has {keypoint.shape[1]}'
            raise ClipError(detail, common.BEYOND_FILE)
        keypoint = keypoint[:, :frames]  # shorter clips are padded at the end
        score = score[:, :frames] if isinstance(score, np.ndarray) else None
    layout = get_layout(about['layout'])
    if keypoint.shape[2] != layout.num_joints:
        own = f'but the layout {layout.name} has {layout.num_joints}'
        raise ClipError(f'{keypoint.shape[2]} joints, {own}')
    label = row.get('label')
    if label is not None:
        if not isinstance(label, (int, np.integer)):
            raise ClipError(f'label is {label!r:.40}, expected a whole number', common.NON_NUMERIC)
        label = int(label) - about['first']
        if not 0 <= label < about['classes']:
            detail = f'label {label}, expected 0 to {about["classes"] - 1}'
            raise ClipError(detail, common.LABEL_RANGE)
    start, end = row.get('start'), row.get('end')
    if start is not None and end is not None and end < start:
        raise ClipError(f'start {start}, end {end}', common.END_BEFORE_START)
    keypoint = keypoint.astype(np.float32)
    if about['scored']:
        counts['clips held x, y, score as three channels'] += 1
        score, keypoint = keypoint[..., 2] if score is None else score, keypoint[..., :2]
    shape = keypoint.shape
    score = np.ones(shape[:3], np.float32) if score is None else np.asarray(score)
    score = score[..., 0] if score.shape == (*shape[:3], 1) else score
    if score.shape != shape[:3] or score.dtype.kind not in 'fiub':
        found = f'{score.dtype} of shape {score.shape}'
        raise ClipError(f'keypoint_score is {found}, not {shape[:3]}')
    picture = row.get('img_shape') or row.get('original_shape') or ()
    size = about['size'] or tuple(int(side) for side in picture[1::-1])
    size = size if len(size) == 2 and min(size) > 0 else None
    points, score, size = takes.clean(
        keypoint.reshape(-1, *shape[2:]), score.reshape(-1, shape[2]),
        takes.Unit(None, 0.0, size, layout), about['options'], counts,
    )  # fmt: skip
    known = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in row.items()
        if key not in KEPT_APART and isinstance(value, PLAIN)
    }
    points, score = points.reshape(shape), score.reshape(shape[:3])
    there = score.any((1, 2))  # absent persons are padded with zeros
    annotation = common.make_annotation(name, label, points[there], score[there], size, **known)
    common.check_content(annotation)
    return annotation


def collect(clips: list[Clip], extras: list, plan: Plan, options: Options) -> Dataset:
    """The file's own splits, or those of the user's choice."""
    about, notes = plan.context, []
    split = about['split']
    if not split:
        split, notes = tables.user_splits(clips, options['val_subjects'])
    named = {name for members in split.values() for name in members}
    left = sum(clip.annotation['frame_dir'] not in named for clip in clips)
    if about['split'] and left:
        notes.append(f'{left} clips are in no split of the file')
    bare = sum('label' not in clip.annotation for clip in clips)
    notes += [f'{bare} clips have no label'] * (bare > 0)
    return Dataset(split, about['layout'], about['names'], notes)
