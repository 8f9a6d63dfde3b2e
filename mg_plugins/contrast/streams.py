"""The second stream of a clip, and the balance of two streams."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .queue import ContrastError

FUSIONS = ('concat', 'balance')
#: Segments of time that features are averaged in, see `pool_frames`.
SEGMENTS = 4


def pool_frames(frames: Tensor, segments: int = SEGMENTS) -> Tensor:
    """Means over equal segments of time, side by side: (N, T, C) to (N, segments · C).

    One mean over all frames forgets the order of the movement; a few of them keep it. Where T is
    no multiple of the segments, they share frames.
    """
    return F.adaptive_avg_pool1d(frames.mT, segments).mT.flatten(1)


def pool_graph(maps: Tensor, segments: int = SEGMENTS) -> Tensor:
    """Feature maps (N, M, C, T, V) to (N, segments · C): means over persons, joints and time."""
    return pool_frames(maps.mean((1, 4)).mT, segments)


class GRUStream(nn.Module):
    """A bidirectional GRU over a clip's poses: it keeps the order of movement.

    The joints of each frame are laid out in one vector and batch-normalised; the GRU's outputs are
    averaged over persons and over each segment of the frames.

    Args:
        channels: Width C of the GRU's outputs; even, half for each direction.
        num_joints: Joints V of a pose.
        in_channels: Values a joint.
        layers: Layers of the GRU.
        segments: Segments of time that are averaged by themselves, see `pool_frames`.

    Raises:
        ContrastError: If the width is odd.
    """

    def __init__(
        self,
        channels: int,
        num_joints: int,
        in_channels: int = 3,
        layers: int = 1,
        segments: int = SEGMENTS,
    ) -> None:
        super().__init__()
        self.segments = segments
        if channels % 2:
            raise ContrastError(
                f'GRUStream has channels={channels}: it must be even, half for each direction'
            )
        width = num_joints * in_channels
        self.norm = nn.BatchNorm1d(width)
        self.gru = nn.GRU(width, channels // 2, layers, batch_first=True, bidirectional=True)

    def forward(self, clips: Tensor, maps: Tensor) -> Tensor:
        """Features (N, segments · C) of clips (N, M, T, V, C_in); feature maps are not needed.

        Raises:
            ContrastError: If the clips have another number of joints or values.
        """
        n, m, t, v, c = clips.shape
        if v * c != self.norm.num_features:
            raise ContrastError(
                f'GRUStream expects num_joints · in_channels = {self.norm.num_features} values a '
                f'frame, got {v} joints of {c}'
            )
        poses = self.norm(clips.reshape(-1, v * c)).view(n * m, t, v * c)
        # One recurrence in low precision loses more than it saves.
        with torch.autocast(clips.device.type, enabled=False):
            over_time, _ = self.gru(poses.float())
        return pool_frames(over_time.view(n, m, t, -1).mean(1), self.segments)


class Standardise(nn.BatchNorm1d):
    """Features (N, C) with mean 0 and variance 1 in each channel, over the batch, then over time.

    Batch normalisation without weights; a batch of one clip takes the running statistics.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        if len(features) > 1 or not self.training:
            return super().forward(features)
        return F.batch_norm(features, self.running_mean, self.running_var, eps=self.eps)


class StreamFusion(nn.Module):
    """Fuse the features of two streams into one vector.

    Each channel of both is standardised first, so that neither stream counts more by its scale.
    ``'concat'`` puts them side by side. ``'balance'`` is ``[g · a, (1 − g) · b]`` with
    ``g = σ(MLP([a, b]))`` of each clip and channel: it weighs the streams against each other.

    Args:
        channels: Width C of each stream.
        kind: One of `FUSIONS`.

    Raises:
        ContrastError: If there is no such kind.
    """

    def __init__(self, channels: int, kind: str = 'concat') -> None:
        super().__init__()
        if kind not in FUSIONS:
            raise ContrastError(f'fusion must be one of {", ".join(FUSIONS)}, got {kind!r}')
        self.kind = kind
        self.first, self.second = Standardise(channels), Standardise(channels)
        if kind == 'balance':
            hidden = max(channels // 4, 8)
            self.gate = nn.Sequential(
                nn.Linear(2 * channels, hidden),
                nn.ReLU(),
                nn.Linear(hidden, channels),
                nn.Sigmoid(),
            )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Fused features (N, 2C) of two streams' (N, C)."""
        first, second = self.first(first), self.second(second)
        if self.kind == 'balance':
            share = self.gate(torch.cat([first, second], 1))
            first, second = share * first, (1 - share) * second
        return torch.cat([first, second], 1)
