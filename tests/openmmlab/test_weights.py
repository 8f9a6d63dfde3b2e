"""What a training starts from and a test tests, looked at first: misfits are a sentence."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mg_plugins.data.annotations import save_annotations
from mg_plugins.errors import UserError
from mg_plugins.openmmlab import launch, weights
from mg_plugins.openmmlab.checkpoints import CheckpointError

from paths import ROOT

LAYOUT, CLASSES = 'msr_action3d', [f'class {n}' for n in range(20)]


def write(path, dims=3, joints=20, layout=LAYOUT, classes=CLASSES, splits=None):
    rng = np.random.default_rng(0)
    clips = [
        dict(
            frame_dir=f'c{n}',
            label=n % 3,
            subject=f's{n % 4}',
            keypoint=rng.normal(size=(1, 12, joints, dims)).astype(np.float32),
        )
        for n in range(12)
    ]
    names = [clip['frame_dir'] for clip in clips]
    splits = splits or {'xsub_train': names[:8], 'xsub_val': names[8:]}
    save_annotations(path, splits, clips, dict(layout=layout, classes=classes, source='mine'))
    return path


def config(folder, ann_file, name='stgcn_mgfuse_msr_action3d', base=4, **changes):
    """A config of seconds over ``ann_file``."""
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    backbone = cfg.model.backbone.get('backbone', cfg.model.backbone)
    backbone.update(base_channels=base, num_stages=2, inflate_stages=[2], down_stages=[2])
    cfg.model.cls_head.in_channels = 2 * base
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].dataset.ann_file = str(ann_file)
        cfg[loader].batch_size = 4
        for step in cfg[loader].dataset.pipeline:
            if 'clip_len' in step:
                step.clip_len = 8
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_begin=9)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 5
    cfg.work_dir, cfg.experiment_name = str(folder), f'{folder.name}_{len(list(folder.glob("*")))}'
    cfg.merge_from_dict(changes)
    return cfg


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Folder of a run of two epochs, and its annotation file."""
    folder = tmp_path_factory.mktemp('trained')
    ann_file = write(folder / 'mine.pkl')
    launch.build_runner(config(folder / 'run', ann_file)).train()
    return folder / 'run', ann_file


def spoil(path, **changes):
    content = torch.load(path)
    for name, change in changes.items():
        content['state_dict'][name] = change(content['state_dict'][name])
    torch.save(content, path)


def with_nan(path):
    spoil(path, **{'cls_head.fc.bias': lambda w: w * float('nan')})


def with_text(path):
    spoil(path, **{'cls_head.fc.bias': lambda w: 'text'})


