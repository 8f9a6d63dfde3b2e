"""Where sessions come from: annotation files, predictions of tests, segments of recordings.

Every reader returns its sessions, and whether the data say that they are synthetic.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mg_plugins.errors import UserError
from mg_plugins.files import read_json

from .scenarios import LONGEST, SYNTHETIC, number_of
from .sessions import Session, merge_windows, recording_sessions, sessions_from_clips

# Splits by session come before splits by subject, which come before any other.
PROTOCOLS = ('emotion', 'sessions', 'xsub')
ENDINGS = {'train': 'train', 'val': 'test', 'test': 'test'}
PREDICTIONS = ('session', 'start', 'end', 'predicted_class', 'score')
Found = tuple[list[Session], bool]


def load_sessions(
    paths: Sequence[str | os.PathLike], split: str | None = None, *, notes: list[str] | None = None
) -> tuple[list[Session], str]:
    """Sessions of an annotation file, or of files of predictions or segments, and their source.

    Args:
        paths: A .pkl or .npz file or a .mg folder, or .csv or .json files.
        split: For annotations, the split to take; for predictions, 'train' or 'test', which they
            are from then on.
        notes: What had to be assumed is added to it.

    Returns:
        Sessions, and what to call their source: 'synthetic' where the files say so, else the name
        of the first file or, for predictions, of its folder.
    """
    paths = [Path(path) for path in paths]
    kinds = {path.suffix for path in paths}
    if kinds == {'.csv'} or kinds == {'.json'}:
        source = paths[0].resolve().parent.name
        if split not in (None, 'train', 'test'):
            raise UserError(f'the split of predictions is train or test, not {split!r}')
        if kinds == {'.json'} or 'start_s' in _header(paths[0]):
            sessions, synthetic = sessions_from_segments(paths, split or '')
        else:
            sessions, synthetic = sessions_from_predictions(paths, split or '', notes)
    elif len(paths) == 1 and kinds <= {'.pkl', '.npz', '.mg'}:
        source = paths[0].stem
        sessions, synthetic = sessions_from_annotations(paths[0], split, notes)
    else:
        raise UserError(
            'expected one annotation file (.pkl, .npz or .mg), or one or several files of '
            f'predictions or segments (.csv, .json), not {", ".join(map(str, paths)) or "nothing"}'
        )
    return sessions, SYNTHETIC if synthetic else source


def sessions_from_annotations(
    path: str | os.PathLike, split: str | None = None, notes: list[str] | None = None
) -> Found:
    """Sessions of an annotation file, with its true labels.

    ``split`` takes the clips of this split only. Sessions whose clips are in one that ends in
    train, val or test get the split 'train' or 'test' in either case.
    """
    from mg_plugins.data.annotations import load_annotations

    content = load_annotations(path)
    splits, meta, clips = content['split'], content['meta'], content['annotations']
    classes = meta.get('classes')
    if not classes:
        raise UserError(
            f'{path} has no class names (meta: classes), without which gestures cannot be named; '
            'tools/prepare_data.py writes them'
        )
    if split is not None:
        if split not in splits:
            has = ', '.join(splits) or 'none'
            raise UserError(f'{path} has no split {split!r}; it has {has}')
        splits = {split: set(splits[split])}
        clips = [clip for clip in clips if clip['frame_dir'] in splits[split]]
    for clip in clips:
        if clip['label'] >= len(classes):
            what = f'clip {clip["frame_dir"]!r} has label {clip["label"]}'
            raise UserError(f'{path}: {what}, but there are {len(classes)} class names')
    names, sides = [str(classes[clip['label']]) for clip in clips], _sides(clips, splits)
    sessions = sessions_from_clips(clips, names, notes=notes)
    sessions = [replace(session, split=sides.get(session.id, '')) for session in sessions]
    return sessions, meta.get('source') == SYNTHETIC


def _sides(clips: Iterable[Mapping], splits: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Session to 'train' or 'test', where all its clips are on that side of one protocol."""
    members: dict[str, dict[str, set[str]]] = {}  # clips by protocol and side
    for name, within in splits.items():
        protocol, _, ending = name.rpartition('_')
        if ending in ENDINGS:
            sides = members.setdefault(protocol, {})
            sides.setdefault(ENDINGS[ending], set()).update(within)
    # One protocol only: sides of several contradict each other.
    chosen = next((p for p in PROTOCOLS if p in members), next(iter(members), None))
    sessions: dict[str, set[str]] = {}
    for clip in clips:
        sessions.setdefault(str(clip['session']), set()).add(clip['frame_dir'])
    sides = members.get(chosen, {}).items()
    return {s: side for side, within in sides for s, names in sessions.items() if names <= within}


