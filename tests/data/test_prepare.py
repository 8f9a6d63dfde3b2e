"""The driver behind the readers, and its command line."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mg_plugins.data import checks
from mg_plugins.data import prepare as driver
from mg_plugins.data.annotations import load_annotations
from mg_plugins.data.prepare import PrepareError, prepare
from mg_plugins.data.readers import READERS, windows
from mg_plugins.data.readers.common import FORMATS, FormatError, Plan

import make_raw as raw

TOOL = Path(__file__).parents[2] / 'tools' / 'prepare_data.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('prepare_data', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path):
    """Five videos; one clip of video 3 goes beyond its file."""
    for number in range(1, 6):
        last = 45 if number == 3 else 30
        split = 'validate' if number == 5 else 'train'
        raw.write_imigue_video(tmp_path / 'raw', number, ['1,0,5', f'2,20,{last}'], split=split)
    return tmp_path / 'raw'


def files(folder):
    return sorted(path.name for path in folder.rglob('*') if path.is_file())


def assert_same(one, two):
    assert one['split'] == two['split'] and one['meta'] == two['meta']
    for a, b in zip(one['annotations'], two['annotations'], strict=True):
        np.testing.assert_array_equal(a.pop('keypoint'), b.pop('keypoint'))
        np.testing.assert_array_equal(a.pop('keypoint_score'), b.pop('keypoint_score'))
        assert a == b


def test_workers_do_not_change_the_result(tmp_path, source):
    one = prepare('imigue', source, tmp_path / 'one' / 'set.pkl', workers=1)
    two = prepare('imigue', source, tmp_path / 'two' / 'set.pkl', workers=2)
    assert_same(load_annotations(one.out), load_annotations(two.out))
    assert one.rejects == two.rejects and len(one.rejects) == 1
    assert files(tmp_path / 'two') == ['set.pkl', 'set.pkl.log.json']


def test_npz_holds_the_same_as_pkl(tmp_path, source):
    one = load_annotations(prepare('imigue', source, tmp_path / 'set.pkl', workers=1).out)
    two = load_annotations(prepare('imigue', source, tmp_path / 'set.npz', workers=1).out)
    assert_same(one, two)


@pytest.mark.parametrize('crossed', [False, True])
def test_a_folder_of_arrays_holds_the_same_as_pkl(tmp_path, source, crossed):
    # Fingertips of the other hand change places after the reading.
    raw.write_imigue_video(source, 1, ['1,0,39', '2,1,39', '3,2,39'], crossed=crossed)
    one = load_annotations(prepare('imigue', source, tmp_path / 'set.pkl', workers=1).out)
    for _ in range(2):  # the second time, the first output lies inside of the source
        report = prepare('imigue', source, source / 'set.mg', workers=1)
        two = load_annotations(report.out)
    assert report.out.is_dir() and one['split'] == {k: list(v) for k, v in two['split'].items()}
    for a, b in zip(one['annotations'], two['annotations'], strict=True):
        np.testing.assert_array_equal(a['keypoint'], b['keypoint'])
        assert (a['frame_dir'], a['label'], a['fps']) == (b['frame_dir'], b['label'], b['fps'])


def test_log_lists_everything(tmp_path, source):
    report = prepare('imigue', source, tmp_path / 'set.pkl', workers=1)
    log = json.loads(report.log.read_text())
    (reject,) = log['rejects']
    assert reject == dict(
        clip='0003_00020_00045_01',
        file='imigue_skeleton_train/0003/0003_label.csv',
        line=2,
        reason='frames beyond the file',
        detail='frames 20 to 45, but there are only frames 0 to 39',
    )
    assert log['rejected_by_reason'] == {'frames beyond the file': 1} and log['rejected'] == 1
    assert (log['clips'], log['splits'], log['format']) == (9, dict(train=7, val=2), 'imigue')
    assert log['options'] == dict(subjects=None, keep_recordings=False)


def test_strict_writes_nothing(tmp_path, source):
    with pytest.raises(PrepareError, match='1 clip was rejected') as caught:
        prepare('imigue', source, tmp_path / 'out' / 'set.pkl', workers=1, strict=True)
    assert [r.clip for r in caught.value.rejects] == ['0003_00020_00045_01']
    assert not (tmp_path / 'out').exists()
    (source / 'imigue_skeleton_train/0003/0003_label.csv').write_text('1,0,5\n')
    prepare('imigue', source, tmp_path / 'out' / 'set.pkl', workers=1, strict=True)
    assert files(tmp_path / 'out') == ['set.pkl', 'set.pkl.log.json']


def stop(job):
    if job.name == '0003':
        raise KeyboardInterrupt
    return windows.read(job)


@pytest.mark.parametrize('workers', [1, 2])
def test_an_interrupted_run_leaves_the_old_file(tmp_path, source, workers, monkeypatch):
    out = tmp_path / 'out' / 'set.pkl'
    out.parent.mkdir()
    out.write_bytes(b'old')

    monkeypatch.setattr(READERS['imigue'], 'read', stop)
    with pytest.raises(KeyboardInterrupt):
        prepare('imigue', source, out, workers=workers)
    assert out.read_bytes() == b'old' and files(out.parent) == ['set.pkl']


def die(job):
    os._exit(1)


def test_a_worker_that_dies_is_an_error(tmp_path, monkeypatch):
    reader = READERS['imigue']
    monkeypatch.setattr(reader, 'plan', lambda source, options: Plan([1, 2, 3]))
    monkeypatch.setattr(reader, 'read', die)
    with pytest.raises(PrepareError, match='a worker process died.*--workers 1'):
        prepare('imigue', tmp_path, tmp_path / 'set.pkl', workers=2)


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('imigu', {}, "'imigu' is no format; known: imigue, smg"),
        (
            'imigue',
            dict(subject='x'),
            'imigue has no option subject; its options: keep_recordings, subjects',
        ),
        ('imigue', dict(workers=0), '--workers 0 must be above 0'),
        ('imigue', dict(out='set.csv'), 'must be a file that ends in .pkl, .npz, .mg'),
        ('synthetic', {}, 'synthetic reads nothing'),
    ],
)
def test_wrong_use_is_refused(tmp_path, source, name, options, message):
    options.setdefault('out', str(tmp_path / 'set.pkl'))
    with pytest.raises(FormatError, match=message):
        prepare(name, source, **options)


def test_a_source_is_needed():
    with pytest.raises(FormatError, match='imigue needs a source'):
        prepare('imigue')


def test_default_paths_are_those_of_the_configs(tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = prepare('imigue', source, workers=1)
    assert report.out == Path('data/imigue/imigue.pkl') and report.out.is_file()
    train = 'python tools/train.py configs/stgcn_mgfuse_imigue.py'
    # Without subjects the file has other splits than the config names.
    assert report.next_command == f'{train} --ann-file data/imigue/imigue.pkl'
    whole = replace(report, splits=dict(train=5, recordings_train=5))
    assert whole.next_command == report.next_command
    by_subject = replace(report, splits=dict(xsub_train=5, xsub_val=4))
    assert by_subject.next_command == train
    other = replace(by_subject, format='coco', out=Path('my poses.pkl'))
    assert other.next_command == f"{train} --ann-file 'my poses.pkl'"
    assert replace(report, source='my a', classes=0).next_command == (
        "python tools/recognize.py 'my a' --config CONFIG --checkpoint CHECKPOINT"
    )
    asked = dict(size='640x360', fps=25.0, person=1)
    asked = replace(report, classes=0, source='a', options=asked)
    assert asked.next_command.startswith(
        'python tools/recognize.py a --size 640x360 --fps 25.0 --config'
    )
    views = dict.fromkeys(['xview_train', 'xview_val', 'xsub_train', 'xsub_val'], 4)
    ucla = replace(report, format='nw-ucla', out=Path('u.pkl'), splits=views)
    assert ucla.next_command == f'{train} --ann-file u.pkl --splits xview_train xview_val'
    usual = replace(report, format='sfinge3d', out=Path('data/sfinge3d/sfinge3d.pkl'))
    usual = replace(usual, splits=dict(train=1, recordings_train=1))
    assert usual.next_command == 'python tools/train.py configs/spot_sfinge3d.py'
    assert replace(usual, out=Path('a.mg')).next_command == (
        'python tools/train.py configs/spot_sfinge3d.py --ann-file a.mg'
    )
    with_source = driver.check_out(None, READERS['coco'], Path('my/poses'))
    assert with_source == Path('data/poses/poses.pkl')
    assert {r.out for r in READERS.values()} >= {
        'data/imigue/imigue.pkl',
        'data/smg/smg.pkl',
        'data/msr_action3d/msr_action3d.pkl',
    }


def test_every_format_documents_itself(tool, capsys):
    for name in READERS:
        with pytest.raises(SystemExit) as caught:
            tool.main([name, '--help'])
        text = capsys.readouterr().out
        assert caught.value.code == 0
        entry = FORMATS[name]
        assert entry['example'] in text and entry['doc'][0] in text
        example = entry['example'].split()
        assert example[:3] == ['python', 'tools/prepare_data.py', name]
        args = tool.build_parser().parse_args(example[2:])
        assert args.format == name


def test_command_line_summary(tool, tmp_path, source, capsys):
    out = tmp_path / 'set.pkl'
    assert tool.main(['imigue', str(source), '--out', str(out), '--workers', '1', '--quiet']) == 0
    captured = capsys.readouterr()
    reject = 'rejected 0003_00020_00045_01: frames beyond the file (imigue_skeleton_train/0003/'
    assert captured.err.startswith(reject)
    for text in (
        '9 clips',
        'split val',
        'split train',
        'imigue22',
        'not known',
        'frames beyond the file',
    ):
        assert text in captured.out
    last = captured.out.strip().splitlines()[-1]
    train = 'python tools/train.py configs/stgcn_mgfuse_imigue.py'
    assert last == f'next: {train} --ann-file {out}'


def test_parts_that_are_never_seen_are_told(tool, tmp_path, capsys):
    rows = raw.imigue_rows(40, 1)
    rows[:, 1 + 3 * 25 :] = 0  # no fingertips
    raw.write_imigue_video(tmp_path / 'raw', 1, ['1,0,9', '2,20,29'], lines=raw.csv_lines(rows))
    raw.write_imigue_video(tmp_path / 'raw', 2, ['1,0,9', '2,20,29'])
    out = tmp_path / 'set.pkl'
    source = str(tmp_path / 'raw')
    assert tool.main(['imigue', source, '--out', str(out), '--workers', '1', '--quiet']) == 0
    captured = capsys.readouterr()
    assert 'left_hand never seen' in captured.out and 'in 50.0% of the clips' in captured.out
    log = json.loads((tmp_path / 'set.pkl.log.json').read_text())
    assert log['undetected'] == dict(left_hand=0.5, right_hand=0.5)


def test_command_line_exit_codes(tool, tmp_path, source, capsys):
    out = tmp_path / 'out' / 'set.pkl'
    common = ['--out', str(out), '--workers', '1', '--quiet']
    assert tool.main(['imigue', str(source), *common, '--strict']) == 1
    captured = capsys.readouterr()
    assert '0003_00020_00045_01' in captured.err and '--strict' in captured.err
    assert tool.main(['smg', str(source), *common]) == 2
    captured = capsys.readouterr()
    assert 'SampleNNNN' in captured.err and '10 .csv' in captured.err
    assert not out.parent.exists()
    (tmp_path / 'out').write_text('a file where the folder should be')
    assert tool.main(['imigue', str(source), *common]) == 2
    assert 'cannot be written' in capsys.readouterr().err


def test_a_source_without_a_format_is_looked_at(tool, tmp_path, source, capsys):
    out = tmp_path / 'set.pkl'
    assert tool.main([str(source), '--out', str(out), '--workers', '1', '--quiet']) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(
        'imigue: imigue_skeleton_train/0001/0001_light_hand.csv is named'
    )
    assert 'imigue: 9 clips' in captured.out
    assert tool.main([str(tmp_path / 'none'), '--out', str(out)]) == 2
    assert 'none does not exist' in capsys.readouterr().err
    # An option that the format found does not have is named.
    assert tool.main([str(source), '--out', str(out), '--size', '640x480', '--quiet']) == 2
    assert 'imigue has no option size' in capsys.readouterr().err


def test_help_imports_nothing_of_ours():
    code = (
        'import runpy, sys; sys.argv = ["prepare_data.py", "mediapipe", "--help"]\n'
        f'try: runpy.run_path({str(TOOL)!r}, run_name="__main__")\n'
        'except SystemExit: pass\n'
        'assert not {"mg_plugins", "numpy", "torch"} & set(sys.modules)'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert 'landmark_0_x' in result.stdout and '--size' in result.stdout


def body(frames, unseen=(), share=1.0):
    """Scores (1, T, 17) of coco17 where some joints are missing in a share of the frames."""
    score = np.ones((1, frames, 17), np.float32)
    score[:, : round(share * frames), list(unseen)] = 0
    return dict(keypoint_score=score)


@pytest.mark.parametrize(
    ('unseen', 'share', 'said'),
    [
        (range(2, 17, 2), 1.0, 'left'),  # the right half is never seen
        (range(2, 17, 2), 0.96, 'left'),
        (range(1, 17, 2), 1.0, 'right'),
        (range(2, 17, 2), 0.9, None),  # a tenth of the frames is enough
        (range(2, 9, 2), 1.0, None),  # a leg is seen
        (range(17), 1.0, None),  # nobody
        ((), 1.0, None),
    ],
)
def test_clips_that_show_one_half_of_the_body_are_counted(unseen, share, said):
    notes = checks.one_sided([body(100), body(100, unseen, share)], 'coco17')
    assert [note.partition(';')[0] for note in notes] == (
        [f'1 clip shows the {said} side of the body alone in 95% of their frames or more']
        if said
        else []
    )
    assert checks.one_sided([body(20)], 'hand20') == []  # no halves


def test_command_line_synthetic(tool, tmp_path, capsys):
    out = tmp_path / 'set.pkl'
    options = ['--clips', '60', '--subjects', '6', '--seed', '3', '--unlinked', '--quiet']
    assert tool.main(['synthetic', '--out', str(out), *options]) == 0
    content = load_annotations(out)
    assert len(content['annotations']) == 60 and content['meta']['source'] == 'synthetic'
    assert {'xsub_train', 'xsub_val'} <= set(content['split'])
    assert 'ynthetic' in capsys.readouterr().out
    assert tool.main(['synthetic', '--out', str(out), '--clips', '1', '--quiet']) == 2


def test_many_rejects_are_cut_short_on_screen_only(tool, tmp_path, capsys):
    rows = [f'1,{start},{start + 1}' for start in range(39, 110)]
    raw.write_imigue_video(tmp_path / 'raw', 1, ['1,0,5', *rows])
    out = tmp_path / 'set.pkl'
    arguments = ['imigue', str(tmp_path / 'raw'), '--out', str(out), '--workers', '1', '--quiet']
    assert tool.main(arguments) == 0
    err = capsys.readouterr().err
    assert err.count('rejected ') == tool.SHOWN_REJECTS and '… and 21 more' in err
    assert len(json.loads((tmp_path / 'set.pkl.log.json').read_text())['rejects']) == 71


def test_what_holds_for_several_clips_is_said_once(tool, tmp_path, capsys):
    for name in ('a', 'b', 'c'):
        raw.write_openpose_clip(tmp_path / 'raw' / name, [[raw.openpose_person(raw.body(0))]])
    arguments = [str(tmp_path / 'raw'), '--out', str(tmp_path / 'set.pkl'), '--workers', '1']
    assert tool.main([*arguments, '--quiet']) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if 'rejected' in line]
    assert line == (
        'rejected 3 clips, the first a: unreadable (a): the size of the picture is not known: '
        'give --size WIDTHxHEIGHT'
    )


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs named pipes')
def test_ctrl_c_while_workers_read(tmp_path, source):
    # A pipe in place of a skeleton file holds a worker in the middle of its job.
    pipe = source / 'imigue_skeleton_train/0004/0004_light_hand.csv'
    pipe.unlink()
    os.mkfifo(pipe)
    out = tmp_path / 'out' / 'set.pkl'
    out.parent.mkdir()
    out.write_bytes(b'old')
    process = subprocess.Popen(
        [sys.executable, str(TOOL), 'imigue', str(source), '--out', str(out), '--workers', '2'],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    try:
        held = wait_for_reader(pipe, process)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        os.close(held)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 130
    assert 'Stopped; nothing was written.' in err and 'Traceback' not in err
    assert out.read_bytes() == b'old' and files(out.parent) == ['set.pkl']


def heed_interrupts():
    """Undo what a background job of a shell without job control inherits: SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_reader(pipe, process):
    """Open a pipe for writing as soon as someone reads from it."""
    for _ in range(600):
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
    raise AssertionError('nobody read the file within a minute')
