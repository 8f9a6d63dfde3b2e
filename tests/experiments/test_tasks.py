"""What runs do: training and testing, pre-training and probing, and the augmentation study."""

import json
from pathlib import Path

import numpy as np
import pytest
import toy_runs
from mmaction.registry import DATASETS
from mmengine.config import Config

from mg_plugins.augment.base import AUGMENTATIONS
from mg_plugins.augment.chain import build_steps
from mg_plugins.contrast.probes import Features
from mg_plugins.data.annotations import load_annotations, save_annotations
from mg_plugins.errors import UserError
from mg_plugins.experiments import augmentation, ensemble, plan, pretraining, training
from mg_plugins.experiments.augmentation import Study, StudyOptions
from mg_plugins.experiments.plan import Cell, Entry, Run
from mg_plugins.experiments.pretraining import Measures
from mg_plugins.experiments.probing import probe_scores
from mg_plugins.experiments.report import Style, write_report
from mg_plugins.files import read_json

from paths import ROOT

SMALL = (
    'model.backbone.base_channels=4',
    'model.backbone.num_stages=2',
    'model.backbone.inflate_stages=[]',
    'model.backbone.down_stages=[]',
)
RECOGNIZER = (*SMALL, 'model.cls_head.in_channels=4', 'train_cfg.max_epochs=1')
SUPERVISED = str(ROOT / 'configs/stgcn_msr_action3d.py')


def clips_of(toy_config):
    return Config.fromfile(toy_config).train_dataloader.dataset.ann_file


@pytest.mark.parametrize(
    'subject, labels, share, folds',
    [
        (lambda n: str(n % 3), 4, None, [('0',)]),
        (lambda n: 'the only one', 4, None, [plan.A_THIRD]),
        (lambda n: '' if n % 2 else 'a', 4, None, [plan.A_THIRD]),
        (lambda n: '', 4, 0.5, []),
        (lambda n: '', 18, None, []),
    ],
    ids=['subjects', 'one', 'some', 'share', 'two clips a class'],
)
def test_what_an_ensemble_leaves_out_to_find_weights_on(
    subject, labels, share, folds, toy_config, tmp_path
):
    content = load_annotations(clips_of(toy_config))
    clips = {clip['frame_dir']: clip for clip in content['annotations']}
    for place, name in enumerate(content['split']['xsub_train']):
        clips[name].update(subject=subject(place), label=place % labels)
    save_annotations(tmp_path / 'a.pkl', content['split'], content['annotations'], content['meta'])
    cell = Cell((Entry('a', SUPERVISED, RECOGNIZER),), '', str(tmp_path / 'a.pkl'))
    cfg = cell.config(cell.entries[0])
    if share:
        cfg.train_dataloader.dataset.share = share
    assert [*map(tuple, ensemble._default_folds(cfg))] == folds


def test_a_run_trains_goes_on_and_tests_on_the_splits_it_is_given(toy_config, tmp_path):
    """Splits of other names, clips without subjects, and a training that was killed."""
    content = load_annotations(clips_of(toy_config))
    for clip in content['annotations']:
        clip.pop('subject')
    split = dict(learn=content['split']['xsub_train'], judge=content['split']['xsub_val'])
    path = tmp_path / 'other.pkl'
    save_annotations(path, split, content['annotations'], content['meta'])
    cell = Cell((Entry('a', SUPERVISED, RECOGNIZER),), '', str(path), ('learn', 'judge'))
    held, run = plan.plan_runs([cell], [3], [plan.A_THIRD, ()], training.fields_of)
    assert held.path.parts[-2:] == ('without_a_third_of_the_clips', 's3')
    parts = []
    for name in ('train', 'test'):
        dataset = dict(held.cfg[f'{name}_dataloader']['dataset'], pipeline=[])
        parts.append([clip['frame_dir'] for clip in DATASETS.build(dataset)])
    assert sorted(parts[0] + parts[1]) == sorted(split['learn']) and len(parts[1]) == 6
    outcome = training.train_and_test(run, tmp_path)
    assert sorted(outcome['clips']) == sorted(split['judge'])
    assert set(outcome['subjects']) == {''} and outcome['source'] == 'synthetic'
    assert set(outcome['scores']) == {'top1'} and set(outcome['scores']['top1']) <= {0, 1}
    with np.load(tmp_path / 'scores.npz') as saved:
        right = saved['scores'].argmax(1) == saved['labels']
        assert right.astype(int).tolist() == outcome['scores']['top1']
        assert saved['clips'].tolist() == outcome['clips']
    # It goes on from its last checkpoint: here there is nothing left to train.
    checkpoint = tmp_path / 'training/epoch_1.pth'
    before = checkpoint.stat().st_mtime_ns
    again = training.train_and_test(run, tmp_path)
    assert again['scores'] == outcome['scores'] and checkpoint.stat().st_mtime_ns == before


