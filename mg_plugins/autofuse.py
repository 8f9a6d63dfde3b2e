"""Import this module, and the GCN backbone of every recognizer built afterwards is a fused one.

A config imports it by ``custom_imports = dict(imports=['mg_plugins.autofuse'])``, MMAction2's own
tools by ``--cfg-options runner_type=mg_plugins.autofuse.Runner``. Backbones are fused at their
automatic positions; other options come from :func:`configure` or the environment variable
``MG_FUSE_OPTIONS='{"positions": ["gcn.3", "gcn.9"], "heads": 4}'``.
"""

import json
import os
from collections.abc import Callable
from typing import Any

from mg_plugins.openmmlab import compat, in_place_of

from .fusion import PlugError, fusions, is_fused, plug

compat.require_openmmlab()

from mmaction.models import RecognizerGCN  # noqa: E402
from mmengine.logging import print_log  # noqa: E402
from mmengine.runner import Runner  # noqa: E402  the ordinary one, named here by runner_type

__all__ = ['Runner', 'configure', 'options']

VARIABLE = 'MG_FUSE_OPTIONS'
_configured: dict[str, Any] | None = None


def configure(**chosen: Any) -> None:
    """Set the arguments of `plug` for recognizers built from now on; without any, the defaults.

    They replace what ``MG_FUSE_OPTIONS`` says.
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


@in_place_of(RecognizerGCN, '__init__')
def init_fused(build: Callable, self: RecognizerGCN, *args: Any, **kwargs: Any) -> None:
    """Let recognizers fuse their backbone after ``__init__``."""
    build(self, *args, **kwargs)
    backbone, name = self.backbone, type(self.backbone).__name__
    if is_fused(backbone) or getattr(backbone, 'stays_plain', False):
        return
    try:
        plug(backbone, **options())
    except PlugError as error:
        raise PlugError(
            f'mg_plugins.autofuse could not fuse the backbone {name}: {error}'
        ) from error
    print_log(f'mg_plugins.autofuse fused {name} after {", ".join(fusions(backbone))}', 'current')
