"""Arrays of the user's own in a `.npz` or `.npy` file; see `formats.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.data.storage import check_zip

from . import arrays, common
from .arrays import collect as collect
from .common import Clip, ClipError, FormatError, Parsed, Plan
from .sources import Source

TEXTS = ('subject', 'session', 'outcome')
NUMBERS = ('label', 'total_frames', 'start', 'end')
PER_CLIP = ('keypoint', 'keypoint_score', 'clip', 'split', 'fps', *NUMBERS, *TEXTS)


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """Jobs of some clips each; checks everything that holds for the whole file."""
    if not source.is_file or source.path.suffix not in ('.npz', '.npy'):
        raise source.refuse('npz')
    found = load(source.path)
    keypoint = found['keypoint'] = usual_axes(found['keypoint'], source)
    check_shapes(found, source)
    named = str(found['layout']) if 'layout' in found else ''
    about = arrays.settle(keypoint.shape, options, named, source)
    own = [str(name) for name in found['classes']] if 'classes' in found else None
    labels = found['label'].tolist() if 'label' in found else []
    names, about['first'] = arrays.class_names(labels, options, own, source)
    scored = arrays.with_scores(keypoint, about['layout']) and 'keypoint_score' not in found
    if about['size'] is None and 'size' in found:
        about['size'] = tuple(int(side) for side in found['size'].reshape(-1)[:2])
    if about['size'] is None and (scored or keypoint.shape[-1] == 2):
        raise FormatError('--size WIDTHxHEIGHT is needed (or an array size) for pixel coordinates')
    fps = found.get('fps')
    about.update(classes=len(names), scored=scored)
    notes = arrays.find_unit([keypoint[:50]], about)
    about['fps'] = float(fps) if fps is not None and fps.ndim == 0 else None
    rows = {name: values for name, values in found.items() if name in PER_CLIP and values.ndim}
    step = arrays.CLIPS_A_JOB
    jobs = [
        (source.path.name, first, {key: v[first : first + step] for key, v in rows.items()}, about)
        for first in range(0, len(keypoint), step)
    ]
    context = dict(layout=about['layout'], names=names, source='npz')
    return Plan(jobs, notes=notes, context=context)


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file, without unpickling anything.

    Raises:
        FormatError: Not such a file, one with pickled objects or larger than it says, or without
            keypoint.
    """
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
    return found


def usual_axes(keypoint: np.ndarray, source: Source) -> np.ndarray:
    """(N, M, T, V, C), also from (N, T, V, C) and from ST-GCN's (N, C, T, V, M).

    Raises:
        FormatError: Other axes, or no numbers.
    """
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


def check_shapes(found: dict[str, np.ndarray], source: Source) -> None:
    """Refuse arrays that do not fit `keypoint`, and labels that are no integers."""
    keypoint = found['keypoint']
    score = found.get('keypoint_score')
    if score is not None:
        if score.ndim == 3:
            score = score[:, None]
        if score.ndim == 5 and score.shape[1] == 1 and score.shape[1:] != keypoint.shape[1:]:
            score = score.transpose(0, 4, 2, 3, 1)[..., 0]
        found['keypoint_score'] = score
    expected = {name: keypoint.shape[:1] for name in PER_CLIP if name != 'keypoint'}
    expected['keypoint_score'] = keypoint.shape[:-1]
    for name, shape in expected.items():
        array = found.get(name)
        if array is not None and array.shape != shape and not (name == 'fps' and not array.ndim):
            raise FormatError(f'{source}: {name} has shape {array.shape}, expected {shape}')
    for name in NUMBERS:
        if name in found and found[name].dtype.kind not in 'iu':
            raise FormatError(f'{source}: {name} is {found[name].dtype}, expected integers')


def read(job: tuple[str, int, dict[str, np.ndarray], dict]) -> Parsed:
    """Clips of one packet."""
    file, first, rows, about = job
    parsed = Parsed()
    for i in range(len(rows['keypoint'])):
        row = {key: values[i] for key, values in rows.items()}
        clip_id = str(row.pop('clip', f'clip_{first + i:05d}'))
        split, where = str(row.pop('split', '')), f'{file}, entry {first + i}'
        try:
            with common.reading(where):
                annotation = read_clip(clip_id, row, about, where, parsed.counts)
                parsed.clips.append(Clip(annotation, where, None, split or None))
        except ClipError as error:
            parsed.rejects.append(error.reject(clip_id))
    return parsed


def read_clip(clip_id: str, row: dict, about: dict, where: str, counts) -> dict:
    """The annotation of one entry."""
    longest = row['keypoint'].shape[1]
    frames = int(row.pop('total_frames', longest))
    if frames < 1:
        raise ClipError(common.EMPTY, where, None, f'total_frames is {frames}')
    if frames > longest:
        detail = f'total_frames is {frames}, keypoint has {longest}'
        raise ClipError(common.BEYOND_FILE, where, None, detail)
    for key in ('keypoint', 'keypoint_score'):
        if key in row:
            row[key] = row[key][:, :frames]
    row.update({key: int(row[key]) for key in ('start', 'end') if key in row})
    row.update({key: str(row[key]) or None for key in TEXTS if key in row})
    row['fps'] = float(row['fps']) if 'fps' in row else about['fps']
    return arrays.make_clip(clip_id, row, about, where, counts)
