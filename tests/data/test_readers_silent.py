"""What once was lost without a word, or broke the file that was written: read right, or said."""

import pickle

import numpy as np
import pytest
from pose_files import P17, P25, SIZED, coco, flat, mmpose, openpose_folder, write

from mg_plugins.data.readers.common import FormatError
from mg_plugins.errors import UserError

from make_raw import by_name, run

JOINTS, FRAMES = P17.shape[1], len(P17)


def convert(tmp_path, files, **options):
    for name, content in files.items():
        write(tmp_path / 'raw' / name, content)
    return run(tmp_path, 'auto', tmp_path / 'raw', **{**SIZED, **options})


def long_table(head, first, frames=P17):
    """A row a joint; `first` gives the cells before joint, x, y, score."""
    rows = (
        ','.join(map(str, [*first(t), j, *joint]))
        for t, joints in enumerate(frames.tolist())
        for j, joint in enumerate(joints)
    )
    return '\n'.join([f'{head}joint,x,y,score', *rows]) + '\n'


def test_a_long_table_with_times_and_no_numbers_has_a_frame_a_time(tmp_path):
    table = long_table('timestamp,', lambda t: [f'{0.04 * t:.2f}'])
    report, content = convert(tmp_path, {'a.csv': table})
    clip = by_name(content)['a']
    np.testing.assert_array_equal(clip['keypoint'][0], np.float32(P17[..., :2]))
    assert clip['fps'] == 25


@pytest.mark.parametrize(
    'table',
    [long_table('', lambda t: []), long_table('frame,', lambda t: [t]) + '1,0,9,9,1\n'],
    ids=['no-frames', 'a-row-twice'],
)
def test_a_joint_that_a_long_table_gives_twice_is_refused(tmp_path, table):
    good = long_table('frame,', lambda t: [t])
    report, _ = convert(tmp_path, {'a.csv': table, 'good.csv': good})
    (reject,) = report.rejects
    assert (reject.clip, reject.file) == ('a', 'a.csv')
    assert 'a joint twice: name frame, person_id' in reject.detail


def test_rows_of_one_frame_in_a_wide_table_are_persons(tmp_path):
    head = ','.join(f'{j}_{a}' for j in range(JOINTS) for a in 'xyv')
    both = np.stack([P17, P17 + [150, 0, 0]], 1)
    rows = [f'{t},{",".join(map(str, flat(p)))}' for t, two in enumerate(both) for p in two]
    _, content = convert(tmp_path, {'a.csv': '\n'.join([f'frame,{head}', *rows])}, max_persons=2)
    clip = by_name(content)['a']
    assert clip['keypoint'].shape[:2] == (2, FRAMES)
    found = np.sort(clip['keypoint'][:, :, 0, 0], axis=0)
    np.testing.assert_array_equal(found, np.sort(np.float32(both[:, :, 0, 0].T), axis=0))


@pytest.mark.parametrize(
    'times, note', [('00:00:0{}', 'a time that is no number'), ('7', 'do not increase')]
)
def test_times_that_are_not_used_are_said(tmp_path, times, note):
    table = long_table('frame,time,', lambda t: [t, times.format(t)])
    report, _ = convert(tmp_path, {'a.csv': table})
    assert any(note in found for found in report.notes)


def test_a_row_without_a_time_is_a_gap_among_the_others(tmp_path):
    head, poses = ','.join(f'{j}_{a}' for j in range(JOINTS) for a in 'xyv'), [*P17, *P17]
    times = [f'{0.04 * t:.2f}' if t != 1 else '' for t in range(len(poses))]
    rows = [f'{time},{",".join(map(str, flat(p)))}' for time, p in zip(times, poses, strict=True)]
    report, content = convert(tmp_path, {'a.csv': '\n'.join([f'time,{head}', *rows])})
    clip = by_name(content)['a']
    seen = [t != 1 for t in range(len(poses))]
    assert clip['keypoint_score'][0].any(-1).tolist() == seen and clip['fps'] == 25
    np.testing.assert_array_equal(clip['keypoint'][0, 2:], np.float32(poses[2:])[..., :2])
    assert '1 row has a time that is no number' in report.notes


