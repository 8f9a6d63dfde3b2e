"""Read a pickle of numbers, text, built-in containers and numpy arrays, and nothing else.

A pickle is a program: it names importable objects, calls them, and writes into them. Here a name
never resolves to the real object. The few names that pickled arrays need resolve to inert
stand-ins of this module that build arrays of numbers or text only; every other name is refused.
Object arrays and forged array types, which reach raw memory inside numpy, are refused too.

Needs the standard library and numpy only.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.errors import UserError

_NUMBERS_AND_TEXT = 'biufcSU'
_DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class AnnotationError(UserError):
    """An annotation file that is missing, damaged, refused or wrongly built."""


def load_pickle(path: str | os.PathLike) -> Any:
    """Read a pickle file under the restrictions of this module.

    Args:
        path: File to read.

    Returns:
        The content, with plain numpy arrays and scalars.

    Raises:
        AnnotationError: The file names anything else than numbers, text, built-in containers and
            numpy arrays, or is damaged.
    """
    path = Path(path)
    try:
        with path.open('rb') as file:
            return _plain(_Unpickler(file, path).load())
    except AnnotationError:
        raise
    except OSError as error:
        raise AnnotationError(f'{path} cannot be read: {error}') from error
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise AnnotationError(f'{path} is damaged or no pickle: {reason}') from error


class _Inert:
    """An instance that pickle can call but not write into."""

    __slots__ = ('_call',)

    def __init__(self, call: Callable) -> None:
        object.__setattr__(self, '_call', call)

    def __call__(self, *args):
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError('it writes into a function')

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError('it writes into a function')


class _Dtype:
    """Stand-in for numpy.dtype: its type text, then its byte order, and nothing that it claims."""

    __slots__ = ('text', 'value')

    def __init__(self, text: str, *_: Any) -> None:
        self.text = text
        self.value = self._checked(text)

    @staticmethod
    def _checked(text: Any) -> np.dtype:
        dtype = np.dtype(text) if isinstance(text, str) else None
        if dtype is None or dtype.kind not in _NUMBERS_AND_TEXT or dtype.names or dtype.shape:
            raise pickle.UnpicklingError(
                f'it holds an array of {text!r}, only numbers and text may'
            )
        return dtype

    def __setstate__(self, state: tuple) -> None:
        order = state[1]
        if order not in ('<', '>', '=', '|'):
            raise pickle.UnpicklingError(f'an array has the byte order {order!r}')
        self.value = self._checked(self.text).newbyteorder(order)


class _Array(np.ndarray):
    """An array that takes its state from a `_Dtype`; `_plain` turns it into a plain array."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError('an array has no proper type')
        if not isinstance(raw, (bytes, bytearray)):
            raise pickle.UnpicklingError('an array holds objects')
        super().__setstate__((1, shape, dtype.value, bool(fortran), bytes(raw)))


def _reconstruct(*_: Any) -> _Array:
    """numpy's `_reconstruct`: an empty array that is given its content afterwards."""
    return _Array(0, np.int8)


def _frombuffer(
    raw: bytes, dtype: _Dtype, shape: tuple, order: str = 'C', axes: tuple | None = None
) -> np.ndarray:
    """numpy's `_frombuffer`, which protocol 5 uses for contiguous arrays."""
    array = np.frombuffer(bytearray(raw), dtype=dtype.value).view(_Array)
    if order == 'K' and axes is not None:
        return array.reshape(shape).transpose(axes)
    return array.reshape(shape, order=order)


def _bytes(*content: Any) -> bytes:
    """bytes() as old protocols call it, never with a size to allocate."""
    if len(content) == 2:
        return _encode(*content)
    return b''.join(content)


def _scalar(dtype: _Dtype, raw: bytes) -> np.generic:
    if isinstance(raw, str):
        raw = raw.encode('latin1')
    return np.frombuffer(raw, dtype=dtype.value, count=1)[0]


def _encode(text: str, encoding: str = 'latin1') -> bytes:
    """Protocols 0 to 2 write bytes as latin-1 text."""
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(f'it encodes text as {encoding!r}')
    return text.encode('latin1')


def _names() -> dict[tuple[str, str], Any]:
    """Module and name as written in a pickle, to what stands in for them."""
    known = {('numpy', 'ndarray'): _Inert(_reconstruct), ('numpy', 'dtype'): _Inert(_Dtype)}
    for core in ('numpy.core', 'numpy._core'):
        known[f'{core}.multiarray', '_reconstruct'] = _Inert(_reconstruct)
        known[f'{core}.multiarray', 'scalar'] = _Inert(_scalar)
        known[f'{core}.numeric', '_frombuffer'] = _Inert(_frombuffer)
    for module in ('builtins', '__builtin__'):
        for kind in (set, frozenset, list, tuple, dict, complex):
            known[module, kind.__name__] = _Inert(kind)
        known[module, 'bytes'] = _Inert(_bytes)
        known[module, 'bytearray'] = _Inert(lambda *content: bytearray(_bytes(*content)))
    known['_codecs', 'encode'] = _Inert(_encode)
    return known


class _Unpickler(pickle.Unpickler):
    """pickle.Unpickler whose every name goes through `_names`."""

    _known = _names()

    def __init__(self, file, path: Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        known = self._known.get((module, name))
        if known is None:
            raise AnnotationError(
                f'{self._path} was refused: it names {module}.{name}, and annotations may hold '
                'numbers, text, built-in containers and numpy arrays only. Do not load it with '
                'anything else unless you trust its author.'
            )
        return known

    def persistent_load(self, pid: Any) -> Any:
        raise AnnotationError(f'{self._path} was refused: it refers to objects outside the file')


def _plain(value: Any) -> Any:
    """Replace stand-ins inside containers by plain arrays; lists and dicts keep their identity."""
    kind = type(value)
    if kind is _Array:
        return value.view(np.ndarray)
    if kind is _Dtype:
        return value.value
    if kind is dict:
        for key, item in value.items():
            if type(item) not in _LEAVES:
                value[key] = _plain(item)
    elif kind is list:
        for position, item in enumerate(value):
            if type(item) not in _LEAVES:
                value[position] = _plain(item)
    elif kind is tuple:
        return tuple(_plain(item) for item in value)
    elif kind is _Inert:
        raise pickle.UnpicklingError('it holds a function or class')
    return value


_LEAVES = {str, int, float, bool, type(None), bytes, np.ndarray}
