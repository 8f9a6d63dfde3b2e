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
from typing import Any

import numpy as np

from mg_plugins.errors import UserError

_NUMBERS_AND_TEXT = 'biufcSU'
_DEEPEST = 50
_LARGEST_INT = 2**64
_SPELLED_OUT = 10
# Of a file that is walked through, about so much is in memory at a time.
_PAGES = 2**24


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
        with path.open('rb') as file:
            if not path.stat().st_size:
                raise EOFError('it is empty')
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
                _walk(program)
            size = path.stat().st_size
            return _Plain(_SPELLED_OUT * size + 10_000)(_Unpickler(file, path).load())
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
    position, end, given_back = 0, len(program), 0
    while position < end:
        if position - given_back > _PAGES and hasattr(program, 'madvise'):
            program.madvise(mmap.MADV_DONTNEED, given_back, _PAGES)
            given_back += _PAGES
        code = program[position]
        prefix, lines = _ARGUMENTS[code]
        after = position + 1
        if lines:
            for _ in range(lines):
                after = program.find(b'\n', after) + 1
                if not after:
                    raise EOFError('it is cut short')
            if code == _PUT and int(program[position + 1 : after]) > position:
                raise pickle.UnpicklingError('a memo number is out of range')
        elif prefix < 0:
            after -= prefix
            size = int.from_bytes(program[position + 1 : after], 'little')
            if code == _FRAME:
                # Its opcodes follow and are walked through themselves.
                if after + size > end:
                    raise EOFError('it is cut short')
            else:
                after += size
        else:
            after += prefix
            if code == _LONG_BINPUT:
                number = int.from_bytes(program[position + 1 : after], 'little')
                if number > position:
                    raise pickle.UnpicklingError('a memo number is out of range')
        if code == _STOP:
            return
        position = after
    raise EOFError('it is cut short')


def _arguments() -> list[tuple[int, int]]:
    """For each opcode: bytes of its argument (negative: of the length before it), or its lines."""
    table: list[tuple[int, int]] = [(0, 0)] * 256
    lengths = {
        pickletools.TAKEN_FROM_ARGUMENT1: -1,
        pickletools.TAKEN_FROM_ARGUMENT4: -4,
        pickletools.TAKEN_FROM_ARGUMENT4U: -4,
        pickletools.TAKEN_FROM_ARGUMENT8U: -8,
    }
    for opcode in pickletools.opcodes:
        kind = opcode.arg
        size = 0 if kind is None else kind.n
        if size == pickletools.UP_TO_NEWLINE:
            table[ord(opcode.code)] = (0, 2 if 'pair' in kind.name else 1)
        else:
            table[ord(opcode.code)] = (lengths.get(size, size), 0)
    table[_FRAME] = (-8, 0)
    return table


_FRAME, _STOP, _PUT, _LONG_BINPUT = 0x95, ord('.'), ord('p'), ord('r')
_ARGUMENTS = _arguments()


class _Budget:
    """How many bytes and items calls may be given, so that none is copied over and over."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, args: tuple) -> None:
        """Take the sizes of a call's arguments off."""
        self.left -= sum(len(arg) for arg in args if hasattr(arg, '__len__'))
        if self.left < 0:
            raise pickle.UnpicklingError('it builds more than a file of its size may')


class _Inert:
    """An instance that pickle can call but not write into."""

    __slots__ = ('_call', '_budget')

    def __init__(self, call: Callable, budget: _Budget) -> None:
        object.__setattr__(self, '_call', call)
        object.__setattr__(self, '_budget', budget)

    def __call__(self, *args):
        self._budget.spend(args)
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
    """An array that takes its state from a `_Dtype`; `_Plain` turns it into a plain array."""

    __slots__ = ('budget',)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError('an array has no proper type')
        if not isinstance(raw, (bytes, bytearray)):
            raise pickle.UnpicklingError('an array holds objects')
        self.budget.spend((raw,))
        super().__setstate__((1, shape, dtype.value, bool(fortran), bytes(raw)))


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
    if not all(isinstance(part, (bytes, bytearray)) for part in content[:1]):
        raise pickle.UnpicklingError('it makes bytes of something else')
    return bytes(*content)


def _scalar(dtype: _Dtype, raw: bytes) -> np.generic:
    if isinstance(raw, str):
        raw = raw.encode('latin1')
    return np.frombuffer(raw, dtype=dtype.value, count=1)[0]


