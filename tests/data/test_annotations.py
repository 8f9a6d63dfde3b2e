"""Annotation files: round trips, refused pickles, damaged files, clear messages."""

import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mg_plugins.data.annotations import (
    AnnotationError,
    check_annotations,
    load_annotations,
    save_annotations,
    summarise,
)
from mg_plugins.data.storage import ClipFolder
from mg_plugins.data.unpickle import load_pickle


def make_clip(name='clip0', label=0, persons=1, frames=5, joints=4, dims=2, seed=0, **fields):
    """One valid annotation with random coordinates and one missing joint."""
    rng = np.random.default_rng(seed)
    keypoint = rng.uniform(1, 9, (persons, frames, joints, dims)).astype(np.float32)
    score = rng.uniform(0.1, 1, (persons, frames, joints)).astype(np.float32)
    keypoint[0, 0, 0] = score[0, 0, 0] = 0
    return dict(
        frame_dir=name,
        label=label,
        total_frames=frames,
        keypoint=keypoint,
        keypoint_score=score,
        img_shape=(720, 1280),
        original_shape=(720, 1280),
        **fields,
    )


def same(left, right):
    """Equal nested content, arrays by dtype and value."""
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, (list, ClipFolder)):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def write_pickle(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


CLIPS = [
    make_clip('a', 0, frames=5, session='0007', subject='3', start=10, end=14, fps=25.0),
    make_clip('b', 2, persons=2, frames=3, seed=1, outcome='win'),
    make_clip('c', 2, frames=1, seed=2),
]
SPLIT = dict(train=['a', 'b'], val=['c'])
META = dict(layout=dict(joints=4), classes=['x', 'y', 'z'], source='synthetic', note='für dich')


@pytest.mark.parametrize('suffix', ['.pkl', '.npz', '.mg'])
def test_round_trip(tmp_path, suffix):
    path = tmp_path / 'deep' / f'set{suffix}'
    save_annotations(path, SPLIT, CLIPS, META)
    content = load_annotations(path)
    assert same(content, dict(split=SPLIT, annotations=CLIPS, meta=META, notes=[]))
    assert all(type(clip['keypoint']) is np.ndarray for clip in content['annotations'])
    assert sorted(os.listdir(path.parent)) == [path.name]
    assert path.stat().st_mode & 0o044 == 0o044 & ~_umask()


def _umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


@settings(deadline=None, max_examples=15)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6)), min_size=1, max_size=5),
    dims=st.sampled_from([2, 3]),
    suffix=st.sampled_from(['.pkl', '.npz', '.mg']),
)
def test_round_trip_of_any_sizes(tmp_path_factory, sizes, dims, suffix):
    clips = [
        make_clip(str(i), i, persons, frames, dims=dims, seed=i)
        for i, (persons, frames) in enumerate(sizes)
    ]
    path = tmp_path_factory.mktemp('any') / f'set{suffix}'
    save_annotations(path, {}, clips, {})
    assert same(load_annotations(path)['annotations'], clips)


def test_save_fills_in_scores_and_types(tmp_path):
    clip = make_clip('a')
    del clip['keypoint_score'], clip['total_frames']
    clip['keypoint'] = clip['keypoint'].astype(np.float64)
    clip['label'] = np.int64(3)
    save_annotations(tmp_path / 'a.npz', {}, [clip], {})
    loaded = load_annotations(tmp_path / 'a.npz')['annotations'][0]
    assert loaded['keypoint'].dtype == np.float32 and loaded['total_frames'] == 5
    assert type(loaded['label']) is int and loaded['label'] == 3
    np.testing.assert_array_equal(loaded['keypoint_score'][0, 0], [0, 1, 1, 1])
    assert 'keypoint_score' not in clip and clip['keypoint'].dtype == np.float64


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.pkl'
    save_annotations(path, {}, [CLIPS[0]], {})
    before = path.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        save_annotations(path, {}, [dict(CLIPS[0], extra=lambda: 0)], {})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ['a.pkl']
    with pytest.raises(AnnotationError, match='plain values only'):
        save_annotations(tmp_path / 'a.npz', {}, [dict(CLIPS[0], extra={1, 2})], {})


