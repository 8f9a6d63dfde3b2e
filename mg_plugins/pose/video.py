"""Frames of a video or a webcam with their presentation times, upright; needs PyAV."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mg_plugins.errors import UserError

#: Larger pictures than this are no recording of a person.
LARGEST_SIDE = 8192


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says: upright width and height, frames a second, frames (0 unknown)."""

    width: int
    height: int
    fps: float
    frames: int


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
        raise UserError(f'{path} cannot be read as a video: {_reason(error)}') from None
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
                raise UserError(f'{path} cannot be decoded: {_reason(error)}') from None
        if info is None:
            raise UserError(f'{path} holds no frame that can be decoded')


def camera_frames(number: int) -> Iterator[tuple[np.ndarray, float, VideoInfo]]:
    """Frames of a webcam until it ends or Ctrl-C, with seconds since the first."""
    import time

    import cv2

    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise UserError(f'camera {number} cannot be opened; is it there, and free?')
        began, fps = time.monotonic(), camera.get(cv2.CAP_PROP_FPS) or 30.0
        while True:
            there, image = camera.read()
            if not there:
                return
            height, width = image.shape[:2]
            seconds = time.monotonic() - began
            yield np.ascontiguousarray(image[..., ::-1]), seconds, VideoInfo(width, height, fps, 0)
    finally:
        camera.release()


def upright(image: np.ndarray, rotation: int) -> np.ndarray:
    """The picture turned counter-clockwise by a multiple of 90 degrees, as phones note it."""
    return np.ascontiguousarray(np.rot90(image, round(rotation / 90) % 4))


def _reason(error: Exception) -> str:
    return getattr(error, 'strerror', None) or str(error)
