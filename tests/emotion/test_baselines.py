"""The learned baseline: it learns what is there, and only that."""

import random
from dataclasses import replace

import numpy as np
import pytest

from mg_plugins.emotion.figures import _bag, bag_baseline
from mg_plugins.emotion.scenarios import Gesture, Scenario
from mg_plugins.errors import UserError


def scenario(number, subject, state, names):
    gestures = tuple(Gesture(n, 4.0 * k, 4.0 * k + 1.5, 0.8) for k, n in enumerate(names))
    return Scenario(
        id=f'q{number}',
        subject=subject,
        session=f's{number}',
        domain='post_match',
        source='synthetic',
        context='',
        gestures=gestures,
        question='?',
        options=('won', 'lost'),
        states=('win', 'lose'),
        valences=(1.0, -1.0),
        state=state,
    )


def sessions(number, names, seed, subjects=12):
    """Sessions whose gestures `names(state, random generator)` draws, states in turn."""
    draw = random.Random(seed)
    states = [('win', 'lose')[k // subjects % 2] for k in range(number)]
    return [
        scenario(f'{seed}-{k}', f'p{seed}-{k % subjects}', state, names(state, draw))
        for k, state in enumerate(states)
    ]


def counted(state, draw):
    names = draw.choices(['rub hand', 'bite lip', 'fold arm'], k=14)
    return names + ['cover face' if state == 'lose' else 'head up'] * draw.choice([1, 2, 3])


def unlinked(state, draw):
    return draw.choices(['rub hand', 'bite lip', 'fold arm', 'cover face', 'head up'], k=15)


def accuracy(result, test):
    return np.mean([p == s.state for p, s in zip(result['predictions'], test, strict=True)])


def test_learns_a_link_and_finds_none_where_there_is_none():
    train, test = sessions(120, counted, 1), sessions(96, counted, 2)
    result = bag_baseline(train, test)
    assert accuracy(result, test) > 0.9
    assert result['train_sessions'] == 120
    train, test = sessions(120, unlinked, 1), sessions(96, unlinked, 2)
    # Three standard errors of a coin.
    assert abs(accuracy(bag_baseline(train, test), test) - 0.5) < 3 * 0.5 / 96**0.5


def test_same_seed_same_figures():
    train, test = sessions(48, counted, 1), sessions(24, counted, 2)
    np.random.seed(98)
    first = bag_baseline(train, test, seed=3)
    np.random.seed(99)
    assert bag_baseline(train, test, seed=3) == first
    # True states of the test scenarios play no part.
    assert bag_baseline(train, [replace(s, state='') for s in test], seed=3) == first


def test_odd_sessions():
    train = sessions(48, counted, 1)
    # Twice the same session, asked in two ways, is one; without a state it is none.
    twice = [*train, *[replace(s, id=f'{s.id}b') for s in train], replace(train[0], session='u')]
    twice[-1] = replace(twice[-1], state='')
    empty, strange = scenario(900, 'x', '', []), scenario(901, 'x', '', ['juggle'] * 4)
    long = scenario(902, 'x', '', ['head up'] * 2000)
    result = bag_baseline([*twice, scenario(903, 'y', 'win', [])], [empty, strange, long])
    assert result['train_sessions'] == 49
    assert set(result['predictions']) <= {'win', 'lose'} and len(result['predictions']) == 3
    assert bag_baseline(train, [])['predictions'] == []
    # A name that training never saw says as much as any other such name.
    other = scenario(901, 'x', '', ['whistle'] * 4)
    assert np.array_equal(*(_bag(s.gestures, ['head up']) for s in (strange, other)))


def test_one_subject_and_tiny_sets():
    train = sessions(6, counted, 1, subjects=1)
    assert len(bag_baseline(train, train)['predictions']) == 6


def test_what_cannot_be_learned_is_said():
    train = sessions(24, counted, 1)
    with pytest.raises(UserError, match='the 12 training sessions of known state have 1 of them'):
        bag_baseline([s for s in train if s.state == 'win'], train)
    with pytest.raises(UserError, match='the 0 training sessions of known state have 0'):
        bag_baseline([replace(s, state='') for s in train], train)
