"""Decoders on probabilities whose right segments are known."""

import itertools

import numpy as np
import pytest

from mg_plugins.spotting.decode import (
    Decoder,
    calibrate,
    class_durations,
    decode,
    runs,
    semi_markov,
)

FPS = 20.0
DURATIONS = np.array([[np.log(1.0), 0.4], [np.log(2.0), 0.4]])
SPANS = [(0, 40, 60), (1, 100, 140), (0, 150, 172)]


def probabilities(spans, frames=200, sure=0.85, classes=2):
    p = np.full((frames, classes + 1), (1 - sure) / classes)
    p[:, -1] = sure
    for label, start, stop in spans:
        p[start:stop] = (1 - sure) / classes
        p[start:stop, label] = sure
    return p


@pytest.mark.parametrize('method', ['semi_markov', 'hysteresis'])
@pytest.mark.parametrize('spans', [SPANS, [], [(0, 0, 20)], [(1, 160, 200)]])
def test_clear_segments_are_found(method, spans) -> None:
    found = decode(probabilities(spans), FPS, Decoder(method), DURATIONS)
    assert [span[0] for span in found] == [span[0] for span in spans]
    for got, true in zip(found, spans, strict=True):
        assert abs(got[1] - true[1]) <= 2 and abs(got[2] - true[2]) <= 2
        assert got[3] == pytest.approx(0.85, abs=0.1)


def test_the_model_of_durations_bridges_a_flicker_and_ignores_a_spike() -> None:
    p = probabilities([(1, 40, 80), (0, 120, 122)])
    p[60:62] = [0.2, 0.2, 0.6]
    found = decode(p, FPS, Decoder(), DURATIONS)
    assert [(s[0], s[1], s[2]) for s in found] == [(1, 40, 80)]


@pytest.mark.parametrize('method', ['semi_markov', 'hysteresis'])
@pytest.mark.parametrize('gap', [0, 3, 20])
def test_a_gesture_longer_than_usual_is_one_segment(method, gap) -> None:
    """Five times as long as its class lasts; a gap of 1 s is one, one of 0.15 s is not."""
    p = probabilities([(0, 40, 140), (0, 140 + gap, 160 + gap)])
    found = decode(p, FPS, Decoder(method), DURATIONS)
    assert len(found) == (2 if gap == 20 else 1) and found[0][1] == 40
    assert abs(found[-1][2] - 160 - gap) <= 1  # it works in steps of two frames


def test_search_finds_the_best_of_all_segmentations() -> None:
    """Against every segmentation of a short sequence, scored from the definition."""
    rng = np.random.default_rng(0)
    durations = np.array([[np.log(0.3), 0.5], [np.log(0.2), 0.3]])
    for _ in range(5):
        p = rng.dirichlet(np.ones(3), 6)
        found = semi_markov(p, 10.0, durations)
        longest = int(np.ceil(np.exp((durations[:, 0] + np.log(10) + 3 * durations[:, 1]).max())))

        def score(pieces, p=p):
            total, at = 0.0, 0
            for label, size in pieces:
                total += np.log(p[at : at + size, label]).sum()
                if label < 2:
                    mean, deviation = durations[label, 0] + np.log(10), durations[label, 1]
                    z = (np.log(size) - mean) / deviation
                    total += -0.5 * z * z - np.log(deviation) - np.log(size)
                at += size
            return total

        best = max(_segmentations(6, longest + 1), key=score)
        expected, at = [], 0
        for label, size in best:
            if label < 2:
                expected.append((label, at, at + size))
            at += size
        assert found == expected


def _segmentations(length, longest):
    """All sequences of (label, size); "nothing" (2) goes step by step."""
    if length == 0:
        yield []
        return
    options = [(2, 1)] + list(itertools.product((0, 1), range(1, min(length, longest) + 1)))
    for label, size in options:
        for rest in _segmentations(length - size, longest):
            yield [(label, size), *rest]


def test_no_segment_crosses_frames_without_a_person() -> None:
    p, present = probabilities([(1, 40, 80)]), np.ones(200, bool)
    present[55:63] = False  # 0.4 s
    for method in ('semi_markov', 'hysteresis'):
        found = decode(p, FPS, Decoder(method), DURATIONS, present)
        assert found and all(s[2] <= 55 or s[1] >= 63 for s in found)
    present[:] = True
    present[55:60] = False  # 0.25 s
    found = decode(p, FPS, Decoder(), DURATIONS, present)
    assert [(s[1], s[2]) for s in found] == [(40, 80)]


def test_unsure_and_short_segments_are_dropped() -> None:
    p = probabilities([(0, 40, 60)], sure=0.6)
    assert decode(p, FPS, Decoder(confidence=0.7), DURATIONS) == []
    assert decode(p, FPS, Decoder(min_length=2.0), DURATIONS) == []
    assert decode(p, FPS, Decoder('hysteresis', high=0.7), DURATIONS) == []


def test_calibration_drops_what_is_wrong_on_training_recordings() -> None:
    truth = [(1, 40, 80)]
    p = probabilities(truth)
    p[120:140] = [0.45, 0.1, 0.45]
    decoder = calibrate([(p, FPS, truth)], DURATIONS, Decoder(background=-0.5, confidence=0.3))
    assert [s[0] for s in decode(p, FPS, decoder, DURATIONS)] == [1]


def test_durations_of_a_rare_class_are_drawn_to_all() -> None:
    table = class_durations([(0, 1.0)] * 50 + [(1, 8.0)], 3)
    assert table[0, 0] == pytest.approx(0, abs=0.1)
    assert 0 < table[1, 0] < np.log(8) / 2
    assert np.isfinite(class_durations([], 2)).all() and (table[:, 1] >= 0.25).all()


def test_runs() -> None:
    assert runs(np.array([1, 1, 0, 0, 1], bool)) == [(0, 2), (4, 5)]
    assert runs(np.zeros(3, bool)) == []