def flipped(path):
    """One bit of the largest part of the file, which torch itself does not notice."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 64
    path.write_bytes(raw)


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def of_text(path):
    path.write_text('no weights')


def with_code(path):
    torch.save({'state_dict': {}, 'meta': {'x': SimpleNamespace()}}, path)


def of_numbers(path):
    torch.save([1], path)


def empty(path):
    path.write_bytes(b'')


HARMS = [with_nan, with_text, flipped, cut, of_text, with_code, of_numbers, empty]


@pytest.mark.parametrize('harm', HARMS)
def test_damaged_checkpoints_are_named(harm, trained, tmp_path):
    last = tmp_path / 'epoch_2.pth'
    shutil.copy(trained[0] / 'epoch_2.pth', last)
    weights.load_whole(last)
    harm(last)
    with pytest.raises(CheckpointError) as error:
        weights.load_whole(last)
    words = str(error.value)
    assert words.startswith(f'{last} ') and not words.startswith(f'{last} is not there')
    assert not any(advice in words for advice in ('weights_only', '\n', 'trust')), words


def test_the_last_whole_checkpoint_is_offered(trained, tmp_path):
    folder, ann_file = trained
    shutil.copytree(folder, tmp_path / 'run')
    last = tmp_path / 'run/epoch_2.pth'
    flipped(last)
    (tmp_path / 'run/last_checkpoint').write_text(str(last))
    with pytest.raises(CheckpointError) as resumed:
        launch.build_runner(config(tmp_path / 'run', ann_file, resume=True))
    assert str(resumed.value).endswith(f'--resume {tmp_path}/run/epoch_1.pth')
    with pytest.raises(CheckpointError, match='load_from=None'):
        launch.build_runner(config(tmp_path / 'new', ann_file, load_from=str(last)))


def test_checkpoints_of_another_model_or_of_other_data_are_refused(trained, tmp_path):
    folder, ann_file = trained
    last = str(folder / 'epoch_2.pth')

    def start(file=ann_file, test=False, **changes):
        cfg = config(tmp_path / 'other', file, load_from=last, **changes)
        return launch.build_runner(cfg, training=not test)

    flat = write(tmp_path / 'flat.pkl', dims=2)
    other = write(tmp_path / 'other.pkl', classes=CLASSES[::-1])
    body = write(tmp_path / 'body.pkl', joints=25, layout='ntu25')
    graph = {'model.backbone.backbone.graph_cfg.layout': 'ntu25'}
    cases = [
        (dict(base=8), 'is of another model than this config'),
        ({'model.cls_head.num_classes': 7}, 'it tells 20 classes apart, this config 7'),
        (dict(name='stgcn_msr_action3d'), 'it has the fusion, this config has not'),
        ({'model.backbone.backbone.num_stages': 3}, 'it has no backbone.gcn.2'),
        (dict(file=flat), 'coordinates a joint 3, this data has 2'),
    ]
    for number, (changes, words) in enumerate(cases):
        with pytest.raises(UserError, match=words):
            start(test=bool(number % 2), **changes)
    with pytest.raises(UserError, match='learned from data with classes'):
        start(other, test=True)
    start(other)
    with pytest.raises(UserError, match='graphs have 20 joints, those of this config 25'):
        start(body, **graph)
    start().train()


def test_a_loss_that_is_not_finite_stops_the_run_and_nothing_is_saved_over(trained, tmp_path):
    folder, ann_file = trained
    shutil.copytree(folder, tmp_path / 'run')
    (tmp_path / 'run/last_checkpoint').write_text(str(tmp_path / 'run/epoch_2.pth'))
    again = {'optim_wrapper.optimizer.lr': 1e30, 'train_cfg.max_epochs': 9, 'resume': True}
    cfg = config(tmp_path / 'run', ann_file, **again)
    cfg.param_scheduler = None
    runner = launch.build_runner(cfg)
    resume = runner.load_or_resume

    def resume_with_a_huge_rate():
        resume()
        for group in runner.optim_wrapper.param_groups:
            group['lr'] = 1e30

    runner.load_or_resume = resume_with_a_huge_rate
    with pytest.raises(UserError, match='not finite; the last good checkpoint is .*epoch_2.pth'):
        runner.train()
    for path in (tmp_path / 'run').glob('*.pth'):
        weights.load_whole(path)


def test_figures_are_called_synthetic_by_what_the_data_say(trained, tmp_path, monkeypatch):
    """The config that a synthetic run saves, on real data: nothing is called synthetic."""
    monkeypatch.chdir(tmp_path)
    _, ann_file = trained
    parser_options = {
        'synthetic.clips': 48,
        'synthetic.subjects': 4,
        'train_cfg.max_epochs': 1,
    }
    args = SimpleNamespace(
        config=str(ROOT / 'configs/stgcn_mgfuse_msr_action3d.py'),
        ann_file=None,
        layout=None,
        splits=None,
        cfg_options=parser_options,
        fuse=False,
        no_fuse=False,
        feat=None,
        work_dir=None,
        require_data=False,
        launcher='none',
        local_rank=0,
    )
    runner = launch.build_runner(launch.load_config(args))
    runner.train()
    assert all(name.startswith('synthetic/') for name in runner.test())
    (saved,) = (tmp_path / 'work_dirs/stgcn_mgfuse_msr_action3d_synthetic').glob('*.py')
    cfg = Config.fromfile(saved)
    cfg.merge_from_dict(
        {'test_dataloader.dataset.ann_file': str(ann_file), 'experiment_name': 'real'}
    )
    cfg.load_from = str(next(saved.parent.glob('*.pth')))
    content = torch.load(cfg.load_from)
    content['meta'].pop('inputs')  # other classes
    torch.save(content, cfg.load_from)
    figures = launch.build_runner(cfg, training=False).test()
    assert figures and not any('synthetic' in name for name in figures)
