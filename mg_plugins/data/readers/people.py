"""Persons of single frames put together over time: who is who, and who stays.

Pose estimators list the persons of a frame in any order. `assemble` follows each person from frame
to frame (by the estimator's own ids where there are any, else by distance) and keeps those with the
largest sum of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# A person moves less than this share of its own extent between two frames in which it is seen;
# further away, it is someone else.
REACH = 0.5


@dataclass(frozen=True)
class Frame:
    """The persons of one frame.

    Attributes:
        points: float32 (P, V, C); a joint that was not detected is all 0.
        scores: float32 (P, V), 0 for a joint that was not detected.
        ids: P track ids of the estimator, or None.
    """

    points: np.ndarray
    scores: np.ndarray
    ids: tuple | None = None


def assemble(frames: Sequence[Frame | None], max_persons: int) -> tuple[np.ndarray, np.ndarray]:
    """Tracks of the most visible persons.

    Args:
        frames: T frames; None where nobody was found. At least one must hold a person.
        max_persons: Tracks to keep at most.

    Returns:
        keypoint float32 (M, T, V, C), keypoint_score float32 (M, T, V) with 1 <= M <= max_persons,
        the most visible first.
    """
    held = [(t, frame) for t, frame in enumerate(frames) if frame is not None and len(frame.points)]
    most = max(len(frame.points) for _, frame in held)
    if all(frame.ids is not None for _, frame in held):
        tracks = follow_ids(held)
    elif most == 1:
        tracks = [[(t, 0) for t, _ in held]]
    else:
        tracks = follow_distance(held)

    by_time = dict(held)
    seen = [sum(by_time[t].scores[p].sum() for t, p in track) for track in tracks]
    kept = [tracks[i] for i in np.argsort(seen, kind='stable')[::-1][:max_persons]]
    _, joints, channels = held[0][1].points.shape
    keypoint = np.zeros((len(kept), len(frames), joints, channels), np.float32)
    score = np.zeros((len(kept), len(frames), joints), np.float32)
    for m, track in enumerate(kept):
        for t, p in track:
            keypoint[m, t], score[m, t] = by_time[t].points[p], by_time[t].scores[p]
    return keypoint, score


def follow_ids(held: list[tuple[int, Frame]]) -> list[list[tuple[int, int]]]:
    """Tracks as lists of (frame, person), by the estimator's ids."""
    tracks: dict = {}
    for t, frame in held:
        for p, identity in enumerate(frame.ids):
            tracks.setdefault(identity, []).append((t, p))
    return list(tracks.values())


def follow_distance(held: list[tuple[int, Frame]]) -> list[list[tuple[int, int]]]:
    """Tracks as lists of (frame, person): nearest pairs first, nobody jumps beyond `REACH`."""
    tracks: list[list[tuple[int, int]]] = []
    last: list[tuple[np.ndarray, np.ndarray]] = []
    for t, frame in held:
        pairs = []
        for p, (points, scores) in enumerate(zip(frame.points, frame.scores, strict=True)):
            for track, (known, known_scores) in enumerate(last):
                both = (scores > 0) & (known_scores > 0)
                if not both.any():
                    continue
                distance = np.linalg.norm(points[both] - known[both], axis=-1).mean()
                visible = known[known_scores > 0]
                extent = np.linalg.norm(np.ptp(visible, axis=0))
                if distance <= REACH * extent:
                    pairs.append((distance, p, track))
        taken: dict[int, int] = {}
        for _, p, track in sorted(pairs):
            if p not in taken and track not in taken.values():
                taken[p] = track
        for p, (points, scores) in enumerate(zip(frame.points, frame.scores, strict=True)):
            if p in taken:
                tracks[taken[p]].append((t, p))
                last[taken[p]] = (points, scores)
            else:
                tracks.append([(t, p)])
                last.append((points, scores))
    return tracks
