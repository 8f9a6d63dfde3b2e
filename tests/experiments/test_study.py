"""The augmentation study: its plan, resuming, the budget, the report, and real trials."""

import dataclasses
import json
from typing import ClassVar

import numpy as np
import pytest

from mg_plugins.augment.base import AUGMENTATIONS
from mg_plugins.augment.chain import build_steps
from mg_plugins.experiments import study, study_report, study_trial
from mg_plugins.openmmlab.settings import LaunchError

from contrast_toys import model_config, runner_config, write_clips

ABOUT = dict(config='configs/toy.py', epochs=1)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """Path of a small pre-training on made clips whose preprocessor makes the views."""
    folder = tmp_path_factory.mktemp('study_config')
    path = write_clips(folder)
    preprocessor = dict(
        type='ContrastPreprocessor', views=['weak', 'strong'], layout='msr_action3d'
    )
    head = dict(type='InfoNCEHead', dim=6, queue_size=8)
    model = model_config(data_preprocessor=preprocessor, head=head)
    cfg = runner_config(path, folder, model)
    meta = ('frame_dir', 'subject')
    tail = [
        dict(type='FormatGCNInput', num_person=1),
        dict(type='PackActionInputs', meta_keys=meta),
    ]
    head = cfg.train_dataloader.dataset.pipeline[:2]
    cfg.train_dataloader.dataset.update(pipeline=[*head, *tail], split='xsub_train')
    features = dict(type='MGSkeFeat', layout='msr_action3d', feat='joint')
    cfg.test_dataloader = dict(
        batch_size=8,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        # A test set that cannot be read: nothing may try to.
        dataset=dict(
            type='MGPoseDataset',
            ann_file=path,
            split='no such split',
            pipeline=[*head, features, *tail],
            test_mode=True,
        ),
    )
    cfg.param_scheduler = [
        dict(type='LinearLR', begin=0, end=1, start_factor=0.1),
        dict(type='CosineAnnealingLR', T_max=3, by_epoch=True),
    ]
    cfg.custom_hooks.append(dict(type='ProbeHook', interval=1))
    file = folder / 'toy_study.py'
    cfg.dump(file)
    return str(file)


@pytest.fixture(scope='module')
def cfg(config):
    return study_trial.prepare(config, epochs=1)


@pytest.fixture
def plan(cfg, tmp_path):
    """A study of everything, on two folds, with two seeds."""
    return study.plan_study(cfg, tmp_path / 'out', seeds=range(2))


def pretend(plan, trial, rate, source='synthetic', clips=10):
    """Write an outcome in which the first share of every subject's clips was right."""
    right = (np.arange(clips) < rate * clips).astype(int).tolist()
    correct = right * len(trial.left_out)
    subjects = [s for s in trial.left_out for _ in range(clips)]
    outcome = dict(
        correct=dict(linear=correct, knn=correct[::-1]),
        subjects=subjects,
        clips=[f'{s}_{i}' for i, s in enumerate(subjects)],
        collapsed=[],
        settings=plan.settings,
    )
    study.write_whole(trial.path, json.dumps(outcome))


def test_the_plan_goes_round_by_round(plan):
    trials = list(plan.plan())
    arms = plan.arms
    assert len(trials) == len(arms) * len(plan.folds) * 2
    assert [t.seed for t in trials] == sorted(t.seed for t in trials)
    phases = [arm.phase for arm in arms]
    assert phases == sorted(phases, key=['nothing', 'recipe', 'alone', 'left_out'].index)
    assert phases.count('alone') == len(AUGMENTATIONS) and arms[0].chain == []
    recipe = build_steps('micro_gesture')
    left_out = [arm for arm in arms if arm.phase == 'left_out']
    assert [arm.without for arm in left_out] == [step.name for step in recipe]
    assert all(len(arm.steps) == len(recipe) - 1 for arm in left_out)
    assert len({t.path for t in trials}) == len(trials)
    # Six pairs follow in each round.
    assert plan.total == len(trials) + 6 * len(plan.folds) * 2


