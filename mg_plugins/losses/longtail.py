"""Losses for long-tailed sets: by the counts of their classes, and by the classes' names."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mg_plugins.data.classes import class_counts, dataset_names, get_classes
from mg_plugins.errors import UserError


def resolve_counts(counts: str | Sequence[int]) -> torch.Tensor:
    """Clips of each class (K,) as floats, of a list or a data set; 0 has no finite log prior."""
    counts = class_counts(counts) if isinstance(counts, str) else counts
    counts = torch.as_tensor(counts, dtype=torch.float32)
    if counts.dim() != 1 or (counts < 1).any():
        what = f'counts must be one positive number a class, got {counts.tolist()}'
        raise ValueError(f'{what}; merge empty classes or give them a count of 1')
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
            scored, known = cls_score.shape[1], len(self.shift)
            raise ValueError(f'the head scores {scored} classes but counts has {known}')
        loss = F.cross_entropy(
            cls_score + self.shift, label, self.weight, label_smoothing=self.label_smoothing
        )
        return loss * self.loss_weight


def embed_names(names: str | Sequence[str], dim: int = 16) -> torch.Tensor:
    """Embeddings (K, D) of length 1 of class names, from their letters alone.

    Counts of 2 to 4 letters in a row, weighed by how rare they are among the names (tf-idf), and
    of these the ``dim`` leading directions (latent semantic analysis, Deerwester et al., 1990), or
    as many more as every name needs to keep half of its length. ``names`` are one for each class,
    or a data set's name; what is no data set, no text or alike is a UserError.
    """
    if isinstance(names, str):
        if names not in dataset_names():
            known = ', '.join(dataset_names())
            raise UserError(f'names={names!r} is no data set ({known}): list one name a class')
        names = get_classes(names)
    words = [f' {name.lower()} ' if isinstance(name, str) else '' for name in names]
    if not words or not all(map(str.strip, words)) or len(set(words)) < len(words) or dim < 1:
        expected = 'names must be different texts, one a class, and dim at least 1'
        raise UserError(f'{expected}: got {names!r}, {dim}')
    from sklearn.feature_extraction.text import TfidfVectorizer

    table = TfidfVectorizer(analyzer='char', ngram_range=(2, 4)).fit_transform(words).toarray()
    left, values, _ = np.linalg.svd(table, full_matrices=False)
    kept = np.sqrt(np.square(left * values).cumsum(1)).min(0)  # of the shortest name, by dimensions
    dim = max(dim, int(np.searchsorted(kept, 0.5)) + 1)
    return F.normalize(torch.from_numpy(left[:, :dim] * values[:dim]).float(), dim=1)


class NameLoss(nn.Module):
    """Cross-entropy of the cosines between clips' projected features and the names of all classes.

    Features have ``in_channels``; ``names`` and ``dim`` are those of `embed_names`.
    """

    def __init__(
        self,
        in_channels: int,
        names: str | Sequence[str],
        dim: int = 16,
        temperature: float = 0.1,
        loss_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.register_buffer('names', embed_names(names, dim), persistent=False)
        self.project = nn.Linear(in_channels, self.names.shape[1])
        self.temperature, self.loss_weight = temperature, loss_weight

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss (scalar) of features (N, C) whose classes are ``labels`` (N,)."""
        cosines = F.normalize(self.project(features), dim=1) @ self.names.T
        return self.loss_weight * F.cross_entropy(cosines / self.temperature, labels)
