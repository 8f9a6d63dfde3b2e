"""Pose files in the many ways in which people bring them, and a check of what is made of them."""

import json
import pickle

import numpy as np
import pytest

from mg_plugins.data.layouts import get_layout

import make_raw as raw
from make_raw import by_name, run

T = 4
RNG = np.random.default_rng(5)


def person(joints, frames=T, place=(300.0, 300.0)):
    """(frames, joints, 3): x, y in pixels around a place, score; exact in text and float32."""
    points = RNG.integers(-400, 400, (frames, joints, 2)) / 4 + place
    scores = RNG.integers(32, 64, (frames, joints, 1)) / 64
    return np.concatenate([points, scores], axis=-1)


P17, P18, P25, P133, P136, P26 = (person(v) for v in (17, 18, 25, 133, 136, 26))
HANDS = person(42)
# Fractions of a picture of 640 x 480.
F33 = np.concatenate(
    [RNG.integers(8, 56, (T, 33, 3)) / 64, RNG.integers(32, 64, (T, 33, 1)) / 64], -1
)
F42 = RNG.integers(8, 56, (T, 42, 3)) / 64
METRES = RNG.integers(-64, 64, (T, 17, 3)) / 64
SIZE = np.array([640, 480])


def pixels(fractions):
    return fractions[..., :2] * SIZE


def flat(joints):
    return joints.ravel().tolist()


def coco(joints, **more):
    return dict(keypoints=joints[:, :2].tolist(), keypoint_scores=joints[:, 2].tolist(), **more)


def gap(points, at=2):
    """The frames with one empty frame before frame `at`."""
    return np.insert(points, at, 0, axis=0)


def mp(joints):
    return [dict(x=j[0], y=j[1], z=j[2], visibility=j[3]) for j in joints.tolist()]


def hand(joints):
    return [dict(x=j[0], y=j[1], z=j[2]) for j in joints.tolist()]


def openpose(joints, hands=None, **more):
    parts = dict(pose_keypoints_2d=flat(joints))
    if hands is not None:
        parts.update(
            hand_left_keypoints_2d=flat(hands[:21]), hand_right_keypoints_2d=flat(hands[21:])
        )
    return dict(parts, **more)


def openpose_folder(frames, first=0, step=1):
    return {
        f'a/v_{first + step * t:012d}_keypoints.json': dict(people=people)
        for t, people in enumerate(frames)
    }


def wide(header, rows, delimiter=',', decimal='.'):
    text = [delimiter.join(header)]
    for row in rows:
        text.append(delimiter.join(str(cell).replace('.', decimal) for cell in row))
    return '\n'.join(text) + '\n'


NAMES = get_layout('mediapipe33').joints
AXES = ('x', 'y', 'z', 'visibility')


def head(form, names=range(33), axes=AXES):
    return [form.format(j=name, a=axis, J=str(name).upper()) for name in names for axis in axes]


ROWS = [flat(frame) for frame in F33]


def mp_csv(form, names=range(33), axes=AXES, **how):
    return {'a.csv': wide(head(form, names, axes), ROWS, **how)}


def long_csv(first, rows, header):
    lines = [header]
    for t, frame in enumerate(rows):
        lines += [f'{t},{first(j)},{",".join(map(str, joint))}' for j, joint in enumerate(frame)]
    return '\n'.join(lines)


def bvh():
    return """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT LeftLeg
  {
    OFFSET 10 -40 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -40 0
    }
  }
  JOINT RightLeg
  {
    OFFSET -10 -40 0
    CHANNELS 3 Zrotation Xrotation Yrotation
  }
}
MOTION
Frames: 2
Frame Time: 0.04
1 90 2 0 0 0 0 0 0 0 0 0
1 90 2 90 0 0 0 90 0 0 0 0
"""


# The second frame by hand: the root turns by 90 degrees about z (x to y), the left leg about x.
BVH = np.array(
    [
        [[1, 90, 2], [11, 50, 2], [11, 10, 2], [-9, 50, 2]],
        [[1, 90, 2], [41, 100, 2], [41, 100, -38], [41, 80, 2]],
    ]
) / 100  # fmt: skip


def ntu(frames):
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for identity, joints in bodies:
            lines += [f'{identity} 0 1 1 1 1 0 0.1 0.2 2', '25']
            lines += [' '.join(map(str, (*joint, *[0.5] * 8, 2))) for joint in joints.tolist()]
    return '\n'.join(lines)


BODY25 = np.stack([RNG.uniform(-0.3, 0.3, (12, 25)), RNG.uniform(-1, 1, (12, 25)),
                   RNG.uniform(2, 3, (12, 25))], -1).round(3)  # fmt: skip
FLAT25 = np.stack([RNG.uniform(-2, 2, (12, 25)), RNG.uniform(-0.1, 0.1, (12, 25)),
                   RNG.uniform(2, 3, (12, 25))], -1).round(3)  # fmt: skip


def pyskl(dtype=np.float16, **more):
    clip = dict(
        frame_dir='a', label=0, img_shape=(480, 640), original_shape=(480, 640), total_frames=T,
        keypoint=P17[None, ..., :2].astype(dtype), keypoint_score=P17[None, ..., 2].astype(dtype),
    )  # fmt: skip
    return {**clip, **more}


def in_pickle(annotations, split=None):
    content = annotations if split is None else dict(split=split, annotations=annotations)
    return pickle.dumps(content)


def npz(**arrays):
    import io

    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


SIZED = dict(size='640x480')
ALL = dict(size='640x480', min_score=0)
K17, S17 = P17[None, ..., :2], P17[None, ..., 2]
TIMES = [0.0, 0.04, 0.12, 0.16]


def mmpose(*instances):
    """A file of MMPose's inferencer with one person a frame."""
    return [dict(frame_id=t, instances=[i]) for t, i in enumerate(instances)]


def write(path, content):
    """Write bytes, text, or whatever JSON can hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def check_spelling(tmp_path, files, options, expected, more):
    """Write the files, convert them, and compare with what must come out."""
    source = tmp_path / 'raw'
    for name, content in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            np.save(path, K17)
        elif isinstance(content, (str, bytes)):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            raw.write_json(path, content)
    alone = source / next(iter(files)) if len(files) == 1 else source
    report, content = run(
        tmp_path, 'auto', alone if alone.suffix in ('.npz', '.npy') else source, **options
    )
    clip = by_name(content)[more.get('name', 'a')]
    keypoint = expected if expected.ndim == 4 else expected[None]
    dims = clip['keypoint'].shape[-1]
    if more.get('near'):
        np.testing.assert_allclose(clip['keypoint'], keypoint[..., :dims], rtol=1e-5, atol=1e-4)
    else:
        np.testing.assert_array_equal(clip['keypoint'], np.float32(keypoint[..., :dims]))
    # The third number of pixels is their score.
    if keypoint.shape[-1] == 3 and dims == 2:
        np.testing.assert_array_equal(clip['keypoint_score'], np.float32(keypoint[..., 2]))
    if 'layout' in more:
        assert report.layout == more['layout']
    if 'fps' in more:
        assert clip['fps'] == pytest.approx(more['fps'])
    if 'label' in more:
        assert clip.get('label') == more['label']
    if 'classes' in more:
        assert content['meta']['classes'] == more['classes']
    if 'split' in more:
        assert content['split'] == more['split']
    if 'note' in more:
        assert any(more['note'] in note for note in report.notes), report.notes
    assert [reject.clip for reject in report.rejects] == more.get('rejected', [])
