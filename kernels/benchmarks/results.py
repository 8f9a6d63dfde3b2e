"""The record of one run: machine, rates, rows; its JSON file, table and picture, and its aims.

A row has ``work``, ``direction``, ``shape``, ``dtype``, ``implementation`` (``eager``, ``compile``,
``max-autotune``; ``triton`` or ``torch`` for the package's own path; ``plain`` or ``fused`` for a
train step), ``seconds``, and where they are known ``bytes``, ``operations`` and ``peak``.
"""

import os
import platform
import re
from contextlib import suppress
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

from mg_plugins.errors import UserError
from mg_plugins.files import read_json, replacing

from ..setups import IMIGUE, NTU, OVER_FRAMES, OVER_JOINTS, SMALL

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
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    file = Path('/proc/cpuinfo')
    models = re.findall(r'model name\s*:\s*(.+)', file.read_text()) if file.is_file() else []
    name = f'CPU ({[*models, platform.machine()][0]})'
    name = torch.cuda.get_device_name() if device == 'cuda' else name
    machine = dict(kind=device, device=name, threads=torch.get_num_threads(), versions=versions)
    machine |= dict(python=platform.python_version(), cuda=torch.version.cuda)
    fields = {field: kind() for field, kind in _FIELDS.items()}
    return fields | dict(format=FORMAT, machine=machine, correctness='not run')


def read(path: str | os.PathLike) -> dict[str, Any]:
    """A record from its JSON file; a UserError if there is none or it holds something else."""
    record = read_json(path)
    good = isinstance(record, dict) and record.get('format') == FORMAT
    if not good or not all(isinstance(record.get(f), kind) for f, kind in _FIELDS.items()):
        raise UserError(
            f'{path} is not a record in format {FORMAT}: make one by `python kernels/run.py`'
        )
    return record


def file_name(record: dict[str, Any]) -> str:
    """File name without ending: ``cpu``, or the GPU's name."""
    machine = record['machine']
    name = 'cpu' if machine['kind'] == 'cpu' else machine['device']
    return re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')


def groups(rows: list[dict]) -> dict[tuple, dict[str, dict]]:
    """Rows of equal (work, direction, shape, dtype) by implementation, ours as ``own``."""
    found: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        key = (row['work'], row['direction'], row['shape'], row['dtype'])
        side = 'own' if row['implementation'] in OWN else row['implementation']
        found.setdefault(key, {})[side] = row
    return found


def report(record: dict[str, Any]) -> str:
    """Everything that a record says, as Markdown: machine, tables, what is missing, and aims."""
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
    lines += ['', '### Aims', '', '| aim | verdict | figures |', '| --- | --- | --- |']
    lines += [f'| {aim} | **{verdict}** | {text} |' for aim, verdict, text in judge(record)]
    return '\n'.join(lines) + '\n'


def _number(row: dict | None, factor: float, form: str = '.2f') -> str:
    return '–' if row is None else format(factor * row['seconds'], form)


def draw(record: dict[str, Any], path: Path) -> None:
    """Bars of the times of ``pool+mix``, a panel a direction; needs matplotlib."""
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


MET, MISSED, UNKNOWN = 'met', 'missed', 'not measured'
SHAPES = dict(first=NTU[:1], listed=[*NTU, *IMIGUE], small=SMALL, joints=OVER_JOINTS)
SHAPES['frames'] = [shape for shape in OVER_FRAMES if shape.t <= 300]


def judge(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(aim, verdict, figures) of every aim of ``aims.json``, with the device that it is for.

    ``value`` there is what must be ``least`` or ``most`` at each shape and type: how many times
    ours the better of ``others`` takes (``over``); the share of ours that copying must take
    (``of_copy``), or the longer of copying and products (``of_limits``); the growth of bytes over
    that of time, from the first shape on (``growth``); or fused over plain train step (``step``).
    """
    found, aims = record['correctness'], read_json(Path(__file__).with_name('aims.json'))
    correct = {'passed': MET, 'failed': MISSED}.get(found.split(' ')[0], UNKNOWN)
    names = {'cuda': 'GPU', 'cpu': 'CPU'}
    return [
        ('tests of the kernels pass', correct, found),
        *((f'{names[aim["device"]]}: {aim["aim"]}', *_verdict(record, aim)) for aim in aims),
    ]


def _verdict(record: dict[str, Any], aim: dict[str, Any]) -> tuple[str, str]:
    """Verdict and figures; missed if any value is, met only if all are there."""
    found = _values(record, aim) if aim['device'] == record['machine']['kind'] else {}
    measured = {k: v for k, v in found.items() if v is not None}
    if not measured:
        return UNKNOWN, ''
    worst = (max if 'most' in aim else min)(measured, key=measured.get)
    text = f'worst {measured[worst]:.3g} ({worst}) of {len(measured)}'
    if len(measured) < len(found):
        text += f', {len(found) - len(measured)} not measured'
    bad = measured[worst] > aim['most'] if 'most' in aim else measured[worst] < aim['least']
    return (MISSED if bad else UNKNOWN if len(measured) < len(found) else MET), text


def _values(record: dict[str, Any], aim: dict[str, Any]) -> dict[str, float | None]:
    """What an aim is about, by shape and type, or network; None where it was not measured."""
    by_group, found = groups(record['rows']), {}
    if aim['value'] == 'step':
        return {
            f'{key[1]} {key[3]}': rows['own']['seconds'] / rows['plain']['seconds']
            for key, rows in by_group.items()
            if key[0] == 'step' and {'plain', 'own'} <= rows.keys()
        }
    for shape, dtype in product(SHAPES[aim['shapes']], aim['types']):
        rows = by_group.get((aim['work'], aim['direction'], str(shape), dtype), {})
        own = rows.get('own')
        # On a GPU it counts only where Triton ran.
        measured = own and (aim['device'] == 'cpu' or own['implementation'] != 'torch')
        found[f'{shape} {dtype}'] = _value(aim, rows, record['rates']) if measured else None
    if aim['value'] != 'growth':
        return found
    (_, first), *others = found.items()
    return {shape: other and first and other / first for shape, other in others}


def _value(aim: dict[str, Any], rows: dict[str, dict], rates: dict[str, float]) -> float | None:
    own = rows['own']
    if aim['value'] == 'over':
        of = aim.get('of', 'seconds')
        values = [rows[name][of] for name in aim['others'] if name in rows]
        return min(values) / own[of] if own[of] and values and None not in values else None
    if aim['value'] == 'growth':
        return own['bytes'] / own['seconds']
    limits = [own['bytes'] / rates['copy']]
    if aim['value'] == 'of_limits':
        limits.append(own['operations'] / rates[own['dtype']])
    return max(limits) / own['seconds']
