"""Keypoints from frames: mapping, hands, gaps, smoothing, times and rotation."""

import signal
from fractions import Fraction

import numpy as np
import pytest

from mg_plugins.errors import UserError
from mg_plugins.pose import estimate_video, fill_gaps, frames_of, load_track, one_euro, probe_video
from mg_plugins.pose.estimate import Person, VideoInfo
from mg_plugins.pose.mediapipe import assign_hands, imigue22
from mg_plugins.pose.tracks import upright

av = pytest.importorskip('av')


def body(visibility=0.9):
    points = np.zeros((33, 3), np.float32)
    points[:, 0] = np.linspace(0.1, 0.9, 33)
    points[:, 1] = 0.5
    points[:, 2] = visibility
    return points


def hand(x):
    return np.stack([np.full(21, x), np.linspace(0.4, 0.6, 21)], 1).astype(np.float32)


def test_joints_are_those_of_imigue() -> None:
    from mg_plugins.data.layouts import get_layout

    landmarks = body()
    person = imigue22(landmarks, hand(0.3), None, (640, 360))
    joints = get_layout('imigue22').joints
    assert len(joints) == len(person.keypoint)
    np.testing.assert_allclose(person.keypoint[0], landmarks[0, :2] * (640, 360))
    np.testing.assert_allclose(person.keypoint[1], landmarks[[11, 12], :2].mean(0) * (640, 360))
    np.testing.assert_allclose(person.keypoint[4], landmarks[16, :2] * (640, 360))
    assert person.score[12:17].all() and not person.score[17:].any()
    assert not person.keypoint[17:].any()


def test_invisible_and_outside_joints_are_missing() -> None:
    landmarks = body()
    landmarks[15, 2], landmarks[13, 1] = 0.3, 1.4
    person = imigue22(landmarks, None, None, (640, 360))
    assert person.score[7] == 0 and person.score[6] == 0 and person.score[4] > 0
    assert imigue22(body(0.2), None, None, (640, 360)) is None
    assert imigue22(None, None, None, (640, 360)) is None


def test_labels_of_hands_are_mirrored_and_wrists_have_the_last_word() -> None:
    first, second = hand(0.1), hand(0.9)
    assert assign_hands([('Left', first)], None)['right'] is first
    landmarks = body()
    landmarks[16, :2], landmarks[15, :2] = (0.9, 0.4), (0.1, 0.4)
    both = assign_hands([('Left', first), ('Right', second)], landmarks)
    assert both['left'] is first and both['right'] is second
    assert len(assign_hands([('Left', first), ('Left', second)], None)) == 2


def test_short_gaps_are_filled_and_longer_ones_are_not() -> None:
    times = np.arange(40) / 20
    keypoint = np.stack([times, 2 * times], -1)[:, None] + 1
    score = np.ones((40, 1))
    for gap in (slice(5, 10), slice(20, 26)):  # 0.3 s and 0.35 s from frame to frame
        keypoint[gap], score[gap] = 0, 0
    filled, scores = fill_gaps(keypoint, score, times)
    np.testing.assert_allclose(filled[5:10, 0, 0], times[5:10] + 1)
    assert scores[5:10].all()
    assert not filled[20:26].any() and not scores[20:26].any()
    ends = fill_gaps(keypoint[20:30], score[20:30], times[20:30])
    assert not ends[1][:6].any()


def test_filter_smooths_rest_follows_motion_and_starts_anew_after_a_gap() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(200) / 30
    still = 1 + rng.normal(0, 0.01, (200, 1, 2))
    score = np.ones((200, 1))
    assert one_euro(still, score, times)[50:].std() < 0.6 * still[50:].std()
    quick = np.where(times[:, None, None] < 3, 1.0, 2.0) * np.ones((200, 1, 2))
    after = np.searchsorted(times, 3.1)
    assert abs(one_euro(quick, score, times)[after] - 2).max() < 0.15
    gap = still.copy()
    gap[90:110], score[90:110] = 0, 0
    smooth = one_euro(gap, score, times)
    assert not smooth[90:110].any()
    np.testing.assert_allclose(smooth[110], gap[110], rtol=1e-6)


@pytest.mark.slow
def test_smoothing_lowers_the_error_of_the_synthetic_sensor() -> None:
    """Against the exact joints of the same clips."""
    from mg_plugins.data.layouts import get_layout
    from mg_plugins.data.synthetic import make_synthetic
    from mg_plugins.pose import smooth_track

    clips = dict(clips=24, subjects=4, sessions=1)
    noisy, exact = (make_synthetic(noise=n, **clips)[1] for n in (1.0, 0.0))
    raw, better = [], []
    for a, b in zip(noisy, exact, strict=True):
        assert a['frame_dir'] == b['frame_dir']
        times = np.arange(a['total_frames']) / a['fps']
        score = a['keypoint_score']
        smooth, filled = smooth_track(a['keypoint'], score, times, get_layout('imigue22'))
        there = score > 0
        raw.append((a['keypoint'] - b['keypoint'])[there] ** 2)
        better.append((smooth - b['keypoint'])[there] ** 2)
    raw, better = (np.sqrt(np.concatenate(x).mean()) for x in (raw, better))
    assert better < raw, f'{better:.2f} pixels after smoothing, {raw:.2f} before'


