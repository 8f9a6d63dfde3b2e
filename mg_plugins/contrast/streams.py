"""The second stream of a clip, and the balance of two streams."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mg_plugins.data import get_layout
from mg_plugins.data.layouts import Layout

from .losses import ContrastError

FUSIONS = ('concat', 'balance')
#: Segments of time that features are averaged in, see `pool_frames`.
SEGMENTS = 4
#: Limbs that joints are averaged in at most, see `limbs`.
LIMBS = 8


def limbs(layout: str | Mapping | Layout, most: int = LIMBS) -> tuple[int, ...]:
    """Number of the limb of each joint (V,), counted from 0.

    The skeleton is cut at its branchings, joints of three bones and more: what hangs together on
    either side of the cuts is a limb (an arm, a leg, a finger, the trunk). Where there are more
    than ``most``, the smallest joins its smallest neighbour, and so does its mirror image; parts
    that no bone links stay apart.
    """
    layout = get_layout(layout)
    bones, joints = layout.bones, range(layout.num_joints)
    degree = [sum(joint in bone for bone in bones) for joint in joints]
    limb = list(joints)

    def join(first: int, second: int) -> None:
        limb[:] = [first if number == second else number for number in limb]

    for a, b in bones:
        if (degree[a] > 2) == (degree[b] > 2):
            join(limb[a], limb[b])
    while len(set(limb)) > most:
        borders = [(a, b) for a, b in bones if limb[a] != limb[b]]
        borders += [(b, a) for a, b in borders]
        if not borders:
            break
        keep, gone = min(borders, key=lambda ends: [limb.count(limb[j]) for j in ends[::-1]])
        mirrored = layout.swap[keep], layout.swap[gone]
        for a, b in {(keep, gone), mirrored} & set(borders):
            join(limb[a], limb[b])
    numbers = {number: place for place, number in enumerate(dict.fromkeys(limb))}
    return tuple(numbers[number] for number in limb)


def pool_frames(frames: Tensor, segments: int = SEGMENTS) -> Tensor:
    """Means over equal segments of time, side by side: (N, T, C) to (N, segments · C).

    One mean over all frames forgets the order of the movement. Where T is no multiple of the
    segments, they share frames.
    """
    return F.adaptive_avg_pool1d(frames.mT, segments).mT.flatten(1)


class GraphPool(nn.Module):
    """Feature maps (N, M, C, T, V) to (N, limbs · segments · C): means over persons, joints, time.

    One mean over all joints forgets which of them moved, as one over all frames forgets when.
    ``limb`` has the number of the limb of each joint, or is the layout (name, dict or file) whose
    `limbs` they are; None takes all joints together.
    """

    def __init__(
        self, segments: int = SEGMENTS, limb: Sequence[int] | str | Mapping | Layout | None = None
    ) -> None:
        super().__init__()
        if isinstance(limb, str | Mapping | Layout):
            limb = limbs(limb)
        if limb is not None and set(limb) != set(range(len(set(limb)) or 1)):
            raise ContrastError(f'limbs must be numbered from 0 without a gap, got {tuple(limb)}')
        self.segments, self.limbs = segments, 1 if limb is None else max(limb) + 1
        share = None if limb is None else F.one_hot(torch.tensor(limb), self.limbs).float()
        self.register_buffer('share', None if share is None else share / share.sum(0), False)

    def widths(self, channels: int, dual: bool) -> dict[str, int]:
        """Width of the features of each stream, of maps with C channels; ``dual`` has a second."""
        graph, sequence = channels * self.segments * self.limbs, channels * self.segments
        found = dict(graph=graph, sequence=sequence, fused=graph + sequence)
        return found if dual else dict(graph=graph)

    def forward(self, maps: Tensor) -> Tensor:
        """Features of maps (N, M, C, T, V); other joints than the limbs' are a ContrastError."""
        if self.share is None:
            return pool_frames(maps.mean((1, 4)).mT, self.segments)
        if maps.shape[4] != len(self.share):
            raise ContrastError(
                f'the limbs are those of {len(self.share)} joints, the feature maps have '
                f'{maps.shape[4]}: give the layout of the data, or layout=None'
            )
        parts = maps.mean(1) @ self.share.to(maps.dtype)  # (N, C, T, limbs)
        pooled = pool_frames(parts.permute(0, 3, 2, 1).flatten(0, 1), self.segments)
        return pooled.view(len(maps), -1)


class GRUStream(nn.Module):
    """A bidirectional GRU over a clip's poses: it keeps the order of movement.

    The joints of each frame are laid out in one vector and batch-normalised; the GRU's outputs are
    averaged over persons and over each of ``segments`` of the frames, see `pool_frames`. An odd
    number of ``channels``, the width of these outputs, is a ContrastError.
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
        """Features (N, segments · C) of clips (N, M, T, V, C_in); feature maps are not needed."""
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

    Each channel of both is standardised first and scaled by the stream's width, so that each stream
    brings half of the variance. ``'concat'`` puts them side by side. ``'balance'`` is
    ``[g · a, (1 − g) · b]`` with ``g = σ(MLP([a, b]))`` of each clip: it weighs the streams against
    each other. ``first`` and ``second`` are the streams' widths; other kinds are a ContrastError.
    """

    def __init__(self, first: int, second: int, kind: str = 'concat') -> None:
        super().__init__()
        if kind not in FUSIONS:
            raise ContrastError(f'fusion must be one of {", ".join(FUSIONS)}, got {kind!r}')
        self.kind = kind
        self.first, self.second = Standardise(first), Standardise(second)
        self.scales = tuple(((first + second) / 2 / width) ** 0.5 for width in (first, second))
        if kind == 'balance':
            hidden = max(min(first, second) // 4, 8)
            self.gate = nn.Sequential(
                nn.Linear(first + second, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid()
            )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Fused features (N, D₁ + D₂) of two streams' (N, D₁) and (N, D₂)."""
        first, second = self.first(first) * self.scales[0], self.second(second) * self.scales[1]
        if self.kind == 'balance':
            share = self.gate(torch.cat([first, second], 1))
            first, second = share * first, (1 - share) * second
        return torch.cat([first, second], 1)
