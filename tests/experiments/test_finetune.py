"""Fine-tuning and training from scratch, by the real runner, on few made clips."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mg_plugins.contrast.losses import ContrastError
from mg_plugins.data.mm.dataset import MGPoseDataset
from mg_plugins.experiments import training
from mg_plugins.experiments.training import ENCODERS, finetune

from contrast_toys import build, model_config, write_clips

PIPELINE = [
    dict(type='MGNormalize', layout='msr_action3d'),
    dict(type='MGResample', clip_len=8),
    dict(type='MGSkeFeat', layout='msr_action3d', feat='joint'),
    dict(type='FormatGCNInput', num_person=1),
    dict(type='PackActionInputs', meta_keys=('frame_dir', 'subject')),
]


@pytest.fixture(scope='module')
def cfg(tmp_path_factory):
    """What fine-tuning needs of a pre-training's config."""
    path = write_clips(tmp_path_factory.mktemp('clips'))
    training = [step for step in PIPELINE if step['type'] != 'MGSkeFeat']
    parts = dict(train=('xsub_train', training), test=('xsub_val', PIPELINE))
    loaders = {
        f'{part}_dataloader': dict(
            batch_size=8,
            num_workers=0,
            dataset=dict(
                type='MGPoseDataset',
                ann_file=path,
                split=split,
                pipeline=pipeline,
                test_mode=part == 'test',
            ),
        )
        for part, (split, pipeline) in parts.items()
    }
    views = dict(type='ContrastPreprocessor', layout='msr_action3d', views=['strong', 'strong'])
    return Config(dict(model=model_config(data_preprocessor=views), **loaders))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint with random weights, of a model that is not what the seed makes."""
    torch.manual_seed(77)
    path = tmp_path_factory.mktemp('pre') / 'epoch_1.pth'
    torch.save(dict(state_dict=build().state_dict()), path)
    return path


@pytest.fixture
def runners(monkeypatch):
    """The runners that fine-tuning made."""
    made = []
    run = training.run_once
    monkeypatch.setattr(training, 'run_once', lambda *a: made.append(run(*a)) or made[-1])
    return made


def encoders(model):
    state = model.state_dict()
    return {k: v for k, v in state.items() if k.split('.')[0] in ENCODERS}


def test_it_learns_and_tells_what_it_says_of_every_test_clip(cfg, tmp_path, runners):
    before = cfg.pretty_text
    found = finetune(cfg, None, work_dir=tmp_path, share=1.0, steps=40, lr=1e-2)
    test = MGPoseDataset(cfg.test_dataloader.dataset.ann_file, [], split='xsub_val')
    clips = [test.get_data_info(i) for i in range(len(test))]
    assert list(found.clips) == [clip['frame_dir'] for clip in clips]
    assert list(found.labels) == [clip['label'] for clip in clips]
    assert list(found.subjects) == [str(clip['subject']) for clip in clips]
    (runner,) = runners
    losses, _ = runner.message_hub.get_scalar('train/loss').data
    assert len(losses) == 40 and np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert found.accuracy == found.correct.mean() == (found.predicted == found.labels).mean()
    assert cfg.pretty_text == before
    assert not list(tmp_path.rglob('*.pth')) and list(tmp_path.rglob('scalars.json'))


def test_models_can_be_made_after_it(cfg, tmp_path):
    """MMEngine writes down how a model begins, to the log of the last run, if that is open."""
    finetune(cfg, None, work_dir=tmp_path, share=0.3, steps=1)
    build().init_weights()


def test_the_same_seed_says_the_same(cfg, checkpoint, tmp_path):
    def scores(seed, start=checkpoint, **options):
        options = dict(share=0.3, steps=6, lr=1e-2) | options
        torch.manual_seed(len(options) + seed)  # what was drawn before must not matter
        np.random.seed(seed + 5)
        return finetune(cfg, start, work_dir=tmp_path, seed=seed, **options).predicted

    first = scores(0)
    np.testing.assert_array_equal(first, scores(0))
    assert not np.array_equal(first, scores(1))
    assert not np.array_equal(first, scores(0, start=None))


def test_it_starts_from_the_checkpoint(cfg, checkpoint, tmp_path, runners):
    given = torch.load(checkpoint)['state_dict']
    # So little that the weights show where they came from.
    finetune(cfg, checkpoint, work_dir=tmp_path, steps=1, lr=1e-9)
    finetune(cfg, checkpoint, work_dir=tmp_path, steps=2, lr=1e-1, frozen=True)
    finetune(cfg, checkpoint, work_dir=tmp_path, steps=2, lr=1e-1)
    finetune(cfg, None, work_dir=tmp_path, steps=1, lr=1e-9)
    near, frozen, tuned, scratch = (encoders(runner.model) for runner in runners)
    learned = [name for name, _ in runners[0].model.named_parameters() if name in near]
    assert all(torch.allclose(near[name], given[name], atol=1e-6) for name in learned)
    assert all(torch.equal(frozen[name], given[name]) for name in frozen)
    assert all(not torch.equal(tuned[n], given[n]) for n in learned if n.endswith('weight'))
    assert not torch.allclose(
        scratch['sequence.gru.weight_ih_l0'], given['sequence.gru.weight_ih_l0']
    )
    assert set(near) == set(encoders(build())) - {n for n in near if n.startswith('momentum')}


def test_the_labelled_clips_are_those_of_the_draw(cfg, tmp_path, runners):
    finetune(cfg, None, work_dir=tmp_path, share=0.2, seed=3, steps=1)
    dataset = runners[0].train_dataloader.dataset
    ids = {dataset.get_data_info(i)['frame_dir'] for i in range(len(dataset))}
    options = dict(cfg.train_dataloader.dataset, pipeline=[], share=0.2, share_seed=3)
    options.pop('type')
    drawn = MGPoseDataset(**options)
    assert ids == {drawn.get_data_info(i)['frame_dir'] for i in range(len(drawn))}
    assert not ids & set(runners[0].test_dataloader.dataset.labels)


def test_the_length_counts_in_epochs_or_steps(cfg, tmp_path, runners):
    finetune(cfg, None, work_dir=tmp_path, share=1.0, epochs=2, batch_size=5)
    clips = len(runners[0].train_dataloader.dataset)
    assert runners[0].iter == 2 * int(np.ceil(clips / 5))
    finetune(cfg, None, work_dir=tmp_path, share=1.0, epochs=2, steps=3, amp=True)
    assert runners[1].iter == 3
    assert type(runners[1].optim_wrapper).__name__ in ('BFloat16OptimWrapper', 'AmpOptimWrapper')


def test_the_head_learns_faster_than_what_is_pretrained(cfg, checkpoint, tmp_path, runners):
    options = dict(work_dir=tmp_path, steps=1, lr=1e-2, backbone_lr_mult=0.1)
    finetune(cfg, checkpoint, **options)
    finetune(cfg, None, **options)

    def rates(runner):
        optimizer = runner.optim_wrapper.optimizer
        rate = {id(p): g['initial_lr'] for g in optimizer.param_groups for p in g['params']}
        return {name: rate[id(p)] for name, p in runner.model.named_parameters()}

    tuned, scratch = map(rates, runners)
    assert set(scratch.values()) == {1e-2}
    for name, rate in tuned.items():
        assert rate == pytest.approx(1e-2 if name.startswith('cls_head') else 1e-3), name


def test_the_limbs_are_those_of_the_pretraining(cfg, tmp_path, runners):
    changed = Config(cfg.to_dict())
    changed.model.update(layout='msr_action3d', segments=2)
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=build(layout='msr_action3d', segments=2).state_dict()), path)
    finetune(changed, path, work_dir=tmp_path / 'work', steps=1)
    pool = runners[0].model.pool
    assert pool.limbs > 1 and pool.segments == 2


@pytest.mark.parametrize('stream', ['graph', 'sequence'])
def test_one_stream_alone(stream, cfg, checkpoint, tmp_path, runners):
    found = finetune(cfg, checkpoint, work_dir=tmp_path, steps=1, stream=stream)
    assert isinstance(found, training.Predicted) and runners[0].model.stream == stream


def test_what_does_not_fit_is_refused(cfg, checkpoint, tmp_path):
    other = Config(cfg.to_dict())
    other.model.backbone.base_channels = other.model.in_channels = 16
    with pytest.raises(ContrastError, match='does not fit its config'):
        finetune(other, checkpoint, work_dir=tmp_path, steps=1)
    other = Config(cfg.to_dict())
    del other.model['backbone']
    with pytest.raises(ContrastError, match='a model with backbone and in_channels was expected'):
        finetune(other, None, work_dir=tmp_path, steps=1)
    other = Config(cfg.to_dict())
    other.test_dataloader.dataset.pipeline = PIPELINE[3:]
    with pytest.raises(ContrastError, match='has 0 steps MGSkeFeat'):
        finetune(other, None, work_dir=tmp_path, steps=1)
    for bad in (dict(steps=0), dict(epochs=0), dict(lr=0.0), dict(batch_size=0)):
        with pytest.raises(ContrastError, match='must be at least 1'):
            finetune(cfg, None, work_dir=tmp_path, **bad)
    with pytest.raises(ContrastError, match='frozen=True trains the head alone'):
        finetune(cfg, checkpoint, work_dir=tmp_path, backbone_lr_mult=0.0)
