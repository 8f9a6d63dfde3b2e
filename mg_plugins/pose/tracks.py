"""Tracks of whatever holds a recording: a video, a webcam, skeleton files of any known format."""

import hashlib
import itertools
import re
import signal
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import numpy as np
from tqdm import tqdm

from mg_plugins.errors import UserError

from .estimate import RATE, Estimator, PoseTrack, VideoInfo, estimate_video, load_track
from .mediapipe import HolisticEstimator

VIDEOS = ('.mp4', '.mov', '.avi', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.3gp')
BAR = dict(unit='frame', disable=None, leave=False)
LARGEST_SIDE = 8192  # of a picture of a person
SOUNDS = ('.wav', '.mp3', '.m4a', '.ogg', '.flac', '.aac')


def read_tracks(
    source: Path, cache: Path, smooth: bool = False, rate: float = RATE, **skeletons: object
) -> Iterator[tuple[str, PoseTrack]]:
    """Name and track of each recording in a video, whose keypoints are kept, or skeleton files."""
    if not source.exists():
        raise UserError(f'{source} does not exist; expected a video or a skeleton recording')
    if source.suffix.lower() in (*VIDEOS, *SOUNDS):
        yield safe_name(source.stem), video_track(source, cache, rate).smoothed()
        return
    for name, track in skeleton_tracks(source, **skeletons):
        yield name, track.smoothed() if smooth else track


def video_track(source: Path, cache: Path, rate: float = RATE) -> PoseTrack:
    """Keypoints of a video at ``rate`` frames a second, from the cache where it was seen before."""
    info, state = probe_video(source), source.stat()
    key = f'{source.resolve()}|{state.st_size}|{state.st_mtime_ns}|{HolisticEstimator.name}'
    key += f'|{rate:g}' * (rate != RATE)
    path = cache / f'{safe_name(source.stem)}_{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz'
    if not path.is_file():
        bar = dict(BAR, desc=source.name, total=info.frames or None)
        with HolisticEstimator() as estimator, tqdm(frames_of(source), **bar) as frames:
            estimate_video(frames, estimator, rate=rate).save(path)
    return load_track(path)


def camera_track(
    number: int, rate: float = RATE, around: Callable[[Estimator], Estimator] | None = None
) -> PoseTrack:
    """Smoothed keypoints from webcam ``number`` until Ctrl-C; ``around`` may wrap the estimator."""
    ended = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: ended.set())
    try:
        frames = itertools.takewhile(lambda _: not ended.is_set(), camera_frames(number))
        bar = dict(BAR, desc='camera, until Ctrl-C')
        with HolisticEstimator() as estimator, tqdm(frames, **bar) as seen:
            track = estimate_video(seen, around(estimator) if around else estimator, rate=rate)
    finally:
        signal.signal(signal.SIGINT, before)
    return track.smoothed()


