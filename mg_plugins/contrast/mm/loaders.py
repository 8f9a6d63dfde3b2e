"""Loaders of clips as a test sees them, for probes."""

import copy
from collections.abc import Mapping

from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader


def loader_of(cfg: Config, part: str, dataset: Mapping | None = None) -> DataLoader:
    """A loader of ``cfg``'s clips in a fixed order, seen as in a test: without augmentation.

    Args:
        cfg: Config with ``test_dataloader``, whose pipeline is used.
        part: ``'train'`` takes the clips of ``train_dataloader``, ``'test'`` those of
            ``test_dataloader``.
        dataset: Settings of the dataset to override, such as ``ann_file``.
    """
    loader = copy.deepcopy(cfg.test_dataloader)
    pipeline = loader.dataset.pipeline
    wanted = copy.deepcopy(cfg[f'{part}_dataloader'].dataset)
    while 'dataset' in wanted:
        wanted = wanted.dataset
    wanted.update(pipeline=pipeline, test_mode=True, **(dataset or {}))
    # Assigned, not updated: an update would merge the test clips' own selection into it.
    loader.dataset = wanted
    loader.sampler = dict(type='DefaultSampler', shuffle=False)
    loader.update(drop_last=False, num_workers=0, persistent_workers=False)
    return Runner.build_dataloader(loader)
