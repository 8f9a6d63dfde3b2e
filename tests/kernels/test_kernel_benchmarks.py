"""The benchmarks' pure parts: counted bytes, records, aims, table, plots, and the command's errors.

All records here are made up; they say so and measure nothing.
"""

import copy
import json
import os
import subprocess
import sys
import sysconfig

import pytest
import torch

from mg_plugins import kernels
from mg_plugins.fusion import STBalancedFusion, fusions, plug
from mg_plugins.kernels.benchmarks import bars, cases, clock, plots, results, roofline, stgcn
from mg_plugins.kernels.setups import NTU, Shape, make_inputs

from paths import ROOT

TINY = Shape(2, 6, 5, 4, 3)


def size_of(tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_bytes_are_those_of_real_inputs_outputs_and_gradients(dtype):
    inputs = [t.requires_grad_() for t in make_inputs(TINY, dtype, 'cpu', 0)]
    name = cases.dtype_name(dtype)
    y, pools = kernels.mix_reference(*inputs), kernels.pool_reference(inputs[0])
    gradients = torch.autograd.grad(y, inputs, torch.ones_like(y))
    forward = roofline.cost('mix', 'forward', TINY, name).bytes
    assert forward == size_of([*inputs, y])
    backward = roofline.cost('mix', 'backward', TINY, name).bytes
    assert backward == size_of([*inputs, y, *gradients])
    assert roofline.cost('pool', 'forward', TINY, name).bytes == size_of([inputs[0], *pools])
    for direction in roofline.DIRECTIONS:
        both = roofline.cost('pool+mix', direction, TINY, name)
        parts = [roofline.cost(work, direction, TINY, name) for work in ('pool', 'mix')]
        assert both == parts[0] + parts[1] == roofline.cost('fusion', direction, TINY, name)


def test_operations_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    inputs = [t.requires_grad_() for t in make_inputs(TINY, torch.float32, 'cpu', 0)]
    with FlopCounterMode(display=False) as counter:
        y = kernels.mix_reference(*inputs)
    products = counter.get_total_flops()
    n, c, t, v, _ = TINY
    assert (
        roofline.cost('mix', 'forward', TINY, 'float32').operations - products == 4 * n * c * t * v
    )
    with FlopCounterMode(display=False) as counter:
        y.sum().backward()
    assert counter.get_total_flops() == 2 * products


@pytest.mark.parametrize('work, direction', [('mixing', 'forward'), ('mix', 'sideways')])
def test_unknown_work_is_refused(work, direction):
    with pytest.raises(ValueError, match='must be one of'):
        roofline.cost(work, direction, TINY, 'float32')


def test_the_larger_time_is_the_limit_and_the_table_has_every_shape():
    rates = roofline.Rates(1e12, {'float32': 1e12})
    assert roofline.seconds(roofline.Cost(10**12, 2 * 10**12), 'float32', rates) == (1, 2)
    table = roofline.markdown()
    assert all(', '.join(map(str, s[:4])) in table for s in roofline.listed())
    # Twice 20.48 million numbers of two bytes and the weights, at 4.3 TB/s.
    assert '| 128, 64, 100, 25 | bfloat16 | 43.0 | 10.0 | 84.7 | 5.20 | 19.7 | 5.3 |' in table


def made_up(kind='cuda'):
    """A record in which every aim of its device is met: ours at 80% of the copy bandwidth."""
    record = results.empty('cpu')
    record['machine'] |= dict(
        kind=kind, device='made-up GPU' if kind == 'cuda' else 'CPU (made up)'
    )
    record['correctness'] = 'passed (1 passed)'
    rates = {'bfloat16': 900e12, 'float16': 900e12, 'float32': 160e12}
    record['ceilings'] = dict(copy=4e12, products=rates)
    slower = {'eager': 4.0, 'compile': 1.6, 'max-autotune': 1.5, 'triton': 1.0}

    def add(work, direction, shape, dtype, implementation, graphs, seconds, cost, peak):
        record['rows'].append(
            dict(
                work=work, direction=direction, shape=shape, dtype=dtype, graphs=graphs,
                implementation=implementation, seconds=seconds, spread=0.01, turns=9,
                bytes=cost and cost.bytes, operations=cost and cost.operations, peak_bytes=peak,
            )
        )  # fmt: skip

    if kind == 'cuda':
        for shape in roofline.listed():
            for dtype in roofline.SIZES:
                for work, direction in (
                    ('mix', 'forward'), ('pool+mix', 'forward'), ('pool+mix', 'forward+backward'),
                ):  # fmt: skip
                    cost = roofline.cost(work, direction, shape, dtype)
                    least = max(roofline.seconds(cost, dtype, roofline.Rates(4e12, rates)))
                    for name, times in slower.items():
                        for graphs in (False, True):
                            add(work, direction, shape._asdict(), dtype, name, graphs,
                                times * least / 0.8, cost, int(1e6 * times))  # fmt: skip
    sizes = dict(clips=64, persons=2, frames=100, joints=25)
    for dtype in ('bfloat16', 'float32'):
        for name, times in {'plain': 1.0, 'fused, eager': 1.3, 'fused': 1.05}.items():
            add('step', 'ST-GCN', sizes, dtype, name, False, 0.1 * times, None, None)
    return results.check(record)


def verdicts(record):
    return {bar.aim: bar.verdict for bar in bars.judge(record)}


def change(record, factor, key='seconds', **wanted):
    """Multiply a figure of Triton's rows (or of the rows that are asked for)."""
    wanted = dict(implementation='triton') | wanted
    shape = wanted.pop('shape', None)
    found = 0
    for row in record['rows']:
        if all(row[k] == v for k, v in wanted.items()) and shape in (
            None,
            tuple(row['shape'].values()),
        ):
            row[key] *= factor
            found += 1
    assert found


def test_a_report_of_a_cpu_lists_its_own_aims():
    record = made_up()
    everything = bars.report(record)
    record['machine']['kind'] = 'CPU'
    report = bars.report(record)
    assert 'torch.compile, bf16' in everything and 'torch.compile, bf16' not in report
    assert 'on a CPU' in report and 'aims for GPUs' in report


def test_a_record_that_meets_everything():
    found = verdicts(made_up())
    on_cpu = [aim for aim in found if aim.startswith('on a CPU')]
    assert [found.pop(aim) for aim in on_cpu] == ['not measured']
    assert set(found.values()) == {'met'}, found
    assert all(bar.figures for bar in bars.judge(made_up()) if bar.verdict == 'met')


T300, T500, V64 = (128, 64, 300, 25, 1), (128, 64, 500, 25, 1), (128, 64, 100, 64, 1)


@pytest.mark.parametrize(
    'aim, factor, changed',
    [
        ('forward (pool and mix) at least 3 times', 0.7, dict(implementation='eager')),
        ('forward at least 1.3 times torch.compile', 0.8, dict(implementation='max-autotune')),
        ('forward at no listed shape slower', 1.6, dict(work='pool+mix', shape=V64)),
        ('forward+backward at least 2.5', 1.7, dict(direction='forward+backward')),
        ('mix forward in bf16 and fp16', 1.2, dict(work='mix', dtype='float16')),
        ('mix forward elsewhere', 1.4, dict(work='mix', dtype='float32')),
        ('peak memory', 2.1, dict(key='peak_bytes')),
        ('fused ST-GCN train step', 1.04, dict(implementation='fused')),
        ('time grows no faster than bytes moved over T', 1.1, dict(shape=T300)),
        ('time grows no faster than bytes moved over V', 1.1, dict(shape=V64)),
    ],
)
def test_each_aim_is_missed_by_what_it_is_about(aim, factor, changed):
    record = made_up()
    change(record, factor, **changed)
    missed = [name for name, verdict in verdicts(record).items() if verdict == 'missed']
    assert len(missed) == 1 and missed[0].startswith(aim), missed


def test_frames_beyond_300_may_grow_faster():
    record = made_up()
    change(record, 1.25, shape=T500)
    assert 'missed' not in verdicts(record).values()


def test_what_is_not_measured_is_not_met():
    record = made_up()
    gone = tuple(NTU[2])
    record['rows'] = [
        row for row in record['rows']
        if tuple(row['shape'].values()) != gone or row['implementation'] != 'triton'
    ]  # fmt: skip
    found = verdicts(record)
    assert found['forward at no listed shape slower than torch.compile'] == 'not measured'
    assert 'missed' not in found.values()
    record['correctness'] = 'failed (1 failed)'
    assert verdicts(record)['tests of the kernels pass'] == 'missed'
    record['correctness'] = 'not finished in 130 s'
    assert verdicts(record)['tests of the kernels pass'] == 'not measured'


def test_the_fallback_on_a_gpu_meets_nothing_of_triton():
    record = made_up()
    for row in record['rows']:
        if row['implementation'] == 'triton':
            row['implementation'] = 'torch'
    met = [aim for aim, verdict in verdicts(record).items() if verdict == 'met']
    assert all('train step' in aim or 'tests' in aim for aim in met), met


def test_a_cpu_record_judges_the_cpu_alone_and_says_cpu():
    record = made_up('CPU')
    met = [aim for aim, verdict in verdicts(record).items() if verdict == 'met']
    assert len(met) == 2 and met[0] == 'tests of the kernels pass' and met[1].startswith('on a CPU')
    assert '**CPU (made up)**' in results.markdown(record)
    assert results.name(record) == 'cpu' and results.name(made_up()) == 'made-up-gpu'


def test_a_record_survives_its_file(tmp_path):
    record = made_up()
    results.write(tmp_path / 'sub' / 'a.json', results.dumps(record))
    assert results.read(tmp_path / 'sub' / 'a.json') == record
    assert [p.name for p in (tmp_path / 'sub').iterdir()] == ['a.json']


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda r: r.pop('ceilings'), "lacks 'ceilings'"),
        (lambda r: r.update(format=7), 'format 1'),
        (lambda r: r['rows'][3].pop('turns'), "row 3 lacks 'turns'"),
        (lambda r: r['rows'][0].update(seconds='1'), 'wrong type'),
        (lambda r: r['rows'][0].update(seconds=0.0), 'above 0'),
    ],
)
def test_a_spoilt_record_is_refused(spoil, message):
    record = copy.deepcopy(made_up())
    spoil(record)
    with pytest.raises(results.ResultsError, match=message):
        results.check(record)


