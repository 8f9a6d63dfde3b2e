"""Makes the views of a batch on the device, after collation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmaction.registry import MODELS
from mmengine.dist import get_rank
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mg_plugins.augment.batched import BatchedViews
from mg_plugins.contrast.queue import ContrastError
from mg_plugins.data.layouts import Layout


@MODELS.register_module()
class ContrastPreprocessor(BaseDataPreprocessor):
    """Stacks clips; in training it makes the views of each batch, unless the clips come as views.

    With ``views`` a training pipeline ends in ``MGResample``, ``FormatGCNInput`` and
    ``PackActionInputs``, without ``MGSkeFeat``: scores come along as last channel, and the views'
    features are made here. A pipeline of evaluation ends as ever, in the same features.

    Args:
        views: A chain of augmentations for each view (query, key, extreme), as for
            :class:`mg_plugins.augment.chain.Chain`: a recipe's name or a list; ``None`` where the
            pipeline makes the views (``MultiView``).
        layout: Name, dict or file of the joint layout; only ``views`` need it.
        feat: Features of all views: one or several of joint, bone, joint_motion, bone_motion.
        non_blocking: As for ``BaseDataPreprocessor``.
    """

    def __init__(
        self,
        views: Sequence | None = None,
        layout: str | dict | Layout | None = None,
        feat: str | Sequence[str] = 'joint',
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        self.views, self._generator = None, None
        if views is not None:
            if layout is None:
                raise ContrastError('ContrastPreprocessor with views needs the joint layout')
            self.views = BatchedViews(layout, [dict(chain=chain, feat=feat) for chain in views])

    def forward(self, data: dict, training: bool = False) -> dict:
        """Inputs (N, views or crops, M, T, V, C) float32 and data samples, on the device.

        Raises:
            ContrastError: If the clips of a training batch bring no scores.
        """
        data = self.cast_data(data)
        inputs = data['inputs']
        inputs = (inputs if isinstance(inputs, Tensor) else torch.stack(list(inputs))).float()
        if training and self.views is not None:
            layout = self.views.layout
            if inputs.dim() != 6 or inputs.shape[4] != layout.num_joints:
                raise ContrastError(
                    f'views need clips (N, 1, M, T, {layout.num_joints}, coordinates and score), '
                    f'got {tuple(inputs.shape)}: leave MGSkeFeat out of the training pipeline'
                )
            if self._generator is None:
                # MMEngine gives all ranks one seed; their clips should not be turned alike.
                seed = torch.initial_seed() + get_rank()
                self._generator = torch.Generator().manual_seed(seed)
            clips = inputs[:, 0]
            inputs = self.views(clips[..., :-1], clips[..., -1], self._generator)
        return dict(data, inputs=inputs)
