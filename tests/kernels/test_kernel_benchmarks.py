"""The benchmarks' pure parts: comparisons, records, aims, table, picture, the command's errors.

The records here are made up and measure nothing.
"""

import json
import os
import subprocess
import sys
import sysconfig

import pytest
import torch

from mg_plugins.errors import UserError
from mg_plugins.files import write_json
from mg_plugins.kernels.benchmarks import cases, results
from mg_plugins.kernels.setups import NTU, Shape

from paths import ROOT

CPU = torch.device('cpu')
TINY = Shape(2, 6, 5, 4, 3)
RUN = str(ROOT / 'kernels' / 'run.py')
PATH = {'cuda': 'triton', 'cpu': 'torch'}


@pytest.mark.parametrize('work', cases.WORKS)
@pytest.mark.parametrize('direction', cases.DIRECTIONS)
def test_a_comparison_measures_eager_and_own(work, direction):
    found = cases.compare(cases.Comparison(work, direction, TINY, torch.float32), CPU, 1)
    assert found['failed'] == []
    assert [row['implementation'] for row in found['rows']] == ['eager', 'torch']
    assert all(row['seconds'] > 0 for row in found['rows'])
    if work == 'mix' and direction == 'forward':
        n, c, t, v, h = TINY
        assert found['rows'][0]['bytes'] == 4 * (
            2 * n * c * t * v + n * h * (v * v + t * t) + 2 * n * c
        )


def test_both_ways_give_the_same_gradients():
    inputs = cases.make_inputs(TINY, torch.float32, CPU, 0)
    for work, (eager, own) in cases.WORKS.items():
        args = inputs[:1] if work == 'pool' else inputs
        pulls = [torch.randn_like(o) for o in cases._tuple(eager(*args))]
        one, other = (cases._caller(f, args, pulls, 'forward+backward')() for f in (eager, own))
        torch.testing.assert_close(one, other)


def test_a_wrong_path_is_noted(monkeypatch):
    wrong = (cases.mix_reference, lambda x, *rest: cases.mix_reference(x, *rest) * 1.01)
    monkeypatch.setitem(cases.WORKS, 'mix', wrong)
    found = cases.compare(cases.Comparison('mix', 'forward', TINY, torch.float32), CPU, 1)
    assert len(found['failed']) == 1 and 'differs from eager' in found['failed'][0]


def made_up(kind):
    """A record in which every aim of its device is met, ours at 80% of the copy rate."""
    record = results.empty('cpu')
    record['machine'] |= dict(kind=kind, device='made-up GPU' if kind == 'cuda' else 'CPU (made)')
    record['correctness'] = 'passed (1 passed)'
    record['rates'] = dict(copy=4e12, float32=160e12, bfloat16=900e12, float16=900e12)
    slower = {'eager': 4.0, 'compile': 1.6, 'max-autotune': 1.5, PATH[kind]: 1.0}
    for what in cases.plan(kind == 'cuda'):
        about = dict(work=what.work, direction=what.direction, shape=str(what.shape))
        about |= dict(dtype=cases.name_of(what.dtype), bytes=10**6 * what.shape.t, operations=1)
        for name, times in slower.items():
            seconds = times * about['bytes'] / 4e12 / 0.8
            row = about | dict(implementation=name, seconds=seconds, peak=int(1e6 * times))
            record['rows'].append(row)
    about = dict(work='step', direction='ST-GCN', shape='(1,)', dtype='float32')
    for name, times in {'plain': 1.0, 'fused': 1.05}.items():
        record['rows'].append(about | dict(implementation=name, seconds=times))
    return record


def verdicts(record):
    return {aim: verdict for aim, verdict, _ in results.judge(record)}


@pytest.mark.parametrize('kind', ['cuda', 'cpu'])
def test_a_record_that_meets_everything_of_its_device(kind):
    found = verdicts(made_up(kind))
    mark = {'cuda': 'GPU', 'cpu': 'CPU'}[kind]
    own = {aim: v for aim, v in found.items() if aim.startswith((mark, 'tests'))}
    assert len(own) > 4 and set(own.values()) == {'met'}, own
    assert {v for aim, v in found.items() if aim not in own} == {'not measured'}


