"""The losses of contrastive learning and the measures of collapse, as plain functions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .queue import ContrastError

#: Stands for minus infinity among logits: its probability is 0, and 0 times its logarithm is 0 too.
NEVER = -1e4


def info_nce(logits: Tensor, positives: Tensor | None = None) -> Tensor:
    """InfoNCE: the mean over queries of ``-1/|P| · Σ_{p in P} log softmax(logits)_p``.

    With the own key alone as the positive this is the loss of van den Oord et al. (2018); with
    several it is the nearest-neighbour form of Guo et al. (AimCLR, AAAI 2022).

    Args:
        logits: Similarities over temperature (N, 1 + K); column 0 is the query's own key.
        positives: Mask (N, 1 + K) of the positives; ``None`` takes column 0.
    """
    log_share = F.log_softmax(logits, dim=1)
    if positives is None:
        return -log_share[:, 0].mean()
    positives = positives.to(log_share.dtype)
    return -((log_share * positives).sum(1) / positives.sum(1)).mean()


def distribution_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of one query's distribution over the keys with another's (D3M of AimCLR).

    ``-mean Σ softmax(target) · log softmax(logits)``; no gradient flows into the target.

    Args:
        logits: Of the extreme view (N, 1 + K).
        target: Of the ordinary view (N, 1 + K).
    """
    share = target.detach().softmax(1)
    return -(share * F.log_softmax(logits, dim=1)).sum(1).mean()


def supervised_contrast(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss, L_out of Khosla et al. (NeurIPS 2020), one view a clip.

    ``-mean_i 1/|P(i)| Σ_{p in P(i)} log( exp(z_i·z_p/τ) / Σ_{a ≠ i} exp(z_i·z_a/τ) )``, P(i) the
    other clips of i's class; clips that are alone in their class do not count as anchors.

    Args:
        embeddings: L2-normalised z (N, D).
        labels: Class of each clip (N,).
        temperature: τ.

    Returns:
        A scalar; 0 where no class has two clips.
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

    Args:
        embeddings: L2-normalised (N, D).
    """
    return embeddings.std(0, correction=0).mean() * embeddings.shape[1] ** 0.5


def effective_rank(embeddings: Tensor) -> Tensor:
    """Number of dimensions that embeddings (N, D) really use, between 0 and min(N − 1, D).

    The exponential of the entropy of the centred embeddings' normalised singular values (Roy and
    Vetterli, EUSIPCO 2007); 0 where all are the same.

    Raises:
        ContrastError: If there are embeddings that are not finite.
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
    """Set the most distinctive share of each person's feature map to 0.

    Distinctive is what has a low energy in the sense of SimAM (Yang et al., ICML 2021), that is a
    high ``(x − μ)² / (4 (σ² + λ))`` with μ, σ² of its channel over frames and joints; AimCLR drops
    it so that an extreme view has to do without.

    Args:
        maps: Feature maps (N, M, C, T, V).
        share: Share of the C · T · V features that is dropped, in [0, 1).
    """
    with torch.no_grad():
        values = maps.float()
        distance = (values - values.mean((3, 4), keepdim=True)).square()
        importance = (distance / (distance.mean((3, 4), keepdim=True) + 1e-4)).flatten(2)
        dropped = int(share * importance.shape[2])
        keep = torch.ones_like(importance)
        keep.scatter_(2, importance.topk(dropped, dim=2).indices, 0)
    return maps * keep.view_as(maps).to(maps.dtype)
