"""Features of trained models, their probes, and that nothing of the test split gets in."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mg_plugins.contrast.losses import ContrastError
from mg_plugins.contrast.mm import hooks as probe_hook
from mg_plugins.contrast.probes import Features, extract_features
from mg_plugins.data.annotations import load_annotations, save_annotations
from mg_plugins.experiments import probing

from contrast_toys import model_config, run, runner_config, write_clips


def config_of(path, folder, **changes):
    """A pre-training on the training subjects, with the test clips at hand for probes."""
    config = runner_config(path, folder, model_config())
    config.merge_from_dict(
        dict(
            train_dataloader=dict(dataset=dict(split='xsub_train')),
            custom_hooks=[
                dict(type='MomentumHook', momentum=0.9),
                dict(type='ProbeHook', interval=1),
            ],
            **changes,
        )
    )
    pipeline = [step for step in config.train_dataloader.dataset.pipeline if 'Toy' not in step.type]
    pipeline[-1] = dict(type='PackActionInputs', meta_keys=('frame_dir', 'subject'))
    config.test_dataloader = dict(
        batch_size=8,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='MGPoseDataset', ann_file=path, split='xsub_val', pipeline=pipeline, test_mode=True
        ),
    )
    config.test_cfg = dict(type='TestLoop')
    config.test_evaluator = []
    return config


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Runner of a short pre-training."""
    folder = tmp_path_factory.mktemp('pretrained')
    path = write_clips(tmp_path_factory.mktemp('clips'))
    config = config_of(path, folder)
    return run(config)


def logged(runner, name):
    """Values of one scalar in the run's JSON log."""
    (path,) = Path(runner.work_dir).glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [entry[name] for entry in entries if name in entry]


def checkpoint_of(runner):
    return f'{runner.work_dir}/epoch_3.pth'


def config_beside(runner):
    return Config.fromfile(probing.config_beside(checkpoint_of(runner)))


def test_the_hook_logs_neighbours_among_training_clips(trained):
    for stream in ('graph', 'sequence', 'fused'):
        values = logged(trained, f'synthetic/probe/knn_{stream}')
        assert len(values) == 3 and 0 <= min(values) <= max(values) <= 1
    assert max(logged(trained, 'synthetic/probe/knn_fused')) > 0


@pytest.mark.parametrize('known', [True, False])
def test_the_hook_says_whose_neighbours(known, trained, monkeypatch):
    found = extract_features(trained.model, probing.loader_of(trained.cfg, 'train'))
    if not known:
        found = {
            stream: dataclasses.replace(own, subjects=np.full(len(own), ''))
            for stream, own in found.items()
        }
    monkeypatch.setattr(probe_hook, 'extract_features', lambda *_: found)
    told = []
    monkeypatch.setattr(trained.logger, 'info', told.append)
    monkeypatch.setattr(trained.visualizer, 'add_scalars', lambda *_, **__: None)
    probe_hook.ProbeHook(interval=1).after_train_epoch(trained)
    assert ('among other subjects' in told[-1]) == known
    assert ('among other clips' in told[-1]) != known


def test_features_are_the_checkpoint_s_own(trained):
    """Loaded again from the file: the same features, in evaluation mode, in the set's order."""
    config = config_beside(trained)
    loader = probing.loader_of(config, 'test')
    model = probing.load_model(config, checkpoint_of(trained))
    again = extract_features(model, loader)
    direct = extract_features(trained.model, loader)
    assert list(again) == ['graph', 'sequence', 'fused']
    for stream, features in again.items():
        np.testing.assert_allclose(features.vectors, direct[stream].vectors, atol=1e-5)
    names = [loader.dataset.get_data_info(i)['frame_dir'] for i in range(len(loader.dataset))]
    assert list(again['fused'].clips) == names
    assert not set(again['fused'].subjects) & set(
        extract_features(model, probing.loader_of(config, 'train'))['fused'].subjects
    )


def test_another_checkpoint_is_refused(trained, tmp_path):
    config = config_beside(trained)
    config.model.in_channels = 16
    config.model.backbone.base_channels = 16
    with pytest.raises(ContrastError, match='does not fit its config'):
        probing.load_model(config, checkpoint_of(trained))
    with pytest.raises(ContrastError, match="no stream 'face'"):
        probing.probe_checkpoint(
            config_beside(trained), checkpoint_of(trained), ['knn'], streams=['face']
        )
    with pytest.raises(ContrastError, match='0 configs lie beside'):
        probing.config_beside(tmp_path / 'epoch_1.pth')


