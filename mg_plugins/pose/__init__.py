"""From a video to keypoints: one small interface, MediaPipe as the offline default."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        'estimate': ['Estimator', 'PoseError', 'PoseTrack', 'as_track', 'estimate_video']
        + ['fill_gaps', 'load_track', 'one_euro', 'smooth_track'],
        'mediapipe': ['HolisticEstimator'],
        'tracks': ['camera_track', 'frames_of', 'probe_video', 'read_tracks', 'skeleton_tracks']
        + ['video_track'],
    },
)
