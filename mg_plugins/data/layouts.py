"""Joint layouts: which joint is which, how joints are linked, and which belong together.

One table (`layouts.json`) serves graphs, flips, bones, masks, normalisation, pictures and the
synthetic set. A layout of your own is a dict in a config, a JSON file, or a registered name:

    get_layout('imigue22')
    get_layout(dict(name='mine', joints=['hip', 'knee', 'foot'],
                    bones=[('knee', 'hip'), ('foot', 'knee')], centre='hip'))
    get_layout('my_layout.json')

Joints are given by name or by index, counted from 0. Aliases (``coco``, ``nturgb+d``, ``openpose``,
``mediapipe``, ``halpe``, …) and upper case find the layouts of the table too. Needs the standard
library and numpy only.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mg_plugins.errors import UserError
from mg_plugins.files import read_json, read_table

GRAPH_MODES = ('stgcn_spatial', 'spatial', 'binary_adj')


class LayoutError(UserError):
    """A layout that does not exist or contradicts itself."""


@dataclass(frozen=True)
class Layout:
    """Names and structure of the joints of one skeleton format (V joints).

    Args:
        name: Name under which it can be registered.
        joints: V joint names, in the order of the data, or their number.
        bones: (child, parent) pairs. They form a tree over all joints unless ``tree`` is False.
        centre: The joint that the body is centred on; the centre of graphs too. By default the
            first that is nobody's child.
        pairs: (left, right) pairs that a mirrored body exchanges.
        regions: Body part name to joints. Usual names: head, torso, left_arm, right_arm,
            left_hand, right_hand, left_leg, right_leg. A joint may be in several (a wrist belongs
            to its arm and its hand) or in none.
        note: What a reader should know about it.
        tree: False allows bones that form no tree (`imigue22_released`).

    Joints are given by name or index; a layout holds their indices.

    Raises:
        LayoutError: Unknown or out-of-range joints, a bone graph that is no tree, overlapping
            pairs. Every message names the layout and the joint.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    centre: int | None = None
    pairs: tuple[tuple[int, int], ...] = ()
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    note: str = ''
    tree: bool = True

    def __post_init__(self) -> None:
        joints = self.joints
        if isinstance(joints, int):
            joints = [f'joint{j}' for j in range(joints)]
        if isinstance(joints, str) or not all(isinstance(joint, str) for joint in joints):
            self._refuse(": 'joints' is a list of names or their number")
        if not joints:
            self._refuse(' has no joints')
        self._refuse_repeated(joints, ' names {} more than once')
        self._set(joints=tuple(joints))
        for key in ('bones', 'pairs'):
            couples = [tuple(couple) for couple in getattr(self, key) or ()]
            for couple in couples:
                if len(couple) != 2:
                    self._refuse(f': {key!r} holds {couple}, expected two joints')
            self._set(**{key: tuple(tuple(map(self.index, couple)) for couple in couples)})
        regions = {part: tuple(map(self.index, own)) for part, own in (self.regions or {}).items()}
        children = {child for child, _ in self.bones}
        if self.centre is None:
            self._set(centre=next((j for j in range(len(joints)) if j not in children), 0))
        self._set(centre=self.index(self.centre), regions=regions)
        if self.tree:
            self._check_tree()
        paired = [joints[j] for pair in self.pairs for j in pair]
        self._refuse_repeated(paired, ': {} are in more than one left/right pair')

    def _set(self, **values: Any) -> None:
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def _refuse(self, why: str) -> NoReturn:
        raise LayoutError(f'layout {self.name!r}{why}')

    def _refuse_repeated(self, names: Sequence[str], why: str) -> None:
        twice = sorted(name for name, number in Counter(names).items() if number > 1)
        if twice:
            self._refuse(why.format(twice))

    def _check_tree(self) -> None:
        """Every joint but one is a child once, and all lead to that one."""
        joints, parent = self.joints, {}
        for child, up in self.bones:
            if child in parent:
                self._refuse(
                    f': {joints[child]} has two parents, {joints[parent[child]]} and {joints[up]}; '
                    'a bone is (child, parent)'
                )
            parent[child] = up
        for joint in range(len(joints)):
            for _ in joints:
                joint = parent.get(joint, joint)
            if joint in parent:
                self._refuse(f': the bones form a cycle at {joints[joint]}')
        roots = [name for j, name in enumerate(joints) if j not in parent]
        if len(roots) > 1:
            self._refuse(
                f' is not connected: {", ".join(roots)} have no parent, only one joint (the root) '
                'may lack one'
            )

    @property
    def num_joints(self) -> int:
        """Number of joints V."""
        return len(self.joints)

    @property
    def parents(self) -> tuple[int, ...]:
        """Parent index of every joint (V); a joint without a parent points to itself.

        Where the bones form no tree, the first bone listed for a joint counts.
        """
        parents = list(range(self.num_joints))
        for child, parent in reversed(self.bones):
            parents[child] = parent
        return tuple(parents)

    @property
    def swap(self) -> tuple[int, ...]:
        """Permutation (V) that exchanges left and right: ``keypoint[..., swap, :]``."""
        order = list(range(self.num_joints))
        for left, right in self.pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def index(self, joint: str | int) -> int:
        """Index of a joint given by name or index.

        Raises:
            LayoutError: No such joint.
        """
        joints = self.joints
        if isinstance(joint, str):
            if joint not in joints:
                self._refuse(f' has no joint {joint!r}; its joints are {", ".join(joints)}')
            return joints.index(joint)
        if isinstance(joint, bool) or not isinstance(joint, (int, np.integer)):
            self._refuse(f': {joint!r} is neither a joint name nor an index')
        if not 0 <= joint < len(joints):
            self._refuse(f': joint {joint} is out of range, indices go from 0 to {len(joints) - 1}')
        return int(joint)

    def graph_cfg(self, mode: str = 'stgcn_spatial', max_hop: int = 1) -> dict:
        """The ``graph_cfg`` of MMAction2's GCN backbones, of plain numbers, strings and lists.

        Args:
            mode: 'stgcn_spatial' (ST-GCN), 'spatial' (2s-AGCN, ST-GCN++) or 'binary_adj'.
            max_hop: Largest distance in bones between joints that count as neighbours.
        """
        if mode not in GRAPH_MODES:
            raise LayoutError(f'graph mode {mode!r} is unknown; use one of {list(GRAPH_MODES)}')
        layout = dict(
            num_node=self.num_joints, inward=[list(bone) for bone in self.bones], center=self.centre
        )
        return dict(layout=layout, mode=mode, max_hop=max_hop)

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able dict that `get_layout` turns back into this layout."""
        names = self.joints
        return dict(
            name=self.name,
            joints=list(names),
            bones=[[names[child], names[parent]] for child, parent in self.bones],
            centre=names[self.centre],
            pairs=[[names[left], names[right]] for left, right in self.pairs],
            regions={part: [names[j] for j in joints] for part, joints in self.regions.items()},
            note=self.note,
            tree=self.tree,
        )


_registered: dict[str, Layout] = {}


def layout_names() -> list[str]:
    """Names that `get_layout` knows: those of the table, then those registered."""
    return [*_builtin(), *(name for name in _registered if name not in _builtin())]


@cache
def layout_aliases() -> dict[str, str]:
    """Other names under which `get_layout` finds a layout of the table, to its own name."""
    table = read_table('data/layouts.json')
    return {alias: name for name, entry in table.items() for alias in entry.get('aliases', ())}


def register_layout(layout: Layout | Mapping | str | os.PathLike) -> Layout:
    """Make a layout available by its name.

    Registering the same layout twice is fine; another layout under a taken name is an error.
    """
    layout = get_layout(layout)
    known = _known(layout.name)
    if known is not None and known != layout:
        raise LayoutError(
            f'a different layout is already called {layout.name!r}; choose another name'
        )
    _registered[layout.name] = layout
    return layout


def get_layout(layout: str | Mapping | os.PathLike | Layout) -> Layout:
    """Find or build a layout.

    Args:
        layout: A name of `layout_names` or `layout_aliases`, a dict (keys ``joints`` and ``bones``;
            optional ``name``, ``centre``, ``pairs``, ``regions``, ``note``, ``tree``), the path of
            a JSON file with such a dict, or a `Layout`.

    Raises:
        LayoutError: Unknown name, unreadable file, or a definition that contradicts itself.
    """
    if isinstance(layout, Layout):
        return layout
    if isinstance(layout, Mapping):
        return _from_dict(layout)
    if not isinstance(layout, (str, os.PathLike)):
        raise LayoutError(
            f'a layout is a name, a dict, a JSON file or a Layout, not {type(layout).__name__}'
        )
    known, path = _known(str(layout)), Path(layout)
    if known is not None:
        return known
    if path.suffix != '.json':
        raise LayoutError(
            f'no layout is called {str(layout)!r}; known are {", ".join(layout_names())}. '
            'Give a dict or the path of a .json file for one of your own.'
        )
    try:
        entry = read_json(path)
    except UserError as error:
        raise LayoutError(f'layout file {error}') from error
    if not isinstance(entry, dict):
        raise LayoutError(f'layout file {path} holds a {type(entry).__name__}, expected a dict')
    return _from_dict({'name': path.stem, **entry})


def _known(name: str) -> Layout | None:
    lower = name.lower()
    return _registered.get(name) or _builtin().get(layout_aliases().get(lower, lower))


@cache
def _builtin() -> dict[str, Layout]:
    """The layouts of the table, by name."""
    return {
        name: _from_dict({k: v for k, v in entry.items() if k != 'aliases'} | dict(name=name))
        for name, entry in read_table('data/layouts.json').items()
    }


def _from_dict(entry: Mapping) -> Layout:
    entry, known = {'name': 'custom', **entry}, [part.name for part in fields(Layout)]
    unknown, lacking = sorted(set(entry) - set(known)), {'joints', 'bones'} - set(entry)
    if unknown or lacking:
        what = f'has unknown keys {unknown}; allowed are {known}'
        what = what if unknown else f'lacks the key {min(lacking)!r}'
        raise LayoutError(f'layout {entry["name"]!r} {what}')
    return Layout(**entry)