def skeleton_tracks(
    source: Path, size: str | None = None, layout: str | None = None, fps: float | None = None
) -> Iterator[tuple[str, PoseTrack]]:
    """Tracks of files that `mg_plugins.data` reads or wrote; the options say what they lack."""
    from mg_plugins.data.annotations import load_annotations
    from mg_plugins.data.checks import filled_scores
    from mg_plugins.data.prepare import PrepareError, prepare
    from mg_plugins.data.readers import READERS, detect
    from mg_plugins.data.readers.sources import Source

    with tempfile.TemporaryDirectory() as folder:
        path, ours = source, source.suffix in ('.pkl', '.mg')
        if source.suffix == '.npz' and zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as file:
                ours = 'record.npy' in file.namelist()
        if not ours:
            path = Path(folder) / 'recording.mg'  # mapped into memory: hours of frames need little
            kind = detect(Source(source))[0]
            known = READERS[kind].options if kind in READERS else ()
            wishes = {k: v for k, v in (('size', size), ('layout', layout)) if v and k in known}
            try:
                prepare(kind, source, path, workers=1, **wishes)
            except PrepareError as error:
                reasons = '; '.join(map(str, error.rejects[:2]))
                raise UserError(f'{source} cannot be used: {reasons or error}') from None
        try:
            content = load_annotations(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), str(source))) from None
        clips = content['annotations']
        if not (layout := layout or content['meta'].get('layout')):
            raise UserError(f'{source} does not name its joint layout: give --layout')
        if not fps and not all(clip.get('fps') for clip in clips):
            raise UserError(f'{source} does not say its frames a second: give --fps')
        for clip in clips:
            rate, times = float(fps or clip['fps']), clip.get('frame_times')
            times = np.arange(clip['total_frames']) / rate if times is None else times - times[0]
            size = tuple(clip['img_shape'][::-1]) if clip.get('img_shape') else None
            both = (np.asarray(a, np.float32) for a in (clip['keypoint'], filled_scores(clip)))
            name = safe_name(source.stem if len(clips) == 1 else clip['frame_dir'])
            yield name, PoseTrack(*both, times, layout, size, rate)


def safe_name(text: str) -> str:
    """A name that is one folder, whatever the recording is called."""
    return re.sub(r'[^\w.-]+', '_', text).strip('._') or 'recording'


def probe_video(path: Path) -> VideoInfo:
    """Size, rate and number of frames of a video, by its header and first frame."""
    return next(frames_of(path))[2]


def frames_of(path: Path) -> Iterator[tuple[np.ndarray, float, VideoInfo]]:
    """Frames (H, W, 3) RGB, upright, with seconds from the first frame and the header's facts.

    By presentation times, so variable rates keep their pace; a frame that does not come after the
    one before it is dropped. A damaged end is left out.
    """
    import av
    from av.error import FFmpegError

    try:
        container = av.open(str(path))
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UserError(f'{path} cannot be read as a video: {reason}') from None
    with container:
        if not container.streams.video:
            raise UserError(f'{path} has no video track; expected a video with a person in it')
        stream = container.streams.video[0]
        stream.thread_type = 'AUTO'
        fps = float(stream.average_rate or stream.guessed_rate or 0) or 30.0
        first = last = info = None
        try:
            for frame in container.decode(stream):
                if max(frame.width, frame.height) > LARGEST_SIDE:
                    raise UserError(f'{path}: pictures of {frame.width}x{frame.height} pixels')
                time = frame.time if frame.time is not None else (last or 0) + 1 / fps
                first = time if first is None else first
                if last is not None and time <= last:
                    continue
                last = time
                image = upright(frame.to_ndarray(format='rgb24'), int(frame.rotation))
                height, width = image.shape[:2]
                info = info or VideoInfo(width, height, fps, int(stream.frames or 0))
                yield image, time - first, info
        except (FFmpegError, OSError) as error:
            if info is None:
                raise UserError(f'{path} cannot be decoded: {error.strerror or error}') from None
        if info is None:
            raise UserError(f'{path} holds no frame that can be decoded')


def camera_frames(number: int) -> Iterator[tuple[np.ndarray, float, VideoInfo]]:
    """Frames of a webcam until it ends or Ctrl-C, with seconds since the first."""
    import cv2

    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise UserError(f'camera {number} cannot be opened; is it there, and free?')
        began, fps = monotonic(), camera.get(cv2.CAP_PROP_FPS) or 30.0
        while True:
            there, image = camera.read()
            if not there:
                return
            height, width = image.shape[:2]
            seconds = monotonic() - began
            yield np.ascontiguousarray(image[..., ::-1]), seconds, VideoInfo(width, height, fps, 0)
    finally:
        camera.release()


def upright(image: np.ndarray, rotation: int) -> np.ndarray:
    """The picture turned counter-clockwise by a multiple of 90 degrees, as phones note it."""
    return np.ascontiguousarray(np.rot90(image, round(rotation / 90) % 4))
