"""Load and resume MMEngine's checkpoints on today's PyTorch, without letting code in.

Beside tensors, MMEngine saves its log histories (``HistoryBuffer`` objects, their numpy arrays and
``getattr(HistoryBuffer, 'mean')``) and the annealing function of a ``OneCycleLR``. To allow these
names as they are would undo ``torch.load(weights_only=True)``:

* ``getattr`` reaches the globals of any module;
* ``numpy.ndarray``, called or given a state, makes object arrays over raw bytes, and
  ``numpy.dtype`` takes flags from the file that turn numbers into pointers: both end in memory
  that the file controls;
* ``HistoryBuffer`` writes into a dictionary of functions that its class holds, and into its own
  methods.

So each name is registered with a stand-in that takes what MMEngine writes and refuses the rest.
Real numpy types may be registered by other libraries at the same time; ``torch.load`` then picks
one of the two at random, and either works. Importing this module needs numpy only.
"""

import re
from collections.abc import Callable
from pickle import UnpicklingError
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from mg_plugins.data.unpickle import CORES, NUMBERS, Array, reconstruct, scalar
from mg_plugins.errors import UserError
from mg_plugins.openmmlab import in_place_of

_STATISTICS = ('min', 'max', 'current', 'mean')


class CheckpointError(UserError, UnpicklingError, ValueError):
    """A checkpoint that is damaged, refused or does not fit; the message names the file."""


def allow_what_mmengine_saves(module: ModuleType | None = None) -> None:
    """Let ``torch.load`` read MMEngine's checkpoints with ``weights_only`` left on.

    Since 2.6 it reads tensors and plain containers only, so that ``--resume``, ``load_from`` and
    ``tools/test.py`` all die. Called after MMEngine's own module: names that it or the user has
    allowed already stay theirs.
    """
    from torch.serialization import add_safe_globals, get_safe_globals

    allowed = get_safe_globals()
    taken = {one[1] if isinstance(one, tuple) else _full_name(one) for one in allowed}
    add_safe_globals([(what, name) for name, what in _stand_ins().items() if name not in taken])


def keep_weights_only_for_urls(module: ModuleType) -> None:
    """Turn ``weights_only`` on for checkpoints given as a URL.

    It is off by default in ``torch.hub.load_state_dict_from_url``, which MMEngine loads them with:
    a file from the network could run code where a local one cannot.
    """

    @in_place_of(module, 'load_url')
    def load_weights(load_url: Callable, *args: Any, weights_only: bool = True, **kwargs: Any):
        return load_url(*args, weights_only=weights_only, **kwargs)


def load_safely(module: ModuleType) -> None:
    """Name the file of a checkpoint that is refused, and drop Python code that it brings as text.

    PyTorch's message recommends to turn ``weights_only`` off, which lets the file's code run.
    ``Runner.resume`` executes ``meta['config']``, left over from MMCV 1, to compare a number of
    GPUs; MMEngine itself writes ``meta['cfg']``, which is not executed.
    """

    @in_place_of(module.CheckpointLoader, 'load_checkpoint')
    def load_and_drop(load_checkpoint: Callable, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            checkpoint = load_checkpoint(filename, *args, **kwargs)
        except (OSError, UserError):
            raise
        except Exception as error:
            raise CheckpointError(f'{filename} {_reason(error)}') from None
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)
        return checkpoint


def _reason(error: Exception) -> str:
    """Why a checkpoint was not loaded, without PyTorch's advice to trust it."""
    text = str(error)
    named = re.search(r'WeightsUnpickler error: (.+?)(?: Please | This |\n|$)', text)
    if named is not None and 'allowed' in named[1]:
        return f'was refused, as it holds more than weights: {named[1].rstrip(".")}'
    if named is not None or 'weights_only' in text:
        return f'is damaged, or no checkpoint{f": {named[1]}" if named else ""}'
    first = re.split(r'\. |\n', text)[0] if text else type(error).__name__
    return f'is damaged, or no checkpoint: {first}'


