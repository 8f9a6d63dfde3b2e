"""Untrimmed recordings put together from cut clips, where few recordings, or none, are labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from mg_plugins.data.layouts import Layout

Clips = Sequence[tuple[int, np.ndarray]]  # class and keypoint (T, V, C), without missing joints


def compose(
    clips: Clips, length: int, fps: float, nothing: int, layout: Layout, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A recording: keypoint (length, V, C) float32 and the class of every frame (length,)."""
    parts: list[np.ndarray] = []
    labels: list[int] = []  # of the parts
    offset = int(rng.integers(0, length // 2))  # the result may begin within a gesture
    while sum(map(len, parts)) < length + offset:
        label, clip = clips[rng.integers(len(clips))]
        clip = _vary(clip, rng)
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


def _vary(clip: np.ndarray, rng: Generator) -> np.ndarray:
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
