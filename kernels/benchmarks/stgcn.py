"""Train steps of plain and fused ST-GCN: MMAction2's where it is installed, else the one here."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from mg_plugins import compat
from mg_plugins.fusion import fusions, plug

from . import clock
from .cases import EagerFusion, own_path


class Sizes(NamedTuple):
    """A training set-up: ``clips`` of ``persons``, ``frames`` and ``joints``, and the network's
    width and depth; ``wider`` names the stages (from 1) that double the channels and halve the
    frames."""

    clips: int
    persons: int
    frames: int
    joints: int
    base: int
    stages: int
    wider: tuple[int, ...]
    classes: int


#: ST-GCN on NTU, its usual ten stages, and the small one of the project's MSR-Action3D config.
NTU_STEP = Sizes(64, 2, 100, 25, 64, 10, (5, 8), 60)
SMALL_STEP = Sizes(16, 1, 48, 20, 32, 6, (3, 5), 20)


class Stage(nn.Module):
    """A stage of ST-GCN: three graph convolutions over joints, one convolution over 9 frames.

    After "Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition"
    (arXiv 1801.07455): learned weights on the edges, batch norm, a residual connection.
    """

    def __init__(self, inputs: int, outputs: int, graph: torch.Tensor, stride: int, residual: bool):
        super().__init__()
        self.register_buffer('graph', graph.clone())
        self.edges = nn.Parameter(torch.ones_like(graph))
        self.widen = nn.Conv2d(inputs, outputs * len(graph), 1)
        self.over_joints = nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU())
        self.over_frames = nn.Sequential(
            nn.Conv2d(outputs, outputs, (9, 1), (stride, 1), (4, 0)), nn.BatchNorm2d(outputs)
        )
        self.residual = None
        if residual:
            same = inputs == outputs and stride == 1
            self.residual = (
                nn.Identity()
                if same
                else nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, (stride, 1)), nn.BatchNorm2d(outputs)
                )
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V) to (N, C', T / stride, V)."""
        wide = self.widen(x).unflatten(1, (len(self.graph), -1))
        mixed = torch.einsum('nkctv,kvw->nctw', wide, self.graph * self.edges)
        y = self.over_frames(self.over_joints(mixed.contiguous()))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class PlainSTGCN(nn.Module):
    """ST-GCN in plain PyTorch, for machines without MMAction2.

    The skeleton is a chain, of which joint 0 is the centre: which joints are bound makes no
    difference to the time of a step.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        joints = sizes.joints
        self.num_joints = joints
        inward = torch.diag(torch.ones(joints - 1), 1)
        graph = torch.stack([torch.eye(joints), inward, inward.T])
        self.normalise = nn.BatchNorm1d(3 * joints)
        stages, channels = [], sizes.base
        for number in range(1, sizes.stages + 1):
            before, wider = (3 if number == 1 else channels), number in sizes.wider
            channels *= 1 + wider
            stages.append(Stage(before, channels, graph, 1 + wider, residual=number > 1))
        self.stages = nn.ModuleList(stages)
        self.classify = nn.Linear(channels, sizes.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes) of clips (N, M, T, V, 3)."""
        n, m, t, v, c = x.shape
        x = x.permute(0, 1, 3, 4, 2).reshape(n * m, v * c, t)
        x = self.normalise(x).view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()
        for stage in self.stages:
            x = stage(x)
        return self.classify(x.mean((2, 3)).view(n, m, -1).mean(1))


class OpenMMLabSTGCN(nn.Module):
    """MMAction2's ST-GCN with a linear classifier, called like :class:`PlainSTGCN`."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        from mmaction.models import STGCN

        layout = {20: 'msr_action3d', 25: 'nturgb+d'}[sizes.joints]
        self.backbone = STGCN(
            graph_cfg=dict(layout=layout, mode='stgcn_spatial'),
            base_channels=sizes.base,
            num_person=sizes.persons,
            num_stages=sizes.stages,
            inflate_stages=list(sizes.wider),
            down_stages=list(sizes.wider),
        )
        self.classify = nn.Linear(sizes.base * 2 ** len(sizes.wider), sizes.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes) of clips (N, M, T, V, 3)."""
        return self.classify(self.backbone(x).mean((1, 3, 4)))


def model_name() -> str:
    """Whose ST-GCN the steps use."""
    return 'plain PyTorch' if compat.openmmlab_problem() else 'MMAction2'


def build(sizes: Sizes, kind: str, device: torch.device, seed: int) -> nn.Module:
    """A network in training mode.

    Args:
        sizes: Set-up.
        kind: ``'plain'``, ``'fused'`` (by the package's own choice of kernels) or
            ``'fused, eager'`` (the plain PyTorch form of the fusion).
        device: Where it lives.
        seed: Equal seeds give equal weights to everything that the kinds have in common.
    """
    torch.manual_seed(seed)
    model = PlainSTGCN(sizes) if compat.openmmlab_problem() else OpenMMLabSTGCN(sizes)
    if kind != 'plain':
        plug(model, example_input=(1, sizes.persons, 16, sizes.joints, 3))
    for fusion in fusions(model).values():
        nn.init.normal_(fusion.gamma_s, std=0.1)
        nn.init.normal_(fusion.gamma_t, std=0.1)
        if kind == 'fused, eager':
            fusion.__class__ = EagerFusion
    return model.to(device).train()


def stepper(
    sizes: Sizes, kind: str, dtype: torch.dtype, device: torch.device, seed: int
) -> Callable[[Any], Any]:
    """A train step: forward, cross-entropy, backward, SGD.

    Args:
        sizes: Set-up.
        kind: As in :func:`build`.
        dtype: float32, or a half type for autocast to it.
        device: Where it runs.
        seed: Of weights and batches.
    """
    model = build(sizes, kind, device, seed)
    shape = (sizes.clips, sizes.persons, sizes.frames, sizes.joints, 3)
    # One batch is enough: what passes between the layers is far larger than any cache.
    batch = torch.randn(shape, device=device)
    labels = torch.randint(sizes.classes, (sizes.clips,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    half = dtype != torch.float32
    # Weights cast once a step are not kept for the next: a captured step must cast its own.
    autocast = torch.autocast(device.type, dtype, enabled=half, cache_enabled=False)

    def step(_):
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = nn.functional.cross_entropy(model(batch), labels)
        loss.backward()
        optimizer.step()

    return step


def contenders(
    sizes: Sizes, dtype: torch.dtype, device: torch.device, seed: int
) -> tuple[list[clock.Contender], dict[str, str]]:
    """Plain, fused and eagerly fused steps, warmed up, and what could not be captured."""
    found, failed = [], {}
    cuda = device.type == 'cuda'
    for kind in ('plain', 'fused, eager', 'fused') if cuda else ('plain', 'fused'):
        step = stepper(sizes, kind, dtype, device, seed)
        if kind == 'fused' and cuda and own_path(device, lambda step=step: step(None)) != 'triton':
            failed[kind] = 'Triton did not take it, the figures are of PyTorch'
        one = clock.Contender(kind, False, step, clock.nothing, 1)
        one.peak_bytes = clock.peak_bytes(device, lambda step=step: step(None))
        for _ in range(clock.WARM_UPS):
            step(None)
        found.append(one)
        if cuda:
            try:
                twin = clock.graphed(kind, clock.nothing, step, 1, prepared=False)
                twin.peak_bytes = one.peak_bytes
                found.append(twin)
            except Exception as error:
                failed[f'{kind}, graph'] = f'{type(error).__name__}: {error}'.splitlines()[0][:200]
        gc.collect()
    return found, failed