@pytest.mark.parametrize('suffix', ['.npz', '.mg'])
def test_meta_of_numpy_values_is_saved(tmp_path, suffix):
    save_annotations(tmp_path / f'a{suffix}', {}, [CLIPS[0]], dict(mean=np.array([1.0, 2.0])))
    assert load_annotations(tmp_path / f'a{suffix}')['meta'] == dict(mean=[1.0, 2.0])


@pytest.mark.parametrize('protocol', range(6))
def test_every_pickle_protocol_loads(tmp_path, protocol):
    extra = dict(
        fortran=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        turned=np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        big_endian=np.arange(3, dtype='>i4'),
        text=np.array(['ab', 'c']),
        flags=np.array([True, False]),
        empty=np.zeros((0, 3), np.float32),
        half=np.float16(0.5),
        number=np.float64(0.1),
        items={1, 2},
        frozen=frozenset('ab'),
        raw=b'\x00\xff',
        growing=bytearray(b'\x80abc'),
        nothing=bytearray(),
        point=1 + 2j,
        kind=np.dtype('float32'),
    )
    # What numpy itself makes of it counts: it turns big-endian arrays into native ones.
    meta = pickle.loads(pickle.dumps(dict(META, **extra), protocol))
    path = write_pickle(
        tmp_path / 'a.pkl', dict(split=SPLIT, annotations=CLIPS, meta=meta), protocol
    )
    content = load_annotations(path)
    assert same(content['annotations'], CLIPS) and same(content['meta'], meta)
    content['annotations'][0]['keypoint'][:] = 1


def test_numpy_1_and_2_names_load(tmp_path):
    """Files of numpy 1 say numpy.core, those of numpy 2 numpy._core."""
    data = pickle.dumps([make_clip('a', label=0)], 2)
    other = data.replace(b'cnumpy._core.', b'cnumpy.core.')
    if other == data:
        other = data.replace(b'cnumpy.core.', b'cnumpy._core.')
    assert other != data
    for number, content in enumerate((data, other)):
        path = tmp_path / f'{number}.pkl'
        path.write_bytes(content)
        assert same(load_annotations(path)['annotations'], [make_clip('a', label=0)])


def test_plain_mmaction_files_load(tmp_path):
    clip = make_clip('a')
    bare = {key: clip[key] for key in ('frame_dir', 'label', 'keypoint', 'total_frames')}
    content = load_annotations(write_pickle(tmp_path / 'list.pkl', [bare]))
    assert content['split'] == {} and content['meta'] == {}
    assert 'keypoint_score' not in content['annotations'][0]
    named = dict(bare, filename='b')
    del named['frame_dir']
    path = write_pickle(tmp_path / 'dict.pkl', dict(split=dict(t=['b']), annotations=[named]))
    assert load_annotations(path)['annotations'][0]['frame_dir'] == 'b'


