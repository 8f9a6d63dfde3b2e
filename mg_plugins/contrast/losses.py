"""What compares embeddings (N, D), measures of collapse, the queue of keys, modules with weights.

Embeddings are L2-normalised; there are K keys in a queue, of which F ≤ K are filled.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mg_plugins.errors import UserError

#: Stands for minus infinity among logits: its probability is 0, and 0 times its logarithm is 0 too.
NEVER = -1e4


class ContrastError(UserError):
    """A setting of contrastive learning that cannot work; the message says what would."""


def info_nce(logits: Tensor, positives: Tensor | None = None) -> Tensor:
    """InfoNCE: the mean over queries of ``-1/|P| · Σ_{p in P} log softmax(logits)_p``.

    Logits (N, 1 + F) are similarities over temperature, the own key's in column 0. That key alone
    is the positive in van den Oord et al. (2018); a mask (N, 1 + F) of several is the
    nearest-neighbour form of Guo et al. (AimCLR, AAAI 2022).
    """
    log_share = F.log_softmax(logits, dim=1)
    if positives is None:
        return -log_share[:, 0].mean()
    positives = positives.to(log_share.dtype)
    return -((log_share * positives).sum(1) / positives.sum(1)).mean()


def distribution_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of an extreme view's distribution over keys with an ordinary view's (N, 1 + F).

    D3M of AimCLR: ``-mean Σ softmax(target) · log softmax(logits)``, no gradient into the target.
    """
    share = target.detach().softmax(1)
    return -(share * F.log_softmax(logits, dim=1)).sum(1).mean()


def supervised_contrast(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss, L_out of Khosla et al. (NeurIPS 2020), one view a clip.

    ``-mean_i 1/|P(i)| Σ_{p in P(i)} log( exp(z_i·z_p/τ) / Σ_{a ≠ i} exp(z_i·z_a/τ) )``, P(i) the
    other clips of i's class; clips alone in their class are no anchors, without any the loss is 0.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logits = (embeddings @ embeddings.T / temperature).masked_fill(itself, NEVER)
    same = (labels[:, None] == labels) & ~itself
    number = same.sum(1)
    log_share = (F.log_softmax(logits, dim=1) * same).sum(1) / number.clamp_min(1)
    return -log_share.sum() / (number > 0).sum().clamp_min(1)


def spread(embeddings: Tensor) -> Tensor:
    """How far embeddings are apart: about 1 spread evenly over the sphere, 0 collapsed.

    ``√D`` times the standard deviation of each dimension, averaged over the D dimensions, after
    Chen and He (SimSiam, CVPR 2021).
    """
    return embeddings.std(0, correction=0).mean() * embeddings.shape[1] ** 0.5


def effective_rank(embeddings: Tensor) -> Tensor:
    """Number of dimensions that embeddings (N, D) really use, between 0 and min(N − 1, D).

    The exponential of the entropy of the centred embeddings' normalised singular values (Roy and
    Vetterli, EUSIPCO 2007); 0 where all are the same. Not finite they are a ContrastError.
    """
    if not embeddings.isfinite().all():
        raise ContrastError(
            'there are embeddings that are not finite: the training has diverged. Lower the '
            'learning rate (optim_wrapper.optimizer.lr), or clip gradients '
            '(optim_wrapper.clip_grad)'
        )
    values = torch.linalg.svdvals(embeddings.double() - embeddings.double().mean(0))
    if values[0] <= 1e-6 * len(embeddings) ** 0.5:
        return values.new_zeros(())
    share = values / values.sum()
    return torch.special.entr(share).sum().exp()


def drop_energetic(maps: Tensor, share: float) -> Tensor:
    """Set the most distinctive share, in [0, 1), of each person's map in (N, M, C, T, V) to 0.

    Distinctive is what has a low energy in the sense of SimAM (Yang et al., ICML 2021), that is a
    high ``(x − μ)² / (4 (σ² + λ))`` with μ, σ² of its channel over frames and joints; AimCLR drops
    it so that an extreme view has to do without.
    """
    with torch.no_grad():
        values = maps.float()
        distance = (values - values.mean((3, 4), keepdim=True)).square()
        importance = (distance / (distance.mean((3, 4), keepdim=True) + 1e-4)).flatten(2)
        dropped = int(share * importance.shape[2])
        keep = torch.ones_like(importance)
        keep.scatter_(2, importance.topk(dropped, dim=2).indices, 0)
    return maps * keep.view_as(maps).to(maps.dtype)


def projector(channels: int, dim: int) -> nn.Sequential:
    """The projection head of MoCo v2 (Chen et al., 2020): (N, channels) to (N, dim)."""
    hidden = min(channels, dim)
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, dim))


