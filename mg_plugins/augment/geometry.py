"""Augmentations that move all joints alike, most of them by one matrix a clip, ``p ↦ A p``.

x is to the side, y along the body, z in depth; in shoulder widths (2D) or metres, body-centred.
"""

from collections.abc import Sequence

import numpy as np

from mg_plugins.data.arrays import body_spread, like, mix_axes, positive, take_joints

from .base import Augmentation, Draws, option, register


def rotation_matrix(angles: np.ndarray) -> np.ndarray:
    """(..., C, C) float32 from radians (..., 3) about x, then y, then z, or (..., 1) in 2D."""
    cos, sin = np.moveaxis(np.cos(angles), -1, 0), np.moveaxis(np.sin(angles), -1, 0)
    if len(cos) == 1:
        rows = [[cos[0], -sin[0]], [sin[0], cos[0]]]
    else:
        (cx, cy, cz), (sx, sy, sz) = cos, sin
        rows = [
            [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz],
            [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz],
            [-sy, sx * cy, cx * cy],
        ]
    return np.stack([np.stack(row, -1) for row in rows], -2).astype(np.float32)


def rotate(keypoint, angles: np.ndarray):
    """Turn every joint about the origin: ``p ↦ R p``. Angles as in :func:`rotation_matrix`."""
    return transform(keypoint, rotation_matrix(np.asarray(angles)))


def scale(keypoint, factors: np.ndarray):
    """Stretch each coordinate axis by its own factor (..., C)."""
    return transform(keypoint, _diagonal(np.asarray(factors)))


def transform(keypoint, matrix: np.ndarray):
    """``p ↦ A p`` with ``matrix`` A (C, C), or (N, C, C) of a batch. Missing joints stay 0."""
    return mix_axes(keypoint, like(matrix, keypoint))


def translate(keypoint, score, offset: np.ndarray):
    """``p ↦ p + offset`` (C,), or (N, C) of a batch, for joints that are there."""
    offset = like(offset, keypoint)[..., None, None, None, :]
    return keypoint + offset * positive(score, keypoint)[..., None]


def flip(keypoint, score, swap: Sequence[int]):
    """Mirror the body at x = 0; ``swap`` is the layout's, which exchanges left and right."""
    mirror = np.float32([-1, 1, 1][: keypoint.shape[-1]])
    return take_joints(keypoint, swap) * like(mirror, keypoint), take_joints(score, swap)


class Linear(Augmentation):
    """An augmentation that is one matrix, ``params['matrix']`` (C, C) or (N, C, C)."""

    def apply(self, keypoint, score, params, layout):
        return transform(keypoint, params['matrix']), score


@register('MGRotate')
class Rotate(Linear):
    """Turn the clip: ``p ↦ R p``, about each axis in 3D, in the plane in 2D. Source: PYSKL."""

    max_angle: float = option(0.3, 'largest angle, radians; angles are uniform in ±max_angle')

    def draw(self, draws: Draws, shape, layout) -> dict:
        axes = 3 if shape[-1] == 3 else 1
        return dict(matrix=rotation_matrix(draws.uniform(-self.max_angle, self.max_angle, axes)))


@register('MGViewpoint')
class Viewpoint(Linear):
    """See the clip from another side: ``p ↦ R p``, or what that does to a flat body in 2D.

    Source: the micro-gesture method (arXiv 2405.13206); in 2D, the 2 × 2 block of R, ours.
    """

    strength: float = option(0.3, 'largest angle about each axis, radians')

    def draw(self, draws: Draws, shape, layout) -> dict:
        turn = rotation_matrix(draws.uniform(-self.strength, self.strength, 3))
        return dict(matrix=turn[..., : shape[-1], : shape[-1]])


