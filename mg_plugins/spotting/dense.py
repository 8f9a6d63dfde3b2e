"""One score a frame: a dense head, its losses, and inference over recordings of any length."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .features import RecordingFeatures

#: From chunks (start, stop) to probabilities (N, T or 1, K + 1).
Compute = Callable[[list[tuple[int, int]]], np.ndarray]
Progress = Callable[[int], None] | None  # is told how many frames are finished


class DenseHead(nn.Module):
    """Class scores a frame from a graph network's feature maps; the last one is "nothing".

    Features are pooled over joints and persons, interpolated to the frame rate, and passed through
    dilated residual convolutions as in MS-TCN (Abu Farha and Gall, CVPR 2019).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        width: int = 64,
        dilations: tuple[int, ...] = (1, 2, 4, 8),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.enter = nn.Conv1d(in_channels, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in dilations
        )
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Conv1d(width, num_classes + 1, 1)

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """Scores (N, K + 1, frames) from feature maps (N, M, C, T', V)."""
        x = self.enter(x.mean((1, 4)))
        if x.shape[-1] != frames:
            x = F.interpolate(x, frames, mode='linear', align_corners=False)
        for layer in self.layers:
            x = x + self.dropout(F.relu(layer(x)))
        return self.classify(self.dropout(x))


def dense_loss(
    scores: torch.Tensor,
    target: torch.Tensor,
    background_weight: float = 0.5,
    smoothing: float = 0.15,
    largest_step: float = 4.0,
) -> dict[str, torch.Tensor]:
    """Cross entropy of scores (N, K + 1, T) and the smoothing loss of MS-TCN.

    The latter is the mean of ``min(|log p(t) - log p(t-1)|, largest_step)²`` with the gradient
    stopped at ``t-1`` (Abu Farha and Gall, CVPR 2019, equations 8 to 10). ``target`` (N, T) is -100
    where it is not counted, and K for "nothing", whose weight is ``background_weight``.
    """
    weight = scores.new_ones(scores.shape[1])
    weight[-1] = background_weight
    logs = F.log_softmax(scores, 1)
    step = (logs[..., 1:] - logs[..., :-1].detach()).abs().clamp(max=largest_step)
    return dict(
        loss_frames=F.cross_entropy(scores, target, weight=weight, ignore_index=-100),
        loss_smooth=smoothing * step.square().mean(),
    )


def chunks(frames: int, length: int, step: int) -> list[tuple[int, int]]:
    """Chunks (start, stop) of ``length`` frames every ``step``; the last one ends at the end."""
    last = max(frames - length, 0)
    return [(start, min(start + length, frames)) for start in (*range(0, last, step), last)]


@torch.inference_mode()
def overlap_average(
    compute: Compute, frames: int, length: int, step: int, batch: int, progress: Progress
) -> np.ndarray:
    """Probabilities (frames, K + 1) of overlapping `chunks`, each counting most in its middle."""
    spans = chunks(frames, length, step)
    size = spans[0][1]
    weight = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1), dtype=np.float32)[:, None]
    total, weights = 0, np.zeros((frames, 1), np.float32)
    for first in range(0, len(spans), batch):
        part = spans[first : first + batch]
        for (start, stop), chunk in zip(part, compute(part), strict=True):
            if not np.ndim(total):
                total = np.zeros((frames, chunk.shape[-1]), np.float32)
            total[start:stop] += chunk * weight
            weights[start:stop] += weight
        if progress:
            progress(part[-1][1])
    return total / weights


def frame_probabilities(
    network: Callable[[torch.Tensor], torch.Tensor],
    features: RecordingFeatures,
    length: int = 256,
    batch: int = 4,
    progress: Progress = None,
) -> np.ndarray:
    """Class probabilities (T, K + 1) of a recording of any length, in bounded memory.

    ``network``, from (N, T, V, C) to (N, K + 1, T), runs over chunks of ``length`` as in training.
    """

    def compute(spans: list[tuple[int, int]]) -> np.ndarray:
        inputs = torch.from_numpy(np.stack([features.slice(*span) for span in spans]))
        return network(inputs).softmax(1).transpose(1, 2).float().numpy()

    step = max(1, length // 2)
    return overlap_average(compute, len(features), length, step, batch, progress)
