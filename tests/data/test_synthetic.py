"""The synthetic set: form, determinism, bodies, detector, task, cache."""

import dataclasses
import os
import pickle
import subprocess
import sys
import time
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mg_plugins.data.annotations import load_annotations, save_annotations
from mg_plugins.data.classes import class_counts, get_classes
from mg_plugins.data.layouts import get_layout
from mg_plugins.data.synthetic import ensure_synthetic, make_synthetic
from mg_plugins.data.synthetic_motion import minimum_jerk, two_bone_ik
from mg_plugins.data.synthetic_plan import (
    FEWEST,
    SyntheticOptions,
    generic_movements,
    gesture_table,
    make_plan,
    make_task,
)

SMALL = dict(subjects=6, clips=72, sessions=2)


@pytest.fixture(scope='module')
def default_set():
    began = time.process_time()
    split, annotations, meta = make_synthetic()
    return split, annotations, meta, time.process_time() - began


def table(annotations, split, field):
    """One value an annotation, and which annotations are held out."""
    held = set(split['xsub_val'])
    value = np.array([a[field] for a in annotations])
    return value, np.array([a['frame_dir'] in held for a in annotations])


def test_default_set_is_quick_and_well_formed(default_set, tmp_path):
    split, annotations, meta, seconds = default_set
    assert seconds < 10
    assert len(annotations) == 2000 == len({a['frame_dir'] for a in annotations})
    for a in annotations:
        frames = a['total_frames']
        assert a['keypoint'].shape == (1, frames, 22, 2) and a['keypoint'].dtype == np.float32
        assert a['keypoint_score'].shape == (1, frames, 22)
        assert 20 <= frames <= 150 and 25 <= a['fps'] <= 30
        assert a['end'] - a['start'] + 1 == frames
        assert a['img_shape'] == (720, 1280)
    points = np.concatenate([a['keypoint'][0] for a in annotations])
    score = np.concatenate([a['keypoint_score'][0] for a in annotations])
    assert ((points == 0).all(-1) == (score == 0)).all()
    assert points.min() >= 0 and points[..., 0].max() < 1280 and points[..., 1].max() < 720
    assert score.max() <= 1
    assert meta['source'] == 'synthetic' and meta['note'].startswith('Synthetic')
    assert meta['layout'] == 'imigue22' and tuple(meta['classes']) == get_classes('imigue')
    save_annotations(tmp_path / 'set.pkl', split, annotations, meta)
    again = load_annotations(tmp_path / 'set.pkl')
    assert again['meta'] == meta and again['split'] == split


def test_splits_hold_subjects_apart_and_every_class(default_set):
    split, annotations, _, _ = default_set
    subject, held = table(annotations, split, 'subject')
    label, _ = table(annotations, split, 'label')
    assert not set(subject[held]) & set(subject[~held])
    assert len(set(subject[held])) == 8 and len(set(subject)) == 24
    for part in (held, ~held):
        assert np.bincount(label[part], minlength=32).min() >= FEWEST
    assert set(split['sessions_train']) == set(split['xsub_train'])
    assert set(split['sessions_test']) == set(split['xsub_val'])


def test_long_tail_follows_the_published_counts(default_set):
    _, annotations, _, _ = default_set
    found = np.bincount([a['label'] for a in annotations], minlength=32)
    share = np.array(class_counts('imigue')) / sum(class_counts('imigue'))
    common = share > 0.02
    assert np.corrcoef(np.log(found[common]), np.log(share[common]))[0, 1] > 0.85
    assert abs(found[31] / 2000 - share[31]) < 0.08
    assert found[~common].max() < found[common].max() / 5


def test_sessions_are_timelines_with_balanced_outcomes(default_set):
    _, annotations, _, _ = default_set
    sessions, outcomes = defaultdict(list), defaultdict(dict)
    for a in annotations:
        sessions[a['session']].append(a)
        outcomes[a['subject']][a['session']] = a['outcome']
    assert len(sessions) == 24 * 6
    for clips in sessions.values():
        clips.sort(key=lambda a: a['start'])
        assert all(a['end'] < b['start'] for a, b in zip(clips, clips[1:], strict=False))
        assert len({(a['fps'], a['outcome'], a['subject']) for a in clips}) == 1
    for of_subject in outcomes.values():
        assert sorted(of_subject.values()) == ['lose'] * 3 + ['win'] * 3


