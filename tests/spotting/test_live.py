"""The window of a webcam: picture, skeleton, the gesture of the moment, q."""

import numpy as np
import pytest

from mg_plugins.pose.estimate import Person
from mg_plugins.spotting import LiveView, Segment, Segments
from mg_plugins.spotting import pictures as room

cv2 = pytest.importorskip('cv2')


class Still:
    """Sees one person in every frame but the first."""

    name, layout = 'still', 'imigue22'

    def __call__(self, image, time):
        return [Person(np.full((22, 2), 20.0), np.ones(22))] if time else []


@pytest.fixture
def window(monkeypatch):
    shown, keys = [], []
    monkeypatch.setattr(cv2, 'imshow', lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, 'waitKey', lambda wait: keys.pop() if keys else -1)
    return shown, keys


def test_the_gestures_of_the_moment_are_shown_and_older_ones_are_not(window) -> None:
    shown, spotted = window[0], []

    def spot(track, name):
        spotted.append(track)
        end = float(track.times[-1])
        rows = [
            Segment(0, end, 'now', confidence=0.9),
            Segment(0, max(end - 1, 0.1), 'over', confidence=0.9),
        ]
        return Segments(rows, 'synthetic', end)

    view = LiveView(Still(), spot)
    red = np.full((48, 64, 3), (250, 0, 0), np.uint8)
    for t in range(300):
        assert len(view(red, t / 25)) == bool(t)
    assert view.texts == ('SYNTHETIC', 'now 0.90')
    assert len(shown) == 300 and shown[0].shape == (48, 64, 3)
    assert shown[0][..., 2].min() == 250 and not shown[0][..., 1].any(), 'blue, green, red'
    assert (shown[1] != shown[0]).any(), 'the skeleton is drawn'
    assert 20 < len(spotted) < 26, 'twice a second'
    assert spotted[-1].times[0] == 0 and spotted[-1].times[-1] == pytest.approx(8, abs=0.05)
    assert (red == (250, 0, 0)).all(), 'the estimator alone sees the frame'


def test_q_ends_as_ctrl_c_does(window) -> None:
    window[1].append(ord('q'))
    with pytest.raises(KeyboardInterrupt):
        LiveView(Still(), None)(np.zeros((48, 64, 3), np.uint8), 0.0)


def test_without_a_display_there_is_no_window(monkeypatch) -> None:
    monkeypatch.setattr(room.sys, 'platform', 'linux')
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    assert not room.display()
    monkeypatch.setenv('DISPLAY', ':0')
    monkeypatch.setattr(cv2, 'getBuildInformation', lambda: '  GUI:              NONE\n')
    assert not room.display()
    monkeypatch.setattr(cv2, 'getBuildInformation', lambda: '  GUI:              QT5\n')
    assert room.display()
