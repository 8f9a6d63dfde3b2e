"""The tools as a user runs them: real processes, real runs on small data."""

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from mg_plugins.data.annotations import load_annotations, save_annotations
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.errors import UserError
from mg_plugins.files import InUse, locked
from mg_plugins.openmmlab import launch
from mg_plugins.openmmlab.launch import build_model, load_config
from mg_plugins.openmmlab.settings import enter_scope

from forks import run_each_in_a_fork
from paths import ROOT, load_tool

CONFIGS = ROOT / 'configs'
FUSED = CONFIGS / 'stgcn_mgfuse_msr_action3d.py'
TINY = (
    'train_cfg.max_epochs=2',
    'model.backbone.backbone.base_channels=8',
    'model.backbone.backbone.num_stages=3',
    'model.backbone.backbone.inflate_stages=[3]',
    'model.backbone.backbone.down_stages=[3]',
    'model.cls_head.in_channels=16',
)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A working folder in which the data of the MSR-Action3D configs is there (40 made clips)."""
    folder = tmp_path_factory.mktemp('place')
    split, clips, meta = make_synthetic(dataset='msr_action3d', subjects=4, clips=48)
    path = folder / 'data/msr_action3d/msr_action3d.pkl'
    path.parent.mkdir(parents=True)
    save_annotations(path, split, clips, meta)
    return folder


@pytest.fixture(scope='module')
def trained(place, run_tool):
    """One finished run of two epochs."""
    out = run_tool('train', FUSED, '--seed', 1, '--cfg-options', *TINY, cwd=place).stdout
    return place / 'work_dirs/stgcn_mgfuse_msr_action3d', out


@pytest.mark.slow
def test_train_ends_with_a_tested_fused_model(trained):
    folder, out = trained
    assert 'SYNTHETIC' not in out
    listings = ('System environment:', 'Hooks will be executed', 'Config:')
    log = next(folder.glob('*/*.log')).read_text()
    assert all(text in log and text not in out for text in listings), 'in the log file alone'
    weights = torch.load(folder / 'epoch_2.pth')['state_dict']
    assert weights['backbone.gcn.1.mg_fusion.gamma_t'].abs().max() > 0
    metrics = json.loads((folder / 'test/metrics.json').read_text())
    # The file says that it holds made clips, and so does every metric.
    assert set(metrics) == {
        f'synthetic/{name}' for name in ('top1', 'top5', 'mean_class_acc', 'macro_f1')
    }
    with (folder / 'test/predictions.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    share = sum(r['label'] == r['predicted'] for r in rows) / len(rows)
    assert share == pytest.approx(metrics['synthetic/top1'])
    assert {'session', 'subject', 'start', 'end', 'fps', 'outcome'} <= set(rows[0])


@pytest.mark.slow
def test_the_head_alone_learns_anew_on_balanced_batches(trained, place, run_tool):
    folder, _ = trained
    first = folder / 'epoch_2.pth'
    run_tool('train', FUSED, '--retrain-head', first, '--cfg-options', *TINY, cwd=place)
    retrained = place / 'work_dirs/stgcn_mgfuse_msr_action3d_retrained'
    before, after = (torch.load(p)['state_dict'] for p in (first, retrained / 'epoch_2.pth'))
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {'cls_head.fc.weight', 'cls_head.fc.bias'}  # batch norm stays as well
    drawn = (after['cls_head.fc.weight'] - before['cls_head.fc.weight']).norm()
    assert drawn > 0.5 * before['cls_head.fc.weight'].norm()  # not gone on from
    config = (retrained / 'stgcn_mgfuse_msr_action3d.py').read_text()
    assert 'MGClassBalancedSampler' in config and 'HeadAlone' in config


@pytest.mark.slow
def test_test_tool_finds_the_last_checkpoint_and_agrees(trained, place, run_tool):
    folder, _ = trained
    before = (folder / 'test/predictions.csv').read_text()
    for made in (folder / 'test').iterdir():
        made.unlink()
    out = run_tool('test', FUSED, '--dump', 'p.pkl', '--cfg-options', *TINY, cwd=place).stdout
    assert 'epoch_2.pth' in out and (place / 'p.pkl').is_file()
    assert (folder / 'test/predictions.csv').read_text() == before
    assert (folder / 'test/confusion.png').is_file()


@pytest.mark.slow
def test_weights_that_do_not_fit_and_splits_that_are_not_there_are_refused(
    trained, place, run_tool
):
    done = run_tool('test', FUSED, '--cfg-options', *TINY[:-1], cwd=place, check=False)
    assert done.returncode == 1 and 'is of another model than this config' in done.stdout
    options = [*TINY, 'test_dataloader.dataset.split=val']
    done = run_tool('test', FUSED, '--cfg-options', *options, cwd=place, check=False)
    assert done.returncode == 1 and "no split 'val'; it has" in done.stdout
    assert 'Traceback' not in done.stdout.partition('no split')[2]


@pytest.mark.slow
def test_killed_in_mid_epoch_training_resumes_to_the_same_end(place, run_tool, tmp_path):
    options = [*TINY, 'train_cfg.max_epochs=12', 'train_dataloader.batch_size=2']
    options += ['default_hooks.logger.interval=1', 'default_hooks.checkpoint.max_keep_ckpts=-1']
    command = [sys.executable, ROOT / 'tools/train.py', FUSED, '--work-dir', tmp_path, '--resume']
    command += ['--cfg-options', *options]
    log = (tmp_path / 'first.txt').open('w')
    first = subprocess.Popen([*map(str, command)], cwd=place, stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while '[3][' not in (tmp_path / 'first.txt').read_text():
        assert first.poll() is None and time.monotonic() < deadline, 'did not get to epoch 3'
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    saved = sorted(tmp_path.glob('epoch_*.pth'), key=os.path.getmtime)
    assert 2 <= len(saved) < 12
    arguments = ('--work-dir', tmp_path, '--resume', '--cfg-options', *options)
    out = run_tool('train', FUSED, *arguments, cwd=place).stdout
    assert f'resumed epoch: {len(saved)}' in out
    assert (tmp_path / 'epoch_12.pth').is_file()
    assert (tmp_path / 'test/metrics.json').is_file()


@pytest.mark.slow
def test_two_processes_train_one_model(place, run_tool, tmp_path):
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2']
    arguments = ('--launcher', 'pytorch', '--work-dir', tmp_path, '--amp', '--seed', 0)
    port = ['--master_port', str(29500 + os.getpid() % 1000)]
    run_tool(
        'train', FUSED, *arguments, '--cfg-options', *TINY, cwd=place, prefix=[*torchrun, *port]
    )
    with (tmp_path / 'test/predictions.csv').open(newline='') as file:
        clips = [r['frame_dir'] for r in csv.DictReader(file)]
    assert len(clips) == len(set(clips)) > 0


@pytest.mark.parametrize(
    ('config', 'labelled'), [(FUSED, True), (CONFIGS / 'stbcl_stgcn_msr_action3d.py', None)]
)
def test_a_model_of_labels_trains_on_clips_that_have_one(config, labelled):
    from mmengine.config import Config

    from mg_plugins.openmmlab.launch import keep_labelled

    cfg = Config.fromfile(config)
    keep_labelled(cfg)
    dataset = cfg.train_dataloader.dataset
    assert dataset.get('dataset', dataset).get('labelled') is labelled
    assert 'labelled' not in cfg.test_dataloader.dataset


@pytest.mark.slow
def test_missing_data_goes_on_with_the_synthetic_set_and_says_so(run_tool, tmp_path):
    options = ['train_cfg.max_epochs=1', 'synthetic.clips=96', 'synthetic.subjects=6']
    config = CONFIGS / 'stgcnpp_mgfuse_imigue.py'
    out = run_tool(
        'train', config, '--feat', 'bone', '--cfg-options', *options, cwd=tmp_path
    ).stdout
    assert 'SYNTHETIC DATA' in out and 'data/imigue/imigue.pkl' in out
    assert 'tools/prepare_data.py imigue' in out and 'synthetic_loss' in out
    folder = tmp_path / 'work_dirs/stgcnpp_mgfuse_imigue_bone_synthetic'
    metrics = json.loads((folder / 'test/metrics.json').read_text())
    assert metrics and all('synthetic' in name for name in metrics)
    for line in next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines():
        figures = set(json.loads(line)) - {'lr', 'base_lr', 'time', 'data_time', 'epoch', 'iter'}
        assert all('synthetic' in name for name in figures - {'step'}), figures


FAMILIES = (
    'aagcn_mgfuse_imigue',
    'stgcn_mgfuse_smg',
    'stgcn_mgfuse_ntu60',
    'stgcn_mgfuse_imigue_longtail',
    'stgcn_mgfuse_upper46',
    'stgcn_mgfuse_holistic75',
    'mmaction::skeleton/2s-agcn/2s-agcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-2d.py',
)


@pytest.mark.slow
def test_every_family_of_configs_runs(tmp_path):
    """Each in a process of its own, forked from one that has imported everything."""
    commands = []
    for number, config in enumerate(FAMILIES):
        options = ['train_cfg.max_epochs=1']
        if '::' not in config:
            options += ['synthetic.clips=72', 'synthetic.subjects=3']
            config = CONFIGS / f'{config}.py'
        extra = ['--fuse'] if '::' in str(config) else []
        work = ['--work-dir', tmp_path / f'{number}']
        argv = [ROOT / 'tools/train.py', config, *extra, *work, '--cfg-options', *options]
        commands.append([tmp_path / f'{number}.log', *argv])
    done = run_each_in_a_fork('mg_plugins.openmmlab.launch', commands, tmp_path)
    assert done.returncode == 0, done.stderr
    for number, config in enumerate(FAMILIES):
        folder = tmp_path / f'{number}_synthetic'
        assert (folder / 'test/confusion.csv').is_file(), config
        metrics = json.loads((folder / 'test/metrics.json').read_text())
        assert metrics and all(name.startswith('synthetic') for name in metrics)
        state = torch.load(folder / 'epoch_1.pth')['state_dict']
        assert any('mg_fusion.gamma_s' in name for name in state)


@pytest.mark.parametrize(('name', 'joints'), [('upper46', 46), ('holistic75', 75)])
def test_a_layout_that_a_child_config_names_is_that_of_all_its_parts(name, joints):
    wishes = dict(config=f'{CONFIGS}/stgcn_mgfuse_{name}.py', cfg_options=['synthetic.clips=24'])
    cfg = load_config(argparse.Namespace(**wishes))
    enter_scope()
    assert 'imigue22' not in cfg.pretty_text
    item = Runner.build_dataloader(cfg.train_dataloader).dataset[0]
    assert item['inputs'].shape[3] == joints
    build_model(cfg)(item['inputs'][None].float(), mode='tensor')


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['configs/stgcn_imigu.py'], 'did you mean configs/stgcn_imigue.py'),
        (['mmaction::skeleton/stgcn/stgcn.py'], 'there is no config mmaction::skeleton'),
        ([FUSED, '--require-data'], 'Not found: data/msr_action3d/msr_action3d.pkl'),
        ([FUSED, '--resume', 'x.pth'], 'there is no checkpoint x.pth'),
        ([FUSED, '--launcher', 'pytorch'], 'torchrun --nproc_per_node 2'),
        ([FUSED, '--cfg-options', 'x'], "takes KEY=VALUE, got 'x'"),
        ([FUSED, '--finetune'], 'needs a config that follows a pre-training'),
    ],
)
def test_wishes_that_cannot_be_met_are_explained(arguments, message, tmp_path, monkeypatch):
    (tmp_path / 'configs').symlink_to(CONFIGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(sys, 'argv', ['train.py', *map(str, arguments)])
    with pytest.raises(UserError, match=re.escape(message)):
        load_tool('train').main()
    assert not (tmp_path / 'work_dirs').exists()


def test_a_checkpoint_may_follow_the_options_and_is_no_annotation_file(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = ['test.py', str(FUSED), '--work-dir', 'w', '--fuse', 'val.pkl']
    monkeypatch.setattr(sys, 'argv', given)
    tool = load_tool('test')
    args = tool.parse_args()
    assert args.checkpoint == 'val.pkl'
    with pytest.raises(UserError, match='val.pkl is no checkpoint but an annotation file'):
        launch.apply_test_options(load_config(args), args)


@pytest.mark.parametrize('name', ['train', 'test'])
def test_files_to_train_and_to_test_on_are_put_together(name, monkeypatch, tmp_path):
    """PYSKL's old lists: a file a split, none of which names its own."""
    monkeypatch.chdir(tmp_path)
    split, clips, meta = make_synthetic(dataset='imigue', subjects=4, clips=40, classes=3)
    for part in ('train', 'val'):
        own = [clip for clip in clips if clip['frame_dir'] in split[f'xsub_{part}']]
        save_annotations(f'{part}.pkl', {}, own, meta)
    more = ['train.pkl', 'val.pkl', *['some.pth'] * (name == 'test')]
    monkeypatch.setattr(sys, 'argv', [f'{name}.py', str(FUSED), '--ann-file', *more])
    args = load_tool(name).parse_args()
    assert args.ann_file == ['train.pkl', 'val.pkl']
    assert vars(args).get('checkpoint') == ('some.pth' if name == 'test' else None)
    cfg = load_config(args)
    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
    assert (train.split, test.split) == ('train', 'val') and train.ann_file == test.ann_file
    content = load_annotations(train.ann_file)
    for part in ('train', 'val'):
        assert set(content['split'][part]) == set(split[f'xsub_{part}'])
    before = Path(train.ann_file).stat().st_mtime_ns
    assert load_config(args).train_dataloader.dataset.ann_file == train.ann_file
    assert Path(train.ann_file).stat().st_mtime_ns == before
    args.ann_file = ['train.pkl', 'gone.pkl']
    with pytest.raises(UserError, match='gone.pkl'):
        load_config(args)


