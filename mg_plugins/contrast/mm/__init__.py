"""Recognizers, heads and hooks of contrastive learning for MMAction2."""

from . import (  # noqa: F401
    heads,
    hooks,
    preprocessor,
    probe_hook,
    recognizer,
    recognizers,
)