class _Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def _payloads(marker):
    """Name to pickle bytes; each tries something other than being data."""
    touch = f'open({str(marker)!r}, "w").close()'
    clip = make_clip('a')

    def inside(value):
        return pickle.dumps(dict(split={}, annotations=[clip], meta=dict(note=value)))

    def reduce(module, name, *args):
        return b'c' + f'{module}\n{name}\n'.encode() + pickle.dumps(args, 0)[:-1] + b'R.'

    def opcodes(*parts):
        return b'\x80\x04' + b''.join(parts) + b'.'

    def word(text):
        return b'\x8c' + bytes([len(text)]) + text.encode()

    def ref(module, name):
        return word(module) + word(name) + b'\x93'

    frombuffer = ref('numpy._core.numeric', '_frombuffer')
    dtype = ref('numpy', 'dtype') + word('f4') + b'\x85R'
    array = (
        ref('numpy._core.multiarray', '_reconstruct')
        + ref('numpy', 'ndarray')
        + b'K\x00\x85'
        + word('b')
        + b'\x87R'
    )
    address = b'\x43\x08' + struct.pack('<Q', 0x4141414141414141)
    return {
        'os.system': inside(_Call(os.system, f'touch {marker}')),
        'exec': inside(_Call(exec, touch)),
        'eval in the label': pickle.dumps([dict(clip, label=_Call(eval, touch))]),
        'subprocess': inside(_Call(subprocess.check_call, [sys.executable, '-c', touch])),
        'builtins.getattr': reduce('builtins', 'getattr', 'a', 'upper'),
        'dotted name': opcodes(ref('numpy', 'f2py.os.system')),
        'dotted builtin': opcodes(ref('builtins', 'dict.fromkeys')),
        'numpy loader': reduce('numpy', 'load', str(marker)),
        'numpy file': reduce('numpy', 'memmap', str(marker), 'uint8', 'w+', 0, (1,)),
        'numpy test runner': reduce('numpy.testing._private.utils', 'runstring', touch, {}),
        'codecs': reduce('_codecs', 'encode', 'text', 'zlib'),
        'import of a stranger': inside(_Call(__import__, 'antigravity')),
        'writes a function attribute': opcodes(
            frombuffer, b'}', word('__doc__'), word('owned'), b's', b'b'
        ),
        'writes function defaults': opcodes(
            frombuffer, b'N}', word('__defaults__'), b'K\x01\x85s\x86', b'b'
        ),
        'writes a class attribute': opcodes(
            ref('numpy', 'ndarray'), b'N}', word('sum'), b'Ns\x86', b'b'
        ),
        'makes an instance of a stand-in': opcodes(ref('numpy', 'dtype'), b')\x81'),
        'object array': inside(np.array([dict(a=1), None], dtype=object)),
        'object scalar': opcodes(
            ref('numpy._core.multiarray', 'scalar'),
            ref('numpy', 'dtype') + word('O') + b'\x85R',
            address,
            b'\x86R',
        ),
        'pointers as an object array': opcodes(
            frombuffer,
            b'(',
            address,
            ref('numpy', 'dtype') + word('O8') + b'\x85R',
            b'K\x01\x85',
            word('C'),
            b'tR',
        ),
        'structured type with objects': inside(np.zeros(1, [('a', object)])),
        'forged byte order': opcodes(
            dtype, b'(K\x03', word('O'), b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t', b'b'
        ),
        'array with a list of objects': opcodes(
            array, b'(K\x01K\x01\x85', dtype, b'\x89', b']N\x61', b't', b'b'
        ),
        'array larger than its bytes': opcodes(
            array, b'(K\x01', b'J\xff\xff\xff\x7f\x85', dtype, b'\x89', address, b't', b'b'
        ),
        'negative shape': opcodes(
            array, b'(K\x01', b'J\xfe\xff\xff\xff\x85', dtype, b'\x89', address, b't', b'b'
        ),
        'bytearray of a given size': reduce('builtins', 'bytearray', 1 << 20),
        'persistent id': opcodes(word('x') + b'Q'),
        'extension code': opcodes(b'\x82\x01'),
        'contains itself': opcodes(b']\x94h\x00\x61'),
        'only a stand-in': opcodes(b']', frombuffer, b'\x61'),
    }


@pytest.mark.parametrize('name', sorted(_payloads('x')))
def test_a_malicious_pickle_is_refused(tmp_path, name):
    marker = tmp_path / 'marker'
    path = tmp_path / 'a.pkl'
    path.write_bytes(_payloads(marker)[name])
    pickletools.dis(path.read_bytes(), out=open(os.devnull, 'w'))  # it is a complete pickle
    with pytest.raises(AnnotationError, match=str(path)):
        load_annotations(path)
    with pytest.raises(AnnotationError, match=str(path)):
        load_pickle(path)  # refused as it is read, not for lack of annotations
    assert not marker.exists()
    assert np.ndarray.sum is not None and np.zeros(3).sum() == 0


