"""Comparing pre-trainings: arms, plan, statistics of made-up outcomes, and one real comparison."""

import fcntl
import json
import subprocess
from dataclasses import asdict

import numpy as np
import pytest
from mmengine.config import Config

from mg_plugins.contrast.queue import ContrastError
from mg_plugins.data.annotations import save_annotations
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.experiments import comparison, comparison_report
from mg_plugins.experiments.comparison import Tuning
from mg_plugins.experiments.comparison_arms import Arm, read_arms

from paths import ROOT


def arms_file(folder, *entries):
    path = folder / 'arms.json'
    path.write_text(json.dumps(list(entries)))
    return path


def test_arms_are_read_with_configs_relative_to_their_file(tmp_path):
    (tmp_path / 'a.py').write_text('model = dict()\n')
    path = arms_file(
        tmp_path,
        dict(name='first', config='a.py', options=['x=1']),
        dict(name='from scratch', config='a.py', start='nothing'),
    )
    first, second = read_arms(path)
    assert first == Arm('first', str(tmp_path / 'a.py'), ('x=1',), 'pre-training')
    assert second.start == 'nothing' and second.folder == 'from_scratch'


@pytest.mark.parametrize(
    'entry, message',
    [
        (dict(name='a'), 'entry 0: an arm needs name and config'),
        (dict(name='a', config='a.py', seed=1), 'an arm needs name and config'),
        (dict(name='a', config='missing.py'), 'there is no config missing.py'),
        (dict(name='a', config='a.py', start='zero'), "start must be one of .*got 'zero'"),
    ],
)
def test_bad_arms_are_named(tmp_path, entry, message):
    (tmp_path / 'a.py').write_text('')
    with pytest.raises(ContrastError, match=message):
        read_arms(arms_file(tmp_path, entry))


def test_two_arms_of_one_name_are_refused(tmp_path):
    (tmp_path / 'a.py').write_text('')
    entry = dict(name='a', config='a.py')
    with pytest.raises(ContrastError, match='names of their own'):
        read_arms(arms_file(tmp_path, entry, entry))


def test_left_out_subjects_leave_training_and_are_tested():
    config = str(ROOT / 'configs/skeletonclr_msr_action3d.py')
    (unit,) = comparison.plan([Arm('a', config)], [3], [('7', '9')], ROOT)
    cfg = unit.config()
    assert list(cfg.train_dataloader.dataset.exclude_subjects) == [7, 9]
    assert list(cfg.test_dataloader.dataset.subjects) == [7, 9]
    assert cfg.train_dataloader.dataset.split == cfg.test_dataloader.dataset.split == 'xsub_train'
    assert unit.folder == ROOT / 'a/without_7_9/s3'


def made_up(folder, right, seeds=3, subjects=('2', '4'), clips=10, main='fused'):
    """Units of two arms whose linear probes are right about so many of each subject's clips."""
    arms = [Arm(name, 'c.py') for name in right]
    units = comparison.plan(arms, range(seeds), [], folder)
    for unit in units:
        unit.folder.mkdir(parents=True)
        scores = [float(i < right[unit.arm.name]) for _ in subjects for i in range(clips)]
        comparison.write_json(
            unit.outcome,
            dict(
                main=main,
                clips=[f'{s}_{i}' for s in subjects for i in range(clips)],
                subjects=[s for s in subjects for _ in range(clips)],
                scores={main: {'linear': scores}},
                minutes=2.0,
            ),
        )
    return units


def test_a_constant_lead_is_told_exactly(tmp_path):
    units = made_up(tmp_path, dict(base=5, ours=8))
    summary = comparison_report.summarise(comparison_report.collect(units))
    assert summary['reference'] == 'ours'
    assert [arm['probes']['linear']['mean'] for arm in summary['arms']] == [50, 80]
    lead = summary['leads']['base']['linear']
    assert lead == pytest.approx(dict(difference=30, low=30, high=30))
    text = comparison_report.markdown(summary)
    assert '| **ours** | 80.0 ± 0.0 | 3 |' in text
    assert '| base | +30.0 [+30.0, +30.0] |' in text
    comparison_report.draw(summary, tmp_path / 'a.png', 'made up')
    assert (tmp_path / 'a.png').stat().st_size > 5000


