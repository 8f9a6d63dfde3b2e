"""The record of one run: machine, rates, rows; its JSON file, its table and its picture.

A row has ``work``, ``direction``, ``shape``, ``dtype``, ``implementation`` (``eager``, ``compile``,
``max-autotune``; ``triton`` or ``torch`` for the package's own path; ``plain`` or ``fused`` for a
train step), ``seconds``, and where they are known ``bytes``, ``operations`` and ``peak``.
"""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from mg_plugins.errors import UserError
from mg_plugins.files import read_json, replacing

FORMAT = 2
OWN = ('triton', 'torch', 'fused')
COMPILED = ('compile', 'max-autotune')
COLOURS = {'eager': '#9aa0a6', 'compile': '#e8a33d', 'max-autotune': '#b8651b', 'own': '#2166ac'}
_FIELDS = dict(machine=dict, rates=dict, rows=list, left_out=list, failed=list)


def empty(device: str) -> dict[str, Any]:
    """A record without rows, with the machine (``'cuda'`` or ``'cpu'``) that it is made on."""
    import torch

    versions = {}
    for name in ('torch', 'triton', 'numpy', 'mmaction2'):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    file = Path('/proc/cpuinfo')
    models = re.findall(r'model name\s*:\s*(.+)', file.read_text()) if file.is_file() else []
    name = f'CPU ({[*models, platform.machine()][0]})'
    name = torch.cuda.get_device_name() if device == 'cuda' else name
    machine = dict(kind=device, device=name, threads=torch.get_num_threads(), versions=versions)
    machine |= dict(python=platform.python_version(), cuda=torch.version.cuda)
    fields = {field: kind() for field, kind in _FIELDS.items()}
    return fields | dict(format=FORMAT, machine=machine, correctness='not run')


def read(path: str | os.PathLike) -> dict[str, Any]:
    """A record from its JSON file.

    Raises:
        UserError: If there is no such file or it holds something else.
    """
    record = read_json(path)
    good = isinstance(record, dict) and record.get('format') == FORMAT
    if not good or not all(isinstance(record.get(f), kind) for f, kind in _FIELDS.items()):
        raise UserError(
            f'{path} is not a record of kernel benchmarks in format {FORMAT}: make one by '
            '`python kernels/run.py --out DIR`'
        )
    return record


def file_name(record: dict[str, Any]) -> str:
    """File name without ending: ``cpu``, or the GPU's name."""
    machine = record['machine']
    name = 'cpu' if machine['kind'] == 'cpu' else machine['device']
    return re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')


def groups(rows: list[dict]) -> dict[tuple, dict[str, dict]]:
    """Rows that belong side by side, by implementation; ``own`` is the package's path.

    The keys are (work, direction, shape, dtype).
    """
    found: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        key = (row['work'], row['direction'], row['shape'], row['dtype'])
        side = 'own' if row['implementation'] in OWN else row['implementation']
        found.setdefault(key, {})[side] = row
    return found


def markdown(record: dict[str, Any]) -> str:
    """Machine, table and what is missing."""
    machine, rates = record['machine'], record['rates']
    versions = ', '.join(f'{k} {v}' for k, v in machine['versions'].items())
    rate = f'; copy {rates["copy"] / 1e9:.3g} GB/s' if 'copy' in rates else ''
    lines = [
        f'Measured on: **{machine["device"]}**, threads: {machine["threads"]}; {versions}{rate}.',
        f'Tests of the kernels before it: {record["correctness"]}.',
        '',
        '| work | direction | shape | type | eager, µs | compile, µs | max-autotune, µs | ours, µs '
        '| path | ours, % of copy | eager / ours | best compile / ours | peak eager / ours, MB |',
        '| --- | --- | --- | --- | --: | --: | --: | --: | --- | --: | --: | --: | --: |',
    ]
    for key, rows in groups(record['rows']).items():
        own = rows.get('own')
        if own is None or key[0] == 'step':
            continue
        compiled = min((rows[c]['seconds'] for c in COMPILED if c in rows), default=None)
        share = own['bytes'] / own['seconds'] / rates['copy'] if 'copy' in rates else None
        peaks = (f'{(rows[side]["peak"] or 0) / 1e6:.0f}' for side in ('eager', 'own'))
        cells = [
            *key,
            *(_number(rows.get(c), 1e6, '.1f') for c in ('eager', *COMPILED, 'own')),
            own['implementation'],
            '–' if share is None else f'{share:.0%}',
            _number(rows.get('eager'), 1 / own['seconds']),
            f'{compiled / own["seconds"]:.2f}' if compiled else '–',
            ' / '.join(peaks) if own['peak'] else '–',
        ]
        lines.append('| ' + ' | '.join(cells) + ' |')
    for (work, network, shape, dtype), rows in groups(record['rows']).items():
        if work == 'step' and {'plain', 'own'} <= rows.keys():
            plain, own = rows['plain']['seconds'], rows['own']['seconds']
            lines += [
                '',
                f'A train step of {network}, {shape}, {dtype}: plain {1e3 * plain:.1f} ms, fused '
                f'{1e3 * own:.1f} ms, {own / plain:.3f} times as long.',
            ]
    for title, field in (('Left out', 'left_out'), ('Did not work', 'failed')):
        if record[field]:
            lines += ['', f'### {title}', '', *(f'* {item}' for item in record[field])]
    return '\n'.join(lines) + '\n'


def _number(row: dict | None, factor: float, form: str = '.2f') -> str:
    return '–' if row is None else format(factor * row['seconds'], form)


def draw(record: dict[str, Any], path: Path) -> None:
    """Bars of the times of ``pool+mix``, a panel a direction; needs matplotlib."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib.figure import Figure

    found = {k: r for k, r in groups(record['rows']).items() if k[0] == 'pool+mix' and 'own' in r}
    directions = sorted({key[1] for key in found})
    figure = Figure(figsize=(11, 3.4 * max(1, len(directions))), layout='constrained')
    axes = figure.subplots(max(1, len(directions)), 1, squeeze=False)[:, 0]
    for ax, direction in zip(axes, directions, strict=False):
        panel = {k: rows for k, rows in found.items() if k[1] == direction}
        for place, rows in enumerate(panel.values()):
            for i, side in enumerate(side for side in COLOURS if side in rows):
                height = 1e3 * rows[side]['seconds']
                ax.bar(place + 0.2 * i - 0.3, height, 0.19, color=COLOURS[side])
        ax.set_xticks(range(len(panel)), [f'{k[2]}\n{k[3]}' for k in panel], fontsize=7)
        ax.set_title(f'pool and mix, {direction}', fontsize=9)
        ax.set_ylabel('ms, lower is better', fontsize=8)
        ax.spines[['top', 'right']].set_visible(False)
    handles = [axes[0].bar(0, 0, color=colour) for colour in COLOURS.values()]
    figure.legend(handles, COLOURS, loc='outside lower center', ncols=4)
    figure.suptitle(record['machine']['device'], fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
