"""Evaluations with judges whose answers are known, so that every figure is."""

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mg_plugins import files
from mg_plugins.emotion.arms import (
    choose_prior,
    for_fitting,
    plan_questions,
    previews,
)
from mg_plugins.emotion.build import synthetic_scenarios
from mg_plugins.emotion.evaluation import evaluate
from mg_plugins.emotion.judges.lexicon import LexiconJudge, fit_prior
from mg_plugins.emotion.report import write_results
from mg_plugins.emotion.scenarios import Gesture, Scenario
from mg_plugins.emotion.tasks import JudgeError, Reply
from mg_plugins.errors import UserError

SIGN = {'win': 'raise fist', 'lose': 'hang head'}


def scenario(i, state, subject=None, split='test', **changes):
    """A session whose state can be read off one gesture, and off nothing else."""
    fields = dict(
        id=f'c{i:03d}', subject=subject or f'p{i // 4}', session=f'v{i}', domain='my_own',
        source='planted', context='I said what I said.',
        gestures=(Gesture('rub hand', 1, 2), Gesture(SIGN[state or 'win'], 3, 4)),
        question='How did it end?', options=('It was won.', 'It was lost.'),
        states=('win', 'lose'), valences=(1, -1), state=state, split=split,
    )  # fmt: skip
    return Scenario(**(fields | changes))


def planted(n=48, **changes):
    """n sessions, 4 of a subject, 2 of them won."""
    return [scenario(i, ('win', 'lose')[i % 2], **changes) for i in range(n)]


class ToldJudge:
    """Answers as ``rule(task)`` says: a letter's index, None to refuse, or a text as it is."""

    name = 'told'

    def __init__(self, rule, confidence=None):
        self.rule, self.confidence, self.asked = rule, confidence, []

    def identity(self):
        return {'kind': 'told'}

    async def reply(self, task):
        self.asked.append(task)
        told = self.rule(task)
        if isinstance(told, Exception):
            raise told
        if told is None:
            return Reply('', refusal=True)
        if isinstance(told, str):
            return Reply(told)
        content = {'answer': 'ABC'[told], 'reason': 'so'}
        if self.confidence is not None:
            content['confidence'] = self.confidence
        return Reply(json.dumps(content), tokens=10)

    async def close(self):
        pass


def reads_gestures(task):
    """Right where the timeline is the scenario's own; says 'win' where there is none."""
    names = {g.name for g in task.gestures or ()}
    return task.states.index('lose' if SIGN['lose'] in names else 'win')


def run(scenarios, rule, confidence=None, **settings):
    settings = {'name': 'x', 'baselines': False, 'bootstrap': 300, **settings}
    return evaluate(scenarios, ToldJudge(rule, confidence), **settings)


def test_a_judge_that_reads_gestures_is_right_with_them_only():
    result = run(planted(), reads_gestures, derangements=5)
    arms = result.metrics['arms']
    assert arms['with']['accuracy'] == {'value': 1.0, 'low': 1.0, 'high': 1.0}
    assert arms['without']['accuracy']['value'] == 0.5
    assert arms['placebo']['accuracy']['value'] == pytest.approx(0.5, abs=0.12)
    comparisons = result.metrics['comparisons']
    assert comparisons['with - without']['gain']['low'] > 0.3
    assert comparisons['with - without']['mcnemar']['b'] == 24
    assert comparisons['with - without']['mcnemar']['c'] == 0
    assert comparisons['with - without']['mcnemar']['p'] == pytest.approx(2 * 0.5**24)
    assert comparisons['with - placebo']['gain']['low'] > 0.2
    gain = comparisons['placebo - without']['gain']
    assert gain['low'] <= 0 <= gain['high']
    assert arms['with']['macro_f1']['value'] == 1
    assert arms['without']['macro_f1']['value'] == pytest.approx(1 / 3)  # 'win' 2/3, 'lose' 0


