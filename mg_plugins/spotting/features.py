"""What a spotting network sees of a recording: posture about the centre, velocity, distances."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from mg_plugins.data.layouts import Layout
from mg_plugins.data.skeleton import body_size, detected_joints

#: Frames from which the body's size is measured; it does not change within a recording.
SIZE_FRAMES = 2000
Clips = Sequence[tuple[int, np.ndarray]]  # class and keypoint (T, V, C), without missing joints


def channels(dims: int) -> int:
    """Input channels a joint: posture, velocity and two distances, in 2D the score too."""
    return 2 * dims + 2 + (dims == 2)


class RecordingFeatures:
    """Features of one person of a recording, computed slice by slice, so that length costs nothing.

    Centred frame by frame, so that a slice is part of the whole; keypoint (T, V, C), 0 if missing.
    """

    def __init__(
        self, keypoint: np.ndarray, score: np.ndarray | None, layout: Layout, fps: float
    ) -> None:
        self.keypoint, self.score, self.fps = keypoint, score, fps
        self.seen = detected_joints(keypoint, score)
        self.present = self.seen.any(1)
        self.dims = keypoint.shape[-1]
        self.centre = np.zeros((len(keypoint), self.dims), np.float32)
        if self.seen[:, layout.centre].any():
            self.centre = without_gaps(keypoint[:, layout.centre], self.seen[:, layout.centre])
        elif self.present.any():
            self.centre[:] = np.median(keypoint[self.seen], axis=0)
        limb = np.arange(layout.num_joints)
        for _ in limb:  # up to the joint that hangs on the centre
            above = np.array(layout.parents)[limb]
            limb = np.where(above == layout.centre, limb, above)
        inner = limb == layout.centre
        self.apart = (limb[:, None] != limb) & ~inner[:, None] & ~inner
        self.size = 1.0
        if self.dims == 2 and self.present.any():
            some = np.flatnonzero(self.present)
            some = some[:: max(1, len(some) // SIZE_FRAMES)]
            self.size = body_size(keypoint[some], self.seen[some], layout)

    def __len__(self) -> int:
        return len(self.keypoint)

    def slice(self, start: int, stop: int) -> np.ndarray:
        """Features (stop - start, V, channels) float32 of some frames; 0 where a joint is missing.

        Velocities are central differences, in body sizes (2D) or metres a second (3D), and 0 where
        a neighbouring frame lacks the joint. Distances, from the centre and from the nearest joint
        of another limb (a fold, a pinch, a touch), do not depend on how the body is turned.
        """
        low, high = max(start - 1, 0), min(stop + 1, len(self))
        points, seen = self.keypoint[low:high] / self.size, self.seen[low:high, :, None]
        index = np.arange(start, stop) - low
        before, after = np.maximum(index - 1, 0), np.minimum(index + 1, high - low - 1)
        step = np.maximum(after - before, 1)[:, None, None]
        velocity = (points[after] - points[before]) * (seen[after] & seen[before])
        velocity = velocity * (self.fps / step)
        posture = (points[index] - self.centre[start:stop, None] / self.size) * seen[index]
        there = seen[index, :, 0]
        square = np.square(posture).sum(-1)
        gaps = square[:, :, None] + square[:, None] - 2 * posture @ posture.transpose(0, 2, 1)
        gaps[~(self.apart & there[:, None] & there[:, :, None])] = np.inf
        gaps = gaps.min(-1)
        distances = np.sqrt(np.maximum([square, np.where(gaps < np.inf, gaps, 0)], 0))
        parts = [posture, velocity * seen[index], distances.transpose(1, 2, 0)]
        if self.dims == 2:
            score = seen[index] if self.score is None else self.score[start:stop, :, None]
            parts.append(score * seen[index])
        return np.concatenate(parts, -1).astype(np.float32)


def without_gaps(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A joint's way (T, C) float32, interpolated where it is not seen (T,)."""
    at = np.flatnonzero(seen)
    axes = [np.interp(np.arange(len(points)), at, axis) for axis in points[at].T]
    return np.stack(axes, -1).astype(np.float32)


