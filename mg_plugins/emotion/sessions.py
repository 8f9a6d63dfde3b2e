"""Sessions: the micro-gestures of one recording, from labels or from a recogniser's predictions.

Clips and spotted segments are grouped into sessions, and a session's transcript and outcome join
it. Nothing is hidden here yet; that is `build`'s part.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .checks import LONGEST
from .rows import csv_rows, json_rows, number_of, text_of
from .scenarios import ANNOTATED, RECOGNISED, Gesture, ScenarioError, in_order
from .transcripts import Utterance, as_text, mask_speakers, read_transcript, speaker_names

DEFAULT_FPS = 30.0
# Splits by session come before splits by subject, which come before any other.
PROTOCOLS = ('emotion', 'sessions', 'xsub')
ENDINGS = {'train': 'train', 'val': 'test', 'test': 'test'}
PREDICTIONS = ('session', 'start', 'end', 'predicted_class', 'score')
SEGMENTS = ('recording', 'person', 'class', 'start_s', 'end_s', 'confidence')


@dataclass(frozen=True)
class Session:
    """The micro-gestures of one recording of one person, before anything is hidden."""

    # id, subject: As the data calls them.
    id: str
    subject: str
    gestures: tuple[Gesture, ...]  # times in seconds from the beginning of the recording
    state: str = ''  # what the data says of the outcome, or empty
    transcript: str = ''  # what was said, not redacted yet
    # split, origin: As in `scenarios.Scenario`.
    split: str = ''
    origin: str = ANNOTATED


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
        names: Class of each clip.
        confidences: Confidence of each, in [0, 1]; none where people named the classes.
        split: Split of all sessions.
        notes: What had to be assumed is added to it.
    """
    recognised = confidences is not None
    sures = confidences if recognised else [1.0] * len(clips)
    gestures: dict[str, list[Gesture]] = {}
    facts: dict[str, dict[str, str]] = {}
    assumed: Counter[str] = Counter()
    for number, (clip, name, sure) in enumerate(zip(clips, names, sures, strict=True)):
        where = f'clip {clip.get("frame_dir", number)!r}'
        session = text_of(clip, 'session')
        if not session:
            raise ScenarioError(
                f'{where} has no session: scenarios are made of sessions, so each clip must say '
                'which recording it is from (field session of its annotation)'
            )
        fps = number_of(clip, 'fps', where, 0.0)
        if fps < 0:
            raise ScenarioError(f'{where}, field fps: frames a second were expected, not {fps:g}')
        if not fps:  # 0 is what video libraries say where they do not know
            assumed[f'without fps were taken to have {DEFAULT_FPS:g}'] += 1
            fps = DEFAULT_FPS
        start, end = number_of(clip, 'start', where), number_of(clip, 'end', where)
        if not 0 <= start <= end:
            raise ScenarioError(f'{where}: frames {start:g} to {end:g} are no span of time')
        if not end / fps <= LONGEST:
            raise ScenarioError(
                f'{where}: frame {end:g} at {fps:g} frames a second is {end / fps:g} s, which is '
                f'beyond {LONGEST:g} s; check the fields end and fps'
            )
        gesture = Gesture(name, round(start / fps, 3), round(end / fps, 3), round(float(sure), 4))
        gestures.setdefault(session, []).append(gesture)
        fact = facts.setdefault(session, {})
        for field in ('subject', 'outcome'):
            value = text_of(clip, field)
            if value and fact.setdefault(field, value) != value:
                raise ScenarioError(
                    f'{where}: session {session!r} has the {field} {value!r} here and '
                    f'{fact[field]!r} before; give each person and each outcome a session'
                )
        if not text_of(clip, 'subject'):
            assumed['without subject: their session stands for it'] += 1
    if notes is not None:
        notes += [f'{count} clips {what}' for what, count in sorted(assumed.items())]
    return [
        Session(
            id=session,
            subject=facts[session].get('subject', session),
            gestures=merge_windows(timeline) if recognised else in_order(timeline),
            state=facts[session].get('outcome', ''),
            split=split,
            origin=RECOGNISED if recognised else ANNOTATED,
        )
        for session, timeline in gestures.items()
    ]


