"""Augmentations of single joints and body parts: jitter, masks, limb lengths."""

from functools import lru_cache

import numpy as np

from mg_plugins.data.arrays import body_spread, like, mix_joints, per_clip, positive, take_joints
from mg_plugins.data.layouts import Layout, LayoutError

from .base import Augmentation, Draws, option, register


def displacement(keypoint, score):
    """Movement from each frame to the next, (..., M, T − 1, V, C), 0 where an end is missing."""
    seen = positive(score, keypoint)
    both = seen[..., 1:, :] * seen[..., :-1, :]
    return (keypoint[..., 1:, :, :] - keypoint[..., :-1, :, :]) * both[..., None], both


def own_motion(keypoint, score):
    """Root mean square movement of every joint a frame and axis, (..., M, 1, V)."""
    moved, both = displacement(keypoint, score)
    energy = (moved * moved).mean(-1).sum(-2, keepdims=True)
    return (energy / both.sum(-2, keepdims=True).clip(1)) ** 0.5


def jitter(keypoint, score, noise, amount: float):
    """``p ↦ p + amount · motion_j · score · n`` with n standard normal, shaped as keypoint."""
    reach = amount * own_motion(keypoint, score) * score.clip(0, 1)
    return keypoint + reach[..., None] * like(noise, keypoint)


def add_noise(keypoint, score, noise, amount: float):
    """``p ↦ p + amount · r · n`` of joints that are there: n standard normal, r `body_spread`."""
    reach = per_clip(amount * body_spread(keypoint, score), score)
    seen = reach * positive(score, keypoint)
    return keypoint + seen[..., None] * like(noise, keypoint)


def hide(keypoint, score, keep):
    """Make joints missing where ``keep`` is False: broadcastable to the score's shape."""
    keep = positive(like(keep, keypoint), keypoint)
    return keypoint * keep[..., None], score * keep


def change_limbs(keypoint, score, factors, layout: Layout):
    """Stretch every bone by its factor (V,), or (N, V) of a batch, from the centre outwards.

    ``p_j ↦ p_j + Σ (f_b − 1) (p_b − p_parent(b))`` over the bones b, seen at both ends, up to j.
    """
    parents, path = bone_paths(layout)
    seen = positive(score, keypoint)
    both = seen * take_joints(seen, parents)
    change = (like(factors, keypoint) - 1)[..., None, None, :] * both
    bone = keypoint - take_joints(keypoint, parents)
    # The sum over the bones on the way is one matrix of 0 and 1 over the joints.
    moved = mix_joints(bone * change[..., None], like(path, keypoint))
    return keypoint + moved * seen[..., None]


@lru_cache(maxsize=64)
def bone_paths(layout: Layout) -> tuple[tuple[int, ...], np.ndarray]:
    """Neighbour of each joint (V,) towards the centre, and (V, V): 1 for the bones on that way."""
    joints = range(layout.num_joints)
    parents, path, reached = list(joints), np.zeros((len(joints),) * 2, np.float32), set()
    for root in (layout.centre, *joints):
        queue = [] if root in reached else [root]
        reached.add(root)
        for joint in queue:
            for bone in layout.bones:
                other = sum(bone) - joint
                if joint in bone and other not in reached:
                    reached.add(other)
                    queue.append(other)
                    parents[other] = joint
                    path[other] = path[joint]
                    path[other, other] = 1
    return tuple(parents), path


@register('MGJitter')
class Jitter(Augmentation):
    """Perturb coordinates as much as a joint moves itself: ``p ↦ p + strength · m_j · c · n``.

    m_j is `own_motion`, c the score (what the detector doubts is not perturbed further), n standard
    normal. Source: the micro-gesture method (arXiv 2405.13206); scaling by own motion is ours.
    """

    strength: float = option(0.5, "noise as a share of the joint's own motion")

    def draw(self, draws: Draws, shape, layout) -> dict:
        return dict(noise=draws.noise(shape))

    def apply(self, keypoint, score, params, layout):
        return jitter(keypoint, score, params['noise'], self.strength), score


@register('MGNoise')
class Noise(Augmentation):
    """Add the same Gaussian noise to every joint, frame and axis: ``p ↦ p + strength · r · n``.

    r is the spread of the bodies (`arrays.body_spread`). Source: AimCLR, there 0.01 m or 0.02 r.
    """

    strength: float = option(0.02, 'standard deviation in spreads')

    def draw(self, draws: Draws, shape, layout) -> dict:
        return dict(noise=draws.noise(shape))

    def apply(self, keypoint, score, params, layout):
        return add_noise(keypoint, score, params['noise'], self.strength), score


class Hide(Augmentation):
    """An augmentation that makes joints missing where ``params['keep']`` is False."""

    def apply(self, keypoint, score, params, layout):
        return hide(keypoint, score, params['keep'])


@register('MGMaskJoints')
class MaskJoints(Hide):
    """Hide joints for the whole clip, each with probability ``strength``. Source: common."""

    strength: float = option(0.1, 'expected share of hidden joints', most=1.0)

    def draw(self, draws: Draws, shape, layout) -> dict:
        return dict(keep=draws.uniform(0, 1, 1, 1, shape[2]) >= self.strength)


@register('MGMaskRegion')
class MaskRegion(Hide):
    """Hide one body part, drawn from the layout's regions, during a part of the clip.

    Source: common; the limited time is ours: without its hands a micro-gesture is gone.
    """

    strength: float = option(0.3, 'share of the clip, at a random place, it is hidden', most=1.0)
    needs_layout = True

    def check(self, layout: Layout) -> None:
        if not layout.regions:
            raise LayoutError(
                f'MGMaskRegion needs body regions, layout {layout.name!r} has none: add '
                "regions=dict(left_hand=[joints], ...) to it, or use 'MGMaskJoints'"
            )

    def draw(self, draws: Draws, shape, layout) -> dict:
        table = [np.isin(np.arange(shape[2]), joints) for joints in layout.regions.values()]
        region = np.stack(table)[draws.integers(0, len(table) - 1)]
        hidden = self.strength * shape[1]
        start = (draws.uniform(0, 1) * (shape[1] - hidden))[..., None]
        middle = np.arange(shape[1]) + 0.5
        during = (middle >= start) & (middle < start + hidden)
        return dict(keep=~(during[..., None, :, None] & region[..., None, None, :]))


@register('MGLimbs')
class Limbs(Augmentation):
    """Another body: every bone gets its own length, its factor uniform in 1 ± strength.

    Left and right share their factors. Source: bone lengths as in PoseAug (CVPR 2021).
    """

    strength: float = option(0.1, "largest relative change of a bone's length")
    needs_layout = True

    def draw(self, draws: Draws, shape, layout) -> dict:
        factors = 1 + draws.uniform(-self.strength, self.strength, shape[2])
        for left, right in layout.pairs:
            factors[..., right] = factors[..., left]
        return dict(factors=factors)

    def apply(self, keypoint, score, params, layout):
        return change_limbs(keypoint, score, params['factors'], layout), score
