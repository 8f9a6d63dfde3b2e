"""The pure functions behind the augmentations, in one place.

Each takes keypoints, scores and parameters that are already drawn: one clip as numpy arrays,
(M, T, V, C) and (M, T, V), or a batch as torch tensors, (N, M, T, V, C) and (N, M, T, V). A joint
is missing where its score is 0; missing joints have all-zero coordinates and keep them.
"""

from .geometry import flip, rotate, rotation_matrix, scale, transform, translate
from .gesture import (
    change_cycle,
    cycle_length,
    magnify,
    motion_crop,
    motion_energy,
    pose_gap,
    zoom_on,
)
from .joints import add_noise, change_limbs, displacement, hide, jitter, own_motion
from .temporal import resample, resample_at, smooth

__all__ = [
    'add_noise',
    'change_cycle',
    'change_limbs',
    'cycle_length',
    'displacement',
    'flip',
    'hide',
    'jitter',
    'magnify',
    'motion_crop',
    'motion_energy',
    'own_motion',
    'pose_gap',
    'resample',
    'resample_at',
    'rotate',
    'rotation_matrix',
    'scale',
    'smooth',
    'transform',
    'translate',
    'zoom_on',
]