def arm(toy_config, start='pre-training', **measures):
    """The run of an arm over the toy config, one epoch long."""
    entry = Entry('a', toy_config, ('train_cfg.max_epochs=1',), start)
    found = Measures(**measures)
    make = lambda entry, cfg: pretraining.fields_of(entry, cfg, found)  # noqa: E731
    (run,) = plan.plan_runs([Cell((entry,))], [3], [], make)
    return run


@pytest.fixture(scope='module')
def arms(toy_config, tmp_path_factory):
    """Folder and outcome of an arm that is pre-trained and of one that starts from nothing."""
    found = {}
    probes = {'pre-training': pretraining.PROBES, 'nothing': ('knn',)}
    for start in probes:
        folder = tmp_path_factory.mktemp('arm')
        run = arm(toy_config, start, steps=2, lr=1e-2, probes=probes[start], streams=('graph',))
        found[start] = folder, pretraining.pretrain_and_probe(run, folder)
    return found


def test_an_arm_is_probed_and_fine_tuned(arms, toy_config):
    folder, outcome = arms['pre-training']
    split = load_annotations(clips_of(toy_config))['split']
    assert sorted(outcome['clips']) == sorted(split['xsub_val']) and all(outcome['subjects'])
    probes = {'knn', 'linear', 'linear_10%', 'mAP', 'R1', 'R5'}
    other = {f'graph/{probe}' for probe in probes}
    assert set(outcome['scores']) == probes | other | {'finetune_10%'}
    assert all(0 <= value <= 1 for values in outcome['scores'].values() for value in values)
    assert {len(values) for values in outcome['scores'].values()} == {len(outcome['clips'])}
    assert outcome['learned_from'] == len(split['xsub_train'])
    assert (folder / 'training/epoch_1.pth').is_file() and outcome['source'] == 'synthetic'


def test_an_arm_that_starts_from_nothing_learns_from_all_labels_too(arms):
    folder, outcome = arms['nothing']
    assert 'finetune_100%' in outcome['scores'] and not (folder / 'training').exists()
    assert outcome['scores']['knn'] != arms['pre-training'][1]['scores']['knn']


def test_a_killed_arm_goes_on_from_its_checkpoint(arms, toy_config):
    folder, outcome = arms['pre-training']
    before = (folder / 'training/epoch_1.pth').stat().st_mtime_ns
    again = pretraining.pretrain_and_probe(arm(toy_config, steps=0, probes=('retrieval',)), folder)
    assert (folder / 'training/epoch_1.pth').stat().st_mtime_ns == before
    assert again['scores']['mAP'] == outcome['scores']['mAP']
    assert 'finetune_10%' not in again['scores']


@pytest.mark.parametrize('wrong', [dict(lr=-1.0), dict(lr=float('nan')), dict(steps=-1)])
def test_fine_tuning_that_cannot_be_is_refused_at_once(wrong):
    with pytest.raises(UserError, match='fine-tuning needs steps'):
        Measures(**wrong)


def test_synthetic_pretraining_takes_as_many_steps(toy_config, monkeypatch):
    path = clips_of(toy_config)
    cfg = Config.fromfile(ROOT / 'configs/skeletonclr_msr_action3d.py')
    cfg.train_dataloader.dataset.ann_file = path
    monkeypatch.setattr('mg_plugins.data.synthetic.ensure_synthetic', lambda **_: Path(path))
    found = pretraining.synthetic_options(cfg)
    assert found['epochs'] == cfg.train_cfg.max_epochs  # the same clips here
    cfg.train_dataloader.dataset.split = 'xsub_val'
    cfg.train_dataloader.batch_size = 1
    assert found['epochs'] != pretraining.synthetic_options(cfg)['epochs']


