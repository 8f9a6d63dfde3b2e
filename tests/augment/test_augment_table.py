"""Every augmentation of the table: properties that hold for all, and a case by hand for each."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mg_plugins.augment as F
from mg_plugins.augment.base import AUGMENTATIONS, Draws, build_augmentation
from mg_plugins.augment.chain import Chain, Drawn, recipe_names
from mg_plugins.data.arrays import planes
from mg_plugins.data.layouts import LayoutError, get_layout, layout_names

LAYOUTS = [get_layout(name) for name in layout_names()]
NAMES = sorted(AUGMENTATIONS)
BARE = dict(joints=['hip', 'knee', 'foot'], bones=[('knee', 'hip'), ('foot', 'knee')], centre='hip')


def make_clip(rng, shape, missing=0.3):
    """A smooth random clip with missing joints: keypoint (M, T, V, C) and score (M, T, V)."""
    keypoint = rng.normal(size=shape).cumsum(1).astype(np.float32)
    score = rng.random(shape[:3]) * (rng.random(shape[:3]) >= missing)
    score = score.astype(np.float32)
    keypoint[score == 0] = 0
    return keypoint, score


def at_strength(name, strength):
    return {'max_angle' if name == 'MGRotate' else 'strength': strength}


@st.composite
def cases(draw):
    """A layout, a clip on it, and a seed."""
    layout = draw(st.sampled_from(LAYOUTS))
    persons, frames = draw(st.integers(1, 2)), draw(st.integers(1, 40))
    shape = (persons, frames, layout.num_joints, draw(st.sampled_from([2, 3])))
    seed = draw(st.integers(0, 2**32))
    missing = draw(st.sampled_from([0, 0.3, 1]))
    return layout, *make_clip(np.random.default_rng(seed), shape, missing), seed


@pytest.mark.parametrize('name', [*NAMES, *recipe_names()])
@settings(max_examples=8, deadline=None)
@given(case=cases())
def test_what_holds_for_every_one(name, case):
    layout, keypoint, score, seed = case
    before = keypoint.copy(), score.copy()
    chain = Chain([dict(type=name, p=1.0)] if name in NAMES else name, layout)
    points, scores = chain(keypoint, score, Draws(np.random.default_rng(seed)))
    assert points.shape == keypoint.shape and scores.shape == score.shape
    assert points.dtype == np.float32 and scores.dtype == np.float32
    assert np.isfinite(points).all() and np.isfinite(scores).all()
    assert not points[scores == 0].any(), 'a missing joint got coordinates'
    again = chain(keypoint, score, Draws(np.random.default_rng(seed)))
    np.testing.assert_array_equal(again[0], points)
    np.testing.assert_array_equal(again[1], scores)
    np.testing.assert_array_equal(keypoint, before[0])
    np.testing.assert_array_equal(score, before[1])


@pytest.mark.parametrize('name', NAMES)
@settings(max_examples=5, deadline=None)
@given(case=cases())
def test_strength_0_and_p_0_change_no_bit(name, case):
    layout, keypoint, score, seed = case
    for options in (dict(at_strength(name, 0), p=1.0), dict(p=0.0)):
        chain = Chain([dict(options, type=name)], layout)
        points, scores = chain(keypoint, score, Draws(np.random.default_rng(seed)))
        np.testing.assert_array_equal(points, keypoint)
        np.testing.assert_array_equal(scores, score)


@pytest.mark.parametrize('name', [name for name in NAMES if name != 'MGCycle'])
def test_every_one_changes_something_by_default(name):
    keypoint, score = make_clip(np.random.default_rng(0), (1, 30, 22, 2), 0.1)
    chain = Chain([dict(type=name, p=1.0)], 'imigue22')
    results = [chain(keypoint, score, Draws(np.random.default_rng(seed))) for seed in range(5)]
    changed = [np.abs(points - keypoint).max() > 1e-3 for points, _ in results]
    assert sum(changed) >= 3


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(('layout', 'dims', 'persons'), [('ntu25', 3, 2), ('imigue22', 2, 1)])
def test_a_batch_gets_what_single_clips_get(name, persons, layout, dims):
    rng, layout = np.random.default_rng(1), get_layout(layout)
    shape = (persons, 40, layout.num_joints, dims)
    clips = [make_clip(rng, shape, 0.2) for _ in range(6)]
    chain = Chain([dict(type=name, p=1.0)], layout)
    drawn = [chain.draw(Draws(np.random.default_rng(i)), shape) for i in range(6)]
    single = [chain.apply(*clip, what) for clip, what in zip(clips, drawn, strict=True)]
    params = {key: np.stack([what[0].params[key] for what in drawn]) for key in drawn[0][0].params}
    keypoint, score = (torch.from_numpy(np.stack(part)) for part in zip(*clips, strict=True))
    points, scores = chain.apply(planes(keypoint), score, [Drawn(None, params)])
    assert points.dtype == torch.float32 and points.shape == keypoint.shape
    for number, (point, certain) in enumerate(single):
        np.testing.assert_allclose(points[number], point, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(scores[number], certain, rtol=1e-5, atol=1e-5)
    # Only some clips of the batch: the others keep every bit.
    some = np.array([1, 4])
    part = {key: value[some] for key, value in params.items()}
    points, scores = chain.apply(planes(keypoint), score, [Drawn(some, part)])
    for number, clip in enumerate(clips):
        expected = single[number] if number in some else clip
        np.testing.assert_allclose(points[number], expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(scores[number], expected[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(keypoint, np.stack([clip[0] for clip in clips]))


@pytest.mark.parametrize('name', NAMES)
@settings(max_examples=5, deadline=None)
@given(case=cases(), number=st.integers(1, 3))
def test_a_batch_that_was_drawn_together_gets_it_too(name, case, number):
    """With its parameters laid out in memory as they are drawn, for one person as for two."""
    layout, keypoint, score, seed = case
    rng = np.random.default_rng(seed)
    missing = (score == 0).mean()
    more = [make_clip(rng, keypoint.shape, missing) for _ in range(number - 1)]
    clips = [(keypoint, score), *more]
    chain = Chain([dict(type=name, p=1.0)], layout)
    (drawn,) = chain.draw(Draws(rng, number), keypoint.shape)
    points, scores = (torch.from_numpy(np.stack(part)) for part in zip(*clips, strict=True))
    points, scores = chain.apply(planes(points), scores, [drawn])
    assert points.shape == (number, *keypoint.shape) and scores.shape == points.shape[:-1]
    for clip, single in enumerate(clips):
        own = {key: np.asarray(value[clip]) for key, value in drawn.params.items()}
        expected = chain.apply(*single, [Drawn(None, own)])
        np.testing.assert_allclose(points[clip], expected[0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(scores[clip], expected[1], rtol=1e-4, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(case=cases())
def test_flipping_twice_changes_nothing(case):
    layout, keypoint, score, _ = case
    once = F.flip(keypoint, score, layout.swap)
    np.testing.assert_array_equal(once[0][..., 0], -keypoint[:, :, list(layout.swap), 0])
    twice = F.flip(*once, layout.swap)
    np.testing.assert_array_equal(twice[0], keypoint)
    np.testing.assert_array_equal(twice[1], score)


def test_jitter_follows_motion_and_score():
    keypoint = np.zeros((1, 400, 3, 2), np.float32)
    keypoint[..., 1, :] = np.random.default_rng(0).normal(size=(400, 2))
    keypoint[..., 2, :] = keypoint[..., 1, :]
    score = np.broadcast_to(np.float32([1, 1, 0.5]), (1, 400, 3)).copy()
    noise = np.random.default_rng(1).standard_normal(keypoint.shape, dtype=np.float32)
    change = F.jitter(keypoint, score, noise, 0.5) - keypoint
    assert not change[..., 0, :].any()  # a joint that does not move
    # The step between two independent normal numbers has a deviation of √2.
    np.testing.assert_allclose(change[..., 1, :].std(), 0.5 * np.sqrt(2), rtol=0.1)
    np.testing.assert_allclose(change[..., 2, :].std(), 0.25 * np.sqrt(2), rtol=0.1)


def test_a_flat_body_seen_from_the_side_is_foreshortened():
    step = build_augmentation(dict(type='MGViewpoint', strength=1.0))
    draws = Draws(np.random.default_rng(0), 500)
    flat = step.draw(draws, (1, 1, 3, 2), None)['matrix']
    solid = step.draw(Draws(np.random.default_rng(0), 500), (1, 1, 3, 3), None)['matrix']
    np.testing.assert_array_equal(flat, solid[:, :2, :2])
    assert (np.linalg.norm(flat, axis=(1, 2), ord=2) <= 1 + 1e-5).all()
    np.testing.assert_allclose(solid @ solid.swapaxes(1, 2), [np.eye(3)] * 500, atol=1e-5)


def test_a_turned_body_keeps_its_height():
    step = build_augmentation(dict(type='MGTurn', strength=1.0))
    solid = step.draw(Draws(np.random.default_rng(0), 500), (1, 1, 3, 3), None)['matrix']
    np.testing.assert_array_equal(solid @ np.float32([0, 2, 0]), [[0, 2, 0]] * 500)
    np.testing.assert_allclose(solid @ solid.swapaxes(1, 2), [np.eye(3)] * 500, atol=1e-6)
    angles = np.arctan2(solid[:, 0, 2], solid[:, 0, 0])
    assert angles.min() < -0.9 and angles.max() > 0.9 and np.abs(angles).max() <= 1
    flat = step.draw(Draws(np.random.default_rng(0), 500), (1, 1, 3, 2), None)['matrix']
    np.testing.assert_allclose(flat, [np.diag([cos, 1]) for cos in np.cos(angles)], atol=1e-6)


def test_limbs_stretch_along_the_tree():
    layout = get_layout(BARE)
    keypoint = np.float32([[0, 0], [0, -1], [1, -1]]).reshape(1, 1, 3, 2)
    score = np.ones((1, 1, 3), np.float32)
    longer = F.change_limbs(keypoint, score, np.float32([9, 2, 3]), layout)
    np.testing.assert_allclose(longer[0, 0], [[0, 0], [0, -2], [3, -2]])
    score[..., 1] = keypoint[..., 1, :] = 0  # without a knee no bone is known
    np.testing.assert_array_equal(
        F.change_limbs(keypoint, score, np.float32([9, 2, 3]), layout), keypoint
    )


@pytest.mark.parametrize('layout', LAYOUTS, ids=lambda layout: layout.name)
def test_left_and_right_limbs_stay_alike(layout):
    step = build_augmentation('MGLimbs')
    factors = step.draw(Draws(np.random.default_rng(0)), (1, 1, layout.num_joints, 2), layout)
    factors = factors['factors']
    for left, right in layout.pairs:
        assert factors[left] == factors[right]


def test_posterise_holds_frames():
    step = build_augmentation(dict(type='MGPosterise', strength=3))
    positions = step.draw(Draws(np.random.default_rng(0), 200), (1, 10, 3, 2), None)['positions']
    held = {tuple(row) for row in positions}
    assert (0, 0, 2, 2, 4, 4, 6, 6, 8, 8) in held and (0, 0, 0, 0, 4, 4, 4, 4, 8, 8) in held
    assert len(held) == 4 and tuple(range(10)) in held


def test_positions_of_other_times():
    def positions(name, shape=(1, 12, 3, 2), **options):
        step = build_augmentation(dict(options, type=name))
        return step.draw(Draws(np.random.default_rng(0), 300), shape, None)['positions']

    for name in ('MGCrop', 'MGWarp'):
        assert (np.diff(positions(name), axis=1) > 0).all()
    assert (positions('MGWarp')[:, [0, -1]] == [0, 11]).all()
    reverse = positions('MGReverse')
    assert (reverse == np.arange(12)[::-1]).all()
    shift = positions('MGShift', strength=0.25)
    assert (np.abs(np.diff(shift, axis=1)) == 1).sum(1).min() >= 10  # one turn at most
    assert {row[0] for row in shift} == {0, 1, 2, 3} and (shift <= 11).all() and (shift >= 0).all()
    lost = positions('MGDropFrames', strength=0.5)
    assert (lost[:, 0] == 0).all() and (lost <= np.arange(12)).all()
    assert 0.4 < (lost[:, 1:] < np.arange(1, 12)).mean() < 0.6
    rounds = (np.diff(positions('MGRepeat', strength=2.0), axis=1) < 0).sum(1)
    assert set(rounds) == {0, 1, 2}
    speed = np.diff(positions('MGSpeed', strength=1.0), axis=1).max(1)
    assert speed.min() < 0.6 and 1.7 < speed.max() <= 2.01


def test_smoothing_is_a_gaussian_of_what_is_there():
    keypoint = np.zeros((1, 31, 1, 2), np.float32)
    score = np.ones((1, 31, 1), np.float32)
    keypoint[0, 15] = 1
    bell = np.exp(-((np.arange(31) - 15) ** 2) / (2 * 2.0**2))
    smooth = F.smooth(keypoint, score, np.float32(2))[0, :, 0, 0]
    np.testing.assert_allclose(smooth[10:21], (bell / bell.sum())[10:21], rtol=1e-3)
    keypoint[:] = 1
    keypoint[0, 5:9] = score[0, 5:9] = 0
    np.testing.assert_allclose(
        F.smooth(keypoint, score, np.float32(3)), keypoint, atol=1e-6
    )  # missing frames pull nothing towards 0


def waving(frames=60, period=15, still=0):
    """One joint that goes to and fro, another that rests."""
    at = np.arange(frames)
    keypoint = np.ones((1, frames, 2, 2), np.float32)
    keypoint[0, :, 1, 0] = np.sin(2 * np.pi * at / period)
    keypoint[0, :still, 1] = keypoint[0, still, 1]
    return keypoint, np.ones((1, frames, 2), np.float32)


@pytest.mark.parametrize('period', [8, 15, 22])
def test_a_cycle_is_found_repeated_and_removed(period):
    keypoint, score = waving(period=period)
    assert abs(F.cycle_length(keypoint, score) - period) <= 1
    count = {}
    for repeat in (True, False, None):
        points = keypoint
        if repeat is not None:
            points, _ = F.change_cycle(keypoint, score, 1.0, np.float32(0.3), np.bool_(repeat))
        wave = points[0, :, 1, 0]
        count[repeat] = ((wave[:-1] < 0) & (wave[1:] >= 0)).sum()
        # The pose at both ends of a cycle is the same: no jump.
        assert np.abs(np.diff(wave)).max() < 2.5 * 2 * np.pi / period
    assert count[True] == count[None] + 1 and count[False] == count[None] - 1


def test_a_cycle_is_found_beside_a_large_movement():
    at = np.arange(60)
    reach = 1 / (1 + np.exp(-(at - 10))) - 1 / (1 + np.exp(-(at - 50)))
    keypoint, score = waving()
    keypoint[0, :, 1, 0] = 3 * reach
    keypoint[0, :, 1, 1] = 0.15 * np.sin(2 * np.pi * at / 9) * (at > 14) * (at < 46)
    assert abs(F.cycle_length(keypoint, score) - 9) <= 1


def test_where_nothing_repeats_there_is_no_cycle():
    keypoint, score = waving()
    keypoint[0, :, 1, 0] = np.linspace(0, 1, 60)
    assert F.cycle_length(keypoint, score) == 0
    points, _ = F.change_cycle(keypoint, score, 1.0, np.float32(0.3), np.bool_(True))
    np.testing.assert_array_equal(points, keypoint)


def test_magnifying():
    keypoint, score = waving(period=6)
    larger = F.magnify(keypoint, score, np.float32(2), sigma=6)
    ratio = np.ptp(larger[0, 20:40, 1, 0]) / np.ptp(keypoint[0, 20:40, 1, 0])
    assert 1.9 < ratio < 2.01
    np.testing.assert_allclose(larger[0, :, 0], keypoint[0, :, 0], atol=1e-6)


def test_motion_crop_keeps_the_movement():
    keypoint, score = waving(frames=60, period=10, still=40)
    points, _ = F.motion_crop(keypoint, score, np.float32(0.01), np.float32(0.0))
    assert points.shape == keypoint.shape
    moving = [np.abs(np.diff(clip[0, :, 1, 0])) > 1e-4 for clip in (keypoint, points)]
    assert moving[0].mean() < 0.35 and moving[1].mean() > 0.8
    np.testing.assert_allclose(points[0, -1], keypoint[0, -1])


@pytest.mark.parametrize('batch', [False, True])
def test_motion_crop_loses_what_it_may_and_no_frame_more(batch):
    rng = np.random.default_rng(0)
    # Frames in which the joint moves by a whole number of steps, known positions 0 … T − 1.
    steps = rng.integers(0, 4, 40)
    steps[0] = 0
    keypoint = np.zeros((1, 40, 1, 2), np.float32)
    keypoint[0, :, 0, 0] = steps.cumsum()
    score, energy = np.ones((1, 40, 1), np.float32), steps.astype(float) ** 2
    keypoint[0, :, 0, 1] = 1e-4 * np.arange(40)
    for before, after in [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.053, 0.117), (0.301, 0.203)]:
        clip, given = (keypoint, score), np.float32([before, after])
        if batch:
            clip = tuple(torch.from_numpy(part[None]) for part in clip)
            given = given[:, None]
        points, _ = F.motion_crop(*clip, *given)
        path = np.asarray(points).reshape(40, 2)[:, 1] / 1e-4
        start, stop = np.round(path[[0, -1]]).astype(int)
        first, last = energy[: start + 1].sum(), energy[stop + 1 :].sum()
        assert first <= before * energy.sum() and last <= after * energy.sum()
        if before:
            assert energy[: start + 2].sum() >= before * energy.sum()
        else:
            assert start == 0
        if after:
            assert energy[stop:].sum() >= after * energy.sum()
        else:
            assert stop == 39


@pytest.mark.parametrize('name', ['MGTranslate', 'MGNoise'])
@pytest.mark.parametrize('dims', [2, 3])
def test_strengths_follow_the_size_of_the_body(name, dims):
    keypoint, score = make_clip(np.random.default_rng(0), (2, 30, 22, dims), 0.2)
    step = Chain([dict(type=name, p=1.0)], None)
    drawn = step.draw(Draws(np.random.default_rng(1)), keypoint.shape)
    change, small = (
        (step.apply(size * keypoint, score, drawn)[0] - size * keypoint) / size
        for size in (np.float32(1), np.float32(0.1))
    )
    np.testing.assert_allclose(small, change, atol=1e-4)
    seen = score > 0
    middle = keypoint.sum(2, keepdims=True) / np.maximum(seen.sum(2), 1)[..., None, None]
    spread = np.sqrt((((keypoint - middle) ** 2).sum(-1)[seen]).mean())
    if name == 'MGNoise':
        assert change[seen].std() == pytest.approx(0.02 * spread, rel=0.05)
    else:
        assert 0 < np.abs(change).max() <= 0.2 * spread * 1.001


def test_zoom_keeps_hands_and_hides_what_is_far():
    keypoint = np.float32([[0, 0], [1, 0], [1.5, 0], [9, 0]]).reshape(1, 1, 4, 2)
    score = np.ones((1, 1, 4), np.float32)
    points, scores = F.zoom_on(keypoint, score, np.float32(0.5), [0, 1])
    # The middle of the hands is 0.5, the half side 8.5 · 0.5: joint 3 is outside.
    np.testing.assert_array_equal(scores[0, 0], [1, 1, 1, 0])
    np.testing.assert_allclose(points[0, 0, :, 0], [-0.5, 1.5, 2.5, 0], atol=1e-6)
    score[..., :2] = 0
    keypoint[..., :2, :] = 0
    unchanged = F.zoom_on(keypoint, score, np.float32(0.5), [0, 1])
    np.testing.assert_array_equal(unchanged[0], keypoint)


def test_a_region_is_hidden_for_a_while():
    keypoint, score = make_clip(np.random.default_rng(0), (1, 20, 22, 2), 0)
    layout = get_layout('imigue22')
    chain = Chain([dict(type='MGMaskRegion', strength=0.5)], layout)
    regions = set()
    for seed in range(60):
        _, scores = chain(keypoint, score, Draws(np.random.default_rng(seed)))
        frames, joints = np.nonzero((scores == 0)[0])
        regions.add(tuple(sorted(set(joints))))
        assert len(set(frames)) == 10 and np.ptp(frames) == 9
    assert regions == {tuple(sorted(part)) for part in layout.regions.values()}


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="'MGWobble' is unknown.*MGShear"):
        build_augmentation('MGWobble')
    with pytest.raises(ValueError, match="MGShear has no option 'size'.*strength"):
        build_augmentation(dict(type='MGShear', size=1))
    with pytest.raises(ValueError, match='MGShear: strength must not be negative, got -1'):
        build_augmentation(dict(type='MGShear', strength=-1))
    with pytest.raises(ValueError, match='MGMaskJoints: strength must be at most 1, got 2'):
        build_augmentation(dict(type='MGMaskJoints', strength=2))
    with pytest.raises(ValueError, match='MGFlip: p must be at most 1'):
        build_augmentation(dict(type='MGFlip', p=1.5))
    with pytest.raises(ValueError, match="recipe 'extreme' is unknown.*micro_gesture"):
        Chain('extreme', 'imigue22')
    with pytest.raises(ValueError, match='MGFlip needs the joint layout'):
        Chain('MGFlip', None)
    with pytest.raises(LayoutError, match='MGMaskRegion needs body regions'):
        Chain('MGMaskRegion', BARE)
    with pytest.raises(LayoutError, match='MGHands needs one of the regions'):
        Chain('MGHands', BARE)
    with pytest.raises(ValueError, match='knots must be at least 2'):
        build_augmentation(dict(type='MGWarp', knots=1))


@pytest.mark.parametrize('name', NAMES)
def test_documentation_says_formula_unit_default_and_source(name):
    text = AUGMENTATIONS[name].__doc__
    assert 'Source:' in text and 'Args:' in text