def test_liking_the_first_option_gains_nothing_once_options_rotate():
    metrics = run(planted(), lambda task: 0).metrics
    for arm in metrics['arms'].values():
        assert arm['accuracy']['value'] == 0.5
    assert metrics['comparisons']['with - without']['mcnemar'] == {'b': 0, 'c': 0, 'p': 1.0}
    biased = [scenario(i, 'win') for i in range(8)]
    assert run(biased, lambda task: 0).metrics['arms']['with']['accuracy']['value'] == 0.5


def test_three_options_rotate_through_every_place():
    cases = [
        scenario(
            i,
            'win',
            options=('won', 'drawn', 'lost'),
            states=('win', 'draw', 'lose'),
            valences=(1, 0, -1),
        )
        for i in range(6)
    ]
    result = run(cases, lambda task: 0)
    assert result.metrics['arms']['without']['accuracy']['value'] == pytest.approx(1 / 3)
    assert len({tuple(r['options']) for r in result.records}) == 3


def test_no_answer_counts_as_not_right_and_is_shown():
    """Four subjects of one scenario: answered right, refused, unreadable, failed."""
    told = {'s0': 'right', 's1': None, 's2': 'hm', 's3': JudgeError('dead')}

    def rule(task):
        what = told[task.context]
        return task.states.index('win') if what == 'right' else what

    cases = [scenario(i, 'win', subject=f'p{i}', context=f's{i}') for i in range(4)]
    result = run(cases, rule, confidence=0.8)
    for arm, orders in (('without', 1), ('with', 1), ('placebo', 3)):
        figures = result.metrics['arms'][arm]
        counts = {k: figures[k] for k in ('answered', 'refused', 'unreadable', 'failed')}
        assert set(counts.values()) == {2 * orders}
        assert figures['asked'] == 8 * orders and figures['not asked'] == 0
        assert figures['accuracy']['value'] == 0.25
        assert figures['macro_f1']['value'] == pytest.approx(2 / 5)  # 1 right, 3 missed
        assert figures['ece'] == pytest.approx(0.2) and figures['brier'] == pytest.approx(0.04)
        assert figures['mean_confidence'] == pytest.approx(0.8)
    failed = [r for r in result.records if r['status'] == 'failed']
    assert failed and all('dead' in r['text'] and r['reply'] is None for r in failed)
    assert all(r['correct'] is False for r in failed)


def test_no_confidences_no_calibration():
    figures = run(planted(8), lambda task: 0).metrics['arms']['with']
    assert figures['ece'] is figures['brier'] is figures['mean_confidence'] is None


def test_scenarios_of_unknown_state_are_judged_and_left_out():
    cases = [*planted(8), scenario(90, '', subject='q'), scenario(91, '', subject='q')]
    result = run(cases, reads_gestures)
    assert result.metrics['scenarios'] == 10
    assert result.metrics['arms']['with']['asked'] == 20
    assert result.metrics['arms']['with']['accuracy']['value'] == 1
    assert any(note.startswith('2 scenarios of unknown state') for note in result.metrics['notes'])
    unknown = [r for r in result.records if r['scenario'] == 'c090']
    assert unknown and all(r['truth'] is None and r['correct'] is None for r in unknown)


def test_nothing_is_known():
    cases = [replace(case, state='') for case in planted(6)]
    metrics = run(cases, reads_gestures).metrics
    assert metrics['arms']['with']['accuracy'] == {'value': None, 'low': None, 'high': None}
    assert metrics['comparisons']['with - without']['gain']['value'] is None
    assert metrics['arms']['with']['answered'] == 12
    json.dumps(metrics, allow_nan=False)


def test_training_scenarios_are_not_judged_and_fit_the_baselines():
    train = [
        replace(case, id=f't{i}', session=f't{i}', split='train')
        for i, case in enumerate(planted(24))
    ]
    cases = planted(16)
    result = run(train + cases, reads_gestures, baselines=True)
    assert {r['scenario'] for r in result.records} == {case.id for case in cases}
    baselines = result.metrics['baselines']
    assert baselines['majority']['accuracy']['value'] == 0.5
    assert baselines['bag of gestures']['accuracy']['value'] == 1
    assert baselines['bag of gestures']['macro_f1']['value'] == 1
    assert baselines['bag of gestures']['train_sessions'] == 24
    assert any('24 scenarios of split train' in note for note in result.metrics['notes'])


