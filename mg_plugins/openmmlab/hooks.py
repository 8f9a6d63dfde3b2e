"""Hooks that every run of the tools has; they leave no trace in the config that a run saves."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import DumpResults, Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mg_plugins.openmmlab import weights
from mg_plugins.openmmlab.settings import LaunchError

SYNTHETIC = 'synthetic'


class FiniteHook(Hook):
    """Stops a training whose loss or weights are not finite, before such weights are saved.

    On a GPU the loss is looked at every ``interval`` iterations and whenever a checkpoint is saved,
    so that steps do not wait for each other.
    """

    priority = 'HIGH'
    interval = 20

    def __init__(self) -> None:
        self._bad: torch.Tensor | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Note a loss that is not finite; say so now or at the next look."""
        losses = [v for k, v in (outputs or {}).items() if 'loss' in k and torch.is_tensor(v)]
        if not losses:
            return
        bad = ~torch.stack([torch.isfinite(loss.detach()).all() for loss in losses]).all()
        self._bad = bad if self._bad is None else self._bad | bad
        if not bad.is_cuda or self.every_n_train_iters(runner, self.interval):
            self._look(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse weights that are not finite; tell what the model was fed with."""
        self._look(runner)
        if (name := weights.not_finite(checkpoint.get('state_dict', {}))) is not None:
            self._stop(runner, f'{name} is not finite')
        loader = runner.train_loop.dataloader if runner.train_loop is not None else None
        checkpoint['meta']['inputs'] = weights.inputs_of(getattr(loader, 'dataset', None))

    def _look(self, runner: Runner) -> None:
        if self._bad is not None and bool(self._bad):
            self._stop(runner, 'the loss is not finite')

    def _stop(self, runner: Runner, what: str) -> None:
        note = Path(runner.work_dir) / 'last_checkpoint'
        good = note.read_text().strip() if note.is_file() else None
        remedy = f'the last good checkpoint is {good}: --resume {good}' if good else 'start again'
        raise LaunchError(
            f'training stopped at epoch {runner.epoch + 1}, iteration {runner.iter + 1}: {what}; '
            f'{remedy}, with a lower learning rate (--cfg-options optim_wrapper.optimizer.lr=…)'
            + (', without --amp' if 'Amp' in type(runner.optim_wrapper).__name__ else '')
        )


class SyntheticHook(Hook):
    """Calls every figure synthetic where the data say that they are, and nowhere else."""

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Name the losses in the log."""
        if _is_synthetic(runner.train_dataloader):
            cfg = dict(runner.cfg.get('log_processor') or {}, type='SyntheticLogProcessor')
            runner.log_processor = runner.build_log_processor(cfg)

    def before_val_epoch(self, runner: Runner) -> None:
        """Name the metrics of a validation."""
        self._name(runner.val_evaluator, runner.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        """Name the metrics of a test."""
        self._name(runner.test_evaluator, runner.test_dataloader)

    def _name(self, evaluator: Evaluator, loader: Any) -> None:
        metrics = [m for m in evaluator.metrics if not isinstance(m, DumpResults)]
        for metric in metrics if _is_synthetic(loader) else ():
            prefix = metric.prefix or type(metric).__name__
            if not prefix.startswith(SYNTHETIC):
                # Two metrics need two names; the word stands first in both.
                metric.prefix = f'{SYNTHETIC}/{prefix}' if metrics[1:] else SYNTHETIC


class StartFrom(Hook):
    """Puts weights into a model after all of it is initialised: ``fitting(state)`` of its state."""

    priority = 'HIGHEST'

    def __init__(self, fitting: Callable[[Mapping], Mapping]) -> None:
        self.fitting = fitting

    def before_train(self, runner: Runner) -> None:
        """Load the weights."""
        state = runner.model.state_dict()
        runner.model.load_state_dict({**state, **self.fitting(state)})


def _is_synthetic(loader: Any) -> bool:
    meta = getattr(weights.inside(getattr(loader, 'dataset', None)), 'metainfo', None) or {}
    return meta.get('source') == SYNTHETIC
