"""Streams fused by their scores: from made scores by value, and with the tool on made clips."""

import json

import numpy as np
import pytest

from mg_plugins.errors import UserError
from mg_plugins.experiments.ensemble import (
    calibration_error,
    fit_weights,
    fuse,
    name_runs,
    write_ensemble,
)

CLASSES = 5


def write(run, labels, scores, prefix, subjects=4, file='scores.npz'):
    """Scores of a run as `train_and_test` leaves them, clips in an order of its own."""
    run.mkdir(parents=True, exist_ok=True)
    clips = np.array([f'{prefix}{number:03}' for number in range(len(labels))])
    who = [f's{number % subjects}' if subjects else '' for number in range(len(labels))]
    order = np.random.default_rng(len(str(run))).permutation(len(labels))
    outcome = dict(clips=clips[order].tolist(), subjects=[who[i] for i in order], source='')
    (run / 'outcome.json').write_text(json.dumps(outcome))
    kept = dict(clips=clips[order], labels=labels[order], scores=scores[order])
    np.savez(run / file, **kept)


def softmax(logits):
    logits = np.exp(logits - logits.max(1, keepdims=True))
    return logits / logits.sum(1, keepdims=True)


def said(labels, strength, rng, sharp=1.0):
    """Probabilities of a stream whose evidence for the true class has this strength."""
    evidence = strength * np.eye(CLASSES)[labels] + rng.normal(size=(len(labels), CLASSES))
    return softmax(sharp * strength * evidence)


@pytest.fixture
def streams(tmp_path):
    """Two streams that know something, one far too sure of itself, and one that knows nothing."""
    rng = np.random.default_rng(3)
    for fold, prefix, number in (('without_a', 'v', 600), ('test', 't', 800)):
        labels = rng.integers(CLASSES, size=number)
        for name, strength, sharp in (('joint', 1.5, 1), ('bone', 1.2, 5), ('noise', 0.5, 1)):
            scores = said(
                labels if name != 'noise' else rng.permutation(labels), strength, rng, sharp
            )
            write(tmp_path / name / fold / 's0', labels, scores, prefix)
    return {name: tmp_path / name for name in ('joint', 'bone', 'noise')}


def test_weights_are_those_of_the_evidence():
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=20_000)
    scores = np.log(
        [said(labels, 1.5, rng), said(labels, 1.2, rng, 5), said(labels, 1.0, rng, 0.5)]
    )
    # Independent normal evidence adds up with weight 1 once it is as sharp as it should be.
    assert fit_weights(scores, labels) == pytest.approx([1, 0.2, 2], rel=0.06)


def test_streams_that_are_wrong_leave_nearly_even_probabilities():
    labels = np.arange(50) % CLASSES
    scores = np.log(
        np.stack([0.05 + 0.75 * np.eye(CLASSES)[(labels + n) % CLASSES] for n in (1, 1)])
    )
    weights = fit_weights(scores, labels)
    assert (weights == weights[0]).all() and 0 < weights[0] < 0.01


def test_a_stream_that_says_nothing_counts_for_nothing(streams, tmp_path):
    write_ensemble(streams, tmp_path / 'out')
    weights = np.load(tmp_path / 'out/probabilities_s0.npz')['weights']
    assert weights[2] < 0.1 < min(weights[0], 5 * weights[1])


def test_the_ensemble_beats_its_streams_and_knows_how_sure_it_is(streams, tmp_path):
    text = write_ensemble(streams, tmp_path / 'out')
    (table,) = json.loads((tmp_path / 'out/results.json').read_text())['tables']
    means = figures(tmp_path / 'out')['top1']
    assert means['ensemble'] > max(means[name] for name in streams) + 1.5
    assert means['ensemble'] > means['equal weights']
    assert table['totals'] == [200] * 4 and table['clusters'] == 'subjects'
    assert 'the best single stream, joint' in text and '| ensemble |' in text
    kept = np.load(tmp_path / 'out/probabilities_s0.npz')
    right = kept['probabilities'].argmax(1) == kept['labels']
    assert 100 * right.mean() == pytest.approx(means['ensemble'], abs=0.01)
    assert calibration_error(kept['probabilities'], kept['labels']) < 0.05


def figures(folder):
    """Means of the rows of a folder's table by measure and name."""
    (table,) = json.loads((folder / 'results.json').read_text())['tables']
    return {
        measure: {row['name']: row['figures'][measure]['mean'] for row in table['rows']}
        for measure in ('top1', 'mean_class')
    }


def test_mean_class_accuracy_is_that_of_classes(streams, tmp_path):
    # Of two classes one is frequent, and the stream names that one always.
    labels = (np.arange(800) % 10 == 0).astype(int)
    for folder in streams.values():
        scores = np.tile([0.9, 0.1, 0, 0, 0], (800, 1))
        write(folder / 'test/s0', labels, scores, 't')
    write_ensemble(streams, tmp_path / 'out')
    means = figures(tmp_path / 'out')
    assert means['top1']['joint'] == 90 and means['mean_class']['joint'] == pytest.approx(50)


