"""What people's annotation files hold: mended where it can mean one thing only, else refused."""

import pickle

import numpy as np
import pytest

from mg_plugins.data import AnnotationError, load_annotations, save_annotations, summarise
from mg_plugins.data.storage import ClipFolder, clip_labels


def clip(name='a', label=0, frames=4, joints=22, dims=2, **fields):
    keypoint = np.random.default_rng(0).uniform(300, 700, (1, frames, joints, dims))
    return dict(frame_dir=name, label=label, keypoint=keypoint.astype(np.float32), **fields)


def load(path, content):
    path = path / 'set.pkl'
    path.write_bytes(pickle.dumps(content))
    return load_annotations(path)


def test_float16_pixels_become_float32(tmp_path):
    one = clip(frames=6)
    half = one['keypoint'].astype(np.float16)
    score = np.ones(half.shape[:3], np.float16)
    (loaded,) = load(tmp_path, [dict(one, keypoint=half, keypoint_score=score)])['annotations']
    assert loaded['keypoint'].dtype == loaded['keypoint_score'].dtype == np.float32
    np.testing.assert_array_equal(loaded['keypoint'], half.astype(np.float32))


@pytest.mark.parametrize('dtype', [np.float64, np.int64, np.int16, '>f4'])
def test_other_numbers_become_float32(tmp_path, dtype):
    one = clip()
    given = one['keypoint'].astype(dtype)
    (loaded,) = load(tmp_path, [dict(one, keypoint=given)])['annotations']
    assert loaded['keypoint'].dtype == np.float32
    np.testing.assert_array_equal(loaded['keypoint'], given.astype(np.float32))


@pytest.mark.parametrize('value', [1e10, 1e39, 1e300])
def test_large_finite_numbers_are_called_large(tmp_path, value):
    one = clip()
    one['keypoint'] = np.full((1, 4, 22, 2), value)
    with pytest.raises(AnnotationError, match=r"clip 'a'.*1e\+\d+, which is neither pixels"):
        load(tmp_path, [one])


def test_no_score_is_no_score(tmp_path):
    (loaded,) = load(tmp_path, [clip(keypoint_score=None)])['annotations']
    assert 'keypoint_score' not in loaded


def test_nan_is_a_missing_joint(tmp_path):
    one = clip(keypoint_score=np.ones((1, 4, 22), np.float32))
    one['keypoint'][0, 1, 3, 1] = np.nan
    content = load(tmp_path, [one])
    (loaded,) = content['annotations']
    assert not loaded['keypoint'][0, 1, 3].any() and loaded['keypoint'][0, 1, 4].all()
    assert loaded['keypoint_score'][0, 1, 3] == 0 and loaded['keypoint_score'].sum() == 87
    assert content['notes'] == ['1 clip with NaN, taken for missing joints, such as a']


def test_a_clip_without_a_body_is_left_out_and_the_file_stays(tmp_path):
    nobody = dict(clip('nobody'), keypoint=np.zeros((0, 4, 22, 2), np.float16))
    content = load(tmp_path, [nobody, clip('a')])
    assert [one['frame_dir'] for one in content['annotations']] == ['a']
    assert content['notes'] == ['1 clip without a person or a frame left out, such as nobody']


@pytest.mark.parametrize('layout', [None, 'imigue22'])
def test_a_score_as_third_channel(tmp_path, layout):
    one = clip(dims=3)
    one['keypoint'][..., 2] = np.linspace(0, 1, 88).reshape(1, 4, 22)
    content = load(tmp_path, dict(annotations=[one], meta=dict(layout=layout)))
    (loaded,) = content['annotations']
    np.testing.assert_array_equal(loaded['keypoint'], one['keypoint'][..., :2])
    np.testing.assert_array_equal(loaded['keypoint_score'], one['keypoint'][..., 2])
    assert 'third channel is a detection score' in content['notes'][0]


def test_a_third_channel_that_may_be_either(tmp_path):
    one = clip(dims=3)
    one['keypoint'] /= 1000
    with pytest.raises(AnnotationError, match="'imigue22' have three.*keypoint_score"):
        load(tmp_path, dict(annotations=[one], meta=dict(layout='imigue22')))
    # Metres of a layout in space, and clips whose third coordinate is a depth.
    assert load(tmp_path, dict(annotations=[one], meta=dict(layout='hand20')))['notes'] == []
    one['keypoint'][..., 2] += 2
    assert load(tmp_path, dict(annotations=[one], meta=dict(layout='imigue22')))['notes'] == []