def test_pairs_are_of_the_best_four_of_the_first_round(plan):
    alone = [arm for arm in plan.arms if arm.phase == 'alone']
    best = ['MGShear', 'MGFlip', 'MGCrop', 'MGHands']
    for arm in alone:
        assert plan.pairs() == []
        for trial in plan.of_arm(arm, 0):
            pretend(plan, trial, 0.8 if arm.name in best else 0.3)
        for trial in plan.of_arm(arm, 1):
            pretend(plan, trial, 0.1 if arm.name in best else 0.9)
    pairs = plan.pairs()
    assert {arm.name for arm in plan.best()} == set(best)
    assert len(pairs) == 6 and len(list(plan.plan())) == plan.total
    assert all([s.name for s in p.steps] == p.name.split(' + ') for p in pairs)
    first = [t for t in plan.plan() if t.seed == 0]
    assert [t.arm.phase for t in first][-6 * len(plan.folds) :] == ['pair'] * 6 * len(plan.folds)


def test_an_augmentation_that_fails_does_not_hold_up_the_pairs(plan):
    alone = [arm for arm in plan.arms if arm.phase == 'alone']
    broken, *rest = alone
    for arm in rest:
        for trial in plan.of_arm(arm, 0):
            pretend(plan, trial, 0.5)
    before = plan.total
    assert plan.pairs() == []
    trials = plan.of_arm(broken, 0)
    pretend(plan, trials[0], 1.0)
    study.write_whole(trials[1].note, 'ValueError: no\nsuch | thing')
    assert len(plan.pairs()) == 6 and broken not in plan.best()
    assert plan.total == before
    # It is tried again all the same, and may come back.
    assert trials[1] in list(plan.plan()) and not trials[1].done
    text = study_report.write_report(plan, ABOUT)
    cell = r'0 of 2, failed: ValueError: no such \| thing |'
    (line,) = [line for line in text.splitlines() if line.startswith(f'| {broken.name} |')]
    assert line.endswith(cell)
    missing = text.split('Not run with any seed: ')[1].split('.')[0]
    assert broken.name not in missing.split(', ')
    assert f'Trials that failed: {broken.name} (failed: ValueError' in text
    rows = json.loads((plan.folder / 'results.json').read_text())['rows']
    assert {row['name']: row['failed'] for row in rows if row['failed']} == {
        broken.name: 'ValueError: no\nsuch | thing'
    }
    trials[1].note.unlink()
    pretend(plan, trials[1], 1.0)
    assert broken in plan.best()


def test_a_changed_recipe_is_another_arm():
    steps = tuple(build_steps('weak'))
    changed = dataclasses.replace(steps[1], strength=0.4)
    arm = study.Arm('recipe', 'weak', steps)
    assert study.Arm('recipe', 'weak', (steps[0], changed)).folder != arm.folder
    assert study.Arm('recipe', 'weak', tuple(build_steps('weak'))).folder == arm.folder


def test_the_config_is_prepared(cfg):
    assert cfg.train_cfg.max_epochs == 1 and cfg.param_scheduler[1].T_max == 1
    assert cfg.param_scheduler[0]['begin'] == 0
    assert [hook['type'] for hook in cfg.custom_hooks] == ['MomentumHook']
    assert set(cfg.test_dataloader.dataset) == {'pipeline'}
    assert cfg.model.data_preprocessor.views == [[], []]


def test_schedules_are_scaled():
    from mmengine.config import Config

    entries = [
        dict(type='MultiStepLR', milestones=[30, 60]),
        dict(type='LinearLR', begin=0, end=5),
        dict(type='CosineAnnealingLR', T_max=90, begin=10),
        dict(type='LinearLR', end=500, by_epoch=False),
    ]
    cfg = Config(dict(train_cfg=dict(max_epochs=100), param_scheduler=entries))
    study_trial.shorten(cfg, 10)
    assert cfg.param_scheduler[0].milestones == [3, 6]
    assert (cfg.param_scheduler[1].begin, cfg.param_scheduler[1].end) == (0, 1)
    assert (cfg.param_scheduler[2].T_max, cfg.param_scheduler[2].begin) == (9, 1)
    assert cfg.param_scheduler[3].end == 500


def test_default_folds_are_disjoint_and_leave_most_to_learn_from():
    assert study.default_folds(['1', '3', '5', '7', '9']) == (('1', '5'), ('3', '7'))
    for number in range(2, 40):
        first, second = study.default_folds([str(i) for i in range(number)])
        assert len(first) == len(second) >= 1 and not {*first} & {*second}
        assert number - len(first) >= number / 2


