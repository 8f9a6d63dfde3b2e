"""Spatiotemporal balancing fusion: adaptive graphs over joints and frames, fused in balance.

After "Identity-free Artificial Emotional Intelligence via Micro-Gesture Understanding"
(arXiv 2405.13206), whose idea this is; the equations below are this project's own.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mg_plugins.kernels import mix, pool, pool_through

#: What :class:`STBalancedFusion` can be built without.
PARTS = ('space', 'time', 'gate', 'bias')
LARGEST_HALF = torch.finfo(torch.float16).max


def unit_gain(graph: torch.Tensor, dim: int) -> torch.Tensor:
    """Divide by the sum of magnitudes along ``dim``, where sources run: no graph can amplify.

    Both graphs get the same gain this way, so that the balance compares like with like.
    """
    return graph / graph.abs().sum(dim, keepdim=True).clamp_min(1e-6)


class _PlainCheckpoint(str):
    """A missing key that brings advice into PyTorch's error of a strict load."""

    def __format__(self, _: str) -> str:
        return (
            f'{str.__str__(self)} (the checkpoint is of the plain model, without the fusion: load '
            'it with strict=False, which leaves the fusion as it is, or before plug)'
        )


class AdaptiveGraph(nn.Module):
    """A graph of each sequence's own over L nodes, joints or frames: attention plus a bias.

    ``A[i, j] = unit_gain(softmax_j(q_i·k_j / √d) + B[i, j])``, i the target and j the source;
    ``dim`` is the width d of query and key of a head, ``heads`` the number of graphs H.
    """

    def __init__(self, channels: int, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.query_key = nn.Linear(channels, 2 * heads * dim)

    def forward(self, pooled: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Graph (N, H, L, L), target by source, from pooled (N, C, L) and bias (H, L, L)."""
        n, channels, length = pooled.shape
        both = self.query_key(pooled.transpose(1, 2).reshape(n * length, channels))
        both = both.view(n, length, 2, self.heads, self.dim).permute(2, 0, 3, 1, 4)
        query, key = both.reshape(2, n * self.heads, length, self.dim)
        scores = torch.bmm(query / math.sqrt(self.dim), key.transpose(1, 2))
        if scores.dtype == torch.float16:  # inf in two places of a row would make NaN of it
            scores = scores.clamp(-LARGEST_HALF, LARGEST_HALF)
        attention = scores.view(n, self.heads, length, length).softmax(3)
        return unit_gain(attention + bias, 3)


class STBalancedFusion(nn.Module):
    """Fuse what a sequence's joints and what its frames have to say, channel by channel.

    1. pools ``xs = mean_T x``, ``xt = mean_V x``;
    2. graphs ``As`` over joints and ``At`` over frames (:class:`AdaptiveGraph`), with a learned
       joint bias (V, V) and a learned bias over frame offsets, clamped at ±window, so any T works;
    3. balance ``g = σ(MLP([GAP(x·As), GAP(At·x)]))`` in (0, 1), from the pools alone, because both
       averages are linear in them;
    4. ``y = x + a·(x·As) + b·(At·x)`` with ``a = γs·g`` and ``b = γt·(1 − g)``.

    γs and γt start at 0: in a trained backbone nothing changes until the fusion learns. Their sign
    is free, so a channel may subtract its temporal context and keep what is brief.

    What is no positive size, or fits no V joints or no heads, is a ValueError.

    Args:
        channels: C of the feature map.
        num_joints: V of the feature map.
        heads: Number of graphs H of each kind; must divide ``channels``.
        reduction: Query, key and gate are ``channels / reduction`` wide in all.
        window: Largest frame offset with a bias of its own.
        gamma_scale: γs and γt are this times their parameters, so that an optimizer with normalised
            steps (Adam) moves them as much faster.
        graph: Joint graph (V, V), source by target, that the joint bias starts from, else from 0.
        without: Parts to leave out, for ablation: ``'space'`` or ``'time'`` (a stream), ``'gate'``
            (half and half instead), ``'bias'`` (attention alone).
    """

    #: Index or key of the feature map in what the block before it returns; None where that is all.
    member: Any = None

    def __init__(
        self,
        channels: int,
        num_joints: int,
        *,
        heads: int = 1,
        reduction: int = 8,
        window: int = 16,
        gamma_scale: float = 5.0,
        graph: torch.Tensor | None = None,
        without: Sequence[str] = (),
    ) -> None:
        super().__init__()
        unknown = set(without) - set(PARTS)
        if unknown:
            raise ValueError(f'without must name parts out of {PARTS}, got {sorted(unknown)}')
        if gamma_scale <= 0:
            raise ValueError(f'gamma_scale must be positive, got {gamma_scale}')
        sizes = dict(channels=channels, num_joints=num_joints, heads=heads, reduction=reduction)
        for name, size in (sizes | dict(window=window)).items():
            if not isinstance(size, int) or size < 1:
                raise ValueError(f'{name} must be a positive integer, got {size!r}')
        if channels % heads:
            raise ValueError(
                f'heads={heads} does not divide channels={channels}; choose one of '
                f'{[h for h in range(1, min(channels, 16) + 1) if channels % h == 0]}'
            )
        joint_bias = torch.zeros(heads, num_joints, num_joints)
        if graph is not None:
            graph = torch.as_tensor(graph, dtype=torch.float32)
            if graph.shape != (num_joints, num_joints):
                raise ValueError(
                    f'graph must be ({num_joints}, {num_joints}), one row and column a joint, '
                    f'got {tuple(graph.shape)}'
                )
            joint_bias += unit_gain(graph.mT, 1)
        self.channels, self.num_joints = channels, num_joints
        self.heads, self.window = heads, window
        self.without, self.gamma_scale = frozenset(without), gamma_scale
        dim = max(channels // reduction // heads, 4)
        hidden = max(channels // reduction, 8)
        self.over_joints = AdaptiveGraph(channels, dim, heads)
        self.over_frames = AdaptiveGraph(channels, dim, heads)
        learned = 'bias' not in self.without
        if not learned:
            joint_bias = torch.zeros_like(joint_bias)
        self.joint_bias = nn.Parameter(joint_bias, requires_grad=learned)
        self.offset_bias = nn.Parameter(torch.zeros(heads, 2 * window + 1), requires_grad=learned)
        self.gate = nn.Sequential(
            nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid()
        )
        self.gate.requires_grad_('gate' not in self.without)
        self.gamma_s = nn.Parameter(torch.zeros(channels))
        self.gamma_t = nn.Parameter(torch.zeros(channels))

    def frame_bias(self, frames: int) -> torch.Tensor:
        """Bias (H, T, T), target frame by source frame, from the bias over frame offsets."""
        device = self.offset_bias.device
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            # A window has a fixed size; an index is computed anew for any number of frames.
            frame = torch.arange(frames, device=device)
            offset = (frame - frame[:, None]).clamp(-self.window, self.window)
            return self.offset_bias[:, offset + self.window]
        reach = torch.arange(1 - frames, frames, device=device)
        by_offset = self.offset_bias[:, reach.clamp(-self.window, self.window) + self.window]
        # Row t reads the offsets −t … T − 1 − t: a window that slides over them.
        return by_offset.unfold(1, frames, 1).flip(1)

    def balance(
        self, xs: torch.Tensor, xt: torch.Tensor, As: torch.Tensor, At: torch.Tensor
    ) -> torch.Tensor:
        """Share of space g (N, C) in (0, 1), from pools (N, C, V), (N, C, T) and both graphs."""
        n, c, v = xs.shape
        t = xt.shape[2]
        by_head = (n * self.heads, c // self.heads)
        space = torch.bmm(xs.reshape(*by_head, v), As.mean(3).view(-1, v, 1))
        time = torch.bmm(xt.reshape(*by_head, t), At.mean(2).view(-1, t, 1))
        return self.gate(torch.cat([space.view(n, c), time.view(n, c)], 1))

    def shares(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What is mixed and by how much in x (N, C, T, V), for pictures and regularisers.

        ``As`` (N, H, V, V) source by target, ``At`` (N, H, T, T) target by source, and the shares
        ``a``, ``b`` (N, C) of the spatial and the temporal stream.
        """
        return self._shares(*pool(x))

    def _shares(self, xs: torch.Tensor, xt: torch.Tensor) -> tuple[torch.Tensor, ...]:
        As = self.over_joints(xs, self.joint_bias).transpose(2, 3)
        At = self.over_frames(xt, self.frame_bias(xt.shape[2]))
        g = self.balance(xs, xt, As.to(xs.dtype), At.to(xt.dtype))
        if 'gate' in self.without:
            g = torch.full_like(g, 0.5)
        a = self.gamma_scale * self.gamma_s * g
        b = self.gamma_scale * self.gamma_t * (1 - g)
        if 'space' in self.without:
            a = a * 0.0
        if 'time' in self.without:
            b = b * 0.0
        return As, At, a, b

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fuse a feature map (N, C, T, V); the output has the same shape and type."""
        if x.dim() != 4 or x.shape[1] != self.channels or x.shape[3] != self.num_joints:
            raise ValueError(
                f'this fusion was built for (N, {self.channels}, T, {self.num_joints}), '
                f'got {tuple(x.shape)}'
            )
        x, xs, xt = pool_through(x)
        return mix(x, *self._shares(xs, xt))

    def _load_from_state_dict(self, state_dict, prefix, local, strict, missing, *rest):
        super()._load_from_state_dict(state_dict, prefix, local, strict, missing, *rest)
        # PyTorch calls this with strict=True always, so that nothing may be added to its errors.
        told = any(isinstance(key, _PlainCheckpoint) for key in missing)
        if not told and not any(key.startswith(prefix) for key in state_dict):
            name = f'{prefix}gamma_s'
            missing[:] = [_PlainCheckpoint(key) if key == name else key for key in missing]

    def extra_repr(self) -> str:
        """Sizes for ``print(module)``."""
        return (
            f'channels={self.channels}, num_joints={self.num_joints}, heads={self.heads}, '
            f'window={self.window}'
        )
