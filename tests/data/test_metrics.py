"""Metrics against hand-computed values, and the report's files."""

import csv
import json

import numpy as np
import pytest

from mg_plugins.data.metrics import recognition_metrics, write_report
from mg_plugins.data.mm.metrics import MGMetric

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = [0, 0, 1, 1, 0, 0]
SCORES = np.full((6, 7), 0.01)
SCORES[range(6), PREDICTED] = 0.9
SCORES[5, 3:7] = 0.5  # the true class 2 of the last clip comes sixth


def test_metrics_by_hand():
    metrics = recognition_metrics(SCORES, LABELS)
    assert metrics['top1'] == pytest.approx(3 / 6)
    assert metrics['top5'] == pytest.approx(5 / 6)
    assert metrics['mean_class_acc'] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    # F1: class 0 has precision 2/4 and recall 2/3, class 1 1/2 and 1/2, class 2 nothing.
    assert metrics['macro_f1'] == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)


def test_equal_scores_are_no_hits_but_by_their_place(caplog):
    metrics = recognition_metrics(np.zeros((4, 20)), np.array([0, 4, 5, 19]))
    assert metrics['top1'] == 0.25 and metrics['top5'] == 0.5
    assert 'the same score for all classes' in caplog.text


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_diverged_model_is_wrong_and_said_to_be(caplog, value):
    scores = SCORES.copy()
    scores[[0, 1]] = value
    scores[2, 6] = value
    metrics = recognition_metrics(scores, LABELS)
    assert 'the scores of 3 of 6 clips are not finite' in caplog.text
    # Of the others one of three is right, and the true class of the last comes sixth.
    assert metrics['top1'] == pytest.approx(1 / 6) and metrics['top5'] == pytest.approx(2 / 6)
    assert metrics['mean_class_acc'] == pytest.approx((0 + 1 / 2 + 0) / 3)
    assert metrics['macro_f1'] == pytest.approx((0 + 2 / 3 + 0) / 3)


def test_clips_without_a_label_are_predicted_and_not_counted(tmp_path):
    import torch

    metric = MGMetric()
    known = dict(pred_score=torch.tensor([0.2, 0.8]), gt_label=torch.tensor([1]), frame_dir='a')
    unknown = dict(pred_score=torch.tensor([0.9, 0.1]), frame_dir='b')
    metric.process(None, [known, unknown])
    found = metric.evaluate(2)
    assert found['acc/top1'] == 1.0 and found['acc/unlabelled'] == 1
    write_report(tmp_path, found, **metric.latest)
    with (tmp_path / 'predictions.csv').open(newline='') as file:
        assert [row['label'] for row in csv.DictReader(file)] == ['1', '']
    metric.process(None, [unknown])
    alone = metric.evaluate(1)
    assert alone == {'acc/unlabelled': 1} and isinstance(alone['acc/unlabelled'], int)
    write_report(tmp_path / 'none', {}, **metric.latest)
    names = sorted(path.name for path in (tmp_path / 'none').iterdir())
    assert names == ['metrics.json', 'predictions.csv', 'scores.npy']


def test_an_empty_split_is_an_error():
    with pytest.raises(ValueError, match='no clips to evaluate'):
        recognition_metrics(np.zeros((0, 3)), np.zeros(0, int))


def test_metric_carries_the_fields_of_clips():
    import torch

    metric = MGMetric()
    sample = dict(
        pred_score=torch.tensor([0.2, 0.8]), gt_label=torch.tensor([1]), session='a', fps=30.0
    )
    metric.process(None, [sample, sample])
    assert metric.evaluate(2)['acc/top1'] == 1.0
    assert metric.latest['clips'] == [dict(session='a', fps=30.0)] * 2
    assert metric.latest['scores'].shape == (2, 2)


def test_report_files(tmp_path):
    names = ['turtle neck', 'fold arm, "b"', 'c', 'd', 'e', 'f', 'g']
    clips = [dict(frame_dir=f'clip{i}', session='s') for i in range(6)]
    write_report(tmp_path / 'r', {'acc/top1': 0.5}, SCORES, LABELS, clips, names, 'synthetic data')
    found = sorted(p.name for p in (tmp_path / 'r').iterdir())
    assert found == sorted(
        'metrics.json predictions.csv scores.npy confusion.csv confusion.png per_class.csv '
        'per_class.png'.split()
    )
    assert json.loads((tmp_path / 'r/metrics.json').read_text()) == {'acc/top1': 0.5}
    with (tmp_path / 'r/predictions.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [int(r['predicted']) for r in rows] == PREDICTED
    assert rows[3]['predicted_class'] == names[1] and rows[0]['frame_dir'] == 'clip0'
    with (tmp_path / 'r/confusion.csv').open(newline='') as file:
        table = list(csv.reader(file))
    assert [int(n) for n in table[1][1:3]] == [2, 1] and table[2][0] == names[1]
    with (tmp_path / 'r/per_class.csv').open(newline='') as file:
        classes = list(csv.DictReader(file))
    assert classes[0]['recall'] == '0.6667' and classes[6]['clips'] == '0'
    for picture in ('confusion.png', 'per_class.png'):
        assert (tmp_path / 'r' / picture).read_bytes().startswith(b'\x89PNG')


def test_a_report_that_fails_leaves_no_half_file(tmp_path):
    with pytest.raises((ValueError, TypeError)):
        write_report(tmp_path, {'a': 'text'}, SCORES, LABELS, [{}] * 6)
    assert list(tmp_path.iterdir()) == []
