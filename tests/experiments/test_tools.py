"""The three commands as users run them, on made clips, with runs of a second."""

import importlib.util
import json
import os
import subprocess
import sys
import time

import pytest
from mmengine.config import Config

from mg_plugins.data.annotations import save_annotations
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.errors import UserError
from mg_plugins.experiments import training
from mg_plugins.experiments.plan import Entry

from paths import ROOT

SMALL = ('base_channels=4', 'num_stages=2', 'inflate_stages=[]', 'down_stages=[]')


def row(name, *options):
    config = f'configs/stgcn_{"mgfuse_" if name == "fused" else ""}msr_action3d.py'
    part = 'model.backbone.backbone' if name == 'fused' else 'model.backbone'
    small = [f'{part}.{option}' for option in SMALL]
    return f'{name}={ROOT / config};{";".join([*small, *options])}'


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a tool's ``main`` in this process: how tools print errors is tested with them."""

    def run(tool, *arguments, cwd):
        monkeypatch.syspath_prepend(ROOT / 'tools')
        spec = importlib.util.spec_from_file_location(f'{tool}_tool', ROOT / f'tools/{tool}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.chdir(cwd)
        monkeypatch.setattr('sys.argv', [tool, *map(str, arguments)])
        assert not module.main()
        return capsys.readouterr().out

    return run


@pytest.fixture(scope='module')
def compared(toy_config, tmp_path_factory, run_tool):
    """Arguments and folder of a finished comparison."""
    folder = tmp_path_factory.mktemp('compared')
    data = Config.fromfile(toy_config).train_dataloader.dataset.ann_file
    (folder / 'clips.pkl').write_bytes(open(data, 'rb').read())
    arguments = [row('plain'), row('fused'), '--ann-file', 'clips.pkl', '--out', 'out']
    arguments += ['--seeds', 1, '--jobs', 1]
    settings = ['--cfg-options', 'train_cfg.max_epochs=1', 'model.cls_head.in_channels=4']
    settings += ['train_dataloader.num_workers=1']
    done = run_tool('compare', *arguments, *settings, cwd=folder)
    return [*arguments, *settings], folder, done.stdout


@pytest.mark.slow
def test_compare_writes_its_report(compared):
    _, folder, said = compared
    assert '| plain |' in said and '| fused |' in said and 'SYNTHETIC' in said
    (table,) = json.loads((folder / 'out/results.json').read_text())['tables']
    assert [r['name'] for r in table['rows']] == ['plain', 'fused']
    assert table['clusters'] == 'subjects' and sum(table['totals']) > 1
    assert len(table['rows'][0]['sums']['top1'][0]) == len(table['names'])
    assert (folder / 'out/results.png').read_bytes().startswith(b'\x89PNG')
    assert (folder / 'out/table.md').read_text() in said


@pytest.mark.slow
def test_the_same_command_runs_nothing_again_and_a_changed_file_is_refused(compared, call):
    arguments, folder, said = compared
    outcomes = sorted(folder.glob('out/*/test/s0/outcome.json'))
    before = [path.stat().st_mtime_ns for path in outcomes]
    assert len(before) == 2
    assert '| fused |' in call('compare', *arguments, cwd=folder)
    assert [path.stat().st_mtime_ns for path in outcomes] == before
    # The same file with one byte of a keypoint changed.
    whole = (folder / 'clips.pkl').read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 1
    (folder / 'clips.pkl').write_bytes(content)
    with pytest.raises(UserError, match='another version of the config or the annotation'):
        call('compare', *arguments, cwd=folder)
    (folder / 'clips.pkl').write_bytes(whole)


@pytest.mark.slow
def test_arms_and_the_study_run_from_their_command_lines(toy_config, tmp_path, call):
    arms = [dict(name='scratch', config=toy_config, start='nothing')]
    (tmp_path / 'arms.json').write_text(json.dumps(arms))
    command = ('arms.json', '--seeds', 1, '--finetune-steps', 1, '--out', 'arms')
    said = call('compare_pretraining', *command, cwd=tmp_path)
    assert '| **scratch** |' in said and 'fine-tuned, 10% of labels' in said
    assert (tmp_path / 'arms/results.png').is_file()
    command = (toy_config, '--budget-minutes', 0, '--out', 'study', '--seeds', 1, '--epochs', 1)
    said = call('study_augmentations', *command, cwd=tmp_path)
    assert 'Run: 0 of' in said and 'Pairs are not chosen yet.' in said
    assert (tmp_path / 'study/table.md').is_file()


@pytest.mark.parametrize(
    'tool, arguments, message',
    [
        ('compare', ['a.py', '--splits', 'a', 'b'], '--layout and --splits say more about'),
        ('compare', ['missing.py'], 'there is no config missing.py'),
        ('compare_pretraining', ['missing.json'], 'missing.json cannot be read'),
        ('study_augmentations', ['a.py', '--budget-minutes', '-1'], 'must not be negative'),
        ('compare', ['a.py', '--finished', 'bad.json'], 'bad.json is no results.json'),
    ],
)
def test_what_cannot_be_is_one_line(tool, arguments, message, tmp_path, call):
    (tmp_path / 'bad.json').write_text('{}')
    with pytest.raises(UserError, match=message):
        call(tool, *arguments, cwd=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['bad.json']


@pytest.mark.parametrize(
    'tool, option',
    [
        ('compare', '--jobs'),
        ('compare_pretraining', '--seeds'),
        ('study_augmentations', '--epochs'),
        ('probe', '--draws'),
    ],
)
def test_a_number_below_one_is_wrong_usage(tool, option, tmp_path, call, capsys):
    with pytest.raises(SystemExit) as ended:
        call(tool, 'a', option, '0', cwd=tmp_path)
    said = f'{tool}: argument {option}: at least 1 was expected, not 0 (--help tells more)\n'
    assert ended.value.code == 2 and capsys.readouterr().err == said


@pytest.mark.slow
@pytest.mark.parametrize('tool', ['compare', 'train'])
def test_clips_of_both_splits_end_every_tool_as_other_bad_input_does(tool, tmp_path, run_tool):
    split, clips, meta = make_synthetic(dataset='msr_action3d', subjects=4, clips=32)
    split['xsub_val'] = [*split['xsub_val'], split['xsub_train'][0]]
    save_annotations(tmp_path / 'twice.pkl', split, clips, meta)
    config = ROOT / 'configs/stgcn_msr_action3d.py'
    done = run_tool(tool, config, '--ann-file', 'twice.pkl', cwd=tmp_path, check=False)
    assert done.returncode == 1 and 'Traceback' not in done.stdout
    assert f"{tool}.py: twice.pkl: 1 clip is in split 'xsub_train' and in" in done.stdout


def test_a_wish_for_new_heads_that_a_command_does_not_meet_is_said(
    call, capsys, monkeypatch, tmp_path
):
    says = 'retrain_head = True counts in tools/ensemble.py alone; here heads stay as trained'
    config = ROOT / 'configs/imigue_best.py'
    cfg = Config.fromfile(config)
    assert training.fields_of(Entry('best', ''), cfg)['task'] is training.train_and_test
    assert capsys.readouterr().err.startswith(f'best: {says}')
    cfg.pop('retrain_head')
    training.fields_of(Entry('best', ''), cfg)
    assert capsys.readouterr().err == ''
    monkeypatch.setattr('mg_plugins.openmmlab.launch.build_runner', None)
    for options, said in (([], True), (['--retrain-head', config], False)):
        small = ['--cfg-options', 'synthetic.clips=24']
        with pytest.raises(TypeError, match='NoneType'):
            call('train', config, *options, *small, cwd=tmp_path)
        assert (f'{config}: {says}' in capsys.readouterr().err) == said


@pytest.mark.slow
def test_the_streams_of_a_config_are_trained_and_fused_and_a_killed_command_goes_on(
    compared, run_tool
):
    arguments, folder, _ = compared
    settings = [f'model.backbone.backbone.{option}' for option in SMALL]
    settings += arguments[arguments.index('--cfg-options') + 1 :]
    config = ROOT / 'configs/imigue_best.py'
    arguments = [config, '--streams', 'joint', 'bone', '--ann-file', 'clips.pkl', '--out', 'fused']
    arguments = [*arguments, '--cfg-options', *settings]
    command = [sys.executable, ROOT / 'tools/ensemble.py', *arguments]
    first = subprocess.Popen([*map(str, command)], cwd=folder, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    # The first run is done, and the second has trained and not yet re-trained its head.
    while not list(folder.glob('fused/bone/without_*/s0/training/epoch_1.pth')):
        assert first.poll() is None and time.monotonic() < deadline, 'no second run'
        time.sleep(0.02)
    first.kill()
    first.wait()
    (done,) = folder.glob('fused/*/*/s0/outcome.json')
    (trained,) = folder.glob('fused/bone/without_*/s0/training/epoch_1.pth')
    before = [path.stat().st_mtime_ns for path in (done, trained)]
    said = run_tool('ensemble', *arguments, cwd=folder).stdout
    assert [path.stat().st_mtime_ns for path in (done, trained)] == before
    assert '| joint |' in said and '| ensemble |' in said and 'left-out training subjects' in said
    assert '| ensemble, re-trained heads |' in said
    kept = sorted(path.name for path in (folder / 'fused').glob('*/*'))
    assert kept.count('test') == 2 and sum(name.startswith('without_') for name in kept) == 2
    again = run_tool('ensemble', 'fused/joint', 'fused/bone', '--out', 'again', cwd=folder).stdout
    assert [line for line in again.splitlines() if 'ensemble' in line and '|' in line] == [
        line for line in said.splitlines() if 'ensemble' in line and '|' in line
    ]
