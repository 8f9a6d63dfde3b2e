"""Views of batches: chains of augmentations and what a model sees of them; random generators."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mg_plugins.data.arrays import planes
from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.data.skeleton import FEATURES, write_features
from mg_plugins.errors import UserError

from .base import Draws
from .chain import Chain

# Clips of larger sets share counters; their draws then depend on the order of the workers too.
SLOTS = 2**17


class View(NamedTuple):
    chain: Chain
    feat: tuple[str, ...]


def build_views(
    layout: str | dict | Layout, views: Sequence[Mapping]
) -> tuple[Layout, tuple[View, ...]]:
    """The layout and the views of ``[dict(chain='weak', feat='joint'), …]``."""
    layout, built = get_layout(layout), []
    for number, view in enumerate(views):
        if unknown := sorted(set(view) - {'chain', 'feat'}):
            raise UserError(f"view {number} has the key {unknown[0]!r}; keys are 'chain', 'feat'")
        feat = view.get('feat', 'joint')
        feat = (feat,) if isinstance(feat, str) else tuple(feat)
        if not feat or not set(feat) <= set(FEATURES):
            raise UserError(f'view {number} has feat={feat!r}, expected some of {list(FEATURES)}')
        built.append(View(Chain(view.get('chain', ()), layout), feat))
    if not built:
        raise UserError("views is empty; give at least one, such as dict(chain='weak')")
    numbers = [len(view.feat) for view in built]
    if len(set(numbers)) > 1:
        raise UserError(f'the views have {numbers} features; one tensor needs equally many in each')
    return layout, tuple(built)


class BatchedViews:
    """Several differently augmented views of every clip of a batch; of one clip: ``MultiView``.

    Args:
        layout: Name, dict or file of the joint layout.
        views: One dict a view: ``chain``, a recipe's name ('weak', 'strong', 'aimclr_extreme',
            'micro_gesture') or a list as for `Chain`; and ``feat``, one or several of 'joint'
            (default), 'bone', 'joint_motion', 'bone_motion'.
    """

    def __init__(self, layout: str | dict | Layout, views: Sequence[Mapping]) -> None:
        self.layout, self.views = build_views(layout, views)

    @torch.no_grad()
    def __call__(
        self, keypoint: Tensor, score: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Views (N, views, M, T, V, 3 * features) float32 of clips (N, M, T, V, C) and scores.

        The generator is on the CPU, so that nothing waits for the device; None takes torch's global
        one, which MMEngine seeds. For a resumed run to go on as the killed one would have, give one
        seeded by seed and iteration. Noise is drawn on the batch's device: another kind of device
        gives other noise.
        """
        draws = batch_draws(len(keypoint), keypoint.device, generator)
        shape = tuple(keypoint.shape[1:])
        return self.apply(keypoint, score, [view.chain.draw(draws, shape) for view in self.views])

    @torch.no_grad()
    def apply(self, keypoint: Tensor, score: Tensor, drawn: Sequence[Sequence]) -> Tensor:
        """Make the views with parameters drawn before: for each view those of its chain."""
        with torch.autocast(keypoint.device.type, enabled=False):
            keypoint, score = planes(keypoint.float()), score.float().contiguous()
            channels = 3 * len(self.views[0].feat)
            out = keypoint.new_empty(len(keypoint), len(self.views), *keypoint.shape[1:4], channels)
            for number, (view, what) in enumerate(zip(self.views, drawn, strict=True)):
                points, scores = view.chain.apply(keypoint, score, what)
                write_features(points, scores, self.layout, view.feat, out[:, number])
        return out

    def __repr__(self) -> str:
        return f'BatchedViews(layout={self.layout.name!r}, views={list(self.views)})'


def batch_draws(
    clips: int, device: torch.device | str, generator: torch.Generator | None = None
) -> Draws:
    """Random numbers of a batch, see `BatchedViews`: noise is drawn on the device."""
    place = 'cpu' if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=place))
    # Ranks are often seeded alike; they must not draw alike.
    rng = np.random.default_rng((seed, rank()))
    noise = torch.Generator(device).manual_seed(int(rng.integers(2**62)))

    def normal(shape: tuple[int, ...]) -> Tensor:
        *outer, axes = shape
        flat = torch.randn(outer[0], axes, *outer[1:], generator=noise, device=device)
        return flat.movedim(1, -1)

    return Draws(rng, clips, normal)


def rank() -> int:
    """Number of this process among those that train together, 0 where it is alone."""
    ranks = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if ranks else 0


class SampleRandomness:
    """One generator for each visit of each clip: its seed is (seed, rank, clip, visit).

    Visits are counted in memory that dataloader workers share: with the same seed (None takes one
    from numpy's global state, which MMEngine's Runner seeds) a clip gets the same draws on its
    first visit, its second and so on, whatever the number of workers. Counting starts anew with
    the process: a resumed run goes through the same sequence again.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = int(np.random.randint(2**31)) if seed is None else int(seed)
        self.rank = rank()
        self.visits = torch.zeros(SLOTS, dtype=torch.int32).share_memory_()

    def __setstate__(self, state: dict) -> None:
        # A copy counts for itself, but must still share its count with its own workers.
        self.__dict__.update(state)
        self.visits.share_memory_()

    def of(self, results: dict) -> np.random.Generator:
        """The generator of a sample; the first transform to ask makes it, later ones go on."""
        if 'mg_rng' not in results:
            clip = int(results.get('sample_idx', 0))
            visit = int(self.visits[clip % SLOTS])
            self.visits[clip % SLOTS] += 1
            results['mg_rng'] = np.random.default_rng((self.seed, self.rank, clip, visit))
        return results['mg_rng']
