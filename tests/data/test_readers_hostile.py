"""Sources, labels and options that are refused whole, and what happens to the output.

Each gives one sentence that names the file, in bounded memory, and leaves nothing half-written.
"""

import io
import json
import os
import pickle
import re
import resource
import signal
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pose_files import P17, coco, mmpose, pyskl, write

from mg_plugins.data.prepare import PrepareError, prepare
from mg_plugins.errors import UserError

import make_raw as raw
from make_raw import by_name, labels, run

POSES = mmpose(*[coco(f) for f in P17])

# ---- sources that are refused whole


def header(shape, descr='<f4'):
    return np.lib.format.magic(1, 0) + b'v\0' + (
        f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + '\n'
    ).encode()  # fmt: skip


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace('_', '.', 1), content)
    return stream.getvalue()


def saved(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def bomb(kind):
    """A tar file whose one member says it has 100 GB."""
    info = tarfile.TarInfo('a.json')
    info.size = 100 << 30
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f'w:{kind}') as archive:
        archive.fileobj.write(info.tobuf())
        archive.fileobj.write(b'\0' * 1024)
        archive.offset += 1536
    return stream.getvalue()


def marked(content, flag, method):
    """The archive with the flags or the compression method of all its members changed."""
    data = bytearray(content)
    for mark, flags in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        for match in re.finditer(re.escape(mark), content):
            data[match.start() + flags] |= flag
            data[match.start() + flags + 2] |= method
    return bytes(data)


class Evil:
    def __reduce__(self):
        return os.system, ('true',)


