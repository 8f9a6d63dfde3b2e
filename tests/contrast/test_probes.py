"""Probes on features whose answer is known."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mg_plugins.contrast import probes
from mg_plugins.contrast.losses import ContrastError
from mg_plugins.contrast.probes import Features


def features(seed=0, clips=120, classes=4, subjects=5, dims=8, spread=0.3):
    """Clusters, one a class, with the same centres for every seed."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dims))
    labels = np.arange(clips) % classes
    vectors = centres[labels] + spread * rng.normal(size=(clips, dims))
    return Features(
        vectors.astype(np.float32),
        labels,
        np.array([f'c{seed}_{i:04d}' for i in range(clips)]),
        np.array([f'p{i % subjects}' for i in range(clips)]),
    )


def shuffled(given, seed=0):
    labels = np.random.default_rng(seed).permutation(given.labels)
    return Features(given.vectors, labels, given.clips, given.subjects)


def accuracy(guess, test):
    return (guess == test.labels).mean()


@pytest.fixture
def two_strengths(monkeypatch):
    monkeypatch.setattr(probes, 'STRENGTHS', (0.1, 1.0))


@pytest.mark.usefixtures('two_strengths')
@pytest.mark.parametrize('probe', [probes.knn_probe, probes.linear_probe])
def test_classes_that_lie_apart_are_told_apart_and_noise_is_not(probe):
    train, test = features(1), features(2)
    assert accuracy(probe(train, test), test) > 0.95
    noise = shuffled(test)
    assert 0.05 < accuracy(probe(shuffled(train, 3), noise), noise) < 0.5


@pytest.mark.usefixtures('two_strengths')
@pytest.mark.parametrize('probe', [probes.knn_probe, probes.linear_probe])
def test_a_prediction_depends_on_no_other_test_clip(probe):
    """Nothing of the test side is fitted: neither labels nor the company of a clip matter."""
    train, test = features(1), features(2, spread=2.0)
    whole = probe(train, test)
    np.testing.assert_array_equal(probe(train, test.of(np.arange(7))), whole[:7])
    strange = Features(test.vectors * 50 + 9, test.labels, test.clips, test.subjects)
    mixed = Features(*(np.concatenate(pair) for pair in zip(fields(test), fields(strange))))  # noqa: B905
    np.testing.assert_array_equal(probe(train, mixed)[: len(test)], whole)
    np.testing.assert_array_equal(probe(train, shuffled(test)), whole)


def fields(given):
    return given.vectors, given.labels, given.clips, given.subjects


def test_the_vote_of_neighbours_by_hand():
    train = Features(
        np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32),
        np.array([0, 1, 2]),
        np.array(['a', 'b', 'c']),
        np.array(['p', 'p', 'p']),
    )
    test = train.of(np.array([0, 2]))
    np.testing.assert_array_equal(probes.knn_probe(train, test, neighbours=1), [0, 2])
    two = Features(train.vectors, np.array([0, 2, 2]), train.clips, train.subjects)
    # Two nearly as near neighbours of class 2 outvote the one of class 0 at a high temperature.
    np.testing.assert_array_equal(probes.knn_probe(two, two.of([0]), 3, temperature=100.0), [2])


def test_the_linear_probe_takes_the_best_strength_over_left_out_subjects(monkeypatch):
    train, seen = features(1, clips=40), []

    def scored(model, vectors, labels, cv):
        assert cv
        for fit, held in cv:
            assert not set(train.subjects[fit]) & set(train.subjects[held])
        seen.append(model[-1].C)
        return np.array([-abs(model[-1].C - 0.3)])

    monkeypatch.setattr('sklearn.model_selection.cross_val_score', scored)
    model, strength = probes.fit_linear(train)
    assert strength == model[-1].C == 0.3 and seen == list(probes.STRENGTHS)


def test_the_linear_probe_leaves_the_filters_of_warnings_alone():
    before = list(warnings.filters)
    probes.linear_probe(features(1, clips=8), features(2, clips=8))
    assert warnings.filters == before


def test_a_linear_probe_of_few_clips_needs_no_folds():
    train = features(1).of(np.arange(4))
    one = Features(train.vectors, train.labels, train.clips, np.array(['p'] * 4))
    model, strength = probes.fit_linear(one)
    assert strength == 1.0 and len(model.predict(one.vectors)) == 4


