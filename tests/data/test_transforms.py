"""Normalisation, features and frame sampling for any layout."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('mmaction')

from mmaction.datasets.transforms import (  # noqa: E402
    GenSkeFeat,
    PackActionInputs,
)
from mmaction.registry import TRANSFORMS  # noqa: E402

import mg_plugins  # noqa: F401, E402
from mg_plugins.data.layouts import LayoutError, get_layout, layout_names  # noqa: E402
from mg_plugins.data.mm.transforms import (  # noqa: E402
    META_KEYS,
    MGNormalize,
    MGRelayout,  # noqa: E402
    MGSkeFeat,
)
from mg_plugins.data.skeleton import body_size, detected_joints  # noqa: E402


def make_body(layout='imigue22', dims=2, persons=1, frames=7, missing=0.0, seed=0):
    """A sample with random coordinates far from 0 and random scores."""
    rng = np.random.default_rng(seed)
    shape = (persons, frames, get_layout(layout).num_joints)
    keypoint = rng.uniform(1, 5, (*shape, dims)).astype(np.float32)
    score = rng.uniform(0.3, 1, shape).astype(np.float32)
    gone = rng.random(shape) < missing
    keypoint[gone] = score[gone] = 0
    return dict(keypoint=keypoint, keypoint_score=score, total_frames=frames, frame_dir='clip')


def copy(sample):
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in sample.items()}


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(layout_names()),
    dims=st.sampled_from([2, 3]),
    persons=st.integers(1, 2),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
    per_frame=st.booleans(),
    factor=st.floats(0.2, 20),
    shift=st.tuples(*[st.floats(10, 500)] * 3),
    seed=st.integers(0, 99),
)
def test_normalised_bodies_forget_place_and_size(
    name, dims, persons, missing, per_frame, factor, shift, seed
):
    sample = make_body(name, dims, persons, missing=missing, seed=seed)
    moved = copy(sample)
    there = detected_joints(sample['keypoint'])[..., None]
    moved['keypoint'] = ((sample['keypoint'] * factor + shift[:dims]) * there).astype(np.float32)
    transform = MGNormalize(name, scale=True, per_frame=per_frame)
    plain, moved = transform(copy(sample)), transform(moved)
    np.testing.assert_allclose(plain['keypoint'], moved['keypoint'], atol=5e-3 + 1e-4 * max(shift))
    assert not plain['keypoint'][~there[..., 0]].any()
    np.testing.assert_array_equal(plain['keypoint_score'], sample['keypoint_score'])


def test_normalise_2d_by_hand():
    layout = get_layout('imigue22')
    sample = make_body(frames=5)
    points = sample['keypoint']
    points[...] = 100
    left, right, neck = (layout.index(j) for j in ('left_shoulder', 'right_shoulder', 'neck'))
    points[0, :, neck] = [[100, 50], [101, 50], [102, 50], [103, 50], [500, 50]]
    points[0, :, left], points[0, :, right] = [120, 50], [80, 50]
    for limb in ('elbow', 'wrist'):
        for side in ('left', 'right'):
            points[0, :, layout.index(f'{side}_{limb}')] = points[
                0, :, layout.index(f'{side}_shoulder')
            ]
    out = MGNormalize('imigue22')(copy(sample))['keypoint']
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[0, 0, left], [18 / 40, 0], atol=1e-6)
    np.testing.assert_allclose(out[0, :, neck, 0], np.array([-2, -1, 0, 1, 398]) / 40, atol=1e-5)
    out = MGNormalize('imigue22', per_frame=True, scale=False)(copy(sample))['keypoint']
    np.testing.assert_allclose(out[0, :, neck], 0)
    np.testing.assert_allclose(out[0, :, left, 0], [20, 19, 18, 17, -380])


def test_body_size_survives_missing_shoulders_and_foreshortening():
    layout = get_layout('imigue22')
    points = np.full((9, 22, 2), 5.0)
    height = 100.0
    places = dict(
        left_shoulder=(12.95, 0),
        right_shoulder=(-12.95, 0),
        left_elbow=(12.95, 18.6),
        right_elbow=(-12.95, 18.6),
        left_wrist=(12.95, 33.2),
        right_wrist=(-12.95, 33.2),
    )
    for joint, place in places.items():
        points[:, layout.index(joint)] = place
    seen = np.ones((9, 22), bool)
    assert body_size(points, seen, layout) == pytest.approx(0.259 * height)
    turned = points * [0.1, 1]
    assert body_size(turned, seen, layout) == pytest.approx(0.259 * height)
    seen[:, layout.index('left_shoulder')] = False
    assert body_size(points, seen, layout) == pytest.approx(0.259 * height)
    # Frames differ and some are missing: the median of those that show both ends counts.
    seen[:] = False
    arm = [layout.index('left_elbow'), layout.index('left_wrist')]
    seen[np.ix_([1, 4, 7], arm)] = True
    points[:, arm[1]] = points[:, arm[0]] + np.outer([9, 14.6, 9, 9, 1, 9, 9, 30, 9], [0, 1])
    assert body_size(points, seen, layout) == pytest.approx(0.259 * height)
    seen[:] = False
    seen[:, :2] = True
    assert body_size(np.ones((9, 22, 2)), seen, layout) == 1.0


def test_normalise_3d_keeps_metres_and_starts_at_the_first_detected_centre():
    sample = make_body('msr_action3d', dims=3)
    layout = get_layout('msr_action3d')
    sample['keypoint'][0, 0] = sample['keypoint_score'][0, 0] = 0
    out = MGNormalize('msr_action3d')(copy(sample))
    assert not out['keypoint'][0, 0].any()
    origin = sample['keypoint'][0, 1, layout.centre]
    np.testing.assert_allclose(
        out['keypoint'][0, 1:], sample['keypoint'][0, 1:] - origin, atol=1e-6
    )
    # The centre joint is at the origin now, and must still count as detected.
    bone = MGSkeFeat('msr_action3d', 'bone')(copy(out))['keypoint']
    child = next(c for c, p in layout.bones if p == layout.centre)
    expected = sample['keypoint'][0, 1, child] - origin
    np.testing.assert_allclose(bone[0, 1, child], expected, atol=1e-6)


def test_normalise_adds_scores_and_agrees_with_itself():
    sample = make_body('msr_action3d', dims=3, missing=0.2)
    scored = MGNormalize('msr_action3d')(copy(sample))
    del sample['keypoint_score']
    bare = MGNormalize('msr_action3d')(copy(sample))
    np.testing.assert_array_equal(bare['keypoint'], scored['keypoint'])
    np.testing.assert_array_equal(bare['keypoint_score'], scored['keypoint_score'] > 0)


def test_normalise_takes_contradicting_scores_as_missing():
    sample = make_body()
    sample['keypoint'][0, 2, 3] = 0
    sample['keypoint_score'][0, 4, 5] = 0
    out = MGNormalize('imigue22')(sample)
    for place in ((0, 2, 3), (0, 4, 5)):
        assert not out['keypoint'][place].any() and out['keypoint_score'][place] == 0


@pytest.mark.parametrize('per_frame', [False, True])
def test_normalise_without_centre_or_anything(per_frame):
    sample = make_body()
    sample['keypoint'][:, :, 1] = sample['keypoint_score'][:, :, 1] = 0
    out = MGNormalize('imigue22', per_frame=per_frame)(copy(sample))['keypoint']
    assert np.isfinite(out).all() and abs(np.median(out[out.any(-1)], axis=0)).max() < 1e-5
    sample['keypoint'][:] = sample['keypoint_score'][:] = 0
    out = MGNormalize('imigue22', per_frame=per_frame)(sample)['keypoint']
    assert out.shape == (1, 7, 22, 2) and not out.any()


def test_persons_keep_their_places():
    sample = make_body(persons=2)
    sample['keypoint'][1] = sample['keypoint'][0] + [100, 0]
    out = MGNormalize('imigue22', scale=False)(copy(sample))['keypoint']
    np.testing.assert_allclose(out[1] - out[0], np.broadcast_to([100, 0], out[0].shape), atol=1e-4)
    sample['keypoint'][0, :5] = sample['keypoint_score'][0, :5] = 0
    out = MGNormalize('imigue22', scale=False)(copy(sample))['keypoint']
    assert np.median(out[1, :, 1], axis=0) == pytest.approx(0, abs=1e-4)


# The joint pairs of MMAction2's JointToBone, which differ from its own graphs at COCO's hips
# (they hang on the nose) and at Kinect's hand tips (they hang on the thumbs).
UPSTREAM_BONES = {
    'coco': (
        'coco17',
        [(1, 0), (2, 0), (3, 1), (4, 2), (5, 0), (6, 0), (7, 5), (8, 6), (9, 7), (10, 8), (11, 0)]
        + [(12, 0), (13, 11), (14, 12), (15, 13), (16, 14)],
        [11, 12],
    ),
    'nturgb+d': (
        'ntu25',
        [(0, 1), (1, 20), (2, 20), (3, 2), (4, 20), (5, 4), (6, 5), (7, 6), (8, 20), (9, 8)]
        + [(10, 9), (11, 10), (12, 0), (13, 12), (14, 13), (15, 14), (16, 0), (17, 16), (18, 17)]
        + [(19, 18), (21, 22), (22, 7), (23, 24), (24, 11)],
        [21, 23],
    ),
}
SHORT = dict(joint='j', bone='b', joint_motion='jm', bone_motion='bm')
FEATS = [['joint'], ['bone'], ['joint_motion'], ['bone_motion'], list(SHORT), ['bone', 'joint']]


@pytest.mark.parametrize('feat', FEATS, ids='+'.join)
@pytest.mark.parametrize('dataset', UPSTREAM_BONES)
def test_features_equal_upstream(dataset, feat):
    name, bones, elsewhere = UPSTREAM_BONES[dataset]
    sample = make_body(name, dims=2 if dataset == 'coco' else 3, persons=2)
    if dataset != 'coco':
        del sample['keypoint_score']
    theirs = GenSkeFeat(dataset=dataset, feats=[SHORT[f] for f in feat])(copy(sample))['keypoint']
    joints = get_layout(name).num_joints
    ours = MGSkeFeat(dict(joints=joints, bones=bones), feat)(copy(sample))
    np.testing.assert_allclose(ours['keypoint'], theirs, atol=1e-6)
    assert ours['keypoint'].dtype == np.float32 and 'keypoint_score' not in ours
    table = MGSkeFeat(name, feat)(copy(sample))['keypoint']
    others = np.setdiff1d(np.arange(joints), elsewhere)
    np.testing.assert_allclose(table[:, :, others], theirs[:, :, others], atol=1e-6)


@pytest.mark.parametrize('dims', [2, 3])
def test_missing_joints_give_zero_bones_and_motion(dims):
    layout = get_layout('body25')
    sample = make_body('body25', dims=dims, frames=6)
    wrist, elbow = layout.index('left_wrist'), layout.index('left_elbow')
    sample['keypoint'][0, 2, elbow] = sample['keypoint_score'][0, 2, elbow] = 0
    feats = {feat: MGSkeFeat('body25', feat)(copy(sample))['keypoint'][0] for feat in SHORT}
    shoulder = layout.index('left_shoulder')
    for joint in (wrist, elbow):
        assert not feats['bone'][2, joint].any()
        assert not feats['bone_motion'][1:3, joint].any()
        assert feats['bone'][1, joint].any() and feats['bone_motion'][3, joint].any()
    assert not feats['joint_motion'][1:3, elbow].any() and feats['joint_motion'][1, wrist].any()
    assert feats['bone'][2, shoulder].any()
    assert not feats['joint_motion'][-1].any()


def test_layouts_as_name_dict_and_file(tmp_path):
    import json

    layout = get_layout('coco17')
    file = tmp_path / 'mine.json'
    file.write_text(json.dumps(layout.as_dict()))
    sample = make_body('coco17')
    outs = [
        TRANSFORMS.build(dict(type='MGSkeFeat', layout=given, feat='bone'))(copy(sample))
        for given in ('coco17', layout.as_dict(), str(file), layout)
    ]
    for out in outs[1:]:
        np.testing.assert_array_equal(out['keypoint'], outs[0]['keypoint'])


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: MGNormalize('imigue22', mode='4d'), "'4d'.*auto"),
        (lambda: MGSkeFeat('imigue22', 'bones'), "'bones'.*joint_motion"),
        (lambda: MGSkeFeat('imigue22', []), 'feat is'),
        (lambda: MGNormalize('nowhere'), 'nowhere'),
        (lambda: MGNormalize('imigue22', mode='3d')(make_body()), 'got 2 coordinates'),
        (lambda: MGNormalize('coco17')(make_body()), r"'clip'.*\(1, 7, 22, 2\).*coco17"),
        (lambda: MGSkeFeat('coco17')(make_body()), r"'clip'.*\(1, 7, 22, 2\).*coco17"),
    ],
)
def test_wrong_use_is_explained(build, message):
    with pytest.raises((ValueError, LayoutError), match=message):
        build()


def test_pack_carries_our_fields():
    fields = dict(session='7', subject='3', start=2, end=8, fps=25.0, outcome='win')
    sample = dict(make_body(), label=4, **fields)
    sample = MGSkeFeat('imigue22')(MGNormalize('imigue22')(sample))
    packed = PackActionInputs(meta_keys=META_KEYS)(sample)
    metainfo = packed['data_samples'].metainfo
    assert {key: metainfo[key] for key in fields} == fields
    assert metainfo['frame_dir'] == 'clip' and 'img_shape' not in metainfo
    assert packed['inputs'].shape == (1, 7, 22, 3)
    assert packed['data_samples'].to_dict()['session'] == '7'


def test_float16_pixels_are_not_squared_as_such():
    """The inference API skips the loader; from a limb of 256 px on everything became 0."""
    body = make_body(missing=0.1)
    body['keypoint'] *= 200
    half = dict(
        copy(body),
        keypoint=body['keypoint'].astype(np.float16),
        keypoint_score=body['keypoint_score'].astype(np.float16),
    )
    exact = dict(copy(half), keypoint=half['keypoint'].astype(np.float32))
    for steps in (
        [MGNormalize('imigue22')],
        [MGNormalize('imigue22'), MGSkeFeat('imigue22', ['joint', 'bone'])],
        [MGRelayout('imigue22', 'coco17'), MGNormalize('coco17')],
    ):
        out, expected = copy(half), copy(exact)
        for step in steps:
            out, expected = step(out), step(expected)
        assert out['keypoint'].dtype == np.float32 and np.abs(out['keypoint']).max() > 0.3
        np.testing.assert_allclose(out['keypoint'], expected['keypoint'], rtol=1e-3, atol=1e-3)
