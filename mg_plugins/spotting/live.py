"""A window with the webcam's picture, the skeleton and the gesture of the moment."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from mg_plugins.data.layouts import get_layout
from mg_plugins.pose import Estimator, as_track
from mg_plugins.pose.estimate import Person
from mg_plugins.pose.video import VideoInfo

from .pictures import draw_people, labels
from .segments import Segments

#: Seconds that are spotted anew, how often, and how long a gesture that ended still counts.
CHUNK, EVERY, RECENT = 8.0, 0.5, 0.5
TITLE = 'mg_plugins: q ends'


def display() -> bool:
    """Whether there is a display for a window, and an OpenCV that opens windows."""
    import cv2

    names = ('DISPLAY', 'WAYLAND_DISPLAY')
    there = sys.platform in ('darwin', 'win32') or any(map(os.environ.get, names))
    return there and not re.search(r'GUI:\s+NONE', cv2.getBuildInformation())


class LiveView:
    """An estimator that shows each frame with what another estimator saw in it.

    The last `CHUNK` seconds are spotted every `EVERY` seconds; q ends the recording as Ctrl-C does.

    Args:
        estimator: Gives the persons.
        spot: Finds the gestures of a track.
    """

    def __init__(self, estimator: Estimator, spot: Callable[..., Segments]) -> None:
        self.estimator, self.spot = estimator, spot
        self.name, self.layout = estimator.name, estimator.layout
        self.past: deque[tuple[float, Sequence[Person]]] = deque()
        self.texts: tuple[str, ...] = ()
        self.due = EVERY

    def __call__(self, image: np.ndarray, time: float) -> Sequence[Person]:
        """Persons in one frame; the picture is shown with them."""
        import cv2
        from PIL import Image

        persons = self.estimator(image, time)
        self.past.append((time, persons))
        while self.past[0][0] < time - CHUNK:
            self.past.popleft()
        if time >= self.due:
            self.due = time + EVERY
            self.texts = self._now(image.shape[1], image.shape[0])
        picture = Image.fromarray(image)
        shape = (len(persons), get_layout(self.layout).num_joints)
        points = np.array([p.keypoint for p in persons]).reshape(*shape, 2)
        scores = np.array([p.score for p in persons]).reshape(shape)
        draw_people(picture, points, scores, get_layout(self.layout), self.texts)
        cv2.imshow(TITLE, np.asarray(picture)[..., ::-1])
        if cv2.waitKey(1) & 0xFF == ord('q'):
            signal.raise_signal(signal.SIGINT)
        return persons

    def _now(self, width: int, height: int) -> tuple[str, ...]:
        """The gestures at the end of the last seconds."""
        times, found = zip(*self.past, strict=True)
        info = VideoInfo(width, height, 30.0, 0)
        track = as_track(np.subtract(times, times[0]), found, self.layout, info).smoothed()
        segments = self.spot(track, 'camera')
        ended = track.times[-1] - RECENT
        return labels([row for row in segments if row.end >= ended], segments.source)