def test_without_training_scenarios_there_are_no_baselines_and_a_note():
    metrics = run(planted(8), reads_gestures, baselines=True).metrics
    assert metrics['baselines'] == {}
    assert any(note.startswith('No baselines') for note in metrics['notes'])


def test_a_budget_leaves_whole_scenarios_in_all_arms():
    cases = planted(12)
    result = run(cases, reads_gestures, ask={'max_calls': 25, 'concurrency': 1})
    metrics = result.metrics
    # Equal questions are asked once, and here all scenarios of a state are equal but for the id;
    # so is this, by their contexts.
    assert metrics['calls'] < 25
    cases = [replace(case, context=f'Words {i}.') for i, case in enumerate(cases)]
    metrics = run(cases, reads_gestures, ask={'max_calls': 25, 'concurrency': 1}).metrics
    assert metrics['calls'] == 25 and 'budget' in metrics['stopped']
    assert sum(arm['not asked'] for arm in metrics['arms'].values()) > 0
    left_out = next(note for note in metrics['notes'] if 'not asked to the end' in note)
    whole = 12 - int(left_out.split()[0])
    assert 1 <= whole <= 4
    assert metrics['arms']['with']['accuracy']['value'] == 1


def test_gestures_that_moved_answers():
    """'win' is said without gestures: 'hang head' turns wrong into right, 'raise fist' nothing."""
    cases = planted(8)
    liar = scenario(9, 'win', subject='p9', gestures=(Gesture(SIGN['lose'], 1, 2),))
    rows = {row['name']: row for row in run([*cases, liar], reads_gestures).metrics['gestures']}
    assert rows['hang head'] == {
        'name': 'hang head', 'scenarios': 5, 'to_right': 4, 'to_wrong': 1, 'cited': 0,
    }  # fmt: skip
    assert rows['rub hand'] == {
        'name': 'rub hand', 'scenarios': 8, 'to_right': 4, 'to_wrong': 0, 'cited': 0,
    }  # fmt: skip
    assert rows['raise fist']['to_right'] == rows['raise fist']['to_wrong'] == 0


def test_records_hold_what_was_sent_and_made_of_it():
    cases = planted(8)
    result = run(cases, reads_gestures, derangements=2, confidence=0.9)
    by_arm = Counter(r['arm'] for r in result.records)
    assert by_arm == {'without': 16, 'with': 16, 'placebo': 32}
    keys = [tuple(r[k] for k in ('scenario', 'arm', 'draw', 'rotation')) for r in result.records]
    assert len(set(keys)) == len(keys)
    names = {case.id: case for case in cases}
    for record in result.records:
        assert record['state'] == record['states'][record['choice']]
        assert record['correct'] == (record['state'] == names[record['scenario']].state)
        assert record['options'][0] in record['user'] and record['confidence'] == 0.9
        assert ('gestures_of' in record) == (record['arm'] == 'placebo')
        if record['arm'] == 'placebo':
            assert record['gestures_of'] != record['scenario']
            shown = names[record['gestures_of']].gestures[1].name
            assert shown in record['user']


def test_accuracy_is_the_mean_of_the_scenarios_means():
    result = run(planted(), lambda task: len(task.user) % 2, seed=3)
    for arm, figures in result.metrics['arms'].items():
        shares = {}
        for record in result.records:
            if record['arm'] == arm:
                shares.setdefault(record['scenario'], []).append(record['correct'])
        assert figures['accuracy']['value'] == pytest.approx(
            np.mean([np.mean(s) for s in shares.values()])
        )


def test_arms_can_be_left_out():
    metrics = run([scenario(0, 'win')], reads_gestures, arms=('without', 'with')).metrics
    assert list(metrics['arms']) == ['without', 'with']
    assert list(metrics['comparisons']) == ['with - without']
    assert any('One subject' in found for found in metrics['findings'])
    assert metrics['arms']['with']['accuracy'] == {'value': 1.0, 'low': None, 'high': None}


