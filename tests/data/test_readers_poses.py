"""Readers of OpenPose and COCO files."""

import json

import numpy as np
import pytest

from mg_plugins.data.layouts import get_layout
from mg_plugins.data.prepare import PrepareError
from mg_plugins.data.readers.common import FormatError

import make_raw as raw
from make_raw import by_name, labels, run, where

# ---- OpenPose


def test_openpose_clips(tmp_path):
    bodies = [raw.body(seed) for seed in range(4)]
    bodies[1][3] = 0
    source = tmp_path / 'poses'
    raw.write_openpose_clip(source / 'one', [[raw.openpose_person(b)] for b in bodies], first=9)
    raw.write_openpose_clip(source / 'two', [[], [raw.openpose_person(bodies[0])], []])
    path = labels(
        tmp_path,
        'one,wave,1,train,',
        'two,nod,2,val,25',
        header='clip,label,subject,split,fps',
    )
    report, content = run(tmp_path, 'openpose', source, labels=path, size='640x480')
    clips = by_name(content)
    assert content['split'] == dict(train=['one'], val=['two']) and not report.rejects
    expected = np.float32(bodies)[None]
    np.testing.assert_array_equal(clips['one']['keypoint'], expected[..., :2])
    np.testing.assert_array_equal(clips['one']['keypoint_score'], expected[..., 2])
    assert clips['one']['img_shape'] == (480, 640) and clips['one']['label'] == 1
    assert clips['two']['total_frames'] == 3 and clips['two']['fps'] == 25.0
    assert not clips['two']['keypoint'][0, [0, 2]].any() and clips['two']['keypoint'][0, 1].any()
    assert content['meta'] == dict(
        layout='body25', classes=['nod', 'wave'], source='openpose', note=''
    )


def test_openpose_rejects(tmp_path):
    source = tmp_path / 'poses'
    person = raw.openpose_person(raw.body(0))
    for name in ('fine', 'cut', 'text', 'short', 'empty', 'nobody', 'unlabelled'):
        raw.write_openpose_clip(source / name, [[person]] * 6)
    broken = 'video_000000000002_keypoints.json'
    (source / 'cut' / broken).write_text('{"people": [\n{"pose')
    (source / 'empty' / broken).write_text('')
    for name, values in (('text', ['x'] * 75), ('short', [1.0] * 53)):
        people_ = [dict(pose_keypoints_2d=values)]
        (source / name / broken).write_text(json.dumps(dict(people=people_)))
    raw.write_openpose_clip(source / 'nobody', [[]] * 6)
    rows = [f'{n},0,0,5' for n in ('fine', 'cut', 'text', 'short', 'empty', 'nobody', 'gone')]
    path = labels(
        tmp_path, *rows, 'cut,0,3,5', 'fine,0,3,6', 'fine,0,4,3', 'fine,0,0,5', header=WINDOWS
    )
    report, content = run(tmp_path, 'openpose', source, labels=path, size='640x480')
    assert list(by_name(content)) == ['cut_00003_00005_00', 'fine_00000_00005_00']
    name = '{}_00000_00005_00'.format
    assert sorted(where(report.rejects), key=str) == sorted(
        [
            (name('cut'), f'cut/{broken}', 2, 'unreadable'),
            (name('text'), f'text/{broken}', None, 'non-numeric'),
            (name('short'), f'short/{broken}', None, 'short row'),
            (name('empty'), f'empty/{broken}', None, 'empty'),
            (name('nobody'), 'nobody', None, 'all-zero joints'),
            (name('gone'), 'labels.csv', 8, 'missing file'),
            ('unlabelled', 'labels.csv', None, 'no label'),
            ('fine_00003_00006_00', 'labels.csv', 10, 'frames beyond the file'),
            ('fine_00004_00003_00', 'labels.csv', 11, 'end before start'),
            (name('fine'), 'labels.csv', 12, 'duplicate clip'),
        ],
        key=str,
    )


WINDOWS = 'clip,label,start,end'


