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
    entry = table['formats'][name]
    module = import_module(f'{__name__}.{entry["module"]}')
    options = {}
    for key in entry['options']:
        option = table['options'][key]
        off = False if option.get('action') == 'store_true' else None
        options[option['flag'][2:].replace('-', '_')] = option.get('default', off)
    own = {key: entry[key] for key in Reader.__annotations__ if key in entry}
    own |= dict(name=name, doc='\n'.join(entry['doc']), options=options)
    return Reader(**own, plan=module.plan, read=module.read, collect=module.collect)


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
