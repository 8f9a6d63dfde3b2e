"""Metrics against values worked out by hand."""

import math

import pytest

from mg_plugins.spotting.metrics import (
    detection_scores,
    frame_scores,
    onset_delay,
    overlap_scores,
    spotting_scores,
)

TRUTH = [(0, 100, 140), (1, 200, 240)]


@pytest.mark.parametrize(
    'found, detected, false',
    [
        ([(0, 100, 140, 1.0), (1, 200, 240, 1.0)], 1.0, 0.0),
        ([(0, 80, 90, 1.0)], 0.5, 0.0),  # 20 frames early
        ([(0, 79, 140, 1.0)], 0.0, 0.5),  # 21 frames early
        ([(0, 139, 180, 1.0)], 0.5, 0.0),  # begins on the last frame
        ([(0, 140, 180, 1.0)], 0.0, 0.5),  # begins after it
        ([(1, 100, 140, 1.0)], 0.0, 0.5),  # another class
        ([(0, 100, 110, 1.0), (0, 120, 140, 1.0)], 0.5, 0.5),  # found twice
        ([], 0.0, 0.0),
    ],
)
def test_published_protocol(found, detected, false) -> None:
    scores = detection_scores([(TRUTH, found)])
    assert scores == dict(detection_rate=detected, false_positives=false)


@pytest.mark.parametrize(
    'found, f1',
    [
        ([(0, 100, 140, 1.0), (1, 200, 240, 1.0)], 1.0),
        ([(0, 120, 160, 1.0)], {0.1: 2 / 3, 0.3: 2 / 3, 0.5: 0.0}),  # IoU 1/3
        ([(0, 100, 140, 0.5), (0, 110, 140, 0.9)], 0.5),  # only one counts
        ([(2, 100, 140, 1.0)], 0.0),
        ([], 0.0),
    ],
)
def test_f1_at_overlaps(found, f1) -> None:
    scores = overlap_scores([(TRUTH, found)])
    for threshold in (0.1, 0.3, 0.5):
        expected = f1[threshold] if isinstance(f1, dict) else f1
        assert scores[f'f1@{threshold}'] == pytest.approx(expected)


def test_frame_wise_macro_f1_runs_over_the_classes_that_occur() -> None:
    found = [(0, 100, 140, 1.0), (1, 220, 260, 1.0)]
    assert frame_scores([(TRUTH, found)], [300], 5) == pytest.approx((1 + 0.5) / 2)
    assert frame_scores([([], [])], [300], 5) == 0.0


def test_latency_is_that_of_the_gestures_found() -> None:
    pairs = [(TRUTH, [(0, 110, 140, 1.0), (1, 203, 240, 1.0)])]
    assert onset_delay(pairs, [20.0]) == pytest.approx(0.325)
    assert math.isnan(onset_delay([(TRUTH, [])], [20.0]))


def test_all_together() -> None:
    scores = spotting_scores([(TRUTH, [])], [300], [20.0], 2)
    assert scores.pop('onset_delay_s') != 0
    assert set(scores.values()) == {0.0}
