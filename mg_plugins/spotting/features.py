"""What a spotting network sees of a recording: posture about the body's centre, and velocity.

Every frame is centred on its own centre joint, so that a crop, a chunk and the whole recording give
the same numbers; how the body moves through the world is in the velocity.
"""

from __future__ import annotations

import numpy as np

from mg_plugins.data.layouts import Layout
from mg_plugins.data.skeleton import body_size, detected_joints

#: Frames from which the body's size is measured; it does not change within a recording.
SIZE_FRAMES = 2000


def channels(dims: int) -> int:
    """Input channels a joint for 2D (posture, velocity, score) or 3D (posture, velocity) data."""
    return 5 if dims == 2 else 6


class RecordingFeatures:
    """Features of one person of a recording, computed slice by slice, so that length costs nothing.

    Args:
        keypoint: (T, V, C) raw coordinates; missing joints are 0.
        score: (T, V) detection scores, or None.
        layout: Layout of the V joints.
        fps: Frames a second, which velocities are measured by.
    """

    def __init__(
        self, keypoint: np.ndarray, score: np.ndarray | None, layout: Layout, fps: float
    ) -> None:
        self.keypoint, self.score, self.fps = keypoint, score, fps
        self.seen = detected_joints(keypoint, score)
        self.present = self.seen.any(1)
        self.dims = keypoint.shape[-1]
        frames = np.arange(len(keypoint))
        at = np.flatnonzero(self.seen[:, layout.centre])
        if at.size:
            centre = keypoint[at, layout.centre]
            self.centre = np.stack(
                [np.interp(frames, at, centre[:, c]) for c in range(self.dims)], -1
            ).astype(np.float32)
        else:
            there = keypoint[self.seen]
            origin = np.median(there, axis=0) if there.size else np.zeros(self.dims)
            self.centre = np.broadcast_to(origin, (len(keypoint), self.dims)).astype(np.float32)
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
        a neighbouring frame lacks the joint.
        """
        low, high = max(start - 1, 0), min(stop + 1, len(self))
        points, seen = self.keypoint[low:high] / self.size, self.seen[low:high, :, None]
        index = np.arange(start, stop) - low
        before, after = np.maximum(index - 1, 0), np.minimum(index + 1, high - low - 1)
        step = np.maximum(after - before, 1)[:, None, None]
        velocity = (points[after] - points[before]) * (seen[after] & seen[before])
        velocity = velocity * (self.fps / step)
        posture = points[index] - self.centre[start:stop, None] / self.size
        parts = [posture * seen[index], velocity * seen[index]]
        if self.dims == 2:
            score = seen[index] if self.score is None else self.score[start:stop, :, None]
            parts.append(score * seen[index])
        return np.concatenate(parts, -1).astype(np.float32)
