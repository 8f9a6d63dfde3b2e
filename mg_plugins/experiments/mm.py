"""What the fusion is compared with: CTR-GCN in small, and SF-Head's idea, as ``type='SFHead'``.

A config names this module among its ``custom_imports``; nothing else needs it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmaction.models.utils import Graph
from mmaction.registry import MODELS
from torch import Tensor, nn


class _Refined(nn.Module):
    """Graph convolution whose graph differs by channel (Chen et al., ICCV 2021, equations 5 to 8).

    ``A_k + α·W(tanh(q_i − k_j))`` for each of the K graphs, q and k of the mean over frames.
    """

    def __init__(self, channels: int, out: int, graph: Tensor) -> None:
        super().__init__()
        kinds, width = len(graph), max(channels // 8, 8)
        self.graph = nn.Parameter(graph[:, None].clone())
        self.query_key = nn.Conv1d(channels, 2 * kinds * width, 1)
        self.refine = nn.Conv2d(kinds * width, kinds * out, 1, groups=kinds)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.value = nn.Conv2d(channels, kinds * out, 1)
        self.norm = nn.BatchNorm2d(out)
        self.down = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, V) to (N, C', T, V)."""
        n, _, frames, joints = x.shape
        query, key = self.query_key(x.mean(2)).chunk(2, 1)
        refined = self.refine(torch.tanh(query[..., None] - key[..., None, :]))
        graph = self.graph + self.alpha * refined.view(n, len(self.graph), -1, joints, joints)
        values = self.value(x).view(n, len(self.graph), -1, frames, joints)
        mixed = torch.einsum('nkcij,nkctj->ncti', graph, values)
        return torch.relu(self.norm(mixed) + self.down(x))


class _Temporal(nn.Module):
    """Four branches of a quarter of the channels: two dilated convolutions, a maximum, a 1 × 1."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        width, step = channels // 4, (stride, 1)

        def branch(*after: nn.Module, step: tuple = (1, 1)) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(channels, width, 1, step), nn.BatchNorm2d(width), *after)

        dilated = [
            nn.Conv2d(width, width, (5, 1), step, (2 * rate, 0), (rate, 1)) for rate in (1, 2)
        ]
        self.branches = nn.ModuleList(
            [branch(nn.ReLU(), conv, nn.BatchNorm2d(width)) for conv in dilated]
            + [branch(nn.ReLU(), nn.MaxPool2d((3, 1), step, (1, 0)), nn.BatchNorm2d(width))]
            + [branch(step=step)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, V) to (N, C, T / stride, V)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class _Block(nn.Module):
    def __init__(self, channels: int, out: int, graph: Tensor, stride: int, first: bool) -> None:
        super().__init__()
        self.gcn = _Refined(channels, out, graph)
        self.tcn = _Temporal(out, stride)
        self.first = first  # coordinates are not added to features
        same = first or (channels == out and stride == 1)
        self.residual = nn.Identity() if same else nn.Conv2d(channels, out, 1, (stride, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, V) to (N, C', T / stride, V)."""
        fused = self.tcn(self.gcn(x))
        return torch.relu(fused if self.first else fused + self.residual(x))


@MODELS.register_module()
class SmallCTRGCN(nn.Module):
    """A backbone in plain PyTorch with the structure of CTR-GCN, in the sizes of MMAction2's STGCN.

    The graphs (K, V, V) of MMAction2's ``Graph`` (``graph_cfg``) are learned on from. Blocks are
    counted from 1: some double the channels, some halve the frames; ``base_channels`` is a multiple
    of 4.
    """

    def __init__(
        self,
        graph_cfg: dict,
        in_channels: int = 3,
        base_channels: int = 64,
        num_stages: int = 10,
        inflate_stages: Sequence[int] = (5, 8),
        down_stages: Sequence[int] = (5, 8),
        num_person: int = 2,
    ) -> None:
        super().__init__()
        graph = torch.as_tensor(Graph(**graph_cfg).A, dtype=torch.float32)
        self.register_buffer('A', graph)
        self.data_bn = nn.BatchNorm1d(num_person * in_channels * graph.shape[-1])
        blocks, channels, out = [], in_channels, base_channels
        for stage in range(1, num_stages + 1):
            out *= 1 + (stage in inflate_stages)
            stride = 1 + (stage in down_stages)
            blocks.append(_Block(channels, out, graph, stride, first=stage == 1))
            channels = out
        self.gcn = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, M, C', T', V) of clips (N, M, T, V, C)."""
        n, m, t, v, c = x.shape
        x = self.data_bn(x.permute(0, 1, 3, 4, 2).reshape(n, m * v * c, t))
        x = x.view(n * m, v, c, t).permute(0, 2, 3, 1)
        for block in self.gcn:
            x = block(x)
        return x.view(n, m, *x.shape[1:])


class SFHead(nn.Module):
    """The idea of SF-Head (arXiv 2412.14833), between graph and temporal convolution, in small.

    Channels, a multiple of 4·G and of 8, are cut into G groups of four quarters. One is scaled by
    its mean over the map (``time``), one by its normalised self (``space``), one (``both``) is
    replaced by a learned mix of itself and of attention across (T, C), (C, V) and (T, V), the last
    passes. The two auxiliary losses of the paper, of redundancy and consistency, are left out.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        width = channels // groups // 4
        if not width or channels % (4 * groups):
            raise ValueError(f'SFHead: channels={channels} is no multiple of {4 * groups}')
        self.groups = groups
        self.scales = nn.Parameter(torch.zeros(2, width, 1, 1))
        self.shifts = nn.Parameter(torch.ones(2, width, 1, 1))
        self.norm = nn.GroupNorm(width, width)
        self.attend = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1))
            for _ in range(3)
        )
        self.weights = nn.Parameter(torch.zeros(4))

    def _attention(self, number: int, x: Tensor, squeezed: int) -> Tensor:
        pools = torch.stack([x.amax(squeezed), x.mean(squeezed)], 1)
        return x * torch.sigmoid(self.attend[number](pools)).squeeze(1).unsqueeze(squeezed)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, V) to one of the same shape."""
        n, c, t, v = x.shape
        time, both, space, rest = x.reshape(n * self.groups, -1, t, v).chunk(4, 1)
        gate = torch.sigmoid(self.scales[0] * time.mean((2, 3), keepdim=True) + self.shifts[0])
        time = time * gate
        space = space * torch.sigmoid(self.scales[1] * self.norm(space) + self.shifts[1])
        views = [(time, 2), (space, 3), (both, 1)]
        mixed = [self._attention(i, part, axis) for i, (part, axis) in enumerate(views)]
        weights = self.weights.softmax(0)
        both = sum(w * part for w, part in zip(weights, [*mixed, both], strict=True))
        x = torch.cat([time, space, both, rest], 1).view(n, 2, c // 2, t, v)
        return x.transpose(1, 2).reshape(n, c, t, v)


@MODELS.register_module(name='SFHead')
def build_with_sf_head(backbone: dict, groups: int = 8, **_: Any) -> nn.Module:
    """Build a backbone whose blocks have ``gcn`` and ``tcn``, with an `SFHead` between the two."""
    module = MODELS.build(backbone)
    module.stays_plain = True
    for block in list(module.modules()):
        if isinstance(getattr(block, 'gcn', None), nn.Module) and hasattr(block, 'tcn'):
            norm = next(m for m in block.tcn.modules() if isinstance(m, nn.Conv2d))
            block.gcn = nn.Sequential(block.gcn, SFHead(norm.in_channels, groups))
    return module
