"""The record of one run: what is in its JSON file, where it was measured, and its table."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

FORMAT = 1
HERE = Path(__file__).resolve().parent
#: Where the one command puts what it measured, if not told otherwise.
FOLDER = HERE / 'results'

_RECORD = {
    'format': int,
    'complete': bool,
    'machine': dict,
    'ceilings': dict,
    'rows': list,
    'left_out': list,
    'failed': list,
    'correctness': (str, type(None)),
}
_ROW = {
    'work': str,
    'direction': str,
    'shape': dict,
    'dtype': str,
    'implementation': str,
    'graphs': bool,
    'seconds': float,
    'spread': float,
    'turns': int,
    'bytes': (int, type(None)),
    'operations': (int, type(None)),
    'peak_bytes': (int, type(None)),
}


class ResultsError(ValueError):
    """A results file that cannot be read, with what is wrong with it."""


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on.

    Args:
        device: ``'cuda'`` or ``'cpu'``.
    """
    import torch

    found: dict[str, Any] = {
        'kind': device.upper() if device == 'cpu' else device,
        'device': torch.cuda.get_device_name() if device == 'cuda' else f'CPU ({_processor()})',
        'python': platform.python_version(),
        'system': f'{platform.system()} {platform.machine()}',
        'torch': torch.__version__,
        'cuda': torch.version.cuda,
        'driver': _driver() if device == 'cuda' else None,
        'threads': torch.get_num_threads(),
    }
    for name in ('triton', 'numpy', 'pytest-benchmark', 'mmaction2', 'mg-plugins'):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _processor() -> str:
    try:
        text = Path('/proc/cpuinfo').read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = re.findall(r'model name\s*:\s*(.+)', text)
    return f'{names[0]}, {len(names)} logical cores' if names else platform.machine()


def _driver() -> str | None:
    command = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split('\n')[0].strip()


def empty(device: str) -> dict[str, Any]:
    """A record without any row."""
    return dict(
        format=FORMAT,
        complete=False,
        machine=machine(device),
        ceilings={},
        rows=[],
        left_out=[],
        failed=[],
        correctness=None,
    )


def check(record: Any, source: str = 'the record') -> dict[str, Any]:
    """The record itself, if it is one.

    Raises:
        ResultsError: With the first thing that is wrong.
    """
    if not isinstance(record, dict) or record.get('format') != FORMAT:
        raise ResultsError(
            f'{source} is not a record of kernel benchmarks in format {FORMAT}; make one by '
            '`python kernels/run.py --out DIR`'
        )
    _check_keys(record, _RECORD, source)
    for number, row in enumerate(record['rows']):
        if not isinstance(row, dict):
            raise ResultsError(f'{source}: row {number} is no object')
        _check_keys(row, _ROW, f'{source}, row {number}')
        if not row['seconds'] > 0:
            raise ResultsError(f'{source}, row {number}: seconds must be above 0')
    return record


def _check_keys(found: dict, wanted: dict, where: str) -> None:
    for key, kinds in wanted.items():
        if key not in found:
            raise ResultsError(f'{where} lacks {key!r}')
        if not isinstance(found[key], kinds):
            raise ResultsError(f'{where}: {key!r} is {found[key]!r}, which is of the wrong type')


def read(path: str | os.PathLike) -> dict[str, Any]:
    """A record from its JSON file.

    Raises:
        ResultsError: If there is no such file or it holds something else.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        raise ResultsError(f'cannot read {path}: {error.strerror}') from None
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise ResultsError(f'{path} is no JSON: {error}') from None
    return check(record, str(path))


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        'w', dir=path.parent, prefix=f'.{path.name}.', delete=False, encoding='utf-8'
    ) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def dumps(record: dict[str, Any]) -> str:
    """A checked record as JSON text, a row a line."""
    rows = ',\n'.join('  ' + json.dumps(row) for row in check(record)['rows'])
    head = json.dumps({k: v for k, v in record.items() if k != 'rows'}, indent=1)
    return head.removesuffix('\n}') + ',\n "rows": [\n' + rows + '\n ]\n}\n'


def name(record: dict[str, Any]) -> str:
    """File name without ending: ``cpu``, or the GPU's name."""
    if record['machine']['kind'] == 'CPU':
        return 'cpu'
    return re.sub(r'[^a-z0-9]+', '-', record['machine']['device'].lower()).strip('-')


# --- the table ----------------------------------------------------------------------------------

OWN = ('triton', 'torch', 'fused')
COLUMNS = ('eager', 'compile', 'max-autotune')