def test_openpose_several_recordings_in_one_folder(tmp_path):
    source = tmp_path / 'poses'
    for number, name in enumerate(('left_cam', 'right_cam')):
        raw.write_openpose_clip(source, [[raw.openpose_person(raw.body(number))]] * 2, name)
    path = labels(tmp_path, 'left_cam,0', 'right_cam,1')
    _, content = run(tmp_path, 'openpose', source, labels=path, size='640x480')
    assert list(by_name(content)) == ['left_cam', 'right_cam']


def test_openpose_frames_are_in_the_order_of_numbers(tmp_path):
    source = tmp_path / 'poses' / 'one'
    source.mkdir(parents=True)
    for number in (2, 10, 1):
        body = np.full((25, 3), float(number))
        body[:, 2] = 1
        (source / f'v_{number}_keypoints.json').write_text(
            json.dumps(dict(people=[raw.openpose_person(body)]))
        )
    path = labels(tmp_path, 'one,0')
    _, content = run(tmp_path, 'openpose', source.parent, labels=path, size='640x480')
    x = content['annotations'][0]['keypoint'][0, :, 0, 0]
    # Frames without a file stay gaps.
    np.testing.assert_array_equal(x, [1, 2, 0, 0, 0, 0, 0, 0, 0, 10])


def test_openpose_as_the_22_joints_of_imigue(tmp_path):
    body, right, left = raw.body(0), raw.body(1, 21), raw.body(2, 21)
    source = tmp_path / 'poses'
    frames = [[raw.openpose_person(body, right, left)], [raw.openpose_person(body)]]
    raw.write_openpose_clip(source / 'one', frames)
    path = labels(tmp_path, 'one,touch hat')
    _, content = run(
        tmp_path,
        'openpose',
        source,
        labels=path,
        size='640x480',
        layout='imigue22',
        classes='imigue',
    )
    clip = content['annotations'][0]
    layout = get_layout('imigue22')
    assert clip['keypoint'].shape == (1, 2, 22, 2) and clip['label'] == 2
    for joint, expected in (
        ('right_wrist', body[4]),
        ('left_wrist', body[7]),
        ('right_eye', body[15]),
        ('left_ear', body[18]),
        ('right_finger1', right[4]),
        ('left_finger5', left[20]),
    ):
        index = layout.index(joint)
        np.testing.assert_array_equal(clip['keypoint'][0, 0, index], np.float32(expected[:2]))
    assert not clip['keypoint'][0, 1, 12:].any()


def test_pixels_need_a_size(tmp_path):
    source = tmp_path / 'poses'
    raw.write_openpose_clip(source / 'one', [[raw.openpose_person(raw.body(0))]])
    path = labels(tmp_path, 'one,0')
    with pytest.raises(PrepareError) as caught:
        run(tmp_path, 'openpose', source, labels=path)
    assert 'give --size WIDTHxHEIGHT' in caught.value.rejects[0].detail
    with pytest.raises(FormatError, match="--size '640' must be"):
        run(tmp_path, 'openpose', source, labels=path, size='640')
    path = labels(tmp_path, 'one,0,640,480', header='clip,label,width,height')
    _, content = run(tmp_path, 'openpose', source, labels=path)
    assert content['annotations'][0]['img_shape'] == (480, 640)


def test_a_folder_of_two_kinds_of_files_says_what_each_holds(tmp_path):
    hands = raw.body(1, 21), raw.body(2, 21)
    persons = [raw.openpose_person(raw.body(0, 18)), raw.openpose_person(raw.body(0))]
    persons.append(raw.openpose_person(raw.body(0), *hands))
    raw.write_openpose_clip(tmp_path / 'poses' / 'one', [[person] for person in persons])
    raw.write_openpose_clip(tmp_path / 'poses' / 'two', [[persons[1]], [persons[2]]])
    report, content = run(tmp_path, 'openpose', tmp_path / 'poses', size='640x480')
    assert list(by_name(content)) == ['two'] and report.layout == 'openpose67'
    (reject,) = report.rejects
    found = '18 joints x 2 and 25 joints x 2 and 67 joints x 2'
    assert reject.clip == 'one' and reject.detail == f'persons have {found}'