def write_video(path, times, size=(64, 48), rotation=None):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            image = np.full((size[1], size[0], 3), 10 * number % 255, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_times_are_presentation_times(tmp_path) -> None:
    times = [0, 0.04, 0.08, 0.5, 0.54, 1.2]
    write_video(tmp_path / 'a.mp4', times)
    found = [time for _, time, _ in frames_of(tmp_path / 'a.mp4')]
    np.testing.assert_allclose(found, times, atol=2e-3)
    info = probe_video(tmp_path / 'a.mp4')
    assert (info.width, info.height) == (64, 48)


def test_phones_pictures_are_turned_upright() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = 255  # top left
    assert upright(image, 0)[0, 0].all()
    assert upright(image, 90).shape == (3, 2, 3) and upright(image, 90)[2, 0].all()
    assert upright(image, -90)[0, 1].all() and upright(image, 180)[1, 2].all()


@pytest.mark.parametrize('content', [b'', b'no video at all' * 100, None])
def test_what_is_no_video_gives_a_sentence(tmp_path, content) -> None:
    path = tmp_path / 'a.mp4'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match='a.mp4'):
        list(frames_of(path))


def test_an_audio_file_gives_a_sentence(tmp_path) -> None:
    import wave

    with wave.open(str(tmp_path / 'a.wav'), 'wb') as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    with pytest.raises(UserError, match='no video track'):
        list(frames_of(tmp_path / 'a.wav'))


class Two:
    """An estimator that sees one person always and another one sometimes."""

    name, layout = 'two', 'imigue22'

    def __call__(self, image, time):
        persons = [Person(np.full((22, 2), time + 1), np.ones(22), 7)]
        if time > 0.5:
            persons.append(Person(np.full((22, 2), 50), np.ones(22), 3))
        return persons


def test_tracks_become_persons_and_are_read_again(tmp_path) -> None:
    frames = [(np.zeros((4, 6, 3), np.uint8), t / 10, VideoInfo(6, 4, 10, 10)) for t in range(10)]
    track = estimate_video(frames, Two())
    assert track.keypoint.shape == (2, 10, 22, 2) and track.size == (6, 4)
    assert track.fps == pytest.approx(10)
    assert not track.score[1, :6].any() and track.score[1, 6:].all()
    track.save(tmp_path / 'a.npz')
    again = load_track(tmp_path / 'a.npz')
    np.testing.assert_array_equal(again.keypoint, track.keypoint)
    assert again.layout == 'imigue22' and again.size == (6, 4)
    (tmp_path / 'a.npz').write_bytes(b'x')
    with pytest.raises(UserError, match='holds no keypoints'):
        load_track(tmp_path / 'a.npz')


@pytest.mark.parametrize('fps, rate, estimated', [
    (24, 30, 24), (30, 30, 30), (50, 30, 25), (60, 30, 30), (24, 12, 12), (30, 10, 10),
])  # fmt: skip
def test_frames_beyond_the_rate_are_interpolated(fps, rate, estimated) -> None:
    rng, images = np.random.default_rng(0), np.zeros((fps + 1, 4, 6, 3), np.uint8)
    jitter = rng.uniform(-0.1, 0.1, fps + 1) / fps
    times = np.arange(fps + 1) / fps + jitter - jitter[0]
    frames = [(image, t, VideoInfo(6, 4, fps, 0)) for image, t in zip(images, times, strict=True)]
    two = Two()
    seen = []
    two_calls = lambda image, time: seen.append(time) or two(image, time)  # noqa: E731
    two_calls.layout = two.layout
    track = estimate_video(frames, two_calls, rate=rate)
    assert len(seen) == estimated + 1 and track.keypoint.shape[1] == fps + 1
    keypoint, score = fill_gaps(track.keypoint[0], track.score[0], track.times)
    assert score.all()
    np.testing.assert_allclose(keypoint[:, 0, 0], times + 1, atol=1e-5)


@pytest.fixture
def webcam(tmp_path, monkeypatch):
    """A webcam that shows a red file of 12 frames; opens what OpenCV opens."""
    cv2 = pytest.importorskip('cv2')
    with av.open(str(tmp_path / 'red.mp4'), 'w') as container:
        stream = container.add_stream('mpeg4', rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        red = np.full((48, 64, 3), (250, 0, 0), np.uint8)
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format='rgb24')))
        container.mux(stream.encode())
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, 'VideoCapture', lambda n: capture(str(tmp_path / 'red.mp4')))


class Watcher(Two):
    """Sees a person in red pictures; presses Ctrl-C at frame ``stop``."""

    def __init__(self, stop=0):
        self.stop, self.seen = stop, 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def __call__(self, image, time):
        self.seen += 1
        if self.seen == self.stop:
            signal.raise_signal(signal.SIGINT)
        assert image.shape == (48, 64, 3) and image[..., 0].mean() > 200 > image[..., 2].mean() + 99
        return [Person(np.full((22, 2), 9), np.ones(22))]


@pytest.mark.parametrize('stop, frames', [(0, 12), (5, 5)])
def test_a_webcam_is_recorded_until_it_ends_or_ctrl_c(webcam, monkeypatch, stop, frames) -> None:
    from mg_plugins.pose import camera_track, tracks

    monkeypatch.setattr(tracks, 'HolisticEstimator', lambda: Watcher(stop))
    before = signal.getsignal(signal.SIGINT)
    track = camera_track(0, rate=1e6)  # a file is read quicker than a webcam
    assert signal.getsignal(signal.SIGINT) is before
    assert track.keypoint.shape == (1, frames, 22, 2) and track.score.all()
    assert track.size == (64, 48) and (np.diff(track.times) > 0).all()


def test_no_such_webcam_gives_a_sentence() -> None:
    pytest.importorskip('cv2')
    from mg_plugins.pose.tracks import camera_frames

    with pytest.raises(UserError, match='camera 77 cannot be opened'):
        next(camera_frames(77))
