"""Joints of one layout from those of another, by their names.

The table (`relayout.json`) says which names mean one joint (``common``: a name to the name that all
layouts share; ``own``: where a layout means something else by a name), and which joints may be
made where they are absent (``made``: from the middle of others, the first choice that is there).
An entry for a left joint holds for the right one too.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from mg_plugins.files import read_table

from .layouts import Layout, LayoutError


@cache
def _table() -> dict:
    table = copy.deepcopy(read_table('data/relayout.json'))
    for part in (table['common'], table['made'], *table['own'].values()):
        for joint, value in list(part.items()):
            part.setdefault(_right(joint), _right(value))
    return table


def _right(value: Any) -> Any:
    """The right side's form of a name, or of a list of lists of names."""
    if isinstance(value, str):
        return value.replace('left_', 'right_')
    return [_right(part) for part in value]


def usual_coordinates(layout: Layout) -> int | None:
    """2 or 3, how many coordinates the clips of a layout have where nothing else is known."""
    return _table()['coordinates'].get(layout.name)


def common_names(layout: Layout) -> dict[str, int]:
    """Index of every joint by the name that all layouts share.

    Raises:
        LayoutError: Two joints have one such name.
    """
    own, common = _table()['own'].get(layout.name, {}), _table()['common']
    found: dict[str, int] = {}
    for index, joint in enumerate(layout.joints):
        name = own.get(joint) or common.get(joint, joint)
        if name in found:
            raise LayoutError(
                f'joints {layout.joints[found[name]]!r} and {joint!r} of layout {layout.name!r} '
                f'are both taken for {name!r}; rename one of them'
            )
        found[name] = index
    return found


def joint_parts(
    source: Layout, target: Layout, joints: Mapping[str, str | Sequence[str] | None] | None = None
) -> list[dict[int, float]]:
    """What every joint of a layout is made of: source joints and their weights.

    Args:
        source: Layout of the clips.
        target: Layout wanted.
        joints: Target joints by hand, before the table: the source joint, several whose middle
            counts, or None for a missing one.

    Returns:
        For each target joint {index of a source joint: weight}, weights of a sum of 1; empty for a
        joint that the source does not have.

    Raises:
        LayoutError: A joint that a layout does not have, or layouts without a common joint.
    """
    known, by_hand = common_names(source), {}
    for joint, given in (joints or {}).items():
        names = [given] if isinstance(given, str) else list(given or ())
        by_hand[target.index(joint)] = {source.index(name): 1 / len(names) for name in names}

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

    made = [
        by_hand[index] if index in by_hand else parts(name)
        for name, index in common_names(target).items()
    ]
    if not any(made):
        raise LayoutError(
            f'layouts {source.name!r} and {target.name!r} have no joint in common: '
            f'{", ".join(source.joints)} against {", ".join(target.joints)}'
        )
    return made


def relayout(
    keypoint: np.ndarray, score: np.ndarray | None, parts: Sequence[Mapping[int, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Clips with the joints of another layout.

    A joint made of several is missing where one of them is; else its score is the smallest of
    theirs. A joint made of none is missing: coordinates and score 0.

    Args:
        keypoint: (M, T, V, C) coordinates, before normalisation.
        score: (M, T, V) scores; None where joints with coordinates are certain.
        parts: From `joint_parts`.

    Returns:
        Keypoint (M, T, V', C) float32 and score (M, T, V').
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
