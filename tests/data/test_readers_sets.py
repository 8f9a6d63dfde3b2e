"""Northwestern-UCLA and SFINGE3D: made small here, and whole where the data are."""

import tarfile

import numpy as np
import pytest

import make_raw as raw
from make_raw import by_name, labels, run
from paths import SHARED


def write_ucla(root, name, label, frames=4):
    joints = np.random.default_rng(label).uniform(-1, 3, (frames, 20, 3)).round(4)
    content = dict(file_name=name, skeletons=joints.tolist(), label=label)
    raw.write_json(root / 'nw_ucla' / f'{name}.json', content)
    return joints


def test_nw_ucla_from_folder_and_archive(tmp_path):
    joints = write_ucla(tmp_path, 'a12_s02_e01_v03', 10)
    write_ucla(tmp_path, 'a01_s01_e00_v01', 1)
    write_ucla(tmp_path, 'a01_s01_e00_v02', 11)
    raw.write_json(tmp_path / 'nw_ucla' / 'a01_s01_e09_v01.json', dict(label=1, skeletons=[[1]]))
    report, content = run(tmp_path, 'nw-ucla', tmp_path / 'nw_ucla')
    assert content['split'] == dict(
        xview_train=['a01_s01_e00_v01'], xview_val=['a12_s02_e01_v03'],
        xsub_train=['a01_s01_e00_v01'], xsub_val=['a12_s02_e01_v03'],
    )  # fmt: skip
    clip = by_name(content)['a12_s02_e01_v03']
    np.testing.assert_array_equal(clip['keypoint'], np.float32(joints[None]))
    assert (clip['label'], clip['subject'], clip['camera']) == (9, '2', 3)
    assert content['meta']['classes'][9] == 'carry'
    assert [reject.clip for reject in report.rejects] == ['a01_s01_e00_v02', 'a01_s01_e09_v01']
    with tarfile.open(tmp_path / 'set.tar.xz', 'w:xz') as archive:
        archive.add(tmp_path / 'nw_ucla', 'nw_ucla')
    again = run(tmp_path, 'nw-ucla', tmp_path / 'set.tar.xz')[1]
    np.testing.assert_array_equal(by_name(again)['a12_s02_e01_v03']['keypoint'], clip['keypoint'])


def hand(frames, seed):
    return np.random.default_rng(seed).uniform(-1, 3, (frames, 140)).round(5)


def test_sfinge3d_clips_and_recordings(tmp_path):
    root = tmp_path / 'sfinge3d'
    cut, whole = hand(5, 0), hand(30, 1)
    rows = [';'.join(map(str, row)) + ';' for row in cut]
    raw.write_lines(root / 'Dictionary' / '13' / '19.txt', rows)
    raw.write_lines(root / 'Dictionary' / '1' / '18.txt', rows)
    raw.write_lines(root / 'Sequences' / '2.txt', raw.csv_lines(whole, 5))
    raw.write_lines(root / 'Sequences' / '40.txt', raw.csv_lines(whole, 5))
    truth = ['2,2,8,20,40,5,3,9', '40,1,1,0,4', '41,1,14,0,4']
    raw.write_lines(root / 'Sequences' / 'sequencesGT.csv', truth)
    report, content = run(tmp_path, 'sfinge3d', root)
    assert content['split'] == dict(
        train=['dictionary_01_18'], val=['dictionary_13_19'],
        recordings_train=['sequence_02'], recordings_val=['sequence_40'],
    )  # fmt: skip
    clips = by_name(content)
    expected = np.float32(cut.reshape(1, 5, 20, 7)[..., :3])
    np.testing.assert_array_equal(clips['dictionary_13_19']['keypoint'], expected)
    assert clips['dictionary_13_19']['label'] == 12
    recording = clips['sequence_02']
    assert 'label' not in recording and recording['fps'] == 20
    assert recording['keypoint'].shape == (1, 30, 20, 3)
    # In order of time, end excluded, cut at the last frame.
    assert recording['segments'] == [
        dict(label=4, start=3, end=10),
        dict(label=7, start=20, end=30),
    ]
    assert any('sequence 2 goes on beyond' in note for note in report.notes)
    (reject,) = report.rejects
    assert (reject.file, reject.line) == ('Sequences/sequencesGT.csv', 3)