@pytest.mark.parametrize('few', [dict(seeds=1), dict(subjects=('2',))])
def test_one_seed_or_one_subject_makes_no_interval(few, tmp_path):
    units = made_up(tmp_path, dict(base=5, ours=8), **few)
    summary = comparison_report.summarise(comparison_report.collect(units))
    assert summary['leads']['base']['linear'] == dict(difference=30, low=None, high=None)
    assert '| base | +30.0 |' in comparison_report.markdown(summary)


def test_a_damaged_outcome_is_named(tmp_path):
    units = made_up(tmp_path, dict(base=5, ours=8))
    units[2].outcome.write_text('{"main": ')
    with pytest.raises(ContrastError, match=r'outcome.json is damaged .*remove it'):
        comparison_report.collect(units)


def test_what_is_not_finished_does_not_count(tmp_path):
    units = made_up(tmp_path, dict(base=5, ours=8))
    units[0].outcome.unlink()
    tables = comparison_report.collect(units)
    assert tables['base']['seeds'] == [1, 2] and tables['ours']['seeds'] == [0, 1, 2]
    for unit in units[1:]:
        unit.outcome.unlink()
    with pytest.raises(ContrastError, match='no run is finished yet'):
        comparison_report.summarise(comparison_report.collect(units))


def test_other_clips_are_refused(tmp_path):
    units = made_up(tmp_path, dict(base=5, ours=8))
    outcome = json.loads(units[-1].outcome.read_text())
    outcome['clips'][0] = 'another'
    comparison.write_json(units[-1].outcome, outcome)
    with pytest.raises(ContrastError, match='ours, seed 2 was tested on other clips'):
        comparison_report.collect(units)


def test_a_folder_of_other_settings_is_refused(tmp_path):
    config = str(ROOT / 'configs/skeletonclr_msr_action3d.py')
    (unit,) = comparison.plan([Arm('a', config)], [0], [], tmp_path)
    comparison.settle(unit, False)
    comparison.settle(unit, False)
    with pytest.raises(ContrastError, match='with other augmentations, data or settings'):
        comparison.settle(unit, True)


def test_a_recipe_that_has_changed_is_another_run(tmp_path, monkeypatch):
    config = str(ROOT / 'configs/skeletonclr_msr_action3d.py')
    (unit,) = comparison.plan([Arm('a', config)], [0], [], tmp_path)
    comparison.settle(unit, False)
    steps = comparison.build_steps
    monkeypatch.setattr(comparison, 'build_steps', lambda view: steps(view)[:1])
    with pytest.raises(ContrastError, match='with other augmentations'):
        comparison.settle(unit, False)


@pytest.mark.parametrize('wrong', [dict(lr=-1.0), dict(lr=float('nan')), dict(steps=-1)])
def test_fine_tuning_that_cannot_be_is_refused_at_once(wrong):
    with pytest.raises(ContrastError, match='fine-tuning needs steps'):
        Tuning(**wrong)


def test_other_fine_tuning_redoes_the_outcome_alone(tmp_path):
    (unit,) = comparison.plan([Arm('a', 'c.py')], [0], [], tmp_path)
    unit.folder.mkdir(parents=True)
    assert not comparison.is_done(unit, Tuning())
    comparison.write_json(unit.outcome, dict(tuning=asdict(Tuning())))
    assert comparison.is_done(unit, Tuning()) and not comparison.is_done(unit, Tuning(steps=7))


def test_a_checkpoint_that_is_gone_is_trained_again(tmp_path, monkeypatch):
    config = str(ROOT / 'configs/skeletonclr_msr_action3d.py')
    (unit,) = comparison.plan([Arm('a', config)], [0], [], tmp_path)
    unit.folder.mkdir(parents=True)
    (unit.folder / 'last_checkpoint').write_text('/gone/epoch_40.pth')
    commands = []

    def trained(command, **_):
        commands.append(command)
        (unit.folder / 'epoch_40.pth').write_text('')
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(comparison.subprocess, 'run', trained)
    with (unit.folder / 'lock').open('w') as lock:
        assert comparison.pretrain(unit, False, lock.fileno()).is_file()
    assert len(commands) == 1 and '--resume' not in commands[0]