@pytest.mark.parametrize(
    'kind, aim, factor, key, changed',
    [
        ('cuda', 'GPU: pool+mix forward at least 3', 0.7, 'seconds', dict(implementation='eager')),
        ('cuda', 'GPU: pool+mix forward+backward', 1.7, 'seconds',
         dict(implementation='triton', direction='forward+backward')),
        ('cuda', 'GPU: mix forward at 70%', 1.2, 'seconds',
         dict(implementation='triton', work='mix', dtype='float16')),
        ('cuda', 'GPU: mix forward in float32', 1.4, 'seconds',
         dict(implementation='triton', work='mix', dtype='float32')),
        ('cuda', 'GPU: peak memory', 2.1, 'peak', dict(implementation='triton')),
        ('cuda', 'GPU: train step', 1.04, 'seconds', dict(implementation='fused')),
        ('cuda', 'GPU: time of mix forward grows no faster than its bytes over T', 1.1, 'seconds',
         dict(implementation='triton', shape='N128 C64 T300 V25 H1', dtype='bfloat16')),
        ('cpu', 'CPU: pool+mix forward no slower', 0.2, 'seconds',
         dict(implementation='eager', direction='forward')),
        ('cpu', 'CPU: pool+mix forward within 1.15', 0.5, 'seconds',
         dict(implementation='compile', direction='forward')),
        ('cpu', 'CPU: train step', 1.04, 'seconds', dict(implementation='fused')),
    ],
)  # fmt: skip
def test_each_aim_is_missed_by_what_it_is_about(kind, aim, factor, key, changed):
    record = made_up(kind)
    rows = [r for r in record['rows'] if all(r[k] == v for k, v in changed.items())]
    assert rows
    for row in rows:
        row[key] *= factor
    missed = [name for name, verdict in verdicts(record).items() if verdict == 'missed']
    assert len(missed) == 1 and missed[0].startswith(aim), missed


def test_what_is_not_measured_is_not_met():
    record = made_up('cuda')
    gone = str(NTU[2])
    record['rows'] = [r for r in record['rows'] if r['shape'] != gone]
    found = verdicts(record)
    assert found['GPU: pool+mix forward at no listed shape slower than torch.compile'] == (
        'not measured'
    )
    assert 'missed' not in found.values()
    for said, verdict in {'failed (1 failed)': 'missed', 'not finished': 'not measured'}.items():
        record['correctness'] = said
        assert verdicts(record)['tests of the kernels pass'] == verdict


def test_the_fallback_on_a_gpu_meets_nothing_of_triton():
    record = made_up('cuda')
    for row in record['rows']:
        if row['implementation'] == 'triton':
            row['implementation'] = 'torch'
    met = [aim for aim, verdict in verdicts(record).items() if verdict == 'met']
    assert all('train step' in aim or 'tests' in aim for aim in met), met


def test_the_table_has_times_shares_and_ratios():
    text = results.report(made_up('cuda'))
    start = '| mix | forward | N128 C64 T100 V25 H1 | bfloat16'
    line = next(line for line in text.splitlines() if line.startswith(start))
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    assert cells[8:] == ['triton', '80%', '4.00', '1.50', '4 / 1']
    assert '1.050 times as long' in text and '**made-up GPU**' in text


def test_a_record_survives_its_file_and_others_are_refused(tmp_path):
    record, file = made_up('cuda'), tmp_path / 'a.json'
    write_json(file, record)
    assert results.read(file) == record and results.file_name(record) == 'made-up-gpu'
    for spoilt in (record | dict(format=1), record | dict(rows=None), [1]):
        write_json(file, spoilt)
        with pytest.raises(UserError, match='a.json is not a record .* make one by'):
            results.read(file)


def command(*arguments, cwd):
    """Run the command as where the package is not installed: -S skips editable installations."""
    # Nothing here needs OpenMMLab, which takes long to import.
    code = (
        'import runpy, sys; sys.modules["mmaction"] = None; '
        f'runpy.run_path({RUN!r}, run_name="__main__")'
    )
    done = subprocess.run(
        [sys.executable, '-S', '-c', code, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {'PYTHONPATH': os.pathsep.join(p for p in sys.path if 'packages' in p)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_command_refuses_a_wrong_number_a_taken_folder_and_another_file(tmp_path):
    assert sysconfig.get_path('purelib') in sys.path
    code, text = command('--seconds', 'nan', cwd=tmp_path)
    assert code == 2 and '--seconds must be above 0' in text
    (tmp_path / 'taken').write_text('')
    code, text = command('--out', 'taken', cwd=tmp_path)
    assert code == 1 and 'taken' in text and 'Traceback' not in text and 'at most' not in text
    (tmp_path / 'other.json').write_text(json.dumps([1]))
    code, text = command('--from', 'other.json', cwd=tmp_path)
    assert code == 1 and text.startswith('error: other.json is not a record'), text


def test_the_command_draws_from_a_checkout_that_is_not_installed(tmp_path):
    pytest.importorskip('matplotlib')
    write_json(tmp_path / 'a.json', made_up('cpu'))
    code, text = command('--from', 'a.json', cwd=tmp_path)
    assert code == 0 and '**met**' in text, text
    assert (tmp_path / 'cpu.png').read_bytes().startswith(b'\x89PNG')
