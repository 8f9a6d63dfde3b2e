"""Masked motion prediction: a small transformer over patches of joints, and what it predicts."""

import math

import torch
from torch import Tensor, nn

from .losses import ContrastError


class SkeletonTransformer(nn.Module):
    """A transformer whose tokens are single joints over a few frames each.

    It has the shape of a GCN backbone, so all that takes one takes it: recognizers, `DualStream`,
    probes. Tokens are ``channels`` C wide, divisible by ``heads``, and ``patch`` P frames long, by
    which the length of clips is divisible.
    """

    def __init__(
        self,
        num_joints: int,
        in_channels: int = 3,
        channels: int = 64,
        patch: int = 4,
        layers: int = 3,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.patch, self.channels, self.in_channels = patch, channels, in_channels
        self.norm_input = nn.BatchNorm1d(num_joints * in_channels)
        self.token = nn.Linear(patch * in_channels, channels)
        self.joint = nn.Parameter(0.02 * torch.randn(num_joints, channels))
        self.layers = transformer(channels, layers, heads)
        self.norm = nn.LayerNorm(channels)

    def patches(self, clips: Tensor) -> Tensor:
        """Input of the tokens (B, T/P · V, P · C_in), of single persons (B, T, V, C_in)."""
        b, t, v, c = clips.shape
        if t % self.patch:
            raise ContrastError(
                f'SkeletonTransformer takes patches of {self.patch} frames, which do not divide '
                f'clips of {t} frames: give MGResample another clip_len'
            )
        cut = clips.reshape(b, t // self.patch, self.patch, v, c).transpose(2, 3)
        return cut.reshape(b, -1, self.patch * c)

    def places(self, steps: int) -> Tensor:
        """Where tokens are (steps · V, C): learned for joints, sines and cosines in time."""
        half = self.channels // 2
        pace = torch.arange(half, device=self.joint.device) * (-math.log(1e3) / half)
        phase = torch.arange(steps, device=self.joint.device)[:, None] * pace.exp()
        time = torch.cat([phase.sin(), phase.cos()], 1)
        return (time[:, None] + self.joint).flatten(0, 1)

    def embed(self, clips: Tensor) -> Tensor:
        """Tokens with their places (N · M, T/P · V, C), of clips (N, M, T, V, C_in)."""
        n, m, t, v, c = clips.shape
        normed = self.norm_input(clips.reshape(-1, v * c)).view(n * m, t, v, c)
        return self.token(self.patches(normed)) + self.places(t // self.patch)

    def encode(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L, C), any choice of those of `embed`, in context."""
        return self.norm(self.layers(tokens))

    def forward(self, clips: Tensor) -> Tensor:
        """Feature maps (N, M, C, T/P, V) of clips (N, M, T, V, C_in)."""
        n, m, _, v, _ = clips.shape
        tokens = self.encode(self.embed(clips))
        return tokens.view(n, m, -1, v, self.channels).permute(0, 1, 4, 2, 3)


class MaskedMotion(nn.Module):
    """Predicts the motion of hidden tokens from the visible ones.

    After MAMP (Mao et al., "Masked Motion Predictors are Strong 3D Action Representation Learners",
    ICCV 2023), in small. Hidden is what moves most, with chance: the tokens of the largest
    ``log softmax(e / τ) + Gumbel noise``, e the motion's energy. The target is the frame-to-frame
    displacement, over its root mean square in the clip. What does not fit is a ContrastError.

    Args:
        backbone: A `SkeletonTransformer`, of which only the sizes are read.
        share: Share of the tokens that are hidden, between 0 and 1.
        layers, heads: Of the decoder.
        temperature: τ, relative to the mean energy; the larger, the more by chance.
    """

    def __init__(
        self,
        backbone: SkeletonTransformer,
        share: float = 0.8,
        layers: int = 1,
        heads: int = 4,
        temperature: float = 4.0,
    ) -> None:
        super().__init__()
        if not isinstance(backbone, SkeletonTransformer):
            raise ContrastError(
                'masked motion prediction needs a SkeletonTransformer as the backbone, got '
                f'{type(backbone).__name__}'
            )
        if not 0 < share < 1:
            raise ContrastError(f'share must be between 0 and 1, got {share}')
        self.share, self.temperature = share, temperature
        width = backbone.channels
        self.hidden = nn.Parameter(torch.zeros(width))
        self.layers = transformer(width, layers, heads)
        self.predict = nn.Linear(width, backbone.patch * backbone.in_channels)

    def forward(self, backbone: SkeletonTransformer, clips: Tensor) -> Tensor:
        """Mean squared error (scalar) over the hidden tokens of clips (N, M, T, V, C_in)."""
        target = backbone.patches(motion(clips.flatten(0, 1)))
        tokens = backbone.embed(clips)
        order = self.order(target)
        visible = order[:, int(self.share * order.shape[1]) :]
        seen = backbone.encode(take(tokens, visible))
        places = backbone.places(clips.shape[2] // backbone.patch) + self.hidden
        every = places.expand(len(tokens), -1, -1)
        every = every.scatter(1, visible[..., None].expand_as(seen), seen + take(every, visible))
        every = self.predict(self.layers(every))
        hidden = order[:, : int(self.share * order.shape[1])]
        return (take(every, hidden) - take(target, hidden)).square().mean()

    def order(self, target: Tensor) -> Tensor:
        """Tokens (B, L) in the order in which they are hidden, of their motion (B, L, P · C_in)."""
        energy = target.square().mean(2)
        energy = energy / energy.mean(1, keepdim=True).clamp_min(1e-6)
        gumbel = -torch.rand_like(energy).clamp_min(1e-9).log().clamp_min(1e-9).log()
        return (energy / self.temperature + gumbel).argsort(1, descending=True)


def transformer(channels: int, layers: int, heads: int) -> nn.Sequential:
    """Pre-norm transformer layers over tokens (B, L, channels), without dropout."""
    options = dict(dropout=0.0, activation='gelu', batch_first=True, norm_first=True)
    sizes = channels, heads, 2 * channels
    return nn.Sequential(*(nn.TransformerEncoderLayer(*sizes, **options) for _ in range(layers)))


def motion(clips: Tensor) -> Tensor:
    """Displacement to the next frame, 0 at the end, over its root mean square: (B, T, V, C)."""
    moved = clips.diff(dim=1, append=clips[:, -1:])
    return moved / moved.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens (B, n, D) at ``index`` (B, n), of (B, L, D)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))
