"""Read a pickle of numbers, text, built-in containers and numpy arrays, and nothing else.

A pickle is a program: it names importable objects, calls them, and writes into them. Here the few
names that pickled arrays need resolve to inert stand-ins that build arrays of numbers or text only;
every other name is refused, and so are object arrays and forged array types, which reach raw memory
inside numpy. A program can also be short and ask for much: its opcodes are walked through before
any of them runs, and what it builds may be no larger than some multiple of the file.
"""

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
NUMBERS = {type(np.dtype(code)): code for code in 'b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8'.split()}
# numpy 2 renamed the package; files of both kinds are about.
CORES = ('numpy.core', 'numpy._core')
_DEEPEST = 50
_LARGEST_INT = 2**64
_SPELLED_OUT = 10


class AnnotationError(UserError):
    """An annotation file that is missing, damaged, refused or wrongly built."""


def load_pickle(path: str | os.PathLike) -> Any:
    """The content of a pickle file, with plain numpy arrays; an AnnotationError where refused."""
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
    """A function that pickle can call, with ``left`` bytes and items a file, but not write into."""

    __slots__ = ('_call', '_left')

    def __init__(self, call: Callable, left: list[int]) -> None:
        object.__setattr__(self, '_call', call)
        object.__setattr__(self, '_left', left)

    def __call__(self, *args):
        _spend(self._left, args)
        made = self._call(*args)
        if isinstance(made, Array):
            made.left = self._left
        return made

    def __setattr__(self, name: str, value: Any = None) -> None:
        raise UnpicklingError('it writes into a function')

    __setstate__ = __setattr__


def _spend(left: list[float], args: tuple) -> None:
    left[0] -= sum(len(arg) for arg in args if hasattr(arg, '__len__'))
    if left[0] < 0:
        raise UnpicklingError('it builds more than a file of its size may')


class Dtype:
    """Stand-in for numpy.dtype: its type text, then its byte order, and nothing that it claims."""

    __slots__ = ('value',)

    def __init__(self, text: str, *_: Any) -> None:
        self.value = np.dtype(text) if isinstance(text, str) else np.dtype(object)
        if self.value.kind not in _NUMBERS_AND_TEXT or self.value.names or self.value.shape:
            raise UnpicklingError(f'an array of {text!r} was refused, numbers and text are read')

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


def checked(dtype: Any) -> np.dtype:
    """A clean dtype: of a `Dtype`, or like a real one of numbers, whose state is the file's."""
    if type(dtype) is Dtype:
        return dtype.value
    if type(dtype) not in NUMBERS or dtype.byteorder not in '=|<>':
        raise UnpicklingError('an array of anything else than numbers was refused')
    return np.dtype(NUMBERS[type(dtype)]).newbyteorder(dtype.byteorder)


class Array(np.ndarray):
    """An array that takes its content once, from bytes; saved again as a plain one."""

    filled, left = False, [float('inf')]

    def __new__(cls, *args: Any) -> 'Array':
        if args:
            raise UnpicklingError('numpy.ndarray was called with arguments, which was refused')
        return super().__new__(cls, (0,), np.int8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = (
            state if type(state) is tuple and len(state) == 5 else [None] * 5
        )
        if self.filled or type(shape) is not tuple or not isinstance(raw, (bytes, bytearray)):
            raise UnpicklingError('an array of anything else than bytes was refused')
        # Refilling would free memory that tensors made from this array still look at.
        self.filled = True
        _spend(self.left, (raw,))
        super().__setstate__((1, shape, checked(dtype), bool(fortran), bytes(raw)))

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def reconstruct(kind: Any = Array, *_: Any) -> Array:
    """numpy's `_reconstruct`: an empty array that is given its content afterwards."""
    if kind not in (Array, np.ndarray) and not isinstance(kind, _Inert):
        raise UnpicklingError(f'an array of the type {kind!r} was refused')
    return Array()


def scalar(dtype: Any, raw: Any) -> np.generic:
    """numpy's `scalar`."""
    dtype, raw = checked(dtype), raw.encode('latin1') if type(raw) is str else raw
    if type(raw) is not bytes or len(raw) != dtype.itemsize:
        raise UnpicklingError('a number that does not fit its type was refused')
    return np.frombuffer(raw, dtype)[0]


def _frombuffer(
    raw: bytes, dtype: Dtype, shape: tuple, order: str = 'C', axes: tuple | None = None
) -> np.ndarray:
    """numpy's `_frombuffer`, which protocol 5 uses for contiguous arrays."""
    array = np.frombuffer(bytearray(raw), dtype=dtype.value).view(Array)
    if order == 'K' and axes is not None:
        return array.reshape(shape).transpose(axes)
    return array.reshape(shape, order=order)


def _bytes(content: Any = b'', encoding: str | None = None) -> bytes:
    """Bytes as protocols 0 to 2 write them, as latin-1 text; never of a size to allocate."""
    if isinstance(content, str) and encoding in ('latin1', 'latin-1'):
        return content.encode('latin1')
    if isinstance(content, (bytes, bytearray)) and encoding is None:
        return bytes(content)
    raise UnpicklingError('it makes bytes of something else')


# Module and name as written in a pickle, to what stands in for them.
_NAMES: dict[tuple[str, str], Callable] = {
    ('numpy', 'ndarray'): reconstruct,
    ('numpy', 'dtype'): Dtype,
    ('_codecs', 'encode'): _bytes,
}
for _core in CORES:
    _NAMES[f'{_core}.multiarray', '_reconstruct'] = reconstruct
    _NAMES[f'{_core}.multiarray', 'scalar'] = scalar
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
            allowed = 'numbers, text, built-in containers and numpy arrays'
            what = f'it names {module[:80]}.{name[:80]}, and annotations hold {allowed} only'
            remedy = 'load it with nothing else unless you trust its author'
            raise AnnotationError(f'{self._path} was refused: {what}; {remedy}')
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise AnnotationError(f'{self._path} was refused: it refers to objects outside the file')


class _Plain:
    """Replaces stand-ins in containers by plain arrays; at most ``most`` values, spelled out."""

    def __init__(self, most: int) -> None:
        self.most, self.done = most, {}

    def visit(self, value: Any, depth: int = 0) -> tuple[Any, int]:
        """The plain value, and how many values it is spelled out."""
        kind = type(value)
        if kind is Array:
            return value.view(np.ndarray), 1
        if kind is Dtype:
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
        plain, size = value, 1 + len(value)
        if kind in (tuple, list, dict):
            plain = list(value) if kind is tuple else value
            for key in list(value) if kind is dict else range(len(value)):
                if type(value[key]) not in _LEAVES:
                    plain[key], inner = self.visit(value[key], depth + 1)
                    size += inner - 1
            plain = tuple(plain) if kind is tuple else plain
        if size > self.most:
            raise UnpicklingError('spelled out, it is too large for a file of its size')
        self.done[id(value)] = value, plain, size
        return plain, size


_LEAVES = {str, float, bool, type(None), bytes, np.ndarray}