OWN = dict(keypoint=P17[None, None, ..., :2], label=np.array([0]))
REFUSED = {
    'npz with 400 GB in its header': (
        'a.npz',
        zipped(keypoint_npy=header((10**6, 1, 1000, 50, 2))),
        'not as large as its header says',
    ),
    'npz that unpacks to 200 MB': (
        'a.npz',
        zipped(keypoint_npy=header((5 * 10**7,)) + bytes(2 * 10**8)),
        'unpacks to more than 50 times',
    ),
    'npy with 400 GB in its header': ('a.npy', header((10**6, 1, 1000, 50, 2)), 'cannot be read'),
    'npy of objects': ('a.npy', header((3,), '|O'), 'cannot be read'),
    'npz with flipped bytes': ('a.npz', flipped(saved(**OWN)), 'cannot be read'),
    'npz that is encrypted': ('a.npz', marked(saved(**OWN), 1, 0), 'encrypted'),
    'npz packed in an unknown way': ('a.npz', marked(saved(**OWN), 0, 99), 'compression'),
    'npz cut short': ('a.npz', saved(**OWN)[:-200], 'cannot be read'),
    'npz that is text': ('a.npz', b'text', 'cannot be read'),
    'npz without keypoints': ('a.npz', saved(label=np.arange(3)), 'lacks keypoint'),
    'npz with labels of 10^9': (
        'a.npz',
        saved(**OWN | dict(label=np.array([10**9]))),
        'label 1000000000',
    ),
    'npz with labels of 2^40': (
        'a.npz',
        saved(**OWN | dict(label=np.array([2**40]))),
        'label 1099511627776',
    ),
    'npz with scalar labels': ('a.npz', saved(**OWN | dict(label=3)), 'label has shape ()'),
    'npz with a scalar keypoint': ('a.npz', saved(keypoint=3.0), 'shape ()'),
    'npz with text as keypoint': (
        'a.npz',
        saved(keypoint=np.full((1, 1, 4, 17, 2), 'a')),
        'expected numbers',
    ),
    'npz of clips without a joint': (
        'a.npz',
        saved(keypoint=np.zeros((2, 1, 4, 0, 2), np.float32)),
        'that has a joint; found an array of float32 with shape (2, 1, 4, 0, 2)',
    ),
    'zip bomb by its header': ('a.zip', None, 'unpack it and give the folder'),
    'zip that is text': ('a.zip', b'text', 'cannot be read as a zip archive'),
    'tar that is text': ('a.tar.gz', b'text', 'cannot be read as a tar archive'),
    'gzip bomb': ('a.tar.gz', bomb('gz'), 'unpack it and give the folder'),
    'xz bomb': ('a.tar.xz', bomb('xz'), 'unpack it and give the folder'),
    'pickle that runs code': ('a.pkl', pickle.dumps([Evil()]), 'was refused'),
    'pickle cut short': ('a.pkl', pickle.dumps([pyskl()])[:-40], 'damaged'),
    'pickle of a number': ('a.pkl', pickle.dumps(3), 'holds no annotations'),
    'pickle of numbers': ('a.pkl', pickle.dumps([1, 2]), 'holds no annotation'),
    'pickle without keypoints': (
        'a.pkl',
        pickle.dumps([dict(label=0)]),
        'no annotation with a keypoint array (M, T, V, C) that has a joint; found none',
    ),
    'pickle of clips without a joint': (
        'a.pkl',
        pickle.dumps([pyskl(keypoint=np.zeros((1, 4, 0, 3), np.float32))]),
        'that has a joint; found an array of float32 with shape (1, 4, 0, 3)',
    ),
    'pickle of clips without a coordinate': (
        'a.pkl',
        pickle.dumps([pyskl(keypoint=np.zeros((1, 4, 17, 0), np.float32))]),
        'that has a joint; found an array of float32 with shape (1, 4, 17, 0)',
    ),
    'pickle of text as keypoints': (
        'a.pkl',
        pickle.dumps([pyskl(keypoint=np.full((1, 4, 17, 3), 'a'))]),
        'found an array of <U1 with shape (1, 4, 17, 3)',
    ),
    'a file of nothing known': ('a.xyz', b'1', 'the format cannot be told'),
    'a table of nothing known': ('a.csv', b'a,b\n1,2', 'Looked into a.csv'),
    'JSON of nothing known': ('a.json', b'{"a": [1]}', 'Looked into a.json'),
    'JSON that is damaged': ('a.json', b'{"a": ', 'Looked into a.json: not JSON'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_a_source_is_refused(tmp_path, case):
    name, content, message = REFUSED[case]
    path = tmp_path / name
    if content is None:
        content = bytearray(zipped(a_json=b'0' * 1000))
        # The size in the central directory says 4 GB.
        at = content.rindex(b'PK\x01\x02')
        content[at + 24 : at + 28] = b'\xf0\xff\xff\xff'
    path.write_bytes(content)
    options = {} if path.suffix not in ('.npz', '.npy') else dict(size='640x480', layout='coco17')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        run(tmp_path, 'auto', path, **options)
    assert message in str(caught.value) and name in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        (['clip,label', 'a,1', 'b,2'], '--first-label 1'),
        (['clip,clip', 'a,1'], 'must begin with the header'),
        (['clip,label', '"a,1'], 'unexpected end of data'),
        (['name,label', 'a,1'], 'found name,label'),
        (['clip,label', 'a,1,2'], 'line 2: 3 cells under 2 columns'),
        (['clip,label'], 'holds a header and no rows'),
        ([''], 'found nothing'),
    ],
)
def test_labels_are_refused(tmp_path, rows, message):
    write(tmp_path / 'raw' / 'a.json', POSES)
    path = str(raw.write_lines(tmp_path / 'labels.csv', rows))
    with pytest.raises(UserError, match=message):
        run(tmp_path, 'poses', tmp_path / 'raw', labels=path, size='640x480')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(size='1' + '0' * 20 + 'x480'), '--size'),
        (dict(size='0x480'), 'must be WIDTHxHEIGHT'),
        (dict(size='640'), 'must be WIDTHxHEIGHT'),
        (dict(max_persons=0), '--max-persons 0'),
        (dict(max_score=-1.0), '--max-score -1'),
        (dict(fps=float('nan')), '--fps nan'),
        (dict(unit='inch'), '--unit inch'),
        (dict(layout='nobody'), '--layout: no layout is called'),
        (dict(wind=3), 'has no option wind'),
        (dict(out='set.csv'), 'must be a file that ends in .pkl, .npz'),
        (dict(out='/proc/nothing/set.pkl'), 'cannot be written'),
    ],
)
def test_options_are_refused_before_anything_is_read(tmp_path, options, message):
    write(tmp_path / 'raw' / 'a.json', 'not read')
    with pytest.raises(UserError, match=message):
        prepare('poses', tmp_path / 'raw', **{'out': tmp_path / 'set.pkl', **options})


@pytest.mark.parametrize(
    ('cells', 'detail'),
    [
        ('0,480,', 'no size of a picture'),
        ('1' + '0' * 20 + ',480,', 'no size of a picture'),
        ('640,480,inf', 'no frame rate'),
        ('640,480,-25', 'no frame rate'),
        ('640,,', 'both be given'),
    ],
)
def test_sizes_and_rates_of_labels_are_refused(tmp_path, cells, detail):
    write(tmp_path / 'raw' / 'a.json', POSES)
    path = labels(tmp_path, f'a,0,{cells}', 'b,0,,,', header='clip,label,width,height,fps')
    with pytest.raises(PrepareError) as caught:
        run(tmp_path, 'poses', tmp_path / 'raw', labels=path)
    assert detail in caught.value.rejects[0].detail and caught.value.rejects[0].line == 2


