import numpy as np
import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from mg_plugins.data.classes import get_classes
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.emotion.build import synthetic_scenarios
from mg_plugins.emotion.scenarios import load_scenarios, save_scenarios


@pytest.fixture(scope='module')
def linked():
    return synthetic_scenarios(True)


@pytest.fixture(scope='module')
def unlinked():
    return synthetic_scenarios(False)


def test_the_same_for_the_same_seed_and_through_a_file(linked, tmp_path):
    assert synthetic_scenarios(True) == linked
    assert synthetic_scenarios(True, seed=1) != linked
    save_scenarios(tmp_path / 's.jsonl', linked)
    assert load_scenarios(tmp_path / 's.jsonl') == linked


def test_sizes_splits_and_names(linked):
    assert len(linked) == 144 and {s.source for s in linked} == {'synthetic'}
    train, test = ({s.subject for s in linked if s.split == k} for k in ('train', 'test'))
    assert (len(train), len(test)) == (16, 8) and not train & test
    assert sum(len(s.gestures) for s in linked) == 2000
    assert {g.name for s in linked for g in s.gestures} <= set(get_classes('imigue'))
    assert all(g.confidence == 1 for s in linked for g in s.gestures)
    assert [s.state for s in linked].count('win') == 72


def test_timelines_are_those_of_the_synthetic_set():
    options = dict(seed=3, subjects=4, sessions=2, clips=40)
    split, annotations, meta = make_synthetic(**options)
    expected: dict = {}
    for clip in annotations:
        gesture = (meta['classes'][clip['label']], round(clip['start'] / clip['fps'], 2))
        expected.setdefault((clip['subject'], clip['session'], clip['outcome']), []).append(gesture)
    made = synthetic_scenarios(True, **options)
    found = [(s.state, [(g.name, g.start) for g in s.gestures]) for s in made]
    assert sorted(found) == sorted((key[2], timeline) for key, timeline in expected.items())
    test = {a['session'] for a in annotations if a['frame_dir'] in set(split['sessions_test'])}
    assert sum(s.split == 'test' for s in made) == len(test)


def test_the_two_kinds_differ_in_gestures_only(linked, unlinked):
    for a, b in zip(linked, unlinked, strict=True):
        assert (a.id, a.subject, a.context, a.state, a.split) == (
            *(b.id, b.subject, b.context, b.state, b.split),
        )
        assert [(g.start, g.end) for g in a.gestures] == [(g.start, g.end) for g in b.gestures]
    assert [s.gestures for s in linked] != [s.gestures for s in unlinked]


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_the_text_is_a_weak_sign(seed):
    scenarios = synthetic_scenarios(False, seed=seed)
    reader = SentimentIntensityAnalyzer()
    for split in ('train', 'test'):
        chosen = [s for s in scenarios if s.split == split]
        tone = np.array([reader.polarity_scores(s.context)['compound'] for s in chosen])
        assert (tone != 0).all()
        right = (tone > 0) == np.array([s.state == 'win' for s in chosen])
        assert 0.6 <= right.mean() <= 0.7


def learned(scenarios):
    from sklearn.linear_model import LogisticRegression

    names = get_classes('imigue')
    bags = np.array([[sum(g.name == n for g in s.gestures) for n in names] for s in scenarios])
    won = np.array([s.state == 'win' for s in scenarios])
    train = np.array([s.split == 'train' for s in scenarios])
    model = LogisticRegression(C=0.1, max_iter=1000).fit(bags[train], won[train])
    return model.score(bags[~train], won[~train])


def test_gestures_tell_the_outcome_where_they_are_linked():
    seeds = range(5)
    assert np.mean([learned(synthetic_scenarios(True, seed=s)) for s in seeds]) > 0.85
    assert abs(np.mean([learned(synthetic_scenarios(False, seed=s)) for s in seeds]) - 0.5) < 0.1


def test_open_ended(linked):
    scenarios = synthetic_scenarios(True, open_ended=True)
    assert all(s.open_ended and s.states == ('win', 'lose') for s in scenarios)
    assert {s.id for s in scenarios}.isdisjoint(s.id for s in linked)
    with pytest.raises(ValueError, match='subjects'):
        synthetic_scenarios(True, subjects=1)
