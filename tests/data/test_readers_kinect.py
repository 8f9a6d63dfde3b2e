"""Readers of SMG, MSR-Action3D and NTU RGB+D."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pose_files import ntu

from mg_plugins.data.readers.common import FormatError

import make_raw as raw
from make_raw import by_name, run, where

SHARED = Path(os.environ.get('MG_SHARED_DATA', Path(__file__).parents[3] / 'shared' / 'data'))


# ---- SMG


def test_smg_clips_and_rejects(tmp_path):
    lines = raw.csv_lines(raw.smg_rows(40, 36))
    lines[30] = lines[30].rpartition(',')[0]
    raw.write_smg_sample(tmp_path / 'raw', 2, ['17,0,39', '18,0,5'])
    raw.write_smg_sample(tmp_path / 'raw', 36, ['1,5,9', '2,25,35'], lines=lines)
    report, content = run(tmp_path, 'smg', tmp_path / 'raw')
    clips = by_name(content)
    assert content['split'] == dict(
        xsub_train=['Sample0002_00000_00039_16'], xsub_val=['Sample0036_00005_00009_00']
    )
    assert where(report.rejects) == [
        ('Sample0002 label 2', 'Sample0002/Sample0002_finelabels.csv', 2, 'label out of range'),
        ('Sample0036_00025_00035_01', 'Sample0036/Sample0036_skeleton.csv', 31, 'short row'),
    ]
    clip = clips['Sample0036_00005_00009_00']
    rows = raw.smg_rows(40, 36)[5:10].reshape(5, 25, 11)[..., :3]
    np.testing.assert_array_equal(clip['keypoint'], np.float32(rows[None]))
    assert not report.notes
    assert clip['subject'] == '36' and clip['session'] == 'Sample0036' and clip['fps'] == 30.0
    assert 'img_shape' not in clip and (clip['keypoint_score'] == 1).all()
    assert content['meta']['layout'] == 'ntu25'


def test_smg_a_sample_beyond_the_published_ones_is_noted(tmp_path):
    for number in (1, 41):
        raw.write_smg_sample(tmp_path / 'raw', number, ['1,0,5'])
    report, _ = run(tmp_path, 'smg', tmp_path / 'raw')
    assert report.splits == dict(xsub_train=1, xsub_val=0) and report.clips == 2
    assert report.notes == ['1 clip is of no subject of the published lists']


# ---- MSR-Action3D


def msr_joints(frames, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2, (frames, 20, 3)).round(6)


def test_msr_action3d_folder_and_archive(tmp_path):
    source = tmp_path / 'raw'
    joints = msr_joints(6)
    joints[2:4] = 0
    joints[5, 7] = 0
    raw.write_msr_clip(source, 1, 1, 1, joints)
    raw.write_msr_clip(source, 20, 2, 3, msr_joints(3))
    raw.write_msr_clip(source, 21, 2, 3, msr_joints(3))
    raw.write_msr_clip(source, 5, 10, 1, np.zeros((4, 20, 3)))
    path = raw.write_msr_clip(source, 6, 10, 1, msr_joints(3))
    path.write_text('\n'.join(path.read_text().splitlines()[:-4]))
    path = raw.write_msr_clip(source, 7, 10, 1, msr_joints(3))
    lines = path.read_text().splitlines()
    lines[25] = '1 2 3'
    path.write_text('\n'.join(lines))
    archive = tmp_path / 'msr.tar.xz'
    with tarfile.open(archive, 'w:xz') as tar:
        tar.add(source, 'Real3D')

    report, content = run(tmp_path, 'msr-action3d', source)
    name = '{}_skeleton3D.txt'.format
    assert where(report.rejects) == [
        ('a05_s10_e01', name('a05_s10_e01'), 1, 'all-zero joints'),
        ('a06_s10_e01', name('a06_s10_e01'), 56, 'short row'),
        ('a07_s10_e01', name('a07_s10_e01'), 26, 'short row'),
        ('a21_s02_e03', name('a21_s02_e03'), None, 'label out of range'),
    ]
    assert content['split'] == dict(xsub_train=['a01_s01_e01'], xsub_val=['a20_s02_e03'])
    clip = by_name(content)['a01_s01_e01']
    np.testing.assert_array_equal(clip['keypoint'], np.float32(joints[[0, 1, 4, 5]])[None])
    assert clip['dropped_frames'] == 2 and clip['total_frames'] == 4
    # The fourth column of the files is 0 everywhere, and is no score.
    assert clip['keypoint_score'].sum() == 79 and clip['keypoint_score'][0, 3, 7] == 0
    assert (clip['label'], clip['subject']) == (0, '1') and 'img_shape' not in clip

    report, archived = run(tmp_path, 'msr-action3d', archive)
    assert report.rejects[0].file == f'Real3D/{name("a05_s10_e01")}'
    assert archived['split'] == content['split']
    for one, other in zip(content['annotations'], archived['annotations'], strict=True):
        np.testing.assert_array_equal(one['keypoint'], other['keypoint'])


def test_msr_action3d_a_broken_archive_is_refused(tmp_path):
    path = tmp_path / 'msr.tar.xz'
    path.write_bytes(b'no archive')
    with pytest.raises(FormatError, match='cannot be read as a tar archive'):
        run(tmp_path, 'msr-action3d', path)


def test_msr_action3d_real_files(tmp_path):
    archive = SHARED / 'msr_action3d_real3d.tar.xz'
    if not archive.is_file():
        pytest.skip(f'{archive} is not there; set MG_SHARED_DATA to the folder that holds it')
    report, content = run(tmp_path, 'msr-action3d', archive)
    assert report.splits == dict(xsub_train=291, xsub_val=275)
    assert [(r.clip, r.reason) for r in report.rejects] == [('a13_s09_e02', 'all-zero joints')]
    lengths = [a['total_frames'] for a in content['annotations']]
    assert (min(lengths), np.median(lengths), max(lengths)) == (9, 38, 196)
    assert sum(a['dropped_frames'] for a in content['annotations']) == 335
    pose = np.concatenate([a['keypoint'][0] for a in content['annotations']])
    # y is up (head above neck above hip centre above feet), metres, z away from the camera.
    heights = np.median(pose[..., 1], axis=0)
    assert heights[19] > heights[2] > heights[6] > heights[15]
    assert 1.2 < heights[19] - heights[17] < 2.0
    assert 1 < pose[..., 2].min() and pose[..., 2].max() < 5


# ---- NTU RGB+D


def upright(seed, move=0.05):
    """A body (40, 25, 3) that is higher than wide; `move` is how far its joints stray."""
    rng = np.random.default_rng(seed)
    still = np.stack([np.zeros(25), np.linspace(-0.9, 0.9, 25), np.full(25, 3.0)], -1)
    return (still + rng.normal(0, move, (40, 25, 3))).round(4)


def flat(seed):
    return upright(seed)[..., [1, 0, 2]]


def frames_of(**bodies):
    """Frames (`ntu`) of bodies: id to (body, its first frame, its last)."""
    return [
        [(name, body[t]) for name, (body, first, last) in bodies.items() if first <= t <= last]
        for t in range(40)
    ]


A, B, LIVELY = upright(0), upright(1), upright(2, 0.2)


@pytest.mark.parametrize(
    ('bodies', 'expected'),
    [
        (dict(a=(A, 0, 39)), ['a']),
        # Who moves more comes first, even behind a place in the file.
        (dict(a=(A, 0, 39), b=(LIVELY, 0, 39)), ['b', 'a']),
        # Eleven frames are too few beside another body, twelve are not.
        (dict(a=(A, 0, 39), b=(LIVELY, 0, 10)), ['a']),
        (dict(a=(A, 0, 39), b=(LIVELY, 0, 11)), ['b', 'a']),
        # Furniture is wider than high; so is the only body of a clip, which stays.
        (dict(a=(A, 0, 39), b=(flat(3), 0, 39)), ['a']),
        (dict(a=(flat(3), 0, 39)), ['a']),
        # Too short goes first: then a flat body is the only one, and stays.
        (dict(a=(A, 0, 5), b=(flat(3), 0, 39)), ['b']),
        # A body that is found again under another id keeps its place.
        (dict(a=(A, 0, 19), b=(B, 20, 39)), ['ab']),
        (dict(a=(A, 0, 19), b=(B, 19, 39)), ['a', 'b']),
    ],
)
def test_ntu_bodies(tmp_path, bodies, expected):
    name = 'S001C002P003R002A013'
    path = tmp_path / 'raw' / f'{name}.skeleton'
    path.parent.mkdir()
    path.write_text(ntu(frames_of(**bodies)))
    _, content = run(tmp_path, 'ntu', tmp_path / 'raw')
    clip = by_name(content)[name]
    persons = np.zeros((len(expected), 40, 25, 3), np.float32)
    for person, parts in zip(persons, expected, strict=True):
        for part in parts:
            body, first, last = bodies[part]
            person[first : last + 1] = body[first : last + 1]
    found = clip['keypoint']
    if expected == ['a', 'b']:  # which of them moves more is not what is asked
        found = found[np.argsort([not person[0].any() for person in found])]
    np.testing.assert_array_equal(found, persons)
    assert (clip['label'], clip['subject'], clip['camera'], clip['setup']) == (12, '3', 2, 1)


@pytest.mark.parametrize(
    ('name', 'splits'),
    [
        ('S001C001P001R001A001', {'xsub_train', 'xview_val', 'xset_val'}),
        ('S002C002P003R001A060', {'xsub_val', 'xview_train', 'xset_train'}),
        ('S017C003P038R002A050', {'xsub_train', 'xview_train', 'xset_val'}),
        # NTU-60's subjects end at 40, so 45 trains in NTU-120 alone.
        ('S032C001P045R001A059', {'xsub_val', 'xview_val', 'xset_train'}),
        ('S032C001P045R001A061', {'xsub_train', 'xview_val', 'xset_train'}),
        ('S018C002P106R001A120', {'xsub_val', 'xview_train', 'xset_train'}),
    ],
)
def test_ntu_splits(tmp_path, name, splits):
    (tmp_path / 'raw').mkdir()
    (tmp_path / 'raw' / f'{name}.skeleton').write_text(ntu([[('1', A[0])]] * 2))
    _, content = run(tmp_path, 'ntu', tmp_path / 'raw')
    assert {split for split, members in content['split'].items() if members} == splits
    assert len(content['meta']['classes']) == (120 if name[-3:] > '060' else 60)