def test_the_table_has_times_shares_and_ratios():
    text = results.markdown(made_up())
    line = next(
        line for line in text.splitlines()
        if line.startswith('| mix | forward | 128, 64, 100, 25, 1 | bfloat16')
    )  # fmt: skip
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    assert cells[8:] == ['triton', '84.7', '80', '4.00', '1.50', '4', '1']
    assert text.index('Without CUDA graphs') < text.index('With CUDA graphs')
    assert '| 1.050 |' in text


def test_plots_are_drawn_from_a_record(tmp_path):
    pytest.importorskip('matplotlib')
    files = plots.draw(made_up(), tmp_path)
    assert [f.name for f in files] == [
        'kernels_made_up_gpu_speed.png',
        'kernels_made_up_gpu_growth.png',
    ]
    assert all(f.read_bytes().startswith(b'\x89PNG') for f in files)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_clock_moves_by_turns_alone_and_takes_them_by_set():
    watch, calls = clock.Stopwatch(torch.device('cpu')), []
    contender = clock.Contender('a', False, calls.append, lambda: 'ready', sets=4)
    assert watch.now() == watch.now() == 0
    seconds = watch.turn(contender)
    assert calls == ['ready'] and contender.times == [seconds] and watch.now() == seconds > 0
    assert clock.number_of_sets(2**30) == 2 and clock.number_of_sets(1) == 8
    assert clock.number_of_sets(clock.CACHE_BYTES) == 4


