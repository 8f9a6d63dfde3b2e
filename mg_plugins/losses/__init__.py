"""Losses for long-tailed sets, as plain modules."""

from .longtail import LongTailLoss, resolve_counts

__all__ = ['LongTailLoss', 'resolve_counts']