def test_heads_that_were_retrained_are_fused_as_rows_of_their_own(streams, tmp_path):
    write_ensemble(streams, tmp_path / 'before')
    rng = np.random.default_rng(5)
    for fold, prefix in (('without_a', 'v'), ('test', 't')):
        for folder in streams.values():
            run = folder / fold / 's0'
            found = np.load(run / 'scores.npz')
            labels = found['labels'][np.argsort(found['clips'])]
            write(run, labels, said(labels, 2.0, rng), prefix, file='retrained.npz')
    write_ensemble(streams, tmp_path / 'out')
    before, means = figures(tmp_path / 'before')['top1'], figures(tmp_path / 'out')['top1']
    own = [name for name in means if name.endswith(', re-trained heads')]
    assert {name: means[name] for name in means if name not in own} == before and len(own) == 5
    assert means['ensemble, re-trained heads'] > before['ensemble'] + 5
    kept = np.load(tmp_path / 'out/probabilities_s0.npz')
    right = kept['probabilities'].argmax(1) == kept['labels']
    assert 100 * right.mean() == pytest.approx(means['ensemble, re-trained heads'], abs=0.01)


def test_test_clips_choose_nothing(streams, tmp_path):
    write_ensemble(streams, tmp_path / 'out')
    path = streams['joint'] / 'test/s0/scores.npz'
    found = dict(np.load(path))
    found['scores'] = np.roll(found['scores'], 1, 1)
    np.savez(path, **found)
    write_ensemble(streams, tmp_path / 'again')
    weights = [
        np.load(tmp_path / f'{out}/probabilities_s0.npz')['weights'] for out in ('out', 'again')
    ]
    assert np.array_equal(*weights)


def test_without_left_out_subjects_all_count_alike_and_the_table_says_so(streams, tmp_path):
    for folder in streams.values():
        (folder / 'without_a').rename(folder / 'kept_apart')
    text = write_ensemble(streams, tmp_path / 'out')
    assert 'all streams count alike' in text and 'weights joint 0.33, bone 0.33' in text


def test_clips_that_name_no_subject_are_left_out_by_class(tmp_path, streams):
    rng = np.random.default_rng(4)
    labels = rng.integers(CLASSES, size=300)
    for folder in streams.values():
        write(folder / 'without_a/s0', labels, said(labels, 1.0, rng), 'v', subjects=0)
    assert 'Weights are from left-out training clips, and so' in write_ensemble(
        streams, tmp_path / 'out'
    )


def fewer(streams):
    return {'joint': streams['joint']}


def another_seed(streams):
    (streams['bone'] / 'test/s0').rename(streams['bone'] / 'test/s1')
    return streams


def other_clips(streams):
    labels, scores = np.zeros(4, int), np.ones((4, CLASSES)) / CLASSES
    for name, folder in streams.items():
        (folder / 'test/s0').rename(folder / 'kept_apart')
        write(folder / 'test/s0', labels, scores, 'x' if name == 'bone' else 't')
    return streams


def diverged(streams):
    path = streams['bone'] / 'test/s0/scores.npz'
    found = dict(np.load(path))
    np.savez(path, **found | dict(scores=np.full_like(found['scores'], np.nan)))
    return streams


@pytest.mark.parametrize(
    'change, message',
    [
        (diverged, r'bone has scores that are not finite \(.*scores.npz\)'),
        (fewer, 'at least two streams'),
        (another_seed, 'no seed of which all'),
        (other_clips, 'bone was tested on other clips or classes than joint'),
    ],
)
def test_what_does_not_fit_is_refused(change, message, streams, tmp_path):
    with pytest.raises(UserError, match=message):
        write_ensemble(change(streams), tmp_path / 'out')
    assert not (tmp_path / 'out/table.md').exists()


def test_calibration_error_by_hand():
    sure = np.array([[0.9, 0.1]] * 10)
    labels = np.array([0] * 6 + [1] * 4)
    assert calibration_error(sure, labels) == pytest.approx(0.3)
    assert fuse(np.log(sure)[None], np.array([1.0])) == pytest.approx(np.log(sure))


def test_runs_are_named_apart(tmp_path):
    a, b, c = (tmp_path / name for name in ('a/joint', 'b/joint', 'a/bone'))
    for folder in (a, b, c):
        folder.mkdir(parents=True)
    assert name_runs([a, c]) == {'joint': a, 'bone': c}
    assert name_runs([a, b, c]) == {str(folder): folder for folder in (a, b, c)}
    with pytest.raises(UserError, match='a row comes twice'):
        name_runs([a, tmp_path / 'b/../a/joint'])
    with pytest.raises(UserError, match='gone is no folder of a row'):
        name_runs([a, tmp_path / 'gone'])
