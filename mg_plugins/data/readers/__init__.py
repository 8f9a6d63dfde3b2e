"""Readers of the dataset formats behind `tools/prepare_data.py FORMAT …`; see `common`."""

from . import coco, imigue, mediapipe, msr_action3d, npz, openpose, smg, synthetic
from .common import REASONS, Clip, ClipError, Dataset, FormatError, Parsed, Plan, Reader, Reject

READERS: dict[str, Reader] = {
    module.READER.name: module.READER
    for module in (imigue, smg, msr_action3d, openpose, coco, mediapipe, npz, synthetic)
}

__all__ = [
    'READERS',
    'REASONS',
    'Clip',
    'ClipError',
    'Dataset',
    'FormatError',
    'Parsed',
    'Plan',
    'Reader',
    'Reject',
]
