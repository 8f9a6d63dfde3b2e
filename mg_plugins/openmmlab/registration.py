"""Importing this module registers everything; ``import mg_plugins`` does where OpenMMLab is."""

import functools

from mmaction.models.utils import Graph

import mg_plugins.augment.mm
import mg_plugins.contrast.mm
import mg_plugins.data.mm
import mg_plugins.emotion.mm
import mg_plugins.fusion.mm
import mg_plugins.losses.mm
import mg_plugins.openmmlab.mm
import mg_plugins.spotting.mm  # noqa: F401
from mg_plugins.data.layouts import get_layout

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