def test_schedules_are_scaled():
    entries = [
        dict(type='MultiStepLR', milestones=[30, 60]),
        dict(type='LinearLR', begin=0, end=5),
        dict(type='CosineAnnealingLR', T_max=90, begin=10),
        dict(type='LinearLR', end=500, by_epoch=False),
    ]
    cfg = Config(dict(train_cfg=dict(max_epochs=100), param_scheduler=entries))
    pretraining.set_epochs(cfg, 10)
    assert cfg.param_scheduler[0].milestones == [3, 6]
    assert (cfg.param_scheduler[1].begin, cfg.param_scheduler[1].end) == (0, 1)
    assert (cfg.param_scheduler[2].T_max, cfg.param_scheduler[2].begin) == (9, 1)
    assert cfg.param_scheduler[3].end == 500


def cell_of(toy_config, *options):
    return Cell((Entry('toy', toy_config),), options=options)


@pytest.fixture(scope='module')
def cfg(toy_config):
    """A config for the study whose test split cannot be read: nothing may try to."""
    options = ('test_dataloader.dataset.split=no_such_split',)
    return augmentation.prepare(cell_of(toy_config, *options), epochs=1)


@pytest.fixture
def study(cfg, tmp_path):
    """A study of everything, on two folds, with two seeds."""
    return Study(cfg, tmp_path / 'out', StudyOptions(seeds=(0, 1)))


def pretend(study, run, rate):
    """Write an outcome in which the first share of every subject's clips was right."""
    stand_in = Run('x', 0, {}, toy_runs.answer, options=dict(right=10 * rate))
    folder = study.folder / run.path
    folder.mkdir(parents=True)
    options = dict(subjects=run.left_out, measures=('linear', 'knn'))
    object.__setattr__(stand_in, 'options', dict(stand_in.options, **options))
    outcome = toy_runs.answer(stand_in, folder)
    (folder / 'outcome.json').write_text(json.dumps(dict(outcome, source='synthetic')))


def of_row(study, name, seed=0):
    return [run for run in study.runs() if (run.name, run.seed) == (name, seed)]


def test_the_config_is_prepared(cfg, toy_config):
    assert cfg.train_cfg.max_epochs == 1 and cfg.param_scheduler[1].T_max == 1
    assert [hook['type'] for hook in cfg.custom_hooks] == ['MomentumHook']
    assert set(cfg.test_dataloader.dataset) == {'pipeline'}
    assert cfg.model.data_preprocessor.views == [[], []]
    with pytest.raises(UserError, match='is not a config whose augmentations can be studied'):
        augmentation.prepare(cell_of(toy_config, 'model.data_preprocessor.views=None'))


def test_the_study_goes_round_by_round_and_leaves_each_out(study):
    runs = study.runs()
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert len({run.path for run in runs}) == len(runs)
    alone = {run.name for run in runs if run.section == augmentation.ALONE}
    assert alone == {*AUGMENTATIONS, 'nothing'}
    recipe = build_steps('micro_gesture')
    for step in recipe:
        (run, _) = of_row(study, f'micro_gesture without {step.name}')
        for view in run.cfg['model']['data_preprocessor']['views']:
            assert [s['type'] for s in view] == [s.name for s in recipe if s is not step]
        assert run.base == 'micro_gesture'
        train, test = (run.cfg[f'{p}_dataloader']['dataset'] for p in ('train', 'test'))
        assert train['exclude_subjects'] == test['subjects'] == list(run.left_out)
        assert train['split'] == test['split'] == 'xsub_train'
    # Six pairs follow in each round.
    assert study.total == len(runs) + 6 * len(study.folds) * 2


