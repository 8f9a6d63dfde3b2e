"""From a video to keypoints: one small interface, MediaPipe as the offline default."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        'estimate': [
            'Estimator',
            'PoseError',
            'PoseTrack',
            'as_track',
            'estimate_video',
            'load_track',
        ],
        'mediapipe': ['HolisticEstimator'],
        'smooth': ['fill_gaps', 'one_euro', 'smooth_track'],
        'tracks': ['camera_track', 'read_tracks', 'skeleton_tracks', 'video_track'],
        'video': ['frames_of', 'probe_video'],
    },
)