def test_a_label_of_10_to_the_9_is_one_rejection(tmp_path):
    write(tmp_path / 'raw' / 'a.json', POSES)
    path = labels(tmp_path, 'a,0,0,1', 'a,1000000000,1,2', 'a,0,0,1000000000000',
                  header='clip,label,start,end')  # fmt: skip
    report, result = run(tmp_path, 'poses', tmp_path / 'raw', labels=path, size='640x480')
    assert list(by_name(result)) == ['a_00000_00001_00']
    assert [(r.line, r.reason) for r in report.rejects] == [
        (3, 'label out of range'), (4, 'frames beyond the file'),
    ]  # fmt: skip


# ---- output


def test_the_output_is_never_the_source_nor_read_again(tmp_path):
    source = tmp_path / 'set.pkl'
    source.write_bytes(pickle.dumps([pyskl()]))
    with pytest.raises(UserError, match='is the source itself'):
        prepare('pickle', source, source)
    folder = tmp_path / 'folder'
    write(folder / 'train.pkl', source.read_bytes())
    for _ in range(2):
        report = prepare('auto', folder, folder / 'out.pkl', workers=1)
        assert report.clips == 1 and report.format == 'pickle'
    write(tmp_path / 'poses' / 'a.json', POSES)
    for _ in range(2):
        out = tmp_path / 'poses' / 'out.pkl'
        report = prepare('auto', tmp_path / 'poses', out, workers=1, size='640x480')
        assert report.clips == 1 and not report.rejects


def test_names_that_are_not_utf_8(tmp_path):
    folder = os.fsencode(tmp_path) + b'/raw/caf\xe9'
    os.makedirs(folder)
    with open(folder + b'/b.json', 'wb') as file:
        file.write(json.dumps(POSES).encode())
    with open(folder + b'/c\xff.json', 'wb') as file:
        file.write(b'{')
    report, result = run(tmp_path, 'poses', tmp_path / 'raw', size='640x480')
    assert list(by_name(result)) == ['caf�/b']
    assert [reject.file for reject in report.rejects] == ['caf�/c�.json']
    assert json.loads(report.log.read_text())['rejected'] == 1


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    write(tmp_path / 'raw' / 'a.json', mmpose(*[coco(f) for f in np.repeat(P17, 60, 0)]))
    out = tmp_path / 'out' / 'set.pkl'
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, usual[1]))
        with pytest.raises(PrepareError, match=r'set\.pkl cannot be written: File too large'):
            run(tmp_path, 'poses', tmp_path / 'raw', size='640x480')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(out.parent.iterdir())


@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='asks Linux for processes')
@pytest.mark.filterwarnings('ignore:This process')
def test_a_killed_conversion_leaves_no_workers(tmp_path):
    source = tmp_path / 'raw'
    for number in (1, 2, 3):
        raw.write_imigue_video(source, number, ['1,0,5'])
        pipe = source / f'imigue_skeleton_train/000{number}/000{number}_light_hand.csv'
        pipe.unlink()
        os.mkfifo(pipe)  # holds a worker in the middle of its job
    child = os.fork()
    if not child:
        try:
            prepare('imigue', source, tmp_path / 'set.pkl', workers=2)
        finally:
            os._exit(1)
    try:
        workers = until(lambda: children(child), lambda found: len(found) == 2)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert len(workers) == 2
    assert not until(lambda: [p for p in workers if running(p)], lambda left: not left)


def until(look, enough):
    """What `look` sees as soon as it is enough, or after 20 seconds."""
    for _ in range(200):
        found = look()
        if enough(found):
            break
        time.sleep(0.1)
    return found


def running(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def children(pid):
    """Processes that a process has started, as Linux lists them."""
    found = []
    for path in Path(f'/proc/{pid}/task').glob('*/children'):
        found += map(int, path.read_text().split())
    return found


def test_nothing_usable_is_an_error_that_lists_why(tmp_path):
    write(tmp_path / 'raw' / 'a.json', '[')
    with pytest.raises(PrepareError, match='no clip in .*raw can be used') as caught:
        run(tmp_path, 'poses', tmp_path / 'raw', size='640x480')
    assert caught.value.rejects[0].file == 'a.json'
