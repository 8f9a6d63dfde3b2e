"""Metrics against hand-computed values, and the report's files."""

import csv
import json

import numpy as np
import pytest

from mg_plugins.data.mm.metrics import MGMetric, recognition_metrics, write_report

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


def test_ties_count_for_the_true_class_in_top5_but_argmax_decides_top1():
    metrics = recognition_metrics(np.zeros((2, 9)), np.array([0, 8]))
    assert metrics['top1'] == 0.5 and metrics['top5'] == 1.0


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
    with pytest.raises(ValueError):
        write_report(tmp_path, {'a': 'text'}, SCORES, LABELS, [{}] * 6)
    assert list(tmp_path.iterdir()) == []