def test_the_refusal_names_what_was_refused(tmp_path):
    path = write_pickle(tmp_path / 'a.pkl', [_Call(os.system, 'true')])
    with pytest.raises(AnnotationError, match=f'{os.system.__module__}.system'):
        load_annotations(path)


def test_the_payloads_would_do_harm_elsewhere(tmp_path):
    """The marker test can fail: a plain unpickler does make the file."""
    marker = tmp_path / 'marker'
    pickle.loads(_payloads(marker)['exec'])
    assert marker.exists()


def test_npz_with_objects_is_refused(tmp_path):
    path = tmp_path / 'a.npz'
    np.savez(path, record=np.array([_Call(os.system, f'touch {tmp_path}/marker')], object))
    with pytest.raises(AnnotationError, match='allow_pickle|Object'):
        load_annotations(path)
    assert not (tmp_path / 'marker').exists()


@pytest.mark.parametrize('suffix', ['.pkl', '.npz'])
def test_truncated_files_are_explained(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    save_annotations(path, SPLIT, CLIPS, META)
    data = path.read_bytes()
    for size in (0, 1, 10, len(data) // 3, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(AnnotationError, match=str(path)):
            load_annotations(path)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_pickles_never_raise_anything_else(tmp_path_factory, data):
    content = bytearray(pickle.dumps(dict(split=SPLIT, annotations=CLIPS[2:], meta=META)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp('damaged') / 'a.pkl'
    path.write_bytes(bytes(content))
    try:
        load_annotations(path)
    except AnnotationError:
        pass


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(label='3'), "clip 'a'.*label.*'3'.*integer"),
        (dict(label=True), 'label.*True'),
        (dict(label=-1), 'label.*-1'),
        (dict(label=np.array([1, 2])), 'label.*integer'),
        (dict(keypoint=None), 'keypoint.*NoneType.*shape'),
        (dict(keypoint=np.zeros((5, 4, 2), np.float32)), 'shape \\(5, 4, 2\\), expected floats'),
        (dict(keypoint=np.zeros((1, 5, 4, 4), np.float32)), r'shape \(1, 5, 4, 4\), expected'),
        (dict(keypoint=np.zeros((1, 0, 4, 2), np.float32)), 'no clip has a person and a frame'),
        (dict(total_frames=6), 'total_frames.*6.*5 frames'),
        (dict(total_frames='5'), 'total_frames'),
        (
            dict(keypoint_score=np.ones((1, 5), np.float32)),
            'keypoint_score.*shape \\(1, 5, 4\\)',
        ),
        (dict(keypoint_score=[1]), 'keypoint_score.*list'),
        (dict(frame_dir=7), 'with a "frame_dir" text'),
    ],
)
def test_wrong_annotations_are_explained(tmp_path, change, message):
    clip = dict(make_clip('a'), **change)
    with pytest.raises(AnnotationError, match=message):
        load_annotations(write_pickle(tmp_path / 'a.pkl', [clip]))


def test_not_finite_coordinates_are_located():
    clip = make_clip('a')
    clip['keypoint'][0, 3, 1, 0] = np.nan
    with pytest.raises(AnnotationError, match="set.pkl: clip 'a'.*frame 3"):
        check_annotations([clip], 'set.pkl')
    clip = make_clip('a')
    clip['keypoint_score'][0, 3, 1] = np.inf
    with pytest.raises(AnnotationError, match='keypoint_score.*finite'):
        check_annotations([clip])


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (3, 'expected a dict'),
        (dict(split={}), 'key "annotations"'),
        (dict(annotations=dict(a=1)), 'key "annotations"'),
        (dict(annotations=[3]), 'annotation 0 is a int'),
        (dict(annotations=[], split=[1]), '"split" must be a dict'),
        (dict(annotations=[], split=dict(a='bc')), '"split" must be a dict'),
        (dict(annotations=[], meta=[1]), '"meta" is a list'),
        (dict(annotations=[make_clip('a'), make_clip('a')]), 'same name'),
        (dict(annotations=[make_clip('a'), make_clip('b', joints=5)]), "clip 'b'.*5 joints"),
    ],
)
def test_wrong_structures_are_explained(tmp_path, content, message):
    with pytest.raises(AnnotationError, match=message):
        load_annotations(write_pickle(tmp_path / 'a.pkl', content))


