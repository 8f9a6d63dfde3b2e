"""Northwestern-UCLA and SFINGE3D: made small here, and whole where the data are."""

import tarfile

import numpy as np
import pytest

import make_raw as raw
from make_raw import by_name, run
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
    assert any('sequences 2 ' in note for note in report.notes)
    (reject,) = report.rejects
    assert (reject.file, reject.line) == ('Sequences/sequencesGT.csv', 3)


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