def test_what_cannot_be_judged():
    with pytest.raises(UserError, match='every scenario is of split train'):
        run(planted(4, split='train'), reads_gestures)
    with pytest.raises(UserError, match='open-ended scenarios in one file'):
        run([*planted(4), scenario(9, 'win', options=())], reads_gestures)
    with pytest.raises(UserError, match='half of the 1 scenarios'):
        run([scenario(0, 'win')], reads_gestures)


def says_more_with_gestures(task):
    if task.gestures is None:
        return 'Fine, I think.'
    return 'Sure: relief, because the hands rest. A moment of it shows, although it may pass.'


def deeper_if_longer(task):
    text = task.user.rsplit('grade:\n', 1)[1]
    return json.dumps({'covered': [1, 2], 'depth': 4 if len(text) > 20 else 1})


def test_open_ended_answers_get_completeness_and_depth():
    cases = [replace(case, options=()) for case in planted(8)]
    grader = ToldJudge(deeper_if_longer)
    result = run(cases, says_more_with_gestures, rubric_judge=grader)
    metrics = result.metrics
    assert metrics['open_ended'] and metrics['rubric_judge'] == 'told'
    assert metrics['open']['with']['depth']['value'] == 4
    assert metrics['open']['without']['depth']['value'] == 1
    assert metrics['open']['with']['completeness']['value'] == pytest.approx(0.4)
    assert metrics['open_comparisons']['with - without']['depth']['value'] == 3
    assert metrics['open_comparisons']['with - placebo']['depth']['value'] == 0
    assert metrics['comparisons'] == {} and metrics['gestures'] == []
    assert metrics['arms']['with']['accuracy']['value'] is None
    record = next(r for r in result.records if r['arm'] == 'with')
    assert record['depth'] == 4 and record['correct'] is None
    # The limit on requests is one for questions and scores together.
    most = metrics['calls'] - 1
    limited = run(cases, says_more_with_gestures, rubric_judge=grader, ask={'max_calls': most})
    assert limited.metrics['calls'] == most and 'budget' in limited.metrics['stopped']


def test_open_ended_answers_without_a_rubric_judge_have_their_evidence():
    cases = [replace(case, options=(), context='I felt good out there.') for case in planted(8)]
    cases[0] = replace(cases[0], context='silent')

    def cites(task):
        if task.context == 'silent':
            return None
        return ' '.join(f'I see {g.name}.' for g in task.gestures or ()) or '"felt good out there"'

    metrics = run(cases, cites).metrics
    assert metrics['rubric_judge'] is None
    assert metrics['open']['with']['evidence']['value'] == pytest.approx(2 / 3 * 7 / 8)
    assert metrics['open']['without']['evidence']['value'] == pytest.approx(1 / 3 * 7 / 8)
    assert metrics['open_comparisons']['with - without']['evidence']['value'] > 0.2
    assert metrics['open']['with']['depth'] == {'value': None, 'low': None, 'high': None}


def test_open_ended_questions_without_an_answer_score_nothing():
    cases = [replace(case, options=(), context=f'c{i}') for i, case in enumerate(planted(4))]
    told = run(
        cases,
        lambda task: None if task.context == 'c0' else 'It is relief because they smile.',
        rubric_judge=ToldJudge(deeper_if_longer),
    )
    assert told.metrics['open']['with']['depth']['value'] == 4 * 3 / 4


def test_the_rubric_judge_is_blind():
    cases = [replace(case, options=()) for case in planted(8)]

    def grades(task):
        text = task.user.rsplit('grade:\n', 1)[1]
        return json.dumps({'covered': [1] if 'relief' in text else [], 'depth': 2})

    grader = ToldJudge(grades)
    grader.name = 'grader'
    metrics = run(cases, says_more_with_gestures, rubric_judge=grader).metrics
    assert metrics['rubric_judge'] == 'grader'
    assert metrics['open']['with']['completeness']['value'] == pytest.approx(0.2)
    assert metrics['open']['without']['completeness']['value'] == 0
    sent = '\n'.join(task.system + task.user for task in grader.asked)
    assert not re.search(r'placebo|\bwith(out)? gestures|hang head|raise fist|c00|p0', sent)
    assert not re.search(r'\b(win|lose)\b', sent)
    assert all(task.states == () and task.gestures is None for task in grader.asked)


