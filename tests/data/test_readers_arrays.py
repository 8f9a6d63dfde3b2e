"""Readers of MediaPipe landmarks and of arrays."""

import numpy as np
import pytest

from mg_plugins.data.layouts import get_layout
from mg_plugins.data.readers.common import FormatError

import make_raw as raw
from make_raw import by_name, labels, run, where

# ---- MediaPipe


def long_csv(frames):
    lines = ['frame,landmark,x,y,z,visibility']
    for t, joints in enumerate(frames):
        if joints is not None:
            lines += [
                f'{t},{j},' + ','.join(repr(float(v)) for v in joint)
                for j, joint in enumerate(joints)
            ]
    return lines


def as_dicts(joints):
    return [dict(zip(('x', 'y', 'z', 'visibility'), map(float, j), strict=True)) for j in joints]


def mediapipe_files(frames):
    """The same recording in every form: name to lines or JSON content."""
    names = get_layout('mediapipe33').joints
    named = raw.wide_csv(frames)
    named[0] = 'frame,' + ','.join(
        f'{name}_{axis}' for name in names for axis in ('x', 'y', 'z', 'visibility')
    )
    lists = [None if f is None else as_dicts(f) for f in frames]
    return {
        'wide.csv': raw.wide_csv(frames),
        'wide1.csv': raw.wide_csv(frames, first=1),
        'named.csv': named,
        'long.csv': long_csv(frames),
        'plain.json': lists,
        'keyed.json': dict(frames=[dict(pose_landmarks=f or []) for f in lists]),
        'persons.json': [dict(poseLandmarks=[f] if f else None) for f in lists],
        'protobuf.json': [dict(pose_landmarks=dict(landmark=f or [])) for f in lists],
        'numbers.json': [None if f is None else f.tolist() for f in frames],
    }


def test_mediapipe_every_form_gives_the_same(tmp_path):
    frames = [raw.landmarks(0), None, raw.landmarks(1)]
    source = tmp_path / 'poses'
    files = mediapipe_files(frames)
    for name, content in files.items():
        if name.endswith('.csv'):
            raw.write_lines(source / name, content)
        else:
            raw.write_json(source / name, content)
    clips = [name.split('.')[0] for name in files]
    path = labels(tmp_path, *(f'{clip},0' for clip in clips))
    report, content = run(tmp_path, 'mediapipe', source, labels=path, size='640x480', min_score=0)
    assert not report.rejects and set(by_name(content)) == set(clips)
    for clip in content['annotations']:
        assert clip['keypoint'].shape == (1, 3, 33, 2)
        for t in (0, 2):
            expected = np.float32(frames[t])
            np.testing.assert_array_equal(
                clip['keypoint'][0, t], expected[:, :2] * np.float32([640, 480])
            )
            np.testing.assert_array_equal(clip['keypoint_score'][0, t], expected[:, 3])
        assert not clip['keypoint'][0, 1].any() and not clip['keypoint_score'][0, 1].any()


def test_mediapipe_world_landmarks_are_3d(tmp_path):
    joints = raw.landmarks(0) - [0.5, 0.5, 0.5, 0]
    content = [dict(pose_landmarks=[], pose_world_landmarks=[as_dicts(joints)])]
    source = raw.write_json(tmp_path / 'one.json', content)
    _, result = run(
        tmp_path, 'mediapipe', source, labels=labels(tmp_path, 'one,0'), world=True, min_score=0
    )
    clip = result['annotations'][0]
    np.testing.assert_array_equal(clip['keypoint'], np.float32(joints[None, None, :, :3]))
    assert 'img_shape' not in clip


