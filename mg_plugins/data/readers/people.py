"""Detections of single frames, in any order, put together over time: who is who, and who stays."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from .common import ALL_ZERO, expect

# A person moves less than this share of its own extent between two frames in which it is seen;
# further away, it is someone else. The share grows with the frames between, up to GROWTH times.
REACH, GROWTH = 0.5, 3.0
# Who has not been seen for this many frames is not followed any more.
FORGET = 30
CHOICES = ('score', 'size', 'centre')
Size = tuple[int, int]  # width and height of the picture


@dataclass
class Detections:
    """K detected persons of one recording, in the order of their frames."""

    points: np.ndarray  # float32 (K, V, C); a missing joint is all 0
    scores: np.ndarray  # float32 (K, V), 0 for a missing joint
    frame: np.ndarray  # int64 (K,), frame numbers
    ids: list | None = None  # of the estimator's tracks

    def between(self, start: int, end: int) -> Detections:
        """Those of frames `start` to `end` (included)."""
        part = slice(*np.searchsorted(self.frame, [start, end + 1]))
        ids = None if self.ids is None else self.ids[part]
        return Detections(self.points[part], self.scores[part], self.frame[part], ids)


def assemble(
    found: Detections, start: int, frames: int, most: int, keep: str, size: Size | None
) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """Keypoint (M, T, V, C) of `frames` from `start` on, scores (M, T, V), and notes as counts."""
    tracks, kept, counts = follow(found), [], Counter()
    value = rank(found, tracks, keep, size)
    for i in sorted(range(len(tracks)), key=lambda i: -value[i]):
        for track in kept[:most]:
            if keep in CHOICES and continues(found, track, tracks[i], anywhere=most == 1):
                track += tracks[i]
                counts['pieces of tracks were joined to one person'] += 1
                break
        else:
            kept.append(list(tracks[i]))
    keypoint = np.zeros((min(most, len(kept)), frames, *found.points.shape[1:]), np.float32)
    score = np.zeros(keypoint.shape[:3], np.float32)
    for m, track in enumerate(kept[:most]):
        at = found.frame[track] - start
        keypoint[m, at], score[m, at] = found.points[track], found.scores[track]
    counts['persons or pieces of tracks were left out (--max-persons, --person)'] = len(kept[most:])
    return keypoint, score, counts


def follow(found: Detections) -> list[list[int]]:
    """Tracks as lists of detections, at most one a frame: by their ids, else by distance."""
    named: dict = {}
    for k, identity in enumerate(found.ids or [None] * len(found.frame)):
        named.setdefault(identity, []).append(k)
    if all(len(set(found.frame[track].tolist())) == len(track) for track in named.values()):
        return list(named.values())  # by their ids, or one person in all
    tracks: list[list[int]] = []
    for frame in np.unique(found.frame):
        here = np.flatnonzero(found.frame == frame).tolist()
        alive = [t for t in tracks if frame - found.frame[t[-1]] <= FORGET]
        pairs = sorted(
            (distance, k, n)
            for k in here
            for n, track in enumerate(alive)
            if (distance := reach(found, track[-1], k)) is not None
        )
        for _, k, n in pairs:
            if k in here and found.frame[alive[n][-1]] < frame:
                alive[n].append(k)
                here.remove(k)
        tracks += [[k] for k in here]
    return tracks


def reach(found: Detections, before: int, after: int) -> float | None:
    """Mean distance of the joints of two detections; None where it is another person."""
    both = (found.scores[before] > 0) & (found.scores[after] > 0)
    if not both.any():
        return None
    extent = np.linalg.norm(np.ptp(found.points[before][found.scores[before] > 0], axis=0))
    away = found.points[before][both] - found.points[after][both]
    distance = float(np.linalg.norm(away, axis=-1).mean())
    gap = int(found.frame[after] - found.frame[before])
    return distance if distance <= REACH * min(1 + (gap - 1) / 10, GROWTH) * extent else None


def continues(found: Detections, track: list[int], piece: list[int], anywhere: bool) -> bool:
    """Whether a track and a piece share no frame and are near where one takes over."""
    if np.isin(found.frame[piece], found.frame[track]).any():
        return False
    joined, inside = sorted([*track, *piece], key=lambda k: found.frame[k]), set(piece)
    return anywhere or all(
        reach(found, a, b) is not None
        for a, b in zip(joined, joined[1:], strict=False)
        if (a in inside) != (b in inside)
    )


def rank(found: Detections, tracks: list, keep: str, size: Size | None) -> list[float]:
    """How much each track is wanted by `keep`, one of `CHOICES` or a track id."""
    each, seen = found.scores.sum(1), found.scores > 0
    low, high = bounds(found.points, seen)
    if keep == 'size':
        each = np.where(seen.any(1), np.linalg.norm(high - low, axis=-1), 0)
    elif keep == 'centre':
        middle = np.divide(size, 2) if size else np.median(found.points[seen], axis=0)
        away = np.linalg.norm((low + high)[:, : len(middle)] / 2 - middle, axis=-1)
        each = np.where(seen.any(1), 1 / (1 + away / np.linalg.norm(middle)), 0)
    values = [float(each[track].sum()) for track in tracks]
    if keep in CHOICES:
        return values
    chosen = [bool(found.ids) and str(found.ids[track[0]]) == keep for track in tracks]
    expect(any(chosen), f'no person has the track id {keep} (--person)', ALL_ZERO)
    return [value + 1e9 * own for value, own in zip(values, chosen, strict=True)]


def bounds(points: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest coordinates (K, C) of the joints seen; inf and -inf where none is."""
    low = np.where(seen[..., None], points, np.inf).min(1)
    return low, np.where(seen[..., None], points, -np.inf).max(1)
