"""Times a train step of the main job whenever a line comes in: run as a process of its own."""

import sys
import time

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mg_plugins  # noqa: F401

from paths import ROOT

BATCH, FRAMES, JOINTS = 16, 48, 22


def main() -> None:
    """One step a line; the seconds that it took come out."""
    from mmaction.registry import MODELS

    from mg_plugins.openmmlab.launch import keep_memory
    from mg_plugins.openmmlab.synthetic_data import shorten

    keep_memory()
    config = Config.fromfile(ROOT / 'configs/stgcn_mgfuse_imigue.py')
    shorten(config)
    init_default_scope('mmaction')
    model = MODELS.build(config.model).train()
    optimizer = torch.optim.AdamW(model.parameters())
    clips = torch.randn(BATCH, 1, FRAMES, JOINTS, 3)
    labels = torch.randint(0, 32, (BATCH,))

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        scores = model.cls_head(model.backbone(clips))
        torch.nn.functional.cross_entropy(scores, labels).backward()
        optimizer.step()
        return time.perf_counter() - start

    for _ in range(3):
        step()
    print('ready', flush=True)
    for _ in sys.stdin:
        print(step(), flush=True)


if __name__ == '__main__':
    main()