def test_same_options_same_bytes_and_seeds_differ():
    assert pickle.dumps(make_synthetic(**SMALL)) == pickle.dumps(make_synthetic(**SMALL))
    one, two = (make_synthetic(seed=seed, **SMALL)[1][0]['keypoint'] for seed in (0, 1))
    assert one.shape != two.shape or not np.array_equal(one, two)


def test_bytes_are_those_of_the_version():
    """Fails when the set changes: then raise VERSION, so that caches are renewed."""
    _, annotations, _ = make_synthetic(**SMALL)
    label = [a['label'] for a in annotations]
    total = sum(float(a['keypoint'].astype(np.float64).sum()) for a in annotations)
    assert label[:8] == [7, 1, 28, 28, 30, 31, 31, 21]
    assert total == pytest.approx(95790417, abs=2)


def test_clips_do_not_depend_on_how_many_follow():
    few = {a['frame_dir']: a for a in make_synthetic(**SMALL)[1]}
    many = {a['frame_dir']: a for a in make_synthetic(**{**SMALL, 'clips': 144})[1]}
    assert set(few) <= set(many)
    kept = [name for name in few if few[name]['label'] == many[name]['label']]
    assert len(kept) > 0.6 * len(few)
    for name in kept:
        np.testing.assert_array_equal(few[name]['keypoint'], many[name]['keypoint'])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(-0.6, 0.6), min_size=6, max_size=6))
def test_two_bone_ik_keeps_bone_lengths(numbers):
    goal, pole = np.array(numbers[:3])[None], np.array(numbers[3:])[None]
    base, upper, lower = np.zeros((1, 3)), np.array([[0.3]]), np.array([[0.25]])
    middle, end = two_bone_ik(base, goal, upper, lower, pole)
    distance = np.linalg.norm(goal)
    if distance > 1e-3 and np.linalg.norm(np.cross(goal, pole)) > 1e-3:
        np.testing.assert_allclose(np.linalg.norm(middle), 0.3, atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(end - middle), 0.25, atol=1e-9)
        if 0.06 < distance < 0.98 * 0.55:
            np.testing.assert_allclose(end, goal, atol=1e-9)
        # The elbow lies on the pole's side of the line from shoulder to wrist.
        along = goal / distance
        assert ((middle - (middle * along).sum() * along) * pole).sum() > 0


def test_minimum_jerk_starts_and_ends_at_rest():
    course = minimum_jerk(np.linspace(-0.5, 1.5, 2001))
    assert course[0] == 0 and course[-1] == 1
    assert (np.diff(course) >= -1e-12).all()
    assert np.diff(course).max() == pytest.approx(1.875 * 0.001, rel=1e-3)


def test_bodies_have_rigid_bones():
    _, annotations, meta = make_synthetic(dataset='smg', noise=0, **SMALL)
    layout = get_layout(meta['layout'])
    index = layout.joints.index
    for a in annotations[::5]:
        points = a['keypoint'][0]
        for one, two in (
            ('shoulder', 'elbow'),
            ('elbow', 'wrist'),
            ('hip', 'knee'),
            ('knee', 'ankle'),
        ):
            for side in ('left', 'right'):
                bone = points[:, index(f'{side}_{one}')] - points[:, index(f'{side}_{two}')]
                length = np.linalg.norm(bone, axis=-1)
                assert 0.15 < length.mean() < 0.6
                assert np.ptp(length) < 1e-3


@pytest.mark.parametrize(
    ('gesture', 'joint', 'near'),
    [
        ('touch other face part', 'nose', 0.3),
        ('rub eyes', 'nose', 0.45),
        ('touch ears', 'ear', 0.45),
        ('touch chin', 'nose', 0.75),
        ('scratch arm', 'elbow', 0.6),
    ],
)
def test_fingertips_reach_what_the_gesture_names(exact_set, gesture, joint, near):
    """In units of the shoulders' width, at the closest frame, for the closer of the two hands."""
    assert np.median(closest(exact_set, gesture, joint)) < near
    assert np.median(closest(exact_set, 'bite lip', joint)) > near


@pytest.fixture(scope='module')
def exact_set():
    return make_synthetic(noise=0, clips=1000, subjects=12)


