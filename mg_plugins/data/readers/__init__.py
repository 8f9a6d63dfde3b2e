"""Readers of the dataset formats behind `tools/prepare_data.py`; `formats.json` describes each."""

from importlib import import_module

from .common import (
    Clip,
    ClipError,
    Dataset,
    FormatError,
    Parsed,
    Plan,
    Reader,
    Reject,
    format_table,
)


def _load(name: str) -> Reader:
    """The reader of a format: its entry in the table, and its module's three steps."""
    table = format_table()
    entry = dict(table['formats'][name])
    module = import_module(f'{__name__}.{entry.pop("module")}')
    options = {}
    for key in entry.pop('options'):
        option = table['options'][key]
        off = False if option.get('action') == 'store_true' else None
        options[option['flag'][2:].replace('-', '_')] = option.get('default', off)
    entry.pop('files', None)
    if entry.pop('family', None):
        options['format'] = name
    doc = '\n'.join(entry.pop('doc'))
    steps = dict(plan=module.plan, read=module.read, collect=module.collect)
    return Reader(name=name, doc=doc, options=options, **entry, **steps)


READERS: dict[str, Reader] = {name: _load(name) for name in format_table()['formats']}

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
