"""Small plain-PyTorch models to plug into; axis letters as in the package."""

import torch
from torch import Tensor, nn

JOINTS = 5
PERSONS = 2


def chain_graph(joints: int = JOINTS) -> Tensor:
    """A chain of joints: itself, towards one end, towards the other; (3, V, V)."""
    inward = torch.diag(torch.ones(joints - 1), 1)
    return torch.stack([torch.eye(joints), inward, inward.T])


class Block(nn.Module):
    """Graph convolution over joints, then a convolution over frames; (N, C, T, V) in and out."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.gcn = nn.Conv2d(channels, out * 3, 1)
        self.tcn = nn.Conv2d(out, out, (3, 1), (stride, 1), (1, 0))
        self.norm = nn.BatchNorm2d(out)
        self.drop = nn.Dropout(0.3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        n, _, t, v = x.shape
        mixed = torch.einsum('nkctv,kvw->nctw', self.gcn(x).view(n, 3, -1, t, v), graph)
        return self.relu(self.drop(self.norm(self.tcn(mixed))))


class PlainSTGCN(nn.Module):
    """The usual ten-block ST-GCN of plain PyTorch: input (N, C, T, V, M), blocks l1 to l10."""

    def __init__(
        self, base: int = 8, classes: int = 3, joints: int = JOINTS, persons: int = PERSONS
    ) -> None:
        super().__init__()
        self.register_buffer('A', chain_graph(joints))
        self.data_bn = nn.BatchNorm1d(persons * 3 * joints)
        widths = [base] * 4 + [base * 2] * 3 + [base * 4] * 3
        for i, (before, width) in enumerate(zip([3, *widths], widths, strict=False), 1):
            setattr(self, f'l{i}', Block(before, width, stride=1 + (width > before > 3)))
        self.fc = nn.Linear(base * 4, classes)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v, m = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t))
        x = x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v)
        for i in range(1, 11):
            x = getattr(self, f'l{i}')(x, self.A)
        return self.fc(x.mean((2, 3)).view(n, m, -1).mean(1))


class BranchedBlock(nn.Module):
    """Parallel branches, added up: one (N, C, T, V) leaves it."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, out, (3, 1), 1, (d, 0), (d, 1)), nn.BatchNorm2d(out))
            for d in (1, 2, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([branch(x) for branch in self.branches]).sum(0).relu()


class SplitBlock(BranchedBlock):
    """The same, but its branches leave it separately."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(branch(x) for branch in self.branches)


class Branched(nn.Module):
    """Branched blocks in a row, input (N, C, T, V); with ``split`` the last one returns a tuple."""

    num_joints = JOINTS
    in_channels = 3

    def __init__(self, split: bool = False) -> None:
        super().__init__()
        last = SplitBlock if split else BranchedBlock
        self.blocks = nn.ModuleList([BranchedBlock(3, 8), BranchedBlock(8, 8), last(8, 16)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return (x if isinstance(x, Tensor) else sum(x)).mean((2, 3))


class Tokens(nn.Module):
    """A transformer over frames: its layers pass (N, T, C), so no fusion fits."""

    num_joints = JOINTS

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * JOINTS, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(self.embed(x.transpose(1, 2).flatten(2)))


class JointsThird(nn.Module):
    """Passes (N, C, V, T): right number of axes, wrong order."""

    num_joints = JOINTS

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(c, 8, 1), nn.ReLU()) for c in (3, 8)])

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(2, 3)
        for block in self.blocks:
            x = block(x)
        return x


class Recurrent(nn.Module):
    """Calls ``shared`` twice, with different numbers of joints."""

    num_joints = JOINTS
    in_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([BranchedBlock(3, 3), BranchedBlock(3, 3)])
        self.shared = BranchedBlock(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.shared(x).mean((2, 3)) + self.shared(x[..., :2]).mean((2, 3))


def clips(n: int = 2, frames: int = 12) -> Tensor:
    """Input for :class:`PlainSTGCN`."""
    return torch.randn(n, 3, frames, JOINTS, PERSONS)


def wake(model: nn.Module, scale: float = 0.5) -> nn.Module:
    """Set every fusion's γ to something other than 0, so that it shows in the output."""
    from mg_plugins.fusion import fusions

    with torch.no_grad():
        for fusion in fusions(model).values():
            fusion.gamma_s.fill_(scale)
            fusion.gamma_t.fill_(-scale)
    return model