def test_pairs_are_of_the_best_four_of_the_first_round(study, cfg):
    names = {run.name for run in study.runs() if run.section == augmentation.ALONE}
    best = ['MGShear', 'MGFlip', 'MGCrop', 'MGHands']
    for run in list(study.runs()):
        if run.seed == 0 and run.name in names:
            assert study.best() == []
            rate = {'MGReverse': 1.0, 'MGShear': 0.9}.get(run.name, 0.8)
            pretend(study, run, rate if run.name in (*best, 'MGReverse') else 0.3)
    (failed, _) = of_row(study, 'MGReverse')
    (study.folder / failed.path / 'failed.txt').write_text('no memory')
    assert sorted(study.best()) == sorted(best)
    pairs = [run for run in study.runs() if run.section == augmentation.PAIRS]
    assert len({run.name for run in pairs}) == 6 and len(pairs) == 6 * 2 * len(study.folds)
    assert len(study.runs()) == study.total
    text = write_report(study, Style('linear', ranked={'Alone': 1}), dict(title='made up'))
    lines = [line for line in text.splitlines() if line.startswith(('| MG', '| nothing'))]
    assert [line.split(' | ')[0] for line in lines[:3]] == ['| nothing', '| MGReverse', '| MGShear']
    assert lines[1].endswith('failed: no memory |') and '| +60.00 |' in lines[2]
    assert 'SYNTHETIC' in text and 'Test subjects were not read.' in text
    assert 'That seed is among those reported' in text
    # From its results alone, where nothing has failed, another folder goes on to the pairs.
    saved = read_json(study.folder / 'results.json')
    again = Study(cfg, study.folder / 'again', study.options, saved)
    assert 'MGReverse' in again.best() and len(again.runs()) == again.total


def test_default_folds_are_disjoint_and_leave_most_to_learn_from():
    assert augmentation.default_folds(['1', '3', '5', '7', '9']) == (('1', '5'), ('3', '7'))
    for number in range(2, 40):
        first, second = augmentation.default_folds([str(i) for i in range(number)])
        assert len(first) == len(second) >= 1 and not {*first} & {*second}
        assert number - len(first) >= number / 2


def test_studies_that_cannot_be_are_refused(cfg, tmp_path):
    def refused(message, **options):
        with pytest.raises(UserError, match=message):
            Study(cfg, tmp_path, StudyOptions(**options))

    names = list(augmentation.training_subjects(cfg))
    refused("no training subject 'S999'; there are S0", folds=(('S999',),))
    refused('in one fold only', folds=((names[0],), (names[0], names[1])))
    refused('0 clips to learn from, and the queues hold 8', folds=(tuple(names),))
    refused("no augmentation 'MGSheer'; there are MG", augmentations=('MGSheer',))
    refused("no recipe 'mild'; there are", recipe='mild')


def test_a_study_s_run_leaves_nothing_behind_and_says_the_same_again(study, tmp_path):
    (run, _) = of_row(study, 'nothing')
    outcomes = []
    for number in range(2):
        folder = tmp_path / str(number)
        outcomes.append(pretraining.pretrain_and_probe(run, folder))
        assert not folder.exists() or not list(folder.rglob('*.pth'))
    assert outcomes[0] == outcomes[1]
    assert set(outcomes[0]['subjects']) == set(run.left_out)
    assert set(outcomes[0]['scores']) == {'linear', 'knn'}


def test_a_study_without_labels_ranks_by_what_labels_do_not_change(cfg, tmp_path):
    study = Study(cfg, tmp_path / 'out', StudyOptions(seeds=(0,), by='rank'))
    (run, _) = of_row(study, 'MGShear')
    found = pretraining.pretrain_and_probe(run, tmp_path / 'run')['scores']
    assert list(found) == ['rank'] and len(set(found['rank'])) == 1 and 0 < found['rank'][0] <= 1
    assert 'An effective rank is of all clips together and has no interval.' in study.notes()
    random = np.random.default_rng(0)
    vectors, names = random.normal(size=(40, 6)).astype('f'), np.array([''] * 40)
    for labels in (random.integers(0, 3, 40), np.zeros(40, int)):
        flat = Features(vectors * np.float32([1, 1, 0, 0, 0, 0]), labels, names, names)
        round = Features(vectors, labels, names, names)
        low, high = (probe_scores(flat, part, ['rank'])['rank'] for part in (flat, round))
        assert 0.3 < low[0] < 0.34 and 0.9 < high[0] <= 1
