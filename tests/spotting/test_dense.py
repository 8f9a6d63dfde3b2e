"""Features, the dense head and inference in chunks."""

import numpy as np
import pytest
import torch

from mg_plugins.data.layouts import get_layout
from mg_plugins.spotting import DenseHead, RecordingFeatures, dense_loss, frame_probabilities
from mg_plugins.spotting.dense import chunks
from mg_plugins.spotting.features import compose, vary

HAND, BODY = get_layout('hand20'), get_layout('imigue22')


def recording(layout, frames=60, dims=3, seed=0):
    rng = np.random.default_rng(seed)
    still = rng.normal(size=(1, layout.num_joints, dims))
    walk = rng.normal(size=(frames, 1, dims)).cumsum(0) * 0.1
    return (still + walk + 5).astype(np.float32)


@pytest.mark.parametrize('layout, dims, width', [(HAND, 3, 8), (BODY, 2, 7)])
def test_a_slice_shows_what_the_whole_shows(layout, dims, width) -> None:
    features = RecordingFeatures(recording(layout, dims=dims), None, layout, 20.0)
    whole = features.slice(0, 60)
    assert whole.shape == (60, layout.num_joints, width)
    for start, stop in ((0, 10), (17, 31), (50, 60)):
        np.testing.assert_allclose(features.slice(start, stop), whole[start:stop], atol=1e-5)


def test_posture_forgets_the_place_and_velocity_does_not() -> None:
    points = recording(HAND)
    features = RecordingFeatures(points, None, HAND, 20.0).slice(0, 60)
    posture, velocity = features[..., :3], features[..., 3:6]
    np.testing.assert_allclose(posture, np.broadcast_to(posture[:1], posture.shape), atol=1e-4)
    expected = (points[2:] - points[:-2]) * 10
    np.testing.assert_allclose(velocity[1:-1], expected, atol=1e-4)


@pytest.mark.parametrize('layout, dims', [(HAND, 3), (BODY, 2)])
def test_distances_are_those_to_the_centre_and_to_other_limbs_however_one_is_turned(
    layout, dims
) -> None:
    points = recording(layout, 5, dims)
    distances = RecordingFeatures(points, None, layout, 20.0).slice(0, 5)[..., 2 * dims :][..., :2]
    turned = points @ np.linalg.qr(np.random.default_rng(1).normal(size=(dims, dims)))[0]
    again = RecordingFeatures(turned, None, layout, 20.0).slice(0, 5)[..., 2 * dims :][..., :2]
    np.testing.assert_allclose(again, distances, atol=2e-3)
    size = RecordingFeatures(points, None, layout, 20.0).size

    def limb(joint):
        while layout.parents[joint] not in (joint, layout.centre):
            joint = layout.parents[joint]
        return joint

    joints = [j for j in range(layout.num_joints) if j != layout.centre]
    for joint in joints:
        gaps = np.linalg.norm(points - points[:, joint, None], axis=-1) / size
        np.testing.assert_allclose(distances[:, joint, 0], gaps[:, layout.centre], atol=2e-3)
        others = [other for other in joints if limb(other) != limb(joint)]
        np.testing.assert_allclose(distances[:, joint, 1], gaps[:, others].min(1), atol=2e-3)