def test_a_folder_that_somebody_works_in_is_left_alone(tmp_path):
    config = str(ROOT / 'configs/skeletonclr_msr_action3d.py')
    (unit,) = comparison.plan([Arm('a', config)], [0], [], tmp_path)
    comparison.settle(unit, False)
    with (unit.folder / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ContrastError, match='another process is at work in'):
            comparison.run(unit, Tuning())
    assert not unit.outcome.exists()


@pytest.mark.slow
def test_compare_pretraining_runs_and_does_not_run_twice(tmp_path, run_tool):
    """Two arms through the real tools: pre-trained, probed, fine-tuned; done once."""
    split, clips, meta = make_synthetic(dataset='msr_action3d', subjects=4, clips=60)
    path = tmp_path / 'clips.pkl'
    save_annotations(path, split, clips, meta)
    small = [f'{part}_dataloader.dataset.ann_file={path}' for part in ('train', 'test')] + [
        'train_cfg.max_epochs=1',
        'param_scheduler.0.T_max=1',
        'model.head.queue_size=8',
        'model.backbone.base_channels=4',
        'model.backbone.num_stages=2',
        'model.backbone.inflate_stages=[]',
        'model.backbone.down_stages=[]',
        'model.in_channels=4',
    ]
    config = str(ROOT / 'configs/skeletonclr_msr_action3d.py')
    arms = arms_file(
        tmp_path,
        dict(name='scratch', config=config, options=small, start='nothing'),
        dict(name='ours', config=config, options=small),
    )
    command = ('compare_pretraining', str(arms), '--seeds', '1', '--out', str(tmp_path / 'out'))
    steps = ('--finetune-steps', '2')
    done = run_tool(*command, *steps, cwd=tmp_path)
    assert '| **ours** |' in done.stdout and 'fine-tuned, 10% of labels' in done.stdout
    outcomes = sorted((tmp_path / 'out').glob('*/test/s0/outcome.json'))
    assert len(outcomes) == 2
    scores = json.loads(outcomes[0].read_text())['scores']['graph']
    assert {'knn', 'linear', 'linear_10%', 'mAP', 'R1', 'R5', 'finetune_10%'} <= set(scores)
    assert 'finetune_100%' in json.loads(outcomes[1].read_text())['scores']['graph']
    assert all(0 <= value <= 1 for values in scores.values() for value in values)
    before = [path.stat().st_mtime_ns for path in outcomes]
    again = run_tool(*command, *steps, cwd=tmp_path)
    table = done.stdout[done.stdout.index('| arm') :]
    assert again.stdout.endswith(table)
    assert before == [path.stat().st_mtime_ns for path in outcomes]
    refused = run_tool(*command, *steps, '--amp', cwd=tmp_path, check=False)
    assert refused.returncode == 1 and 'other augmentations, data or settings' in refused.stdout


def test_synthetic_pretraining_takes_as_many_steps(tmp_path, monkeypatch):
    split, clips, meta = make_synthetic(dataset='msr_action3d', subjects=4, clips=60)
    path = tmp_path / 'clips.pkl'
    save_annotations(path, split, clips, meta)
    cfg = Config.fromfile(ROOT / 'configs/skeletonclr_msr_action3d.py')
    cfg.train_dataloader.dataset.ann_file = str(path)
    monkeypatch.setattr('mg_plugins.data.synthetic.ensure_synthetic', lambda **_: path)
    settings, epochs = comparison.synthetic_settings(cfg)
    assert epochs == cfg.train_cfg.max_epochs  # the same clips here
    assert f'train_dataloader.dataset.ann_file={path}' in settings
    assert np.isclose(epochs, int(settings[-1].split('=')[1]))
