"""Joints of one layout from those of another."""

import numpy as np
import pytest
from mmaction.registry import TRANSFORMS

from mg_plugins.data.layouts import (
    LayoutError,
    _table,
    common_names,
    get_layout,
    joint_parts,
    layout_names,
)
from mg_plugins.data.mm.transforms import MGNormalize, MGRelayout
from mg_plugins.data.skeleton import body_size, detected_joints
from mg_plugins.data.synthetic import make_synthetic


def clip_of(dataset, **options):
    _, clips, _ = make_synthetic(dataset=dataset, subjects=2, clips=4, seed=3, **options)
    return dict(clips[0])


def named(sample, layout):
    """Joint name to its coordinates."""
    return dict(zip(get_layout(layout).joints, sample['keypoint'].transpose(2, 0, 1, 3)))  # noqa: B905


def missing(transform):
    joints = transform.target.joints
    return [joint for joint, part in zip(joints, transform.parts, strict=True) if not part]


def mapped(sample, source, target, **options):
    given = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in sample.items()}
    transform = MGRelayout(source, target, **options)
    return transform(given), transform


def test_the_table_names_joints_that_there_are():
    table = _table()
    joints = {joint for name in layout_names() for joint in get_layout(name).joints}
    known = joints | {table['common'][name] for name in joints & set(table['common'])}
    for own in table['own'].values():
        known |= set(own.values())
    # Names of motion capture files begin with a capital letter; no layout is made of them.
    assert {name for name in table['common'] if name[0].islower()} <= joints
    assert set(table['common'].values()) <= known
    for layout, own in table['own'].items():
        assert set(own) <= set(get_layout(layout).joints)
    made = {j for choices in table['made'].values() for c in choices for j in c}
    assert made | set(table['made']) <= known
    assert set(table['coordinates']) <= set(layout_names())


@pytest.mark.parametrize('source', layout_names())
def test_every_pair_of_layouts(source):
    source = get_layout(source)
    for target in map(get_layout, layout_names()):
        if source.name.startswith('hand') != target.name.startswith('hand'):
            # A hand alone does not say which side it is.
            with pytest.raises(LayoutError, match='no joint in common'):
                joint_parts(source, target)
            continue
        parts = joint_parts(source, target)
        assert len(parts) == target.num_joints
        for part in parts:
            assert not part or sum(part.values()) == pytest.approx(1)
        if source == target:
            assert parts == [{j: 1.0} for j in range(len(parts))]
        # A side never comes from the other.
        for joint, part in zip(target.joints, parts, strict=True):
            names = [source.joints[j] for j in part]
            side = joint.partition('_')[0]
            if side in ('left', 'right'):
                assert all(side in name for name in names), (joint, names)


TIPS = dict(
    coco_wholebody133=('thumb4', 'forefinger4', 'middle_finger4', 'ring_finger4', 'pinky_finger4'),
    holistic75=(
        'thumb_tip',
        'index_finger_tip',
        'middle_finger_tip',
        'ring_finger_tip',
        'pinky_tip',
    ),
)
TIPS |= dict(halpe136=TIPS['coco_wholebody133'])
TIPS |= dict.fromkeys(('openpose67', 'upper46'), TIPS['holistic75'])


@pytest.mark.parametrize('source', TIPS)
def test_fingertips_of_imigue(source):
    source, target = get_layout(source), get_layout('imigue22')
    parts = joint_parts(source, target)
    assert all(parts)
    for side in ('left', 'right'):
        for finger, tip in enumerate(TIPS[source.name], 1):
            part = parts[target.index(f'{side}_finger{finger}')]
            assert part == {source.index(f'{side}_{tip}'): 1.0}
    if source.name != 'openpose67':
        assert all(joint_parts(source, get_layout('upper46')))


@pytest.mark.parametrize(
    ('layout', 'numbers'),
    [
        # Numbers as the sources' own documents give them, left hand first.
        ('coco_wholebody133', dict(left_hand_root=91, left_thumb4=95, left_pinky_finger4=111)),
        ('coco_wholebody133', dict(right_hand_root=112, right_forefinger4=120, left_heel=19)),
        ('halpe136', dict(head=17, neck=18, hip=19, right_big_toe=21, left_hand_root=94)),
        ('halpe136', dict(right_hand_root=115, right_pinky_finger4=135)),
        ('holistic75', dict(left_shoulder=11, left_hand_wrist=33, right_hand_wrist=54)),
        ('openpose67', dict(mid_hip=8, left_hand_wrist=25, right_index_finger_tip=54)),
        ('openpose18', dict(neck=1, right_hip=8, left_ankle=13, right_eye=14, left_ear=17)),
        ('h36m17', dict(root=0, right_foot=3, thorax=8, head=10, left_wrist=13, right_wrist=16)),
        ('hand21', dict(wrist=0, thumb_tip=4, index_finger_tip=8, pinky_tip=20)),
        ('hand20', dict(palm=0, thumb_tip=3, index_finger_mcp=4, pinky_tip=19)),
        ('kinect20', dict(hip_centre=0, head=3, right_hand=11, left_foot=15, right_foot=19)),
    ],
)
def test_published_numbers(layout, numbers):
    layout = get_layout(layout)
    assert {joint: layout.index(joint) for joint in numbers} == numbers