@pytest.mark.parametrize('layout, dims', [(HAND, 3), (BODY, 2)])
def test_varied_features_are_those_of_a_similar_body(layout, dims) -> None:
    points = recording(layout, 40, dims)
    points[10:15, 3] = 0
    inputs = RecordingFeatures(points, None, layout, 20.0).slice(0, 40)
    one, same, other = (vary(inputs, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1 and not one[10:15, 3].any()
    reach = np.linalg.norm(one[..., :dims], axis=-1)
    np.testing.assert_allclose(one[..., 2 * dims], reach, atol=0.2 * reach.mean())
    ratio = one[:9, :, 2 * dims] / np.maximum(inputs[:9, :, 2 * dims], 1e-9)
    away = [joint for joint in range(layout.num_joints) if joint != layout.centre]
    assert (ratio[:, away] > 0.85 * 0.9).all() and (ratio[:, away] < 1.15 * 1.1).all()
    faster = vary(inputs, np.random.default_rng(0), pace=2.0)
    np.testing.assert_allclose(
        faster[..., dims : 2 * dims], 2 * one[..., dims : 2 * dims], rtol=1e-5, atol=1e-6
    )


def test_missing_joints_are_zero_and_give_no_velocity() -> None:
    points = recording(BODY, dims=2)
    points[20:25, 7] = 0
    features = RecordingFeatures(points, None, BODY, 20.0).slice(0, 60)
    assert not features[20:25, 7].any()
    assert not features[[19, 25], 7, 2:4].any() and features[18, 7, 2:4].all()
    assert features[19, 7, 6] == 1


def test_the_fps_of_a_recording_does_not_change_velocities() -> None:
    fast = np.repeat(recording(HAND), 1, 0)
    slow = fast[::2]
    a = RecordingFeatures(fast, None, HAND, 40.0)
    b = RecordingFeatures(slow, None, HAND, 20.0)
    assert np.abs(a.slice(0, 60)[..., 3:6]).mean() > 0
    ramp = np.arange(60, dtype=np.float32)[:, None, None] * np.ones((1, 20, 3), np.float32) + 1
    a = RecordingFeatures(ramp, None, HAND, 40.0).slice(1, 59)
    b = RecordingFeatures(ramp[::2], None, HAND, 20.0).slice(1, 29)
    np.testing.assert_allclose(a[:10, 0, 3:6], 40, rtol=1e-5)
    np.testing.assert_allclose(b[:10, 0, 3:6], 40, rtol=1e-5)


@pytest.mark.parametrize('frames, length', [(1, 8), (8, 8), (9, 8), (100, 8), (101, 7)])
def test_chunks_cover_every_frame(frames, length) -> None:
    spans = chunks(frames, length, max(1, length // 2))
    seen = np.zeros(frames)
    for start, stop in spans:
        assert stop - start == min(length, frames)
        seen[start:stop] += 1
    assert (seen > 0).all()


def test_inference_in_chunks_is_that_of_a_local_network() -> None:
    """A network that looks at one frame gives the same whatever the chunks."""
    features = RecordingFeatures(recording(HAND, 100), None, HAND, 20.0)
    weight = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))

    def network(x):
        return (x.mean(2) @ weight).transpose(1, 2)

    whole = frame_probabilities(network, features, 100)
    seen = []
    parts = frame_probabilities(network, features, 16, 2, seen.append)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    np.testing.assert_allclose(parts.sum(1), 1, atol=1e-5)
    assert seen[-1] == 100 and seen == sorted(seen)


def test_head_gives_a_score_a_frame_and_learns() -> None:
    torch.manual_seed(0)
    head = DenseHead(8, 3, width=16, dropout=0.0)
    x = torch.randn(2, 1, 8, 12, 5)
    assert head(x, 47).shape == (2, 4, 47)
    target = torch.randint(0, 4, (2, 47))
    target[0, :5] = -100
    before = sum(dense_loss(head(x, 47), target).values())
    before.backward()
    with torch.no_grad():
        for weight in head.parameters():
            weight -= 0.02 * weight.grad
    assert sum(dense_loss(head(x, 47), target).values()) < before


def test_smoothing_counts_steps_and_cuts_them_off() -> None:
    flat = torch.zeros(1, 3, 6)
    jumpy = flat.clone()
    jumpy[0, 0, 3] = 100
    target = torch.zeros(1, 6, dtype=torch.long)
    assert dense_loss(flat, target)['loss_smooth'] == 0
    assert dense_loss(jumpy, target)['loss_smooth'] <= 0.15 * 16


def test_composed_sequences_hold_cut_clips_and_nothing_between() -> None:
    clips = [(label, recording(HAND, 30, seed=label)) for label in range(4)]
    rng = np.random.default_rng(0)
    for _ in range(5):
        keypoint, labels = compose(clips, 256, 20.0, 4, HAND, rng)
        assert keypoint.shape == (256, 20, 3) and labels.shape == (256,)
        assert np.isfinite(keypoint).all()
        assert 0.1 < (labels == 4).mean() < 0.95
        jump = np.abs(np.diff(keypoint, axis=0)).max()
        assert jump < 3, 'the hand leaps'
    again = compose(clips, 256, 20.0, 4, HAND, np.random.default_rng(7))
    same = compose(clips, 256, 20.0, 4, HAND, np.random.default_rng(7))
    np.testing.assert_array_equal(again[0], same[0])
