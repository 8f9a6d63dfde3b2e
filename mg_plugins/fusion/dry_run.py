"""One dry forward of a model, which leaves the model and the random state as they were."""

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from .trace import Call, PlugError, Trace, describe, find_map, members_of


def run_dry(model: nn.Module, example_input: Any = None) -> Trace:
    """Record what every module passes on, on ``example_input`` as for ``plug``.

    Without it the model's own joints, channels and persons are looked up and the usual orders of
    axes are tried: (N, M, T, V, C), (N, C, T, V, M) and (N, C, T, V).
    """
    graph = find_graph(model)
    if graph is None and getattr(model, 'graph', None) is not None:
        warnings.warn(
            f'the graph of {type(model).__name__} is no adjacency (V, V) that the fusion knows: '
            'its joint graphs start at 0; give one by graph=…',
            stacklevel=4,
        )
    joints = graph.shape[-1] if graph is not None else _number(model, 'num_joints', 'num_point')
    with undisturbed(model):
        if example_input is not None:
            args, kwargs = (example_input,), {}
            if isinstance(example_input, Mapping):
                args, kwargs = (), dict(example_input)
            elif isinstance(example_input, list | tuple):
                shape = example_input and all(isinstance(n, Integral) for n in example_input)
                args = (_zeros(model, example_input),) if shape else tuple(example_input)
            try:
                result = _record(model, args, kwargs)
            except Exception as error:
                raise PlugError(
                    f'{type(model).__name__} failed on example_input ({describe(example_input)}): '
                    f'{_first_line(error)}. Give an input that its forward takes.'
                ) from error
        else:
            result = _record_guessed(model, joints)
    result.joints, result.graph = joints, graph
    return result


def find_graph(model: nn.Module) -> Tensor | None:
    """The skeleton's adjacency (V, V), its subsets added up; None where the model has none.

    It is ``model.graph.A``, ``model.A`` or the first buffer or parameter named ``A`` inside; of a
    tuple the first member that is one.
    """
    tensors = (*model.named_buffers(), *model.named_parameters())
    inside = [tensor for name, tensor in tensors if name.rpartition('.')[2] == 'A']
    own = (getattr(owner, 'A', None) for owner in (getattr(model, 'graph', None), model))
    for found in (*own, *inside):
        for one in found if isinstance(found, list | tuple) else [found]:
            shape = tuple(getattr(one, 'shape', ()))
            if len(shape) in (2, 3, 4) and shape[-1] == shape[-2] > 1:
                graph = torch.as_tensor(one).detach().float().abs()
                return graph.reshape(-1, *shape[-2:]).sum(0).clone()
    return None


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; flags, buffers and random state are kept."""
    modules = list(model.modules())
    training = [m.training for m in modules]
    buffers = [{k: (b, b.clone()) for k, b in m._buffers.items() if b is not None} for m in modules]
    eager = torch.compiler.set_stance('force_eager') if compiled_parts(model) else nullcontext()
    with eager, kept_random_state(model), torch.no_grad():
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, flag, saved in zip(modules, training, buffers, strict=True):
                module.training = flag
                for name, (buffer, value) in saved.items():
                    module._buffers[name] = buffer.copy_(value)


def kept_random_state(model: nn.Module) -> AbstractContextManager:
    """torch's random state, on the CPU and on the model's CUDA devices, is the same afterwards."""
    devices = {p.device.index for p in model.parameters() if p.device.type == 'cuda'}
    return torch.random.fork_rng(devices=sorted(devices))


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
    """One forward, with autograd's graph where the model can be run with it."""
    try:
        with torch.enable_grad():
            start: list[Tensor] = []

            def leaf(value: Any) -> Any:
                if not isinstance(value, Tensor) or not value.is_floating_point():
                    return value
                start.append(value.detach().clone().requires_grad_())
                return start[-1] * 1

            given = [leaf(v) for v in args], {k: leaf(v) for k, v in kwargs.items()}
            found, output = _run(model, *given)
        nodes = [getattr(member, 'grad_fn', None) for member in members_of(output).values()]
        found.start, found.ends = start, [node for node in nodes if node is not None]
        return found
    except Exception:
        return _run(model, args, kwargs)[0]


def _run(model: nn.Module, args: Sequence, kwargs: dict) -> tuple[Trace, Any]:
    modules = dict(model.named_modules())
    calls: dict[str, list[Call]] = defaultdict(list)

    def hook(name: str, _: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        source = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        found = find_map(output)
        # Kept now: what works in place on the map later gives it another node.
        node, before = (getattr(one, 'grad_fn', None) for one in (found, source))
        calls[name].append(Call(source, output, found, node, before))

    with ExitStack() as stack:
        for name, module in modules.items():
            handle = module.register_forward_hook(partial(hook, name), with_kwargs=True)
            stack.enter_context(handle)
        output = model(*args, **kwargs)
    return Trace(modules, dict(calls)), output


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
    for c, m in _input_sizes(model, joints):
        if worked:
            break
        for axes in ('NMTVC', 'NCTVM', 'NCTV'):
            sizes = dict(N=1, C=c, T=frames, V=joints, M=m)
            shape = tuple(sizes[axis] for axis in axes)
            how = f'({", ".join(axes)}) = {shape}'
            try:
                worked[how] = _record(model, (_zeros(model, shape),), {})
                worked[how].joints = joints
            except Exception as error:
                failed.append(f'  {how}: {_first_line(error)}')
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
    """Channels and persons to try: the model's own, or what its first layers allow."""
    own, persons = _number(model, 'in_channels'), _number(model, 'num_person', 'num_persons')
    # The norm over the input is as wide as joints × channels, or joints × channels × persons.
    norm = next((m for m in model.modules() if isinstance(m, nn.BatchNorm1d)), None)
    width = norm.num_features // joints if norm and norm.num_features % joints == 0 else None
    convs = (m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d))
    first = next((m.in_channels for m in convs), None)
    channels = [own] if own else list(dict.fromkeys(c for c in (first, 3, 2) if c))
    usual = [(c, m) for c in channels for m in ([persons] if persons else [2, 1])]
    if width:
        # Where the norm stands behind an embedding, its width says nothing: the usual ones then.
        return [*((c, width // c) for c in channels if width % c == 0), *usual]
    return [(c, persons or 1) for c in channels]


def _zeros(model: nn.Module, shape: Sequence[int]) -> Tensor:
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(tuple(map(int, shape)), device=like.device, dtype=like.dtype)


def _number(model: nn.Module, *names: str) -> int | None:
    found = (getattr(model, name, None) for name in names)
    return next((n for n in found if isinstance(n, int) and n > 0), None)


def _first_line(error: Exception) -> str:
    return f'{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ""}'
