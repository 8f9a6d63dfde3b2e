"""Sessions: the gestures of one recording, from labels, predictions or segments; nothing hidden."""

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mg_plugins.errors import UserError
from mg_plugins.files import read_json

from .scenarios import ANNOTATED, LONGEST, RECOGNISED, SYNTHETIC, Gesture, in_order, readable
from .transcripts import Utterance, as_text, mask_speakers, read_transcript, speaker_names

DEFAULT_FPS = 30.0
PROTOCOLS = ('emotion', 'sessions', 'xsub')  # splits by session, by subject; then any other
ENDINGS = {'train': 'train', 'val': 'test', 'test': 'test'}
PREDICTIONS = ('session', 'start', 'end', 'predicted_class', 'score')


@dataclass(frozen=True)
class Session:
    """The micro-gestures of one recording of one person, before anything is hidden."""

    id: str  # as the data calls it
    subject: str  # as the data calls them
    gestures: tuple[Gesture, ...]  # times in seconds from the beginning of the recording
    state: str = ''  # what the data says of the outcome, or empty
    transcript: str = ''  # what was said, not redacted yet
    split: str = ''  # as in `Scenario`
    origin: str = ANNOTATED  # as in `Scenario`


def sessions_from_clips(
    clips: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    confidences: Sequence[float] | None = None,
    *,
    split: str = '',
    notes: list[str] | None = None,
) -> list[Session]:
    """Group clips into sessions; overlapping clips of one class, if recognised, become one gesture.

    Args:
        clips: Fields of each clip: ``session``, ``start`` and ``end`` (frames), and where known
            ``subject`` (else the session stands for it), ``fps`` (30 for none or 0), ``outcome``.
        names: Class of each clip; ``confidences`` in [0, 1], none where people named the classes.
        notes: What had to be assumed is added to it.
    """
    recognised = confidences is not None
    sures = confidences if recognised else [1.0] * len(clips)
    gestures: dict[str, list[Gesture]] = defaultdict(list)
    facts: dict[str, dict[str, str]] = defaultdict(dict)
    assumed: Counter[str] = Counter()
    for number, (clip, name, sure) in enumerate(zip(clips, names, sures, strict=True)):
        where = f'clip {clip.get("frame_dir", number)!r}'
        if not (session := _text(clip, 'session')):
            must = 'each must say which recording it is from (field session of its annotation)'
            raise UserError(f'{where} has no session: {must}')
        start, end = _number(clip, 'start', where), _number(clip, 'end', where)
        fps = _number(clip, 'fps', where) if _text(clip, 'fps') else 0.0
        # 0 is what video libraries say where they do not know.
        assumed[f'without fps were taken to have {DEFAULT_FPS:g}'] += not fps
        fps = fps or DEFAULT_FPS
        if not (0 < fps and 0 <= start <= end and end / fps <= LONGEST):
            span = f'frames {start:g} to {end:g} at {fps:g} a second are no span of time'
            advice = 'check the fields start, end and fps'
            raise UserError(f'{where}: {span} within {LONGEST:g} s; {advice}')
        gesture = Gesture(name, round(start / fps, 3), round(end / fps, 3), round(float(sure), 4))
        gestures[session].append(gesture)
        for field in ('subject', 'outcome'):
            value = _text(clip, field)
            if value and (before := facts[session].setdefault(field, value)) != value:
                two = f'the {field} {value!r} here and {before!r} before; give each a session'
                raise UserError(f'{where}: session {session!r} has {two}')
        assumed['without subject: their session stands for it'] += not _text(clip, 'subject')
    if notes is not None:
        notes += [f'{count} clips {what}' for what, count in sorted(assumed.items()) if count]
    return [
        Session(
            session,
            facts[session].get('subject', session),
            merge_windows(timeline) if recognised else in_order(timeline),
            state=facts[session].get('outcome', ''),
            split=split,
            origin=RECOGNISED if recognised else ANNOTATED,
        )
        for session, timeline in gestures.items()
    ]


def _text(fields: Mapping[str, Any], name: str) -> str:
    return '' if fields.get(name) is None else str(fields[name]).strip()


def _number(fields: Mapping[str, Any], name: str, where: str) -> float:
    text = _text(fields, name)
    with suppress(ValueError):
        if abs(value := float(text)) < float('inf'):
            return value
    raise UserError(f'{where}, field {name}: a number was expected, not {text[:60]!r}')


def merge_windows(gestures: Iterable[Gesture]) -> tuple[Gesture, ...]:
    """Gestures in order; overlapping ones of a class made one, of their mean confidence by time."""
    groups: list[list[Gesture]] = []
    last: dict[str, list[Gesture]] = defaultdict(list)  # group by class
    for gesture in in_order(gestures):
        if not any(g.end > gesture.start for g in last[gesture.name]):
            groups.append([])
            last[gesture.name] = groups[-1]
        last[gesture.name].append(gesture)
    merged = []
    for group in groups:
        length = [max(g.end - g.start, 1e-6) for g in group]
        sure = sum(g.confidence * t for g, t in zip(group, length, strict=True)) / sum(length)
        sure = group[0].confidence if len(group) == 1 else round(min(sure, 1.0), 4)
        merged.append(replace(group[0], end=max(g.end for g in group), confidence=sure))
    return in_order(merged)


