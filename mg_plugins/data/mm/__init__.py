"""Datasets, transforms, samplers and metrics for MMAction2."""

from . import dataset, metrics, relayout, sampler, transforms  # noqa: F401
