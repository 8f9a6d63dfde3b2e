"""Figures and intervals, against cases worked out by hand and against SciPy and scikit-learn."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mg_plugins.emotion.statistics import (
    Bootstrap,
    brier_score,
    expected_calibration_error,
    macro_f1,
    majority,
    mcnemar,
)


def test_a_mean_weighs_scenarios_not_subjects():
    boot = Bootstrap(['a', 'a', 'a', 'b'], 500)
    assert boot.mean(np.array([1, 1, 1, 0]))['value'] == 0.75


def test_a_subject_is_drawn_with_all_its_scenarios():
    # Two people, one always right and one never: a draw has 0, 1 or 2 of the first.
    values = np.array([1, 1, 1, 0])
    boot = Bootstrap(['a', 'a', 'a', 'b'], 4000, seed=1)
    drawn = []
    boot.interval(
        np.stack([values, np.ones(4)], -1), lambda s: drawn.append(s) or s[..., 0] / s[..., 1]
    )
    ratios = drawn[1][..., 0] / drawn[1][..., 1]
    assert set(np.round(ratios, 6)) == {0.0, 0.75, 1.0}
    assert np.isclose((ratios == 0.75).mean(), 0.5, atol=0.03)
    assert np.isclose((ratios == 1).mean(), 0.25, atol=0.03)


def test_interval_is_scipys_at_the_moved_level_when_each_subject_has_one_scenario():
    random = np.random.default_rng(3)
    values = random.normal(size=15)
    ours = Bootstrap([f's{i}' for i in range(15)], 40000, seed=2).mean(values)
    tail = stats.norm.cdf(stats.t.ppf(0.025, 14) * math.sqrt(15 / 14))
    scipys = stats.bootstrap(
        (values,), np.mean, n_resamples=40000, method='percentile', confidence_level=1 - 2 * tail,
        rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    assert ours['value'] == pytest.approx(values.mean())
    assert ours['low'] == pytest.approx(scipys.low, abs=0.03)
    assert ours['high'] == pytest.approx(scipys.high, abs=0.03)
    # By Hesterberg's design it is about the t interval where the data are normal.
    t = stats.t.interval(0.95, 14, values.mean(), stats.sem(values))
    assert ours['high'] - ours['low'] == pytest.approx(t[1] - t[0], rel=0.1)


def test_clusters_widen_the_interval():
    # 10 people with 8 equal sessions each: as good as 10 sessions, not 80.
    people = np.repeat(np.random.default_rng(0).integers(0, 2, 10), 8)
    names = np.repeat(np.arange(10), 8)
    clustered = Bootstrap([f'{n}' for n in names], 4000).mean(people)
    single = Bootstrap([f'{n}' for n in range(10)], 4000).mean(people[::8])
    naive = Bootstrap([f'{n}' for n in range(80)], 4000).mean(people)
    assert clustered == single
    assert clustered['high'] - clustered['low'] > 2 * (naive['high'] - naive['low'])


def test_coverage_with_few_subjects():
    """95% intervals over 8 subjects of 6 sessions hold the true mean about that often."""
    random = np.random.default_rng(11)
    names = np.repeat([f's{i}' for i in range(8)], 6)
    held = 0
    for run in range(400):
        values = 0.3 + np.repeat(random.normal(size=8), 6) + random.normal(size=48)
        interval = Bootstrap(names, 600, seed=run).mean(values)
        held += interval['low'] <= 0.3 <= interval['high']
    assert 0.91 <= held / 400 <= 0.99


def test_paired_results_have_the_narrower_interval():
    random = np.random.default_rng(7)
    names = [f's{i}' for i in range(30)]
    before = random.random(30)
    after = before + 0.1 + 0.01 * random.normal(size=30)
    boot = Bootstrap(names, 2000)
    gain, one, other = boot.mean(after - before), boot.mean(before), boot.mean(after)
    assert gain['value'] == pytest.approx(0.1, abs=0.01)
    assert gain['high'] - gain['low'] < 0.02 < other['high'] - one['low']


def test_same_seed_same_interval_and_one_subject_has_none():
    values = np.arange(6) / 5
    names = list('aabbcc')
    assert Bootstrap(names, 300, 4).mean(values) == Bootstrap(names, 300, 4).mean(values)
    assert Bootstrap(['a'] * 6, 300).mean(values) == {'value': 0.5, 'low': None, 'high': None}
    assert Bootstrap([], 300).mean(np.zeros(0))['value'] is None


def test_ratio_leaves_out_draws_in_which_nobody_answered():
    boot = Bootstrap(list('abc'), 2000)
    interval = boot.ratio(np.array([0.5, 0, 0]), np.array([1.0, 0, 0]))
    assert interval == {'value': 0.5, 'low': 0.5, 'high': 0.5}
    assert boot.ratio(np.zeros(3), np.zeros(3)) == {'value': None, 'low': None, 'high': None}


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
    interval = boot.macro_f1(matrices)
    assert interval['value'] == pytest.approx(1 / 3)
    assert interval['low'] == pytest.approx(interval['high']) == pytest.approx(1 / 3)


def test_calibration_by_hand():
    # Bin 0.7-0.8: 0.7 and 0.78 with one right (gap 0.24); bin 0.9-1: 0.95 and 1 right (gap 0.025).
    error = expected_calibration_error(np.array([0.7, 0.78, 0.95, 1.0]), np.array([1, 0, 1, 1]))
    assert error == pytest.approx(0.5 * 0.24 + 0.5 * 0.025)
    assert expected_calibration_error(np.zeros(0), np.zeros(0)) is None


def test_confident_and_right_is_calibrated_and_confident_and_wrong_is_not():
    assert expected_calibration_error(np.ones(4), np.ones(4)) == 0
    assert expected_calibration_error(np.ones(4), np.zeros(4)) == 1
    assert expected_calibration_error(np.full(4, 0.5), np.array([0, 1, 0, 1])) == 0


def test_brier_is_scikit_learns():
    random = np.random.default_rng(0)
    confidence, correct = random.random(50), random.integers(0, 2, 50)
    theirs = metrics.brier_score_loss(correct, confidence)
    assert brier_score(confidence, correct) == pytest.approx(theirs)
    assert brier_score(np.zeros(0), np.zeros(0)) is None


def test_mcnemar_by_hand():
    # 7 right in the first only, 1 in the second only: 2 (C(8,0) + C(8,1)) / 2^8.
    first = np.array([1] * 7 + [0] + [1] * 5 + [0] * 3)
    second = np.array([0] * 7 + [1] + [1] * 5 + [0] * 3)
    result = mcnemar(first, second)
    assert (result['b'], result['c']) == (7, 1)
    assert result['p'] == pytest.approx(2 * (1 + 8) / 256)
    assert mcnemar(first, first) == {'b': 0, 'c': 0, 'p': 1.0}
    assert mcnemar(np.zeros(0), np.zeros(0))['p'] == 1.0


def test_majority():
    votes = np.array([[2, 1, 0], [1, 1, 0], [0, 1, 2], [1, 1, 2], [0, 3, 3], [0, 1, 0]])
    assert majority(votes).tolist() == [0, -1, 2, 2, -1, 1]
    assert majority(np.zeros((0, 3))).tolist() == []


def test_names_of_subjects_do_not_matter():
    """Opaque ids differ in every build; the same people in the same order, the same interval."""
    right = np.random.default_rng(0).random((24, 2))
    figure = lambda sums: sums[:, 0] / sums[:, 1]  # noqa: E731
    one = Bootstrap([f'p{i // 3}' for i in range(24)]).interval(right, figure)
    other = Bootstrap([f'x{99 - i // 3}' for i in range(24)]).interval(right, figure)
    assert one == other
