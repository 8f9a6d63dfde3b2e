"""Joint layouts: which joint is which, how joints are linked, and joints of one from another."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mg_plugins.errors import UserError
from mg_plugins.files import read_json, read_table


class LayoutError(UserError):
    """A layout that does not exist or contradicts itself."""


@dataclass(frozen=True)
class Layout:
    """Names and structure of the joints of one skeleton format (V joints).

    Args:
        joints: V joint names, in the order of the data, or their number. All that follows takes
            names or indices from 0, and refuses with a `LayoutError` what contradicts itself.
        bones: (child, parent) pairs, a tree over all joints unless ``tree`` is False
            (`imigue22_released`).
        centre: The joint that bodies and graphs are centred on; else the first that is no child.
        pairs: (left, right) pairs that a mirrored body exchanges.
        regions: Body part (head, torso, left_arm, left_hand, left_leg, …) to joints. A joint may be
            in several (a wrist belongs to its arm and its hand) or in none.
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
        if isinstance(joints, str) or not joints or not all(isinstance(j, str) for j in joints):
            self._refuse(": 'joints' is a list of names or their number, at least one")
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
        joints, parent = self.joints, dict(self.bones)
        children = [joints[child] for child, _ in self.bones]
        self._refuse_repeated(children, ': {} have several parents; a bone is (child, parent)')
        for joint in range(len(joints)):
            for _ in joints:
                joint = parent.get(joint, joint)
            if joint in parent:
                self._refuse(f': the bones form a cycle at {joints[joint]}')
        roots = [name for j, name in enumerate(joints) if j not in parent]
        if len(roots) > 1:
            self._refuse(f' is not connected: of {", ".join(roots)} only one may lack a parent')

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def parents(self) -> tuple[int, ...]:
        """Parent of every joint (V), by its first bone; a joint without one points to itself."""
        parent = dict(reversed(self.bones))
        return tuple(parent.get(joint, joint) for joint in range(self.num_joints))

    @property
    def swap(self) -> tuple[int, ...]:
        """Permutation (V) that exchanges left and right: ``keypoint[..., swap, :]``."""
        other = dict(self.pairs) | {right: left for left, right in self.pairs}
        return tuple(other.get(joint, joint) for joint in range(self.num_joints))

    def index(self, joint: str | int) -> int:
        """Index of a joint given by name or index."""
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

    def graph_cfg(self, mode: str = 'stgcn_spatial', max_hop: int = 1) -> dict[str, Any]:
        """The ``graph_cfg`` of MMAction2's GCN backbones, of plain numbers, strings and lists."""
        inward = [list(bone) for bone in self.bones]
        layout = dict(num_node=self.num_joints, inward=inward, center=self.centre)
        return dict(layout=layout, mode=mode, max_hop=max_hop)

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able dict, joints by name, that `get_layout` turns back into this layout."""

        def named(index: Any) -> Any:
            return self.joints[index] if isinstance(index, int) else [named(i) for i in index]

        regions = {part: named(joints) for part, joints in self.regions.items()}
        own = dict(bones=named(self.bones), centre=named(self.centre), pairs=named(self.pairs))
        return dict(asdict(self), joints=list(self.joints), regions=regions, **own)


_registered: dict[str, Layout] = {}


def layout_names() -> list[str]:
    """Names that `get_layout` knows: those of `layouts.json`, then those registered."""
    return list(_builtin() | _registered)


@cache
def layout_aliases() -> dict[str, str]:
    """Other names under which `get_layout` finds a layout of the table, to its own name."""
    table = read_table('data/layouts.json')
    return {alias: name for name, entry in table.items() for alias in entry.get('aliases', ())}


def register_layout(layout: Layout | Mapping | str | os.PathLike) -> Layout:
    """Make a layout available by its name; another one under a taken name is a LayoutError."""
    layout = get_layout(layout)
    known = _known(layout.name)
    if known is not None and known != layout:
        raise LayoutError(f'another layout is called {layout.name!r} already; choose another name')
    _registered[layout.name] = layout
    return layout


def get_layout(layout: str | Mapping | os.PathLike | Layout) -> Layout:
    """Find or build a layout; a LayoutError says what is wrong with it.

    It is given by its name or alias, in upper or lower case (`layout_names`, `layout_aliases`), by
    a dict with the arguments of `Layout`, or by the path of a JSON file with such a dict.
    """
    if isinstance(layout, Layout):
        return layout
    if isinstance(layout, Mapping):
        return _from_dict(layout)
    if not isinstance(layout, (str, os.PathLike)):
        kind = type(layout).__name__
        raise LayoutError(f'a layout is a name, a dict, a JSON file or a Layout, not {kind}')
    known, path = _known(str(layout)), Path(layout)
    if known is not None:
        return known
    if path.suffix != '.json':
        known = f'{", ".join(layout_names())}; or give a dict or .json file of your own'
        raise LayoutError(f'no layout is called {str(layout)!r}; known are {known}')
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


@cache
def _table() -> dict:
    """Joints across layouts, `relayout.json`; an entry for a left joint holds for the right one."""
    # ``made``: joints made from the middle of others, the first choice that is there.
    left = read_table('data/relayout.json')
    right = json.loads(json.dumps(left).replace('left_', 'right_'))
    own = {layout: right['own'][layout] | names for layout, names in left['own'].items()}
    return {key: right[key] | part for key, part in left.items()} | dict(own=own)


def usual_coordinates(layout: Layout) -> int | None:
    """2 or 3, how many coordinates the clips of a layout have where nothing else is known."""
    return _table()['coordinates'].get(layout.name)


def common_names(layout: Layout) -> dict[str, int]:
    """Index of every joint by the name that all layouts share; two of one name are refused."""
    own, common = _table()['own'].get(layout.name, {}), _table()['common']
    found: dict[str, int] = {}
    for index, joint in enumerate(layout.joints):
        name = own.get(joint) or common.get(joint, joint)
        if name in found:
            both = f'{layout.joints[found[name]]!r} and {joint!r} of layout {layout.name!r}'
            raise LayoutError(f'joints {both} are both taken for {name!r}; rename one of them')
        found[name] = index
    return found


def joint_parts(source: Layout, target: Layout) -> list[dict[int, float]]:
    """What every target joint is made of: {index of a source joint: weight}, of a sum of 1.

    Empty for a joint that the source does not have; no joint in common is a LayoutError.
    """
    known = common_names(source)

    def parts(name: str, asked: tuple[str, ...] = ()) -> dict[int, float]:
        if name in known:
            return {known[name]: 1.0}
        for choice in _table()['made'].get(name, ()):
            # A joint that is asked for already is no help: head from nose and nose from head.
            if set(choice) & {*asked, name}:
                continue
            found = [parts(other, (*asked, name)) for other in choice]
            if all(found):
                total: Counter[int] = Counter()
                for index, weight in (pair for part in found for pair in part.items()):
                    total[index] += weight / len(choice)
                return dict(total)
        return {}

    made = [parts(name) for name in common_names(target)]
    if not any(made):
        joints = f'{", ".join(source.joints)} against {", ".join(target.joints)}'
        names = f'{source.name!r} and {target.name!r}'
        raise LayoutError(f'layouts {names} have no joint in common: {joints}')
    return made


def relayout(
    keypoint: np.ndarray, score: np.ndarray | None, parts: Sequence[Mapping[int, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Clips with the joints of another layout: (M, T, V', C) float32 and scores (M, T, V').

    ``parts`` (of `joint_parts`) say how they come from (M, T, V, C), before normalisation, and
    (M, T, V); without scores joints with coordinates are certain. A joint made of several is
    missing where one of them is, else its score is their smallest; one made of none is missing.
    """
    keypoint = keypoint.astype(np.float32, copy=False)
    if score is None:
        score = (keypoint != 0).any(-1).astype(np.float32)
    points = np.zeros((*keypoint.shape[:2], len(parts), keypoint.shape[-1]), keypoint.dtype)
    scores = np.zeros(points.shape[:-1], score.dtype)
    for joint, own in enumerate(parts):
        if own:
            index, weights = list(own), np.array(list(own.values()))[:, None]
            scores[:, :, joint] = smallest = score[:, :, index].min(-1)
            points[:, :, joint] = keypoint[:, :, index[0]]
            if len(index) > 1:
                middle = (keypoint[:, :, index] * weights).sum(2)
                points[:, :, joint] = middle * (smallest > 0)[..., None]
    return points, scores
