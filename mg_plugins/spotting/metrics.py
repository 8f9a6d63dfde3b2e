"""How well segments were spotted."""

from collections.abc import Sequence

import numpy as np

#: Of a recording: true spans (class, start, end) and found ones (class, start, end, confidence), in
#: frames, end excluded.
Pair = tuple[Sequence[tuple], Sequence[tuple]]
THRESHOLDS = (0.1, 0.3, 0.5)


def overlap(a: tuple, b: tuple) -> float:
    """Intersection over union of two spans in time."""
    shared = min(a[2], b[2]) - max(a[1], b[1])
    return max(shared, 0) / (max(a[2], b[2]) - min(a[1], b[1]))


def overlap_scores(
    recordings: Sequence[Pair], thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """F1 at each overlap, over all segments of all recordings; 0 where nothing was found.

    The most confident segment chooses first, the free one of its class that it overlaps most.
    """
    scores = {}
    for threshold in thresholds:
        hits = 0
        for truth, spans in recordings:
            free = list(truth)
            for span in sorted(spans, key=lambda s: -s[3]):
                own = [real for real in free if real[0] == span[0]]
                best = max(own, key=lambda real: overlap(real, span), default=None)
                if best is not None and overlap(best, span) >= threshold:
                    free.remove(best)
                    hits += 1
        segments = sum(len(truth) + len(spans) for truth, spans in recordings)
        scores[f'f1@{threshold}'] = 2 * hits / max(segments, 1)
    return scores


def detection_scores(recordings: Sequence[Pair], early: int = 20) -> dict[str, float]:
    """Detection rate and false positives by SFINGE3D's protocol, as shares of the true gestures.

    A gesture is detected when a segment of its class starts within its true frames, or up to
    ``early`` before (Caputo et al., Computers & Graphics 91, 2020); others are false positives.
    """
    hits = false = 0
    for truth, spans in recordings:
        free = sorted(truth, key=lambda real: real[1])
        for label, start, *_ in sorted(spans, key=lambda span: span[1]):
            if match := [r for r in free if r[0] == label and r[1] - early <= start < r[2]]:
                free.remove(match[0])
                hits += 1
            else:
                false += 1
    true = max(sum(len(truth) for truth, _ in recordings), 1)
    return dict(detection_rate=hits / true, false_positives=false / true)


def frame_scores(recordings: Sequence[Pair], lengths: Sequence[int], classes: int) -> float:
    """Frame-wise macro-F1 over the gesture classes that occur; "nothing" is no class of its own."""
    from sklearn.metrics import f1_score

    painted = [
        [paint(spans, length, classes) for spans in pair]
        for pair, length in zip(recordings, lengths, strict=True)
    ]
    real, guess = map(np.concatenate, zip(*painted, strict=True))
    occur = np.setdiff1d(real, [classes])
    return float(f1_score(real, guess, labels=occur, average='macro')) if len(occur) else 0.0


def onset_delay(recordings: Sequence[Pair], fps: Sequence[float], threshold: float = 0.1) -> float:
    """Median seconds from the start of a gesture to that of the segment which found it, or NaN."""
    delays = []
    for (truth, spans), rate in zip(recordings, fps, strict=True):
        for real in truth:
            if own := [s for s in spans if s[0] == real[0] and overlap(real, s) >= threshold]:
                delays.append((max(own, key=lambda s: overlap(real, s))[1] - real[1]) / rate)
    return float(np.median(delays)) if delays else float('nan')


def spotting_scores(
    recordings: Sequence[Pair], lengths: Sequence[int], fps: Sequence[float], classes: int
) -> dict[str, float]:
    """All metrics of this module; ``lengths`` are the recordings' frames."""
    return dict(
        **overlap_scores(recordings),
        **detection_scores(recordings),
        frame_macro_f1=frame_scores(recordings, lengths, classes),
        onset_delay_s=onset_delay(recordings, fps),
    )


def paint(spans: Sequence[tuple], length: int, classes: int) -> np.ndarray:
    """Class of every frame (length,); ``classes`` stands for "nothing"."""
    labels = np.full(length, classes)
    for label, start, stop, *_ in spans:
        labels[max(start, 0) : stop] = label
    return labels