def merge_windows(gestures: Iterable[Gesture]) -> tuple[Gesture, ...]:
    """Gestures in order, those of one class that overlap made one.

    A recogniser that slides a window over a recording names one movement several times. The merged
    gesture spans its windows; its confidence is their mean, weighted by duration.
    """
    groups: list[list[Gesture]] = []
    last: dict[str, list[Gesture]] = {}  # group by class
    for gesture in in_order(gestures):
        group = last.get(gesture.name)
        if group and gesture.start < max(g.end for g in group):
            group.append(gesture)
        else:
            last[gesture.name] = [gesture]
            groups.append(last[gesture.name])
    merged = []
    for group in groups:
        length = [max(g.end - g.start, 1e-6) for g in group]
        sure = sum(g.confidence * t for g, t in zip(group, length, strict=True)) / sum(length)
        sure = group[0].confidence if len(group) == 1 else round(min(sure, 1.0), 4)
        merged.append(replace(group[0], end=max(g.end for g in group), confidence=sure))
    return in_order(merged)


def sessions_from_annotations(
    path: str | os.PathLike | Mapping[str, Any],
    split: str | None = None,
    *,
    notes: list[str] | None = None,
) -> list[Session]:
    """Sessions of an annotation file (or what it holds), with its true labels.

    ``split`` takes the clips of this split only. Sessions whose clips are in one that ends in
    train, val or test get the split 'train' or 'test' in either case.
    """
    from mg_plugins.data.annotations import load_annotations

    content = path if isinstance(path, Mapping) else load_annotations(path)
    path = 'the annotations' if isinstance(path, Mapping) else path
    splits, classes = content['split'], content['meta'].get('classes')
    clips = content['annotations']
    if not classes:
        raise ScenarioError(
            f'{path} has no class names (meta: classes), without which gestures cannot be named; '
            'tools/prepare_data.py writes them'
        )
    if split is not None:
        if split not in splits:
            raise ScenarioError(
                f'{path} has no split {split!r}; it has {", ".join(splits) or "none"}'
            )
        splits = {split: set(splits[split])}
        clips = [clip for clip in clips if clip['frame_dir'] in splits[split]]
    wrong = [clip for clip in clips if clip['label'] >= len(classes)]
    if wrong:
        raise ScenarioError(
            f'{path}: clip {wrong[0]["frame_dir"]!r} has label {wrong[0]["label"]}, but there are '
            f'{len(classes)} class names'
        )
    names = [str(classes[clip['label']]) for clip in clips]
    sides = _sides(clips, splits)
    sessions = sessions_from_clips(clips, names, notes=notes)
    return [replace(session, split=sides.get(session.id, '')) for session in sessions]


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
    return {
        session: side
        for side, within in members.get(chosen, {}).items()
        for session, names in sessions.items()
        if names <= within
    }


def sessions_from_predictions(
    paths: Sequence[str | os.PathLike], *, split: str = '', notes: list[str] | None = None
) -> list[Session]:
    """Sessions of ``predictions.csv`` files that tests write.

    Several must hold different clips, such as those of the left-out subjects of tools/compare.py.
    """
    rows: list[dict[str, str]] = []
    seen: dict[str, str] = {}
    for path in map(Path, paths):
        for where, row in csv_rows(path, PREDICTIONS):
            name = row.get('frame_dir') or f'{row["session"]} {row["start"]}-{row["end"]}'
            if name in seen:
                raise ScenarioError(
                    f'{where}: clip {name!r} is already in {seen[name]}; give files of different '
                    'clips only (one seed of each fold)'
                )
            seen[name] = where
            if not row['predicted_class']:
                raise ScenarioError(f'{where}, column predicted_class: it is empty')
            score = number_of(row, 'score', where)
            if not 0 <= score <= 1:
                raise ScenarioError(
                    f'{where}, column score: a probability was expected, not {score}; let the '
                    "recogniser's head average with softmax (average_clips='prob')"
                )
            rows.append({**row, 'frame_dir': name})
    names = [row['predicted_class'] for row in rows]
    scores = [float(row['score']) for row in rows]
    return sessions_from_clips(rows, names, scores, split=split, notes=notes)


