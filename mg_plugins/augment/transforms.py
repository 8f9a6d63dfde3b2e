"""Registered transforms over :mod:`mg_plugins.augment.functional`; they draw, the functions do."""

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from . import functional as F


def _positive(name: str, value: float) -> float:
    if value < 0:
        raise ValueError(f'{name} must not be negative, got {value}')
    return value


@TRANSFORMS.register_module()
class MGResample(BaseTransform):
    """Bring a clip to ``clip_len`` frames by interpolation, after an optional temporal crop.

    Reads and writes ``keypoint`` (M, T, V, C) and ``keypoint_score`` (M, T, V).

    Args:
        clip_len: Number of frames of the result.
        crop: Smallest and largest share of the clip that is kept, at a random place; ``None``
            keeps the whole clip (validation and test).

    Raises:
        ValueError: If clip_len is not positive or crop is not 0 < smallest ≤ largest ≤ 1.
    """

    def __init__(self, clip_len: int, crop: tuple[float, float] | None = None) -> None:
        if clip_len < 1:
            raise ValueError(f'clip_len must be at least 1 frame, got {clip_len}')
        if crop is not None and not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError(f'crop must be (smallest, largest) share in (0, 1], got {crop}')
        self.clip_len, self.crop = clip_len, crop

    def transform(self, results: dict) -> dict:
        """Resample the clip in ``results``.

        Raises:
            ValueError: If there are no scores.
        """
        if 'keypoint_score' not in results:
            raise ValueError(
                'MGResample needs keypoint_score to know which joints are missing: '
                'put it after MGNormalize and before MGSkeFeat'
            )
        last = results['keypoint'].shape[1] - 1
        start, stop = 0.0, float(last)
        if self.crop is not None:
            kept = last * np.random.uniform(*self.crop)
            start = np.random.uniform(0, last - kept)
            stop = start + kept
        results['keypoint'], results['keypoint_score'] = F.resample(
            results['keypoint'], results['keypoint_score'], self.clip_len, start, stop
        )
        results.update(clip_len=self.clip_len, num_clips=1, total_frames=self.clip_len)
        return results


@TRANSFORMS.register_module()
class MGRotate(BaseTransform):
    """See the clip from a slightly different viewpoint.

    Args:
        max_angle: Largest rotation in radians, about each axis in 3D and in the plane in 2D;
            angles are uniform in ±max_angle, one draw a clip.
    """

    def __init__(self, max_angle: float = 0.3) -> None:
        self.max_angle = _positive('max_angle', max_angle)

    def transform(self, results: dict) -> dict:
        """Rotate ``keypoint`` about the origin."""
        axes = 3 if results['keypoint'].shape[-1] == 3 else 1
        angles = np.random.uniform(-self.max_angle, self.max_angle, axes)
        results['keypoint'] = F.rotate(results['keypoint'], angles)
        return results


@TRANSFORMS.register_module()
class MGScale(BaseTransform):
    """Stretch the body along each axis.

    Args:
        strength: Factors are uniform in 1 ± strength, one draw a clip and axis.
    """

    def __init__(self, strength: float = 0.1) -> None:
        self.strength = _positive('strength', strength)

    def transform(self, results: dict) -> dict:
        """Scale ``keypoint`` about the origin."""
        dims = results['keypoint'].shape[-1]
        factors = 1 + np.random.uniform(-self.strength, self.strength, dims)
        results['keypoint'] = F.scale(results['keypoint'], factors)
        return results
