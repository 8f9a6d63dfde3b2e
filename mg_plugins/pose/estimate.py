"""What a pose estimator is and what it saw, a `PoseTrack`, which two steps smooth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.data.skeleton import body_size
from mg_plugins.errors import UserError
from mg_plugins.files import replacing

RATE = 30.0  # frames a second that are estimated by default; `fill_gaps` interpolates others
MOST = 4  # persons that are kept


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says: upright width and height, frames a second, frames (0 unknown)."""

    width: int
    height: int
    fps: float
    frames: int


class PoseError(UserError):
    """Keypoints that cannot be had: an estimator that is not installed, a broken cache."""


@dataclass(frozen=True)
class Person:
    """One person in a frame: keypoint (V, 2) pixels, score (V,), and the track it belongs to."""

    keypoint: np.ndarray
    score: np.ndarray
    track: int = 0


class Estimator(Protocol):
    """What a pose estimator offers: a call, the name of its joint layout, and its own."""

    name: str  # part of the cache's: another name or version estimates anew
    layout: str

    def __call__(self, image: np.ndarray, time: float) -> Sequence[Person]:
        """Persons in one frame (H, W, 3) RGB at ``time`` seconds; none is an empty sequence."""


@dataclass(frozen=True)
class PoseTrack:
    """Keypoints of a whole recording."""

    keypoint: np.ndarray  # (M, T, V, C) float32; missing joints are 0
    score: np.ndarray  # (M, T, V) float32; 0 where missing
    times: np.ndarray  # (T,) presentation times in seconds
    layout: str  # name of the joint layout
    size: tuple[int, int] | None  # (width, height) of the picture, if there is one
    fps: float  # frames a second

    def smoothed(self) -> PoseTrack:
        """The track with short gaps filled and jitter removed."""
        layout = get_layout(self.layout)
        keypoint, score = smooth_track(self.keypoint, self.score, self.times, layout)
        return replace(self, keypoint=keypoint, score=score)

    def save(self, path: Path) -> None:
        """Write a .npz file, whole or not at all."""
        with replacing(path) as temporary, temporary.open('wb') as file:
            np.savez_compressed(file, **dict(asdict(self), size=np.array(self.size or (), int)))


def load_track(path: Path) -> PoseTrack:
    """Read what `PoseTrack.save` wrote; a broken file is a `PoseError`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        size = tuple(arrays.pop('size').tolist()) or None
        layout, fps = str(arrays.pop('layout')), float(arrays.pop('fps'))
        return PoseTrack(**arrays, layout=layout, size=size, fps=fps)
    except Exception as error:
        raise PoseError(f'{path} holds no keypoints ({error}); remove it') from error


def estimate_video(
    frames: Iterable[tuple],
    estimator: Estimator,
    progress: Callable[[int, int], None] | None = None,
    rate: float = RATE,
) -> PoseTrack:
    """Run an estimator over frames from `frames_of` or a camera; M is at least 1.

    ``progress`` is told frames done and frames in all (0 unknown). About ``rate`` frames a second
    are estimated, the others stay empty. Ctrl-C is passed on; to keep what was seen, end frames.
    """
    times, found, info, last = [], [], None, -np.inf
    for image, time, info in frames:
        due = time - last >= 0.75 / rate  # every frame up to 4/3 of the rate, as clocks jitter
        found.append(estimator(image, time) if due else ())
        last = time if due else last
        times.append(time)
        if progress:
            progress(len(times), info.frames)
    return as_track(times, found, estimator.layout, info)


def as_track(
    times: Sequence[float], found: Sequence[Sequence[Person]], layout: str, info: VideoInfo | None
) -> PoseTrack:
    """Keypoints of the persons found in each frame: the `MOST` whose tracks have most frames."""
    seen: dict[int, dict[int, Person]] = {}
    for frame, persons in enumerate(found):
        for person in persons:
            seen.setdefault(person.track, {})[frame] = person
    tracks = sorted(seen.values(), key=len, reverse=True)[:MOST]
    shape = max(len(tracks), 1), len(times), get_layout(layout).num_joints
    keypoint, score = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
    for number, track in enumerate(tracks):
        for frame, person in track.items():
            keypoint[number, frame], score[number, frame] = person.keypoint, person.score
    fps = (len(times) - 1) / times[-1] if len(times) > 1 and times[-1] > 0 else 0.0
    fps = fps or (info.fps if info else 30.0)
    size = (info.width, info.height) if info else None
    return PoseTrack(keypoint, score, np.array(times), layout, size, fps)


def fill_gaps(
    keypoint: np.ndarray, score: np.ndarray, times: np.ndarray, longest: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate a joint over gaps of up to ``longest`` seconds; longer ones stay gaps.

    A gap lasts from the last frame before it to the first after it; the lower score of both fills
    it. Keypoint (T, V, C), score (T, V), rising times (T,).
    """
    keypoint, score = keypoint.copy(), score.copy()
    for joint in range(score.shape[1]):
        at = np.flatnonzero(score[:, joint] > 0)
        wide = np.flatnonzero((np.diff(at) > 1) & (np.diff(times[at]) <= longest + 1e-6))
        for a, b in zip(at[wide], at[wide + 1], strict=True):
            inner = slice(a + 1, b)
            share = ((times[inner] - times[a]) / (times[b] - times[a]))[:, None]
            keypoint[inner, joint] = (1 - share) * keypoint[a, joint] + share * keypoint[b, joint]
            score[inner, joint] = min(score[a, joint], score[b, joint])
    return keypoint, score


def one_euro(
    keypoint: np.ndarray,
    score: np.ndarray,
    times: np.ndarray,
    min_cutoff: float = 2.0,
    beta: float = 5.0,
    size: float = 1.0,
) -> np.ndarray:
    """The One-Euro filter: still joints are smoothed, quick ones follow without delay.

    A low-pass filter of cut-off ``min_cutoff + beta * speed`` Hz (Casiez, Roussel and Vogel, CHI
    2012), speeds in body sizes (of ``size``) a second, low-passed at 1 Hz. It starts anew where a
    joint was missing. Keypoint (T, V, C).
    """
    smooth = keypoint.astype(np.float64)
    speed = np.zeros(keypoint.shape[1:])
    for t in range(1, len(keypoint)):
        step = times[t] - times[t - 1]
        known = ((score[t] > 0) & (score[t - 1] > 0))[:, None]
        move = smooth[t] - smooth[t - 1]
        speed = np.where(known, speed + _share(1.0, step) * (move / step - speed), 0)
        pace = np.linalg.norm(speed, axis=-1, keepdims=True) / size
        share = _share(min_cutoff + beta * pace, step)
        smooth[t] = np.where(known, smooth[t - 1] + share * move, smooth[t])
    return smooth.astype(np.float32)


def smooth_track(
    keypoint: np.ndarray, score: np.ndarray, times: np.ndarray, layout: Layout
) -> tuple[np.ndarray, np.ndarray]:
    """Both steps for every person: keypoint (M, T, V, C) and score (M, T, V)."""
    keypoint, score = keypoint.copy(), score.copy()
    for person, (points, sure) in enumerate(zip(keypoint, score, strict=True)):
        if (sure > 0).any():
            size = body_size(points, sure > 0, layout)
            points, score[person] = fill_gaps(points, sure, times)
            keypoint[person] = one_euro(points, score[person], times, size=size)
    return keypoint, score


def _share(cutoff: float | np.ndarray, step: float) -> float | np.ndarray:
    """Weight of the new value for a cut-off in Hz and a step in seconds."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))