@pytest.mark.parametrize(
    ('row', 'line', 'reason'),
    [
        ('1,4,x,0.5,0,1', 39, 'non-numeric'),
        ('1,33,0.5,0.5,0,1', None, 'unreadable'),
        ('1,4,0.5', 39, 'short row'),
        ('9000000,4,0.5,0.5,0,1', None, 'unreadable'),
    ],
)
def test_mediapipe_long_csv_rejects(tmp_path, row, line, reason):
    good = long_csv([raw.landmarks(0), raw.landmarks(1)])
    bad = [*good]
    bad[38] = row
    source = tmp_path / 'poses'
    raw.write_lines(source / 'bad.csv', bad)
    raw.write_lines(source / 'good.csv', good)
    path = labels(tmp_path, 'bad,0', 'good,0')
    report, _ = run(tmp_path, 'mediapipe', source, labels=path, size='640x480')
    (reject,) = report.rejects
    assert (reject.clip, reject.line, reject.reason) == ('bad', line, reason)


def test_mediapipe_a_broken_row_costs_the_clips_that_hold_it(tmp_path):
    lines = raw.wide_csv([raw.landmarks(n) for n in range(4)])
    lines = [line.partition(',')[2] for line in lines]  # without a column of numbers
    lines[2] = 'x' + lines[2]
    source = tmp_path / 'poses'
    raw.write_lines(source / 'a.csv', lines)
    windows = labels(tmp_path, 'a,0,0,0', 'a,0,1,1', 'a,0,2,3', header='clip,label,start,end')
    report, content = run(
        tmp_path, 'mediapipe', source, labels=windows, size='640x480', keep_recordings=True
    )
    assert where(report.rejects) == [('a_00001_00001_00', 'a.csv', 3, 'non-numeric')]
    clips = by_name(content)
    assert list(clips) == ['a_00000_00000_00', 'a_00002_00003_00', 'a']
    assert not clips['a']['keypoint'][0, 1].any()
    assert [segment['start'] for segment in clips['a']['segments']] == [0, 1, 2]


def test_windows_that_are_refused_are_no_segments(tmp_path):
    source = tmp_path / 'poses'
    raw.write_lines(source / 'a.csv', raw.wide_csv([raw.landmarks(n) for n in range(4)]))
    rows = ('a,0,0,1', 'a,0,3,2', 'a,0,2,9')
    windows = labels(tmp_path, *rows, header='clip,label,start,end')
    report, content = run(
        tmp_path, 'mediapipe', source, labels=windows, size='640x480', keep_recordings=True
    )
    assert [r.reason for r in report.rejects] == ['end before start', 'frames beyond the file']
    assert by_name(content)['a']['segments'] == [dict(label=0, start=0, end=2)]


# ---- npz


def arrays(count=5, **more):
    rng = np.random.default_rng(0)
    keypoint = rng.uniform(1, 400, (count, 1, 6, 17, 2)).astype(np.float32)
    label = np.arange(count) % 3
    return dict(keypoint=keypoint, label=label, layout='coco17', size=(640, 480), **more)


def save(tmp_path, content):
    path = tmp_path / 'own.npz'
    np.savez(path, **content)
    return path


def test_npz_clips(tmp_path):
    content = arrays(
        clip=['a', 'b', 'c', 'd', 'e'],
        subject=np.array([1, 1, 2, 2, 3]),
        total_frames=np.array([6, 5, 4, 3, 2]),
        classes=['x', 'y', 'z'],
        fps=30.0,
    )
    content['keypoint'][0, 0, 0, 0] = 0
    report, result = run(tmp_path, 'npz', save(tmp_path, content), val_subjects='2')
    assert result['split'] == dict(xsub_train=['a', 'b', 'e'], xsub_val=['c', 'd'])
    clip = by_name(result)['b']
    np.testing.assert_array_equal(clip['keypoint'], content['keypoint'][1, :, :5])
    assert clip['subject'] == '1' and clip['fps'] == 30.0 and clip['img_shape'] == (480, 640)
    assert by_name(result)['a']['keypoint_score'].sum() == 6 * 17 - 1
    assert result['meta']['classes'] == ['x', 'y', 'z'] and not report.rejects


