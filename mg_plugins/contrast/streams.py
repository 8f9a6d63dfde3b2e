"""The second stream of a clip, and the balance of two streams."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .queue import ContrastError

FUSIONS = ('balance', 'mean', 'concat')


def pool_graph(maps: Tensor) -> Tensor:
    """Mean over persons, frames and joints: feature maps (N, M, C, T, V) to (N, C)."""
    return maps.mean((1, 3, 4))


class GRUStream(nn.Module):
    """A bidirectional GRU over a clip's poses: it keeps the order of movement.

    The joints of each frame are laid out in one vector and batch-normalised; the GRU's outputs are
    averaged over frames, then over persons.

    Args:
        channels: Width C of the features; even, half for each direction.
        num_joints: Joints V of a pose.
        in_channels: Values a joint.
        layers: Layers of the GRU.

    Raises:
        ContrastError: If the width is odd.
    """

    def __init__(
        self, channels: int, num_joints: int, in_channels: int = 3, layers: int = 1
    ) -> None:
        super().__init__()
        if channels % 2:
            raise ContrastError(
                f'GRUStream has channels={channels}: it must be even, half for each direction'
            )
        width = num_joints * in_channels
        self.norm = nn.BatchNorm1d(width)
        self.gru = nn.GRU(width, channels // 2, layers, batch_first=True, bidirectional=True)

    def forward(self, clips: Tensor, maps: Tensor) -> Tensor:
        """Features (N, C) of clips (N, M, T, V, C_in); feature maps are not needed.

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
        return over_time.mean(1).view(n, m, -1).mean(1)


class TemporalPooling(nn.Module):
    """The cheap second stream: the graph stream's own map, joints pooled, frames attended.

    ``s = softmax_T(w · tanh(U h))``, ``h`` the frames' features after a layer of their own.

    Args:
        channels: Width C of the feature maps and of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frame = nn.Sequential(nn.Linear(channels, channels), nn.ReLU())
        hidden = max(channels // 4, 8)
        self.attention = nn.Sequential(nn.Linear(channels, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, clips: Tensor, maps: Tensor) -> Tensor:
        """Features (N, C) of feature maps (N, M, C, T, V); clips are not needed."""
        frames = self.frame(maps.mean((1, 4)).mT)
        return (self.attention(frames).softmax(1) * frames).sum(1)


class StreamFusion(nn.Module):
    """Fuse the features of two streams into one vector.

    Both are standardised over their channels first, so that neither counts more by its scale.
    ``'balance'`` is ``[g · a, (1 − g) · b]`` with ``g = σ(MLP([a, b]))`` of each clip and channel:
    it weighs the streams against each other and keeps what each of them says. ``'concat'`` is that
    with g = ½, and ``'mean'`` adds the two halves.

    Args:
        channels: Width C of each stream.
        kind: One of `FUSIONS`.

    Raises:
        ContrastError: If there is no such kind.
    """

    def __init__(self, channels: int, kind: str = 'balance') -> None:
        super().__init__()
        self.kind = kind
        self.channels = fused_width(channels, kind)
        if kind == 'balance':
            hidden = max(channels // 4, 8)
            self.gate = nn.Sequential(
                nn.Linear(2 * channels, hidden),
                nn.ReLU(),
                nn.Linear(hidden, channels),
                nn.Sigmoid(),
            )

    def share(self, first: Tensor, second: Tensor) -> Tensor:
        """Share g (N, C) of the first stream, of two streams' features (N, C)."""
        return self._share(standardised(first), standardised(second))

    def _share(self, first: Tensor, second: Tensor) -> Tensor:
        if self.kind == 'balance':
            return self.gate(torch.cat([first, second], 1))
        return torch.full_like(first, 0.5)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Fused features (N, 2C), or (N, C) for ``'mean'``, of two streams' (N, C)."""
        first, second = standardised(first), standardised(second)
        share = self._share(first, second)
        first, second = share * first, (1 - share) * second
        return first + second if self.kind == 'mean' else torch.cat([first, second], 1)


def fused_width(channels: int, kind: str) -> int:
    """Width of what a `StreamFusion` returns, of streams of width ``channels``.

    Raises:
        ContrastError: If there is no such kind.
    """
    if kind not in FUSIONS:
        raise ContrastError(f'fusion must be one of {", ".join(FUSIONS)}, got {kind!r}')
    return channels if kind == 'mean' else 2 * channels


def standardised(features: Tensor) -> Tensor:
    """Features (N, C) with mean 0 and variance 1 over the channels of each clip."""
    return F.layer_norm(features, features.shape[1:])
