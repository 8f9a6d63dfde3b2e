"""Losses for long-tailed sets, as plain modules."""

from .longtail import LongTailLoss, resolve_counts
from .names import NameLoss, embed_names

__all__ = ['LongTailLoss', 'NameLoss', 'embed_names', 'resolve_counts']
