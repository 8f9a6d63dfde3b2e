"""Class-balanced sampling for long-tailed training sets."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, DefaultSampler, RepeatDataset
from mmengine.registry import DATA_SAMPLERS

from mg_plugins.errors import UserError


def dataset_labels(dataset) -> np.ndarray:
    """Integer label (N) of every sample, -1 for none, through RepeatDataset and ConcatDataset.

    Raises:
        TypeError: The dataset is none of these and has no ``labels``.
    """
    if isinstance(dataset, RepeatDataset):
        return np.tile(dataset_labels(dataset.dataset), dataset.times)
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([dataset_labels(part) for part in dataset.datasets])
    labels = getattr(dataset, 'labels', None)
    if labels is None and isinstance(dataset, BaseDataset):
        infos = (BaseDataset.get_data_info(dataset, index) for index in range(len(dataset)))
        labels = [info.get('label', -1) for info in infos]
    if labels is None:
        raise TypeError(
            f'class-balanced sampling needs the labels of {type(dataset).__name__}: use '
            'MGPoseDataset, another MMEngine dataset, or give it a property "labels"'
        )
    return np.asarray(labels, dtype=np.int64)


@DATA_SAMPLERS.register_module()
class MGClassBalancedSampler(DefaultSampler):
    """Draws every class c with probability proportional to count(c) ** (1 - power).

    A clip of class c is therefore weighted by count(c) ** -power: power 0 is the data set as it
    is, 0.5 takes square roots, 1 gives all classes the same share. An epoch has as many draws as
    the data set has clips, by systematic sampling: a clip, and a class, whose expected number of
    draws is e comes floor(e) or ceil(e) times, in another order and selection each epoch. At
    power 0 every clip comes exactly once, as with DefaultSampler.

    Draws depend on ``seed + epoch`` alone, so a resumed run goes on as the killed one would have.
    Ranks share one sequence, each taking every world_size-th draw.

    Args:
        dataset: A data set with labels, see `dataset_labels`.
        power: Strength of the balancing, 0 to 1.
        shuffle: False repeats the same draws in data set order every epoch.
        seed: Seed shared by all ranks; drawn and shared if None.
        round_up: Add draws so that every rank has equally many.

    Raises:
        ValueError: ``power`` outside 0 to 1.
        TypeError: A data set without labels.
        UserError: Clips without a label.
    """

    def __init__(
        self,
        dataset: Sized,
        power: float = 0.5,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        if not 0 <= power <= 1:
            raise ValueError(f'power is {power}, expected 0 (no balancing) to 1 (equal classes)')
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=round_up)
        self.power, self.labels = power, dataset_labels(dataset)
        bare = int((self.labels < 0).sum())
        if bare:
            raise UserError(
                f'class-balanced sampling needs labels; {bare} of {len(self.labels)} clips have '
                'none: give MGPoseDataset labelled=True, which keeps the others'
            )
        weights = np.bincount(self.labels)[self.labels].astype(np.float64) ** -power
        self.expected = weights * (len(weights) / weights.sum())

    def __iter__(self) -> Iterator[int]:
        """Indices of this rank for this epoch."""
        generator = torch.Generator()
        generator.manual_seed(self.seed + (self.epoch if self.shuffle else 0))
        size = len(self.expected)
        order = torch.randperm(size, generator=generator).numpy()
        order = order[np.argsort(self.labels[order], kind='stable')]
        start = torch.rand((), generator=generator, dtype=torch.float64).item()
        # Points start, start + 1, ... on a line where every clip owns a stretch as long as its
        # expected number of draws, the clips of a class side by side.
        edges = np.cumsum(self.expected[order])
        picks = np.searchsorted(edges, start + np.arange(size), side='right')
        drawn = order[np.minimum(picks, size - 1)]
        if self.shuffle:
            drawn = drawn[torch.randperm(size, generator=generator).numpy()]
        else:
            drawn = np.sort(drawn)
        return iter(np.resize(drawn, self.total_size)[self.rank :: self.world_size].tolist())
