"""Fused backbones of MMAction2 through every exporter, with any number of clips and frames."""

import pytest
import torch

pytest.importorskip('mmaction', reason='MMAction2 is not installed')

from mmaction.registry import MODELS
from mmaction.utils import register_all_modules

import mg_plugins  # noqa: F401  (registers MGFuse)

from toy_models import wake

GRAPH = dict(layout='coco', mode='spatial')
SMALL = dict(num_stages=2, inflate_stages=[2], down_stages=[2])
BACKBONES = {
    'ST-GCN': dict(
        type='STGCN', graph_cfg=dict(layout='coco', mode='stgcn_spatial'), base_channels=8
    ),
    'ST-GCN++': dict(
        type='STGCN', gcn_adaptive='init', gcn_with_res=True, tcn_type='mstcn', graph_cfg=GRAPH,
        base_channels=12,
    ),
    '2s-AGCN': dict(type='AAGCN', graph_cfg=GRAPH, base_channels=8),
}  # fmt: skip
FREE = torch.export.Dim.DYNAMIC
SIZES = ({0: FREE, 2: FREE},)


def traced(model, x, _):
    return torch.jit.trace(model, x, check_trace=False)


def exported(model, x, _):
    return torch.export.export(model, (x,), dynamic_shapes=SIZES).module()


def onnx_of(dynamo):
    def write(model, x, folder):
        runtime = pytest.importorskip('onnxruntime')
        pytest.importorskip('onnxscript')
        file, names = folder / 'model.onnx', dict(input_names=['x'], output_names=['y'])
        free = {'x': {0: 'n', 2: 't'}, 'y': {0: 'n', 3: 't'}}
        how = dict(dynamic_shapes=SIZES, verbose=False) if dynamo else dict(dynamic_axes=free)
        torch.onnx.export(model, (x,), file, dynamo=dynamo, opset_version=18, **names, **how)
        run = runtime.InferenceSession(file, providers=['CPUExecutionProvider']).run
        return lambda clips: torch.from_numpy(run(None, {'x': clips.numpy()})[0])

    return write


def compiled(model, x, _):
    torch.compiler.reset()
    graphs = []
    backend = lambda graph, _: graphs.append(graph) or graph  # noqa: E731
    run = torch.compile(model, backend=backend, dynamic=True, fullgraph=True)

    def once(clips):
        out = run(clips)
        assert len(graphs) == 1
        return out

    return once


WAYS = {
    'jit.trace': traced,
    'torch.export': exported,
    'torch.compile': compiled,
    'onnx': onnx_of(dynamo=True),
    'onnx by tracing': onnx_of(dynamo=False),
}


@pytest.mark.slow
@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('name', BACKBONES)
def test_any_number_of_clips_and_frames(name, way, tmp_path):
    register_all_modules()
    torch.manual_seed(0)
    backbone = BACKBONES[name] | SMALL
    model = wake(MODELS.build(dict(type='MGFuse', backbone=backbone)).eval())
    with torch.no_grad():
        run = WAYS[way](model, torch.randn(2, 2, 20, 17, 3), tmp_path)
        # Sizes that no other axis has: torch.compile takes equal ones to be the same.
        for clips, frames in ((5, 12), (4, 33), (7, 70)):
            x = torch.randn(clips, 2, frames, 17, 3)
            torch.testing.assert_close(run(x), model(x), atol=1e-4, rtol=1e-4)
