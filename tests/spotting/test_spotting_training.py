"""Training and testing by the real Runner, on small recordings with clear gestures."""

import numpy as np
import pytest
import torch

from mg_plugins.data.annotations import AnnotationError, save_annotations
from mg_plugins.spotting import Decoder, RecordingFeatures

pytest.importorskip('mmaction')
CLASSES = ['open', 'wave']


@pytest.fixture(scope='module')
def ann_file(tmp_path_factory):
    """Six recordings of a hand that spreads its fingers or moves to and fro, and cut clips."""
    rng = np.random.default_rng(0)
    rest = rng.normal(size=(20, 3)) * 0.05
    annotations, split = [], dict(recordings_train=[], recordings_val=[], train=[])
    for number in range(6):
        points = np.tile(rest, (200, 1, 1)) + 0.5 + rng.normal(size=(200, 20, 3)) * 1e-3
        segments = []
        for label, start in ((0, 30 + number), (1, 110 + number)):
            time = np.arange(40)[:, None, None]
            part = points[start : start + 40]
            if label:
                part[..., 0] += 0.1 * np.sin(time[..., 0] / 3)
            else:
                part += rest * np.sin(time * np.pi / 40)
            segments.append(dict(label=label, start=start, end=start + 40))
            cut = part[None].astype(np.float32)
            name = f'cut_{number}_{label}'
            annotations.append(dict(frame_dir=name, label=label, keypoint=cut, total_frames=40))
            split['train'].append(name)
        name = f'recording_{number}'
        annotations.append(
            dict(
                frame_dir=name, keypoint=points[None].astype(np.float32), total_frames=200,
                fps=20.0, segments=segments,
            )
        )  # fmt: skip
        split['recordings_train' if number < 4 else 'recordings_val'].append(name)
    path = tmp_path_factory.mktemp('spot') / 'hand.pkl'
    meta = dict(layout='hand20', classes=CLASSES, source='synthetic')
    save_annotations(path, split, annotations, meta)
    return path


def config(ann_file, work_dir, **dataset):
    from mmengine.config import Config

    from paths import ROOT

    cfg = Config.fromfile(ROOT / 'configs' / 'spot_sfinge3d.py')
    for loader in ('train', 'val', 'test'):
        cfg[f'{loader}_dataloader'].dataset.ann_file = str(ann_file)
    cfg.merge_from_dict(
        {
            'model.backbone.base_channels': 8, 'model.backbone.num_stages': 3,
            'model.backbone.inflate_stages': [3], 'model.head.in_channels': 16,
            'model.head.num_classes': 2, 'model.head.width': 16, 'model.crop': 64,
            'train_dataloader.dataset.crop': 64, 'train_cfg.max_iters': 80,
            'train_dataloader.dataset.clip_split': 'train',
            'train_cfg.val_interval': 80, 'default_hooks.checkpoint.interval': 80,
            'param_scheduler.1.T_max': 60, 'optim_wrapper.optimizer.lr': 0.02,
            'work_dir': str(work_dir), 'randomness': dict(seed=0),
            **{f'train_dataloader.dataset.{k}': v for k, v in dataset.items()},
        }
    )  # fmt: skip
    return cfg


@pytest.fixture(scope='module')
def trained(ann_file, tmp_path_factory):
    from mmengine.runner import Runner

    work_dir = tmp_path_factory.mktemp('work')
    runner = Runner.from_cfg(config(ann_file, work_dir))
    runner.train()
    return runner, work_dir


@pytest.mark.slow
def test_training_logs_the_metrics_of_the_last_iteration(trained) -> None:
    runner, _ = trained
    scores = runner.val_evaluator.metrics[0].latest
    assert len(scores) == 2 and runner.val_evaluator.metrics[0].prefix == 'synthetic'
    hits = sum(any(s[0] == t[0] for s in r['spans']) for r in scores for t in r['segments'])
    assert hits >= 3, 'hardly any gesture of the clearest kind was found'
    durations = runner.model.durations.exp()[:, 0]
    torch.testing.assert_close(durations, torch.full((2,), 2.0), rtol=0.01, atol=0)


@pytest.mark.slow
def test_the_checkpoint_decodes_as_the_trained_model(trained, ann_file) -> None:
    from mmaction.registry import MODELS
    from mmengine.runner import load_checkpoint

    runner, work_dir = trained
    again = MODELS.build(config(ann_file, work_dir).model)
    checkpoint = load_checkpoint(again, str(work_dir / 'iter_80.pth'), strict=True)
    assert again.decoder == runner.model.decoder
    assert checkpoint['meta']['dataset_meta']['classes'] == CLASSES
    features = runner.test_dataloader.dataset if runner._test_loop else None
    dataset = features or runner.val_dataloader.dataset
    whole = dataset.features(0)
    torch.testing.assert_close(
        torch.from_numpy(again.probabilities(whole)),
        torch.from_numpy(runner.model.probabilities(whole)),
    )
    spans = again.spans(whole)
    np.testing.assert_array_equal(spans, runner.val_evaluator.metrics[0].latest[0]['spans'])