def recording_sessions(
    name: str,
    segments: Iterable[Any],
    persons: Iterable[Any] = (),
    transcript: str | os.PathLike | None = None,
) -> list[Session]:
    """One recording as a session for each of the persons in it, also where no gesture was found.

    Its name, with the person's number where there are several, stands for the subject too.
    ``segments`` are rows as of `mg_plugins.spotting.Segments`; the transcript file is everybody's.
    """
    said = '' if transcript is None else as_text(mask_speakers(read_transcript(transcript)))
    timelines: dict[int, list[Gesture]] = {person: [] for person in persons or (0,)}
    for row in segments:
        gesture = Gesture(row.label, row.start, row.end, row.confidence)
        timelines.setdefault(row.person, []).append(gesture)
    ids = {p: name if len(timelines) == 1 else f'{name} person {p}' for p in sorted(timelines)}
    return [
        Session(own, own, tuple(timelines[person]), transcript=said, origin=RECOGNISED)
        for person, own in ids.items()
    ]


def with_transcripts(
    sessions: Iterable[Session], transcripts: Mapping[str, Sequence[Utterance]]
) -> tuple[list[Session], list[str]]:
    """Sessions with transcripts of "Speaker A", …, and labels that may be names to mask."""
    joined, names = [], []
    for session in sessions:
        utterances = transcripts.get(session.id, ())
        names += speaker_names(utterances)
        text = as_text(mask_speakers(utterances))
        joined.append(replace(session, transcript=text or session.transcript))
    return joined, list(dict.fromkeys(names))


def with_outcomes(sessions: Iterable[Session], path: str | os.PathLike) -> list[Session]:
    """Sessions with the states and subjects of a file: columns session, (subject), state."""
    table: dict[str, dict[str, str]] = {}
    for where, row in _csv_rows(Path(path), ('session', 'state')):
        if table.setdefault(row['session'], row) is not row:
            raise UserError(f'{where}: session {row["session"]!r} comes twice')
    sessions = list(sessions)
    if sessions and not table.keys() & {session.id for session in sessions}:
        raise UserError(f'{path}: no session of it is among these, such as {sessions[0].id!r}')
    rows = [table.get(session.id, {}) for session in sessions]
    given = [{key: row[key] for key in ('state', 'subject') if row.get(key)} for row in rows]
    return [replace(session, **of) for session, of in zip(sessions, given, strict=True)]


def load_sessions(
    paths: Sequence[str | os.PathLike], split: str | None = None, *, notes: list[str] | None = None
) -> tuple[list[Session], str]:
    """Sessions of an annotation file, or of files of predictions or segments, and their source.

    The source is 'synthetic' where the files say so, else the name of the first file or, for
    predictions, of its folder. ``split`` is the one to take of annotations; predictions become
    'train' or 'test'. What had to be assumed is added to ``notes``.
    """
    paths = [Path(path) for path in paths]
    kinds = {path.suffix for path in paths}
    if len(paths) == 1 and kinds <= {'.pkl', '.npz', '.mg'}:
        sessions, synthetic = sessions_from_annotations(paths[0], split, notes)
        return sessions, SYNTHETIC if synthetic else paths[0].stem
    if kinds not in ({'.csv'}, {'.json'}):
        wanted = 'one annotation file (.pkl, .npz, .mg), or predictions or segments (.csv, .json)'
        raise UserError(f'expected {wanted}, not {", ".join(map(str, paths)) or "nothing"}')
    if split not in (None, 'train', 'test'):
        raise UserError(f'the split of predictions is train or test, not {split!r}')
    segments = kinds == {'.json'}
    with suppress(OSError, UnicodeDecodeError):  # the reader says what is wrong
        with paths[0].open(encoding='utf-8-sig') as file:
            segments |= 'start_s' in file.readline(10_000).strip().split(',')
    if segments:
        sessions, synthetic = sessions_from_segments(paths, split or '')
    else:
        sessions, synthetic = sessions_from_predictions(paths, split or '', notes)
    return sessions, SYNTHETIC if synthetic else paths[0].resolve().parent.name