def test_an_answer_that_got_no_score_is_left_out_and_counted():
    cases = [replace(case, options=()) for case in planted(4)]
    metrics = run(
        cases, says_more_with_gestures, rubric_judge=ToldJudge(lambda task: 'good')
    ).metrics
    assert metrics['open']['with']['depth']['value'] is None
    assert any('got no score' in note for note in metrics['notes'])


def test_results_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    result = run(planted(8), reads_gestures)
    paths = write_results(tmp_path / 'out', [result])
    content = json.loads(paths['metrics'].read_text())
    assert content['evaluations'][0]['arms']['with']['accuracy']['value'] == 1
    lines = paths['answers'].read_text().splitlines()
    assert [json.loads(line) for line in lines] == json.loads(json.dumps(result.records))
    assert '</html>' in paths['report'].read_text()
    before = paths['answers'].read_bytes()

    def full(*_):
        raise OSError('disk full')

    monkeypatch.setattr(files.os, 'replace', full)
    with pytest.raises(OSError, match='disk full'):
        write_results(tmp_path / 'out', [result, result])
    assert paths['answers'].read_bytes() == before
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == sorted(
        p.name for p in paths.values()
    )


def test_same_seed_same_figures():
    one, same, other = (run(planted(), reads_gestures, seed=seed).metrics for seed in (1, 1, 2))
    assert one['arms'] == same['arms'] and one['comparisons'] == same['comparisons']
    assert one['arms']['placebo'] != other['arms']['placebo']


def test_a_limit_leaves_the_placebo_all_timelines():
    cases = [replace(case, id=f'x{i}') for i, case in enumerate(planted(20))]
    chosen = [plan_questions(cases, limit=1, seed=seed) for seed in range(4)]
    assert all(len({q.scenario for q in questions}) == 1 for questions in chosen)
    assert len({questions[0].scenario for questions in chosen}) > 1
    whole = {(q.scenario, q.arm, q.draw): q.gestures_of for q in plan_questions(cases, seed=1)}
    for question in chosen[1]:
        key = question.scenario, question.arm, question.draw
        assert question.gestures_of == whole[key]
    metrics = evaluate(cases, LexiconJudge(), name='x', limit=1, bootstrap=10).metrics
    assert metrics['scenarios'] == metrics['subjects'] == 1
    assert metrics['arms']['placebo']['answered'] == 6


def test_the_prior_is_fitted_where_there_is_enough():
    train = planted(20, split='train')
    assert choose_prior(train).name.startswith('fitted')
    assert choose_prior(train[:16]).name == 'documented'
    assert choose_prior(train, 'documented').name == 'documented'
    with pytest.raises(ValueError, match='0 labelled'):
        choose_prior(planted(20), 'fitted')


def test_previews_are_what_is_sent():
    cases = planted(8)
    judge = ToldJudge(reads_gestures)
    evaluate(cases, judge, name='x', baselines=False, bootstrap=10)
    shown = previews(cases, 'c003')
    assert {title.split(', ')[1] for title, _ in shown} == {'without', 'with', 'placebo'}
    assert {(t.system, t.user) for _, t in shown} <= {(t.system, t.user) for t in judge.asked}
    assert previews(cases)[0][0].startswith('c000')
    with pytest.raises(UserError, match="no scenario 'zzz' would be judged; there are 8"):
        previews(cases, 'zzz')


def test_a_prior_is_fitted_to_others_than_are_judged():
    both = synthetic_scenarios(True, subjects=12, clips=600)
    cases, train = ([s for s in both if (s.split == 'train') == side] for side in (False, True))
    assert choose_prior(both).affect == fit_prior(train).affect
    # Copies of judged sessions among the training ones are not fitted to, and it is said.
    copies = [replace(s, id=f'{s.id}-copy', split='train') for s in cases]
    assert for_fitting([*cases, *copies]) == []
    notes = evaluate([*cases, *copies], LexiconJudge(), name='x', bootstrap=50).metrics['notes']
    assert any(f'{len(cases)} sessions of split train are judged' in note for note in notes)