@pytest.mark.parametrize('dataset', ['smg', 'ntu60'])
def test_kinect_v2_to_msr_action3d(dataset):
    sample = clip_of(dataset)
    result, transform = mapped(sample, 'ntu25', 'msr_action3d')
    assert result['keypoint'].shape[2:] == (20, 3) and result['keypoint'].dtype == np.float32
    assert result['keypoint_score'].shape == result['keypoint'].shape[:3]
    assert missing(transform) == []
    old, new = named(sample, 'ntu25'), named(result, 'msr_action3d')
    # Kinect v1 has one joint between the shoulders; v2's neck lies higher.
    same = dict(neck='spine_shoulder', spine='spine_mid', hip_centre='spine_base', head='head')
    sides = ('shoulder', 'elbow', 'wrist', 'hand', 'hip', 'knee', 'ankle', 'foot')
    same |= {f'{side}_{part}': f'{side}_{part}' for side in ('left', 'right') for part in sides}
    assert set(same) == set(new)
    for joint, origin in same.items():
        np.testing.assert_array_equal(new[joint], old[origin])


def test_and_back_the_upper_neck_is_made_and_finger_tips_are_missing():
    sample = clip_of('msr_action3d')
    result, transform = mapped(sample, 'msr_action3d', 'ntu25')
    old, new = named(sample, 'msr_action3d'), named(result, 'ntu25')
    np.testing.assert_allclose(new['neck'], (old['neck'] + old['head']) / 2, atol=1e-6)
    tips = {f'{side}_{tip}' for side in ('left', 'right') for tip in ('hand_tip', 'thumb')}
    assert set(missing(transform)) == tips
    scores = named(dict(keypoint=result['keypoint_score'][..., None]), 'ntu25')
    assert all(not scores[tip].any() and not new[tip].any() for tip in tips)


@pytest.mark.parametrize('target', ['coco17', 'body25', 'mediapipe33', 'imigue22_released'])
def test_imigue_to_other_layouts_of_pictures(target):
    sample = clip_of('imigue')
    result, transform = mapped(sample, 'imigue22', target, coordinates=2)
    layout = get_layout(target)
    assert result['keypoint'].shape[2:] == (layout.num_joints, 2)
    old, new = named(sample, 'imigue22'), named(result, target)
    for joint in ('nose', 'left_shoulder', 'right_elbow', 'left_wrist', 'right_ear'):
        np.testing.assert_array_equal(new[joint], old[joint])
    legs = {j for j in layout.joints if 'knee' in j or 'ankle' in j or 'hip' in j}
    assert legs <= set(missing(transform))
    before = body_size(
        sample['keypoint'][0],
        detected_joints(sample['keypoint'], sample['keypoint_score'])[0],
        get_layout('imigue22'),
    )
    after = body_size(result['keypoint'][0], result['keypoint_score'][0] > 0, layout)
    assert after == pytest.approx(before)
    # What follows in the pipeline goes on, whatever is missing.
    done = MGNormalize(layout=target)(result)
    assert np.isfinite(done['keypoint']).all() and done['keypoint'].any()
    absent = [layout.index(joint) for joint in missing(transform)]
    assert not done['keypoint'][:, :, absent].any()


def test_a_made_joint_is_missing_with_its_parts():
    source, target = get_layout('coco17'), get_layout('body25')
    rng = np.random.default_rng(0)
    keypoint = rng.uniform(1, 2, (1, 5, 17, 2)).astype(np.float32)
    score = rng.uniform(0.5, 1, (1, 5, 17)).astype(np.float32)
    left, right = (source.index(f'{side}_shoulder') for side in ('left', 'right'))
    keypoint[0, 2, left], score[0, 2, left] = 0, 0
    neck = target.index('neck')
    sample = dict(keypoint=keypoint, keypoint_score=score)
    result, _ = mapped(sample, 'coco17', 'body25')
    expected = (keypoint[0, :, left] + keypoint[0, :, right]) / 2
    seen = np.array([0, 1, 3, 4])
    np.testing.assert_allclose(result['keypoint'][0, seen, neck], expected[seen], rtol=1e-6)
    np.testing.assert_array_equal(
        result['keypoint_score'][0, :, neck], np.minimum(score[0, :, left], score[0, :, right])
    )
    assert not result['keypoint'][0, 2, neck].any()
    # Without scores a joint at the origin is missing.
    plain, _ = mapped(dict(keypoint=keypoint), 'coco17', 'body25')
    np.testing.assert_array_equal(plain['keypoint'], result['keypoint'])
    assert plain['keypoint_score'][0, 2, neck] == 0 and plain['keypoint_score'][0, 0, neck] == 1


def test_what_does_not_fit_is_refused():
    sample = clip_of('imigue')
    with pytest.raises(LayoutError, match=r'has 2 coordinates a joint, 3 were.*depth is not known'):
        MGRelayout('imigue22', 'ntu25', coordinates=3)(dict(sample))
    with pytest.raises(LayoutError, match='project the joints'):
        MGRelayout('ntu25', 'coco17', coordinates=2)(clip_of('smg'))
    with pytest.raises(LayoutError, match="17, 2 or 3.* for layout 'coco17'"):
        MGRelayout('coco17', 'ntu25')(dict(sample))
    strange = dict(name='strange', joints=['tail', 'wing'], bones=[['wing', 'tail']])
    with pytest.raises(LayoutError, match="'strange' and 'coco17' have no joint in common: tail"):
        MGRelayout(strange, 'coco17')
    twice = dict(name='twice', joints=['spine_shoulder', 'neck'], bones=[['neck', 0]])
    with pytest.raises(LayoutError, match="'spine_shoulder' and 'neck' of layout 'twice'"):
        common_names(get_layout(twice))


def test_it_is_registered():
    step = TRANSFORMS.build(dict(type='MGRelayout', source='ntu25', target='coco17'))
    assert isinstance(step, MGRelayout) and step.target.name == 'coco17'
