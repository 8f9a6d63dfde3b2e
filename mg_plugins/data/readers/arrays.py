"""Clips that are arrays already: `.npz` and `.npy` files, pickles of PYSKL and MMAction2."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.data.annotations import AnnotationError, read_file
from mg_plugins.data.checks import coordinates, describe
from mg_plugins.data.layouts import get_layout, usual_coordinates
from mg_plugins.data.storage import read_arrays

from . import common, tables, takes
from .common import BEYOND_FILE, NON_NUMERIC, Clip, ClipError, Parsed, Plan, expect, require
from .sources import Source
from .tables import collect as collect

CLIPS_A_JOB = 512
INTEGER = (int, np.integer)
LISTS = (list, tuple, np.ndarray)
PLAIN = (str, int, float, bool, np.generic)
NUMBERS = ('label', 'total_frames', 'start', 'end')
PER_CLIP = ('keypoint', 'keypoint_score', 'clip', 'split', 'fps', *NUMBERS, *tables.TEXTS)
# What `read_clip` decides on by itself.
KEPT_APART = {'keypoint', 'keypoint_score', 'label', 'size', 'clip', 'split', 'frame_dir',
              'total_frames', 'img_shape', 'original_shape'}  # fmt: skip


def plan(source: Source, options: common.Options) -> Plan:
    """Jobs of some clips each; decides what holds for all clips."""
    npz, plan = options['format'] == 'npz', Plan([])
    rows, said = (load_arrays if npz else load_pickles)(source, plan), plan.context
    if npz:
        clips, labels = rows['keypoint'][:50], rows.get('label', np.zeros(0)).tolist()
    else:
        clips = [part for _, _, row in rows if (part := coordinates(row)) is not None]
        labels = [int(row['label']) for _, _, row in rows if isinstance(row.get('label'), INTEGER)]
    shapes = Counter(part.shape[2:] for part in clips if 0 not in part.shape[2:])
    one = rows.get('keypoint') if npz else next((row.get('keypoint') for _, _, row in rows), None)
    lacking = f'{source} holds no annotation with a keypoint array (M, T, V, C) that has a joint'
    require(shapes, f'{lacking}; found {"none" if one is None else describe(one)}')
    joints, channels = usual = shapes.most_common(1)[0][0]
    sample = [part for part in clips if part.shape[2:] == usual][:50]
    points = np.concatenate([clip.reshape(-1, *usual) for clip in sample])
    guess = 'ntu25' if usual == (25, 3) else common.WORDS['layouts']['arrays'].get(str(joints))
    wanted = options['layout'] or said.get('layout') or (None if npz else guess)
    require(wanted, f'--layout is needed: {source} does not say what its {joints} joints are')
    layout = takes.check_layout(wanted, '--layout' if options['layout'] else str(source))
    known = get_layout(layout)
    detail = f'keypoint has {joints} joints, the layout {known.name} {known.num_joints}'
    require(known.num_joints == joints, f'{source}: {detail}')

    own = tables.read_classes(options['classes']) if options['classes'] else said.get('classes')
    cells, first = {str(label) for label in labels}, options['first_label']
    names, first = tables.class_names(cells, own, first, source, plan.notes)
    most = max(labels, default=first)
    require(own or most - first < tables.MOST_CLASSES, f'{source}: label {most} is too large')

    size = tables.parse_size(options['size']) or said.get('size')
    scored = with_scores(points, layout) and not (npz and 'keypoint_score' in rows)
    pixels = npz and (scored or channels == 2)
    require(size or not pixels, '--size WIDTHxHEIGHT is needed (or an array size) for pixels')
    about = dict(layout=layout, size=size, scored=scored, classes=len(names), first=first)
    about['options'] = options = dict(options)
    if channels == 3 and not scored and not options['unit']:  # decided once for all clips
        points = np.nan_to_num(points[:20_000]).astype(np.float32)
        unit = options['unit'] = takes.usual_unit(points, points.any(-1), known)
        if unit != 'm':
            plan.notes.append(f'coordinates are in {unit}, turned into metres (--unit)')
    for start in range(0, len(rows['keypoint'] if npz else rows), CLIPS_A_JOB):
        some = part = slice(start, start + CLIPS_A_JOB)
        if source.path.suffix != '.npy':  # which each process maps into memory by itself
            some = {k: v[part] for k, v in rows.items()} if npz else rows[part]
        plan.jobs.append((source.path, start, some, about))
    plan.context = dict(layout=layout, classes=names, split=said.get('split'))
    return plan


def read(job: tuple[Path, int, Any, dict]) -> Parsed:
    """Clips of one packet."""
    path, start, rows, about = job
    parsed = Parsed()
    if isinstance(rows, slice):
        rows = dict(keypoint=load_arrays(Source(path), Plan([]))['keypoint'][rows])
    if isinstance(rows, dict):
        arrays, rows = rows, []
        for i in range(len(arrays['keypoint'])):
            row = {key: values[i] for key, values in arrays.items()}
            row |= {key: str(row[key]) or None for key in (*tables.TEXTS, 'split') if key in row}
            name = str(row.get('clip', f'clip_{start + i:05d}'))
            rows.append((name, f'{path.name}, entry {start + i}', row))
    for name, where, row in rows:
        with parsed.listing(name, where):
            annotation = read_clip(name, row, about, parsed.counts)
            parsed.clips.append(Clip(annotation, where, None, str(row.get('split') or '') or None))
    return parsed


def load_arrays(source: Source, plan: Plan) -> dict[str, np.ndarray]:
    """The arrays of all clips in a `.npz` or `.npy` file; the plan takes what else it says."""
    path = source.path
    source.need(source.is_file and path.suffix in ('.npz', '.npy'), 'npz')
    try:
        if path.suffix == '.npy':
            found = dict(keypoint=np.load(path, mmap_mode='r', allow_pickle=False))
        else:
            found = read_arrays(path)
    except Exception as error:  # the zip, zlib and array readers have errors of their own
        expects = common.FORMATS['npz']['expects']
        raise common.FormatError(f'{path} cannot be read ({error}). Expected: {expects}') from None
    require('keypoint' in found, f'{path} lacks keypoint; it holds {", ".join(found) or "nothing"}')
    keypoint = found['keypoint'] = usual_axes(found['keypoint'], source)
    score = found.get('keypoint_score')
    if score is not None:
        score = score[:, None] if score.ndim == 3 else score
        if score.ndim == 5 and score.shape[1] == 1 and score.shape[1:] != keypoint.shape[1:]:
            score = score.transpose(0, 4, 2, 3, 1)[..., 0]
        found['keypoint_score'] = score
    if 'fps' in found and not found['fps'].ndim:
        found['fps'] = np.broadcast_to(found['fps'], len(keypoint))
    rows = {name: found.pop(name) for name in PER_CLIP if name in found}
    for name, array in rows.items():
        wanted = keypoint.shape[: {'keypoint': 5, 'keypoint_score': 4}.get(name, 1)]
        detail = f'{name} has shape {array.shape}, expected {wanted}'
        require(array.shape == wanted, f'{source}: {detail}')
        fine = name not in NUMBERS or array.dtype.kind in 'iu'
        require(fine, f'{source}: {name} is {array.dtype}, expected integers')
    plan.context['layout'] = str(found.pop('layout', ''))
    if 'classes' in found:
        plan.context['classes'] = [str(name) for name in found.pop('classes')]
    if 'size' in found:
        size = found.pop('size')
        fine = size.dtype.kind in 'iuf' and np.isfinite(size).all()
        require(fine, f'{source}: size is {size}, expected two numbers, width and height')
        plan.context['size'] = tuple(int(side) for side in size.reshape(-1)[:2])
    if found:
        plan.notes.append(f'arrays of other names are not read: {", ".join(found)}')
    return rows


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
    fine = keypoint.ndim == 5 and keypoint.shape[-1] in (2, 3) and keypoint.dtype.kind in 'fiu'
    found = f'{source}: keypoint is {keypoint.dtype} of shape {shape}'
    require(fine, f'{found}, expected numbers of shape (N, M, T, V, 2) or (N, M, T, V, 3)')
    return keypoint


def load_pickles(source: Source, plan: Plan) -> list[tuple[str, str, dict]]:
    """(name, place, row) of all clips; the plan takes the rest. Several files are a split each."""
    files, rows, said = source.find(r'\.(pkl|pickle)$'), [], plan.context
    source.need(files, 'pickle')
    split = said['split'] = {}
    for entry in files:
        try:
            content = read_file(entry.place)
        except AnnotationError as error:
            require(len(files) > 1, str(error))
            plan.rejects.append(ClipError(str(error), file=entry.name, clip=entry.path.stem))
            continue
        found = [row if isinstance(row, dict) else {} for row in content['annotations']]
        named = [str(row.get('frame_dir', f'clip_{n:05d}')) for n, row in enumerate(found)]
        if {name for name, _, _ in rows} & set(named):  # two files that count their clips alike
            named = [f'{entry.path.stem}/{name}' for name in named]
        alone = {entry.path.stem: named} if len(files) > 1 else {}
        for name, members in (content['split'] or alone).items():
            split.setdefault(name, []).extend(map(str, members))
        said |= {k: v for k, v in content['meta'].items() if k in ('layout', 'classes')}
        fine = isinstance(said.get('classes', []), (list, tuple))
        require(fine, f'{entry.name}: the classes of its meta are no list of names')
        rows += zip(named, (f'{entry.name}, clip {name}' for name in named), found, strict=True)
    return rows


def with_scores(keypoint: np.ndarray, layout: str | dict) -> bool:
    """Whether the third channel of (..., V, 3) is a score: from 0 to 1 beside pixels."""
    if keypoint.shape[-1] != 3:
        return False
    there = keypoint.reshape(-1, 3)[:200_000].astype(np.float32)
    there = there[np.isfinite(there).all(1) & there.any(1)]
    if not len(there) or there[:, 2].min() < 0 or there[:, 2].max() > 1:
        return False
    return np.median(np.abs(there[:, :2])) > 10 or usual_coordinates(get_layout(layout)) == 2


def read_clip(name: str, row: dict, about: Mapping[str, Any], counts: Counter[str]) -> dict:
    """The annotation of one row; `about` is what `plan` decided."""
    keypoint, score = coordinates(row), row.get('keypoint_score')
    shape = () if keypoint is None else keypoint.shape
    found = describe(row.get('keypoint'))
    expect(shape[3:] in ((2,), (3,)), f'keypoint is {found}, not numbers (M, T, V, 2 or 3)')
    expect(0 not in shape, f'keypoint has the shape {shape}', common.EMPTY)
    frames = row.get('total_frames')
    if isinstance(frames, INTEGER) and frames != shape[1]:
        expect(frames > 0, f'total_frames is {frames}', common.EMPTY)
        expect(frames < shape[1], f'total_frames is {frames}, keypoint has {shape[1]}', BEYOND_FILE)
        keypoint = keypoint[:, :frames]  # shorter clips are padded at the end
        score = score[:, :frames] if isinstance(score, np.ndarray) else None
    layout = takes.check_joints(about['layout'], shape[2])
    label, start, end, fps = (row.get(key) for key in ('label', 'start', 'end', 'fps'))
    if label is not None:
        expect(isinstance(label, INTEGER), f'label is {label!r:.40}, no integer', NON_NUMERIC)
        label, most = int(label) - about['first'], about['classes'] - 1
        expect(0 <= label <= most, f'label {label}, expected 0 to {most}', common.LABEL_RANGE)
    fine = fps is None or isinstance(fps, (int, float, np.number)) and 0 < fps < 1e6
    expect(fine, f'fps is {fps!s:.40}, expected frames a second')
    fine = None in (start, end) or start <= end
    expect(fine, f'start {start}, end {end}', common.END_BEFORE_START)
    keypoint = keypoint.astype(np.float32)
    if about['scored']:
        counts['clips held x, y, score as three channels'] += 1
        score, keypoint = keypoint[..., 2] if score is None else score, keypoint[..., :2]
    shape = keypoint.shape
    score = np.ones(shape[:3], np.float32) if score is None else np.asarray(score)
    score = score[..., 0] if score.shape == (*shape[:3], 1) else score
    fine = score.shape == shape[:3] and score.dtype.kind in 'fiub'
    expect(fine, f'keypoint_score is {score.dtype} of shape {score.shape}, not {shape[:3]}')
    shapes = (row.get(key) for key in ('img_shape', 'original_shape'))
    picture = next((p for p in shapes if isinstance(p, LISTS) and len(p) > 1), ())
    size = about['size'] or tuple(int(side) for side in picture[1::-1])
    size = size if len(size) == 2 and min(size) > 0 else None
    take = takes.Take(about['options'], 'arrays', layout, size=size, counts=counts)
    points, score = keypoint.reshape(-1, *shape[2:]), score.reshape(-1, shape[2])
    points, score = takes.clean(take, points, score)
    known = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in row.items()
        if key not in KEPT_APART and isinstance(value, PLAIN)
    }
    for key in row.keys() - KEPT_APART - known.keys():
        if row[key] is not None:
            counts[f'clips have "{key}" that is neither number nor text; not kept'] += 1
    points, score = points.reshape(shape), score.reshape(shape[:3])
    there = score.any((1, 2))  # absent persons are padded with zeros
    return common.make_annotation(name, label, points[there], score[there], take.size, **known)