def closest(exact_set, gesture, joint):
    """Least distance of a fingertip to the joint (not to those of its own arm), clip by clip."""
    _, annotations, meta = exact_set
    joints = get_layout('imigue22').joints
    pairs = [
        (tip, goal)
        for tip, name in enumerate(joints)
        for goal, other in enumerate(joints)
        if '_finger' in name and other.endswith(joint)
        if joint != 'elbow' or name.split('_')[0] != other.split('_')[0]
    ]
    found = []
    for a in annotations:
        if meta['classes'][a['label']] == gesture:
            points = a['keypoint'][0]
            wide = np.linalg.norm(points[:, 2] - points[:, 5], axis=-1).mean()
            gaps = [np.linalg.norm(points[:, i] - points[:, j], axis=-1).min() for i, j in pairs]
            found.append(min(gaps) / wide)
    return found


def test_every_movement_is_in_the_table_and_moves_something():
    movements = gesture_table()['movements']
    for dataset in ('imigue', 'smg'):
        task = make_task(SyntheticOptions(dataset=dataset))
        assert task.named and task.names == get_classes(dataset)
        for entry in task.movements:
            assert entry.keys() & {'near', 'body', 'sway', 'foot'}
    marks = gesture_table()['landmarks']
    for entry in movements.values():
        assert entry.get('near', 'chin') in marks and entry.get('far', 'chin') in marks
        assert entry.get('like', 'fold arm') in movements


def test_detector_errors_are_correlated_in_time_and_told_by_the_score():
    clean = make_synthetic(noise=0, **SMALL)[1]
    noisy = make_synthetic(**SMALL)[1]
    errors, scores, now, before, runs = [], [], [], [], []
    for a, b in zip(clean, noisy, strict=True):
        off = b['keypoint'][0] - a['keypoint'][0]
        seen = (b['keypoint_score'][0] > 0) & (a['keypoint_score'][0] > 0)
        errors.append(np.linalg.norm(off, axis=-1)[:, 0][seen[:, 0]])
        scores.append(b['keypoint_score'][0][:, 0][seen[:, 0]])
        both = seen[1:] & seen[:-1]
        now.append(off[1:, :, 0][both])
        before.append(off[:-1, :, 0][both])
        missed = (b['keypoint_score'][0] == 0) & (a['keypoint_score'][0] > 0)
        starts = missed & ~np.vstack([np.zeros((1, 22), bool), missed[:-1]])
        runs.append((missed.sum(), starts.sum()))
    assert np.corrcoef(np.concatenate(errors), np.concatenate(scores))[0, 1] < -0.4
    assert np.corrcoef(np.concatenate(now), np.concatenate(before))[0, 1] > 0.3
    missed, starts = np.sum(runs, 0)
    assert missed / starts > 2
    assert 0.005 < missed / sum(a['keypoint_score'].size for a in noisy) < 0.1


def outcome_accuracy(linked):
    """Held-out sessions told right by a logistic regression on their bags of gestures."""
    linear_model = pytest.importorskip('sklearn.linear_model')
    options = SyntheticOptions(subjects=60, clips=6000, linked=linked, seed=3)
    plan = make_plan(options, make_task(options))
    bags = np.zeros((360, 32))
    np.add.at(bags, (plan.session, plan.label), 1)
    held = np.zeros(360, bool)
    held[plan.session[plan.held_out]] = True
    model = linear_model.LogisticRegression(C=0.1, max_iter=2000)
    model.fit(bags[~held], plan.outcome[~held])
    assert plan.outcome.mean() == 0.5
    return model.score(bags[held], plan.outcome[held]), held.sum()


def test_outcome_can_be_read_from_gestures_only_when_linked():
    accuracy, sessions = outcome_accuracy(linked=True)
    assert sessions == 120
    # 0.5 + 5 standard errors of a coin tossed once a session.
    assert accuracy > 0.5 + 5 * 0.5 / np.sqrt(sessions)
    accuracy, sessions = outcome_accuracy(linked=False)
    assert abs(accuracy - 0.5) < 1.96 * 0.5 / np.sqrt(sessions)


