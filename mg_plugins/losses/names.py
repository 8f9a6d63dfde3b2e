"""A loss by which clips of classes with like names come to like features."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mg_plugins.data.classes import dataset_names, get_classes
from mg_plugins.errors import UserError


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
        raise UserError(
            f'names must be different texts, one a class, and dim at least 1: got {names!r}, {dim}'
        )
    from sklearn.feature_extraction.text import TfidfVectorizer

    table = TfidfVectorizer(analyzer='char', ngram_range=(2, 4)).fit_transform(words).toarray()
    left, values, _ = np.linalg.svd(table, full_matrices=False)
    kept = np.sqrt(np.square(left * values).cumsum(1)).min(0)  # of the shortest name, by dimensions
    dim = max(dim, int(np.searchsorted(kept, 0.5)) + 1)
    return F.normalize(torch.from_numpy(left[:, :dim] * values[:dim]).float(), dim=1)


class NameLoss(nn.Module):
    """Cross-entropy of the cosines between clips' projected features and the names of all classes.

    Args:
        in_channels: Width of the features.
        names: As for `embed_names`, like ``dim``.
        temperature: Of the softmax over classes.
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
