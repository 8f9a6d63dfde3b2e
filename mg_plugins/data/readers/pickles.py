"""PYSKL's and MMAction2's annotation pickles as they are; see `formats.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from mg_plugins.data.unpickle import AnnotationError, load_pickle

from . import arrays, common
from .arrays import collect as collect
from .common import Clip, ClipError, FormatError, Parsed, Plan
from .sources import Source

PLAIN = (str, int, float, bool, np.generic)


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """Jobs of some annotations each."""
    files = source.need(r'\.(pkl|pickle)$', 'pickle')
    rows, split, classes = [], {}, None
    plan = Plan([])
    for entry in files:
        try:
            content = load_pickle(entry.place)
        except AnnotationError as error:
            if len(files) == 1:
                raise FormatError(str(error)) from None
            failure = ClipError(common.UNREADABLE, entry.name, None, str(error))
            plan.rejects.append(failure.reject(entry.path.stem))
            continue
        content = dict(annotations=content) if isinstance(content, list) else content
        found = content.get('annotations') if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise FormatError(
                f'{entry.name} holds no annotations: expected a list of dicts, or a dict with '
                '"annotations"'
            )
        named = [str(row.get('frame_dir', f'clip_{n:05d}')) for n, row in enumerate(found)]
        known = {name for name, _, _ in rows}
        if known & set(named):  # two files that count their clips alike
            named = [f'{entry.path.stem}/{name}' for name in named]
        own = content.get('split')
        if not isinstance(own, dict) or not all(isinstance(m, (list, tuple)) for m in own.values()):
            own = {entry.path.stem: named} if len(files) > 1 else {}
        for name, members in own.items():
            split.setdefault(str(name), []).extend(map(str, members))
        meta = content.get('meta')
        classes = meta.get('classes') if isinstance(meta, dict) else classes
        rows += [(name, row, entry.name) for name, row in zip(named, found, strict=True)]
    shapes = Counter(
        row['keypoint'].shape[2:]
        for _, row, _ in rows
        if isinstance(row.get('keypoint'), np.ndarray) and row['keypoint'].ndim == 4
    )
    if not shapes:
        raise FormatError(f'{source} holds no annotation with a keypoint array (M, T, V, C)')
    layout = meta.get('layout') if rows and isinstance(meta, dict) else None
    about = arrays.settle(shapes.most_common(1)[0][0], options, layout, source, by_count=True)
    labels = [int(r['label']) for _, r, _ in rows if isinstance(r.get('label'), (int, np.integer))]
    names, about['first'] = arrays.class_names(labels, options, classes, source)
    sample = [row['keypoint'] for _, row, _ in rows[:50] if hasattr(row.get('keypoint'), 'ndim')]
    scored = {arrays.with_scores(part, about['layout']) for part in sample if part.ndim == 4}
    about.update(classes=len(names), scored=scored == {True})
    usual = shapes.most_common(1)[0][0]
    fit = [part for part in sample if part.ndim == 4 and part.shape[2:] == usual and part.size]
    plan.notes += arrays.find_unit(fit, about) if fit else []
    plan.jobs = [(part, about) for part in common.packets(rows, arrays.CLIPS_A_JOB)]
    plan.context = dict(layout=about['layout'], names=names, source='pickle', split=split)
    return plan


def read(job: tuple[list, dict]) -> Parsed:
    """Clips of one packet."""
    rows, about = job
    parsed = Parsed()
    for name, row, file in rows:
        where = f'{file}, clip {name}'
        try:
            with common.reading(where):
                annotation = read_clip(name, row, about, where, parsed.counts)
        except ClipError as error:
            parsed.rejects.append(error.reject(name))
        else:
            parsed.clips.append(Clip(annotation, where))
    return parsed


def read_clip(name: str, row: dict, about: dict, where: str, counts: Counter[str]) -> dict:
    """The annotation of one dict."""
    if not isinstance(row.get('keypoint'), np.ndarray):
        found = type(row.get('keypoint')).__name__
        detail = f'keypoint is a {found}, expected an array (M, T, V, C)'
        raise ClipError(common.UNREADABLE, where, None, detail)
    label = row.get('label')
    if label is not None and not isinstance(label, (int, np.integer)):
        detail = f'label is {label!r:.40}, expected a whole number'
        raise ClipError(common.NON_NUMERIC, where, None, detail)
    given = {key: value for key, value in row.items() if isinstance(value, PLAIN)}
    given = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
    shape = row.get('img_shape') or row.get('original_shape')
    if isinstance(shape, (tuple, list)) and len(shape) >= 2 and min(shape[:2]) > 0:
        given['size'] = (int(shape[1]), int(shape[0]))
    frames = row.get('total_frames')
    keypoint, score = row['keypoint'], row.get('keypoint_score')
    if isinstance(frames, (int, np.integer)) and keypoint.ndim == 4 and frames > keypoint.shape[1]:
        detail = f'total_frames is {frames}, keypoint has {keypoint.shape[1]}'
        raise ClipError(common.BEYOND_FILE, where, None, detail)
    given.update(keypoint=keypoint, keypoint_score=score)
    return arrays.make_clip(name, given, about, where, counts)
