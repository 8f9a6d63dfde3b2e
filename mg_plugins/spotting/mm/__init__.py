"""Spotting in MMEngine's terms: what is registered, and models loaded for recordings."""

from .models import MGSpotter, Spotter, SpottingHook, SpottingMetric, load_spotter
from .recordings import MGRecordings, use_recordings

__all__ = ['MGRecordings', 'MGSpotter', 'Spotter', 'SpottingHook', 'SpottingMetric']
__all__ += ['load_spotter', 'use_recordings']