def groups(rows: list[dict]) -> dict[tuple, dict[str, dict]]:
    """Rows that belong side by side, by implementation; ``own`` is the package's path."""
    found: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        key = (
            row['work'],
            row['direction'],
            tuple(row['shape'].values()),
            row['dtype'],
            row['graphs'],
        )
        side = 'own' if row['implementation'] in OWN else row['implementation']
        found.setdefault(key, {})[side] = row
    return found


def markdown(record: dict[str, Any]) -> str:
    """Machine, ceilings, table and what is missing, as markdown."""
    m, ceilings = record['machine'], record['ceilings']
    versions = ', '.join(
        f'{k} {m[k]}'
        for k in ('python', 'torch', 'cuda', 'driver', 'triton', 'numpy', 'pytest-benchmark')
        if m.get(k)
    )
    lines = [
        f'Measured on: **{m["device"]}**, threads: {m["threads"]}; {versions}.',
        f'Tests of the kernels before it: {record["correctness"] or "not run"}.',
        '',
    ]
    if ceilings:
        products = ', '.join(f'{k} {v / 1e12:.3g}' for k, v in ceilings['products'].items())
        lines += [
            f'In the same run: copy {ceilings["copy"] / 1e12:.3g} TB/s (read and written bytes), '
            f'matrix products in TFLOP/s: {products}.',
            '',
        ]
    for graphs in (False, True):
        kinds = {k: v for k, v in groups(record['rows']).items() if k[4] == graphs}
        if kinds:
            lines += [f'### {"With" if graphs else "Without"} CUDA graphs', '']
            lines += [*_table(kinds, ceilings), '']
            lines += [*_steps(kinds), '']
    for title, key in (('Left out', 'left_out'), ('Did not work', 'failed')):
        if record[key]:
            lines += [f'### {title}', '', *(f'* {item}' for item in record[key]), '']
    return '\n'.join(lines).rstrip('\n') + '\n'


def _table(kinds: dict[tuple, dict[str, dict]], ceilings: dict) -> list[str]:
    lines = [
        '| work | direction | N, C, T, V, heads | type | eager, µs | compile, µs '
        '| max-autotune, µs | ours, µs | path | MB | ours, % of copy | eager / ours '
        '| best compile / ours | peak eager, MB | peak ours, MB |',
        '| --- | --- | --- | --- ' + '| --: ' * 4 + '| --- ' + '| --: ' * 6 + '|',
    ]
    for (work, direction, shape, dtype, _), rows in kinds.items():
        own = rows.get('own')
        if work == 'step' or own is None:
            continue
        compiled = [rows[c]['seconds'] for c in COLUMNS[1:] if c in rows]
        eager = rows.get('eager')
        share = own['bytes'] / own['seconds'] / ceilings['copy'] if ceilings else None
        lines.append(
            f'| {work} | {direction} | {", ".join(map(str, shape))} | {dtype} | '
            + ' | '.join(_us(rows.get(c)) for c in COLUMNS)
            + f' | {_us(own)} | {own["implementation"]} | {own["bytes"] / 1e6:.1f} '
            + f'| {_number(share and 100 * share, ".0f")} '
            + f'| {_number(eager and eager["seconds"] / own["seconds"])} '
            + f'| {_number(min(compiled) / own["seconds"] if compiled else None)} '
            + f'| {_mb(eager)} | {_mb(own)} |'
        )
    return lines


def _steps(kinds: dict[tuple, dict[str, dict]]) -> list[str]:
    lines = [
        '| train step of | clips, persons, frames, joints | type | plain, ms | fused, eager, ms '
        '| fused, ms | fused / plain |',
        '| --- | --- | --- | --: | --: | --: | --: |',
    ]
    for (work, network, shape, dtype, _), rows in kinds.items():
        if work != 'step' or not {'plain', 'own'} <= rows.keys():
            continue
        plain, fused, eager = rows['plain'], rows['own'], rows.get('fused, eager')
        lines.append(
            f'| {network} | {", ".join(map(str, shape))} | {dtype} '
            f'| {1e3 * plain["seconds"]:.2f} | {_number(eager and 1e3 * eager["seconds"])} '
            f'| {1e3 * fused["seconds"]:.2f} | {fused["seconds"] / plain["seconds"]:.3f} |'
        )
    return lines if len(lines) > 2 else []


def _us(row: dict | None) -> str:
    return _number(row and 1e6 * row['seconds'], '.1f')


def _mb(row: dict | None) -> str:
    return _number(row and row['peak_bytes'] and row['peak_bytes'] / 1e6, '.0f')


def _number(value: float | None, form: str = '.2f') -> str:
    return '–' if value is None else format(value, form)