def _encode(text: str, encoding: str = 'latin1') -> bytes:
    """Protocols 0 to 2 write bytes as latin-1 text."""
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(f'it encodes text as {encoding!r}')
    return text.encode('latin1')


def _names(budget: _Budget) -> dict[tuple[str, str], _Inert]:
    """Module and name as written in a pickle, to what stands in for them."""

    def reconstruct(*_: Any) -> _Array:
        """numpy's `_reconstruct`: an empty array that is given its content afterwards."""
        array = _Array(0, np.int8)
        array.budget = budget
        return array

    calls: dict[tuple[str, str], Callable] = {
        ('numpy', 'ndarray'): reconstruct,
        ('numpy', 'dtype'): _Dtype,
        ('_codecs', 'encode'): _encode,
    }
    for core in ('numpy.core', 'numpy._core'):
        calls[f'{core}.multiarray', '_reconstruct'] = reconstruct
        calls[f'{core}.multiarray', 'scalar'] = _scalar
        calls[f'{core}.numeric', '_frombuffer'] = _frombuffer
    for module in ('builtins', '__builtin__'):
        for kind in (set, frozenset, list, tuple, dict, complex):
            calls[module, kind.__name__] = kind
        calls[module, 'bytes'] = _bytes
        calls[module, 'bytearray'] = lambda *content: bytearray(_bytes(*content))
    return {name: _Inert(call, budget) for name, call in calls.items()}


class _Unpickler(pickle.Unpickler):
    """pickle.Unpickler whose every name goes through `_names`."""

    def __init__(self, file, path: Path) -> None:
        super().__init__(file)
        self._path = path
        self._known = _names(_Budget(4 * path.stat().st_size + 1_000_000))

    def find_class(self, module: str, name: str) -> Any:
        known = self._known.get((module, name))
        if known is None:
            raise AnnotationError(
                f'{self._path} was refused: it names {module[:80]}.{name[:80]}, and annotations '
                'may hold numbers, text, built-in containers and numpy arrays only. Do not load it '
                'with anything else unless you trust its author.'
            )
        return known

    def persistent_load(self, pid: Any) -> Any:
        raise AnnotationError(f'{self._path} was refused: it refers to objects outside the file')


class _Plain:
    """Replaces stand-ins inside containers by plain arrays; lists and dicts keep their identity.

    A container that stands in many places is visited once and counts in every place, so that a
    short file of lists inside lists is refused where writing it out would fill the memory.
    """

    def __init__(self, most: int) -> None:
        self.most, self.done = most, {}

    def __call__(self, value: Any) -> Any:
        return self._visit(value, 0)[0]

    def _visit(self, value: Any, depth: int) -> tuple[Any, int]:
        kind = type(value)
        if kind is _Array:
            return value.view(np.ndarray), 1
        if kind is _Dtype:
            return value.value, 1
        if kind is _Inert:
            raise pickle.UnpicklingError('it holds a function or class')
        if kind is int and not -_LARGEST_INT < value < _LARGEST_INT:
            raise pickle.UnpicklingError(f'it holds a number of {value.bit_length()} bits')
        if kind not in (dict, list, tuple, set, frozenset):
            return value, 1
        known = self.done.get(id(value))
        if known is None:
            if depth > _DEEPEST:
                raise pickle.UnpicklingError(f'it is nested more than {_DEEPEST} deep')
            # The container itself is kept, so that no other gets its id.
            self.done[id(value)] = value, None, 0
            plain, size = self._inside(value, kind, depth + 1)
            self.done[id(value)] = value, plain, size
            return plain, size
        if not known[2]:
            raise pickle.UnpicklingError('it holds a container that contains itself')
        return known[1:]

    def _inside(self, value: Any, kind: type, depth: int) -> tuple[Any, int]:
        size = 1
        keys = list(value) if kind is dict else range(len(value)) if kind is list else None
        if keys is not None:
            for key in keys:
                item = value[key]
                if type(item) in _LEAVES:
                    size += 1
                else:
                    value[key], inner = self._visit(item, depth)
                    size += inner
        elif kind is tuple:
            items = [self._visit(item, depth) for item in value]
            value, size = tuple(item for item, _ in items), 1 + sum(inner for _, inner in items)
        else:
            size += len(value)
        if size > self.most:
            raise pickle.UnpicklingError('spelled out, it is too large for a file of its size')
        return value, size


_LEAVES = {str, float, bool, type(None), bytes, np.ndarray}