@pytest.mark.parametrize('work', roofline.WORKS)
@pytest.mark.parametrize('direction', roofline.DIRECTIONS)
def test_every_contender_computes_the_same_on_every_set(work, direction):
    case = cases.Case(work, TINY, torch.float32, torch.device('cpu'), 0)
    assert not case.failed and case.own == 'torch'
    found = []
    for name in ('eager', case.own):
        prepare, call = case._steps(name, direction)
        found.append(call(prepare()))
    assert len(found[0]) == len(case.inputs)
    torch.testing.assert_close(found[0], found[1])


def test_a_wrong_path_is_noted(monkeypatch):
    monkeypatch.setattr(kernels, 'mix', lambda x, *_: x * 1.01)
    case = cases.Case('mix', TINY, torch.float32, torch.device('cpu'), 0)
    assert 'differs from eager' in case.failed['torch']


def test_eager_fusion_is_the_fusion_without_its_fast_paths(monkeypatch):
    fusion, eager = STBalancedFusion(8, 5), cases.EagerFusion(8, 5)
    for p in fusion.parameters():
        torch.nn.init.normal_(p)
    eager.load_state_dict(fusion.state_dict())
    x = torch.randn(2, 8, 6, 5)
    torch.testing.assert_close(eager(x), fusion(x))
    monkeypatch.setattr(cases.STBalancedFusion, 'forward', None)
    monkeypatch.setitem(STBalancedFusion.shares.__globals__, 'pool_through', None)
    eager(x)


