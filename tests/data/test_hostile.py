"""Files that ask for much: refused by name in one sentence, within a fixed amount of memory."""

import json
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from mg_plugins.data import save_annotations

MEMORY = 1_500_000_000


def nested(depth, kind=list):
    value = kind()
    for _ in range(depth):
        value = kind([value])
    return value


def doubled(times):
    value = [1]
    for _ in range(times):
        value = [value, value]
    return value


def itself():
    value = []
    value.append(value)
    return value


def long_bytes(opcode, form, size):
    return b'\x80\x04' + opcode + struct.pack(form, size) + b'abc.'


ARRAY = pickle.dumps(np.zeros((2, 3), np.float32))
COPIES = (
    b'\x80\x04B' + struct.pack('<I', 1_000_000) + b'x' * 1_000_000 + b'q\x00]q\x01('
    + b'cbuiltins\nbytearray\nh\x00\x85R' * 50_000 + b'e.'
)  # fmt: skip
PICKLES = dict(
    empty=(b'', 'it is empty'),
    cut=(pickle.dumps(dict(annotations=[]))[:-4], 'cut short'),
    memo=(b'\x80\x04Nr\xff\xff\xff\x7f.', 'memo number is out of range'),
    memo_as_text=(b'Np4294967295\n.', 'memo number is out of range'),
    bytes_of_400_gb=(long_bytes(b'\x8e', '<Q', 400 << 30), 'cut short'),
    text_of_2_gb=(long_bytes(b'X', '<I', 2 << 30), 'cut short'),
    frame_of_400_gb=(long_bytes(b'\x95', '<Q', 400 << 30), 'cut short'),
    array_of_400_gb=(
        ARRAY.replace(b'K\x02K\x03\x86', b'J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86'),
        'damaged',
    ),
    copies=(COPIES, 'more than a file of its size may'),
    number_of_401_digits=(pickle.dumps([10**401]), 'a number of 1333 bits'),
    number_of_5000_digits=(b'I' + b'9' * 5000 + b'\n.', 'damaged'),
    deep_lists=(pickle.dumps(nested(60)), 'nested more than 50 deep'),
    deep_marks=(b'(' * 200_000 + b'l' * 200_000 + b'.', 'nested more than 50 deep'),
    shared_lists=(pickle.dumps(doubled(45)), 'too large for a file of its size'),
    contains_itself=(pickle.dumps(itself()), 'contains itself'),
    label_of_401_digits=(
        pickle.dumps([dict(frame_dir='a', label=10**401, keypoint=np.ones((1, 1, 4, 2)))]),
        'bits',
    ),
    scalars_for_arrays=(
        pickle.dumps([dict(frame_dir='a', label=0, keypoint=3.0)]),
        '"keypoint" is a float',
    ),
)


def small(path):
    clip = dict(frame_dir='a', label=0, keypoint=np.ones((1, 3, 4, 2), np.float32))
    save_annotations(path, {}, [clip], {})
    return path


def members(path):
    with zipfile.ZipFile(small(path)) as file:
        return {name: file.read(name) for name in file.namelist()}


def write_zip(path, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, 'w', compression) as file:
        for name, data in content.items():
            file.writestr(name, data)


def header(content, old, new):
    """An .npy file whose header says another shape, as long as before."""
    head, body = content[:128], content[128:]
    assert old in head
    return head.replace(old, new).rstrip(b'\n ').ljust(127)[:127] + b'\n' + body


def npz(folder, kind):
    path = folder / f'{kind}.npz'
    content = members(path)
    if kind == 'bomb':
        content['keypoint.npy'] = content['keypoint.npy'][:128] + bytes(300_000_000)
        write_zip(path, content, zipfile.ZIP_DEFLATED)
    elif kind == 'header':
        content['keypoint.npy'] = header(
            content['keypoint.npy'], b'(3, 4, 2)', b'(10000000000, 4, 2)'
        )
        write_zip(path, content)
    elif kind == 'flipped':
        data = bytearray(path.read_bytes())
        data[200] ^= 255
        path.write_bytes(data)
    elif kind in ('encrypted', 'unknown compression'):
        data = bytearray(path.read_bytes())
        for mark, flags, method in ((b'PK\x03\x04', 6, 8), (b'PK\x01\x02', 8, 10)):
            at = data.find(mark)
            while at >= 0:
                place, value = (flags, 1) if kind == 'encrypted' else (method, 99)
                data[at + place] = value
                at = data.find(mark, at + 4)
        path.write_bytes(data)
    elif kind == 'deep json':
        record = np.frombuffer(b'[' * 200_000, np.uint8)
        arrays = dict(np.load(path))
        np.savez(path, **dict(arrays, record=record))
    elif kind == 'long number':
        record = np.frombuffer(b'{"annotations": [' + b'9' * 5000 + b']}', np.uint8)
        arrays = dict(np.load(path))
        np.savez(path, **dict(arrays, record=record))
    else:
        path.write_bytes(b'no zip at all')
    return path


NPZ = {
    'bomb': 'times its size',
    'header': 'not as large as its header says',
    'flipped': 'CRC|header|not match',
    'encrypted': 'encrypted',
    'unknown compression': 'compression',
    'deep json': 'recursion',
    'long number': 'digits',
    'no zip': 'not a zip file',
}


@pytest.fixture(scope='module')
def said(tmp_path_factory):
    """What reading each file says, in a process that may not take much memory."""
    folder = tmp_path_factory.mktemp('hostile')
    for name, (content, _) in PICKLES.items():
        (folder / f'{name}.pkl').write_bytes(content)
    for kind in NPZ:
        npz(folder, kind)
    code = (
        'import json, resource, sys\n'
        'for name in ("torch", "mmengine", "mmcv", "mmaction"): sys.modules[name] = None\n'
        'from pathlib import Path\n'
        'from mg_plugins.data import load_annotations\n'
        'from mg_plugins.errors import UserError\n'
        f'resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))\n'
        'found = {}\n'
        'for path in sorted(Path(sys.argv[1]).iterdir()):\n'
        '    try:\n'
        '        found[path.name] = repr(load_annotations(path))[:99]\n'
        '    except UserError as error:\n'
        '        found[path.name] = "refused: " + str(error)\n'
        'print(json.dumps(found))\n'
    )
    environment = dict(OPENBLAS_NUM_THREADS='1', OMP_NUM_THREADS='1', PYTHONPATH=':'.join(sys.path))
    command = [sys.executable, '-c', code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert not done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('name', PICKLES)
def test_pickles(said, name):
    message = said[f'{name}.pkl']
    assert message.startswith('refused: ') and f'{name}.pkl' in message
    assert PICKLES[name][1] in message and len(message) < 700


@pytest.mark.parametrize('kind', NPZ)
def test_archives(said, kind):
    import re

    message = said[f'{kind}.npz']
    assert message.startswith('refused: ') and f'{kind}.npz' in message
    assert re.search(NPZ[kind], message), message
