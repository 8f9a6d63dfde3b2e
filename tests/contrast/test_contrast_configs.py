"""The configs as they are: every one trains, and what follows a pre-training starts from it."""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mg_plugins.data.annotations import save_annotations
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.openmmlab.settings import set_finetuning

from contrast_toys import run
from paths import ROOT

CONFIGS = ROOT / 'configs'
SETS = ('msr_action3d', 'imigue', 'smg', 'ntu60')
# The others differ from one of these by a layout or by a setting; SkeletonCLR is trained below.
PRETRAINING = ['stbcl_stgcn_imigue', 'stbcl_stgcn_ntu60', 'aimclr_msr_action3d']
BUILT = ['stbcl_stgcn_msr_action3d', 'stbcl_stgcn_smg', 'skeletonclr_imigue', 'aimclr_imigue']
BUILT += ['masked_msr_action3d']


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """By data set, an annotation file of made clips with the splits of its configs."""
    folder, files = tmp_path_factory.mktemp('clips'), {}

    def of(name):
        if name not in files:
            split, made, meta = make_synthetic(dataset=name, subjects=4, clips=32)
            files[name] = str(folder / f'{name}.pkl')
            save_annotations(files[name], split, made, meta)
        return files[name]

    return of


def load(name: str, clips, folder, finetune=None, **changes) -> Config:
    """A config on few clips, for one epoch."""
    config = Config.fromfile(CONFIGS / f'{name}.py')
    data = next(n for n in SETS if n in name)
    options = {f'{part}_dataloader.num_workers': 0 for part in ('train', 'test')}
    options |= {f'{part}_dataloader.persistent_workers': False for part in ('train', 'test')}
    config.merge_from_dict(options)
    for dataset in (config.train_dataloader.dataset, config.test_dataloader.dataset):
        dataset = dataset.get('dataset', dataset)
        dataset.ann_file = clips(data)
        for step in dataset.pipeline:
            if 'clip_len' in step:
                step.clip_len = 16
    if config.model.type == 'DualStreamContrast':
        config.model.head.queue_size = 12
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.train_dataloader.batch_size = 10
    config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
    config.work_dir, config.log_level = str(folder), 'WARNING'
    if finetune is not None:
        set_finetuning(config, finetune)
    config.merge_from_dict(changes)
    return config


def weights(folder) -> dict:
    return torch.load(folder / 'epoch_1.pth')['state_dict']


@pytest.mark.slow
@pytest.mark.parametrize('name', PRETRAINING)
def test_pretraining_configs_train(name, clips, tmp_path):
    runner = run(load(name, clips, tmp_path))
    assert runner.model.heads['graph'].queue.filled == 12
    assert runner.message_hub.get_scalar('train/loss').current() > 0
    assert runner.test() == {}  # reads the test clips, figures nothing


@pytest.mark.parametrize('name', BUILT)
def test_pretraining_configs_take_a_batch(name, clips, tmp_path):
    """Views of the config's own clips go through its model; a whole training is not needed."""
    config = load(name, clips, tmp_path)
    with DefaultScope.overwrite_default_scope('mmaction'):
        model = MODELS.build(config.model)
        loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    data = model.data_preprocessor(next(iter(loader)), training=True)
    losses = model(**data, mode='loss')
    assert all(value.isfinite() for value in losses.values())
    assert ('loss_masked' in losses) == name.startswith('masked') != ('loss_graph' in losses)


@pytest.mark.slow
def test_the_tool_explains_a_queue_that_is_too_large(clips, run_tool, tmp_path):
    (tmp_path / 'data/msr_action3d').mkdir(parents=True)
    (tmp_path / 'data/msr_action3d/msr_action3d.pkl').symlink_to(clips('msr_action3d'))
    config = CONFIGS / 'stbcl_stgcn_msr_action3d.py'
    options = ['--cfg-options', 'model.head.queue_size=4096']
    done = run_tool('train', config, '--feat', 'bone', *options, cwd=tmp_path, check=False)
    assert done.returncode == 1 and 'Traceback' not in done.stdout
    assert 'train.py: a queue of 4096 keys is larger than the training set of' in done.stdout


@pytest.mark.slow
def test_followers_start_from_a_pretraining(clips, tmp_path):
    name = 'stbcl_stgcn_msr_action3d'
    run(load(name, clips, tmp_path / 'pre'))
    before = weights(tmp_path / 'pre')
    start = dict(load_from=str(tmp_path / 'pre/epoch_1.pth'))
    encoder = [k for k in before if k.startswith(('backbone.', 'sequence.', 'fusion.'))]

    run(load(f'{name}_linear', clips, tmp_path / 'linear', **start))
    linear = weights(tmp_path / 'linear')
    assert all(torch.equal(linear[k], before[k]) for k in encoder)
    assert set(linear) - set(encoder) == {'cls_head.fc.weight', 'cls_head.fc.bias'}

    runner = run(load(f'{name}_linear', clips, tmp_path / 'finetune', finetune=1.0, **start))
    assert any(not torch.equal(weights(tmp_path / 'finetune')[k], before[k]) for k in encoder)
    every = len(runner.train_dataloader.dataset)
    runner = run(load(f'{name}_linear', clips, tmp_path / 'semi', finetune=0.1, **start))
    few = runner.train_dataloader.dataset
    assert len(set(few.labels)) <= len(few) < every


@pytest.fixture(scope='module')
def skeletonclr(clips, tmp_path_factory):
    """Folder of a trained SkeletonCLR."""
    folder = tmp_path_factory.mktemp('skeletonclr')
    run(load('skeletonclr_msr_action3d', clips, folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('way', ['load_from', 'init_cfg'])
def test_a_plain_recognizer_starts_from_the_graph_stream(way, skeletonclr, clips, tmp_path):
    """The names of the backbone's weights are the same."""
    before = weights(skeletonclr)
    backbone = dict(load('skeletonclr_msr_action3d', clips, tmp_path).model.backbone)
    file, changes = str(skeletonclr / 'epoch_1.pth'), {}
    if way == 'load_from':
        changes['load_from'] = file
    else:
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=file, prefix='backbone.')
    changes |= {
        'model.backbone': backbone,
        'model.cls_head.in_channels': 64,
        'optim_wrapper.optimizer.lr': 0.0,
    }
    run(load('stgcn_msr_action3d', clips, tmp_path / 'after', **changes))
    after = weights(tmp_path / 'after')
    learned = [k for k in after if k.startswith('backbone.') and 'running_' not in k]
    learned = [k for k in learned if 'num_batches' not in k]
    assert learned and all(torch.equal(after[k], before[k]) for k in learned)


@pytest.mark.slow
def test_the_supervised_twin_trains(clips, tmp_path):
    runner = run(
        load(
            'stgcn_mgfuse_msr_action3d', clips, tmp_path, **{'model.cls_head.type': 'GCNSupConHead'}
        )
    )
    assert runner.message_hub.get_scalar('train/loss_supcon').max() > 0
