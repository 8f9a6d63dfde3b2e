"""Look into a model by one dry forward: what each module passes on, and where its stages end.

The dry forward runs on zeros (or on the caller's ``example_input``) and leaves the model and the
random state as they were. Axis letters: N sequences, M persons, C channels, T frames, V joints.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn


class PlugError(ValueError):
    """A model, a position or an input that the fusion cannot work with, and what to do."""


@dataclass(frozen=True)
class Call:
    """One call of a module: its first tensor argument (None without one) and what it returned."""

    source: Tensor | None
    output: Any


@dataclass
class Trace:
    """What the modules of a model did in one dry forward.

    Attributes:
        modules: Every module by its name.
        calls: The calls of every module that was called, in the order in which the first one ended.
        joints: The number of joints V, None where the model does not tell.
        graph: The skeleton's adjacency (V, V) as the model itself uses it, None where it has none.
    """

    modules: dict[str, nn.Module]
    calls: dict[str, list[Call]]
    joints: int | None = None
    graph: Tensor | None = None
    _shapes: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    def match(self, pattern: str) -> list[str]:
        """Names that fit a pattern; ``*`` stays between two dots, so ``gcn.*`` is blocks alone."""
        parts = pattern.split('.')
        return [
            name
            for name in self.modules
            if len(pieces := name.split('.')) == len(parts)
            and (name != '' or pattern == '')
            and all(map(fnmatchcase, pieces, parts))
        ]

    def shape(self, name: str) -> tuple[int, int]:
        """Channels C and joints V that a module passes on.

        Raises:
            PlugError: It passes something other than (N, C, T, V), was not called, or was called
                with different C or V.
        """
        if name not in self.calls:
            raise PlugError(
                f"cannot fuse '{name}' ({type(self.modules[name]).__name__}): the forward pass "
                f'never calls it. {self.offer(name)}'
            )
        shapes = {self._one_shape(name, call.output) for call in self.calls[name]}
        if len(shapes) > 1:
            passed = ', '.join(_describe(call.output) for call in self.calls[name])
            raise PlugError(
                f"cannot fuse '{name}': the model calls it {len(self.calls[name])} times and it "
                f'passes {passed}; one fusion serves one number of channels and joints. Fuse '
                f'modules that keep to one shape. {self.offer()}'
            )
        return shapes.pop()

    def _one_shape(self, name: str, output: Any) -> tuple[int, int]:
        problem = None
        if not isinstance(output, Tensor):
            problem = 'branches leave it separately, so there is no one map to fuse'
        elif output.ndim != 4 or not output.is_floating_point():
            problem = 'expected a floating-point map (N, C, T, V)'
        elif self.joints and output.shape[3] != self.joints and self.joints in output.shape[1:3]:
            problem = f'expected (N, C, T, V) with the {self.joints} joints on the last axis'
        if problem is None:
            return output.shape[1], output.shape[3]
        raise PlugError(
            f"cannot fuse '{name}' ({type(self.modules[name]).__name__}): it passes "
            f'{_describe(output)}; {problem}. {self.offer(name)}'
        )

    def candidates(self) -> list[str]:
        """Names of modules that pass one (N, C, T, V), outermost first, plain layers left out."""
        names = [n for n, calls in self.calls.items() if self._is_block(n, calls)]
        return sorted(names, key=lambda name: name.count('.'))

    def offer(self, parent: str = '') -> str:
        """What could be fused instead, first of all inside ``parent``; else what there is."""
        names = self.candidates()
        if names:
            return _listing([n for n in names if parent and n.startswith(f'{parent}.')] or names)
        passed = (f"'{n}' passes {_describe(c[-1].output)}" for n, c in self.calls.items() if n)
        return 'No module of this model passes (N, C, T, V): ' + '; '.join(list(passed)[-2:]) + '.'

    def _is_block(self, name: str, calls: list[Call]) -> bool:
        shapes = {tuple(c.output.shape[1::2]) if _is_map(c.output) else None for c in calls}
        if None in shapes or len(shapes) > 1 or name == '':
            return False
        module = self.modules[name]
        plain = type(module).__module__.startswith('torch.nn') and not any(module.children())
        return not plain and self.joints in (None, shapes.pop()[1])

    def stages(self) -> list[str]:
        """The last block of each width, along the model's main sequence of blocks.

        The main sequence is found by data flow: numbered siblings (``gcn.0``, ``gcn.1``, … or
        ``l1``, ``l2``, …) of which each takes what the one before passed on. Where there are
        several, the one that holds the most parameters is taken, and all of them on a tie (twin
        streams).

        Raises:
            PlugError: There is no such sequence.
        """
        siblings = defaultdict(list)
        for name, calls in self.calls.items():
            numbered = re.fullmatch(r'(.*\D|)\d+', name)
            if numbered and len(calls) == 1 and self._is_block(name, calls):
                siblings[numbered[1]].append(name)
        chains = [chain for names in siblings.values() for chain in self._chains(names)]
        if not chains:
            raise PlugError(
                "positions='auto' found no sequence of numbered blocks that hand (N, C, T, V) from "
                f'one to the next; name the positions. {self.offer()}'
            )
        sizes = [sum(map(self._size, chain)) for chain in chains]
        return [
            name
            for chain, size in zip(chains, sizes, strict=True)
            if size == max(sizes)
            for name, after in zip(chain, [*chain[1:], None], strict=True)
            if after is None or self.shape(after) != self.shape(name)
        ]

    def _chains(self, names: list[str]) -> Iterator[list[str]]:
        chain = names[:1]
        for before, name in zip(names, names[1:], strict=False):
            if _same_data(self.calls[before][0].output, self.calls[name][0].source):
                chain.append(name)
                continue
            if len(chain) > 1:
                yield chain
            chain = [name]
        if len(chain) > 1:
            yield chain

    def _size(self, name: str) -> int:
        return sum(p.numel() for p in self.modules[name].parameters())


def trace(model: nn.Module, example_input: Any = None) -> Trace:
    """Run one dry forward and record what every module passes on.

    Args:
        model: Any module; it is left as it was, its random state, buffers and training flags too.
        example_input: What to call the model with: a tensor, a tuple of arguments, a dict of
            keyword arguments, or a shape such as ``(1, 2, 64, 25, 3)`` for zeros of that shape.
            Without it the model's own joints, channels and persons are looked up and the usual
            orders of axes are tried: (N, M, T, V, C), (N, C, T, V, M) and (N, C, T, V).

    Raises:
        PlugError: The model failed on ``example_input``, or no order of axes could be decided on.
    """
    graph = find_graph(model)
    joints = graph.shape[-1] if graph is not None else _number(model, 'num_joints', 'num_point')
    with undisturbed(model):
        if example_input is not None:
            args, kwargs = _arguments(model, example_input)
            try:
                result = _record(model, args, kwargs)
            except Exception as error:
                raise PlugError(
                    f'{type(model).__name__} failed on example_input ({_describe(example_input)}): '
                    f'{_first_line(error)}. Give an input that its forward takes.'
                ) from error
        else:
            result = _record_guessed(model, joints)
    result.joints, result.graph = joints, graph
    return result


def find_graph(model: nn.Module) -> Tensor | None:
    """The skeleton's adjacency (V, V), its subsets added up; None where the model has none.

    It is ``model.graph.A``, ``model.A`` or the first buffer or parameter named ``A`` inside.
    """
    tensors = (*model.named_buffers(), *model.named_parameters())
    inside = [tensor for name, tensor in tensors if name.rpartition('.')[2] == 'A']
    for found in (
        getattr(getattr(model, 'graph', None), 'A', None),
        getattr(model, 'A', None),
        *inside,
    ):
        shape = tuple(getattr(found, 'shape', ()))
        if len(shape) in (2, 3) and shape[-1] == shape[-2] > 1:
            graph = torch.as_tensor(found).detach().float().abs()
            return graph.reshape(-1, *shape[-2:]).sum(0).clone()
    return None


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; flags, buffers and random state are kept."""
    modules = list(model.modules())
    training = [m.training for m in modules]
    buffers = [{k: (b, b.clone()) for k, b in m._buffers.items() if b is not None} for m in modules]
    with ExitStack() as stack:
        stack.enter_context(kept_random_state(model))
        stack.enter_context(torch.no_grad())
        if compiled_parts(model) and hasattr(torch.compiler, 'set_stance'):
            stack.enter_context(torch.compiler.set_stance('force_eager'))
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, flag, saved in zip(modules, training, buffers, strict=True):
                module.training = flag
                for name, (buffer, value) in saved.items():
                    module._buffers[name] = buffer.copy_(value)


