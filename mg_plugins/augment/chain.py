"""Chains of augmentations: several in a row, each on its share of the clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mg_plugins.data.arrays import like, put_clips, take_clips
from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.errors import UserError
from mg_plugins.files import read_table

from . import gesture, joints, temporal  # noqa: F401  (they fill the table)
from .base import AUGMENTATIONS, Augmentation, Draws, build_augmentation
from .geometry import Linear, transform

RECIPES = 'augment/recipes.json'


class Drawn(NamedTuple):
    """What one augmentation of a chain will do."""

    index: np.ndarray | None  # clips of the batch that it is applied to (n,); None for all
    params: dict[str, Any] | None  # of those clips; None where it is applied to none


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return list(read_table(RECIPES))


def build_steps(chain: str | Mapping | Sequence) -> list[Augmentation]:
    """Augmentations of a recipe's name, a dict, or a list of both; others are a `UserError`."""
    if isinstance(chain, Mapping) and chain.get('type') == OneOf.name:
        return [OneOf(**{key: value for key, value in chain.items() if key != 'type'})]
    if isinstance(chain, str) and chain not in AUGMENTATIONS:
        recipes = read_table(RECIPES)
        if chain not in recipes:
            raise UserError(
                f'recipe {chain!r} is unknown; there are {", ".join(recipes)}, and the '
                f'augmentations {", ".join(sorted(AUGMENTATIONS))}'
            )
        chain = recipes[chain]['steps']
    if isinstance(chain, (str, Mapping, Augmentation)):
        return [build_augmentation(chain)]
    return [step for part in chain for step in build_steps(part)]


class Chain:
    """Augmentations in a row, for one clip (arrays) or a batch of clips (tensors).

    Args:
        steps: A recipe's name, or a list such as ``['weak', dict(type='MGJitter', p=0.8)]``.
        layout: Name, dict or file of the joint layout; None where no augmentation needs one.
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
        """Draw for every augmentation which clips, of shape (M, T, V, C), it meets, and how."""
        drawn = []
        for step in self.steps:
            hit = draws.rng.random(draws.batch) < step.p
            index, own = (None, draws) if np.all(hit) == np.any(hit) else draws.of(hit)
            params = step.draw(own, shape, self.layout) if np.any(hit) else None
            drawn.append(Drawn(index, params))
        return drawn

    def apply(self, keypoint, score, drawn: Sequence[Drawn]):
        """Keypoint and score of one clip, or a batch, as drawn; what is given stays as it was."""
        clips, matrix = (keypoint, score), None
        for step, (index, params) in zip(self.steps, drawn, strict=True):
            if params is None or getattr(step, 'strength', 1) == 0:
                continue
            if isinstance(step, Linear):
                own = params['matrix']
                if index is not None:  # the identity for the others of the batch
                    own = np.tile(np.eye(own.shape[-1], dtype=own.dtype), (len(keypoint), 1, 1))
                    own[index] = params['matrix']
                # Neighbouring matrices are multiplied first: one pass over the coordinates.
                matrix = own if matrix is None else own @ matrix
                continue
            if matrix is not None:
                clips, matrix = (transform(clips[0], matrix), clips[1]), None
            change = partial(step.apply, params=params, layout=self.layout)
            clips = _change(clips, index, change, given=(keypoint, score))
        return clips if matrix is None else (transform(clips[0], matrix), clips[1])

    def __call__(self, keypoint, score, draws: Draws):
        return self.apply(keypoint, score, self.draw(draws, tuple(keypoint.shape[-4:])))

    def __repr__(self) -> str:
        name = None if self.layout is None else self.layout.name
        return f'Chain({self.steps}, layout={name!r})'


# What configs call a chain, a caller in Python calls a recipe.
Recipe = Chain


@dataclass(frozen=True)
class OneOf(Augmentation):
    """One of ``dict(type='MGOneOf', chains=['weak', 'strong'])``, drawn for each clip alike."""

    chains: Sequence = ()
    name = 'MGOneOf'
    needs_layout = True

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
        which, parts = draws.integers(0, len(self.chains) - 1), []
        for number in np.unique(which):
            chain, (index, own) = Chain(self.chains[number], layout), draws.of(which == number)
            parts.append((chain, index, chain.draw(own, shape)))
        return dict(parts=parts)

    def apply(self, keypoint, score, params: Mapping[str, Any], layout: Layout | None):
        clips = given = keypoint, score
        for chain, index, drawn in params['parts']:
            clips = _change(clips, index, partial(chain.apply, drawn=drawn), given)
        return clips


def _change(clips: tuple, index: np.ndarray | None, change: Callable, given: tuple) -> tuple:
    """Keypoint and score with some clips changed; what was given is not overwritten."""
    if index is None:
        return change(*clips)
    where = like(index, clips[0])
    part = [take_clips(array, where) for array in clips]
    return tuple(
        old if new is same else put_clips(old, where, new, inplace=old is not first)
        for old, same, new, first in zip(clips, part, change(*part), given, strict=True)
    )
