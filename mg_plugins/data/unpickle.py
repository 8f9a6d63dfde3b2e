"""Read a pickle of numbers, text, built-in containers and numpy arrays, and nothing else.

A pickle is a program: it names importable objects, calls them, and writes into them. Here a name
never resolves to the real object. The few names that pickled arrays need resolve to inert
stand-ins of this module that build arrays of numbers or text only; every other name is refused.
Object arrays and forged array types, which reach raw memory inside numpy, are refused too. A
program can also be short and ask for much: its opcodes are walked through once before any of them
runs, and what it builds may not be larger, spelled out, than some multiple of the file.

Needs the standard library and numpy only.
"""

from __future__ import annotations

import mmap
import os
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from mg_plugins.errors import UserError

_NUMBERS_AND_TEXT = 'biufcSU'
_DEEPEST = 50
_LARGEST_INT = 2**64
_SPELLED_OUT = 10


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
            numpy arrays, asks for more memory than a file of its size may, or is damaged.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open('rb') as file:
            if not size:
                raise EOFError('it is empty')
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
                _walk(program)
            return _Plain(_SPELLED_OUT * size + 10_000).visit(_Unpickler(file, path).load())[0]
    except AnnotationError:
        raise
    except OSError as error:
        raise AnnotationError(f'{path} cannot be read: {error.strerror or error}') from error
    except Exception as error:
        # A damaged program raises whatever the built-ins and numpy raise for what it does to them.
        reason = str(error)[:300] or type(error).__name__
        raise AnnotationError(f'{path} is damaged or no pickle: {reason}') from error


def _walk(program: mmap.mmap) -> None:
    """Refuse lengths beyond the end of the file and memo numbers that would make a huge table."""
    try:
        for opcode, argument, position in pickletools.genops(program):
            if opcode.name == 'FRAME' and argument > len(program) - position:
                raise EOFError('a frame ends after the file')
            if opcode.name in ('PUT', 'LONG_BINPUT') and argument > position:
                raise UnpicklingError('a memo number is out of range')
    except (ValueError, EOFError) as error:
        raise EOFError(f'it is cut short or garbled: {str(error)[:200]}') from error


class _Inert:
    """A function that pickle can call but not write into.

    All those of a file may be given so many bytes and items together (``left``), so that none is
    copied over and over.
    """

    __slots__ = ('_call', '_left')

    def __init__(self, call: Callable, left: list[int]) -> None:
        object.__setattr__(self, '_call', call)
        object.__setattr__(self, '_left', left)

    def __call__(self, *args):
        _spend(self._left, args)
        made = self._call(*args)
        if isinstance(made, _Array):
            made.left = self._left
        return made

    def __setattr__(self, name: str, value: Any = None) -> None:
        raise UnpicklingError('it writes into a function')

    __setstate__ = __setattr__


def _spend(left: list[int], args: tuple) -> None:
    left[0] -= sum(len(arg) for arg in args if hasattr(arg, '__len__'))
    if left[0] < 0:
        raise UnpicklingError('it builds more than a file of its size may')