def sessions_from_segments(
    paths: Sequence[str | os.PathLike], *, split: str = ''
) -> tuple[list[Session], bool]:
    """Sessions of segments.csv or .json of tools/recognize.py, one each person.

    Also whether a file says that its model was trained on synthetic data.
    """
    found: dict[str, list[SimpleNamespace]] = {}
    synthetic = False
    for path in map(Path, paths):
        rows = csv_rows(path, SEGMENTS) if path.suffix == '.csv' else json_rows(path)
        for where, row in rows:
            name, sure = text_of(row, 'class'), number_of(row, 'confidence', where, 1.0)
            start, end = number_of(row, 'start_s', where), number_of(row, 'end_s', where)
            if not name or not 0 <= start <= end <= LONGEST or not 0 <= sure <= 1:
                raise ScenarioError(
                    f'{where}: a class, a start from 0, an end after it and a confidence from 0 '
                    f'to 1 were expected, not {name!r}, {start:g} to {end:g} s, {sure:g}'
                )
            segment = SimpleNamespace(label=name, start=start, end=end, confidence=sure)
            segment.person = text_of(row, 'person') or '0'
            found.setdefault(text_of(row, 'recording') or path.stem, []).append(segment)
            synthetic |= row.get('source') == 'synthetic'
    sessions = [
        replace(session, gestures=merge_windows(session.gestures), split=split)
        for name, rows in found.items()
        for session in recording_sessions(name, rows, sorted({row.person for row in rows}))
    ]
    return sessions, synthetic


def recording_sessions(
    name: str,
    segments: Iterable[Any],
    persons: Sequence[int] = (),
    transcript: str | os.PathLike | None = None,
) -> list[Session]:
    """One recording as a session for each person in it, also where no gesture was found.

    Args:
        name: Of the recording; with the person's number, where there are several, it stands for the
            subject too.
        segments: Rows with label, start, end, confidence and person, such as
            `mg_plugins.spotting.Segments`.
        persons: Numbers of the persons that were seen; number 0 where nobody was.
        transcript: A file that `read_transcript` reads; every person's session has it.
    """
    said = '' if transcript is None else as_text(mask_speakers(read_transcript(transcript)))
    timelines: dict[int, list[Gesture]] = {person: [] for person in persons or (0,)}
    for row in segments:
        gesture = Gesture(row.label, row.start, row.end, row.confidence)
        timelines.setdefault(row.person, []).append(gesture)
    sessions = []
    for person, gestures in sorted(timelines.items()):
        own = name if len(timelines) == 1 else f'{name} person {person}'
        sessions.append(Session(own, own, tuple(gestures), transcript=said, origin=RECOGNISED))
    return sessions


def with_outcomes(
    sessions: Iterable[Session], path: str | os.PathLike
) -> tuple[list[Session], list[str]]:
    """States of a file with the header ``session,subject,state`` (or ``session,state``).

    Returns:
        The sessions, and those of the file that are not among them.
    """
    table: dict[str, dict[str, str]] = {}
    for where, row in csv_rows(Path(path), ('session', 'state')):
        if table.setdefault(row['session'], row) is not row:
            raise ScenarioError(f'{where}: session {row["session"]!r} comes twice')
    joined = []
    for session in sessions:
        row = table.pop(session.id, {})
        given = {key: row[key] for key in ('state', 'subject') if row.get(key)}
        joined.append(replace(session, **given))
    return joined, sorted(table)


def with_transcripts(
    sessions: Iterable[Session], transcripts: Mapping[str, Sequence[Utterance]]
) -> tuple[list[Session], list[str]]:
    """Put transcripts into their sessions, with speakers as "Speaker A", "Speaker B", ….

    Returns:
        The sessions, and the speakers' labels that look like names, which should be masked in the
        text as well.
    """
    joined, names = [], {}
    for session in sessions:
        utterances = transcripts.get(session.id, ())
        names.update(dict.fromkeys(speaker_names(utterances)))
        text = as_text(mask_speakers(utterances))
        joined.append(replace(session, transcript=text or session.transcript))
    return joined, list(names)


def choose_gestures(
    sessions: Iterable[Session], min_confidence: float = 0.0, most: int | None = None
) -> list[Session]:
    """Leave out gestures below a confidence, and all but the ``most`` confident ones."""
    chosen = []
    for session in sessions:
        kept = [g for g in session.gestures if g.confidence >= min_confidence]
        best = sorted(kept, key=lambda g: -g.confidence)[:most]
        chosen.append(replace(session, gestures=in_order(best)))
    return chosen
