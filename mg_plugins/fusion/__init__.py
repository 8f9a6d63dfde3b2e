"""Spatiotemporal balancing fusion, and how to put it into a model. Needs torch alone."""

from .module import STBalancedFusion
from .plug import PlugError, fusions, is_fused, plug, unplug

__all__ = ['PlugError', 'STBalancedFusion', 'fusions', 'is_fused', 'plug', 'unplug']
