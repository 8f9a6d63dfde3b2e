"""Models and hooks of contrastive learning, registered with MMAction2."""

from . import hooks, models  # noqa: F401
