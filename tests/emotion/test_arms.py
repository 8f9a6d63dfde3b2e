"""The plan of an evaluation: which question in which arm, and the placebo's exchanges."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mg_plugins.emotion.arms import derange, plan_questions, rotate
from mg_plugins.emotion.scenarios import Gesture, Scenario
from mg_plugins.errors import UserError


def scenario(i, subject='', domain='d', gestures=3, options=2, split='test', open_ended=False):
    names = tuple(f's{k}' for k in range(options))
    return Scenario(
        id=f'c{i}', subject=subject or f'p{i}', session=f'v{i}', domain=domain, source='x',
        context='…', gestures=tuple(Gesture(f'g{i}', k, k + 1) for k in range(gestures)),
        question='?', options=() if open_ended else names, states=names,
        valences=tuple(np.linspace(1, -1, options)), state='s0', split=split,
    )  # fmt: skip


@pytest.mark.parametrize('n', [2, 3, 5, 40])
def test_no_scenario_gets_its_own_timeline(n):
    for seed in range(10):
        for draw in derange([scenario(i) for i in range(n)], 4, seed):
            assert sorted(draw) == list(range(n))
            assert (draw != np.arange(n)).all()


def test_exchanges_keep_to_domain_and_split_and_leave_the_subject():
    cases = [
        scenario(i, subject=f'p{i % 8}', domain='ab'[i % 2], split=('test', '')[i // 2 % 2])
        for i in range(48)
    ]
    for draw in derange(cases, 5, seed=3):
        for case, j in zip(cases, draw, strict=True):
            assert (cases[j].domain, cases[j].split) == (case.domain, case.split)
            assert cases[j].subject != case.subject


def test_where_it_must_be_the_own_subject_it_still_is_another_scenario():
    draw = derange([scenario(i, subject='p') for i in range(4)], 1)[0]
    assert (draw != np.arange(4)).all()


def test_several_exchanges_differ_for_every_scenario():
    draws = np.stack(derange([scenario(i) for i in range(12)], 4, seed=1))
    assert all(len(set(column)) == 4 for column in draws.T)


def test_exchanges_follow_from_the_seed():
    cases = [scenario(i) for i in range(30)]
    one, same, other = (np.stack(derange(cases, 3, seed)) for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()


def test_lengths_are_matched_loosely():
    lengths = np.random.default_rng(0).permutation(np.arange(60))
    cases = [scenario(i, gestures=int(g)) for i, g in enumerate(lengths)]
    draw = derange(cases, 1)[0]
    assert abs(lengths[draw] - lengths).mean() < 10  # 20 by chance
    assert len(set(abs(lengths[draw] - lengths))) > 5


def test_one_scenario_cannot_be_exchanged():
    with pytest.raises(UserError, match='more than half of the 1 scenarios: give more'):
        plan_questions([scenario(0)])
    assert len(plan_questions([scenario(0)], arms=('without', 'with'))) == 4


def test_rotations():
    assert rotate(2) == [(0, 1), (1, 0)]
    assert rotate(3) == [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    assert len(rotate(5)) == 3 and len({order[0] for order in rotate(5)}) == 3
    assert rotate(6) == [tuple((i + shift) % 6 for i in range(6)) for shift in (0, 2, 4)]


def test_the_plan():
    cases = [scenario(i, options=3) for i in range(4)]
    plan = plan_questions(cases, derangements=2)
    assert Counter(q.arm for q in plan) == {'without': 12, 'with': 12, 'placebo': 24}
    assert [q.scenario for q in plan] == sorted(q.scenario for q in plan)
    keys = [(q.scenario, q.arm, q.draw, q.rotation) for q in plan]
    assert len(set(keys)) == len(keys)
    for q in plan:
        own = cases[q.scenario]
        assert q.task.options == tuple(own.options[i] for i in rotate(3)[q.rotation])
        if q.arm == 'without':
            assert q.task.gestures is None and q.gestures_of is None
        elif q.arm == 'with':
            assert q.task.gestures == own.gestures and q.gestures_of == q.scenario
        else:
            assert q.task.gestures == cases[q.gestures_of].gestures
            assert q.gestures_of != q.scenario


def test_open_ended_has_one_rotation():
    plan = plan_questions([scenario(i, open_ended=True) for i in range(3)])
    assert {q.rotation for q in plan} == {0} and len(plan) == 3 * (1 + 1 + 3)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'arms': ('wth',)}, 'some of without, with, placebo'),
        ({'arms': ()}, 'some of'),
        ({'derangements': 0}, 'derangements 0 and limit None: at least 1'),
        ({'limit': -1}, 'limit -1: at least 1'),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        plan_questions([scenario(0), scenario(1)], **settings)


def test_a_session_s_other_questions_are_no_placebo():
    """Two questions a session of few subjects: nobody is shown the own session's gestures."""
    cases = [
        replace(scenario(i), session=f'v{i // 2}', subject=f'p{i // 2 % 2}') for i in range(12)
    ]
    for draw in derange(cases, 4):
        assert sorted(draw) == list(range(12))
        assert all(cases[i].session != cases[j].session for i, j in enumerate(draw))
    uneven = [replace(c, session='v0') for c in cases[:8]] + cases[8:]
    with pytest.raises(UserError, match='more than half'):
        derange(uneven, 1)
