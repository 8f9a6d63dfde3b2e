"""Pieces of MMEngine that the tools need: mixed precision anywhere, honest names in logs."""

from contextlib import contextmanager

import torch
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from mmengine.registry import LOG_PROCESSORS, OPTIM_WRAPPERS
from mmengine.runner import LogProcessor


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
