"""Augmentations made for micro-gestures: small, short, repeated movements, mostly of the hands."""

import numpy as np

from mg_plugins.data.arrays import arange, largest, like, namespace, per_clip, positive, take_frames
from mg_plugins.data.layouts import Layout, LayoutError

from .base import Augmentation, Draws, option, register
from .joints import displacement
from .temporal import resample_at, smooth

HANDS = ('left_arm', 'right_arm', 'left_hand', 'right_hand')
# A layout of one hand has fingers for regions.
HAND_REGIONS = (*HANDS, 'thumb', 'index', 'middle', 'ring', 'pinky')


def motion_energy(keypoint, score):
    """Sum of squared movements of all joints into each frame, (T,) or (N, T); 0 in the first."""
    moved, _ = displacement(keypoint, score)
    energy = (moved * moved).sum(-1).sum(-1).sum(-2)
    return namespace(keypoint).concatenate([0 * score[..., 0, :1, 0], energy], -1)


def cycle_length(keypoint, score, smallest: int = 4):
    """Length of the movement's cycle in frames, () or (N,); 0 where nothing repeats.

    The lag of the highest local maximum, of a tenth of lag 0 or more, between ``smallest`` and
    T / 2, of the autocorrelation of movements (not speeds: to and fro they repeat twice a cycle).
    Each frame counts with the root of its speed, so that bringing the hand to the face does not
    drown the rubbing once it is there.
    """
    xp = namespace(keypoint)
    frames = keypoint.shape[-3] - 1
    if frames < 2 * smallest + 2:
        return 0 * score[..., 0, 0, 0]
    calm = smooth(keypoint, score, np.ones(keypoint.shape[:-4], np.float32))
    moved, _ = displacement(calm, score)
    moved = xp.moveaxis(moved, -3, -1).reshape(*keypoint.shape[:-4], -1, frames)
    speed = xp.sqrt((moved * moved).sum(-2))[..., None, :]
    spectrum = xp.fft.rfft(moved / xp.sqrt(speed + 1e-9), 2 * frames)
    power = (spectrum.real**2 + spectrum.imag**2).sum(-2)
    match = xp.fft.irfft(power, 2 * frames)[..., : frames // 2 + 2]
    middle = match[..., smallest:-1]
    peak = (middle >= match[..., smallest - 1 : -2]) & (middle > match[..., smallest + 1 :])
    height = xp.where(peak & (middle > 0.1 * match[..., :1]), middle, 0.0)
    found = largest(height, (-1,))[..., 0]
    return (height.argmax(-1) + smallest) * positive(found, keypoint)


def pose_gap(keypoint, score, ahead):
    """Squared distance of each frame's pose to that ``ahead`` (..., 1) frames later, (..., T)."""
    xp = namespace(keypoint)
    last = keypoint.shape[-3] - 1
    later = xp.asarray((arange(last + 1, keypoint) + ahead).clip(0, last), dtype=xp.int64)
    both = positive(score, keypoint) * positive(take_frames(score, later), keypoint)
    apart = (keypoint - take_frames(keypoint, later)) * both[..., None]
    return (apart * apart).sum(-1).sum(-1).sum(-2)


def change_cycle(keypoint, score, cycles: float, place, repeat):
    """Show a stretch of ``cycles`` (`cycle_length`) twice, or leave it out, within the T frames.

    ``place``, 0 … 1 of where it can begin, and ``repeat``, False to leave it out, are () or (N,).
    """
    xp = namespace(keypoint)
    last = keypoint.shape[-3] - 1
    stretch = (cycles * cycle_length(keypoint, score)).round().clip(0, last // 2)[..., None]
    time = arange(last + 1, keypoint)
    # The pose at both ends should be the same, or the joint between them shows: near the wished
    # place, where these poses differ little.
    gap = pose_gap(keypoint, score, stretch)
    wish = like(place, keypoint)[..., None] * (last - stretch)
    cost = gap / gap.mean(-1)[..., None].clip(1e-9) + 2 * abs(time - wish) / max(last, 1)
    late = positive(time - (last - stretch), keypoint)
    begin = (cost + 1e6 * late).argmin(-1)[..., None]
    more = like(np.where(repeat, 1.0, -1.0), keypoint)[..., None]
    # Time on a strip that is longer (or shorter) by the stretch, then back to the clip's frames.
    at = time * ((last + more * stretch) / max(last, 1))
    turn = begin + xp.where(more > 0, stretch, 0 * stretch)
    at = xp.where(at < turn, at, at - more * stretch)
    return resample_at(keypoint, score, at.clip(0, last))


def magnify(keypoint, score, gain, sigma: float):
    """``p ↦ s + gain · (p − s)``, s smoothed by ``sigma`` frames, with a gain () or (N,)."""
    path = smooth(keypoint, score, np.full(np.shape(gain), sigma, np.float32))
    # In this form a gain of 1 gives back every bit.
    return keypoint + (per_clip(gain, keypoint) - 1) * (keypoint - path)


def motion_crop(keypoint, score, before, after):
    """Lose up to these shares, () or (N,), of the motion energy at either end; stretch the rest."""
    # The energy of a frame is that of the movement into it: to begin at frame s loses the energy
    # of frames up to s, to end at it the energy of those after it.
    done = motion_energy(keypoint, score).cumsum(-1)
    total, last = done[..., -1:], done.shape[-1] - 1
    early = positive(like(before, keypoint)[..., None] * total > done, keypoint).sum(-1)
    late = positive(like(after, keypoint)[..., None] * total > total - done, keypoint).sum(-1)
    start, stop = (early - 1).clip(0), last - (late - 1).clip(0)
    share = arange(last + 1, keypoint) / max(last, 1)
    at = start[..., None] + (stop - start)[..., None] * share
    return resample_at(keypoint, score, at.clip(0, last))


def zoom_on(keypoint, score, amount, joints: list[int]):
    """Crop each person's picture around some joints and enlarge the rest by ``1 / (1 − amount)``.

    The window is a cube around the mean of those joints over the clip, ``1 − amount``, () or (N,),
    of what would hold all joints. Other joints outside it are missing.
    """
    seen = positive(score, keypoint)[..., None]
    wanted = np.zeros(keypoint.shape[-2], np.float32)
    wanted[joints] = 1
    wanted = like(wanted, keypoint)[:, None]
    count = (seen * wanted).sum((-3, -2), keepdims=True)
    middle = (keypoint * wanted).sum((-3, -2), keepdims=True) / count.clip(1)
    away = (keypoint - middle) * seen
    distance = largest(abs(away), (-1,))
    left = 1 - per_clip(amount, keypoint)
    inside = distance <= left * largest(distance, (-3, -2))
    keep = positive(inside | (wanted > 0), keypoint)
    # Where none of the joints is seen there is nothing to crop on.
    some = positive(count, keypoint)
    keep = keep * some + (1 - some)
    points = (keypoint + some * away * (1 / left - 1)) * keep
    return points, score * keep[..., 0]


@register('MGCycle')
class Cycle(Augmentation):
    """Repeat or remove a cycle of the movement, found in the clip; see `change_cycle`.

    Where nothing repeats nothing changes. Source: ours, after clip repetition (arXiv 2405.13206).
    """

    strength: float = option(1.0, 'length of what is repeated or removed, in cycles')

    def draw(self, draws: Draws, shape, layout) -> dict:
        return dict(place=draws.uniform(0, 1), repeat=draws.uniform(0, 1) < 0.5)

    def apply(self, keypoint, score, params, layout):
        return change_cycle(keypoint, score, self.strength, params['place'], params['repeat'])


@register('MGMagnify')
class Magnify(Augmentation):
    """Make small movements larger or smaller: ``p ↦ s + g · (p − s)``, s the smoothed path.

    g is log-uniform in [1 / (1 + strength), 1 + strength]. Source: ours, after video motion
    magnification (Wu et al., SIGGRAPH 2012).
    """

    strength: float = option(0.5, 'largest relative change of the deviation')
    sigma: float = option(0.1, 'width of the Gaussian that gives s, as a share of the clip')

    def draw(self, draws: Draws, shape, layout) -> dict:
        most = np.log1p(self.strength)
        return dict(gain=np.asarray(np.exp(draws.uniform(-most, most)), np.float32))

    def apply(self, keypoint, score, params, layout):
        return magnify(keypoint, score, params['gain'], self.sigma * keypoint.shape[-3]), score


@register('MGMotionCrop')
class MotionCrop(Augmentation):
    """Keep the frames in which the movement is, stretched to T frames; see `motion_crop`.

    The loss of motion energy is divided between the two ends at random. Source: ours.
    """

    strength: float = option(0.2, 'largest share of the motion energy that is lost', most=1.0)

    def draw(self, draws: Draws, shape, layout) -> dict:
        lost = self.strength * draws.uniform(0, 1)
        before = lost * draws.uniform(0, 1)
        return dict(before=before, after=lost - before)

    def apply(self, keypoint, score, params, layout):
        return motion_crop(keypoint, score, params['before'], params['after'])


@register('MGHands')
class Hands(Augmentation):
    """Crop the picture around arms and hands and enlarge it; see `zoom_on`.

    What is cut away is uniform in [0, strength]; what stays, regions of the layout. Source: ours.
    """

    strength: float = option(0.3, "largest share cut away of the window's half side", most=0.95)
    needs_layout = True

    def check(self, layout: Layout) -> None:
        if not any(region in layout.regions for region in HAND_REGIONS):
            raise LayoutError(
                f'MGHands needs one of the regions {", ".join(HANDS)}; {layout.name!r} has none'
            )

    def draw(self, draws: Draws, shape, layout) -> dict:
        return dict(amount=draws.uniform(0, self.strength))

    def apply(self, keypoint, score, params, layout):
        joints = sorted({j for part in HAND_REGIONS for j in layout.regions.get(part, ())})
        return zoom_on(keypoint, score, params['amount'], joints)
