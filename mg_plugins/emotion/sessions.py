"""Sessions: the micro-gestures of one recording, from labels or from a recogniser's predictions.

Clips and spotted segments are grouped into sessions, and a session's transcript and outcome join
it. Nothing is hidden here yet; that is `build`'s part.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mg_plugins.errors import UserError

from .scenarios import (
    ANNOTATED,
    LONGEST,
    RECOGNISED,
    Gesture,
    in_order,
    number_of,
    text_of,
)
from .transcripts import Utterance, as_text, mask_speakers, read_transcript, speaker_names

DEFAULT_FPS = 30.0


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
            raise UserError(
                f'{where} has no session: scenarios are made of sessions, so each clip must say '
                'which recording it is from (field session of its annotation)'
            )
        start, end = number_of(clip, 'start', where), number_of(clip, 'end', where)
        fps = number_of(clip, 'fps', where, 0.0)
        for wrong, what in (
            (fps < 0, f', field fps: frames a second were expected, not {fps:g}'),
            (not 0 <= start <= end, f': frames {start:g} to {end:g} are no span of time'),
        ):
            if wrong:
                raise UserError(where + what)
        # 0 is what video libraries say where they do not know.
        assumed[f'without fps were taken to have {DEFAULT_FPS:g}'] += not fps
        fps = fps or DEFAULT_FPS
        if not end / fps <= LONGEST:
            raise UserError(
                f'{where}: frame {end:g} at {fps:g} frames a second is {end / fps:g} s, which is '
                f'beyond {LONGEST:g} s; check the fields end and fps'
            )
        gesture = Gesture(name, round(start / fps, 3), round(end / fps, 3), round(float(sure), 4))
        gestures.setdefault(session, []).append(gesture)
        fact = facts.setdefault(session, {})
        for field in ('subject', 'outcome'):
            value = text_of(clip, field)
            if value and fact.setdefault(field, value) != value:
                raise UserError(
                    f'{where}: session {session!r} has the {field} {value!r} here and '
                    f'{fact[field]!r} before; give each person and each outcome a session'
                )
        assumed['without subject: their session stands for it'] += not text_of(clip, 'subject')
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


def merge_windows(gestures: Iterable[Gesture]) -> tuple[Gesture, ...]:
    """Gestures in order, those of one class that overlap made one.

    A recogniser that slides a window over a recording names one movement several times. The merged
    gesture spans its windows; its confidence is their mean, weighted by duration.
    """
    groups: list[list[Gesture]] = []
    last: dict[str, list[Gesture]] = {}  # group by class
    for gesture in in_order(gestures):
        group = last.get(gesture.name)
        if not group or gesture.start >= max(g.end for g in group):
            groups.append(group := [])
        last[gesture.name] = group
        group.append(gesture)
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
    ids = {p: name if len(timelines) == 1 else f'{name} person {p}' for p in sorted(timelines)}
    return [
        Session(own, own, tuple(timelines[person]), transcript=said, origin=RECOGNISED)
        for person, own in ids.items()
    ]


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
