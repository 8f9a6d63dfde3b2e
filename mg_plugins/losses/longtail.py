"""Classification losses for long-tailed sets."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from mg_plugins.data.classes import class_counts


def resolve_counts(counts: str | Sequence[int]) -> torch.Tensor:
    """Clips of each class as a float tensor (K,), from a list or a data set's name.

    A class without a clip is a ValueError: its log prior would be infinite.
    """
    counts = class_counts(counts) if isinstance(counts, str) else counts
    counts = torch.as_tensor(counts, dtype=torch.float32)
    if counts.dim() != 1 or (counts < 1).any():
        raise ValueError(
            f'counts must be one positive number a class, got {counts.tolist()}; '
            'merge empty classes or give them a count of 1'
        )
    return counts


class LongTailLoss(nn.Module):
    """Cross-entropy with logit adjustment and class weights, each where asked for.

    Logit adjustment (Menon et al., ICLR 2021) trains ``softmax(z + τ·log π)``, π the class
    frequencies, so that ``z`` itself ranks classes as if they were balanced. Class-balanced weights
    (Cui et al., CVPR 2019) are ``w_k ∝ (1 − β) / (1 − β^{n_k})``, of mean 1.

    Args:
        counts: Clips of each class in training, or a data set's name (``'imigue'``).
        tau: τ; 0 adjusts nothing, 1 is the balanced error's own.
        beta: β in [0, 1); 0 gives all classes the same weight.
        label_smoothing: Share of the target that is spread over all classes.
    """

    def __init__(
        self,
        counts: str | Sequence[int],
        tau: float = 1.0,
        beta: float = 0.0,
        label_smoothing: float = 0.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= beta < 1:
            raise ValueError(f'beta must be in [0, 1), got {beta}')
        counts = resolve_counts(counts)
        weight = (1 - beta) / (1 - beta**counts) if beta else torch.ones_like(counts)
        self.register_buffer('shift', tau * (counts / counts.sum()).log(), persistent=False)
        self.register_buffer('weight', weight / weight.mean(), persistent=False)
        self.label_smoothing, self.loss_weight = label_smoothing, loss_weight

    def forward(self, cls_score: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Loss (scalar) of scores (N, K) against labels (N,) or soft labels (N, K)."""
        if cls_score.shape[1] != len(self.shift):
            raise ValueError(
                f'the head scores {cls_score.shape[1]} classes but counts has {len(self.shift)}'
            )
        loss = F.cross_entropy(
            cls_score + self.shift, label, self.weight, label_smoothing=self.label_smoothing
        )
        return loss * self.loss_weight
