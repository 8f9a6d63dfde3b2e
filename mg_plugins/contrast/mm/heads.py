"""The contrastive heads under their registered names, and supervised contrast for GCN heads."""

import torch
from mmaction.models.heads import GCNHead
from mmaction.registry import MODELS
from mmengine.logging import MessageHub
from torch import Tensor

from mg_plugins.contrast.heads import InfoNCE, NearestNeighbours, SupConLoss
from mg_plugins.contrast.queue import ContrastError

MODELS.register_module('InfoNCEHead', module=InfoNCE)
MODELS.register_module(module=SupConLoss)


@MODELS.register_module()
class NearestNeighbourMining(NearestNeighbours):
    """:class:`NearestNeighbours` at the Runner's epoch."""

    def forward(self, views: list[Tensor]) -> Tensor | None:
        self.epoch = MessageHub.get_current_instance().get_info('epoch', 0)
        return super().forward(views)


@MODELS.register_module()
class GCNSupConHead(GCNHead):
    """MMAction2's ``GCNHead`` that also pulls together what has the same label.

    ``cls_head=dict(type='GCNSupConHead')`` over an existing config is all it takes. Each rank
    contrasts its own batch, so the batch should hold several clips of a class.

    Args:
        *args: As for ``GCNHead``.
        supcon: Options of :class:`SupConLoss`, without its width.
        **kwargs: As for ``GCNHead``.
    """

    def __init__(self, *args, supcon: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.multi_class:
            raise ContrastError('GCNSupConHead needs one label a clip, not multi_class=True')
        self.supcon = SupConLoss(self.in_channels, **(supcon or {}))

    def loss(self, feats: Tensor, data_samples: list, **kwargs) -> dict[str, Tensor]:
        """Losses of ``GCNHead`` and ``loss_supcon``, from feature maps (N, M, C, T, V)."""
        losses = super().loss(feats, data_samples, **kwargs)
        labels = torch.cat([sample.gt_label.view(-1) for sample in data_samples])
        losses['loss_supcon'] = self.supcon(feats.mean((1, 3, 4)), labels.to(feats.device))
        return losses
