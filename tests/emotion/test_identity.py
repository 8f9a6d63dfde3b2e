import json

import numpy as np
import pytest
from tools_here import tool

from mg_plugins.data.annotations import save_annotations
from mg_plugins.data.layouts import get_layout
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.emotion.build import synthetic_scenarios
from mg_plugins.emotion.identity import (
    Samples,
    keypoint_samples,
    probe_subjects,
    timeline_samples,
)
from mg_plugins.emotion.scenarios import Gesture, Scenario, save_scenarios
from mg_plugins.errors import UserError


def samples(strength, people=6, sessions=5, seed=0):
    stream = np.random.default_rng(seed)
    subject = np.repeat(np.arange(people), sessions)
    own = strength * stream.standard_normal((people, 8))
    features = own[subject] + stream.standard_normal((len(subject), 8))
    names = [f'p{s}' for s in subject]
    return Samples('made up', features, tuple(names))


def test_people_who_differ_are_told_apart_and_others_are_not():
    clear = probe_subjects(samples(6.0), shuffles=10)
    assert clear['accuracy'] > 0.9 and clear['low'] > clear['null_high']
    assert clear['p'] == pytest.approx(1 / 11) and clear['chance'] == pytest.approx(1 / 6)
    assert (clear['subjects'], clear['sessions'], clear['features']) == (6, 30, 8)
    assert clear['chance'] <= clear['null_high'] < clear['chance'] + 0.2
    p = [probe_subjects(samples(0.0, seed=s), shuffles=8)['p'] for s in range(3)]
    assert np.mean(p) > 0.2
    assert probe_subjects(samples(1.0), shuffles=5) == probe_subjects(samples(1.0), shuffles=5)


def test_a_session_is_one_row_so_that_it_is_on_one_side_only():
    # Each session has a gesture of its own that would name the subject if the session leaked.
    made = timeline_samples(
        [
            timeline(
                f'{session}{half}', f'p{session % 8}', f'v{session}', Gesture(f'g{session}', 0, 1)
            )
            for session in range(32)
            for half in 'ab'
        ]
    )
    assert made.features.shape[0] == 32
    assert probe_subjects(made, shuffles=10)['accuracy'] < 0.3


def test_a_subject_with_one_session_is_named():
    few = samples(1.0)
    alone = Samples('x', few.features, ('alone', *few.subjects[1:]))
    with pytest.raises(UserError, match='have one session only: alone'):
        probe_subjects(alone)
    one = Samples('x', few.features[:3], ('a',) * 3)
    with pytest.raises(UserError, match='two subjects'):
        probe_subjects(one)


def test_keypoint_statistics_by_hand():
    layout = get_layout('imigue22')
    stream = np.random.default_rng(0)
    pose = stream.uniform(100, 300, (22, 2))
    keypoint = np.stack([pose, pose])[None].astype(np.float32)
    clip = dict(frame_dir='c', subject='a', session='s', keypoint=keypoint, label=0)
    moved = dict(clip, session='t', keypoint=keypoint * 2 + 50)  # nearer to the camera, elsewhere
    made = keypoint_samples({'meta': {'layout': 'imigue22'}, 'annotations': [clip, moved]})
    assert made.features.shape == (2, 22 * 4 + len(layout.bones))
    np.testing.assert_allclose(made.features[0], made.features[1], atol=1e-4)
    mean, spread, bones = np.split(made.features[0], [44, 88])
    assert mean.reshape(22, 2)[layout.centre] == pytest.approx([0, 0], abs=1e-5)
    np.testing.assert_allclose(spread, 0, atol=1e-5)
    a, b = layout.bones[0]
    assert bones[0] == pytest.approx(
        np.linalg.norm(mean.reshape(22, 2)[a] - mean.reshape(22, 2)[b])
    )


def test_keypoint_errors():
    clip = dict(frame_dir='c', subject='a', session='s', keypoint=np.ones((1, 2, 22, 2)), label=0)
    twin = dict(clip, subject='b')
    for layout, clips, message in (
        (None, [clip], '--layout'),
        ('coco17', [clip], "clip 'c' has .* 22 joints"),
        ('imigue22', [clip | {'session': ''}], "clip 'c' has .* session '' and"),
        ('imigue22', [clip, twin], "session 's' is of the subjects 'a' and 'b'"),
        ('imigue22', [], 'nothing to probe'),
    ):
        with pytest.raises(UserError, match=message):
            keypoint_samples({'meta': {'layout': layout}, 'annotations': clips})


def timeline(name, subject, session, *gestures):
    return Scenario(name, subject, session, 'd', 's', '', gestures, 'q', (), ('a', 'b'), (0.0, 0.0))


def test_timelines_by_hand():
    def scenario(number, *gestures):
        return timeline(str(number), 'p', f'v{number}', *gestures)

    rub, nod = Gesture('rub', 0, 10), Gesture('nod', 20, 30)
    made = timeline_samples([scenario(1, rub, rub, nod, nod), scenario(2, rub), scenario(3)])
    np.testing.assert_allclose(made.features, [[0.5, 0.5, 8], [0, 1, 6], [0, 0, 0]])
    with pytest.raises(UserError, match='no gestures'):
        timeline_samples([scenario(1)])


@pytest.mark.slow
def test_tool(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main = tool('probe_identity')
    save_annotations(
        tmp_path / 'set.pkl', *make_synthetic(subjects=6, sessions=4, clips=120, noise=0.5)
    )
    scenarios = synthetic_scenarios(True, subjects=6, sessions=4, clips=120)
    save_scenarios(tmp_path / 's.jsonl', scenarios)
    options = '--keypoints set.pkl --scenarios s.jsonl --shuffles 5 --out out'.split()
    assert main(options) == 0
    printed = capsys.readouterr().out
    assert 'synthetic' in printed and 'gesture timelines' in printed
    content = json.loads((tmp_path / 'out' / 'identity.json').read_text())
    assert content['source'] == 'synthetic'
    points, timelines = content['probes']
    assert (points['sessions'], timelines['sessions']) == (24, 24)
    # The bodies of the synthetic set differ more than its gesture habits do.
    assert points['accuracy'] > points['chance'] and points['accuracy'] > timelines['accuracy']
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['identity.json']


def test_tool_errors(tmp_path, capsys):
    main = tool('probe_identity')
    assert main(['--scenarios', str(tmp_path / 'no.jsonl')]) == 1
    assert capsys.readouterr().err.startswith('probe_identity.py: ')
    assert main(['--shuffles', '0']) == 2
    assert 'at least 1 was expected, not 0' in capsys.readouterr().err
