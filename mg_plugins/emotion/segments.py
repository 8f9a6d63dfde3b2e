"""Sessions from spotted segments, the table that tools/recognize.py writes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mg_plugins.files import read_json

from .checks import LONGEST
from .scenarios import RECOGNISED, Gesture, ScenarioError
from .sessions import Session, csv_rows, known, merge_windows, number_of
from .transcripts import as_text, mask_speakers, read_transcript

SEGMENT_COLUMNS = ('recording', 'person', 'class', 'start_s', 'end_s', 'confidence')


def sessions_from_segments(
    paths: Sequence[str | os.PathLike], *, split: str = ''
) -> tuple[list[Session], bool]:
    """Sessions of spotted segments, as tools/recognize.py writes them; one each person.

    Args:
        paths: ``segments.csv`` (columns recording, person, class, start_s, end_s, confidence) or
            ``segments.json`` (a list ``segments`` of objects with recording, person, label, start,
            end, confidence) files.
        split: Split of all sessions.

    Returns:
        The sessions, and whether a file says that its model was trained on synthetic data.

    Raises:
        ScenarioError: A file that does not have them.
    """
    timelines: dict[tuple[str, str], list[Gesture]] = {}
    synthetic = False
    for path in map(Path, paths):
        for where, row, source in _segment_rows(path):
            name = known(row, 'class')
            sure = number_of(row, 'confidence', where, 1.0)
            start, end = number_of(row, 'start_s', where), number_of(row, 'end_s', where)
            if not name or not 0 <= start <= end <= LONGEST or not 0 <= sure <= 1:
                raise ScenarioError(
                    f'{where}: a class, a start from 0, an end after it and a confidence from 0 '
                    f'to 1 were expected, not {name!r}, {start:g} to {end:g} s, {sure:g}'
                )
            key = known(row, 'recording') or path.stem, known(row, 'person') or '0'
            timelines.setdefault(key, []).append(Gesture(name, start, end, sure))
            synthetic |= source == 'synthetic'
    persons = Counter(recording for recording, _ in timelines)
    sessions = []
    for (recording, person), timeline in timelines.items():
        name = recording if persons[recording] == 1 else f'{recording} person {person}'
        sessions.append(
            Session(name, name, merge_windows(timeline), split=split, origin=RECOGNISED)
        )
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


def _segment_rows(path: Path) -> Iterable[tuple[str, Mapping[str, Any], str]]:
    """Where each segment stands, its fields by their names in the .csv, and the file's source."""
    if path.suffix == '.csv':
        for line, row in csv_rows(path, SEGMENT_COLUMNS):
            yield f'{path}, line {line}', row, row.get('source', '')
        return
    content = read_json(path)
    rows = content.get('segments') if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ScenarioError(f'{path}: an object with a list "segments" of objects was expected')
    names = {'label': 'class', 'start': 'start_s', 'end': 'end_s'}
    source = content.get('source', '') if isinstance(content, dict) else ''
    for number, row in enumerate(rows, 1):
        named = {names.get(key, key): value for key, value in row.items()}
        yield f'{path}, segment {number}', named, str(source)
