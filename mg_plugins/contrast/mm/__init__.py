"""Recognizers, heads, streams and hooks of contrastive learning, registered with MMAction2."""

from mmaction.registry import MODELS

from mg_plugins.contrast.masked import SkeletonTransformer
from mg_plugins.contrast.streams import GRUStream

from . import (  # noqa: F401
    heads,
    hooks,
    preprocessor,
    probe_hook,
    recognizer,
    recognizers,
)

MODELS.register_module(module=SkeletonTransformer)
MODELS.register_module(module=GRUStream)
