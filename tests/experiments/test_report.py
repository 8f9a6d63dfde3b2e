"""From outcomes to counts, figures, tables and pictures."""

import json

import numpy as np
import pytest
import toy_runs

from mg_plugins.data.statistics import bootstrap_difference
from mg_plugins.errors import UserError
from mg_plugins.experiments.report import Style, collect, draw, markdown, summarise, write_report
from mg_plugins.experiments.runner import Plan

LEAD = Style(by=None, lead=True, drawn=('linear', 'knn'))


def report(tmp_path, right, style=None, change=None, **options):
    """Report of made-up runs; returns the tables' text, the first table, and the plan."""
    plan = Plan(tmp_path, toy_runs.runs(right, **options))
    toy_runs.do(plan)
    for run in plan.runs():
        path = tmp_path / run.path / 'outcome.json'
        outcome = json.loads(path.read_text())
        if change:
            change(run, outcome)
        path.write_text(json.dumps(outcome))
    text = write_report(plan, style or Style(), dict(title='made up'))
    return text, json.loads((tmp_path / 'results.json').read_text())['tables'][0], plan


def test_a_constant_gain_is_told_exactly(tmp_path):
    text, table, _ = report(tmp_path, dict(base=5, ours=8), base='base')
    assert '| base | 50.00 ± 0.00 | – | 3 |' in text
    assert '| ours | 80.00 ± 0.00 | +30.00 [+30.00, +30.00] | 3 |' in text
    assert '20 test clips of 2 subjects.' in text
    assert 'bootstrap over 2 subjects and the seeds of each row, expanded' in text
    gap = table['rows'][1]['differences']['top1']
    assert gap == pytest.approx(dict(value=30, low=30, high=30))
    assert (tmp_path / 'results.png').read_bytes().startswith(b'\x89PNG')
    record = json.loads((tmp_path / 'results.json').read_text())
    assert record['title'] == 'made up' and record['versions'] and 'commit' in record


def test_a_lead_is_told_from_the_references_side(tmp_path):
    measures = ('linear', 'knn')
    text, *_ = report(tmp_path, dict(rival=5, ours=8), LEAD, base='ours', measures=measures)
    assert '| **ours** | 80.00 ± 0.00 | 80.00 ± 0.00 | 3 |' in text
    assert '| ours over … | linear | kNN |' in text
    assert '| rival | +30.00 [+30.00, +30.00] | +30.00 [+30.00, +30.00] |' in text


def test_one_seed_has_no_interval(tmp_path):
    text, table, _ = report(tmp_path, dict(base=5, ours=8), seeds=1, base='base')
    assert '| ours | 80.00 | +30.00 | 1 |' in text and 'a row of one seed has none' in text
    assert table['rows'][1]['differences']['top1'] == dict(value=30, low=None, high=None)


def test_what_is_measured_of_all_clips_together_has_no_interval(tmp_path):
    options = dict(style=Style('rank', drawn=('rank',)), base='base', measures=('rank',))
    text, table, _ = report(tmp_path, dict(base=5, ours=8), **options)
    assert '| ours | 80.00 ± 0.00 | +30.00 | 3 |' in text
    assert table['rows'][1]['differences']['rank'] == dict(value=30, low=None, high=None)


def test_clips_without_subjects_are_the_clusters_and_the_table_says_so(tmp_path):
    def without(run, outcome):
        outcome['subjects'] = [''] * len(outcome['clips'])

    text, table, _ = report(tmp_path, dict(base=5, ours=8), change=without, base='base')
    assert table['clusters'] == 'clips' and len(table['names']) == 20
    assert set(table['totals']) == {1}
    assert 'bootstrap over 20 clips' in text and 'The clips have no subjects' in text
    assert '20 test clips.' in text
    gap = table['rows'][1]['differences']['top1']
    assert gap['low'] < 30 < gap['high']


def test_anyone_can_redo_an_interval_from_the_record(tmp_path):
    rng = np.random.default_rng(0)

    def noisy(run, outcome):
        outcome['scores']['top1'] = rng.integers(0, 2, len(outcome['clips'])).tolist()

    _, table, _ = report(tmp_path, dict(base=5, ours=8), change=noisy, seeds=4, base='base')
    first, second = (np.array(row['sums']['top1']) for row in table['rows'])
    assert first.shape == (4, 2) and table['totals'] == [10, 10] and table['names'] == ['2', '4']
    again = bootstrap_difference(first, second, np.array(table['totals']))
    told = table['rows'][1]['differences']['top1']
    assert {key: 100 * value for key, value in again.items()} == pytest.approx(told, abs=1e-3)
    means = 100 * second.sum(1) / 20
    assert table['rows'][1]['figures']['top1']['mean'] == pytest.approx(means.mean())
    assert table['rows'][1]['figures']['top1']['deviation'] == pytest.approx(
        means.std(ddof=1), abs=1e-3
    )


def test_what_is_not_finished_does_not_count(tmp_path):
    *_, plan = report(tmp_path, dict(base=5, ours=8), base='base')
    (tmp_path / plan.planned[0].path / 'outcome.json').unlink()
    (table,) = collect(Plan(tmp_path, plan.planned))
    assert [row['seeds'] for row in table['rows']] == [[1, 2], [0, 1, 2]]
    assert [row['missing'] for row in table['rows']] == [1, 0]


def test_a_seed_counts_when_all_its_folds_are_there(tmp_path):
    plan = Plan(tmp_path, [])
    for fold, subjects in ((('2',), ['2']), (('4',), ['4'])):
        for run in toy_runs.runs(dict(a=5), 2, subjects=subjects):
            object.__setattr__(run, 'left_out', fold)
            plan.planned.append(run)
    toy_runs.do(plan)
    (tmp_path / 'a/without_4/s1/outcome.json').unlink()
    (table,) = collect(Plan(tmp_path, plan.planned))
    assert table['rows'][0]['seeds'] == [0] and table['names'] == ['2', '4']


def test_other_clips_are_refused(tmp_path):
    def other(run, outcome):
        if (run.name, run.seed) == ('ours', 2):
            outcome['clips'][0] = 'another'

    with pytest.raises(UserError, match='ours, seed 2 was tested on other clips than the rest'):
        report(tmp_path, dict(base=5, ours=8), change=other)


def test_sections_are_ranked_and_synthetic_data_is_said(tmp_path):
    def synthetic(run, outcome):
        outcome['source'] = 'synthetic'

    plan = Plan(tmp_path, toy_runs.runs(dict(nothing=3, good=7, bad=2), 2, 'nothing'))
    toy_runs.do(plan)
    (table,) = collect(plan)
    for sign, order in ((1, ['nothing', 'good', 'bad']), (-1, ['nothing', 'bad', 'good'])):
        style = Style(ranked={'': sign})
        summarise(table, style)
        table['source'] = 'synthetic'
        text = markdown(table, style, ['A note.'])
        lines = [line.split(' | ')[0][2:] for line in text.splitlines() if line.startswith('| ')]
        assert [name for name in lines if name in order] == order
        assert 'SYNTHETIC data' in text and 'A note.' in text
    draw([table], style, tmp_path / 'a.png', 'title')
    assert (tmp_path / 'a.png').stat().st_size > 5000
