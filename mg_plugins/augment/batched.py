"""Views of a batch of clips, made on the batch's own device after collation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mg_plugins.data.layouts import Layout

from .arrays import planes, positive, take_joints
from .base import Draws
from .randomness import rank
from .views import build_views


class BatchedViews:
    """Several differently augmented views of every clip of a batch.

    The transform ``MultiView`` makes the same views one clip at a time, with the same parameters.

    Args:
        layout: Name, dict or file of the joint layout.
        views: One dict a view: ``chain``, a recipe's name or a list as for `Chain`, and ``feat``,
            one or several of 'joint', 'bone', 'joint_motion', 'bone_motion' (default 'joint').

    Raises:
        ValueError: No view, unknown names or options, views with different numbers of channels.
        LayoutError: A layout that an augmentation cannot work with.
    """

    def __init__(self, layout: str | dict | Layout, views: Sequence[Mapping]) -> None:
        self.layout, self.views = build_views(layout, views)

    @torch.no_grad()
    def __call__(
        self, keypoint: Tensor, score: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Make the views.

        Args:
            keypoint: (N, M, T, V, C) coordinates, missing joints 0; stays as it is.
            score: (N, M, T, V) scores, 0 where a joint is missing; stays as it is.
            generator: Source of all randomness, on the CPU (so that nothing waits for the device);
                None takes torch's global one, which MMEngine seeds. For a resumed run to go on
                as the killed one would have, give one seeded by seed and iteration. Noise is
                drawn on the batch's device: another kind of device gives other noise.

        Returns:
            (N, views, M, T, V, 3 * features) float32.
        """
        draws = batch_draws(len(keypoint), keypoint.device, generator)
        shape = tuple(keypoint.shape[1:])
        return self.apply(keypoint, score, [view.chain.draw(draws, shape) for view in self.views])

    @torch.no_grad()
    def apply(self, keypoint: Tensor, score: Tensor, drawn: Sequence[Sequence]) -> Tensor:
        """Make the views with parameters drawn before: for each view those of its chain."""
        with torch.autocast(keypoint.device.type, enabled=False):
            keypoint, score = planes(keypoint.float()), score.float().contiguous()
            shape = (len(keypoint), len(self.views), *keypoint.shape[1:4], self.views[0].channels)
            out = keypoint.new_empty(shape)
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


def write_features(
    keypoint: Tensor, score: Tensor, layout: Layout, feat: Sequence[str], out: Tensor
) -> None:
    """Batched form of `mg_plugins.data.skeleton.features`: the same rules, written into ``out``.

    Args:
        keypoint: (N, M, T, V, C) coordinates.
        score: (N, M, T, V) scores.
        layout: Layout of the V joints.
        feat: Some of `skeleton.FEATURES`.
        out: (N, M, T, V, 3 * len(feat)).
    """
    flat = keypoint.shape[-1] == 2
    for place, name in enumerate(feat):
        values, certain, there = keypoint, score, None
        if name != 'joint':
            there = positive(score, keypoint)
        if name.startswith('bone'):
            there = there * take_joints(there, layout.parents)
            certain = (score + take_joints(score, layout.parents)) / 2 * there
            values = (keypoint - take_joints(keypoint, layout.parents)) * there[..., None]
        part = out[..., 3 * place : 3 * place + 3]
        if name.endswith('motion'):
            both = there[:, :, 1:] * there[:, :, :-1]
            certain = (certain[:, :, 1:] + certain[:, :, :-1]) / 2 * both
            values = (values[:, :, 1:] - values[:, :, :-1]) * both[..., None]
            part[:, :, -1] = 0
            part = part[:, :, :-1]
        part[..., : keypoint.shape[-1]] = values
        if flat:
            part[..., 2] = certain