@pytest.mark.parametrize('given', [[], ['--ann-file', 'a.pkl', 'b.pkl']], ids=['made', 'given'])
def test_a_cache_that_cannot_be_made_is_named(given, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path('file').touch()
    monkeypatch.setenv('MG_PLUGINS_CACHE', 'file/cache')
    monkeypatch.setattr(sys, 'argv', ['train.py', str(FUSED), *given])
    with pytest.raises(UserError, match='the cache file/cache cannot be made .*MG_PLUGINS_CACHE'):
        load_config(load_tool('train').parse_args())


def test_what_no_option_takes_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['train.py', str(FUSED), 'val.pkl', '--fuses'])
    with pytest.raises(SystemExit):
        load_tool('train').parse_args()
    assert 'unrecognized arguments: val.pkl --fuses' in capsys.readouterr().err


@pytest.mark.slow
def test_a_wish_that_cannot_be_met_is_one_line(run_tool, tmp_path):
    done = run_tool('train', FUSED, '--require-data', cwd=tmp_path, check=False)
    assert done.returncode == 1 and 'train.py: Not found: data/msr_action3d' in done.stdout
    assert 'Traceback' not in done.stdout and not (tmp_path / 'work_dirs').exists()


def test_a_work_directory_in_use_is_refused_and_named(place, monkeypatch, tmp_path):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, 'argv', ['train.py', str(FUSED), '--work-dir', str(tmp_path)])
    with locked(tmp_path), pytest.raises(InUse, match=f'the work directory, .* {os.getpid()}'):
        load_tool('train').main()
