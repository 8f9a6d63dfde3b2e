"""Rows and cells, what is left out, and what a run's fingerprint notices."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import toy_runs
from mmengine.config import Config

from mg_plugins.augment import chain
from mg_plugins.data.annotations import load_annotations, save_annotations
from mg_plugins.errors import UserError
from mg_plugins.experiments import plan
from mg_plugins.experiments.plan import Cell, Entry, Run

from contrast_toys import write_clips
from paths import ROOT

CONFIG = str(ROOT / 'configs/stgcn_msr_action3d.py')


def written(folder, content):
    path = folder / 'cells.json'
    path.write_text(json.dumps(content))
    return path


def test_rows_are_read_from_a_command_line():
    plain = Entry.parse('configs/stgcn_imigue.py')
    assert plain == Entry('stgcn_imigue', 'configs/stgcn_imigue.py')
    named = Entry.parse('two heads=a/b.py; model.backbone.heads=2;x.y=[z]')
    assert named == Entry('two heads', 'a/b.py', ('model.backbone.heads=2', 'x.y=[z]'))


def test_cells_are_read_with_configs_relative_to_their_file(tmp_path):
    (tmp_path / 'a.py').write_text('model = dict()\n')
    rows = [
        dict(name='first', config='a.py', options=['x=1'], seeds=3),
        dict(name='from scratch', config='a.py', start='nothing'),
    ]
    defaults = Cell((), ann_file='x.pkl', options=('y=2',))
    (cell,) = plan.read_cells(written(tmp_path, rows), defaults)
    first, second = cell.entries
    assert first == Entry('first', str(tmp_path / 'a.py'), ('x=1',), seeds=3)
    assert second.start == 'nothing' and (cell.ann_file, cell.name) == ('x.pkl', '')
    cells = [
        dict(cell='hand', rows=rows, ann_file='hand.pkl', splits=['a', 'b'], reference='first'),
        dict(cell='body', rows=rows[:1]),
    ]
    hand, body = plan.read_cells(written(tmp_path, cells), defaults)
    assert (hand.name, hand.ann_file, hand.splits) == ('hand', 'hand.pkl', ('a', 'b'))
    assert (body.ann_file, body.options, body.reference) == ('x.pkl', ('y=2',), '')
    assert hand.entries == cell.entries and body.entries == cell.entries[:1]


@pytest.mark.parametrize(
    'content, message',
    [
        ([], 'a list of objects was expected'),
        ([dict(name='a')], 'entry 0: a row needs name and config'),
        ([dict(name='a', config='a.py', seed=1)], 'a row needs name and config'),
        ([dict(name='a', config='a.py', start='zero')], "start must be one of .*got 'zero'"),
        ([dict(cell='c', rows=[], set='x')], 'a cell needs cell and rows'),
        ([dict(cell='c', rows=[dict(name='a')])], "cell 'c', entry 0: a row needs"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        plan.read_cells(written(tmp_path, content), Cell(()))


@pytest.mark.parametrize(
    'cells, message',
    [
        ([Cell((Entry('a', 'missing.py'),))], 'there is no config missing.py'),
        ([Cell((Entry('a b', CONFIG), Entry('a_b', CONFIG)))], 'two rows have one name'),
        ([Cell((Entry('a', CONFIG, ('heads',)),))], "must be KEY=VALUE, got 'heads'"),
        ([Cell((Entry('a', CONFIG),), options=('x',))], "must be KEY=VALUE, got 'x'"),
        ([Cell((Entry('a', CONFIG),), reference='b')], "no reference row 'b'; there are a"),
        ([Cell((Entry('a', CONFIG),))] * 2, 'cells need names of their own'),
    ],
)
def test_what_cannot_be_told_apart_or_does_not_exist(cells, message):
    with pytest.raises(UserError, match=message):
        plan.check_cells(cells)


def test_the_last_row_is_the_reference_of_arms():
    cell = Cell((Entry('a', CONFIG), Entry('b', CONFIG), Entry('c', CONFIG)))
    assert plan.choose(cell, None).reference == 'c'
    chosen = plan.choose(cell, ['b', 'a'])
    assert [e.name for e in chosen.entries] == ['a', 'b'] and chosen.reference == 'b'
    with pytest.raises(UserError, match="no row 'd'; there are a, b, c"):
        plan.choose(cell, ['d'])


def test_folds_are_read():
    assert plan.parse_folds(['1,3', '5']) == [('1', '3'), ('5',)]
    assert plan.parse_folds(['1,3', '1']) == [('1', '3'), ('1',)]
    for words, message in ((['1,,3'], 'a subject is empty'), (['1,3', '1'], 'one fold only')):
        with pytest.raises(UserError, match=message):
            plan.parse_folds(words, overlap=False)


def make(entry, cfg):
    return dict(task=toy_runs.answer)


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """Two rows on clips whose splits have names of their own."""
    path = Path(write_clips(tmp_path))
    content = load_annotations(path)
    split = dict(learn=content['split']['xsub_train'], judge=content['split']['xsub_val'])
    save_annotations(path, split, content['annotations'], content['meta'])
    return Cell(
        (Entry('a', CONFIG), Entry('b', CONFIG, seeds=1)),
        ann_file=str(path),
        splits=('learn', 'judge'),
    )


def test_runs_go_seed_by_seed_with_subjects_left_out_of_the_configs_own_split(cell):
    runs = plan.plan_runs([cell], (4, 5), [('S000',), ('S001',)], make)
    assert [(r.name, r.seed, *r.left_out) for r in runs] == [
        *(('a', 4, 'S000'), ('b', 4, 'S000'), ('a', 4, 'S001'), ('b', 4, 'S001')),
        *(('a', 5, 'S000'), ('a', 5, 'S001')),
    ]
    assert [run.base for run in runs[:2]] == ['', 'a']
    assert str(runs[0].path) == 'a/without_S000/s4'
    train, test = (runs[0].cfg[f'{part}_dataloader']['dataset'] for part in ('train', 'test'))
    assert train['split'] == test['split'] == 'learn'
    assert (train['exclude_subjects'], test['subjects']) == (['S000'], ['S000'])
    assert test['test_mode'] and 'exclude_subjects' not in test
    kinds = [step['type'] for step in test['pipeline']]
    assert 'MGRotate' not in kinds and 'MGRotate' in [s['type'] for s in train['pipeline']]
    whole = plan.plan_runs([cell], (4,), [], make)[0].cfg
    assert whole['test_dataloader']['dataset']['split'] == 'judge'


def test_a_fingerprint_notices_what_an_outcome_follows_from(cell, monkeypatch):
    def fingerprint(cell=cell, folds=(), make=make):
        return plan.plan_runs([cell], (0,), folds, make)[0].fingerprint

    first = fingerprint()
    assert first == fingerprint()
    seeds = plan.plan_runs([cell], (0, 1), [], make)
    assert seeds[0].fingerprint == seeds[2].fingerprint
    option = Cell(cell.entries, '', cell.ann_file, cell.splits, options=('model.test_cfg=None',))
    others = [
        fingerprint(option),
        fingerprint(folds=[('S000',)]),
        fingerprint(make=lambda e, c: dict(task=toy_runs.sleep)),
        fingerprint(make=lambda e, c: dict(task=toy_runs.answer, options=dict(right=1))),
    ]
    # Another file of the same length, of the same age, under the same name.
    path = Path(cell.ann_file)
    content, state = bytearray(path.read_bytes()), path.stat()
    place = content.rindex(b'hammer') if b'hammer' in content else len(content) // 2
    content[place] ^= 1
    path.write_bytes(content)
    import os

    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    changed = Run('a', 0, seeds[0].cfg, toy_runs.answer).fingerprint
    assert len({first, changed, *others}) == 6


def test_a_fingerprint_notices_what_is_in_a_folder_of_arrays(cell, tmp_path):
    content = load_annotations(cell.ann_file)
    folder = tmp_path / 'clips.mg'
    made = []
    for label in (0, 0, 1):
        content['annotations'][0]['label'] = label
        save_annotations(folder, content['split'], content['annotations'], content['meta'])
        other = replace(cell, ann_file=str(folder))
        made.append(plan.plan_runs([other], (0,), [], make)[0].fingerprint)
    assert made[0] == made[1] != made[2]


def test_a_recipe_that_has_changed_is_another_run(monkeypatch):
    model = dict(data_preprocessor=dict(views=['weak', 'weak']))
    run = partial(Run, 'a', 0, dict(model=model), toy_runs.answer)
    before = run().fingerprint
    assert run().fingerprint == before
    monkeypatch.setattr(plan, 'build_steps', lambda view: chain.build_steps(view)[:1])
    assert run().fingerprint != before


def test_subjects_cannot_be_left_out_of_what_has_none():
    cfg = Config(dict(train_dataloader=dict(dataset=dict()), test_dataloader=dict(dataset={})))
    with pytest.raises(UserError, match='with an annotation file only'):
        plan.leave_out(cfg, ['1'])
