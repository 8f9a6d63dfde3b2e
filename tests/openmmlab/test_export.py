"""A recognizer as ONNX: free numbers of clips and frames, its description, its errors."""

import json
import subprocess
import sys

import pytest
import torch

import mg_plugins  # noqa: F401  (registers the types of the config)

pytest.importorskip('mmaction', reason='MMAction2 is not installed')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

import onnx
from mmaction.registry import MODELS
from mmengine.config import Config

from mg_plugins.data import get_classes
from mg_plugins.errors import UserError
from mg_plugins.openmmlab import export

from paths import ROOT
from toy_models import wake

CONFIG = """
custom_imports = dict(imports=['mg_plugins'], allow_failed_imports=False)
model = dict(
    type='RecognizerGCN',
    backbone=dict(
        type='MGFuse',
        backbone=dict(
            type='STGCN', graph_cfg=dict(layout='msr_action3d', mode='stgcn_spatial'),
            base_channels=8, num_person=1, num_stages=3, inflate_stages=[2], down_stages=[2],
        ),
    ),
    cls_head=dict(type='GCNHead', num_classes=20, in_channels=16),
)
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='MGNormalize', layout='msr_action3d'),
    dict(type='MGResample', clip_len=16),
    dict(type='FormatGCNInput', num_person=1),
]))
"""


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('export')
    (folder / 'config.py').write_text(CONFIG)
    torch.manual_seed(0)
    from mmaction.utils import register_all_modules

    register_all_modules()
    model = wake(MODELS.build(Config.fromfile(folder / 'config.py').model))
    torch.save({'state_dict': model.state_dict()}, folder / 'model.pth')
    return folder


@pytest.mark.slow
def test_the_file_agrees_with_pytorch_and_says_what_it_takes(files):
    cfg, model = export.load(files / 'config.py', files / 'model.pth')
    about = export.describe(cfg, model)
    export.write_onnx(model, about, files / 'model.onnx')
    found = export.compare(model, about, files / 'model.onnx')
    assert list(found) == [16, 9, 32] and max(found.values()) < export.TOLERANCE
    proto = onnx.load(files / 'model.onnx')
    said = {p.key: json.loads(p.value) for p in proto.metadata_props if p.key == 'mg_plugins'}
    said = said['mg_plugins']
    assert (said['layout'], said['joints'], said['clip_len']) == ('msr_action3d', 20, 16)
    assert said['classes'] == list(get_classes('msr_action3d'))
    assert [step['type'] for step in said['normalisation']] == ['MGNormalize']
    assert proto.opset_import[0].version >= 18
    with torch.no_grad():
        model.cls_head.fc.bias += 1  # no longer what was exported
    with pytest.raises(UserError, match='differs from PyTorch'):
        export.compare(model, about, files / 'model.onnx')
    assert set(export.latency(model, about, files / 'model.onnx', rounds=4)) == {
        'PyTorch',
        'ONNX Runtime',
    }


def test_what_does_not_fit_is_refused(files):
    cfg, model = export.load(files / 'config.py', files / 'model.pth')
    with pytest.raises(UserError, match='2 class names were given, the model has 20'):
        export.describe(cfg, model, ['a', 'b'])
    backbone, model.backbone = model.backbone, torch.nn.Conv3d(3, 8, 1)
    with pytest.raises(UserError, match='a Conv3d has no skeleton graph A .* graph networks'):
        export.describe(cfg, model)
    model.backbone = backbone
    state = torch.load(files / 'model.pth')['state_dict']
    state.pop('cls_head.fc.bias')
    torch.save({'state_dict': state}, files / 'other.pth')
    with pytest.raises(UserError, match='other.pth does not fit the model of .*config.py'):
        export.load(files / 'config.py', files / 'other.pth')
    cfg.test_dataloader.dataset.pipeline.pop(1)
    with pytest.raises(UserError, match='names no clip_len'):
        export.describe(cfg, model)


@pytest.mark.parametrize(
    'spoil, words',
    [
        (dict(out='.'), 'is a folder: give --out the name of a file'),
        (dict(classes=b'\xff\xfe\x00'), 'is no text in UTF-8: write one class name a line'),
        (dict(checkpoint='nowhere.pth'), 'nowhere.pth is not there, or no file'),
    ],
)
def test_the_tool_refuses_before_it_loads_the_model(spoil, words, files, tmp_path):
    names = tmp_path / 'names.txt'
    names.write_bytes(spoil.get('classes', b'a'))
    given = [files / 'config.py', files / spoil.get('checkpoint', 'model.pth')]
    given += ['--out', tmp_path / spoil.get('out', 'model.onnx'), '--classes', names]
    done = subprocess.run(
        [sys.executable, 'tools/export.py', *map(str, given)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and words in done.stderr and 'Traceback' not in done.stderr
