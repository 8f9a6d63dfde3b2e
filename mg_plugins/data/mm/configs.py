"""Configs as files say them, with one joint layout in all their parts."""

import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mg_plugins.data.layouts import get_layout


def read_config(path: str | os.PathLike) -> Config:
    """Read a config; its ``layout``, where it has one, is that of its graph and all transforms.

    A child config therefore brings its base to other joints by the line ``layout = 'upper46'``.
    """
    cfg = Config.fromfile(path)
    if cfg.get('layout'):
        joints = get_layout(cfg.layout).num_joints
        set_everywhere(cfg, dict(layout=cfg.layout, num_joints=joints))
    return cfg


def set_everywhere(node: Any, values: Mapping[str, Any]) -> None:
    """Replace, in place, the values of some keys wherever a config has them, not None."""
    if isinstance(node, (Config, dict)):
        for key, value in list(node.items()):
            if key in values and value is not None:
                node[key] = values[key]
            else:
                set_everywhere(value, values)
    elif isinstance(node, (list, tuple)):
        for value in node:
            set_everywhere(value, values)
