"""What the modules of a model passed on in one dry forward, and where its stages end.

Axis letters: N sequences, M persons, C channels, T frames, V joints.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, NoReturn

from torch import Tensor, nn

from mg_plugins.errors import UserError

#: Modules that a message offers.
MOST = 16


class PlugError(UserError):
    """A model, a position or an input that the fusion cannot work with, and what to do."""


@dataclass(frozen=True)
class Call:
    """One call of a module."""

    source: Tensor | None  # its first tensor argument
    output: Any  # what it returned
    map: Tensor | None = None  # the (N, C, T, V) in that, None where there is not exactly one
    node: Any = None  # that of ``map`` in autograd's graph
    source_node: Any = None  # that of ``source``


@dataclass
class Trace:
    """What the modules of a model did in one dry forward."""

    modules: dict[str, nn.Module]  # every one by its name
    calls: dict[str, list[Call]]  # of every module, in the order in which the first one ended
    joints: int | None = None  # V, None where the model does not tell
    graph: Tensor | None = None  # the skeleton's adjacency (V, V) as the model itself uses it
    #: Nodes of the model's output in autograd's graph; empty where it could not be recorded.
    ends: list = field(default_factory=list, repr=False)
    start: list[Tensor] = field(default_factory=list, repr=False)  # what the input was made from

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

    def member(self, name: str) -> Any:
        """Index or key of the map in what a module returns; None where it is all of that."""
        call = self.calls[name][0]
        return next(at for at, member in members_of(call.output).items() if member is call.map)

    def shape(self, name: str) -> tuple[int, int]:
        """Channels C and joints V that a module passes on, or a PlugError where it does not."""
        if name not in self.calls:
            self._refuse(name, 'the forward pass never calls it')
        shapes = {self._one_shape(name, call) for call in self.calls[name]}
        if len(shapes) > 1:
            passed = ', '.join(describe(call.output) for call in self.calls[name])
            many = f'the model calls it {len(self.calls[name])} times and it passes {passed}'
            self._refuse(name, f'{many}; one fusion serves one number of channels and joints')
        return shapes.pop()

    def _one_shape(self, name: str, call: Call) -> tuple[int, int]:
        found, problem = call.map, None
        if found is None and not isinstance(call.output, Tensor):
            problem = 'branches leave it separately, so there is no one map to fuse'
        elif found is None:
            problem = 'expected a floating-point map (N, C, T, V)'
        elif self.joints and found.shape[3] != self.joints and self.joints in found.shape[1:3]:
            problem = f'expected (N, C, T, V) with the {self.joints} joints on the last axis'
        if problem is not None:
            self._refuse(name, f'it passes {describe(call.output)}; {problem}')
        return found.shape[1], found.shape[3]

    def _refuse(self, name: str, why: str) -> NoReturn:
        kind = type(self.modules[name]).__name__
        raise PlugError(f"cannot fuse '{name}' ({kind}): {why}. {self.offer(name)}")

    def candidates(self) -> list[str]:
        """Names of modules that pass one (N, C, T, V), outermost first, plain layers left out."""
        names = [n for n, calls in self.calls.items() if self._is_block(n, calls)]
        return sorted(names, key=lambda name: name.count('.'))

    def offer(self, parent: str = '') -> str:
        """What could be fused instead, first of all inside ``parent``; else what there is."""
        names = self.candidates()
        if names:
            names = [n for n in names if parent and n.startswith(f'{parent}.')] or names
            more = f' and {len(names) - MOST} more' if len(names) > MOST else ''
            return f'Modules that pass (N, C, T, V): {", ".join(names[:MOST])}{more}.'
        passed = (f"'{n}' passes {describe(c[-1].output)}" for n, c in self.calls.items() if n)
        return 'No module of this model passes (N, C, T, V): ' + '; '.join(list(passed)[-2:]) + '.'

    def _is_block(self, name: str, calls: list[Call]) -> bool:
        shapes = {None if c.map is None else tuple(c.map.shape[1::2]) for c in calls}
        if None in shapes or len(shapes) > 1 or name == '':
            return False
        module = self.modules[name]
        plain = type(module).__module__.startswith('torch.nn') and not any(module.children())
        return not plain and self.joints in (None, shapes.pop()[1])

    def stages(self) -> list[str]:
        """The last block of each width, along the model's main sequence of blocks.

        That is numbered siblings (``gcn.0``, ``gcn.1``, … or ``l1``, ``l2``, …) of which each takes
        what the one before passed on, or what was made from that: those with the most parameters,
        all on a tie (twin streams). Where data gets past these, they are one of several parallel
        paths, and the blocks are taken that everything passes through.
        """
        siblings = defaultdict(list)
        for name, calls in self.calls.items():
            numbered = re.fullmatch(r'(.*\D|)\d+', name)
            if numbered and len(calls) == 1 and self._is_block(name, calls):
                siblings[numbered[1]].append(name)
        runs = (run for names in siblings.values() for run in self._chains(names))
        chains = [run for run in runs if len(run) > 1]
        weights = {n: sum(p.numel() for p in self.modules[n].parameters()) for n in self.calls}
        sizes = [sum(map(weights.get, chain)) for chain in chains]
        largest = [c for c, size in zip(chains, sizes, strict=True) if size == max(sizes)]
        if not largest or self.passed_by(chain[-1] for chain in largest):
            found = 'no sequence of numbered blocks that hand (N, C, T, V) from one to the next'
            if largest:
                found = f'{largest[0][-1]!r} to be one of several parallel paths that nothing joins'
            largest = [self._trunk()]
            if not largest[0]:
                raise PlugError(f"'auto' found {found}; name the positions. {self.offer()}")
        return [
            name
            for chain in largest
            for name, after in zip(chain, [*chain[1:], None], strict=True)
            if after is None or self.shape(after) != self.shape(name)
        ]

    def passed_by(self, names: Iterable[str]) -> bool:
        """Whether data gets from input to output past all of these; no without ``ends``."""
        closed = {call.node for name in names for call in self.calls[name]}
        leaves = {id(leaf) for leaf in self.start}
        return any(id(getattr(n, 'variable', None)) in leaves for n in _before(self.ends, closed))

    def _trunk(self) -> list[str]:
        """Blocks that everything passes through, in order, outermost ones alone."""
        if not self.ends:
            return []
        names = [n for n in self.calls if self._is_block(n, self.calls[n])]
        trunk = {n for n in names if len(self.calls[n]) == 1 and not self.passed_by([n])}
        inner = {n for n in trunk for outer in trunk if n.startswith(f'{outer}.')}
        return [n for n in names if n in trunk - inner]

    def _chains(self, names: list[str]) -> Iterator[list[str]]:
        chain = names[:1]
        for before, name in pairwise(names):
            if not self._follows(self.calls[name][0], self.calls[before][0]):
                yield chain
                chain = []
            chain.append(name)
        yield chain

    @staticmethod
    def _follows(call: Call, before: Call) -> bool:
        """Whether a call takes what the one before passed on, or what was made from it."""
        made, taken = before.map, call.source
        if made is None or taken is None:
            return False
        start = made.untyped_storage().data_ptr()
        same = made.shape == taken.shape and start == taken.untyped_storage().data_ptr() != 0
        if made is taken or same:
            return True
        nodes = None not in (before.node, call.source_node)
        return nodes and before.node in _before([call.source_node], set())


def _before(nodes: Iterable, closed: set) -> Iterator:
    """Nodes of autograd's graph that the given ones were made from; nothing beyond closed ones."""
    seen = set(closed)
    open_ = [node for node in nodes if node not in seen]
    while open_:
        node = open_.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        open_ += [n for n, _ in node.next_functions if n is not None and n not in seen]


def find_map(output: Any) -> Tensor | None:
    """The one (N, C, T, V) in what a block returned, beside graphs such as (N, C, V, V)."""
    members = [m for m in members_of(output).values() if isinstance(m, Tensor)]
    maps = [m for m in members if m.ndim == 4 and m.is_floating_point()]
    if len(maps) > 1:
        maps = [m for m in maps if m.shape[2] != m.shape[3]]
    return maps[0] if len(maps) == 1 else None


def members_of(output: Any) -> dict[Any, Any]:
    """Members of a tuple, list or dict by index or key; anything else by itself, as None."""
    if isinstance(output, Mapping):
        return dict(output)
    return dict(enumerate(output)) if isinstance(output, list | tuple) else {None: output}


def describe(value: Any) -> str:
    """A value in words: its shape, or those of its members."""
    if isinstance(value, Tensor):
        return f'a tensor of shape {tuple(value.shape)}'
    if isinstance(value, Mapping):
        return 'a dict (' + ', '.join(f'{k}: {describe(v)}' for k, v in value.items()) + ')'
    if isinstance(value, list | tuple):
        return f'a {type(value).__name__} (' + ', '.join(map(describe, value)) + ')'
    return repr(value)[:60]