class _Dtype:
    """Stand-in for numpy.dtype: its type text, then its byte order, and nothing that it claims."""

    __slots__ = ('value',)

    def __init__(self, text: str, *_: Any) -> None:
        self.value = np.dtype(text) if isinstance(text, str) else np.dtype(object)
        if self.value.kind not in _NUMBERS_AND_TEXT or self.value.names or self.value.shape:
            raise UnpicklingError(f'it holds an array of {text!r}, only numbers and text may')

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ('<', '>', '=', '|'):
            raise UnpicklingError(f'an array has the byte order {state[1]!r}')
        self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array that takes its state from a `_Dtype`; `_Plain` turns it into a plain array."""

    __slots__ = ('left',)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype):
            raise UnpicklingError('an array has no proper type')
        if not isinstance(raw, (bytes, bytearray)):
            raise UnpicklingError('an array holds objects')
        _spend(self.left, (raw,))
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


def _scalar(dtype: _Dtype, raw: bytes) -> np.generic:
    raw = raw.encode('latin1') if isinstance(raw, str) else raw
    return np.frombuffer(raw, dtype=dtype.value, count=1)[0]


def _bytes(*content: Any) -> bytes:
    """bytes() as old protocols call it, never with a size to allocate."""
    if len(content) == 2:
        return _encode(*content)
    if not all(isinstance(part, (bytes, bytearray)) for part in content[:1]):
        raise UnpicklingError('it makes bytes of something else')
    return bytes(*content)


def _encode(text: str, encoding: str = 'latin1') -> bytes:
    """Protocols 0 to 2 write bytes as latin-1 text."""
    if encoding not in ('latin1', 'latin-1'):
        raise UnpicklingError(f'it encodes text as {encoding!r}')
    return text.encode('latin1')


# Module and name as written in a pickle, to what stands in for them.
_NAMES: dict[tuple[str, str], Callable] = {
    ('numpy', 'ndarray'): _reconstruct,
    ('numpy', 'dtype'): _Dtype,
    ('_codecs', 'encode'): _encode,
}
for _core in ('numpy.core', 'numpy._core'):
    _NAMES[f'{_core}.multiarray', '_reconstruct'] = _reconstruct
    _NAMES[f'{_core}.multiarray', 'scalar'] = _scalar
    _NAMES[f'{_core}.numeric', '_frombuffer'] = _frombuffer
for _module in ('builtins', '__builtin__'):
    for _kind in (set, frozenset, list, tuple, dict, complex):
        _NAMES[_module, _kind.__name__] = _kind
    _NAMES[_module, 'bytes'] = _bytes
    _NAMES[_module, 'bytearray'] = lambda *content: bytearray(_bytes(*content))


class _Unpickler(pickle.Unpickler):
    """pickle.Unpickler whose every name goes through `_NAMES`."""

    def __init__(self, file, path: Path) -> None:
        super().__init__(file)
        self._path, left = path, [4 * path.stat().st_size + 1_000_000]
        self._known = {name: _Inert(call, left) for name, call in _NAMES.items()}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise AnnotationError(
                f'{self._path} was refused: it names {module[:80]}.{name[:80]}, and annotations '
                'may hold numbers, text, built-in containers and numpy arrays only. Do not load it '
                'with anything else unless you trust its author.'
            )
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise AnnotationError(f'{self._path} was refused: it refers to objects outside the file')


class _Plain:
    """Replaces stand-ins inside containers by plain arrays; lists and dicts keep their identity.

    A container that stands in many places is visited once and counts in every place, so that a
    short file of lists inside lists is refused where writing it out would fill the memory.
    """

    def __init__(self, most: int) -> None:
        self.most, self.done = most, {}

    def visit(self, value: Any, depth: int = 0) -> tuple[Any, int]:
        """The plain value, and how many values it is spelled out."""
        kind = type(value)
        if kind is _Array:
            return value.view(np.ndarray), 1
        if kind is _Dtype:
            return value.value, 1
        if kind is _Inert:
            raise UnpicklingError('it holds a function or class')
        if kind is int and not -_LARGEST_INT < value < _LARGEST_INT:
            raise UnpicklingError(f'it holds a number of {value.bit_length()} bits')
        if kind not in (dict, list, tuple, set, frozenset):
            return value, 1
        if id(value) in self.done:
            _, plain, size = self.done[id(value)]
            if not size:
                raise UnpicklingError('it holds a container that contains itself')
            return plain, size
        if depth > _DEEPEST:
            raise UnpicklingError(f'it is nested more than {_DEEPEST} deep')
        # The container itself is kept, so that no other gets its id.
        self.done[id(value)] = value, None, 0
        plain, size = value, 1
        if kind is tuple:
            items = [self.visit(item, depth + 1) for item in value]
            plain, size = tuple(item for item, _ in items), 1 + sum(inner for _, inner in items)
        elif kind in (set, frozenset):
            size += len(value)
        else:
            for key in list(value) if kind is dict else range(len(value)):
                item = value[key]
                if type(item) in _LEAVES:
                    size += 1
                    continue
                value[key], inner = self.visit(item, depth + 1)
                size += inner
        if size > self.most:
            raise UnpicklingError('spelled out, it is too large for a file of its size')
        self.done[id(value)] = value, plain, size
        return plain, size


_LEAVES = {str, float, bool, type(None), bytes, np.ndarray}