def features(a):
    """Where joints are, how they move: medians and deviations in units of the shoulders' width."""
    points = np.where(a['keypoint_score'][0][..., None] > 0, a['keypoint'][0], np.nan)
    centre = np.nanmedian(points[:, 1], 0)
    points = (points - centre) / np.nanmedian(np.linalg.norm(points[:, 2] - points[:, 5], axis=-1))
    frames = len(points)
    middle = np.nanmedian(points[frames // 4 : -frames // 4], 0)
    change = middle - np.nanmedian(points[: max(2, frames // 8)], 0)
    spread, speed = np.nanstd(points, 0), np.nanstd(np.diff(points, axis=0), 0)
    return np.nan_to_num(np.concatenate([middle, change, spread, speed])).ravel()


@pytest.mark.filterwarnings('ignore:All-NaN', 'ignore:Degrees of freedom')
def test_gestures_are_learnable_but_not_from_artefacts(default_set):
    ensemble = pytest.importorskip('sklearn.ensemble')
    split, annotations, _, _ = default_set
    label, held = table(annotations, split, 'label')
    majority = np.bincount(label[held]).max() / held.sum()

    def accuracy(values, leaf):
        values = np.array(values, float).reshape(len(annotations), -1)
        model = ensemble.ExtraTreesClassifier(25, min_samples_leaf=leaf, random_state=0)
        guess = model.fit(values[~held], label[~held]).predict(values[held])
        return (guess == label[held]).mean()

    for hint in (
        [(a['total_frames'], a['total_frames'] / a['fps'], a['start']) for a in annotations],
        [(a['keypoint_score'].mean(), (a['keypoint_score'] == 0).mean()) for a in annotations],
    ):
        assert accuracy(hint, leaf=10) < majority + 0.04
    assert majority + 0.2 < accuracy([features(a) for a in annotations], leaf=1) < 0.9


@pytest.mark.parametrize(
    ('dataset', 'joints', 'classes', 'dims'),
    [('smg', 25, 17, 3), ('ma52', 17, 52, 2), ('msr_action3d', 20, 20, 3), ('ntu60', 25, 60, 3)],
)
def test_stand_ins_have_the_form_of_their_data_set(dataset, joints, classes, dims):
    split, annotations, meta = make_synthetic(dataset=dataset, subjects=6, clips=240, sessions=2)
    assert len(meta['classes']) == classes
    assert {a['keypoint'].shape[2:] for a in annotations} == {(joints, dims)}
    assert ('img_shape' in annotations[0]) == (dims == 2)
    label, held = table(annotations, split, 'label')
    assert set(label[~held]) == set(range(classes))
    if dims == 3:
        assert {float(v) for a in annotations for v in np.unique(a['keypoint_score'])} == {0.0, 1.0}


@pytest.mark.parametrize(
    'layout', ['body25', 'kinect_v1_20', 'imigue22_released', 'upper46', 'holistic75', 'openpose67']
)
def test_other_layouts(layout):
    _, annotations, meta = make_synthetic(subjects=2, clips=4, layout=layout, classes=400)
    assert annotations[0]['keypoint'].shape[2] == get_layout(layout).num_joints
    assert meta['layout'] == layout and len(meta['classes']) == 400
    assert all(a['keypoint_score'].any() for a in annotations)


@pytest.mark.parametrize('layout', ['upper46', 'holistic75'])
def test_fingers_go_with_their_wrist_and_curl(layout):
    _, annotations, _ = make_synthetic(subjects=6, clips=240, layout=layout, noise=0)
    at = {joint: j for j, joint in enumerate(get_layout(layout).joints)}
    for side in ('left', 'right'):
        for finger in ('thumb', 'index_finger', 'middle_finger', 'ring_finger', 'pinky'):
            seen, curls = [], []
            for body in (a['keypoint'][0] for a in annotations):
                wrist, tip = (body[:, at[f'{side}_{j}']] for j in ('wrist', f'{finger}_tip'))
                shown = tip.any(-1) & wrist.any(-1)  # not out of the picture
                seen.append(shown.mean())
                width = body[:, at['left_shoulder']] - body[:, at['right_shoulder']]
                width = np.linalg.norm(width, axis=-1).max()
                reach = np.linalg.norm(tip - wrist, axis=-1)[shown] / width
                assert (reach > 0).all() and (reach < 1).all()
                curls.append(np.ptp(reach) if shown.any() else 0)
            assert np.mean(seen) > 0.95 and np.quantile(curls, 0.9) > 0.05, (side, finger)


def test_recordings_are_sessions_with_frames_between_the_gestures():
    options = dict(SMALL, noise=0.0)
    split, recordings, meta = make_synthetic(recordings=True, **options)
    _, clips, _ = make_synthetic(**options)
    assert split == dict(
        recordings_train=[a['frame_dir'] for a in recordings if a['frame_dir'] not in
                          split['recordings_val']],
        recordings_val=split['recordings_val'],
    )  # fmt: skip
    assert len(recordings) == 12 and len(split['recordings_val']) == 4
    of_clips = {a['subject'] for a in clips if a['frame_dir'][:7] in split['recordings_val']}
    assert {r['subject'] for r in recordings if r['frame_dir'] in split['recordings_val']} == (
        of_clips
    )
    steps = [np.abs(np.diff(a['keypoint'][0], axis=0)).max() for a in clips]
    for recording in recordings:
        own = [a for a in clips if a['session'] == recording['session']]
        expected = [dict(label=a['label'], start=a['start'], end=a['end'] + 1) for a in own]
        assert recording['segments'] == expected and 'label' not in recording
        assert recording['total_frames'] > expected[-1]['end']
        # Nothing jumps where one movement passes into the next.
        way = np.abs(np.diff(recording['keypoint'][0], axis=0)).max()
        assert way < 1.5 * max(steps)


def test_left_and_right_are_the_persons_own():
    """A person who faces the camera has the left side on the image's right."""
    _, annotations, meta = make_synthetic(noise=0, **SMALL)
    layout = get_layout('imigue22')
    for a in annotations:
        left, right = (
            a['keypoint'][0][:, layout.joints.index(f'{s}_shoulder')] for s in ('left', 'right')
        )
        assert (left[:, 0] > right[:, 0]).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(dataset='kinetics'), 'kinetics.*imigue'),
        (dict(subjects=1), 'subjects=1'),
        (dict(clips=3), 'clips=3.*24'),
        (dict(noise=-1), 'noise=-1'),
        (dict(classes=1), 'classes=1'),
        (dict(classes=10**4), 'classes=10000.*generic'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_synthetic(**options)


def test_generic_movements_are_distinct_and_stable():
    entries = [repr(sorted(entry.items())) for entry in generic_movements(1000)]
    assert len(set(entries)) == 1000
    assert generic_movements(7) == generic_movements(60)[:7]


def test_ensure_makes_the_file_once_and_again_when_it_is_spoilt(tmp_path, monkeypatch):
    monkeypatch.setenv('MG_PLUGINS_CACHE', str(tmp_path / 'cache'))
    path = ensure_synthetic(**SMALL)
    assert path.parent == tmp_path / 'cache'
    whole, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert ensure_synthetic(**SMALL) == path and path.stat().st_mtime_ns == stamp
    assert ensure_synthetic(**{**SMALL, 'seed': 1}) != path

    path.write_bytes(whole[: len(whole) // 2])
    assert ensure_synthetic(**SMALL).read_bytes() == whole
    other = ensure_synthetic(**{**SMALL, 'seed': 1}).read_bytes()
    path.write_bytes(other)
    assert ensure_synthetic(**SMALL).read_bytes() == whole
    path.write_bytes(pickle.dumps(Bomb(tmp_path / 'exploded')))
    assert ensure_synthetic(**SMALL).read_bytes() == whole
    assert not (tmp_path / 'exploded').exists()


@dataclasses.dataclass
class Bomb:
    path: object

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_ensure_is_safe_in_several_processes_at_once_and_needs_numpy_only(tmp_path):
    code = (
        'import sys\n'
        'for name in ("torch", "mmengine", "mmcv", "mmaction"): sys.modules[name] = None\n'
        'from mg_plugins.data.synthetic import ensure_synthetic\n'
        'from mg_plugins.data.annotations import load_annotations\n'
        f'path = ensure_synthetic(**{SMALL!r})\n'
        'print(len(load_annotations(path)["annotations"]))'
    )
    command = [sys.executable, '-c', code]
    settings = dict(stdout=subprocess.PIPE, text=True)
    settings['env'] = os.environ | dict(MG_PLUGINS_CACHE=str(tmp_path))
    running = [subprocess.Popen(command, **settings) for _ in range(3)]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == ['72'] * 3
    assert len(list(tmp_path.iterdir())) == 1
