"""Readers of the dataset formats behind `tools/prepare_data.py`; `formats.json` describes each."""

from .common import Clip, ClipError, Dataset, FormatError, Parsed, Plan, Reader, Reject, table

READERS: dict[str, Reader] = {name: Reader(name) for name in table('formats')['formats']}

__all__ = [
    'READERS',
    'Clip',
    'ClipError',
    'Dataset',
    'FormatError',
    'Parsed',
    'Plan',
    'Reader',
    'Reject',
]
