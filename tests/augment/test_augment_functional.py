"""Augmentation functions: cases by hand, and properties on clips with missing joints."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import mg_plugins.augment as F


@st.composite
def clips(draw):
    """Keypoints (M, T, V, C) and scores with missing joints (all zero)."""
    sizes = draw(st.tuples(*(st.integers(1, n) for n in (2, 30, 6)), st.sampled_from([2, 3])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    keypoint = rng.normal(size=sizes).astype(np.float32)
    score = (rng.random(sizes[:3]) * (rng.random(sizes[:3]) > 0.3)).astype(np.float32)
    keypoint[score == 0] = 0
    return keypoint, score


def angles_for(keypoint, value):
    return np.full(3 if keypoint.shape[-1] == 3 else 1, value)


@settings(max_examples=30, deadline=None)
@given(clips(), st.floats(-3, 3), st.floats(0.5, 2))
def test_rotation_and_scale(clip, angle, factor):
    keypoint, score = clip
    turned = F.rotate(keypoint, angles_for(keypoint, angle))
    assert turned.dtype == np.float32 and turned.shape == keypoint.shape
    assert not turned[score == 0].any()
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=-1), np.linalg.norm(keypoint, axis=-1), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(F.rotate(keypoint, angles_for(keypoint, 0)), keypoint)
    stretched = F.scale(keypoint, np.full(keypoint.shape[-1], factor))
    np.testing.assert_allclose(stretched, keypoint * np.float32(factor), rtol=1e-6)
    assert not stretched[score == 0].any()


@settings(max_examples=30, deadline=None)
@given(clips(), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
def test_resample(clip, length, one, two):
    keypoint, score = clip
    last = keypoint.shape[1] - 1
    start, stop = sorted((one * last, two * last))
    points, scores = F.resample(keypoint, score, length, start, stop)
    assert points.shape == (*keypoint.shape[:1], length, *keypoint.shape[2:])
    assert scores.shape == points.shape[:-1]
    assert points.dtype == np.float32 and scores.dtype == np.float32
    assert np.isfinite(points).all() and np.isfinite(scores).all()
    assert not points[scores == 0].any()
    nearest = np.floor(np.linspace(start, stop, length, dtype=np.float32) + 0.5).astype(int)
    np.testing.assert_array_equal(scores > 0, score[:, np.minimum(nearest, last)] > 0)


def test_resample_reads_every_frame_back():
    keypoint = np.random.default_rng(0).normal(size=(1, 9, 3, 2)).astype(np.float32)
    score = np.ones((1, 9, 3), np.float32)
    points, scores = F.resample(keypoint, score, 9, 0, 8)
    np.testing.assert_allclose(points, keypoint, atol=1e-6)
    np.testing.assert_array_equal(scores, score)


def test_resample_does_not_pull_towards_a_missing_joint():
    keypoint = np.array([4.0, 0.0, 8.0], np.float32).reshape(1, 3, 1, 1).repeat(2, -1)
    score = np.array([1.0, 0.0, 1.0], np.float32).reshape(1, 3, 1)
    points, scores = F.resample(keypoint, score, 5, 0, 2)
    # Frames 0, 0.5, 1, 1.5, 2: at 0.5 frame 1 is as near and missing; at 1.5 frame 2 is taken.
    np.testing.assert_array_equal(points[0, :, 0, 0], [4, 0, 0, 8, 8])
    np.testing.assert_array_equal(scores[0, :, 0], [1, 0, 0, 1, 1])


def test_a_quarter_turn():
    point = np.array([[[[1.0, 0.0]]]], np.float32)
    np.testing.assert_allclose(F.rotate(point, [np.pi / 2])[0, 0, 0], [0, 1], atol=1e-6)
    point = np.array([[[[1.0, 0.0, 0.0]]]], np.float32)
    np.testing.assert_allclose(F.rotate(point, [0, 0, np.pi / 2])[0, 0, 0], [0, 1, 0], atol=1e-6)