@pytest.mark.parametrize('label', [10**9, 2**40, 2**63, -1, 1.0, '3', None, [1]])
def test_labels_that_are_no_class_number(tmp_path, label):
    if label is None:
        assert 'label' not in load(tmp_path, [clip(label=None)])['annotations'][0]
        return
    with pytest.raises(AnnotationError, match='"label" is .*, expected an integer from 0'):
        load(tmp_path, [clip(label=label)])


def test_labels_counted_from_1(tmp_path):
    clips = [clip(name, label) for name, label in dict(a=1, b=2, c=3).items()]
    split = dict(train=['a', 'b'], val=['c'])
    with pytest.raises(AnnotationError, match='label 0.*from 1 to 3: .* from 1, subtract 1'):
        load(tmp_path, dict(split=split, annotations=clips))
    with pytest.raises(AnnotationError, match="clip 'c' has label 3.*3 classes.*subtract 1"):
        load(tmp_path, dict(annotations=clips, meta=dict(classes=['x', 'y', 'z'])))
    # A part of a set may lack class 0, and a set that names its classes too.
    assert 'no clip has label 0' in load(tmp_path, clips)['notes'][0]
    known = dict(split=split, annotations=clips, meta=dict(classes=list('wxyz')))
    assert load(tmp_path, known)['notes'] == []


def test_splits(tmp_path):
    clips = [clip(name) for name in 'abc']
    both = dict(xsub_train=['a', 'b'], xsub_val=['b'], xview_train=['b'], xview_val=['a'])
    with pytest.raises(AnnotationError, match="1 clip is in split 'xsub_train' and.*'xsub_val'"):
        load(tmp_path, dict(split=both, annotations=clips))
    content = load(tmp_path, dict(split=dict(both, xsub_val=['c', 'c', 'd']), annotations=clips))
    assert content['notes'] == [
        "split 'xsub_val' names 1 clip more than once; taken out",
        "split 'xsub_val' names 1 clip that is not there, such as 'd'; taken out",
    ]


def test_several_files(tmp_path):
    train, val = tmp_path / 'train.pkl', tmp_path / 'val.npz'
    train.write_bytes(pickle.dumps([clip('a'), clip('b', 1)]))
    save_annotations(val, {}, [clip('c')], dict(layout='imigue22'))
    content = load_annotations([train, val])
    assert content['split'] == dict(train=['a', 'b'], val=['c'])
    assert [one['frame_dir'] for one in content['annotations']] == ['a', 'b', 'c']
    assert content['meta'] == dict(layout='imigue22')
    save_annotations(val, dict(xsub_val=['c']), [clip('c')], {})
    assert load_annotations([train, val])['split'] == dict(train=['a', 'b'], xsub_val=['c'])
    save_annotations(val, {}, [clip('b')], {})
    with pytest.raises(AnnotationError, match="clip 'b'.*another clip has the same name"):
        load_annotations([train, val])
    save_annotations(train, {}, [clip('a')], dict(classes=['nod', 'rub']))
    save_annotations(val, {}, [clip('c')], dict(classes=['rub', 'tap']))
    with pytest.raises(AnnotationError, match='val.npz: they name different classes'):
        load_annotations([train, val])
    save_annotations(val, {}, [clip('c', joints=5)], {})
    with pytest.raises(AnnotationError, match="clip 'c'.*5 joints"):
        load_annotations([train, val])


@pytest.mark.parametrize('suffix', ['.pkl', '.npz', '.mg'])
def test_recordings(tmp_path, suffix):
    segments = [dict(label=2, start=0, end=2), dict(label=0, start=3, end=4)]
    times = np.array([0.0, 0.04, 0.09, 0.12])
    one = dict(clip(label=None), segments=segments, fps=25.0, frame_times=times)
    save_annotations(tmp_path / f'a{suffix}', {}, [one], {})
    loaded = load_annotations(tmp_path / f'a{suffix}')['annotations'][0]
    assert 'label' not in loaded and loaded['segments'] == segments and loaded['fps'] == 25
    np.testing.assert_array_equal(loaded['frame_times'], times)
    assert loaded['frame_times'].dtype == np.float64