def test_the_strength_is_the_best_for_people_who_were_left_out():
    """Each person does a gesture in a way of their own, which tells clips of that person apart."""
    from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_score

    rng = np.random.default_rng(1)
    labels, people = np.tile(np.arange(4), 36), np.repeat(np.arange(6), 24)
    centres = 0.6 * rng.normal(size=(4, 30))
    ways = rng.normal(size=(6, 4, 30))
    vectors = centres[labels] + ways[people, labels] + 0.3 * rng.normal(size=(144, 30))
    clips = Features(vectors.astype(np.float32), labels, np.arange(144), people.astype(str))
    model, strength = probes.fit_linear(clips)

    def scores(folds):
        given = clips.vectors, clips.labels, clips.subjects
        return [
            cross_val_score(model.set_params(logisticregression__C=c), *given[:2], cv=folds,
                            groups=given[2]).mean()
            for c in probes.STRENGTHS
        ]  # fmt: skip

    by_people = scores(GroupKFold(5))
    assert strength == probes.STRENGTHS[int(np.argmax(by_people))] == 0.01
    assert max(by_people) > min(by_people) + 0.1
    # Clips of people that are known would have chosen another one.
    by_clips = scores(StratifiedKFold(5, shuffle=True, random_state=0))
    assert by_clips[0] < max(by_clips)


def test_retrieval_agrees_with_scikit_learn():
    gallery, queries = features(1, spread=1.5), features(2, clips=40, spread=1.5)
    found = probes.retrieval(gallery, queries)
    similarity = probes.unit(queries.vectors) @ probes.unit(gallery.vectors).T
    expected = [
        average_precision_score(gallery.labels == label, row)
        for label, row in zip(queries.labels, similarity, strict=True)
    ]
    assert found['mAP'] == pytest.approx(np.mean(expected), abs=1e-6)
    nearest = gallery.labels[similarity.argmax(1)]
    assert found['R1'] == pytest.approx((nearest == queries.labels).mean())
    assert found['R1'] < found['R5'] < 1
    missing = probes.retrieval(gallery.of(gallery.labels != 0), queries.of(queries.labels == 0))
    assert missing == dict(mAP=0.0, R1=0.0, R5=0.0)


def test_left_out_neighbours_are_of_other_subjects():
    own = features(1, spread=0.01)
    assert probes.left_out_knn(own) == 1.0
    # Every subject has a class of its own: the others' clips cannot name it.
    subjects = own.labels.astype(str)
    alone = Features(own.vectors, own.labels, own.clips, subjects)
    assert probes.left_out_knn(alone) == 0.0


@pytest.mark.parametrize(('clips', 'subjects'), [(60, 1), (60, 7), (2, 1)])
def test_left_out_neighbours_are_those_of_a_probe_without_the_own(clips, subjects, monkeypatch):
    monkeypatch.setattr(probes, 'BLOCK', 16)  # several, the last one not full
    given = features(3, clips=clips, subjects=subjects, spread=2.0)
    groups = given.subjects if subjects > 1 else np.arange(clips)
    right = 0
    for group in np.unique(groups):
        own = groups == group
        right += accuracy(probes.knn_probe(given.of(~own), given.of(own), 5), given.of(own)) * (
            own.sum()
        )
    assert probes.left_out_knn(given, 5) == pytest.approx(right / clips)


def test_left_out_neighbours_without_subjects_are_found_at_once(monkeypatch):
    """A probe a clip took seconds for a thousand."""
    calls = []
    vote = probes.vote
    monkeypatch.setattr(probes, 'vote', lambda *args: calls.append(1) or vote(*args))
    probes.left_out_knn(features(clips=300, subjects=1))
    assert len(calls) == 1


def test_one_clip_has_no_neighbours():
    with pytest.raises(ContrastError, match='at least 2 clips, got 1'):
        probes.left_out_knn(features(clips=1))


def test_collapse_is_seen():
    good = features()
    assert not probes.is_collapsed(good.vectors)
    assert probes.is_collapsed(np.ones((10, 4)) + 1e-6 * good.vectors[:10, :4])


def test_what_does_not_fit_is_refused():
    good = features()
    with pytest.raises(ValueError, match='differ in number'):
        Features(good.vectors[:3], good.labels, good.clips, good.subjects)
    bad = good.vectors.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ContrastError, match='not finite.*Lower the learning rate'):
        Features(bad, good.labels, good.clips, good.subjects)


def test_a_picture_is_drawn(tmp_path):
    path = tmp_path / 'out' / 'features.png'
    probes.draw_features(path, features(clips=30), ['a', 'b', 'c', 'd'])
    assert path.read_bytes()[:4] == b'\x89PNG'
    with pytest.raises(ValueError, match='at least 5 clips'):
        probes.draw_features(path, features().of(np.arange(4)))
