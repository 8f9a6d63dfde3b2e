"""Changes to configs, without running them."""

import importlib

import pytest
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mg_plugins.fusion import is_fused
from mg_plugins.openmmlab import settings, synthetic_data
from mg_plugins.openmmlab.settings import LaunchError

from paths import ROOT

# Those of recordings (spot_…) have no pipelines.
CONFIGS = [p for p in sorted((ROOT / 'configs').glob('*.py')) if not p.stem.startswith('spot_')]
OTHER = ('longtail', 'emotion', 'upper46', 'holistic75')  # more than the fusion sets these apart
TWINS = [p for p in CONFIGS if '_mgfuse_' in p.name and not p.stem.endswith(OTHER)]


@pytest.mark.parametrize('path', TWINS, ids=lambda p: p.stem)
def test_plain_twins_differ_only_in_the_fusion(path):
    fused = Config.fromfile(path)
    plain = Config.fromfile(path.with_name(path.name.replace('_mgfuse_', '_')))
    assert fused.model.backbone.type == 'MGFuse'
    settings.set_fusion(fused, False)
    assert fused.to_dict() == plain.to_dict()
    settings.set_fusion(plain, True)
    assert plain.model.backbone.type == 'MGFuse'


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_one_setting_changes_what_every_pipeline_shows(path):
    cfg = Config.fromfile(path)
    settings.set_feature(cfg, 'bone_motion')
    steps = [s for p in settings.pipelines(cfg) for s in p if 'SkeFeat' in s['type']]
    if cfg.model.type == 'DualStreamContrast':
        # Views of training clips are made on the device; nothing is validated.
        assert cfg.model.data_preprocessor.feat == 'bone_motion' and len(steps) == 1
    else:
        assert len(steps) == 3
    for step in steps:
        assert step.get('feat', step.get('feats')) in ('bone_motion', ['bm'])


def test_wishes_that_do_not_fit_are_refused():
    cfg = Config(dict(model=dict(type='Recognizer3D', backbone=dict(type='ResNet3d'))))
    with pytest.raises(LaunchError, match='need a RecognizerGCN'):
        settings.set_fusion(cfg, True)
    cfg = Config.fromfile(CONFIGS[0])
    with pytest.raises(LaunchError, match='feat must be one of joint'):
        settings.set_feature(cfg, 'bones')
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(LaunchError, match='ApexOptimWrapper'):
        settings.use_bfloat16(cfg)


def test_finetuning_lets_all_learn_from_a_share_of_the_labels():
    cfg = Config.fromfile(ROOT / 'configs/stbcl_stgcn_imigue_linear.py')
    settings.set_finetuning(cfg, 0.1)
    assert not cfg.model.frozen and cfg.train_dataloader.dataset.share == 0.1
    for share in (0, 1.5):
        with pytest.raises(LaunchError, match='above 0 and up to 1'):
            settings.set_finetuning(cfg, share)
    with pytest.raises(LaunchError, match='follows a pre-training'):
        settings.set_finetuning(Config.fromfile(ROOT / 'configs/stgcn_imigue.py'), 1)


def test_retraining_a_head_takes_a_fifth_of_the_epochs():
    cfg = Config.fromfile(ROOT / 'configs/stgcn_imigue.py')
    settings.set_retraining(cfg, 'epoch_60.pth')
    assert cfg.load_from == 'epoch_60.pth' and cfg.train_cfg.max_epochs == 12
    assert cfg.param_scheduler[0].T_max == 12 and cfg.custom_hooks[-1].type == 'HeadAlone'
    with pytest.raises(LaunchError, match='--retrain-head needs'):
        settings.set_retraining(Config.fromfile(ROOT / 'configs/stbcl_stgcn_imigue.py'), 'a.pth')


def test_datasets_are_found_inside_wrappers():
    inner = [dict(type='MGPoseDataset', ann_file=f'{k}.pkl', pipeline=[]) for k in 'abc']
    concat = dict(type='ConcatDataset', datasets=inner[:2])
    cfg = Config(
        dict(
            train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=concat)),
            val_dataloader=dict(dataset=inner[2]),
            test_dataloader=None,
        )
    )
    assert [d.ann_file for d in settings.datasets(cfg)] == ['a.pkl', 'b.pkl', 'c.pkl']


def test_data_is_looked_for_under_its_root_and_its_stand_in_fits_the_model(tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/stgcn_mgfuse_imigue.py')
    assert synthetic_data.missing_data(cfg) == ['data/imigue/imigue.pkl']
    (tmp_path / 'data/imigue').mkdir(parents=True)
    (tmp_path / 'data/imigue/imigue.pkl').touch()
    for dataset in settings.datasets(cfg):
        dataset.data_root = str(tmp_path)
    assert synthetic_data.missing_data(cfg) == []
    for dataset in settings.datasets(cfg):
        dataset.ann_file = 'data/imigue/imigue.mg'  # a folder of arrays
    assert synthetic_data.missing_data(cfg) == ['data/imigue/imigue.mg']
    (tmp_path / 'data/imigue/imigue.mg').mkdir()
    assert synthetic_data.missing_data(cfg) == []
    assert synthetic_data.synthetic_options(cfg) == dict(dataset='imigue', clips=2000)
    cfg.model.cls_head.num_classes = 7
    cfg.model.backbone.backbone.graph_cfg.layout = 'body25'
    options = synthetic_data.synthetic_options(cfg)
    assert options['classes'] == 7 and options['layout'] == 'body25'
    cfg.model.backbone.backbone.graph_cfg.layout = dict(num_node=2, inward=[(1, 0)], center=0)
    with pytest.raises(settings.LaunchError, match='no synthetic set'):
        synthetic_data.synthetic_options(cfg)


@pytest.mark.parametrize('imported', [False, True])
def test_no_fuse_is_plain_whatever_was_imported(imported, tmp_path):
    """A config over autofuse and one over MGFuse, before and after something imported autofuse."""
    init_default_scope('mmaction')
    if imported:
        importlib.import_module(settings.AUTOFUSE)
    path = tmp_path / 'child.py'
    path.write_text(
        f"_base_ = '{ROOT}/configs/stgcn_imigue.py'\n"
        "custom_imports = dict(imports=['mg_plugins', 'mg_plugins.autofuse'])\n"
    )
    for source in (ROOT / 'configs/stgcn_mgfuse_imigue.py', path):
        cfg = Config.fromfile(source)
        synthetic_data.shorten(cfg)
        settings.set_fusion(cfg, False)
        assert not is_fused(MODELS.build(cfg.model).backbone)
        settings.set_fusion(cfg, True)
        assert is_fused(MODELS.build(cfg.model).backbone)
