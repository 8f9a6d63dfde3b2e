"""Figures, against cases worked out by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from mg_plugins.data.statistics import Bootstrap
from mg_plugins.emotion.figures import (
    expected_calibration_error,
    macro_f1,
    majority,
    mcnemar,
)


def confusion_of(truth, chosen, states, weight=None):
    matrix = np.zeros((states, states + 1))
    np.add.at(matrix, (truth, chosen), 1 if weight is None else weight)
    return matrix


def test_macro_f1_by_hand():
    # State 0: 2 right, 1 missed, 1 accused: F1 = 4 / (4 + 1 + 1) = 2/3. State 1: 1 right, 1
    # missed and 1 accused: 1/2.
    assert macro_f1(np.array([[2, 1, 0], [1, 1, 0]])) == pytest.approx((2 / 3 + 1 / 2) / 2)
    # No answer misses the true state and accuses none: 2·2/(2·2 + 1).
    assert macro_f1(np.array([[2, 0, 1], [0, 3, 0]])) == pytest.approx((4 / 5 + 1) / 2)


@pytest.mark.parametrize('states', [2, 3, 5])
def test_macro_f1_is_scikit_learns(states):
    random = np.random.default_rng(states)
    truth = random.integers(0, states, 60)
    chosen = np.where(random.random(60) < 0.5, truth, random.integers(0, states, 60))
    weight = random.random(60)
    ours = macro_f1(confusion_of(truth, chosen, states, weight))
    theirs = metrics.f1_score(truth, chosen, average='macro', sample_weight=weight)
    assert ours == pytest.approx(theirs)
    without = random.random(60) < 0.2
    ours = macro_f1(confusion_of(truth, np.where(without, states, chosen), states))
    theirs = metrics.f1_score(
        truth, np.where(without, states, chosen), labels=range(states), average='macro'
    )
    assert ours == pytest.approx(theirs)


def test_macro_f1_leaves_out_states_that_do_not_occur():
    truth, chosen = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    theirs = metrics.f1_score(truth, chosen, average='macro')
    assert macro_f1(confusion_of(truth, chosen, 3)) == pytest.approx(theirs)
    assert np.isnan(macro_f1(np.zeros((2, 3))))


def test_macro_f1_interval_draws_subjects():
    # Each subject has a right and a wrong one: the same in every draw.
    matrices = np.array([[[1, 0, 0], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]]] * 4, float)
    boot = Bootstrap(list('aabbccdd'), 500)
    interval = boot.interval(matrices, macro_f1)
    assert interval['value'] == pytest.approx(1 / 3)
    assert interval['low'] == pytest.approx(interval['high']) == pytest.approx(1 / 3)


def test_calibration_by_hand():
    # Bin 0.7-0.8: 0.7 and 0.78 with one right (gap 0.24); bin 0.9-1: 0.95 and 1 right (gap 0.025).
    error = expected_calibration_error(np.array([0.7, 0.78, 0.95, 1.0]), np.array([1, 0, 1, 1]))
    assert error == pytest.approx(0.5 * 0.24 + 0.5 * 0.025)


def test_confident_and_right_is_calibrated_and_confident_and_wrong_is_not():
    assert expected_calibration_error(np.ones(4), np.ones(4)) == 0
    assert expected_calibration_error(np.ones(4), np.zeros(4)) == 1
    assert expected_calibration_error(np.full(4, 0.5), np.array([0, 1, 0, 1])) == 0


def test_mcnemar_by_hand():
    # 7 right in the first only, 1 in the second only: 2 (C(8,0) + C(8,1)) / 2^8.
    first = np.array([1] * 7 + [0] + [1] * 5 + [0] * 3, bool)
    second = np.array([0] * 7 + [1] + [1] * 5 + [0] * 3, bool)
    result = mcnemar(first, second)
    assert (result['b'], result['c']) == (7, 1)
    assert result['p'] == pytest.approx(2 * (1 + 8) / 256)
    assert mcnemar(first, first) == {'b': 0, 'c': 0, 'p': 1.0}
    assert mcnemar(np.zeros(0, bool), np.zeros(0, bool))['p'] == 1.0


def test_majority():
    votes = np.array([[2, 1, 0], [1, 1, 0], [0, 1, 2], [1, 1, 2], [0, 3, 3], [0, 1, 0]])
    assert majority(votes).tolist() == [0, -1, 2, 2, -1, 1]
    assert majority(np.zeros((0, 3))).tolist() == []
