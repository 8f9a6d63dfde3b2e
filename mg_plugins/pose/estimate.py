"""A pose estimator is anything that turns frames into persons; what it saw is a `PoseTrack`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from mg_plugins.data.layouts import get_layout
from mg_plugins.errors import UserError
from mg_plugins.files import replacing

from .video import VideoInfo

#: Frames a second that are estimated by default; `fill_gaps` interpolates those between them.
RATE = 30.0


class PoseError(UserError):
    """Keypoints that cannot be had: an estimator that is not installed, a broken cache."""


@dataclass(frozen=True)
class Person:
    """One person in a frame: keypoint (V, 2) pixels, score (V,), and the track it belongs to."""

    keypoint: np.ndarray
    score: np.ndarray
    track: int = 0


class Estimator(Protocol):
    """What a pose estimator offers.

    Attributes:
        name: Goes into the cache's name; another name or version estimates anew.
        layout: Name of the joint layout of what it gives.
    """

    name: str
    layout: str

    def __call__(self, image: np.ndarray, time: float) -> Sequence[Person]:
        """Persons in one frame (H, W, 3) RGB at ``time`` seconds; none is an empty sequence."""


@dataclass(frozen=True)
class PoseTrack:
    """Keypoints of a whole recording.

    Attributes:
        keypoint: (M, T, V, C) float32; missing joints are 0.
        score: (M, T, V) float32; 0 where missing.
        times: (T,) presentation times in seconds.
        layout: Name of the joint layout.
        size: (width, height) of the picture; None where there is none.
        fps: Frames a second.
    """

    keypoint: np.ndarray
    score: np.ndarray
    times: np.ndarray
    layout: str
    size: tuple[int, int] | None
    fps: float

    def smoothed(self) -> PoseTrack:
        """The track with short gaps filled and jitter removed."""
        from .smooth import smooth_track

        layout = get_layout(self.layout)
        keypoint, score = smooth_track(self.keypoint, self.score, self.times, layout)
        return replace(self, keypoint=keypoint, score=score)

    def save(self, path: Path) -> None:
        """Write a .npz file, whole or not at all."""
        with replacing(path) as temporary, temporary.open('wb') as file:
            np.savez_compressed(file, **dict(asdict(self), size=np.array(self.size or (), int)))


def load_track(path: Path) -> PoseTrack:
    """Read what `PoseTrack.save` wrote.

    Raises:
        PoseError: The file is broken.
    """
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
    most_persons: int = 4,
    rate: float = RATE,
) -> PoseTrack:
    """Run an estimator over frames from `frames_of` or a camera.

    Ctrl-C is passed on; a caller that wants what was seen until then ends ``frames`` itself.

    Args:
        frames: (picture, seconds, VideoInfo) in order of time.
        estimator: Gives the persons of each frame.
        progress: Told frames done and frames in all (0 unknown).
        most_persons: The tracks with most frames are kept.
        rate: About as many frames a second are estimated, evenly spread; the others stay empty.

    Returns:
        The track; M is at least 1, T may be 0 only where there were no frames.
    """
    times: list[float] = []
    found: list[Sequence[Person]] = []
    info = None
    last = -np.inf
    for image, time, info in frames:
        due = time - last >= 0.75 / rate  # every frame up to 4/3 of the rate, as clocks jitter
        found.append(estimator(image, time) if due else ())
        last = time if due else last
        times.append(time)
        if progress:
            progress(len(times), info.frames)
    return as_track(times, found, estimator.layout, info, most_persons)


def as_track(
    times: Sequence[float],
    found: Sequence[Sequence[Person]],
    layout: str,
    info: VideoInfo | None,
    most_persons: int = 4,
) -> PoseTrack:
    """The track of the persons found in each frame; for the rest see `estimate_video`."""
    seen: dict[int, dict[int, Person]] = {}
    for frame, persons in enumerate(found):
        for person in persons:
            seen.setdefault(person.track, {})[frame] = person
    tracks = sorted(seen.values(), key=len, reverse=True)[:most_persons]
    shape = max(len(tracks), 1), len(times), get_layout(layout).num_joints
    keypoint, score = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
    for number, track in enumerate(tracks):
        for frame, person in track.items():
            keypoint[number, frame], score[number, frame] = person.keypoint, person.score
    fps = (len(times) - 1) / times[-1] if len(times) > 1 and times[-1] > 0 else 0.0
    fps = fps or (info.fps if info else 30.0)
    size = (info.width, info.height) if info else None
    return PoseTrack(keypoint, score, np.array(times), layout, size, fps)
