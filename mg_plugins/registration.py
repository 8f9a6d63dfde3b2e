"""Importing this module registers everything; ``import mg_plugins`` does where OpenMMLab is."""

import functools

from mmaction.models.utils import Graph

from mg_plugins import engine, evaluation, losses  # noqa: F401
from mg_plugins.augment import transforms as augmentations  # noqa: F401
from mg_plugins.contrast import (  # noqa: F401
    followers,
    heads,
    hooks,
    preprocessor,
    probe_hook,
    recognizer,
    streams,
)
from mg_plugins.data import dataset, relayout, transforms  # noqa: F401
from mg_plugins.data.layouts import get_layout
from mg_plugins.emotion import hook  # noqa: F401
from mg_plugins.fusion import registry  # noqa: F401

UPSTREAM_LAYOUTS = ('openpose', 'nturgb+d', 'coco')


def extend_graph() -> None:
    """Let MMAction2's ``graph_cfg`` take any layout of ours: a name, a dict or a JSON file's path.

    MMAction2's ``Graph`` knows three names and bare dicts of bones; those mean what they meant.
    """
    build = Graph.__init__
    if hasattr(build, '__wrapped__'):
        return

    @functools.wraps(build)
    def init(self, layout='coco', *args, **kwargs) -> None:
        bare = isinstance(layout, dict) and 'inward' in layout
        if not bare and layout not in UPSTREAM_LAYOUTS:
            layout = get_layout(layout).graph_cfg()['layout']
        build(self, layout, *args, **kwargs)

    Graph.__init__ = init


extend_graph()