@register('MGTurnAxis')
class TurnAxis(Linear):
    """Turn about one axis at random, and hardly about the others.

    Angles are uniform in ±strength and ±strength / 30. Source: AimCLR's extreme augmentation.
    """

    strength: float = option(0.52, 'largest angle, radians (0.52 are 30°)')

    def draw(self, draws: Draws, shape, layout) -> dict:
        if shape[-1] == 2:
            return dict(matrix=rotation_matrix(draws.uniform(-self.strength, self.strength, 1)))
        main = draws.integers(0, 2)[..., None] == np.arange(3)
        angles = draws.uniform(-self.strength, self.strength, 3)
        return dict(matrix=rotation_matrix(np.where(main, angles, angles / 30)))


@register('MGTurn')
class Turn(Linear):
    """Turn the body about y, which runs along it: ``p ↦ R p``, in 2D ``x ↦ x cos θ``.

    What a camera at the same height sees from another side. Source: common for unseen cameras.
    """

    strength: float = option(1.0, 'largest angle, radians; angles are uniform in ±strength')

    def draw(self, draws: Draws, shape, layout) -> dict:
        angles = draws.uniform(-self.strength, self.strength, 1) * np.float32([0, 1, 0])
        return dict(matrix=rotation_matrix(angles)[..., : shape[-1], : shape[-1]])


@register('MGShear')
class Shear(Linear):
    """Slant the body: ``p ↦ (I + S) p``, S with a zero diagonal, the rest uniform in ±strength.

    Source: SkeletonCLR and AimCLR, there with strength 0.5.
    """

    strength: float = option(0.5, 'largest entry of S')

    def draw(self, draws: Draws, shape, layout) -> dict:
        dims, one = shape[-1], np.eye(shape[-1], dtype=np.float32)
        slant = draws.uniform(-self.strength, self.strength, dims, dims)
        return dict(matrix=one + slant * (1 - one))


@register('MGScale')
class Scale(Linear):
    """Stretch each axis of the body by its own factor, uniform in 1 ± strength. Source: PYSKL."""

    strength: float = option(0.1, 'largest deviation of a factor from 1')

    def draw(self, draws: Draws, shape, layout) -> dict:
        factors = 1 + draws.uniform(-self.strength, self.strength, shape[-1])
        return dict(matrix=_diagonal(factors))


@register('MGAxisMask')
class AxisMask(Linear):
    """Flatten one coordinate axis, drawn for each clip: ``p_a ↦ (1 − strength) p_a``.

    Source: AimCLR, there to 0 and with probability 0.5.
    """

    strength: float = option(1.0, 'share of the axis that is taken away; 1 sets it to 0', most=1.0)

    def draw(self, draws: Draws, shape, layout) -> dict:
        hit = draws.integers(0, shape[-1] - 1)[..., None] == np.arange(shape[-1])
        return dict(matrix=_diagonal(np.where(hit, np.float32(1 - self.strength), np.float32(1))))


@register('MGTranslate')
class Translate(Augmentation):
    """Shift the whole clip: ``p ↦ p + r · d``, d uniform in ±strength along each axis.

    r is the spread of the bodies (`arrays.body_spread`). Source: common (affine augmentation).
    """

    strength: float = option(0.2, 'largest shift in spreads')

    def draw(self, draws: Draws, shape, layout) -> dict:
        return dict(offset=draws.uniform(-self.strength, self.strength, shape[-1]))

    def apply(self, keypoint, score, params, layout):
        spread = body_spread(keypoint, score)[..., None]
        return translate(keypoint, score, spread * like(params['offset'], keypoint)), score


@register('MGFlip')
class Flip(Augmentation):
    """Mirror the body: x ↦ −x, and left and right joints change places. Source: common."""

    strength: float = option(1.0, '1 mirrors, 0 does not; ``p`` is the share mirrored', most=1.0)
    p: float = 0.5
    needs_layout = True

    def apply(self, keypoint, score, params, layout):
        return flip(keypoint, score, layout.swap)


def _diagonal(factors: np.ndarray) -> np.ndarray:
    return factors[..., None] * np.eye(factors.shape[-1], dtype=factors.dtype)
