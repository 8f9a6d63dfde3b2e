"""Losses for long-tailed sets, as plain modules."""

from .longtail import LongTailLoss, NameLoss, embed_names, resolve_counts

__all__ = ['LongTailLoss', 'NameLoss', 'embed_names', 'resolve_counts']
