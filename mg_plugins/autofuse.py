"""Import this module, and the GCN backbone of every recognizer built afterwards is a fused one.

In a config, two lines over any other config are enough::

    _base_ = 'mmaction::skeleton/stgcn/stgcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-2d.py'
    custom_imports = dict(imports=['mg_plugins.autofuse'])

and without touching the config, ``--cfg-options runner_type=mg_plugins.autofuse.Runner`` makes
MMAction2's own tools import it. Backbones are fused at their automatic positions; other options
come from :func:`configure` or, as JSON, from the environment variable ``MG_FUSE_OPTIONS``::

    MG_FUSE_OPTIONS='{"positions": ["gcn.3", "gcn.9"], "heads": 4}'
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any

from mg_plugins.openmmlab import compat

from .fusion import PlugError, fusions, is_fused, plug

compat.require_openmmlab()

from mmaction.models import RecognizerGCN  # noqa: E402
from mmengine.logging import print_log  # noqa: E402

# The ordinary runner: ``runner_type=mg_plugins.autofuse.Runner`` names it here so that this module
# is imported.
from mmengine.runner import Runner  # noqa: E402

__all__ = ['Runner', 'configure', 'options']

VARIABLE = 'MG_FUSE_OPTIONS'
_configured: dict[str, Any] | None = None


def configure(**chosen: Any) -> None:
    """Set what recognizers built from now on are fused with; without arguments, the defaults again.

    Args:
        **chosen: Arguments of :func:`mg_plugins.fusion.plug` beside the model. They replace what
            ``MG_FUSE_OPTIONS`` says.
    """
    global _configured
    _configured = chosen or None


def options() -> dict[str, Any]:
    """What the next recognizer is fused with; what is no JSON object is a ValueError."""
    if _configured is not None:
        return dict(_configured)
    text = os.environ.get(VARIABLE, '').strip() or '{}'
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f'{VARIABLE} is not JSON ({error}): {text}') from error
    if not isinstance(given, dict):
        raise ValueError(f'{VARIABLE} must be a JSON object such as {{"heads": 4}}, got {text}')
    return given


def _fuse_backbone(recognizer: RecognizerGCN) -> None:
    backbone = recognizer.backbone
    if is_fused(backbone) or getattr(backbone, 'stays_plain', False):
        return
    name = type(backbone).__name__
    try:
        plug(backbone, **options())
    except PlugError as error:
        raise PlugError(
            f'mg_plugins.autofuse could not fuse the backbone {name}: {error}'
        ) from error
    print_log(f'mg_plugins.autofuse fused {name} after {", ".join(fusions(backbone))}', 'current')


def _install() -> None:
    """Let recognizers fuse their backbone after ``__init__``; once, however often imported."""
    original = RecognizerGCN.__init__
    if getattr(original, 'fuses_backbone', False):
        return

    @functools.wraps(original)
    def init(self: RecognizerGCN, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _fuse_backbone(self)

    init.fuses_backbone = True
    RecognizerGCN.__init__ = init


_install()