def test_recordings_of_one_name_and_tables_among_json(tmp_path):
    source = tmp_path / 'poses'
    raw.write_openpose_clip(source / 'one', [[raw.openpose_person(raw.body(0))]])
    raw.write_json(source / 'one.json', [dict(people=[raw.openpose_person(raw.body(1))])])
    raw.write_lines(source / 'two.csv', raw.wide_csv([raw.landmarks(0)]))
    report, content = run(
        tmp_path, 'openpose', source, size='640x480', layout='coco17', min_score=0
    )
    assert list(by_name(content)) == ['one', 'two'] and not report.rejects
    first = by_name(content)['one']['keypoint'][0, 0, 0]
    np.testing.assert_array_equal(first, np.float32(raw.body(1)[0, :2]))
    assert any('keypoints.json was left out: one.json has' in note for note in report.notes)


# ---- COCO


def test_coco_three_forms_give_the_same(tmp_path):
    bodies = [raw.body(seed, 17) for seed in range(3)]
    source = tmp_path / 'poses'
    frames = [dict(frame_id=t, instances=[raw.coco_instance(b)]) for t, b in enumerate(bodies)]
    frames[1:] = frames[:0:-1]
    raw.write_json(source / 'inferencer.json', frames)
    raw.write_json(source / 'demo.json', dict(meta_info={}, instance_info=frames))
    results = [
        dict(image_id=5 + t, category_id=1, keypoints=b.ravel().tolist(), score=0.9)
        for t, b in enumerate(bodies)
    ]
    raw.write_json(source / 'results.json', results)
    path = labels(tmp_path, 'inferencer,0', 'demo,0', 'results,0')
    _, content = run(tmp_path, 'coco', source, labels=path, size='640x480')
    assert len(content['annotations']) == 3 and content['meta']['layout'] == 'coco17'
    for clip in content['annotations']:
        np.testing.assert_array_equal(clip['keypoint'], np.float32(bodies)[None, ..., :2])
        np.testing.assert_array_equal(clip['keypoint_score'], np.float32(bodies)[None, ..., 2])


def test_coco_whole_body_and_two_persons(tmp_path):
    here, there = raw.body(0, 133), raw.body(1, 133, place=(1000, 300))
    there[:, 2] = 0.4
    frames = [
        dict(frame_id=0, instances=[raw.coco_instance(there), raw.coco_instance(here)]),
        dict(frame_id=1, instances=[raw.coco_instance(here), raw.coco_instance(there)]),
        dict(frame_id=2, instances=[]),
    ]
    path = raw.write_json(tmp_path / 'poses' / 'one.json', frames)
    _, content = run(tmp_path, 'coco', path, labels=labels(tmp_path, 'one,0'), size='1280x720')
    keypoint = content['annotations'][0]['keypoint']
    assert keypoint.shape == (2, 3, 133, 2)
    for m, body in enumerate((here, there)):
        for t in (0, 1):
            np.testing.assert_array_equal(keypoint[m, t], np.float32(body[:, :2]))
    assert not keypoint[:, 2].any()


def test_a_recording_with_other_joints_than_most_is_listed(tmp_path):
    for name, joints in (('a', 17), ('b', 17), ('c', 133)):
        frames = [dict(frame_id=0, instances=[raw.coco_instance(raw.body(0, joints))])]
        raw.write_json(tmp_path / 'poses' / f'{name}.json', frames)
    report, content = run(tmp_path, 'coco', tmp_path / 'poses', size='640x480')
    assert list(by_name(content)) == ['a', 'b'] and report.layout == 'coco17'
    (reject,) = report.rejects
    assert reject.clip == 'c' and 'its joints are coco_wholebody133' in reject.detail
    # Brought to one layout by name, all are kept.
    report, content = run(tmp_path, 'coco', tmp_path / 'poses', size='640x480', layout='coco17')
    assert list(by_name(content)) == ['a', 'b', 'c'] and not report.rejects
    np.testing.assert_array_equal(
        by_name(content)['c']['keypoint'][0, 0], np.float32(raw.body(0, 133)[:17, :2])
    )