def embed(project: nn.Module, features: Tensor) -> Tensor:
    """Project features and L2-normalise them, in float32 under mixed precision too."""
    return F.normalize(project(features).float(), dim=1)


def check_temperature(temperature: float) -> float:
    """The temperature, if it is positive."""
    if temperature <= 0:
        raise ContrastError(f'temperature must be positive, got {temperature}')
    return temperature


class MomentumQueue(nn.Module):
    """The last ``size`` keys of width ``dim``, with the clip that each one shows.

    All of it is in the checkpoint. A batch that does not divide the size wraps around, and one that
    is larger leaves its last keys. A size that is no positive integer is a ContrastError.
    """

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        if not isinstance(size, int) or size < 1:
            raise ContrastError(f'queue_size must be a positive integer, got {size!r}')
        self.size = size
        self.register_buffer('features', torch.zeros(size, dim))
        self.register_buffer('clips', torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer('pointer', torch.zeros((), dtype=torch.int64))
        self.register_buffer('filled', torch.zeros((), dtype=torch.int64))

    def held(self) -> tuple[Tensor, Tensor]:
        """Keys (F, D) that were put in so far, F ≤ K, and their clips' numbers (F,)."""
        filled = int(self.filled)
        # Copies: autograd still needs them after the next keys have been written.
        return self.features[:filled].clone(), self.clips[:filled].clone()

    @torch.no_grad()
    def put(self, keys: Tensor, clips: Tensor) -> None:
        """Put keys (N, D) of clips (N,) in the place of the oldest ones."""
        keys, clips = keys[-self.size :], clips[-self.size :]
        at = (self.pointer + torch.arange(len(keys), device=keys.device)) % self.size
        self.features[at] = keys.to(self.features.dtype)
        self.clips[at] = clips
        self.pointer.copy_((self.pointer + len(keys)) % self.size)
        self.filled.copy_((self.filled + len(keys)).clamp(max=self.size))

    def extra_repr(self) -> str:
        return f'size={self.size}, dim={self.features.shape[1]}'


class InfoNCE(nn.Module):
    """Compares queries with keys and with a queue of ``queue_size`` earlier keys of width ``dim``.

    Earlier keys of a query's own clip are no negatives: on a small set they would be in the queue
    most of the time. Similarities are divided by the temperature; one that is not positive is a
    ContrastError.
    """

    def __init__(self, dim: int = 128, queue_size: int = 1024, temperature: float = 0.07) -> None:
        super().__init__()
        self.dim, self.temperature = dim, check_temperature(temperature)
        self.queue = MomentumQueue(dim, queue_size)

    def logits(self, query: Tensor, key: Tensor, clips: Tensor) -> Tensor:
        """Similarities over temperature (N, 1 + F) of queries (N, D) with keys (N, D) and queue.

        Column 0 is the own key; ``clips`` are numbers (N,), negative where a clip is not known.
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
    """Takes ``neighbours`` of a query in the queue, in each of its views, for positives too.

    After AimCLR (Guo et al., AAAI 2022), which begins when the features have become good, in the
    epoch ``begin``, counted from 0. Whoever trains keeps the attribute ``epoch``.
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
    """Supervised contrast of features (N, channels) through a projector to ``dim`` of its own.

    A temperature that is not positive is a ContrastError.
    """

    def __init__(
        self, channels: int, dim: int = 128, temperature: float = 0.1, loss_weight: float = 0.5
    ) -> None:
        super().__init__()
        self.temperature, self.loss_weight = check_temperature(temperature), loss_weight
        self.projector = projector(channels, dim)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Weighted loss (scalar) of features (N, C) with labels (N,)."""
        embeddings = embed(self.projector, features)
        with torch.autocast(features.device.type, enabled=False):
            loss = supervised_contrast(embeddings, labels, self.temperature)
        return self.loss_weight * loss
