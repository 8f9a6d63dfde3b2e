"""Augmentations of time; every clip keeps its number of frames T."""

import numpy as np

from mg_plugins.data.arrays import arange, like, mix_frames, namespace, positive, take_frames

from .base import Augmentation, Draws, option, register


def resample_at(keypoint, score, positions: np.ndarray):
    """Keypoints and scores at positions (T',), or (N, T') of a batch, in frames, 0 … T − 1.

    Integers pick frames as they are; others interpolate: a joint seen in one of the two
    neighbouring frames only takes its position there, one that the nearer frame lacks is missing.
    """
    at, xp = like(positions, keypoint), namespace(keypoint)
    if at.dtype != keypoint.dtype:
        return take_frames(keypoint, at), take_frames(score, at)
    whole = xp.floor(at)
    before = xp.asarray(whole, dtype=xp.int64)
    after = (before + 1).clip(0, keypoint.shape[-3] - 1)
    share = (at - whole)[..., None]
    if at.ndim == 2:
        share = share[:, None]
    left, right = take_frames(score, before), take_frames(score, after)
    weight_left = (1 - share) * positive(left, keypoint)
    weight_right = share * positive(right, keypoint)
    total = weight_left + weight_right
    nearer = xp.where(share < 0.5, left, right)
    total = xp.where((nearer > 0) & (total > 0), total, float('inf'))
    weight_left, weight_right = weight_left / total, weight_right / total
    points = (
        take_frames(keypoint, before) * weight_left[..., None]
        + take_frames(keypoint, after) * weight_right[..., None]
    )
    return points, left * weight_left + right * weight_right


def resample(
    keypoint: np.ndarray, score: np.ndarray, length: int, start: float, stop: float
) -> tuple[np.ndarray, np.ndarray]:
    """A clip at ``length`` evenly spaced positions, 0 ≤ start ≤ stop ≤ T − 1; see `resample_at`."""
    at = np.linspace(start, stop, length, dtype=np.float32)
    points, scores = resample_at(keypoint, score, at)
    return points.astype(keypoint.dtype), scores.astype(score.dtype)


def smooth(keypoint, score, sigma: np.ndarray):
    """Keypoints averaged over time, weighted by exp(−Δt² / 2σ²); σ in frames, () or (N,)."""
    frames = keypoint.shape[-3]
    width = like(np.maximum(sigma, 0.02), keypoint)[..., None]
    bell = namespace(keypoint).exp(-((arange(frames, keypoint) / width) ** 2) / 2)
    weights = bell[..., np.abs(np.subtract.outer(np.arange(frames), np.arange(frames)))]
    seen = positive(score, keypoint)
    total = mix_frames(seen, weights)
    return mix_frames(keypoint, weights) * (seen / total.clip(1e-6))[..., None]


class Positions(Augmentation):
    """An augmentation that reads the clip at the positions, (T,) or (N, T), of its method ``at``.

    They are integers, or floats that may lie outside.
    """

    def draw(self, draws: Draws, shape, layout) -> dict:
        at = self.at(draws, shape[1])
        inside = at if at.dtype.kind == 'i' else np.clip(at, 0, shape[1] - 1).astype(np.float32)
        return dict(positions=inside)

    def apply(self, keypoint, score, params, layout):
        return resample_at(keypoint, score, params['positions'])


@register('MGCrop')
class Crop(Positions):
    """Keep a part of the clip and stretch it to T frames.

    The share kept is uniform in [1 − strength, 1]. Source: Thoker et al., ACM MM 2021.
    """

    strength: float = option(0.5, 'largest share of the clip that is cut away', most=1.0)

    def at(self, draws: Draws, frames: int) -> np.ndarray:
        last = frames - 1
        cut = last * draws.uniform(0, self.strength)
        start = cut * draws.uniform(0, 1)
        start, stop = start[..., None], (start + last - cut)[..., None]
        return start + (stop - start) * (np.arange(frames) / max(last, 1))


@register('MGShift')
class Shift(Positions):
    """Move the clip in time by whole frames; where it ends it is reflected: t ↦ t + s.

    s is uniform in ±strength · T. Source: the temporal crop of SkeletonCLR and AimCLR.
    """

    strength: float = option(1 / 6, 'largest shift as a share of T')

    def at(self, draws: Draws, frames: int) -> np.ndarray:
        reach, period = int(self.strength * frames), max(2 * (frames - 1), 1)
        at = (np.arange(frames) + draws.integers(-reach, reach)[..., None]) % period
        # Frame numbers beyond the last walk back into the clip.
        return np.minimum(at, period - at)


