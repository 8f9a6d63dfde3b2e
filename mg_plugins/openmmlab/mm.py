"""Importing this module registers everything; ``import mg_plugins`` does where OpenMMLab is.

Its own are pieces of MMEngine that the tools need: mixed precision anywhere, honest names in logs.
"""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from mmaction.models.utils import Graph
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from mmengine.registry import LOG_PROCESSORS, OPTIM_WRAPPERS
from mmengine.runner import LogProcessor

import mg_plugins.augment.mm
import mg_plugins.contrast.mm
import mg_plugins.data.mm
import mg_plugins.emotion.mm
import mg_plugins.fusion.mm
import mg_plugins.losses.mm
import mg_plugins.spotting.mm  # noqa: F401
from mg_plugins.data.layouts import get_layout
from mg_plugins.openmmlab import in_place_of


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Forward in bfloat16 autocast, on a CPU as well as on a GPU; no loss scaling is needed.

    MMEngine's ``AmpOptimWrapper`` refuses to run without an accelerator. Weights, gradients and
    optimizer state stay float32.
    """

    @contextmanager
    def optim_context(self, model: torch.nn.Module):
        """Autocast around the forward pass of ``model``."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


@MODELS.register_module(name='MGPlain')
def build_plain_backbone(backbone: dict) -> torch.nn.Module:
    """Build a backbone and return it, itself and not wrapped, closed to ``mg_plugins.autofuse``."""
    module = MODELS.build(backbone)
    module.stays_plain = True
    return module


@LOG_PROCESSORS.register_module()
class SyntheticLogProcessor(LogProcessor):
    """Puts the word synthetic before every figure of training that is logged."""

    def _collect_scalars(self, *args: object, **kwargs: object) -> dict:
        """Scalars of one mode, renamed; timings and learning rates keep their names."""
        plain = ('lr', 'base_lr', 'time', 'data_time', 'grad_norm')
        tags = super()._collect_scalars(*args, **kwargs)
        return {
            k if k in plain or k.startswith('synthetic') else f'synthetic_{k}': v
            for k, v in tags.items()
        }


@in_place_of(Graph, '__init__')
def init_graph(build: Callable, self: Graph, layout: Any = 'coco', *args: Any, **kwargs: Any):
    """Let MMAction2's ``graph_cfg`` take any layout of ours: a name, a dict or a JSON file's path.

    MMAction2's ``Graph`` knows three names and bare dicts of bones; those mean what they meant.
    """
    bare = isinstance(layout, dict) and 'inward' in layout
    if not bare and layout not in ('openpose', 'nturgb+d', 'coco'):
        layout = get_layout(layout).graph_cfg()['layout']
    build(self, layout, *args, **kwargs)
