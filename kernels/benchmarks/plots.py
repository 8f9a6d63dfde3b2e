"""Pictures of a record: times at the listed shapes, and growth over frames and joints."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from mg_plugins.kernels.setups import IMIGUE, NTU, OVER_FRAMES, OVER_JOINTS, SMALL

from . import results, roofline

LOOKS = {
    'eager': ('eager PyTorch', '#9aa0a6'),
    'compile': ('torch.compile', '#e8a33d'),
    'max-autotune': ('torch.compile, max-autotune', '#b8651b'),
    'own': ('mg_plugins', '#2166ac'),
}


def draw(record: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what a record holds; returns the files.

    Args:
        record: A checked record.
        folder: Where ``kernels_NAME_speed.png`` and ``kernels_NAME_growth.png`` go.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed; the message says what to do.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'plots need matplotlib: pip install "mg-plugins[viz]", then '
            'python kernels/run.py --plots-from FILE.json'
        ) from None
    matplotlib.use('Agg')
    found = results.groups(record['rows'])
    # Where there are graphs, they show the device's own time.
    graphs = any(key[4] for key in found)
    found = {key: rows for key, rows in found.items() if key[4] == graphs}
    name = results.name(record).replace('-', '_')
    pictures = {'speed': _speed(found, record), 'growth': _growth(found, record)}
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for kind, figure in pictures.items():
        if figure is not None:
            files.append(folder / f'kernels_{name}_{kind}.png')
            _save(figure, files[-1])
    return files


def _save(figure, path: Path) -> None:
    handle, part = tempfile.mkstemp(dir=path.parent, prefix='.', suffix='.png')
    os.close(handle)
    try:
        figure.savefig(part, dpi=130, bbox_inches='tight')
        os.chmod(part, 0o644)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def _title(record: dict[str, Any], graphs: bool) -> str:
    m = record['machine']
    how = ', replayed CUDA graphs' if graphs else ''
    threads = f', threads: {m["threads"]}' if m['kind'] == 'CPU' else ''
    return f'{m["device"]}{threads}, torch {m["torch"]}{how}'


def _speed(found: dict[tuple, dict[str, dict]], record: dict[str, Any]):
    """Bars of both kernels' times at the listed shapes, a panel a type and direction."""
    from matplotlib.figure import Figure

    shapes = [tuple(s) for s in (*NTU, *IMIGUE, *SMALL)]
    panels: dict[tuple[str, str], list] = {}
    for (work, direction, shape, dtype, _), rows in found.items():
        if work == 'pool+mix' and shape in shapes and 'own' in rows:
            panels.setdefault((dtype, direction), []).append((shape, rows))
    if not panels:
        return None
    dtypes = sorted({dtype for dtype, _ in panels})
    figure = Figure(figsize=(13, 3.4 * len(dtypes)), layout='constrained')
    axes = figure.subplots(len(dtypes), 3, squeeze=False)
    for line, dtype in zip(axes, dtypes, strict=True):
        for ax, direction in zip(line, roofline.DIRECTIONS, strict=True):
            for place, (_, rows) in enumerate(panels.get((dtype, direction), [])):
                found_sides = [side for side in LOOKS if side in rows]
                for i, side in enumerate(found_sides):
                    middle = place + 0.2 * (i - (len(found_sides) - 1) / 2)
                    ax.bar(middle, 1e3 * rows[side]['seconds'], 0.19, color=LOOKS[side][1])
            labels = [
                '{}, {}\n{}, {}'.format(*shape[:4])
                for shape, _ in panels.get((dtype, direction), [])
            ]
            ax.set_xticks(range(len(labels)), labels, fontsize=7)
            ax.set_title(f'{direction}, {dtype}', fontsize=9)
            ax.set_ylabel('ms, lower is better', fontsize=8)
            ax.spines[['top', 'right']].set_visible(False)
    sides = [s for s in LOOKS if any(s in rows for p in panels.values() for _, rows in p)]
    handles = [figure.axes[0].bar(0, 0, color=LOOKS[s][1]) for s in sides]
    figure.legend(handles, [LOOKS[s][0] for s in sides], loc='outside lower center', ncols=4)
    figure.suptitle(f'pool and mix at N, C, T, V.\n{_title(record, _graphs(found))}', fontsize=10)
    return figure


def _growth(found: dict[tuple, dict[str, dict]], record: dict[str, Any]):
    """Curves over T and V of the forward, with the least time that copying the bytes would take."""
    from matplotlib.figure import Figure

    dtypes = ('bfloat16', 'float32')
    curves = [('frames T', 't', OVER_FRAMES), ('joints V', 'v', OVER_JOINTS)]
    if not any(key[2] == tuple(OVER_FRAMES[-1]) for key in found):
        return None
    figure = Figure(figsize=(10, 7), layout='constrained')
    axes = figure.subplots(2, 2)
    for line, dtype in zip(axes, dtypes, strict=True):
        for ax, (label, letter, shapes) in zip(line, curves, strict=True):
            for side, (title, colour) in LOOKS.items():
                points = [
                    (getattr(s, letter), 1e6 * rows[side]['seconds'])
                    for s in shapes
                    if side in (rows := _rows(found, s, dtype))
                ]
                if points:
                    ax.plot(*zip(*points, strict=True), 'o-', ms=3, color=colour, label=title)
            least = [
                (
                    getattr(s, letter),
                    1e6
                    * roofline.cost('pool+mix', 'forward', s, dtype).bytes
                    / record['ceilings']['copy'],
                )
                for s in shapes
            ]
            ax.plot(*zip(*least, strict=True), ':', color='black', label='copying the bytes')
            ax.set_xlabel(label)
            ax.set_ylabel('µs')
            ax.set_ylim(0)
            ax.set_title(f'pool and mix forward, {dtype}', fontsize=9)
            ax.spines[['top', 'right']].set_visible(False)
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(f'N 128, C 64.\n{_title(record, _graphs(found))}', fontsize=10)
    return figure


def _rows(found: dict[tuple, dict[str, dict]], shape, dtype: str) -> dict[str, dict]:
    return found.get(('pool+mix', 'forward', tuple(shape), dtype, _graphs(found)), {})


def _graphs(found: dict[tuple, dict[str, dict]]) -> bool:
    return next(iter(found))[4]
