"""Datasets, transforms, samplers and metrics for MMAction2."""

from . import dataset, metrics, transforms  # noqa: F401