def test_the_plain_network_takes_fusions_and_trains():
    sizes = stgcn.Sizes(2, 2, 16, 25, 8, 4, (2, 4), 5)
    model = stgcn.PlainSTGCN(sizes)
    plug(model, example_input=(1, 2, 16, 25, 3))
    assert list(fusions(model)) == ['stages.0', 'stages.2', 'stages.3']
    scores = model(torch.randn(2, 2, 16, 25, 3))
    assert scores.shape == (2, 5)
    scores.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_plain_network_is_as_large_as_mmaction2s():
    pytest.importorskip('mmaction')
    counts = {
        sum(p.numel() for p in network(stgcn.SMALL_STEP).parameters())
        for network in (stgcn.PlainSTGCN, stgcn.OpenMMLabSTGCN)
    }
    assert len(counts) == 1


def command(*arguments, cwd):
    """Run the command as where the package is not installed: -S skips editable installations."""
    done = subprocess.run(
        [sys.executable, '-S', str(ROOT / 'kernels' / 'run.py'), *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {'PYTHONPATH': sysconfig.get_path('purelib')},
        capture_output=True,
        text=True,
        timeout=280,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize('seconds', ['0', 'nan', 'inf'])
def test_the_command_refuses_a_wrong_number(seconds, tmp_path):
    code, text = command('--seconds', seconds, cwd=tmp_path)
    assert code == 2 and '--seconds must be above 0' in text


@pytest.mark.slow
def test_the_command_looks_at_its_folder_before_it_measures(tmp_path):
    (tmp_path / 'taken').write_text('')
    code, text = command('--out', 'taken', cwd=tmp_path)
    assert code == 1 and 'taken' in text and 'Traceback' not in text
    assert 'tests of the kernels' not in text


@pytest.mark.slow
def test_the_command_names_what_is_wrong_with_a_file(tmp_path):
    (tmp_path / 'other.json').write_text(json.dumps([1]))
    code, text = command('--plots-from', 'other.json', '--out', 'out', cwd=tmp_path)
    assert code == 1 and text.startswith('error: other.json is not a record'), text
    assert 'Traceback' not in text and not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_the_command_draws_from_a_checkout_that_is_not_installed(tmp_path):
    pytest.importorskip('matplotlib')
    results.write(tmp_path / 'a.json', results.dumps(made_up()))
    code, text = command('--plots-from', 'a.json', '--out', tmp_path / 'out', cwd=tmp_path)
    assert code == 0, text
    assert len(list((tmp_path / 'out').iterdir())) == 2
    code, text = command('--plots-from', tmp_path / 'out' / '..' / 'a.json', cwd=ROOT)
    assert code == 0 and len(list(tmp_path.glob('*.png'))) == 2, text