def sessions_from_predictions(
    paths: Sequence[str | os.PathLike], split: str = '', notes: list[str] | None = None
) -> Found:
    """Sessions of ``predictions.csv`` files that tests write.

    Several must hold different clips, such as those of the left-out subjects of tools/compare.py.
    """
    clips: dict[str, dict[str, Any]] = {}
    for path in map(Path, paths):
        for where, row in csv_rows(path, PREDICTIONS):
            name = row.get('frame_dir') or f'{row["session"]} {row["start"]}-{row["end"]}'
            if name in clips:
                raise UserError(
                    f'{where}: clip {name!r} is already in {clips[name]["where"]}; give files of '
                    'different clips only (one seed of each fold)'
                )
            if not row['predicted_class']:
                raise UserError(f'{where}, column predicted_class: it is empty')
            score = number_of(row, 'score', where)
            if not 0 <= score <= 1:
                raise UserError(
                    f'{where}, column score: a probability was expected, not {score}; let the '
                    "recogniser's head average with softmax (average_clips='prob')"
                )
            clips[name] = {**row, 'frame_dir': name, 'score': score, 'where': where}
    rows = list(clips.values())
    names, scores = ([row[key] for row in rows] for key in ('predicted_class', 'score'))
    sessions = sessions_from_clips(rows, names, scores, split=split, notes=notes)
    return sessions, any(_says_synthetic(Path(path).with_name('metrics.json')) for path in paths)


def sessions_from_segments(paths: Sequence[str | os.PathLike], split: str = '') -> Found:
    """Sessions of segments.csv or .json of tools/recognize.py, one each person."""
    from mg_plugins.spotting.segments import Segment, read_segments

    found: dict[str, list[Segment]] = {}
    synthetic = False
    for path in map(Path, paths):
        table = read_segments(path)
        synthetic |= table.source == SYNTHETIC
        for row in table:
            if not row.label or row.end > LONGEST or not 0 <= row.confidence <= 1:
                raise UserError(
                    f'{path}: a class, an end within {LONGEST:g} s and a confidence from 0 to 1 '
                    f'were expected, not {row.label!r}, {row.end:g} s, {row.confidence:g}'
                )
            found.setdefault(row.recording or path.stem, []).append(row)
    sessions = [
        replace(session, gestures=merge_windows(session.gestures), split=split)
        for name, rows in found.items()
        for session in recording_sessions(name, rows, {row.person for row in rows})
    ]
    return sessions, synthetic


def with_outcomes(sessions: Iterable[Session], path: str | os.PathLike) -> list[Session]:
    """Sessions with the states of a file with the header ``session,subject,state``.

    The subject may be left out; sessions of the file that are not among these are passed over.
    """
    table: dict[str, dict[str, str]] = {}
    for where, row in csv_rows(Path(path), ('session', 'state')):
        if table.setdefault(row['session'], row) is not row:
            raise UserError(f'{where}: session {row["session"]!r} comes twice')
    sessions = list(sessions)
    if sessions and not table.keys() & {session.id for session in sessions}:
        raise UserError(f'{path}: no session of it is among these, such as {sessions[0].id!r}')
    for at, row in enumerate([table.get(session.id, {}) for session in sessions]):
        given = {key: row[key] for key in ('state', 'subject') if row.get(key)}
        sessions[at] = replace(sessions[at], **given)
    return sessions


def csv_rows(path: Path, needed: Sequence[str]) -> Iterable[tuple[str, dict[str, str]]]:
    """Where each row stands ("FILE, line 2"), and its cells; every row must be whole."""
    columns = ', '.join(needed)
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file)
            if missing := [name for name in needed if name not in (reader.fieldnames or ())]:
                raise UserError(f'{path}: the column {missing[0]} is missing; expected {columns}')
            for row in reader:
                where = f'{path}, line {reader.line_num}'
                if None in row or None in row.values():
                    raise UserError(f'{where}: {len(reader.fieldnames)} cells expected')
                yield where, {name: cell.strip() for name, cell in row.items()}
    except FileNotFoundError:
        what = f'{path} does not exist; a .csv file with the columns {columns} was expected'
        raise UserError(what) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UserError(f'{path} cannot be read: {reason}') from None


def _header(path: Path) -> list[str]:
    with suppress(OSError, UnicodeDecodeError):  # the reader says what is wrong
        with path.open(encoding='utf-8-sig') as file:
            return file.readline(10_000).strip().split(',')
    return []


def _says_synthetic(metrics: Path) -> bool:
    with suppress(UserError):  # there are predictions without metrics beside them
        return any(name.startswith(SYNTHETIC) for name in read_json(metrics))
    return False