def test_samples_of_training_and_test(ann_file) -> None:
    from mg_plugins.spotting.mm import MGRecordings

    np.random.seed(0)
    train = MGRecordings(
        str(ann_file), split='recordings_train', clip_split='train', composed=0.5, crop=256,
        samples=8, fps=20.0,
    )  # fmt: skip
    for index in range(8):
        sample = train[index]
        assert sample['inputs'].shape == (256, 20, 8)
        target = sample['data_samples'].target
        assert target.shape == (256,) and set(target.tolist()) <= {0, 1, 2, -100}
        assert torch.isfinite(sample['inputs']).all()
    test = MGRecordings(str(ann_file), split='recordings_val', test_mode=True)
    assert len(test) == 2 and test[0]['inputs'].slice(0, 200).shape == (200, 20, 8)
    assert test[0]['data_samples'].segments == [(0, 34, 74), (1, 114, 154)]


def test_without_recordings_everything_is_composed(ann_file) -> None:
    from mg_plugins.spotting.mm import MGRecordings

    train = MGRecordings(str(ann_file), clip_split='train', crop=64, samples=2, fps=20.0)
    assert train[1]['inputs'].shape == (64, 20, 8)
    np.testing.assert_allclose(np.exp(train.durations()[:, 0]), 2.0, rtol=0.01)


@pytest.mark.parametrize(
    'options, says',
    [
        (dict(split='train'), 'is a cut clip'),
        (dict(split='nowhere'), 'has no split'),
        (dict(), 'has no recordings'),
    ],
)
def test_what_is_no_recording_gives_a_sentence(ann_file, options, says) -> None:
    from mg_plugins.spotting.mm import MGRecordings

    with pytest.raises(AnnotationError, match=says):
        MGRecordings(str(ann_file), **options)


@pytest.mark.parametrize('name', ['spot_imigue', 'spot_demo', 'spot_sfinge3d'])
@pytest.mark.parametrize('fused', [False, True])
def test_a_spotting_config_takes_an_annotation_file(ann_file, name, fused) -> None:
    """Of another layout, other coordinates and classes; fused or not."""
    from mmaction.registry import DATASETS, MODELS
    from mmengine.config import Config

    from mg_plugins.openmmlab.annotation_file import use_data
    from mg_plugins.openmmlab.settings import set_fusion

    from paths import ROOT

    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    set_fusion(cfg, fused)
    use_data(cfg, ann_file)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    assert train.clips and bool(train.data_list) == (name != 'spot_demo')
    if name != 'spot_demo':
        assert len(DATASETS.build(cfg.test_dataloader.dataset)) == 2
    scores = MODELS.build(cfg.model).scores(train[0]['inputs'][None])
    assert scores.shape == (1, 3, cfg.model.crop)


@pytest.mark.parametrize(
    'lacks, options, says',
    [
        ('', dict(splits=['train', 'nowhere']), 'keep-recordings'),
        ('layout', {}, '--layout'),
        ('classes', {}, 'name its classes'),
    ],
)
def test_a_file_that_no_spotting_config_can_take_gives_a_sentence(
    ann_file, tmp_path, lacks, options, says
) -> None:
    from mmengine.config import Config

    from mg_plugins.data.annotations import load_annotations
    from mg_plugins.openmmlab.annotation_file import use_data

    from paths import ROOT

    content = load_annotations(ann_file)
    path, meta = tmp_path / 'bare.pkl', {k: v for k, v in content['meta'].items() if k != lacks}
    save_annotations(path, content['split'], content['annotations'], meta)
    with pytest.raises(AnnotationError, match=says):
        use_data(Config.fromfile(ROOT / 'configs' / 'spot_imigue.py'), path, **options)


def test_decoder_survives_the_checkpoint(ann_file, tmp_path) -> None:
    from mmaction.registry import MODELS

    model = MODELS.build(config(ann_file, tmp_path).model)
    decoder = Decoder('hysteresis', 0.7, 0.35, 0.4, 0.25, -0.5, 0.45)
    model.decoder = decoder
    again = MODELS.build(config(ann_file, tmp_path).model)
    again.load_state_dict(model.state_dict())
    assert again.decoder == decoder


@pytest.mark.parametrize('frames', [1, 2, 3, 63, 64, 65, 200])
def test_recordings_of_any_length_get_a_score_a_frame(ann_file, tmp_path, frames) -> None:
    from mmaction.registry import MODELS

    from mg_plugins.data.layouts import get_layout

    model = MODELS.build(config(ann_file, tmp_path).model)
    points = np.random.default_rng(0).normal(size=(frames, 20, 3)).astype(np.float32)
    features = RecordingFeatures(points, None, get_layout('hand20'), 20.0)
    probability = model.probabilities(features)
    assert probability.shape == (frames, 3)
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-5)
