"""Spotting: untrimmed recordings to segments, their metrics, pictures and exports."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        'decode': ['Decoder', 'calibrate', 'class_durations', 'decode'],
        'dense': ['DenseHead', 'dense_loss', 'frame_probabilities'],
        'features': ['RecordingFeatures'],
        'metrics': ['detection_scores', 'overlap_scores', 'spotting_scores'],
        'pictures': ['LiveView', 'display', 'draw_timeline', 'frame_ends', 'write_outputs']
        + ['write_report', 'write_video'],
        'segments': ['Segment', 'Segments', 'frame_segments', 'read_segments'],
    },
)
