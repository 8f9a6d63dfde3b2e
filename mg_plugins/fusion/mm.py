"""``type='MGFuse'`` in MMAction2's model registry: any backbone of it, with the fusion inside."""

from typing import Any

from mmaction.registry import MODELS
from torch import nn

from mg_plugins.fusion.plug import Positions, plug


@MODELS.register_module(name='MGFuse', force=True)
def build_fused_backbone(
    backbone: dict | nn.Module,
    positions: Positions = 'auto',
    example_input: Any = None,
    init_cfg: dict | list | None = None,
    **options: Any,
) -> nn.Module:
    """Build a backbone and return it, itself and not wrapped, with the fusion attached.

    In a config: ``dict(type='MGFuse', backbone=dict(type='STGCN', graph_cfg=…), positions='auto')``

    Because the backbone itself is returned, parameter names, checkpoints, ``init_weights`` and
    every attribute that a recognizer looks for stay what they are. It is a config or a module that
    is built already, ``example_input`` the shape of an input where that cannot be told; the rest is
    for :func:`mg_plugins.fusion.plug`. ``init_cfg`` belongs to ``backbone`` and is refused here.
    """
    if init_cfg is not None:
        raise ValueError(
            f'MGFuse got init_cfg={init_cfg!r}: put it into the backbone inside, backbone=dict(…)'
        )
    module = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
    return plug(module, positions, example_input, **options)