def test_folds_that_cannot_be_are_refused(cfg):
    subjects, source = study.training_subjects(cfg)
    assert source == 'synthetic' and len(subjects) == 3
    names = list(subjects)
    with pytest.raises(LaunchError, match='no training clips of subjects S999; there are S0'):
        study.check_folds(cfg, subjects, [('S999',)])
    with pytest.raises(LaunchError, match='in one fold only'):
        study.check_folds(cfg, subjects, [(names[0],), (names[0], names[1])])
    with pytest.raises(LaunchError, match='0 clips to learn from, and the queues hold 8'):
        study.check_folds(cfg, subjects, [tuple(names)])


def test_wrong_names_and_configs_are_refused(cfg, config):
    with pytest.raises(ValueError, match="augmentation 'MGSheer' is unknown; there are MG"):
        study.arms_of(cfg, augmentations=['MGSheer'])
    with pytest.raises(ValueError, match="recipe 'mild' is unknown"):
        study.arms_of(cfg, 'mild')
    with pytest.raises(LaunchError, match='is not a config whose augmentations can be studied'):
        study_trial.prepare(config, options={'model.data_preprocessor.views': None})


def test_a_study_of_another_config_is_refused(plan, config):
    study.settle(plan, ABOUT)
    study.settle(plan, ABOUT)
    other = dataclasses.replace(plan, cfg=study_trial.prepare(config, epochs=2))
    with pytest.raises(RuntimeError, match='with another --epochs.*choose another --out'):
        study.settle(other, ABOUT)
    trial = next(plan.plan())
    pretend(plan, trial, 0.5)
    with pytest.raises(RuntimeError, match='was run with other settings'):
        study.read(other, other.trial(trial.arm, trial.seed, trial.left_out))


def test_no_time_runs_nothing_and_the_report_says_so(plan):
    assert study.execute(plan, budget=0) == {}
    text = study_report.write_report(plan, ABOUT)
    assert f'Run: 0 of {plan.total} trials; 0 of 2 rounds whole' in text
    assert 'Not run with any seed: nothing, weak' in text and 'all pairs' in text
    assert sorted(p.name for p in plan.folder.glob('*.*')) == ['results.json', 'table.md']


def test_the_report_ranks_and_says_what_is_missing(plan):
    for arm in plan.arms:
        rate = dict(nothing=0.3, MGShear=0.7, micro_gesture=0.6, MGNoise=0.2).get(arm.name, 0.4)
        rate = 0.1 if arm.without == 'MGFlip' else rate
        for trial in plan.of_arm(arm, 0):
            pretend(plan, trial, rate)
    for trial in plan.of_arm(plan.pairs()[0], 0):
        pretend(plan, trial, 0.9)
    study.write_whole(plan.of_arm(plan.pairs()[1], 0)[0].note, 'ValueError: no')
    # Half of the second seed's folds do not count.
    pretend(plan, plan.of_arm(plan.arms[0], 1)[0], 1.0)
    text = study_report.write_report(plan, ABOUT)
    record = json.loads((plan.folder / 'results.json').read_text())
    rows = {row['name']: row for row in record['rows']}
    assert rows['nothing']['figures'] == dict(linear=30.0, knn=30.0) and record['synthetic']
    assert rows['MGShear']['difference'] == pytest.approx(40)
    # Every subject gains the same, and there is one seed: nothing is left to vary.
    assert rows['MGShear']['low'] == rows['MGShear']['high'] == pytest.approx(40)
    assert rows['micro_gesture without MGFlip']['difference'] == pytest.approx(-50)
    lines = text.splitlines()
    order = [line.split(' | ')[0][2:] for line in lines if line.startswith('| MG')]
    assert order[0] == 'MGShear' and order[len(AUGMENTATIONS) - 1] == 'MGNoise'
    assert order[len(AUGMENTATIONS)] == 'MGFlip'
    assert 'SYNTHETIC data' in lines[0] and '| nothing | 30.00 | 30.00 | – | 1 of 2 |' in text
    assert f'{len([*plan.arms, 1]) * len(plan.folds) + 1} of {plan.total} trials' in text
    assert text.count('0 of 2 |') == 4 and text.count('0 of 2, failed: ValueError: no |') == 1
    for name in ('bars.png', 'pairs.png'):
        assert (plan.folder / name).read_bytes().startswith(b'\x89PNG')