@pytest.mark.slow
def test_the_tool_probes_every_stream(trained, run_tool, tmp_path):
    few = ('--draws', 1, '--shares', 0.1, '--streams', 'graph', 'fused')
    out = run_tool('probe', checkpoint_of(trained), '--out', 'probes', *few, cwd=tmp_path)
    assert 'SYNTHETIC' in out.stdout and 'linear_10%' in out.stdout
    content = json.loads((tmp_path / 'probes/probes.json').read_text())
    assert set(content['probes']) == {'graph', 'fused'}
    figures = content['probes']['fused']
    assert set(figures) == {'knn', 'linear', 'linear_10%', 'mAP', 'R1', 'R5'}
    assert all(0 <= figure <= 1 for figure in figures.values())
    with np.load(tmp_path / 'probes/features.npz') as arrays:
        assert len(arrays['fused_test']) == len(arrays['labels_test']) == content['test_clips']
    assert (tmp_path / 'probes/fused.png').is_file()
    with pytest.raises(ContrastError, match="no probe 'knm'"):
        probing.probe_checkpoint(config_beside(trained), checkpoint_of(trained), ['knm'])


@pytest.mark.slow
def test_nothing_of_the_test_split_gets_in(trained, tmp_path):
    """Other test clips, of other classes: the same weights, queues and figures, bit for bit."""
    config = config_beside(trained)
    content = load_annotations(config.train_dataloader.dataset.ann_file)
    hidden = set(content['split']['xsub_val'])
    rng = np.random.default_rng(0)
    for clip in content['annotations']:
        if clip['frame_dir'] in hidden:
            clip['keypoint'] = rng.normal(50, 9, clip['keypoint'].shape).astype(np.float32)
            clip['label'] = int(rng.integers(20))
    other = tmp_path / 'clips.pkl'
    save_annotations(other, content['split'], content['annotations'], content['meta'])
    again = run(config_of(str(other), tmp_path / 'work'))
    first, second = (torch.load(checkpoint_of(runner))['state_dict'] for runner in (trained, again))
    assert first.keys() == second.keys() and any('queue' in name for name in first)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    figures = [logged(r, 'synthetic/probe/knn_fused') for r in (trained, again)]
    assert figures[0] == figures[1]
    assert not np.array_equal(
        extract_features(trained.model, probing.loader_of(config, 'test'))['fused'].vectors,
        extract_features(again.model, probing.loader_of(again.cfg, 'test'))['fused'].vectors,
    )


def test_collapsed_features_are_named():
    same = Features(np.ones((8, 3), np.float32), np.arange(8) % 2, np.arange(8), np.arange(8))
    with pytest.raises(ContrastError, match='collapsed'):
        probing.run_probes(same, same)


def test_a_run_s_folder_stands_for_its_last_checkpoint(trained, tmp_path):
    assert probing.checkpoint_in(trained.work_dir) == Path(checkpoint_of(trained))
    with pytest.raises(ContrastError, match=r'no checkpoint .*epoch_9.pth; in .* epoch_1.pth, '):
        probing.checkpoint_in(Path(trained.work_dir) / 'epoch_9.pth')


def test_figures_of_the_same_checkpoint_are_added(tmp_path):
    features = Features(
        np.eye(4, dtype=np.float32), np.arange(4), np.arange(4).astype(str), np.array(['1'] * 4)
    )
    about = dict(checkpoint='a.pth', train_clips=4, test_clips=4)

    def written(about, **figures):
        scores = {name: np.array([value]) for name, value in figures.items()}
        found = dict(graph=(features, probing.Report(scores, features)))
        probing.write_probes(tmp_path, found, about)
        return json.loads((tmp_path / 'probes.json').read_text())['probes']['graph']

    assert written(about, knn=0.5) == dict(knn=0.5)
    assert written(about, linear=0.7) == dict(knn=0.5, linear=0.7)
    assert written(dict(about, test_clips=5), linear=0.6) == dict(linear=0.6)
