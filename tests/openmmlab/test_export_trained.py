"""A trained model as ONNX, by the command line, on real test clips."""

import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip('mmaction', reason='MMAction2 is not installed')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

from mmaction.utils import register_all_modules
from mmengine.registry import DATASETS

import mg_plugins  # noqa: F401  (registers the types of the config)
from mg_plugins.openmmlab import export

from paths import ROOT, SHARED

SOURCE = SHARED / 'msr_action3d_real3d.tar.xz'
CONFIG = ROOT / 'configs' / 'stgcn_mgfuse_msr_action3d.py'


def tool(*args):
    command = [sys.executable, *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not SOURCE.is_file(), reason='MSR-Action3D is not there')
def test_a_trained_model_gives_the_same_classes(tmp_path):
    data, work, out = tmp_path / 'msr.pkl', tmp_path / 'work', tmp_path / 'model.onnx'
    tool('tools/prepare_data.py', 'msr-action3d', SOURCE, '--out', data)
    options = ['train_cfg.max_epochs=2', 'train_cfg.val_begin=3']
    train = ['tools/train.py', CONFIG, '--ann-file', data, '--work-dir', work]
    tool(*train, '--cfg-options', *options)
    checkpoint = work / 'epoch_2.pth'
    command = [sys.executable, 'tools/export.py', CONFIG, checkpoint, '--out', out]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert 'differs from PyTorch' in done.stdout, done.stderr
    assert 'torchvision' not in done.stderr and 'FutureWarning' not in done.stderr
    check(data, checkpoint, out)


def check(data, checkpoint, out, lengths=(48, 30)):
    """Compare the classes of every test clip at each length; gives their number and differences."""
    register_all_modules()
    cfg, model = export.load(CONFIG, checkpoint)
    run, found = export.session(out), {}
    for frames in lengths:
        settings = cfg.test_dataloader.dataset.copy()
        settings.ann_file = str(data)
        for step in settings.pipeline:
            if 'clip_len' in step:
                step['clip_len'] = frames
        dataset = DATASETS.build(settings)
        # One view a clip: (views, M, T, V, C) becomes (clips, M, T, V, C).
        x = torch.stack([dataset[i]['inputs'].float()[0] for i in range(len(dataset))])
        assert len(x) > 200 and x.shape[2] == frames
        with torch.no_grad():
            wanted = model(x).numpy()
        got = run.run(None, {export.INPUT: x.numpy()})[0]
        np.testing.assert_array_equal(got.argmax(1), wanted.argmax(1))
        assert len(set(wanted.argmax(1))) > 2  # it has learned to tell classes apart
        labels = np.array([int(dataset[i]['data_samples'].gt_label) for i in range(len(dataset))])
        found[frames] = (
            len(x),
            float((got.argmax(1) == labels).mean()),
            float(np.abs(got - wanted).max()),
        )
    return found