def test_a_frame_without_a_number_does_not_take_the_numbers_from_the_others(tmp_path):
    frames = mmpose(*[coco(f) for f in P17[:4]])
    for frame, number in zip(frames, (3, None, 8, 9), strict=True):
        frame['frame_id'] = number
    report, content = convert(tmp_path, {'a.json': frames})
    seen = by_name(content)['a']['keypoint_score'][0].any(-1)
    assert seen.tolist() == [True, True, False, False, False, True, True]
    assert '1 frame lacks a number: each follows the last' in report.notes


def test_openpose_3d_beside_an_empty_2d_list(tmp_path):
    body = np.concatenate([P25[..., :2] / 400, P25[..., :1] * 0 + 2, P25[..., 2:]], -1)
    people = [[dict(pose_keypoints_2d=[], pose_keypoints_3d=flat(f))] for f in body]
    _, content = convert(tmp_path, openpose_folder(people))
    (clip,) = content['annotations']
    np.testing.assert_array_equal(clip['keypoint'][0], np.float32(body[..., :3]))


def test_windows_without_a_label_and_windows_twice_are_no_segments(tmp_path):
    labels = 'clip,label,start,end\na,x,0,1\na,,1,2\na,x,0,1\n'
    write(tmp_path / 'labels.csv', labels)
    files = {'a.json': mmpose(*[coco(f) for f in P17])}
    _, content = convert(tmp_path, files, labels=str(tmp_path / 'labels.csv'), keep_recordings=True)
    assert by_name(content)['a']['segments'] == [dict(label=0, start=0, end=2)]


def test_labels_with_semicolons_may_have_decimal_commas(tmp_path):
    write(tmp_path / 'labels.csv', 'clip;label;fps\na;x;29,97\n')
    files = {'a.json': mmpose(*[coco(f) for f in P17])}
    _, content = convert(tmp_path, files, labels=str(tmp_path / 'labels.csv'))
    assert by_name(content)['a']['fps'] == 29.97


def test_a_label_of_a_file_that_is_no_class_is_said(tmp_path):
    write(tmp_path / 'classes.txt', 'yoga\nrun\n')
    frames = mmpose(*[coco(f) for f in P17])
    files = {f'{name}.json': dict(label=name, frames=frames) for name in ('yoga', 'abseiling')}
    report, _ = convert(tmp_path, files, classes=str(tmp_path / 'classes.txt'))
    assert any('--classes lacks abseiling' in note for note in report.notes)


def rows(count=2, **more):
    return [
        dict(
            frame_dir=f'c{n}',
            label=n % 2,
            img_shape=(480, 640),
            keypoint=np.float32(P17[None, ..., :2]),
            **more,
        )
        for n in range(count)
    ]


def pickles(tmp_path, **contents):
    files = {f'{name}.pkl': pickle.dumps(content) for name, content in contents.items()}
    return convert(tmp_path, files, size=None)


def test_splits_of_a_pickle_may_be_arrays(tmp_path):
    split = dict(train=np.array(['c0']), val=np.array(['c1']))
    _, content = pickles(tmp_path, own=dict(split=split, annotations=rows()))
    assert content['split'] == dict(train=['c0'], val=['c1'])


def test_a_split_that_is_none_is_refused_and_values_that_are_not_kept_are_said(tmp_path):
    with pytest.raises(UserError, match='own.pkl: "split" must be a dict'):
        pickles(tmp_path, own=dict(split=['c0'], annotations=rows()))
    report, _ = pickles(tmp_path, own=rows(extra=np.zeros(3)))
    assert '2 clips have "extra" that is neither number nor text; not kept' in report.notes


def test_one_pickle_of_several_without_annotations_is_listed(tmp_path):
    report, content = pickles(tmp_path, train=rows(), val=7)
    assert [(r.clip, r.file) for r in report.rejects] == [('val', 'val.pkl')]
    assert len(content['annotations']) == 2


