"""Recordings as a user has them: every format of skeletons, and what cannot be read."""

import json

import numpy as np
import pose_files as files
import pytest

from mg_plugins.data.layouts import get_layout, joint_parts
from mg_plugins.errors import UserError
from mg_plugins.pose import PoseTrack, read_tracks, skeleton_tracks

import make_raw as raw

T = files.T


def openpose(folder):
    for t in range(T):
        person = raw.openpose_person(files.P25[t], files.HANDS[t, :21], files.HANDS[t, 21:])
        content = json.dumps(dict(version=1.3, people=[person]))
        files.write(folder / 'talk' / f'talk_{t:012d}_keypoints.json', content)
    return folder / 'talk'


def frames_of_mmpose(points):
    rows = [dict(frame_id=t, instances=[files.coco(points[t])]) for t in range(T)]
    return json.dumps(rows)


def npz(folder):
    path = folder / 'talk.npz'
    keypoint = np.stack([files.person(22)[..., :2]] * 2)[None].astype(np.float32)
    np.savez(path, keypoint=keypoint, layout='imigue22', size=np.array([640, 480]), fps=25.0)
    return path


def single(name, content):
    def write(folder):
        files.write(folder / name, content)
        return folder / name

    return write


PICTURE = dict(fps=25.0, size='640x480')
FORMATS = {
    'openpose': (openpose, 2, PICTURE),
    'coco': (single('talk.json', frames_of_mmpose(files.P17)), 2, PICTURE),
    'wholebody': (single('talk.json', frames_of_mmpose(files.P133)), 2, PICTURE),
    'mediapipe': (
        single('talk.csv', files.wide(files.head('{j}_{a}'), files.F33.reshape(T, -1).tolist())),
        2,
        PICTURE,
    ),
    'npz': (npz, 2, {}),
    'bvh': (single('walk.bvh', files.bvh()), 3, {}),
    'ntu': (
        single('S001C001P001R001A001.skeleton', files.ntu([[(1, np.ones((25, 3)))]] * T)),
        3,
        dict(fps=30.0),
    ),
}


@pytest.mark.parametrize('name', FORMATS)
def test_every_format_is_a_track(tmp_path, name) -> None:
    make, dims, options = FORMATS[name]
    [(title, track)] = skeleton_tracks(make(tmp_path), **options)
    assert isinstance(track, PoseTrack) and title and track.keypoint.shape[-1] == dims
    persons, frames, joints = track.score.shape
    assert track.keypoint.shape == (persons, frames, joints, dims) and frames == len(track.times)
    assert track.score.any() and track.fps > 0 and persons == (2 if name == 'npz' else 1)
    assert (track.size is None) == (dims == 3)
    np.testing.assert_allclose(np.diff(track.times), 1 / track.fps, rtol=1e-3)


def test_smoothing_skeletons_is_a_wish(tmp_path) -> None:
    path = npz(tmp_path)
    ((_, plain),), ((_, smooth),) = (
        read_tracks(path, tmp_path / 'cache', smooth=wish) for wish in (False, True)
    )
    assert np.abs(plain.keypoint - smooth.keypoint).max() > 1
    assert not (tmp_path / 'cache').exists()


@pytest.mark.parametrize(
    'name, content, says',
    [
        ('nowhere.npz', None, 'does not exist'),
        ('a.npz', b'broken', 'a.npz'),
        ('a.mp4', b'broken', 'cannot be read as a video'),
        ('a.wav', b'broken', 'cannot be read as a video'),
        ('a.txt', b'a text', 'a.txt'),
    ],
)
def test_what_is_no_recording_gives_a_sentence(tmp_path, name, content, says) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        list(read_tracks(tmp_path / name, tmp_path / 'cache'))


@pytest.mark.parametrize('option', PICTURE)
def test_missing_facts_are_asked_for(tmp_path, option) -> None:
    known = {name: value for name, value in PICTURE.items() if name != option}
    with pytest.raises(UserError, match=f'talk.json .*--{option}'):
        list(skeleton_tracks(FORMATS['coco'][0](tmp_path), **known))


def test_the_usual_joints_of_a_bvh_are_those_of_a_body() -> None:
    limbs = [f'{side}{part}' for side in ('Left', 'Right') for part in ('Arm', 'ForeArm', 'Hand')]
    limbs += [f'{side}{part}' for side in ('Left', 'Right') for part in ('UpLeg', 'Leg', 'Foot')]
    joints = ['Hips', 'Spine', 'Neck', 'Head', *limbs]
    layout = get_layout(
        dict(name='bvh', joints=joints, bones=[[n, 0] for n in range(1, len(joints))], centre=0)
    )
    ntu = get_layout('ntu25')
    parts = dict(zip(ntu.joints, joint_parts(layout, ntu), strict=True))
    for joint, name in (
        ('spine_base', 'Hips'), ('head', 'Head'), ('left_elbow', 'LeftForeArm'),
        ('right_wrist', 'RightHand'), ('left_hip', 'LeftUpLeg'), ('right_ankle', 'RightFoot'),
    ):  # fmt: skip
        assert parts[joint] == {joints.index(name): 1.0}
    assert sum(map(bool, parts.values())) >= 16
