"""Datasets, transforms, samplers and metrics for MMAction2."""

from . import dataset, metrics, sampler, transforms  # noqa: F401