def test_recordings_are_kept_whole(tmp_path):
    """iMiGUE, SMG and users' recordings with their segments, beside the clips."""
    lines = raw.csv_lines(raw.imigue_rows(40, 7))
    lines[30] = 'broken'
    raw.write_imigue_video(tmp_path / 'imigue', 7, ['3,0,9', '99,20,29'], lines=lines)
    raw.write_smg_sample(tmp_path / 'smg', 36, ['2,25,35', '1,5,9'])
    person = raw.coco_instance(raw.body(0, 17))
    frames = [dict(frame_id=t, instances=[person]) for t in range(10, 20) if t != 13]
    raw.write_json(tmp_path / 'poses' / 'own.json', frames)
    path = labels(tmp_path, 'own,nod,12,14', 'own,wave,16,17', header='clip,label,start,end')
    own = dict(labels=path, size='640x480', fps=20.0)
    for name, session, split, frames, segments, fps, options in (
        ('imigue', '0007', 'train', 40, [(2, 0, 10), (31, 20, 30)], 25, {}),
        ('smg', 'Sample0036', 'xsub_val', 40, [(0, 5, 10), (1, 25, 36)], 30, {}),
        ('poses', 'own', 'all', 10, [(0, 2, 5), (1, 6, 8)], 20, own),
    ):
        source = tmp_path / name
        report, content = run(tmp_path, name, source, keep_recordings=True, **options)
        recording = by_name(content)[session]
        assert 'label' not in recording and recording['total_frames'] == frames
        assert [tuple(segment.values()) for segment in recording['segments']] == segments
        assert recording['fps'] == fps and recording['session'] == session
        assert content['split'][f'recordings_{split}'] == [session]
        assert session not in content['split'][split] and len(content['split'][split]) == 2
        # Broken rows and frames that are left out are frames without joints.
        gap = dict(imigue=30, poses=3).get(name)
        empty = [t for t in range(frames) if not recording['keypoint'][:, t].any()]
        assert empty == ([] if gap is None else [gap])


@pytest.mark.parametrize('separator', [',', ';'])
def test_imigue_subjects_from_a_table_with_a_row_a_gesture(tmp_path, separator):
    raw.write_imigue_video(tmp_path / 'raw', 1, ['3,0,9'])
    raw.write_imigue_video(tmp_path / 'raw', 9, ['3,0,9'])
    rows = ['Video_ID,class,gesture,start,end,Subject_ID,Result', '1,3,touch hat,0:01,0:02,2,Win',
            '1,4,touch face,0:03,0:04,2,win', '0009.mp4,4,touch face,0:03,0:04,1,Lose']  # fmt: skip
    table = raw.write_lines(tmp_path / 's.csv', [row.replace(',', separator) for row in rows])
    _, content = run(tmp_path, 'imigue', tmp_path / 'raw', subjects=str(table))
    known = {a['session']: (a['subject'], a['outcome']) for a in content['annotations']}
    assert known == {'0001': ('2', 'win'), '0009': ('1', 'lose')}
    assert len(content['split']['emotion_train']) == len(content['split']['emotion_test']) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'splits'),
    [
        ('nw_ucla', dict(xview_train=1020, xview_val=464, xsub_train=724, xsub_val=760)),
        ('sfinge3d', dict(train=234, val=234, recordings_train=36, recordings_val=36)),
    ],
)
def test_the_whole_set(tmp_path, name, splits):
    path = SHARED / f'{name}.tar.xz'
    if not path.exists():
        pytest.skip(f'{path} is not there; set MG_SHARED_DATA to the folder that holds it')
    report, _ = run(tmp_path, name.replace('_', '-'), path)
    assert report.splits == splits and not report.rejects
