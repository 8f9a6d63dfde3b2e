"""Sessions: the micro-gestures of one recording, from labels or from a recogniser's predictions.

Clips are grouped into sessions, and a session's transcript and outcome join it. Nothing is hidden
here yet; that is `build`'s part.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .checks import LONGEST
from .scenarios import ANNOTATED, RECOGNISED, Gesture, ScenarioError
from .transcripts import Utterance, as_text, mask_speakers, speaker_names

DEFAULT_FPS = 30.0
# Splits by session come before splits by subject, which come before any other.
PROTOCOLS = ('emotion', 'sessions', 'xsub')
ENDINGS = {'train': 'train', 'val': 'test', 'test': 'test'}


@dataclass(frozen=True)
class Session:
    """The micro-gestures of one recording of one person, before anything is hidden.

    Attributes:
        id: As the data calls it.
        subject: As the data calls it.
        gestures: Times in seconds from the beginning of the recording.
        state: What the data says of the outcome, or empty.
        transcript: What was said, not redacted yet.
        split: ``'train'``, ``'test'`` or empty.
        origin: ``'annotated'`` or ``'recognised'``; see `scenarios.Scenario`.
    """

    id: str
    subject: str
    gestures: tuple[Gesture, ...]
    state: str = ''
    transcript: str = ''
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
        confidences: Confidence of each, in [0, 1]; 1 by default.
        split: Split of all sessions.
        notes: What had to be assumed is added to it.

    Raises:
        ScenarioError: A clip without session or times, a negative fps, times beyond
            `scenarios.LONGEST`, or a session of two subjects or outcomes.
    """
    recognised = confidences is not None
    if confidences is None:
        confidences = [1.0] * len(clips)
    gestures: dict[str, list[Gesture]] = {}
    facts: dict[str, dict[str, str]] = {}
    assumed = {'fps': 0, 'subject': 0}
    for number, (clip, name, sure) in enumerate(zip(clips, names, confidences, strict=True)):
        where = f'clip {clip.get("frame_dir", number)!r}'
        session = known(clip, 'session')
        if not session:
            raise ScenarioError(
                f'{where} has no session: scenarios are made of sessions, so each clip must say '
                'which recording it is from (field session of its annotation)'
            )
        fps = number_of(clip, 'fps', where, None)
        if fps is not None and fps < 0:
            raise ScenarioError(f'{where}, field fps: frames a second were expected, not {fps:g}')
        assumed['fps'] += not fps  # 0 is what video libraries say where they do not know
        fps = fps or DEFAULT_FPS
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
            value = known(clip, field)
            if value and fact.setdefault(field, value) != value:
                raise ScenarioError(
                    f'{where}: session {session!r} has the {field} {value!r} here and '
                    f'{fact[field]!r} before; give each person and each outcome a session'
                )
        assumed['subject'] += not known(clip, 'subject')
    if notes is not None and assumed['fps']:
        notes.append(f'{assumed["fps"]} clips without fps were taken to have {DEFAULT_FPS:g}')
    if notes is not None and assumed['subject']:
        notes.append(f'{assumed["subject"]} clips without subject: their session stands for it')
    return [
        Session(
            id=session,
            subject=facts[session].get('subject', session),
            gestures=merge_windows(timeline) if recognised else _in_order(timeline),
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
    groups: dict[str, list[list[Gesture]]] = {}
    for gesture in _in_order(gestures):
        of_class = groups.setdefault(gesture.name, [])
        if of_class and gesture.start < max(g.end for g in of_class[-1]):
            of_class[-1].append(gesture)
        else:
            of_class.append([gesture])
    merged = []
    for name, of_class in groups.items():
        for group in of_class:
            length = [max(g.end - g.start, 1e-6) for g in group]
            sure = sum(g.confidence * t for g, t in zip(group, length, strict=True)) / sum(length)
            sure = group[0].confidence if len(group) == 1 else round(min(sure, 1.0), 4)
            merged.append(Gesture(name, group[0].start, max(g.end for g in group), sure))
    return _in_order(merged)


def _in_order(gestures: Iterable[Gesture]) -> tuple[Gesture, ...]:
    return tuple(sorted(gestures, key=lambda g: (g.start, g.end)))


def sessions_from_annotations(
    path: str | os.PathLike | Mapping[str, Any],
    split: str | None = None,
    *,
    notes: list[str] | None = None,
) -> list[Session]:
    """Sessions of an annotation file, with its true labels.

    Args:
        path: A .pkl or .npz file (see `mg_plugins.data.annotations`), or what it holds.
        split: Take the clips of this split only; by default all. Sessions whose clips are in one
            that ends in train, val or test get the split 'train' or 'test' in either case.
        notes: What had to be assumed is added to it.

    Raises:
        AnnotationError: The file cannot be read.
        ScenarioError: No such split, no class names, or as `sessions_from_clips`.
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
        wanted = set(splits[split])
        clips = [clip for clip in clips if clip['frame_dir'] in wanted]
    wrong = [clip for clip in clips if clip['label'] >= len(classes)]
    if wrong:
        raise ScenarioError(
            f'{path}: clip {wrong[0]["frame_dir"]!r} has label {wrong[0]["label"]}, but there are '
            f'{len(classes)} class names'
        )
    names = [str(classes[clip['label']]) for clip in clips]
    sessions = sessions_from_clips(clips, names, notes=notes)
    sides = _sides(clips, splits if split is None else {split: splits[split]})
    return [replace(session, split=sides.get(session.id, '')) for session in sessions]


def sessions_from_predictions(
    paths: Sequence[str | os.PathLike], *, split: str = '', notes: list[str] | None = None
) -> list[Session]:
    """Sessions of a recogniser's predictions.

    Args:
        paths: ``predictions.csv`` files that tests write; several ones if they hold different
            clips, such as those of the left-out subjects of tools/compare.py.
        split: Split of all sessions.
        notes: What had to be assumed is added to it.

    Raises:
        ScenarioError: A file without the columns that are needed, a clip that comes twice, or as
            `sessions_from_clips`.
    """
    rows: list[dict[str, str]] = []
    seen: dict[str, str] = {}
    for path in map(Path, paths):
        for line, row in csv_rows(path, ('session', 'start', 'end', 'predicted_class', 'score')):
            where = f'{path}, line {line}'
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


def with_outcomes(
    sessions: Iterable[Session], path: str | os.PathLike
) -> tuple[list[Session], list[str]]:
    """States from a file with the header ``session,subject,state`` (or ``session,state``).

    A subject and a state that are given there replace those of the session.

    Returns:
        The sessions, and those of the file that are not among them.

    Raises:
        ScenarioError: Missing columns, or a session that comes twice.
    """
    table: dict[str, dict[str, str]] = {}
    for line, row in csv_rows(Path(path), ('session', 'state')):
        if row['session'] in table:
            raise ScenarioError(f'{path}, line {line}: session {row["session"]!r} comes twice')
        table[row['session']] = row
    joined = []
    for session in sessions:
        row = table.pop(session.id, {})
        state, subject = row.get('state') or session.state, row.get('subject') or session.subject
        joined.append(replace(session, state=state, subject=subject))
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
        chosen.append(
            replace(session, gestures=tuple(sorted(best, key=lambda g: (g.start, g.end))))
        )
    return chosen


def _sides(clips: Iterable[Mapping], splits: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Session to 'train' or 'test', where all its clips are on that side of one protocol."""
    sides = {name: ENDINGS.get(name.rpartition('_')[2]) for name in splits}
    protocols = [name.rpartition('_')[0] for name, side in sides.items() if side]
    if not protocols:
        return {}
    # One protocol only: sides of several contradict each other.
    chosen = next((p for p in PROTOCOLS if p in protocols), protocols[0])
    members: dict[str, set[str]] = {}
    for name, side in sides.items():
        if side and name.rpartition('_')[0] == chosen:
            members.setdefault(side, set()).update(splits[name])
    sessions: dict[str, set[str]] = {}
    for clip in clips:
        sessions.setdefault(str(clip['session']), set()).add(clip['frame_dir'])
    return {
        session: side
        for side, within in members.items()
        for session, names in sessions.items()
        if names <= within
    }


def csv_rows(path: Path, needed: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    """Line number and cells of every row.

    Raises:
        ScenarioError: No file, a column that is missing, or a row of another length.
    """
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise ScenarioError(
                    f'{path}: the column {missing[0]} is missing; expected {", ".join(needed)}'
                )
            for row in reader:
                if None in row or None in row.values():
                    raise ScenarioError(
                        f'{path}, line {reader.line_num}: {len(reader.fieldnames)} cells expected'
                    )
                yield reader.line_num, {name: cell.strip() for name, cell in row.items()}
    except FileNotFoundError:
        raise ScenarioError(
            f'{path} does not exist; a .csv file with the columns {", ".join(needed)} was expected'
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, 'strerror', None) or error
        raise ScenarioError(f'{path} cannot be read: {reason}') from None


def known(clip: Mapping[str, Any], field: str) -> str:
    value = clip.get(field)
    return '' if value is None else str(value).strip()


def number_of(clip: Mapping[str, Any], field: str, where: str, default: Any = ...) -> Any:
    """A field as a number; ``default`` where it is missing."""
    text = known(clip, field)
    if not text and default is not ...:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float('nan')
    if not abs(value) < float('inf'):
        raise ScenarioError(f'{where}, field {field}: a number was expected, not {text[:60]!r}')
    return value
