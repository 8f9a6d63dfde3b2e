"""The joint layout table, layouts of a user's own, and deciding hands from data."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mg_plugins.data import LayoutError, attach_hands, get_layout, layouts, register_layout

COUNTS = dict(
    imigue22=22,
    imigue22_released=22,
    ntu25=25,
    msr_action3d=20,
    kinect_v1_20=20,
    coco17=17,
    body25=25,
    mediapipe33=33,
    coco_wholebody133=133,
    holistic75=75,
    upper46=46,
    h36m17=17,
    halpe26=26,
    halpe136=136,
    openpose18=18,
    openpose67=67,
    hand21=21,
    hand20=20,
)
NAMES = tuple(COUNTS)
TREES = [name for name in NAMES if name != 'imigue22_released']
CHAIN = dict(name='chain', joints=['hip', 'knee', 'foot'], bones=[('knee', 'hip'), (2, 1)])


@pytest.fixture(autouse=True)
def _clean_registry(monkeypatch):
    monkeypatch.setattr(layouts, '_registered', {})


def test_table_names():
    assert layouts.layout_names() == list(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_pairs_and_regions_are_sane(name):
    layout = get_layout(name)
    assert layout.num_joints == COUNTS[name]
    mirrored = {'left': 'right', 'right': 'left'}
    for left, right in layout.pairs:
        if layout.joints[left].startswith('face-'):
            continue
        words = layout.joints[left].split('_')
        assert '_'.join(mirrored.get(word, word) for word in words) == layout.joints[right]
    assert [layout.swap[j] for j in layout.swap] == list(range(layout.num_joints))
    for part in ('arm', 'hand', 'leg'):
        if f'left_{part}' in layout.regions:
            swapped = {layout.swap[j] for j in layout.regions[f'left_{part}']}
            assert swapped == set(layout.regions[f'right_{part}'])
    palm = {layout.centre} if name.startswith('hand') else set()
    assert set().union(*layout.regions.values()) == set(range(layout.num_joints)) - palm
    sided = [j for j, joint in enumerate(layout.joints) if 'left' in joint or 'right' in joint]
    paired = {j for pair in layout.pairs for j in pair}
    assert sorted(j for j in paired if not layout.joints[j].startswith('face-')) == sided


@pytest.mark.parametrize(
    ('alias', 'name'),
    [
        ('coco', 'coco17'),
        ('nturgb+d', 'ntu25'),
        ('kinect_v2', 'ntu25'),
        ('kinect20', 'kinect_v1_20'),
        ('openpose', 'openpose18'),
        ('body_25', 'body25'),
        ('BODY_25', 'body25'),
        ('mediapipe', 'mediapipe33'),
        ('halpe', 'halpe136'),
        ('Holistic', 'holistic75'),
    ],
)
def test_aliases(alias, name):
    assert get_layout(alias) is get_layout(name)
    with pytest.raises(LayoutError, match='is called .* already'):
        register_layout(dict(CHAIN, name=alias))


@pytest.mark.parametrize('name', TREES)
def test_bones_form_a_symmetric_tree(name):
    layout = get_layout(name)
    assert len(layout.bones) == layout.num_joints - 1
    roots = [j for j, parent in enumerate(layout.parents) if j == parent]
    assert roots == [layout.centre]
    for joint in range(layout.num_joints):
        steps = 0
        while layout.parents[joint] != joint:
            joint, steps = layout.parents[joint], steps + 1
        assert joint == layout.centre and steps < layout.num_joints
    # Mirroring the body maps bones onto bones: a typing slip on one side would not.
    mirrored = {(layout.swap[child], layout.swap[parent]) for child, parent in layout.bones}
    assert mirrored == set(layout.bones)


def test_published_orders():
    imigue, body = get_layout('imigue22'), get_layout('body25')
    assert imigue.joints[:12] == body.joints[:8] + body.joints[15:19]
    assert {imigue.parents[j] for j in range(12, 17)} == {4}
    assert {imigue.parents[j] for j in range(17, 22)} == {7}
    released = get_layout('imigue22_released')
    assert {(j, 5) for j in range(12, 17)} | {(j, 8) for j in range(17, 22)} <= set(released.bones)
    assert not released.tree and released.parents[0] == 0 and released.parents[12] == 10
    published = (
        '20,3 1,3 2,3 1,8 8,10 10,12 2,9 9,11 11,13 3,4 '
        '4,7 7,5 7,6 5,14 14,16 16,18 6,15 15,17 17,19'
    )
    edges = {frozenset(int(j) - 1 for j in bone.split(',')) for bone in published.split()}
    assert {frozenset(bone) for bone in get_layout('msr_action3d').bones} == edges


@pytest.mark.parametrize('name', NAMES)
def test_mmaction_builds_graphs(name, mode='spatial'):
    pytest.importorskip('mmaction')
    pytest.importorskip('mg_plugins')
    from mmaction.models.utils import Graph

    layout = get_layout(name)
    cfg = json.loads(json.dumps(layout.graph_cfg(mode)))
    graph = Graph(**cfg)
    assert graph.A.shape == (3, layout.num_joints, layout.num_joints)
    linked = (graph.A.sum(0) > 0) | (graph.A.sum(0) > 0).T
    expected = np.eye(layout.num_joints, dtype=bool)
    for child, parent in layout.bones:
        expected[child, parent] = expected[parent, child] = True
    np.testing.assert_array_equal(linked, expected)


@pytest.mark.parametrize(
    ('ours', 'theirs'), [('ntu25', 'nturgb+d'), ('coco17', 'coco'), ('openpose18', 'openpose')]
)
def test_same_graph_as_upstream(ours, theirs):
    pytest.importorskip('mmaction')
    pytest.importorskip('mg_plugins')
    from mmaction.models.utils import Graph

    for mode in ('stgcn_spatial', 'spatial'):
        ours_graph = Graph(**get_layout(ours).graph_cfg(mode))
        np.testing.assert_array_equal(ours_graph.A, Graph(layout=theirs, mode=mode).A)


def test_own_layout_from_dict_file_and_name(tmp_path):
    layout = get_layout(CHAIN)
    assert layout.bones == ((1, 0), (2, 1)) and layout.centre == 0 and layout.parents == (0, 0, 1)
    file = tmp_path / 'chain.json'
    file.write_text(json.dumps(CHAIN))
    assert get_layout(file) == get_layout(str(file)) == layout
    assert register_layout(file) == get_layout('chain') == register_layout(layout) == layout
    assert 'chain' in layouts.layout_names()
    with pytest.raises(LayoutError, match='is called .* already'):
        register_layout(dict(CHAIN, centre='knee'))
    assert get_layout(dict(joints=2, bones=[(0, 1)])).joints == ('joint0', 'joint1')
    assert hash(layout) == hash(get_layout(dict(CHAIN)))


@pytest.mark.parametrize('name', NAMES)
def test_as_dict_round_trip(name):
    layout = get_layout(name)
    assert get_layout(json.loads(json.dumps(layout.as_dict()))) == layout


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(bones=[('knee', 'hip'), ('foot', 'kne')]), "no joint 'kne'; its joints are hip"),
        (dict(bones=[(1, 0), (3, 1)]), 'joint 3 is out of range, indices go from 0 to 2'),
        (dict(bones=[(1, 0), (-1, 1)]), 'joint -1 is out of range'),
        (dict(bones=[(1, 0)]), 'not connected: of hip, foot'),
        (dict(bones=[(1, 2), (2, 1)]), 'cycle'),
        (dict(bones=[(1, 1), (2, 1)]), 'cycle at knee'),
        (dict(bones=[(1, 0), (2, 1), (2, 0)]), "'foot'.* several parents"),
        (dict(bones=[(1, 0, 2)]), "'bones' holds .*expected two joints"),
        (dict(pairs=[(0, 1), (1, 2)]), "'knee'.* more than one left/right pair"),
        (dict(pairs=[(0, 0)]), 'more than one left/right pair'),
        (dict(regions=dict(leg=['shin'])), "no joint 'shin'"),
        (dict(centre=True), 'neither a joint name nor an index'),
        (dict(joints=['hip', 'knee', 'knee']), 'more than once'),
        (dict(joints=[]), 'at least one'),
        (dict(joints=None), 'list of names'),
        (dict(joints='hip'), 'list of names'),
        (dict(links=[]), r"unknown keys \['links'\]"),
    ],
)
def test_wrong_layouts_are_explained(change, message):
    with pytest.raises(LayoutError, match=message):
        get_layout({**CHAIN, **change})


def test_unknown_layouts_are_explained(tmp_path):
    with pytest.raises(LayoutError, match='imigue23.*imigue22, '):
        get_layout('imigue23')
    with pytest.raises(LayoutError, match='cannot be read'):
        get_layout(tmp_path / 'none.json')
    (tmp_path / 'list.json').write_text('[1]')
    with pytest.raises(LayoutError, match='holds a list'):
        get_layout(tmp_path / 'list.json')
    with pytest.raises(LayoutError, match="lacks the key 'bones'"):
        get_layout(dict(joints=['a']))
    with pytest.raises(LayoutError, match='not int'):
        get_layout(3)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_tree_is_accepted_and_any_cut_refused(data):
    size = data.draw(st.integers(2, 12))
    order = data.draw(st.permutations(range(size)))
    bones = [(order[i], order[data.draw(st.integers(0, i - 1))]) for i in range(1, size)]
    layout = get_layout(dict(joints=size, bones=data.draw(st.permutations(bones))))
    assert layout.centre == order[0]
    assert all(layout.parents[child] == parent for child, parent in bones)
    cut = data.draw(st.integers(0, size - 2))
    with pytest.raises(LayoutError, match='not connected'):
        get_layout(dict(joints=size, bones=bones[:cut] + bones[cut + 1 :]))


def _hands(right_at: int, frames: int = 40) -> np.ndarray:
    """Frames (T, 22, 2) whose fingertips 12-16 hang at joint `right_at`, 17-21 at the other."""
    rng = np.random.default_rng(0)
    points = rng.uniform(100, 600, (frames, 22, 2))
    for tips, wrist in ((slice(12, 17), right_at), (slice(17, 22), 11 - right_at)):
        points[:, tips] = points[:, [wrist]] + rng.normal(0, 15, (frames, 5, 2))
    return points.astype(np.float32)


def test_attach_hands_decides_from_distances():
    seen = np.ones((40, 22), np.float32)
    assert attach_hands(_hands(right_at=4), seen)[0] is False
    swapped, median = attach_hands(_hands(right_at=7), seen)
    near = median['right_finger* -> left_wrist (joint 7)']
    far = median['right_finger* -> right_wrist (joint 4)']
    assert swapped is True and near < 40 < far
    # A frame in which a joint is missing says nothing.
    points = np.concatenate([_hands(right_at=7), np.zeros((400, 22, 2), np.float32)])
    half = np.concatenate([seen, np.zeros((400, 22), np.float32)])
    assert attach_hands(points, half) == (True, median)


def test_attach_hands_says_when_it_cannot_tell():
    assert attach_hands(_hands(right_at=7), np.zeros((40, 22)))[0] is None