@register('MGRepeat')
class Repeat(Positions):
    """Play the clip several times over within its T frames: t ↦ (r · t) mod T.

    r is uniform in [1, 1 + strength]. Source: the micro-gesture method (arXiv 2405.13206).
    """

    strength: float = option(1.0, 'largest number of additional rounds')

    def at(self, draws: Draws, frames: int) -> np.ndarray:
        rounds = 1 + draws.uniform(0, self.strength)[..., None]
        return (rounds * np.arange(frames, dtype=np.float32)) % frames


@register('MGPosterise')
class Posterise(Positions):
    """Hold every k-th frame, so that time becomes coarse: t ↦ k ⌊t / k⌋.

    k is uniform in 1 … 1 + strength. Source: the micro-gesture method (arXiv 2405.13206).
    """

    strength: int = option(3, 'largest number of frames for which a frame is held on; whole')

    def at(self, draws: Draws, frames: int) -> np.ndarray:
        hold = draws.integers(1, 1 + int(self.strength))[..., None]
        return np.arange(frames) // hold * hold


@register('MGSpeed')
class Speed(Positions):
    """Play faster or slower: t ↦ s + f · t, f log-uniform in [1 / (1 + strength), 1 + strength].

    Slower shows a part of the clip, faster all of it between held first and last poses, at random
    places. Source: common.
    """

    strength: float = option(0.5, 'largest relative change of speed')

    def at(self, draws: Draws, frames: int) -> np.ndarray:
        last, most = frames - 1, np.log1p(self.strength)
        speed = np.exp(draws.uniform(-most, most))
        start = (last - speed * last) * draws.uniform(0, 1)
        return start[..., None] + speed[..., None] * np.arange(frames, dtype=np.float32)


@register('MGWarp')
class Warp(Positions):
    """Play some parts faster and others slower, smoothly; first and last frame stay.

    The speed is exp(w(t)), w linear between ``knots`` values. Source: Um et al., ICMI 2017.
    """

    strength: float = option(0.5, 'largest |w|; 0.5 is a speed of 0.6 to 1.65 times the mean')
    knots: int = option(5, 'number of values of w over the clip, at least 2', least=2)

    def at(self, draws: Draws, frames: int) -> np.ndarray:
        steps = frames - 1
        values = draws.uniform(-self.strength, self.strength, self.knots).astype(np.float64)
        where = np.linspace(0, self.knots - 1, max(steps, 1))
        knot = np.minimum(where.astype(int), self.knots - 2)
        share = where - knot
        speed = np.exp(values[..., knot] * (1 - share) + values[..., knot + 1] * share)
        at = np.concatenate([np.zeros_like(speed[..., :1]), speed.cumsum(-1)], axis=-1)
        return (at * (steps / at[..., -1:]))[..., :frames].astype(np.float32)


@register('MGReverse')
class Reverse(Positions):
    """Play the clip backwards: t ↦ T − 1 − t. Source: AimCLR (temporal flip), probability 0.5."""

    strength: float = option(1.0, '1 reverses, 0 does not; ``p`` is the share reversed', most=1.0)
    p: float = 0.5

    def at(self, draws: Draws, frames: int) -> np.ndarray:
        return np.broadcast_to(np.arange(frames)[::-1], (*draws.batch, frames)).copy()


@register('MGDropFrames')
class DropFrames(Positions):
    """Lose frames: each but the first is, with probability ``strength``, the last one not lost.

    Source: common (frame drop); here as a camera that stalls.
    """

    strength: float = option(0.1, 'share of frames that is lost', most=1.0)

    def at(self, draws: Draws, frames: int) -> np.ndarray:
        lost = draws.uniform(0, 1, frames) < self.strength
        return np.maximum.accumulate(np.where(lost, 0, np.arange(frames)), axis=-1)


@register('MGSmooth')
class Smooth(Augmentation):
    """Average each joint over time with a Gaussian of σ frames, uniform in [0, strength].

    Source: AimCLR, there with probability 0.5.
    """

    strength: float = option(2.0, 'largest σ, frames')

    def draw(self, draws: Draws, shape, layout) -> dict:
        return dict(sigma=draws.uniform(0, self.strength))

    def apply(self, keypoint, score, params, layout):
        return smooth(keypoint, score, params['sigma']), score