def vary(inputs: np.ndarray, rng: Generator, pace: float = 1.0) -> np.ndarray:
    """Features as of somebody else: another size, proportions, noise, pace, and in 3D viewpoint."""
    dims = 2 if inputs.shape[-1] == channels(2) else 3
    vectors = inputs[..., : 2 * dims].reshape(*inputs.shape[:-1], 2, dims)
    scale = rng.uniform(0.85, 1.15) * rng.uniform(0.9, 1.1, (inputs.shape[1], 1, 1))
    seen = vectors[..., :1, :].any(-1, keepdims=True)
    noise = 0.01 * np.sqrt(np.square(vectors[..., 0, :]).sum(-1).mean())
    vectors = vectors * scale + noise * rng.normal(size=vectors.shape) * seen
    vectors[..., 1, :] *= pace
    if dims == 3:
        turn = Rotation.from_euler('xyz', rng.uniform(-25, 25, 3), degrees=True).as_matrix()
        vectors = vectors @ turn.T
    vectors = vectors.reshape(*inputs.shape[:-1], 2 * dims)
    distances, rest = np.split(inputs[..., 2 * dims :], [2], -1)
    return np.concatenate([vectors, distances * scale[..., 0], rest], -1).astype(np.float32)


def compose(
    clips: Clips, length: int, fps: float, nothing: int, layout: Layout, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A recording: keypoint (length, V, C) float32 and the class of every frame (length,)."""
    parts, labels = [], []  # pieces of the recording, and the class of each
    offset = int(rng.integers(0, length // 2))  # the result may begin within a gesture
    while sum(map(len, parts)) < length + offset:
        label, clip = clips[rng.integers(len(clips))]
        clip = _retimed(clip, rng)
        place = (parts[-1][-1] if parts else clip[0])[layout.centre]
        reach = 0.5 * np.ptp(clip[:, layout.centre], axis=0).max() + 0.05 * _extent(clip)
        begin = place + rng.normal(0, reach, clip.shape[-1])
        clip = clip - clip[0, layout.centre] + begin
        if parts:
            parts.append(_between(parts[-1][-1], clip[0], clips, fps, layout, rng))
            labels.append(nothing)
        parts.append(clip)
        labels.append(label)
    kept = slice(offset, offset + length)
    of_frames = np.repeat(labels, [len(part) for part in parts])
    return np.concatenate(parts)[kept].astype(np.float32), of_frames[kept]


def _retimed(clip: np.ndarray, rng: Generator) -> np.ndarray:
    """The clip at another speed and without some frames at either end."""
    low, high = rng.uniform(0, 0.08, 2)
    at = np.linspace(0, len(clip) - 1, max(4, round(len(clip) * rng.uniform(0.8, 1.25))))
    at = at[int(low * len(at)) : len(at) - int(high * len(at))]
    first = np.minimum(at.astype(int), len(clip) - 2)
    share = (at - first)[:, None, None]
    return clip[first] * (1 - share) + clip[first + 1] * share


def _between(
    first: np.ndarray, last: np.ndarray, clips: Clips, fps: float, layout: Layout, rng: Generator
) -> np.ndarray:
    """Frames that lead from one posture to another through up to five others."""
    extent = _extent(first[None])
    postures, stops = [first], [0.0]
    for _ in range(rng.integers(0, 6)):
        one, other = (_posture(clips, layout, rng) for _ in range(2))
        share = rng.uniform(0.3, 0.7) if rng.random() < 0.6 else 1.0
        posture = share * one + (1 - share) * other
        way = rng.normal(0, 0.5 * extent, posture.shape[-1])
        postures.append(posture + postures[-1][layout.centre] + way)
        stops.append(stops[-1] + rng.uniform(0.2, 1.2))
        if rng.random() < 0.3:  # held for a while
            postures.append(postures[-1] + rng.normal(0, 0.01 * extent, posture.shape[-1]))
            stops.append(stops[-1] + rng.uniform(0.2, 1.0))
    postures.append(last)
    stops.append(stops[-1] + rng.uniform(0.3, 1.2))
    count = max(2, round(stops[-1] * fps))
    path = PchipInterpolator(stops, np.stack(postures))(np.linspace(0, stops[-1], count + 2)[1:-1])
    noise = gaussian_filter1d(rng.normal(0, 1, path.shape), 3, axis=0)
    return path + 0.01 * extent * noise


def _posture(clips: Clips, layout: Layout, rng: Generator) -> np.ndarray:
    """A posture about its own centre: mostly how a clip begins or ends."""
    clip = clips[rng.integers(len(clips))][1]
    frame = clip[rng.choice([0, -1, rng.integers(len(clip))], p=[0.4, 0.4, 0.2])]
    return frame - frame[layout.centre]


def _extent(clip: np.ndarray) -> float:
    """RMS distance of the joints from their mean."""
    return float(np.sqrt(((clip - clip.mean(1, keepdims=True)) ** 2).sum(-1).mean()))
