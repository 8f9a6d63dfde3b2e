"""Readers of the dataset formats behind `tools/prepare_data.py`; `formats.json` describes each."""

from .common import Reader, table

READERS: dict[str, Reader] = {name: Reader(name) for name in table('formats')['formats']}