def explain_resume(module: ModuleType) -> None:
    """Say what to do when an optimizer's state does not fit the model that is resumed.

    That of a plain model has none for the fusion's parameters, or the other way round, and
    PyTorch's ValueError names neither file nor remedy.
    """

    @in_place_of(module.Runner, 'resume')
    def resume_or_explain(resume: Callable, runner: Any, filename: str, *args: Any, **kwargs: Any):
        try:
            resume(runner, filename, *args, **kwargs)
        except ValueError as error:
            saved, built = _optimizer_sizes(module, runner, filename)
            if saved == built:
                raise
            raise CheckpointError(
                f'{filename} cannot be resumed: its optimizer has {saved} parameters, that of this '
                f'model {built}, as when a plain checkpoint meets a fused model. To start a new '
                'run from its weights, train without --resume and with --cfg-options '
                f'load_from={filename}'
            ) from error


def _optimizer_sizes(module: ModuleType, runner: Any, filename: str) -> tuple[int, int]:
    """Number of parameters in a checkpoint's optimizer and in a runner's; 0 and 0 if unknown."""
    saved = module._load_checkpoint(filename, map_location='cpu').get('optimizer', {})
    both = saved.get('param_groups'), getattr(runner.optim_wrapper, 'param_groups', None)
    if None in both:
        return 0, 0
    return tuple(sum(len(group['params']) for group in groups) for groups in both)


def _stand_ins() -> dict[str, Any]:
    """Name as written in a checkpoint, to what stands in for it."""
    known = {
        'builtins.getattr': _getattr,
        'builtins.bytes': lambda: b'',  # an array without elements; other bytes are no such call
        'mmengine.logging.history_buffer.HistoryBuffer': _History,
        'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler': _OneCycle,
        'numpy.ndarray': Array,
        'numpy.dtype': _dtype,
    }
    for core in CORES:
        known[f'{core}.multiarray._reconstruct'] = reconstruct
        known[f'{core}.multiarray.scalar'] = scalar
    # torch gives a state only to objects of allowed types, under whatever name.
    return known | {_full_name(kind): kind for kind in (Array, _History, *NUMBERS)}


def _full_name(kind: type) -> str:
    return f'{kind.__module__}.{kind.__qualname__}'


def _dtype(code: Any, *_: Any) -> np.dtype:
    """numpy.dtype for numbers: numpy's own instance, which ignores the state that files bring.

    Given to a copy, that state ends up in memory unchecked. Its one honest part, another byte
    order, does not occur: MMEngine makes its arrays from Python numbers.
    """
    if type(code) is not str or code not in NUMBERS.values():
        raise UnpicklingError(f'an array of {code!r} was refused, only numbers are read')
    return np.dtype(code)


class _History:
    """Becomes a ``HistoryBuffer`` when it is given the state of one, and nothing else.

    MMEngine saves the class's functions with every buffer. Here they are names: what the class
    computes is up to the program that reads, never to the file.
    """

    min, max, current, mean = _STATISTICS
    _fields = frozenset({'max_length', '_log_history', '_count_history'})

    def __setstate__(self, state: Any) -> None:
        from mmengine.logging import HistoryBuffer

        known = {**HistoryBuffer._statistics_methods, **{name: name for name in _STATISTICS}}
        if not (
            type(state) is dict
            and set(state) - {'statistics_methods'} == self._fields
            and type(state['max_length']) is int
            and isinstance(state['_log_history'], np.ndarray)
            and isinstance(state['_count_history'], np.ndarray)
            and type(methods := state.get('statistics_methods', {})) is dict
            and all(known.get(name) is method for name, method in methods.items())
        ):
            raise UnpicklingError('a HistoryBuffer of anything else than numbers was refused')
        histories = state['_log_history'], state['_count_history']
        self.max_length = state['max_length']
        self._log_history, self._count_history = (np.array(history) for history in histories)
        self.__class__ = HistoryBuffer
        self._set_default_statistics()


class _OneCycle:
    """Only names the class whose annealing function a ``OneCycleLR`` saves with its state."""

    def __new__(cls, *args: Any) -> NoReturn:
        raise UnpicklingError('a OneCycleParamScheduler was refused')


def _getattr(owner: Any, name: Any) -> Any:
    """``getattr`` for the functions that MMEngine saves, which compute numbers from numbers."""
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    if type(name) is str:
        if (owner is _History or owner is HistoryBuffer) and name in _STATISTICS:
            return getattr(owner, name)
        if owner is _OneCycle and name in ('_annealing_cos', '_annealing_linear'):
            return getattr(OneCycleParamScheduler, name)
    raise UnpicklingError(f'getattr({owner!r}, {name!r}) was refused')
