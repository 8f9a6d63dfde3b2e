"""The losses as ``loss_cls`` of MMAction2's heads."""

from mmaction.registry import MODELS

from .longtail import LongTailLoss

MODELS.register_module(module=LongTailLoss)
