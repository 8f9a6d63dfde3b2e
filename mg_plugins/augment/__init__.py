"""Augmentations of skeleton clips, for one clip in a pipeline or a batch on its device."""

import lazy_loader

_NAMES = {
    'base': 'AUGMENTATIONS Augmentation Draws build_augmentation register',
    'batched': 'BatchedViews SampleRandomness View build_views write_features',
    'chain': 'Chain Recipe build_steps recipe_names',
    'geometry': 'flip rotate rotation_matrix scale transform translate',
    'gesture': 'change_cycle cycle_length magnify motion_crop motion_energy pose_gap zoom_on',
    'joints': 'add_noise change_limbs displacement hide jitter own_motion',
    'temporal': 'resample resample_at smooth',
}
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={module: names.split() for module, names in _NAMES.items()}
)
