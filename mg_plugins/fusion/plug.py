"""Put the spatiotemporal balancing fusion into any model whose blocks pass (N, C, T, V).

It becomes a submodule of the block that it follows (``block.mg_fusion``), called by one forward
hook without state. The model's own parameters keep their names, so its checkpoints still load, and
because the hook looks at the module it is called with, copies and unpickled models use their own.
"""

import warnings
from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

import torch
from torch import nn

from .dry_run import compiled_parts, kept_random_state, run_dry
from .module import STBalancedFusion
from .trace import PlugError, Trace

CHILD = 'mg_fusion'
# Kept on the block because a pickled handle reserves its number when it is loaded; without that, a
# hook that a user registers in a new process would take the number of ours and replace it.
HANDLE = '_mg_fusion_hook'

Positions = str | Iterable[str] | Mapping[str, Mapping[str, Any]]


def plug(
    model: nn.Module, positions: Positions = 'auto', example_input: Any = None, **options: Any
) -> nn.Module:
    """Put a fusion after the named blocks of a model, in place; the same model is returned.

    The random state is the same afterwards, so a fused model and its plain twin that are built from
    one seed share the weights of everything else. A model that is fused already or wrapped for
    distributed training, a position that does not exist and a block that passes what cannot be
    fused are a PlugError, which leaves the model unchanged.

    Args:
        model: A module with blocks that pass (N, C, T, V): sequences, channels, frames, joints.
        positions: ``'auto'`` (after the last block of each width along the main sequence of
            blocks), a module's name or a pattern (``'gcn.3'``, ``'l[147]'``, ``'*.relu'``; ``*``
            stays between two dots), several of these, or a dict from these to options for that
            position alone.
        example_input: What to call the model with once: a tensor, a tuple of arguments, a dict of
            keyword arguments, or a shape for zeros. Not needed where the model names its joints
            and its input has one of the usual orders of axes.
        **options: Passed to every ``STBalancedFusion``. ``graph``, the joint graph (V, V) to start
            from, is the model's own where it has one; ``graph=None`` starts without.
    """
    target = _refuse_or_unwrap(model)
    seen = run_dry(target, example_input)
    blocks = _resolve(positions, seen)
    if seen.joints is None:
        last = list(blocks)[-1]
        warnings.warn(
            f'the model names no number of joints: the last axis of {last!r} '
            f'({seen.shape(last)[1]}) is taken for the joints',
            stacklevel=2,
        )
    with kept_random_state(target):
        built = {name: _build(seen, name, {**options, **own}) for name, own in blocks.items()}
    for name, fusion in built.items():
        block = seen.modules[name]
        fusion.member = seen.member(name)
        block.add_module(CHILD, fusion)
        setattr(block, HANDLE, block.register_forward_hook(fuse_output))
    return model


def unplug(model: nn.Module) -> nn.Module:
    """Take every fusion out of a model, in place; a model without any is returned as it is."""
    for block in list(_fused_blocks(model).values()):
        getattr(block, HANDLE).remove()
        delattr(block, HANDLE)
        delattr(block, CHILD)
    return model


def fusions(model: nn.Module) -> dict[str, STBalancedFusion]:
    """The fusions of a model, by the name of the block that each one follows."""
    return {name: getattr(block, CHILD) for name, block in _fused_blocks(model).items()}


def is_fused(model: nn.Module) -> bool:
    """Whether a model has at least one fusion plugged in."""
    return bool(_fused_blocks(model))


def fuse_output(module: nn.Module, args: tuple, output: Any) -> Any:
    """Forward hook: pass what a block returned, (N, C, T, V), through that block's own fusion.

    Where it is a tuple, such as (x, A), or a dict, x alone is fused and the rest passed on.
    """
    fusion = module.mg_fusion
    if fusion.member is None:
        return fusion(output)
    fused = fusion(output[fusion.member])
    if isinstance(output, Mapping):
        output = copy(output)
        output[fusion.member] = fused
        return output
    members = [fused if at == fusion.member else member for at, member in enumerate(output)]
    return type(output)(*members) if hasattr(output, '_fields') else type(output)(members)


def _fused_blocks(model: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in model.named_modules() if HANDLE in m.__dict__}


def _refuse_or_unwrap(model: nn.Module) -> nn.Module:
    """The module to plug into; refuse what cannot take a fusion any more."""
    if not isinstance(model, nn.Module):
        raise PlugError(f'plug takes a torch.nn.Module, got {type(model).__name__}')
    if isinstance(model, torch.jit.ScriptModule):
        raise PlugError(
            'a scripted model takes no new submodules: plug into the module that it was made '
            'from, and use torch.export or torch.jit.trace on that'
        )
    kinds = {cls.__name__ for m in model.modules() for cls in type(m).__mro__}
    for wrapper in ('DistributedDataParallel', 'FullyShardedDataParallel', 'FSDPModule'):
        if wrapper in kinds:
            raise PlugError(
                f'the model is already wrapped in {wrapper}, which would not synchronise the '
                'gradients of new parameters: plug first, then wrap'
            )
    if is_fused(model):
        raise PlugError(
            f'the model is fused already, after {", ".join(fusions(model))}: call unplug(model) '
            'first, or name all positions in one call'
        )
    compiled = compiled_parts(model)
    if compiled:
        names = ', '.join(repr(name) for name in compiled[:4])
        warnings.warn(
            f'torch.compile was already applied (to {names}; an empty name is the model itself), '
            'and what it has compiled ignores a fusion plugged in now: plug first, then compile',
            stacklevel=3,
        )
    return getattr(model, '_orig_mod', model) if '' in compiled else model


def _resolve(positions: Positions, seen: Trace) -> dict[str, dict]:
    """Names of the blocks to fuse, each with the options of its own."""
    names = [positions] if isinstance(positions, str) else positions
    names = list(names) if isinstance(names, Iterable) else [None]
    own = [positions[n] for n in names] if isinstance(positions, Mapping) else [{} for _ in names]
    if not all(isinstance(n, str) for n in names) or not all(isinstance(o, Mapping) for o in own):
        raise PlugError(
            "positions must be 'auto', a module's name or a pattern, several of these, or a dict "
            f'from these to options, got {positions!r}'
        )
    chosen: dict[str, dict] = {}
    for pattern, options in zip(names, own, strict=True):
        found = seen.stages() if pattern == 'auto' else seen.match(pattern)
        if not found:
            raise PlugError(f'no module fits the position {pattern!r}. {seen.offer()}')
        for name in found:
            chosen[name] = {**chosen.get(name, {}), **options}
    if not chosen:
        raise PlugError("positions is empty: name at least one module, or use 'auto'")
    return chosen


def _build(seen: Trace, name: str, options: dict) -> STBalancedFusion:
    """The fusion for one block, on the block's device and in its number format."""
    channels, joints = seen.shape(name)
    graph = seen.graph
    if graph is not None and graph.shape[-1] == joints and not graph.is_meta:
        options.setdefault('graph', graph.cpu())
    fusion = STBalancedFusion(channels, joints, **options)
    block = seen.modules[name]
    near = (*block.parameters(), *seen.modules[''].parameters())
    like = next((p for p in near if p.is_floating_point()), torch.empty(0))
    return fusion.to(like.device, like.dtype).train(block.training)