def test_npz_one_person_in_metres_with_a_layout_of_ones_own(tmp_path):
    content = dict(keypoint=np.ones((2, 4, 3, 3)), label=np.array([0, 1]))
    layout = dict(name='leg', joints=['hip', 'knee', 'foot'], centre='hip')
    layout['bones'] = [('knee', 'hip'), ('foot', 'knee')]
    path = raw.write_json(tmp_path / 'leg.json', layout)
    report, result = run(tmp_path, 'npz', save(tmp_path, content), layout=str(path))
    clip = result['annotations'][0]
    assert clip['keypoint'].shape == (1, 4, 3, 3) and 'img_shape' not in clip
    assert get_layout(result['meta']['layout']).joints == ('hip', 'knee', 'foot')
    assert report.layout == 'leg' and result['meta']['classes'] == ['class 0', 'class 1']


def test_npz_rejects(tmp_path):
    frames = np.array([6, 6, 6, 0, 7, 6, 6, 6])
    content = arrays(8, total_frames=frames, classes=['x', 'y', 'z'], frame_dir=list('abcdefgh'))
    content['clip'] = ['good', 'nan', 'zero', 'empty', 'long', 'label', 'good', 'far']
    content['keypoint'][1] = np.nan
    content['keypoint'][2] = 0
    content['label'][5] = 3
    content['keypoint'][7, 0, 2, 3] = 1e12
    report, result = run(tmp_path, 'npz', save(tmp_path, content))
    assert list(by_name(result)) == ['good']
    assert [(r.clip, r.reason) for r in report.rejects] == [
        ('nan', 'all-zero joints'),
        ('zero', 'all-zero joints'),
        ('empty', 'empty'),
        ('long', 'frames beyond the file'),
        ('label', 'label out of range'),
        ('far', 'unreadable'),
        ('good', 'duplicate clip'),
    ]
    assert 'entry 1' in report.rejects[0].file
    assert any('names are not read: frame_dir' in note for note in report.notes)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(keypoint=np.ones((5, 6))), r'shape \(5, 6\), expected numbers of shape'),
        (dict(label=np.arange(4)), r'label has shape \(4,\), expected \(5,\)'),
        (dict(label=np.ones(5)), 'label is float64, expected integers'),
        (dict(keypoint=np.ones((0, 1, 4, 17, 2)), label=None), 'holds no annotation'),
        (dict(layout='body25'), 'keypoint has 17 joints, the layout body25 25'),
        (dict(layout='nobody'), 'own.npz: no layout is called'),
        (dict(layout=''), '--layout is needed'),
        (dict(keypoint=None), 'lacks keypoint; it holds label'),
        (dict(size=None), '--size WIDTHxHEIGHT is needed'),
        (dict(size='640x480'), 'size is 640x480, expected two numbers'),
        (dict(size=(float('nan'), 2)), 'expected two numbers'),
        (dict(label=np.array([object()] * 5)), 'Object arrays are refused'),
    ],
)
def test_npz_files_that_are_none(tmp_path, change, message):
    content = {**arrays(), **change}
    content = {name: value for name, value in content.items() if value is not None}
    with pytest.raises(FormatError, match=message):
        run(tmp_path, 'npz', save(tmp_path, content))


def test_a_unit_that_is_none_is_refused(tmp_path):
    with pytest.raises(FormatError, match='--unit inch must be one of m, cm, mm'):
        run(tmp_path, 'npz', save(tmp_path, arrays()), unit='inch')


@pytest.mark.parametrize('name', ['openpose', 'coco', 'mediapipe', 'npz'])
def test_another_folder_is_refused_with_what_it_holds(tmp_path, name):
    raw.write_lines(tmp_path / 'raw' / 'poses.xyz', ['1'])
    with pytest.raises(FormatError, match=r'(?s)Expected: .*Found: .*1 \.xyz, such as poses'):
        run(tmp_path, name, tmp_path / 'raw', **({} if name == 'npz' else dict(labels='x.csv')))