def test_changed_data_is_noticed(plan):
    first, second = plan.of_arm(plan.arms[0], 0)[0], plan.of_arm(plan.arms[1], 0)
    for trial in (first, *plan.of_arm(plan.arms[0], 0)[1:]):
        pretend(plan, trial, 0.5)
    for trial in second:
        pretend(plan, trial, 0.5, clips=9)
    with pytest.raises(RuntimeError, match='has the data changed'):
        study_report.summarise(plan)


@pytest.mark.slow
def test_real_trials_run_in_a_process_and_not_twice(plan):
    fold = plan.folds[0]
    names = ('nothing', 'MGShear')
    arms = tuple(arm for arm in plan.arms if arm.name in names)
    small = dataclasses.replace(plan, folds=(fold,), seeds=(0,), arms=arms, streams=('graph',))
    study.settle(small, ABOUT)
    assert study.execute(small) == {}
    trials = list(small.plan())
    assert [t.arm.name for t in trials] == list(names) and small.total == 2
    before = [t.path.stat().st_mtime_ns for t in trials]
    outcomes = [study.read(small, t) for t in trials]
    clips, _ = study.training_subjects(small.cfg)
    for outcome in outcomes:
        assert set(outcome['subjects']) == set(fold) and outcome['stream'] == 'fused'
        assert len(outcome['clips']) == clips[fold[0]]
        assert outcome['learned_from'] == sum(clips.values()) - clips[fold[0]]
        assert set(outcome['correct']) == {'linear', 'knn', 'graph/linear', 'graph/knn'}
        assert outcome['figures']['knn'] == np.mean(outcome['correct']['knn'])
    # Only what is missing is run again, and the same seed gives the same outcome. A trial that
    # fails is told, leaves no outcome, and does not stop the others.
    trials[1].path.unlink()
    odd = dataclasses.replace(small, folds=(('S999',), fold))
    failed = study.execute(odd)
    assert set(failed) == {odd.trial(arm, 0, ('S999',)).path for arm in arms}
    assert all("no clips of subjects ['S999']" in error for error in failed.values())
    assert not any(path.exists() for path in failed)
    assert trials[0].path.stat().st_mtime_ns == before[0]
    again = study.read(small, trials[1])
    assert {**again, 'seconds': 0} == {**outcomes[1], 'seconds': 0}
    text = study_report.write_report(small, ABOUT)
    assert '2 of 2 trials' in text and 'graph/linear' in text


@dataclasses.dataclass(frozen=True)
class Broken:
    """An augmentation that no process knows."""

    name: ClassVar[str] = 'MGBroken'
    strength: float = 1.0


@pytest.mark.slow
def test_failed_arms_are_counted_and_not_their_folds(plan):
    fine = [arm for arm in plan.arms if arm.name in ('nothing', 'MGFlip', 'MGShear')]
    bad = [study.Arm('alone', f'MGBroken{i}', (Broken(strength=i),)) for i in range(2)]
    small = dataclasses.replace(plan, arms=(fine[0], *bad, *fine[1:]), seeds=(0,))
    for arm in fine:
        for trial in small.of_arm(arm, 0):
            pretend(small, trial, 0.5)
    for arm in bad:
        study.write_whole(small.of_arm(arm, 0)[0].note, 'of an earlier run')
    (pair,) = small.pairs()
    first, last = small.of_arm(pair, 0)
    pretend(small, first, 0.5)
    failed = study.execute(small)
    expected = {trial.path for arm in bad for trial in small.of_arm(arm, 0)}
    assert len(expected) > study.MOST_FAILURES and set(failed) == expected
    assert last.done and all('MGBroken' in small.failure(arm) for arm in bad)


@pytest.mark.slow
def test_the_tool_says_what_was_not_run(tmp_path, config, run_tool):
    out = run_tool(
        'study_augmentations', config, '--budget-minutes', 0, '--out', 'out', cwd=tmp_path
    ).stdout
    assert 'SYNTHETIC' in out and 'Run: 0 of' in out
    assert (tmp_path / 'out/table.md').is_file()
