"""Chains of augmentations: several in a row, each on its share of the clips.

A chain is a recipe's name ('weak', 'strong', 'aimclr_extreme', 'micro_gesture'), or a list of
recipes' names and dicts:

    Chain(['weak', dict(type='MGJitter', strength=0.5, p=0.8)], 'imigue22')
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.errors import UserError

from . import gesture, joints, temporal  # noqa: F401  (they fill the table)
from .arrays import is_batch, like, put_clips, take_clips
from .base import AUGMENTATIONS, Augmentation, Draws, build_augmentation
from .geometry import Linear, transform

RECIPES = Path(__file__).with_name('recipes.json')


class Drawn(NamedTuple):
    """What one augmentation of a chain will do.

    Attributes:
        index: Clips of the batch that it is applied to (n,); None for all of them.
        params: Drawn parameters, of those clips only; None where it is applied to none.
    """

    index: np.ndarray | None
    params: dict[str, Any] | None


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return list(_recipes())


@cache
def _recipes() -> dict[str, dict]:
    return json.loads(RECIPES.read_text(encoding='utf-8'))


def build_steps(chain: str | Mapping | Sequence) -> list[Augmentation]:
    """Augmentations of a recipe's name, a dict, or a list of both.

    Raises:
        ValueError: An unknown recipe, augmentation or option.
    """
    if isinstance(chain, Mapping) and chain.get('type') == OneOf.name:
        return [OneOf(**{name: value for name, value in chain.items() if name != 'type'})]
    if isinstance(chain, (Mapping, Augmentation)):
        return [build_augmentation(chain)]
    if isinstance(chain, str):
        if chain in AUGMENTATIONS:
            return [build_augmentation(chain)]
        if chain not in _recipes():
            raise UserError(
                f'recipe {chain!r} is unknown; there are {", ".join(_recipes())}, and the '
                f'augmentations {", ".join(sorted(AUGMENTATIONS))}'
            )
        return build_steps(_recipes()[chain]['steps'])
    return [step for part in chain for step in build_steps(part)]


class Chain:
    """Augmentations in a row, for one clip (arrays) or a batch of clips (tensors).

    Args:
        steps: A recipe's name, or a list of names and ``dict(type=…, …)``; see `build_steps`.
        layout: Name, dict or file of the joint layout; None where no augmentation needs one.

    Raises:
        ValueError: Unknown names or options, or no layout where one is needed.
        LayoutError: A layout that an augmentation cannot work with.
    """

    def __init__(self, steps: str | Sequence, layout: str | dict | Layout | None) -> None:
        self.layout = None if layout is None else get_layout(layout)
        self.steps = build_steps(steps)
        for step in self.steps:
            if self.layout is not None:
                step.check(self.layout)
            elif step.needs_layout:
                raise UserError(f"{step.name} needs the joint layout, such as layout='imigue22'")

    def draw(self, draws: Draws, shape: tuple[int, int, int, int]) -> list[Drawn]:
        """Draw for every augmentation which clips it meets, and its parameters.

        Args:
            draws: Source of the numbers; says whether they are for one clip or for a batch.
            shape: (M, T, V, C) of a clip.
        """
        return [self._draw(step, draws, shape) for step in self.steps]

    def _draw(self, step: Augmentation, draws: Draws, shape: tuple) -> Drawn:
        hit = draws.rng.random(draws.batch) < step.p
        if np.all(hit):
            return Drawn(None, step.draw(draws, shape, self.layout))
        if not np.any(hit):
            return Drawn(None, None)
        index = np.flatnonzero(hit)
        return Drawn(index, step.draw(draws.some(len(index)), shape, self.layout))

    def apply(self, keypoint, score, drawn: Sequence[Drawn]):
        """Augment one clip, or a batch, as drawn; what is given stays as it was.

        Args:
            keypoint: (M, T, V, C) array, or (N, M, T, V, C) tensor.
            score: (M, T, V) array, or (N, M, T, V) tensor.
            drawn: From `draw`, for as many clips.

        Returns:
            Keypoint and score of the same shapes and types.
        """
        given, matrix = (keypoint, score), None
        for step, (index, params) in zip(self.steps, drawn, strict=True):
            if params is None:
                continue
            if isinstance(step, Linear):
                # Neighbouring matrices are multiplied first: one pass over the coordinates.
                matrix = _then(matrix, _of_all(params['matrix'], index, keypoint))
                continue
            if matrix is not None:
                keypoint, matrix = transform(keypoint, matrix), None
            if index is None:
                keypoint, score = step.apply(keypoint, score, params, self.layout)
                continue
            where = like(index, keypoint)
            part = take_clips(keypoint, where), take_clips(score, where)
            changed = step.apply(*part, params, self.layout)
            keypoint, score = (
                old if new is same else put_clips(old, where, new, inplace=old is not first)
                for old, same, new, first in zip(
                    (keypoint, score), part, changed, given, strict=True
                )
            )
        if matrix is not None:
            keypoint = transform(keypoint, matrix)
        return keypoint, score

    def __call__(self, keypoint, score, draws: Draws):
        """Draw and apply."""
        return self.apply(keypoint, score, self.draw(draws, tuple(keypoint.shape[-4:])))

    def __repr__(self) -> str:
        name = None if self.layout is None else self.layout.name
        return f'Chain({self.steps}, layout={name!r})'


# What configs call a chain, a caller in Python calls a recipe.
Recipe = Chain


@dataclass(frozen=True)
class OneOf(Augmentation):
    """One of several chains, drawn for each clip with equal chances.

    ``dict(type='MGOneOf', chains=['weak', 'micro_gesture'])`` makes half of the views weak and half
    of them strong. It takes its place in a chain like any augmentation.

    Args:
        chains: Recipes' names or lists, as for `Chain`.
    """

    chains: Sequence = ()

    name: ClassVar[str] = 'MGOneOf'
    needs_layout: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.chains, str) or not self.chains:
            raise UserError(f'{self.name}: chains must be a list of chains, got {self.chains!r}')
        # Written out, so that a config that is compared or saved says what a recipe was.
        written = [
            [dict(type=step.name, **asdict(step)) for step in build_steps(chain)]
            for chain in self.chains
        ]
        object.__setattr__(self, 'chains', written)

    def check(self, layout: Layout) -> None:
        for chain in self.chains:
            Chain(chain, layout)

    def draw(self, draws: Draws, shape, layout) -> dict:
        which = draws.integers(0, len(self.chains) - 1)
        if not draws.batch:
            chain = Chain(self.chains[int(which)], layout)
            return dict(parts=[(chain, None, chain.draw(draws, shape))])
        parts = []
        for number, steps in enumerate(self.chains):
            index = np.flatnonzero(which == number)
            if len(index):
                chain = Chain(steps, layout)
                parts.append((chain, index, chain.draw(draws.some(len(index)), shape)))
        return dict(parts=parts)

    def apply(self, keypoint, score, params: Mapping[str, Any], layout: Layout | None):
        for chain, index, drawn in params['parts']:
            if index is None:
                return chain.apply(keypoint, score, drawn)
            where = like(index, keypoint)
            part = chain.apply(take_clips(keypoint, where), take_clips(score, where), drawn)
            keypoint = put_clips(keypoint, where, part[0], inplace=False)
            score = put_clips(score, where, part[1], inplace=False)
        return keypoint, score


def _then(first: np.ndarray | None, second: np.ndarray) -> np.ndarray:
    return second if first is None else second @ first


def _of_all(matrix: np.ndarray, index: np.ndarray | None, keypoint) -> np.ndarray:
    """Matrices of all clips of the batch, the identity for those that are not meant."""
    if index is None or not is_batch(keypoint):
        return matrix
    every = np.tile(np.eye(matrix.shape[-1], dtype=matrix.dtype), (len(keypoint), 1, 1))
    every[index] = matrix
    return every
