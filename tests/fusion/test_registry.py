"""``type='MGFuse'`` around MMAction2's own backbones, built, initialised and loaded by MMEngine."""

import copy

import pytest
import torch

import mg_plugins  # noqa: F401  (mends MMAction2 and registers MGFuse)

from toy_models import wake

pytest.importorskip('mmaction', reason='MMAction2 is not installed')

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmaction.utils import register_all_modules
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import load_checkpoint

from mg_plugins.fusion import fusions, plug, unplug

SMALL = {'base_channels': 8, 'num_stages': 4, 'inflate_stages': [2, 4], 'down_stages': [4]}
GRAPH = {'layout': 'coco', 'mode': 'spatial'}
BACKBONES = {
    'stgcn': {'type': 'STGCN', 'graph_cfg': {'layout': 'coco', 'mode': 'stgcn_spatial'}},
    'stgcnpp': {
        'type': 'STGCN',
        'gcn_adaptive': 'init',
        'gcn_with_res': True,
        'tcn_type': 'mstcn',
        'graph_cfg': GRAPH,
    },
    'aagcn': {'type': 'AAGCN', 'gcn_attention': False, 'graph_cfg': GRAPH},
    'aagcn_three_persons': {'type': 'AAGCN', 'num_person': 3, 'graph_cfg': GRAPH},
    'stgcn_mvc': {'type': 'STGCN', 'data_bn_type': 'MVC', 'num_person': 3, 'graph_cfg': GRAPH},
}


@pytest.fixture(autouse=True)
def _ready():
    register_all_modules()
    torch.manual_seed(0)


@pytest.fixture(params=BACKBONES)
def backbone(request):
    cfg = {**copy.deepcopy(BACKBONES[request.param]), **SMALL}
    if cfg['type'] == 'STGCN' and 'tcn_type' in cfg:
        cfg['base_channels'] = 12  # six branches
    return cfg


def poses(cfg):
    return torch.randn(2, cfg.get('num_person', 2), 16, 17, 3)


def gammas(model):
    return [g for f in fusions(model).values() for g in (f.gamma_s, f.gamma_t)]


def test_the_backbone_itself_comes_back_fused_and_unchanged(backbone):
    plain = MODELS.build(copy.deepcopy(backbone)).eval()
    fused = MODELS.build({'type': 'MGFuse', 'backbone': backbone, 'reduction': 4}).eval()
    assert type(fused) is type(plain)
    assert list(fusions(fused)) == ['gcn.0', 'gcn.2', 'gcn.3']
    missing, unexpected = fused.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == [] and all('.mg_fusion.' in key for key in missing)
    x = poses(backbone)
    assert torch.equal(fused(x), plain(x))
    assert not torch.allclose(wake(fused)(x), plain(x))
    # Copies work although plain MMAction2 backbones cannot be pickled.
    twin = wake(copy.deepcopy(fused), scale=2.0)
    assert not torch.allclose(twin(x), fused(x))
    unplug(fused)
    assert torch.equal(fused(x), plain(x))
    assert list(fused.state_dict()) == list(plain.state_dict())


def test_init_weights_leaves_the_fusion_at_the_start(backbone, tmp_path):
    plain = MODELS.build(copy.deepcopy(backbone))
    torch.save({'state_dict': plain.state_dict()}, tmp_path / 'plain.pth')
    pretrained = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'plain.pth')}
    backbone['init_cfg'] = pretrained
    fused = MODELS.build({'type': 'MGFuse', 'backbone': backbone})
    fused.init_weights()
    assert gammas(fused) and not any(g.any() for g in gammas(fused))
    loaded = fused.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in plain.state_dict().items())


def test_init_cfg_outside_and_unknown_options_are_refused(backbone):
    with pytest.raises(ValueError, match='put it into the backbone inside'):
        MODELS.build({'type': 'MGFuse', 'backbone': backbone, 'init_cfg': {'type': 'Pretrained'}})
    with pytest.raises(TypeError, match='haeds'):
        MODELS.build({'type': 'MGFuse', 'backbone': backbone, 'haeds': 2})


def recognizer(backbone, fuse=True):
    width = backbone['base_channels'] * 4
    return MODELS.build(
        {
            'type': 'RecognizerGCN',
            'backbone': {'type': 'MGFuse', 'backbone': backbone} if fuse else backbone,
            'cls_head': {'type': 'GCNHead', 'num_classes': 3, 'in_channels': width},
        }
    )


def test_a_recognizer_starts_initialised_trains_and_loads_plain_checkpoints(backbone, tmp_path):
    plain = recognizer(copy.deepcopy(backbone), fuse=False)
    torch.save({'state_dict': plain.state_dict()}, tmp_path / 'plain.pth')
    model = recognizer(backbone)
    model.init_weights()
    assert len(gammas(model)) == 6 and not any(g.any() for g in gammas(model))

    load_checkpoint(model, str(tmp_path / 'plain.pth'))
    x = poses(backbone)[:, None]
    assert torch.equal(model.eval()(x)[0], plain.eval()(x)[0])

    samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
    loss = model.train()(x, samples, mode='loss')['loss_cls']
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert loss.isfinite() and all(g.any() for g in gammas(model))


def test_mmengine_moving_average_keeps_a_fusion_of_its_own(backbone):
    model = plug(MODELS.build(backbone)).eval()
    average = ExponentialMovingAverage(model, momentum=0.5)
    average.update_parameters(wake(model, scale=0.25))
    assert fusions(average.module).keys() == fusions(model).keys() != set()
    average.update_parameters(wake(model, scale=0.75))
    assert {f.gamma_s.unique().item() for f in fusions(average.module).values()} == {0.5}
    x = poses(backbone)
    expected = wake(copy.deepcopy(model), scale=0.5)
    torch.testing.assert_close(average(x), expected(x), rtol=1e-3, atol=1e-4)
