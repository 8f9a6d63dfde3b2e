"""What compares embeddings: InfoNCE with its queue, nearest neighbours, supervised contrast."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .functional import NEVER, info_nce, supervised_contrast
from .queue import ContrastError, MomentumQueue


def projector(channels: int, dim: int) -> nn.Sequential:
    """The projection head of MoCo v2 (Chen et al., 2020): (N, channels) to (N, dim)."""
    hidden = min(channels, dim)
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, dim))


def embed(project: nn.Module, features: Tensor) -> Tensor:
    """Project features and L2-normalise them, in float32 under mixed precision too."""
    return F.normalize(project(features).float(), dim=1)


class InfoNCE(nn.Module):
    """Compares queries with keys and with a queue of earlier keys.

    Earlier keys of a query's own clip are no negatives: on a small set they would be in the queue
    most of the time.

    Args:
        dim: Width D of queries and keys.
        queue_size: Number of keys K in the queue.
        temperature: τ, by which similarities are divided.

    Raises:
        ContrastError: If the temperature or the size is not positive.
    """

    def __init__(self, dim: int = 128, queue_size: int = 1024, temperature: float = 0.07) -> None:
        super().__init__()
        if temperature <= 0:
            raise ContrastError(f'temperature must be positive, got {temperature}')
        self.dim, self.temperature = dim, temperature
        self.queue = MomentumQueue(dim, queue_size)

    def logits(self, query: Tensor, key: Tensor, clips: Tensor) -> Tensor:
        """Similarities over temperature (N, 1 + F); column 0 is the own key, F the queue's fill.

        Args:
            query: L2-normalised queries (N, D).
            key: The own key of each (N, D).
            clips: Number of each query's clip (N,), negative where it is not known.
        """
        with torch.autocast(query.device.type, enabled=False):
            keys, shown = self.queue.held()
            own = (query * key).sum(1, keepdim=True) / self.temperature
            others = query @ keys.T / self.temperature
            same = (clips[:, None] == shown) & (shown >= 0)
            return torch.cat([own, others.masked_fill(same, NEVER)], 1)

    def forward(self, query: Tensor, key: Tensor, clips: Tensor) -> Tensor:
        """InfoNCE of queries (N, D) with keys (N, D) and the queue."""
        return info_nce(self.logits(query, key, clips))


class NearestNeighbours(nn.Module):
    """Takes the queue's nearest neighbours of a query, in any of its views, for positives too.

    After AimCLR (Guo et al., AAAI 2022), which begins when the features have become good.

    Args:
        neighbours: Neighbours that each view adds.
        begin: Epoch, counted from 0, from which on it acts.

    Attributes:
        epoch: The current epoch; whoever trains keeps it.
    """

    def __init__(self, neighbours: int = 1, begin: int = 0) -> None:
        super().__init__()
        self.neighbours, self.begin, self.epoch = neighbours, begin, 0

    def forward(self, views: list[Tensor]) -> Tensor | None:
        """Mask of positives (N, 1 + F) from the logits of each view; ``None`` before its time."""
        number = min(self.neighbours, views[0].shape[1] - 1)
        if self.epoch < self.begin or number == 0:
            return None
        positives = torch.zeros_like(views[0], dtype=torch.bool)
        positives[:, 0] = True
        for logits in views:
            nearest = logits[:, 1:].topk(number, dim=1)
            positives.scatter_(1, nearest.indices + 1, True)
        # What is no negative, because it shows the query's own clip, is no neighbour either.
        return positives & (views[0] > NEVER)


class SupConLoss(nn.Module):
    """Supervised contrast of features (N, C) through a projector of its own.

    Args:
        channels: Width C of the features.
        dim: Width of the embeddings.
        temperature: τ.
        loss_weight: Factor of the loss.
    """

    def __init__(
        self, channels: int, dim: int = 128, temperature: float = 0.1, loss_weight: float = 0.5
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ContrastError(f'temperature must be positive, got {temperature}')
        self.temperature, self.loss_weight = temperature, loss_weight
        self.projector = projector(channels, dim)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Weighted loss (scalar) of features (N, C) with labels (N,)."""
        embeddings = embed(self.projector, features)
        with torch.autocast(features.device.type, enabled=False):
            loss = supervised_contrast(embeddings, labels, self.temperature)
        return self.loss_weight * loss
