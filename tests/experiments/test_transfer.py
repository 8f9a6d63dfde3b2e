"""A pre-training on other data: other joints, other splits, and the tool that probes it there."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mg_plugins.contrast.losses import ContrastError
from mg_plugins.data.annotations import AnnotationError, save_annotations
from mg_plugins.data.layouts import LayoutError
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.experiments import probing
from mg_plugins.experiments.probing import with_data
from mg_plugins.experiments.training import finetune

from contrast_toys import build, model_config, write_clips


def write(folder, dataset, named=True):
    split, clips, meta = make_synthetic(dataset=dataset, subjects=4, clips=40)
    path = folder / f'{dataset}.pkl'
    if not named:
        del meta['layout']
    save_annotations(path, split, clips, meta)
    return str(path)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint with its config beside it, of a model for MSR-Action3D's joints."""
    folder = tmp_path_factory.mktemp('pre')
    own = write_clips(folder)
    pipeline = [
        dict(type='MGNormalize', layout='msr_action3d'),
        dict(type='MGResample', clip_len=8),
        dict(type='MGSkeFeat', layout='msr_action3d', feat='joint'),
        dict(type='FormatGCNInput', num_person=1),
        dict(type='PackActionInputs', meta_keys=('frame_dir', 'subject')),
    ]
    loaders = {
        f'{part}_dataloader': dict(
            batch_size=8,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                type='MGPoseDataset', ann_file=own, split=split, pipeline=pipeline, **selection
            ),
        )
        for part, split, selection in (
            ('train', 'xsub_train', dict(exclude_subjects=[1])),
            ('test', 'xsub_val', dict(test_mode=True)),
        )
    }
    Config(dict(model=model_config(), default_scope='mmaction', **loaders)).dump(folder / 'toy.py')
    torch.save(dict(state_dict=build().state_dict()), folder / 'epoch_1.pth')
    return folder / 'epoch_1.pth'


@pytest.fixture
def cfg(checkpoint):
    init_default_scope('mmaction')  # as loading a model does
    return Config.fromfile(checkpoint.parent / 'toy.py')


def test_other_joints_come_before_normalisation(cfg, checkpoint, tmp_path):
    before = cfg.pretty_text
    changed = with_data(cfg, write(tmp_path, 'smg'), ['xsub_train', 'xsub_val'])
    assert cfg.pretty_text == before
    steps = [step.type for step in changed.test_dataloader.dataset.pipeline]
    assert steps[:2] == ['MGRelayout', 'MGNormalize']
    loader = probing.loader_of(changed, 'train')
    assert loader.dataset.layout.name == 'ntu25' and len(loader.dataset.subjects or ()) == 0
    assert next(iter(loader))['inputs'][0].shape == (1, 1, 8, 20, 3)
    said = finetune(changed, checkpoint, work_dir=tmp_path / 'work', steps=1)
    assert len(said.labels) == len(probing.loader_of(changed, 'test').dataset)


def test_the_same_joints_need_no_step(cfg, tmp_path):
    changed = with_data(cfg, write(tmp_path, 'msr_action3d'))
    assert changed.test_dataloader.dataset.pipeline == cfg.test_dataloader.dataset.pipeline
    assert 'exclude_subjects' not in changed.train_dataloader.dataset


def test_a_layout_that_the_file_does_not_name(cfg, tmp_path):
    path = write(tmp_path, 'smg', named=False)
    changed = with_data(cfg, path, layout='ntu25')
    assert changed.test_dataloader.dataset.pipeline[0].source == 'ntu25'
    assert len(probing.loader_of(changed, 'test').dataset)


def test_what_does_not_fit_is_refused(cfg, tmp_path):
    with pytest.raises(LayoutError, match='2 coordinates a joint, 3 were expected.*depth'):
        with_data(cfg, write(tmp_path, 'imigue'))
    other = Config(cfg.to_dict())
    other.train_dataloader.dataset.ann_file = other.test_dataloader.dataset.ann_file = 'none.pkl'
    with pytest.raises(LayoutError, match='2 coordinates a joint, 3 were expected.*depth'):
        with_data(other, write(tmp_path, 'imigue'))
    with pytest.raises(LayoutError, match="has keypoint of shape .* for layout 'coco17'"):
        with_data(cfg, write(tmp_path, 'smg'), layout='coco17')
    with pytest.raises(AnnotationError):
        with_data(cfg, tmp_path / 'none.pkl')
    other = Config(cfg.to_dict())
    other.test_dataloader.dataset.pipeline = other.test_dataloader.dataset.pipeline[1:]
    with pytest.raises(ContrastError, match='0 steps MGNormalize'):
        with_data(other, write(tmp_path, 'smg'))


@pytest.mark.slow
def test_the_tool_trains_and_probes_on_other_joints(checkpoint, run_tool, tmp_path):
    options = ['--ann-file', write(tmp_path, 'smg'), '--probes', 'knn', 'finetune', 'scratch']
    options += ['--shares', '0.1', '1', '--draws', '1', '--steps', '2', '--lr-mult', '0.5']
    done = run_tool('probe', checkpoint, *options, '--out', tmp_path / 'out', cwd=tmp_path)
    assert 'SYNTHETIC' in done.stdout and 'finetune_100%' in done.stdout
    content = json.loads((tmp_path / 'out/probes.json').read_text())
    trained = {f'{n}_{share}' for n in ('finetune', 'scratch') for share in ('10%', '100%')}
    assert set(content['probes']['fused']) == {'knn', *trained}
    assert set(content['probes']['graph']) == {'knn'}
    assert np.isfinite(list(content['probes']['fused'].values())).all()
    assert content['finetune']['steps'] == 2
    assert len(list((tmp_path / 'out/trained').glob('fused/*/s*/*.py'))) == 4