@pytest.mark.parametrize(
    ('field', 'message'),
    [
        (dict(segments=[dict(label=0, start=2, end=2)]), 'a segment is .*within 4 frames'),
        (dict(segments=[dict(label=0, start=2, end=5)]), 'a segment is .*within 4 frames'),
        (dict(segments=[dict(label=0, start=-1, end=2)]), 'a segment is .*within 4 frames'),
        (dict(segments=[dict(label=10**6, start=0, end=2)]), 'a segment is'),
        (dict(segments=[dict(start=0, end=2)]), 'a segment is'),
        (dict(segments=[(0, 1, 2)]), r'a segment is \(0, 1, 2\)'),
        (dict(segments=dict(label=0)), r"a segment is {'label': 0}"),
        (dict(fps=0), '"fps" is 0'),
        (dict(fps='25'), '"fps" is \'25\''),
        (dict(fps=float('nan')), '"fps" is nan'),
        (dict(frame_times=[0, 1, 1, 2]), '4 rising times'),
        (dict(frame_times=[0, 1]), '4 rising times'),
    ],
)
def test_wrong_fields_of_recordings(tmp_path, field, message):
    with pytest.raises(AnnotationError, match=message):
        load(tmp_path, [clip(**field)])


def test_summary_names_what_is_never_detected(tmp_path):
    clips = [clip(name, label) for name, label in dict(a=0, b=1, c=None, d=0).items()]
    for one in clips[:3]:
        one['keypoint'][:, :, 17:] = 0
    clips[0]['keypoint'][:] = 0
    content = load(tmp_path, dict(annotations=clips, meta=dict(layout='imigue22')))
    summary = summarise(content)
    assert summary['undetected']['left_hand'] == 0.75
    assert summary['undetected']['right_hand'] == summary['undetected']['all'] == 0.25
    assert summary['class_counts'] == [2, 1]


def test_folder_of_clips(tmp_path):
    path = tmp_path / 'set.mg'
    # What a killed process left is removed.
    (tmp_path / '.set.mg.99999999-0123abcd.mg').mkdir()
    (tmp_path / '.set.mg.99999999-0123abcd.mg/keypoint.npy').write_bytes(b'half')
    clips = (clip(f'c{n}', n % 3 if n % 4 else None, frames=2 + n) for n in range(9))
    save_annotations(path, dict(train=['c1']), clips, dict(layout='imigue22'))
    folder = load_annotations(path)['annotations']
    assert isinstance(folder, ClipFolder) and len(folder) == 9
    assert clip_labels(folder).tolist() == [-1, 1, 2, 0, -1, 2, 0, 1, -1]
    part = folder[np.array([7, 1])]
    again = pickle.loads(pickle.dumps(part))
    for some in (part, again):
        assert [one['frame_dir'] for one in some] == ['c7', 'c1']
        assert not some[0]['keypoint'].flags.owndata and some[0]['total_frames'] == 9
    # Whole or not at all, and never over something else.
    with pytest.raises(AnnotationError, match='names 1 clip without annotation'):
        save_annotations(path, dict(train=['x']), [clip('c')], {})
    assert len(load_annotations(path)['annotations']) == 9
    assert [other.name for other in tmp_path.iterdir()] == ['set.mg']
    save_annotations(path, {}, [clip('new')], {})
    assert [one['frame_dir'] for one in load_annotations(path)['annotations']] == ['new']
    (tmp_path / 'own.mg').mkdir()
    with pytest.raises(AnnotationError, match='is there and is no folder of clips'):
        save_annotations(tmp_path / 'own.mg', {}, [clip('c')], {})


@pytest.mark.parametrize('damage', ['cut', 'header', 'missing', 'index', 'offsets', 'nan'])
def test_damaged_folders(tmp_path, damage):
    path = tmp_path / 'set.mg'
    save_annotations(path, {}, [clip('a'), clip('b')], {})
    array = path / 'keypoint.npy'
    if damage == 'cut':
        array.write_bytes(array.read_bytes()[:-8])
    elif damage == 'header':
        array.write_bytes(array.read_bytes().replace(b'(8, 22, 2)', b'(8, 9**9, 2)'))
    elif damage == 'missing':
        array.unlink()
    elif damage == 'index':
        (path / 'index.json').write_text('[' * 200_000)
    elif damage == 'offsets':
        np.save(path / 'clips.npy', np.load(path / 'clips.npy') + 1)
    else:
        data = bytearray(array.read_bytes())
        data[-4:] = np.float32('nan').tobytes()
        array.write_bytes(data)
    with pytest.raises(AnnotationError, match='set.mg'):
        list(load_annotations(path)['annotations'])
