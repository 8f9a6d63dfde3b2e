"""Train step of a fused ST-GCN against its plain twin's, turn by turn.

    pytest tests/benchmarks/test_step_time.py --benchmark-only -n 0 -s

prints the ratio of the medians, of CPU time where there is no GPU. On a CPU it is the model of
``configs/stgcn_msr_action3d.py``, on a GPU ST-GCN at NTU's size under bfloat16 autocast; where
MMAction2 is not installed, a plain PyTorch network with the same stages.
"""

import statistics
import time
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from mg_plugins.fusion import fusions, plug

from paths import ROOT
from toy_models import PlainSTGCN, wake

CUDA = torch.cuda.is_available()
CLASSES = 20


def clock():
    if CUDA:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class Network(nn.Module):
    """MMAction2's ST-GCN with a linear classifier; input (N, M, T, V, C)."""

    def __init__(self, joints, persons, base):
        super().__init__()
        from mmaction.models import STGCN
        from mmengine.config import Config

        if CUDA:
            cfg = dict(graph_cfg=dict(layout='nturgb+d', mode='stgcn_spatial'), base_channels=base)
        else:
            cfg = Config.fromfile(ROOT / 'configs' / 'stgcn_msr_action3d.py').model.backbone
            cfg.pop('type')
        self.backbone = STGCN(**cfg)
        self.fc = nn.LazyLinear(CLASSES)

    def forward(self, x):
        return self.fc(self.backbone(x).mean((1, 3, 4)))


def build(fused):
    """A model in training mode, a batch for it, and its name."""
    torch.manual_seed(0)
    n, persons, frames, joints, base = (64, 2, 100, 25, 64) if CUDA else (16, 1, 48, 20, 32)
    if find_spec('mmaction'):
        from mg_plugins.openmmlab.launch import keep_memory

        keep_memory()  # as tools/train.py does
        model, name = Network(joints, persons, base), "MMAction2's ST-GCN"
        batch = torch.randn(n, persons, frames, joints, 3)
        if fused:
            plug(model.backbone)
    else:
        model = PlainSTGCN(base, CLASSES, joints, persons)
        name, batch = 'a plain PyTorch ST-GCN', torch.randn(n, 3, frames, joints, persons)
        if fused:
            plug(model)
    model = model.cuda() if CUDA else model
    batch = batch.cuda() if CUDA else batch
    with torch.no_grad():
        model(batch)  # makes the lazy classifier
    assert bool(fusions(model)) == fused
    return wake(model, 0.1).train(), batch, name


@pytest.mark.slow
@pytest.mark.benchmark(timer=clock)
def test_step(benchmark):
    times = {'plain': [], 'fused': []}

    def stepper(kind):
        model, batch, name = build(kind == 'fused')
        labels = torch.randint(CLASSES, (len(batch),), device=batch.device)
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True)

        def step():
            start = clock()
            optimizer.zero_grad()
            with torch.autocast(batch.device.type, torch.bfloat16, enabled=CUDA):
                loss = nn.functional.cross_entropy(model(batch), labels)
            loss.backward()
            optimizer.step()
            times[kind].append(clock() - start)

        return step, name, tuple(batch.shape)

    plain, name, shape = stepper('plain')
    fused, *_ = stepper('fused')
    benchmark.pedantic(fused, setup=plain, rounds=40 if benchmark.enabled else 1, warmup_rounds=3)
    about = dict(work='step', direction=name, shape=str(shape))
    about |= dict(dtype='bfloat16' if CUDA else 'float32')
    medians = {kind: statistics.median(taken[3:] or taken) for kind, taken in times.items()}
    rows = [about | dict(implementation=k, seconds=v) for k, v in medians.items()]
    benchmark.extra_info['rows'] = rows
    ratio = medians['fused'] / medians['plain']
    print(f'\n{name}: plain {1e3 * medians["plain"]:.1f} ms, fused over plain {ratio:.3f}')
