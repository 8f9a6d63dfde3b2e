"""The losses as ``loss_cls`` of MMAction2's heads, and the head learning anew."""

from typing import Any

import torch
from mmaction.models.heads import GCNHead
from mmaction.registry import MODELS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mg_plugins.errors import UserError

from .longtail import LongTailLoss, NameLoss

MODELS.register_module(module=LongTailLoss)


def _model(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class HeadAlone(Hook):
    """Classifier re-training (Kang et al., ICLR 2020): the head starts anew and learns alone.

    Everything else keeps its weights and its batch-norm statistics. With class-balanced batches
    (`MGClassBalancedSampler`, power 1) the head no longer prefers frequent classes.
    """

    priority = 'VERY_LOW'  # after weights were loaded

    def before_train(self, runner: Runner) -> None:
        """Freeze all but the head; draw the head's weights anew unless the run is resumed."""
        model = _model(runner)
        model.requires_grad_(False)
        model.cls_head.requires_grad_(True)
        if runner.iter == 0:
            model.cls_head._is_init = False
            model.cls_head.init_weights()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep what is frozen as it is in a test."""
        model = _model(runner)
        model.eval()
        model.cls_head.train()


@MODELS.register_module()
class MGNamesHead(GCNHead):
    """MMAction2's ``GCNHead`` that also draws clips to the names of their classes.

    ``names`` are options of `NameLoss` without its width (``dict(names='imigue')``), one name for
    each class; all else is as for ``GCNHead``.
    """

    def __init__(self, *args, names: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not names:
            raise UserError("MGNamesHead needs names: cls_head.names.names=imigue, or ['wave', …]")
        self.names = NameLoss(self.in_channels, **names)
        if (given := len(self.names.names)) != self.num_classes:
            what = f'{given} names were given for {self.num_classes} classes'
            raise UserError(f'{what}: list one name a class in cls_head.names.names')

    def loss(self, feats: torch.Tensor, data_samples: list, **kwargs) -> dict[str, torch.Tensor]:
        """Losses of ``GCNHead`` and ``loss_names``, from feature maps (N, M, C, T, V)."""
        losses = super().loss(feats, data_samples, **kwargs)
        labels = torch.cat([sample.gt_label.view(-1) for sample in data_samples])
        losses['loss_names'] = self.names(feats.mean((1, 3, 4)), labels.to(feats.device))
        return losses