def test_the_size_of_a_picture_may_be_an_array(tmp_path):
    annotations = [dict(row, img_shape=np.array([480, 640])) for row in rows()]
    report, content = pickles(tmp_path, own=annotations)
    assert not report.rejects
    assert content['annotations'][0]['img_shape'] == (480, 640)


def test_classes_of_a_pickle_that_are_no_list_are_refused(tmp_path):
    meta = dict(layout='coco17', classes=7)
    with pytest.raises(FormatError, match=r'own.pkl: the classes of its meta are no list'):
        pickles(tmp_path, own=dict(annotations=rows(), meta=meta))


def test_a_frame_rate_that_is_none_is_listed(tmp_path):
    report, content = pickles(tmp_path, own=[*rows(1), dict(rows()[1], fps=-3)])
    assert [(r.clip, r.detail) for r in report.rejects] == [
        ('c1', 'fps is -3, expected frames a second')
    ]


def test_rejected_recordings_name_their_file(tmp_path):
    frames = mmpose(*[coco(f) for f in P17])
    report, _ = convert(tmp_path, {'a.json': frames, 'b.json': mmpose(*[coco(f) for f in P25])})
    assert [reject.file for reject in report.rejects] == ['b.json']


def test_ntu_without_persons_is_refused(tmp_path):
    with pytest.raises(FormatError, match='--max-persons 0 must be above 0'):
        run(tmp_path, 'ntu', write_ntu(tmp_path), max_persons=0)


def write_ntu(tmp_path):
    write(tmp_path / 'raw' / 'S001C001P001R001A001.skeleton', '1\n0\n')
    return tmp_path / 'raw'


def test_a_clip_in_3d_beside_clips_in_2d_is_listed(tmp_path):
    files = {f'{name}.json': mmpose(*[coco(f) for f in P17]) for name in 'ab'}
    body = np.concatenate([P17[..., :2] / 400, P17[..., :1] * 0 + 2], -1)
    files['c.json'] = mmpose(*[dict(keypoints=f.tolist(), keypoint_scores=[1] * 17) for f in body])
    report, content = convert(tmp_path, files, layout='coco17')
    assert [(r.clip, r.file) for r in report.rejects] == [('c', 'c.json')]
    assert 'coco17 in 3D, those of most clips coco17 in 2D' in report.rejects[0].detail
    assert [row['frame_dir'] for row in content['annotations']] == ['a', 'b']


def test_labels_that_differ_in_case_alone_are_said(tmp_path):
    frames = mmpose(*[coco(f) for f in P17])
    names = {'a': 'Touch ear', 'b': 'touch_ear', 'c': 'nod'}
    rows = '\n'.join(f'{clip},{label}' for clip, label in names.items())
    write(tmp_path / 'labels.csv', f'clip,label\n{rows}\n')
    files = {f'{clip}.json': frames for clip in names}
    report, content = convert(tmp_path, files, labels=str(tmp_path / 'labels.csv'))
    assert len(content['meta']['classes']) == 3
    (note,) = (note for note in report.notes if 'misspelt' in note)
    assert note.startswith("2 classes are called 'touch ear'")


@pytest.mark.parametrize('labels', [False, True])
def test_links_in_a_circle_are_listed(tmp_path, labels):
    files = {f'{name}.json': mmpose(*[coco(f) for f in P17]) for name in 'ab'}
    (tmp_path / 'raw').mkdir()
    (tmp_path / 'raw/c.json').symlink_to('c.json')
    (tmp_path / 'raw/again').symlink_to('../raw')
    given = {}
    if labels:
        write(tmp_path / 'raw/labels.csv', 'clip,label\na,nod\nb,nod\nc,nod\n')
        given = dict(labels=str(tmp_path / 'raw/labels.csv'))
    report, content = convert(tmp_path, files, layout='coco17', **given)
    assert [row['frame_dir'] for row in content['annotations']] == ['a', 'b']
    assert [(r.clip, r.file) for r in report.rejects] == [('c', 'c.json')]
