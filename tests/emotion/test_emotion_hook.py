"""EmotionEvalHook inside real runs: a toy recogniser in this process, and the shipped config."""

import json
import math
import re
import socket
from contextlib import closing

import numpy as np
import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.runner import Runner

import mg_plugins  # noqa: F401  registers MGMetric and others
from mg_plugins.emotion import mm as hook
from mg_plugins.emotion.build import NO_TRANSCRIPT
from mg_plugins.emotion.mm import EmotionEvalHook

from paths import ROOT
from ranks import run_on_ranks

CLASSES = ['rub hand', 'cover face', 'head up', 'fold arm', 'sit straight']
SIGNS = {'win': 2, 'lose': 1}


class Clips(BaseDataset):
    """Eight clips of each of 20 sessions of ten persons; the state shows in half of the clips."""

    place = 's'

    def load_data_list(self):
        draw = np.random.default_rng(0)
        clips = []
        for session in range(20):
            outcome = ('win', 'lose')[session % 2]
            for k in range(8):
                label = SIGNS[outcome] if k % 2 else int(draw.choice([0, 3, 4]))
                clip = dict(
                    session=f'{self.place}{session}', subject=f'p{session // 2}', outcome=outcome
                )
                clip |= dict(start=60 * k, end=60 * k + 30, fps=30.0, frame_dir=f's{session}_{k}')
                clips.append(clip | dict(label=label))
        return clips

    def prepare_data(self, index):
        clip = self.get_data_info(index)
        label = clip.pop('label')
        sample = ActionDataSample().set_gt_label(label)
        sample.set_metainfo({k: v for k, v in clip.items() if k != 'sample_idx'})
        return dict(
            inputs=torch.nn.functional.one_hot(torch.tensor(label), 5) * 9.0, data_samples=sample
        )


class TrainingClips(Clips):
    place = 't'