@contextmanager
def kept_random_state(model: nn.Module) -> Iterator[None]:
    """torch's random state, on the CPU and on the model's CUDA devices, is the same afterwards."""
    devices = {p.device.index for p in model.parameters() if p.device.type == 'cuda'}
    with torch.random.fork_rng(devices=sorted(devices)):
        yield


def compiled_parts(model: nn.Module) -> list[str]:
    """Names of the modules that ``torch.compile`` has already been applied to ('' is the model)."""
    # The class is looked up only where dynamo is loaded: importing it here would cost a second.
    optimized = getattr(sys.modules.get('torch._dynamo.eval_frame'), 'OptimizedModule', ())
    return [
        name
        for name, m in model.named_modules()
        if isinstance(m, optimized)
        or getattr(m, '_compiled_call_impl', None) is not None
        or hasattr(m.__dict__.get('forward'), '_torchdynamo_orig_callable')
    ]


def _record(model: nn.Module, args: tuple, kwargs: dict) -> Trace:
    modules = dict(model.named_modules())
    calls: dict[str, list[Call]] = defaultdict(list)
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def hook(_, args, kwargs, output):
            tensors = (a for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
            calls[name].append(Call(next(tensors, None), output))

        handles.append(module.register_forward_hook(hook, with_kwargs=True))

    try:
        for name, module in modules.items():
            watch(name, module)
        model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return Trace(modules, dict(calls))


def _record_guessed(model: nn.Module, joints: int | None) -> Trace:
    """Try the usual orders of axes; accept what runs, if all that run agree on every module."""
    if joints is None:
        raise PlugError(
            f'cannot tell what {type(model).__name__} takes: it names no graph and no number of '
            'joints. Pass example_input: a tensor, or its shape, that its forward takes.'
        )
    # Halved twice, the frames must not be mistaken for joints.
    frames = next(t for t in (32, 40, 48) if joints not in (t, t // 2, t // 4))
    worked: dict[str, Trace] = {}
    failed: list[str] = []
    for channels, persons in _input_sizes(model, joints):
        c, m, t, v = channels, persons, frames, joints
        for axes, shape in {
            '(N, M, T, V, C)': (1, m, t, v, c),
            '(N, C, T, V, M)': (1, c, t, v, m),
            '(N, C, T, V)': (1, c, t, v),
        }.items():
            try:
                found = _record(model, (_zeros(model, shape),), {})
            except Exception as error:
                failed.append(f'  {axes} = {shape}: {_first_line(error)}')
                continue
            found.joints = joints
            worked[f'{axes} = {shape}'] = found
    # What ran without any (N, C, T, V) inside only counts where nothing better ran: it can still
    # say what the modules pass instead.
    useful = {how: found for how, found in worked.items() if found.candidates()} or worked
    agreed = {tuple((n, f.shape(n)) for n in f.candidates()) for f in useful.values()}
    if len(agreed) == 1:
        return next(iter(useful.values()))
    tried = '\n'.join(f'  {how}: ran, but differently' for how in useful) or '\n'.join(failed)
    raise PlugError(
        f'cannot tell what {type(model).__name__} takes. Tried:\n{tried}\nPass example_input: a '
        'tensor, or its shape, that its forward takes. If it wraps a backbone, fuse the backbone.'
    )


def _input_sizes(model: nn.Module, joints: int) -> list[tuple[int, int]]:
    """Numbers of (channels, persons) to try: the model's own, else what its first norm and
    convolution leave open."""
    own_channels = _number(model, 'in_channels')
    persons = _number(model, 'num_person', 'num_persons')
    # The norm over the input is as wide as joints × channels, or joints × channels × persons.
    norm = next((m for m in model.modules() if isinstance(m, nn.BatchNorm1d)), None)
    width = norm.num_features // joints if norm and norm.num_features % joints == 0 else None
    convs = (m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d))
    first = next((m.in_channels for m in convs), None)
    channels = (
        [own_channels] if own_channels else list(dict.fromkeys(c for c in (first, 3, 2) if c))
    )
    if width:
        channels = [c for c in channels if width % c == 0]
        return [(c, width // c) for c in channels]
    return [(c, persons or 1) for c in channels]


def _arguments(model: nn.Module, example: Any) -> tuple[tuple, dict]:
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, Sequence) and example and all(isinstance(n, int) for n in example):
        return (_zeros(model, example),), {}
    return (tuple(example) if isinstance(example, list | tuple) else (example,)), {}


def _zeros(model: nn.Module, shape: Sequence[int]) -> Tensor:
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(tuple(shape), device=like.device, dtype=like.dtype)


def _number(model: nn.Module, *names: str) -> int | None:
    found = (getattr(model, name, None) for name in names)
    return next((n for n in found if isinstance(n, int) and n > 0), None)


def _is_map(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4 and output.is_floating_point()


def _same_data(before: Tensor, after: Tensor | None) -> bool:
    if after is None or before is after:
        return before is after
    start = before.untyped_storage().data_ptr()
    return before.shape == after.shape and start == after.untyped_storage().data_ptr() != 0


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f'a tensor of shape {tuple(value.shape)}'
    if isinstance(value, Mapping):
        return 'a dict (' + ', '.join(f'{k}: {_describe(v)}' for k, v in value.items()) + ')'
    if isinstance(value, list | tuple):
        return f'a {type(value).__name__} (' + ', '.join(map(_describe, value)) + ')'
    return repr(value)[:60]


def _listing(names: list[str], most: int = 16) -> str:
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return f'Modules that pass (N, C, T, V): {", ".join(names[:most])}{more}.'


def _first_line(error: Exception) -> str:
    return f'{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ""}'