def sessions_from_annotations(
    path: str | os.PathLike, split: str | None = None, notes: list[str] | None = None
) -> tuple[list[Session], bool]:
    """Truly labelled sessions of annotations (of one ``split``), and whether they are synthetic."""
    from mg_plugins.data.annotations import load_annotations

    content = load_annotations(path)
    splits, meta, clips = content['split'], content['meta'], content['annotations']
    classes = meta.get('classes')
    if not classes:
        advice = 'to name gestures by; tools/prepare_data.py writes them'
        raise UserError(f'{path} has no class names (meta: classes) {advice}')
    if split is not None:
        if split not in splits:
            raise UserError(f'{path} has no split {split!r}; it has {", ".join(splits) or "none"}')
        splits = {split: set(splits[split])}
        clips = [clip for clip in clips if clip['frame_dir'] in splits[split]]
    for clip in clips:
        if not 0 <= clip.get('label', -1) < len(classes):
            what = f'clip {clip["frame_dir"]!r} has label {clip.get("label", "none")}'
            raise UserError(f'{path}: {what}, but there are {len(classes)} class names')
    names = [str(classes[clip['label']]) for clip in clips]
    sessions, sides = sessions_from_clips(clips, names, notes=notes), _sides(clips, splits)
    sessions = [replace(session, split=sides.get(session.id, '')) for session in sessions]
    return sessions, meta.get('source') == SYNTHETIC


def _sides(clips: Iterable[Mapping], splits: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Session to 'train' or 'test', where all its clips are on that side of one protocol."""
    sides: dict[str, dict[str, str]] = {}  # of clips, by protocol
    for name, members in splits.items():
        protocol, _, ending = name.rpartition('_')
        if ending in ENDINGS:
            sides.setdefault(protocol, {}).update(dict.fromkeys(members, ENDINGS[ending]))
    # One protocol only: sides of several contradict each other.
    chosen = next((sides[p] for p in (*PROTOCOLS, *sides) if p in sides), {})
    found: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        found[str(clip['session'])].add(chosen.get(clip['frame_dir'], ''))
    return {session: side for session, (side, *others) in found.items() if not others}


def sessions_from_predictions(
    paths: Sequence[str | os.PathLike], split: str = '', notes: list[str] | None = None
) -> tuple[list[Session], bool]:
    """The same of ``predictions.csv`` files of different clips, such as the folds of a compare."""
    clips: dict[str, dict[str, Any]] = {}
    synthetic = False
    for path in map(Path, paths):
        with suppress(UserError):  # there are predictions without metrics beside them
            metrics = read_json(path.with_name('metrics.json')) or ()
            synthetic |= any(str(name).startswith(SYNTHETIC) for name in metrics)
        for where, row in _csv_rows(path, PREDICTIONS):
            name = row.get('frame_dir') or f'{row["session"]} {row["start"]}-{row["end"]}'
            if name in clips:
                first = f'{clips[name]["where"]}; give different clips only (one seed of each fold)'
                raise UserError(f'{where}: clip {name!r} is already in {first}')
            score = _number(row, 'score', where)
            if not row['predicted_class'] or not 0 <= score <= 1:
                wrong = f'a predicted_class and a probability, not {row["predicted_class"]!r}'
                advice = "scores are probabilities of a head with average_clips='prob'"
                raise UserError(f'{where}: {wrong} and {score:g}, were expected; {advice}')
            clips[name] = {**row, 'frame_dir': name, 'score': score, 'where': where}
    rows = list(clips.values())
    names, scores = ([row[key] for row in rows] for key in ('predicted_class', 'score'))
    return sessions_from_clips(rows, names, scores, split=split, notes=notes), synthetic


def sessions_from_segments(paths: Sequence[Path], split: str = '') -> tuple[list[Session], bool]:
    """The same of segments.csv or .json of tools/recognize.py, a session each person."""
    from mg_plugins.spotting.segments import Segment, read_segments

    found: dict[str, list[Segment]] = defaultdict(list)
    synthetic = False
    for path in paths:
        table = read_segments(path)
        synthetic |= table.source == SYNTHETIC
        for row in table:
            if not row.label or row.end > LONGEST or not 0 <= row.confidence <= 1:
                wanted = f'a class, an end within {LONGEST:g} s and a confidence from 0 to 1'
                found = f'{row.label!r}, {row.end:g} s, {row.confidence:g}'
                raise UserError(f'{path}: {wanted} were expected, not {found}')
            found[row.recording or path.stem].append(row)
    return [
        replace(session, gestures=merge_windows(session.gestures), split=split)
        for name, rows in found.items()
        for session in recording_sessions(name, rows, {row.person for row in rows})
    ], synthetic


def _csv_rows(path: Path, needed: Sequence[str]) -> Iterable[tuple[str, dict[str, str]]]:
    """Where each row stands ("FILE, line 2"), and its cells; every row must be whole."""
    columns = ', '.join(needed)
    with readable(path, f'; a .csv file with the columns {columns}'):
        with path.open(newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file)
            if missing := [name for name in needed if name not in (reader.fieldnames or ())]:
                raise UserError(f'{path}: the column {missing[0]} is missing; expected {columns}')
            for row in reader:
                where = f'{path}, line {reader.line_num}'
                if None in row or None in row.values():
                    raise UserError(f'{where}: {len(reader.fieldnames)} cells expected')
                yield where, {name: cell.strip() for name, cell in row.items()}