def test_splits_may_number_their_clips(tmp_path):
    clips = [make_clip(str(n)) for n in range(4)]
    split = {0: np.array(['0']), 'val': {2, 1}, 'test': np.array([3])}
    content = load_annotations(
        write_pickle(tmp_path / 'a.pkl', dict(split=split, annotations=clips))
    )
    assert content['split'] == {'0': ['0'], 'val': ['1', '2'], 'test': ['3']}
    single = dict(split=dict(train=np.array('0')), annotations=clips)
    with pytest.raises(AnnotationError, match='dict of split name to clip names'):
        load_annotations(write_pickle(tmp_path / 'b.pkl', single))


@pytest.mark.parametrize('suffix', ['.npz', '.mg'])
def test_fields_of_ones_own_are_called_anything(tmp_path, suffix):
    clip = make_clip(body_shape=3, hand_shape='round')
    save_annotations(tmp_path / f'a{suffix}', {}, [clip])
    assert same(load_annotations(tmp_path / f'a{suffix}')['annotations'][0], clip)


def test_wrong_paths_are_explained(tmp_path):
    with pytest.raises(AnnotationError, match='does not exist; tools/prepare_data.py'):
        load_annotations(tmp_path / 'none.pkl')
    with pytest.raises(AnnotationError, match='must end in .pkl, .npz or .mg'):
        load_annotations(tmp_path / 'a.json')
    with pytest.raises(AnnotationError, match="'val' names 1 clip without annotation.*'z'"):
        save_annotations(tmp_path / 'a.pkl', dict(val=['z']), [CLIPS[0]], {})
    np.savez(tmp_path / 'other.npz', x=np.zeros(3))
    with pytest.raises(AnnotationError, match='record'):
        load_annotations(tmp_path / 'other.npz')


def test_npz_with_wrong_offsets_is_refused(tmp_path):
    save_annotations(tmp_path / 'a.npz', SPLIT, CLIPS, META)
    stored = dict(np.load(tmp_path / 'a.npz'))
    for key, value in (
        ('offset', stored['offset'] + 1),
        ('shape', stored['shape'][:-1]),
        ('keypoint', stored['keypoint'][:-1]),
        ('keypoint', np.concatenate([stored['keypoint']] * 2)),
        ('keypoint_score', np.concatenate([stored['keypoint_score']] * 2)),
        ('record', np.frombuffer(json.dumps([1]).encode(), np.uint8)),
        ('record', np.frombuffer(b'{', np.uint8)),
    ):
        np.savez(tmp_path / 'b.npz', **dict(stored, **{key: value}))
        with pytest.raises(AnnotationError, match='b.npz'):
            load_annotations(tmp_path / 'b.npz')


def test_summary():
    summary = summarise(dict(split=SPLIT, annotations=CLIPS, meta=META))
    assert summary['clips'] == 3 and summary['persons'] == 2
    assert (summary['joints'], summary['dims']) == (4, 2)
    assert summary['class_counts'] == [1, 0, 2]
    assert summary['subjects'] == ['3'] and summary['splits'] == dict(train=2, val=1)
    assert summarise(dict(split={}, annotations=[], meta={}))['clips'] == 0


def test_imports_with_numpy_alone():
    code = (
        'import sys, importlib.abc\n'
        'class No(importlib.abc.MetaPathFinder):\n'
        '    def find_spec(self, name, path=None, target=None):\n'
        '        if name.partition(".")[0] in ("torch", "mmengine", "mmcv", "mmaction"):\n'
        '            raise ModuleNotFoundError(name, name=name)\n'
        'sys.meta_path.insert(0, No())\n'
        'from mg_plugins.data import annotations, classes, layouts, skeleton\n'
        'print(layouts.get_layout("ntu25").num_joints)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.strip() == '25', done.stderr
