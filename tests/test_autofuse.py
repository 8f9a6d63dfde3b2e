"""Fusing every GCN recognizer by import, in process and through MMAction2's installed train.py."""

import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import mg_plugins  # noqa: F401  (mends MMAction2)

pytest.importorskip('mmaction', reason='MMAction2 is not installed')

import mmaction
from mmaction.models import RecognizerGCN
from mmaction.registry import MODELS
from mmaction.utils import register_all_modules

from mg_plugins.fusion import PlugError, fusions

from forks import run_each_in_a_fork

MIM = Path(mmaction.__file__).parent / '.mim'
TOOLS = MIM / 'tools'
RUNNER = 'runner_type=mg_plugins.autofuse.Runner'
CONFIGS = {
    'stgcn': 'skeleton/stgcn/stgcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py',
    'stgcnpp': 'skeleton/stgcnpp/stgcnpp_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py',
    'aagcn': 'skeleton/2s-agcn/2s-agcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py',
}
WIDTH = 12  # divisible by ST-GCN++'s six branches


@pytest.fixture
def annotations(tmp_path):
    """Six clips of one person with 25 random joints in space, three classes."""
    rng = np.random.default_rng(0)
    clips = [
        {
            'frame_dir': f'clip{i}',
            'label': i % 3,
            'total_frames': 20,
            'keypoint': rng.normal(size=(1, 20, 25, 3)).astype(np.float32),
        }
        for i in range(6)
    ]
    names = [clip['frame_dir'] for clip in clips]
    path = tmp_path / 'tiny.pkl'
    split = {'xsub_train': names[:4], 'xsub_val': names[4:]}
    path.write_bytes(pickle.dumps({'split': split, 'annotations': clips}))
    return path


def shrink(annotations: Path) -> list[str]:
    """Options that make any of the configs a run of seconds."""
    options = [
        f'model.backbone.base_channels={WIDTH}',
        'model.backbone.num_stages=3',
        'model.backbone.inflate_stages=[2,3]',
        'model.backbone.down_stages=[2,3]',
        f'model.cls_head.in_channels={4 * WIDTH}',
        'model.cls_head.num_classes=3',
        'train_cfg.max_epochs=1',
        'train_dataloader.dataset.times=1',
        f'train_dataloader.dataset.dataset.ann_file={annotations}',
    ]
    for name in ('train', 'val', 'test'):
        loader = f'{name}_dataloader'
        options += [f'{loader}.num_workers=0', f'{loader}.persistent_workers=False']
        options += [] if name == 'train' else [f'{loader}.dataset.ann_file={annotations}']
    return [*options, 'train_dataloader.batch_size=4']


@pytest.mark.slow
def test_mmaction2s_own_tools_train_and_test_fused_models(annotations, tmp_path):
    """Each config by a two-line child and, unedited, by runner_type; then test.py on the last."""
    options = shrink(annotations)
    folders, commands = {}, []
    for name, config in CONFIGS.items():
        folder = folders[name, 'import'] = tmp_path / f'{name}_import'
        child = tmp_path / f'{name}_child.py'
        child.write_text(
            f"_base_ = 'mmaction::{config}'\n"
            "custom_imports = dict(imports=['mg_plugins.autofuse'])\n"
        )
        out = ['--work-dir', folder, '--cfg-options', *options]
        commands.append([f'{folder}.log', TOOLS / 'train.py', child, *out])

        folder = folders[name, 'runner_type'] = tmp_path / f'{name}_runner_type'
        unedited = MIM / 'configs' / config
        out = ['--work-dir', folder, '--cfg-options', *options, RUNNER]
        commands.append([f'{folder}.log', TOOLS / 'train.py', unedited, *out])
    commands.append(
        [tmp_path / 'test.log', TOOLS / 'test.py', unedited, folder / 'epoch_1.pth', *out]
    )
    # What every run needs of others' code; nothing of ours, nor models.
    done = run_each_in_a_fork('mmcv,mmengine.runner', commands, tmp_path)
    assert done.returncode == 0, done.stderr

    for run, folder in folders.items():
        saved = torch.load(folder / 'epoch_1.pth')['state_dict']
        fused = {key.split('.mg_fusion.')[0] for key in saved if '.mg_fusion.' in key}
        assert fused == {'backbone.gcn.0', 'backbone.gcn.1', 'backbone.gcn.2'}, run
        assert all(saved[f'{block}.mg_fusion.gamma_s'].any() for block in fused), run
    log = (tmp_path / 'test.log').read_text()
    assert 'autofuse fused AAGCN' in log and 'acc/top1' in log
    assert 'missing keys' not in log and 'unexpected key' not in log


@pytest.fixture
def autofuse(monkeypatch):
    """The module, freshly imported."""
    register_all_modules()
    monkeypatch.delenv('MG_FUSE_OPTIONS', raising=False)
    return importlib.import_module('mg_plugins.autofuse')


def recognizer(**backbone):
    small = {'base_channels': 8, 'num_stages': 3, 'inflate_stages': [3], 'down_stages': [3]}
    cfg = {'type': 'STGCN', 'graph_cfg': {'layout': 'coco', 'mode': 'spatial'}, **small}
    head = {'type': 'GCNHead', 'num_classes': 3, 'in_channels': 16}
    return {'type': 'RecognizerGCN', 'backbone': {**cfg, **backbone}, 'cls_head': head}


def test_recognizers_are_plain_without_and_fused_after_the_import(request):
    register_all_modules()
    assert not fusions(MODELS.build(recognizer()))
    request.getfixturevalue('autofuse')
    assert list(fusions(MODELS.build(recognizer()))) == ['backbone.gcn.1', 'backbone.gcn.2']

    class Own(RecognizerGCN):
        pass

    assert len(fusions(MODELS.build({**recognizer(), 'type': Own}))) == 2


def test_importing_again_changes_nothing(autofuse):
    before = RecognizerGCN.__init__
    importlib.reload(autofuse)
    assert RecognizerGCN.__init__ is before
    assert len(fusions(MODELS.build(recognizer()))) == 2


def test_a_fused_backbone_is_left_as_it_is(autofuse):
    cfg = recognizer()
    cfg['backbone'] = {'type': 'MGFuse', 'backbone': cfg['backbone'], 'positions': 'gcn.0'}
    assert list(fusions(MODELS.build(cfg))) == ['backbone.gcn.0']


def test_options_from_the_environment_and_from_configure(autofuse, monkeypatch):
    monkeypatch.setenv('MG_FUSE_OPTIONS', '{"positions": ["gcn.[01]"], "heads": 4}')
    built = fusions(MODELS.build(recognizer()))
    assert {name: f.heads for name, f in built.items()} == {
        'backbone.gcn.0': 4,
        'backbone.gcn.1': 4,
    }
    autofuse.configure(positions='gcn.2')
    assert {n: f.heads for n, f in fusions(MODELS.build(recognizer())).items()} == {
        'backbone.gcn.2': 1
    }
    autofuse.configure()
    for wrong, words in {'{heads: 4': 'is not JSON', '[4]': 'must be a JSON object'}.items():
        monkeypatch.setenv('MG_FUSE_OPTIONS', wrong)
        with pytest.raises(ValueError, match=words):
            MODELS.build(recognizer())


def test_a_backbone_that_cannot_be_fused_is_an_error(autofuse):
    autofuse.configure(positions='layer4')
    with pytest.raises(PlugError, match="could not fuse the backbone STGCN: .*'layer4'"):
        MODELS.build(recognizer())