class Toy(BaseModel):
    """Knows the class of each clip; its one weight is trained to nothing in particular."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if isinstance(inputs, list):
            inputs = torch.stack(inputs)
        if mode == 'loss':
            return dict(loss=(self.weight * inputs).mean() ** 2)
        scores = (inputs + 0 * self.weight).softmax(1)
        return [s.set_pred_score(row) for s, row in zip(data_samples, scores, strict=True)]


def make_runner(
    folder,
    epochs=2,
    metric='MGMetric',
    source='',
    classes=CLASSES,
    checkpoint=None,
    log_level='WARNING',
    **options,
):
    metainfo = dict(classes=classes, source=source)
    loader = dict(
        dataset=Clips(metainfo=metainfo),
        batch_size=32,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    return Runner(
        model=Toy(),
        work_dir=str(folder),
        train_dataloader=dict(loader, dataset=TrainingClips(metainfo=metainfo)),
        val_dataloader=dict(loader),
        test_dataloader=dict(loader),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
        test_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        val_evaluator=[dict(type=metric)],
        test_evaluator=[dict(type=metric)],
        default_hooks=dict(checkpoint=checkpoint and dict(type='CheckpointHook', **checkpoint)),
        custom_hooks=[dict(type='EmotionEvalHook', bootstrap=100, **options)],
        default_scope='mmaction',
        experiment_name=f'{folder.name}_{id(options)}',
        randomness=dict(seed=0),
        log_level=log_level,
    )


def logged(folder):
    """The lines of the JSON log that hold a validation."""
    (path,) = folder.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if any('emotion/' in key for key in line)]


def dead_endpoint():
    with closing(socket.socket()) as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    return dict(kind='openai', model='none', base_url=f'http://127.0.0.1:{port}/v1')


def test_figures_are_logged_and_files_written(tmp_path):
    runner = make_runner(
        tmp_path,
        checkpoint=dict(save_best='emotion/gain', rule='greater'),
    )
    runner.train()
    lines = logged(tmp_path)
    assert [line['step'] for line in lines] == [1, 2]
    figures = {name: lines[-1][f'emotion/{name}'] for name in hook.FIGURES}
    # Nothing was said, so without gestures it is a guess; of the two gestures that tell the
    # documented prior knows one well.
    assert figures['acc_without_mg'] == 0.5 and figures['acc_with_mg'] >= 0.9
    assert figures['gain'] == figures['acc_with_mg'] - 0.5 and figures['gain_low'] > 0.2
    assert figures['gain_over_placebo'] > 0.2
    assert figures['answered'] == 1.0 and figures['failed'] == 0.0
    assert list(tmp_path.glob('best_emotion_gain_epoch_1.pth'))
    for epoch in (1, 2):
        folder = tmp_path / f'emotion/epoch_{epoch}'
        assert {p.name for p in folder.iterdir()} == {
            'metrics.json',
            'answers.jsonl',
            'report.html',
        }
    (metrics,) = json.loads((folder / 'metrics.json').read_text())['evaluations']
    assert metrics['judge']['prior'] == 'documented'
    assert metrics['calls'] == 0 and metrics['cached'] > 0  # the same predictions as in epoch 1
    # Neither persons nor recordings stand in the files by name.
    text = (folder / 'answers.jsonl').read_text()
    assert '"p3"' not in text and '"s3"' not in text
    assert NO_TRANSCRIPT in text
    assert (tmp_path / 'emotion/cache.jsonl').stat().st_mode & 0o77 == 0


def test_the_test_epoch_alone_on_synthetic_data_says_synthetic(tmp_path):
    figures = make_runner(tmp_path, source='synthetic').test()
    assert {f'synthetic/emotion/{name}' for name in hook.FIGURES} <= set(figures)
    assert not [name for name in figures if not name.startswith('synthetic')]
    (metrics,) = json.loads((tmp_path / 'emotion/test/metrics.json').read_text())['evaluations']
    assert metrics['source'] == 'synthetic' and 'synthetic' in metrics['name']


def test_gestures_count_where_nothing_was_said(tmp_path):
    """The note that stands for a missing transcript has no tone of its own."""
    figures = make_runner(tmp_path, source='synthetic').test()
    assert figures['synthetic/emotion/acc_without_mg'] == 0.5
    assert figures['synthetic/emotion/acc_with_mg'] >= 0.9
    assert figures['synthetic/emotion/gain_low'] > 0.2


def test_two_arms_are_enough_and_what_needs_the_third_is_left_out(tmp_path):
    left_out = {'acc_placebo', 'gain_over_placebo'}
    figures = make_runner(tmp_path, arms=('without', 'with'), log_level='INFO').test()
    told = {name for name in figures if name.startswith('emotion/')}
    assert told == {f'emotion/{name}' for name in hook.FIGURES.keys() - left_out}
    assert figures['emotion/failed'] == 0 and figures['emotion/answered'] == 1
    assert figures['emotion/gain'] == figures['emotion/acc_with_mg'] - 0.5 > 0.2
    said = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Emotion (arms without, with): no acc_placebo, gain_over_placebo' in said
    one = make_runner(tmp_path / 'one', arms=['with']).test()
    assert one['emotion/acc_with_mg'] >= 0.9 and 'emotion/gain' not in one


def test_a_dead_endpoint_is_a_warning_and_a_marked_metric(tmp_path, caplog):
    runner = make_runner(
        tmp_path,
        judge=dead_endpoint(),
        ask=dict(retries=0),
        checkpoint=dict(save_best='emotion/gain', rule='greater'),
    )
    runner.train()
    assert runner.epoch == 2
    lines = logged(tmp_path)
    assert [line['emotion/failed'] for line in lines] == [1.0, 1.0]
    assert all(math.isnan(line['emotion/gain']) for line in lines)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert log.count('failed, the run goes on: UserError: 16 failures in a row') == 2
    # Nothing is the best of nothing; what happened to each question can be read.
    assert not list(tmp_path.glob('best*'))
    (metrics,) = json.loads((tmp_path / 'emotion/epoch_2/metrics.json').read_text())['evaluations']
    assert metrics['stopped'] and metrics['arms']['with']['answered'] == 0


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(ask=dict(seconds=1e-9)), '1e-09 s are over'),
        (
            dict(template='job_interview'),
            "no session is left: state 'win' is none of the states of the template job_interview",
        ),
        (dict(classes=None), 'the dataset names no classes'),
    ],
)
def test_what_can_go_wrong_within_an_evaluation_is_named(options, message, tmp_path):
    assert make_runner(tmp_path, **options).test()['emotion/failed'] == 1
    assert re.search(message, next(tmp_path.glob('*/*.log')).read_text())


def test_a_budget_ends_an_evaluation_without_failing(tmp_path):
    figures = make_runner(tmp_path, ask=dict(max_calls=30)).test()
    assert figures['emotion/failed'] == 0 and 0 < figures['emotion/answered'] < 1
    assert 0 <= figures['emotion/acc_without_mg'] <= 1


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(derangements=0), 'derangements 0 and limit None'),
        (dict(judge=dict(kind='oracle')), "there is no judge 'oracle'"),
        (dict(template='wedding'), "there is no template 'wedding'"),
        (dict(judge=dict(kind='openai', model='m', base_url='http://example.org')), 'allow_remote'),
    ],
)
def test_settings_that_cannot_be_are_named_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        EmotionEvalHook(**options)


def test_a_loop_without_our_metric_is_an_error_before_training(tmp_path):
    runner = make_runner(tmp_path, metric='AccMetric')
    with pytest.raises(ValueError, match=r"val_evaluator = \[dict\(type='MGMetric'\)\]"):
        runner.train()
    assert runner.iter == 0


def test_scores_become_probabilities():
    shares = np.array([[0.2, 0.8], [1.0, 0.0]], np.float32)
    assert np.array_equal(hook._shares(shares), shares)
    assert hook._shares(np.array([[0.0, math.log(3)]])) == pytest.approx(np.array([[0.25, 0.75]]))


def on_rank(rank, folder):
    for name, options in (('well', {}), ('badly', dict(ask=dict(seconds=1e-9)))):
        runner = make_runner(folder / name, epochs=1, **options)
        runner.train()
        told = float(runner.message_hub.get_scalar('val/emotion/gain').current())
        (folder / f'{name}_{rank}.txt').write_text(str(told))


@pytest.mark.slow
def test_two_ranks_get_the_figures_of_the_first(tmp_path):
    run_on_ranks(on_rank, tmp_path)
    for name in ('well', 'badly'):
        told = [(tmp_path / f'{name}_{rank}.txt').read_text() for rank in (0, 1)]
        assert told[0] == told[1]
        assert (told[0] == 'nan') == (name == 'badly')


@pytest.mark.slow
def test_the_shipped_config_trains_with_it(run_tool, tmp_path):
    config = tmp_path / 'emotion.py'
    config.write_text(f'_base_ = {str(ROOT / "configs/stgcn_mgfuse_imigue_emotion.py")!r}\n')
    options = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    options += ['synthetic.clips=96', 'synthetic.subjects=6']
    out = run_tool('train', config, '--cfg-options', *options, cwd=tmp_path).stdout
    assert 'lexicon judge, not a language model' in out
    folder = tmp_path / 'work_dirs/emotion_synthetic'
    for line in logged(folder):
        assert line['synthetic/emotion/failed'] == 0
        assert 'emotion/gain' not in line
    assert len(logged(folder)) == 1
    metrics = json.loads((folder / 'test/metrics.json').read_text())
    assert metrics['synthetic/emotion/answered'] == 1
    assert 'SYNTHETIC' in (folder / 'emotion/test/report.html').read_text()
