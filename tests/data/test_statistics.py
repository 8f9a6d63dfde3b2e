"""The one bootstrap, against cases worked out by hand and against SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from mg_plugins.data.statistics import Bootstrap, bootstrap_difference, expanded_levels


def test_levels_are_hesterbergs():
    # Φ(−2.776 · √(5/4)), Φ(−1.962 · √(1000/999)): few clusters move the levels far outwards.
    assert expanded_levels(5) == pytest.approx([0.00096, 0.99904], abs=2e-5)
    assert expanded_levels(1000) == pytest.approx([0.0248, 0.9752], abs=1e-4)


def test_equal_sides_are_centred_and_a_constant_gap_is_exact():
    clips = np.array([50, 100, 50])
    first = np.array([[40, 80, 40]] * 4)
    gap = bootstrap_difference(first, first + [[5, 10, 5]], clips, draws=500)
    assert gap == pytest.approx(dict(value=0.1, low=0.1, high=0.1))
    noisy = np.random.default_rng(0).integers(30, 50, size=(6, 3))
    same = bootstrap_difference(noisy, noisy, clips)
    assert same['value'] == 0 and same['low'] == pytest.approx(-same['high'], rel=0.15)
    assert same['high'] > 0.01


def test_seeds_and_subjects_both_count():
    """Two sides of equal means: what varies is the interval's width."""
    totals = np.full(40, 10)
    spread = np.random.default_rng(1).normal(0, 2, 40)
    flat = np.full((8, 40), 5.0)
    by_subject = bootstrap_difference(flat, flat + spread, totals)
    seeds = np.random.default_rng(2).normal(0, 1, 8)[:, None]
    by_seed = bootstrap_difference(flat, flat + seeds, totals)
    both = bootstrap_difference(flat, flat + spread + seeds, totals)
    low, high = expanded_levels(40)
    z = stats.norm.ppf(high)
    width = {name: (i['high'] - i['low']) / 2 for name, i in
             dict(subject=by_subject, seed=by_seed, both=both).items()}  # fmt: skip
    assert width['subject'] == pytest.approx(z * spread.std() / 10 / math.sqrt(40), rel=0.08)
    assert width['seed'] == pytest.approx(z * seeds.std() / 10 / math.sqrt(8), rel=0.12)
    assert width['both'] == pytest.approx(math.hypot(width['subject'], width['seed']), rel=0.08)


def test_sides_share_their_subjects_and_not_their_seeds():
    # Subjects differ widely, both sides alike: paired, that cancels. Seeds do not cancel.
    totals = np.full(10, 10)
    hard = np.linspace(0, 10, 10)
    paired = bootstrap_difference(np.tile(hard, (3, 1)), np.tile(hard, (3, 1)), totals)
    assert paired == pytest.approx(dict(value=0, low=0, high=0), abs=1e-12)
    seeds = np.array([[0.0], [5.0], [10.0]]) + np.zeros(10)
    crossed = bootstrap_difference(seeds, seeds, totals)
    assert crossed['low'] < -0.3 and crossed['high'] > 0.3


@pytest.mark.parametrize('shape', [((1, 3), (4, 3)), ((4, 3), (1, 3)), ((4, 1), (4, 1))])
def test_one_seed_or_one_subject_has_no_interval(shape):
    first, second = (np.full(s, float(n)) for n, s in enumerate(shape))
    interval = bootstrap_difference(first, second, np.full(shape[0][1], 4))
    assert interval == dict(value=0.25, low=None, high=None)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r'same subjects, got \(2, 3\), \(2, 4\)'):
        bootstrap_difference(np.zeros((2, 3)), np.zeros((2, 4)), np.ones(3))


def test_many_clusters_are_drawn_in_blocks():
    right = (np.random.default_rng(3).random((2, 3000)) < 0.5).astype(float)
    interval = bootstrap_difference(right, right[::-1], np.ones(3000), draws=3000)
    assert interval['low'] < 0 < interval['high'] < 0.1


def test_coverage_with_five_subjects():
    """Intervals over 5 subjects and 4 seeds a side hold the true difference about as promised."""
    random = np.random.default_rng(11)
    held = 0
    for run in range(300):
        gap = 0.5 + random.normal(size=5)
        first, second = (m + random.normal(0, 0.3, (4, 5)) for m in (np.zeros(5), gap))
        interval = bootstrap_difference(first, second, np.ones(5), draws=1500, seed=run)
        held += interval['low'] <= 0.5 <= interval['high']
    assert 0.90 <= held / 300 <= 0.99


def test_samples_with_clusters_of_several_agree_with_scipy():
    values = np.random.default_rng(3).normal(size=15)
    ours = Bootstrap(range(15), 40_000, seed=2).mean(values)
    low, high = expanded_levels(15)
    scipys = stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, method='percentile', confidence_level=high - low,
        rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    assert (ours['low'], ours['high']) == pytest.approx(tuple(scipys), abs=0.03)
    # Ten people of eight equal sessions each are worth ten, whatever they are called.
    people = np.random.default_rng(0).integers(0, 2, 10)
    clustered = Bootstrap(np.repeat(list('abcdefghij'), 8)).mean(np.repeat(people, 8))
    assert clustered == Bootstrap(range(10)).mean(people)


def test_ratio_and_what_has_no_value():
    boot = Bootstrap(['a', 'b', 'c'])
    assert boot.ratio(np.array([0.5, 0, 0]), np.array([1.0, 0, 0])) == pytest.approx(
        dict(value=0.5, low=0.5, high=0.5)
    )
    nothing = dict(value=None, low=None, high=None)
    assert boot.ratio(np.zeros(3), np.zeros(3)) == nothing
    assert Bootstrap([]).mean(np.zeros(0)) == nothing
    assert Bootstrap(['a'] * 4).mean(np.arange(4)) == dict(value=1.5, low=None, high=None)
