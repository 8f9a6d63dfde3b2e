"""Spotting in MMEngine's terms: what is registered, and models loaded for recordings."""

from mg_plugins.spotting.mm.inference import Spotter, load_spotter
from mg_plugins.spotting.mm.recordings import MGRecordings, use_recordings
from mg_plugins.spotting.mm.training import MGSpotter, SpottingHook, SpottingMetric

__all__ = ['MGRecordings', 'MGSpotter', 'Spotter', 'SpottingHook', 'SpottingMetric']
__all__ += ['load_spotter', 'use_recordings']
