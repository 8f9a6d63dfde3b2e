"""Hooks of pre-training: the momentum encoders' steps, a watch on collapse, probes on the way."""

import copy
import math
from collections.abc import Mapping

import torch
from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mg_plugins.contrast.losses import ContrastError, InfoNCE, effective_rank, spread
from mg_plugins.contrast.probes import extract_features, is_collapsed, left_out_knn

#: Rows from which on the mean of a batch says where it is, and embeddings whether they differ.
FEW = 4


def _bare(model: torch.nn.Module) -> torch.nn.Module:
    return getattr(model, 'module', model)


@HOOKS.register_module()
class MomentumHook(Hook):
    """Moves the momentum encoders once after each step of the optimizer.

    With gradient accumulation that is once in ``accumulative_counts`` iterations. At the very start
    it makes them copies, whatever ``load_from`` brought, and refuses queues that would hold more
    keys than there are clips: a query's negatives would then show every clip, old and stale.
    ``momentum`` is the share that stays, in [0, 1), or a ContrastError; ``cosine`` lets it grow to
    1 over the training, along half a cosine (Grill et al., BYOL).
    """

    priority = 'HIGH'  # before checkpoints are written

    def __init__(self, momentum: float = 0.999, cosine: bool = False) -> None:
        if not 0 <= momentum < 1:
            raise ContrastError(f'momentum must be in [0, 1), got {momentum}')
        self.momentum, self.cosine = momentum, cosine

    def before_train(self, runner) -> None:
        """Check the queues against the training set; copy the encoders at iteration 0."""
        model = _bare(runner.model)
        if not hasattr(model, 'update_momentum'):
            raise ContrastError(f'MomentumHook needs a contrastive model, not {type(model)}')
        dataset = runner.train_dataloader.dataset
        while hasattr(dataset, 'dataset'):  # wrappers repeat clips
            dataset = dataset.dataset
        check_queues(model, len(dataset))
        if runner.iter == 0:
            model.copy_to_momentum()

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Follow the step, where there was one."""
        if runner.optim_wrapper.should_update():
            _bare(runner.model).update_momentum(self.value(runner.iter + 1, runner.max_iters))

    def value(self, step: int, steps: int) -> float:
        """Momentum after ``step`` of ``steps`` iterations."""
        if not self.cosine:
            return self.momentum
        return 1 - (1 - self.momentum) * (1 + math.cos(math.pi * step / steps)) / 2


def check_queues(model: torch.nn.Module, clips: int) -> None:
    """Refuse queues of more keys than there are clips, with a size that would do."""
    heads = [module for module in model.modules() if isinstance(module, InfoNCE)]
    largest = max((head.queue.size for head in heads), default=0)
    if largest > clips:
        raise ContrastError(
            f'a queue of {largest} keys is larger than the training set of {clips} clips: set '
            f'model.head.queue_size={fitting_queue(clips)} or another number well below {clips}'
        )


def fitting_queue(clips: int) -> int:
    """A size of queue that suits a training set: a power of two, up to half of its clips."""
    return 1 << (max(clips // 2, 1).bit_length() - 1)


@HOOKS.register_module()
class CollapseHook(Hook):
    """Watches whether embeddings of different clips still differ, and warns when they do not.

    Every ``interval`` iterations it logs ``contrast/std_STREAM`` (1 evenly spread, 0 collapsed) and
    ``contrast/rank_STREAM`` (the effective number of dimensions in use) of the encoder's last
    ``clips`` embeddings on the first rank; below ``least_std`` or ``least_rank`` they have
    collapsed. Embeddings that are not finite are a ContrastError.
    """

    priority = 'ABOVE_NORMAL'  # before the logger collects

    def __init__(
        self, interval: int = 20, clips: int = 512, least_std: float = 0.1, least_rank: float = 2.0
    ) -> None:
        self.interval, self.clips = interval, clips
        self.least_std, self.least_rank = least_std, least_rank
        self.seen: list[dict[str, torch.Tensor]] = []

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Collect the last embeddings; look at them when it is time."""
        queries = _bare(runner.model).queries
        if not queries:
            return  # learns from masked motion alone
        stream = next(iter(queries))
        self.seen.append(queries)
        while sum(len(batch[stream]) for batch in self.seen[1:]) >= self.clips:
            del self.seen[0]
        if not self.every_n_train_iters(runner, self.interval):
            return
        for stream in self.seen[-1]:
            embeddings = centred([batch[stream] for batch in self.seen])
            std, rank = float(spread(embeddings)), float(effective_rank(embeddings))
            runner.message_hub.update_scalar(f'train/contrast/std_{stream}', std)
            runner.message_hub.update_scalar(f'train/contrast/rank_{stream}', rank)
            if len(embeddings) >= FEW and (std < self.least_std or rank < self.least_rank):
                runner.logger.warning(
                    f'The {stream} features have collapsed: the embeddings of {len(embeddings)} '
                    f'clips have a spread of {std:.3f} (1 is even, 0 all the same) and use '
                    f'{rank:.1f} dimensions. Try a lower learning rate, stronger views, a larger '
                    'queue or a higher momentum.'
                )


def centred(batches: list[torch.Tensor]) -> torch.Tensor:
    """Embeddings (N, D) of several batches, each around its batch's own mean.

    What drifts over time is not what tells clips apart. A batch of fewer than `FEW` rows is centred
    by the mean of all: around its own mean a single row would be 0.
    """
    middle = torch.cat(batches).mean(0)
    return torch.cat([own - (own.mean(0) if len(own) >= FEW else middle) for own in batches])


def loader_of(cfg: Config, part: str, dataset: Mapping | None = None) -> DataLoader:
    """A loader in a fixed order of the ``'train'`` or ``'test'`` clips, seen as in a test.

    They go through the pipeline of ``test_dataloader``, without augmentation; ``dataset`` has
    settings of the dataset to override.
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


@HOOKS.register_module()
class ProbeHook(Hook):
    """Probes the features of the training clips every ``interval`` epochs, and at the end.

    Writes ``probe/knn_STREAM`` to the log and the visualizer's backends: the share of training
    clips whose class their nearest neighbours among the *other subjects'* training clips name, or
    among all other training clips where no subjects are known. Test clips are never looked at, so
    the figure may choose a checkpoint or a setting. On synthetic data the name begins with
    ``synthetic/``. Runs on the first rank, on the bare model.
    """

    def __init__(self, interval: int = 10, neighbours: int = 20) -> None:
        if interval < 1:
            raise ContrastError(f'interval must be at least 1 epoch, got {interval}')
        self.interval, self.neighbours = interval, neighbours
        self._loader = None

    @master_only
    def after_train_epoch(self, runner) -> None:
        """Look at the features, where it is time."""
        if not (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            return
        if self._loader is None:
            self._loader = loader_of(runner.cfg, 'train')
        source = self._loader.dataset.metainfo.get('source')
        prefix = 'synthetic/probe' if source == 'synthetic' else 'probe'
        found = {}
        for stream, features in extract_features(_bare(runner.model), self._loader).items():
            found[f'{prefix}/knn_{stream}'] = left_out_knn(features, self.neighbours)
            if is_collapsed(features.vectors):
                runner.logger.warning(
                    f'The {stream} features have collapsed: all training clips have the same.'
                )
        runner.visualizer.add_scalars(found, step=runner.iter)
        # The clips are the same for every stream.
        others = 'subjects' if features.of_several else 'clips'
        runner.logger.info(
            f'Training clips by their neighbours among other {others}, epoch {runner.epoch + 1}: '
            + '  '.join(f'{name}: {share:.4f}' for name, share in found.items())
        )
