"""From class probabilities a frame to segments: by two thresholds, or by `semi_markov`."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .metrics import overlap_scores

Span = tuple[int, int, int, float]  # class, start, end (excluded), mean probability; in frames

#: Frames a second at which `semi_markov` works; finer steps cost time and move no border by more.
RATE = 10.0
#: Longest gap without a person, in seconds, that a gesture goes on across.
LONGEST_GAP = 0.3


@dataclass(frozen=True)
class Decoder:
    """How probabilities become segments; times in seconds."""

    method: str = 'semi_markov'  # or ``'hysteresis'``
    high: float = 0.6  # probability that a gesture must reach (hysteresis)
    low: float = 0.4  # probability down to which it extends (hysteresis)
    min_length: float = 0.3  # shorter segments are dropped
    min_gap: float = 0.3  # segments of one class with a shorter gap become one
    # Added to the log-probability of "nothing" in every step of 0.1 s (semi_markov).
    background: float = 0.0
    confidence: float = 0.3  # less confident segments are dropped


def decode(
    probability: np.ndarray,
    fps: float,
    decoder: Decoder,
    durations: np.ndarray | None = None,
    present: np.ndarray | None = None,
) -> list[Span]:
    """Segments of one recording, from its probabilities (T, K + 1), the last column "nothing".

    ``semi_markov`` needs ``durations`` (K, 2), mean and deviation of log seconds of each class. No
    segment crosses more than 0.3 s of frames without a person, where ``present`` (T,) is False.
    """
    gaps = [] if present is None else runs(~present)
    gaps = [(start, stop) for start, stop in gaps if stop - start > LONGEST_GAP * fps]
    probability = probability.copy() if gaps else probability
    for start, stop in gaps:
        probability[start:stop] = 0
        probability[start:stop, -1] = 1
    if decoder.method == 'hysteresis':
        gestures = probability[:, :-1]
        owner = np.where(gestures.max(1) >= decoder.low, gestures.argmax(1), -1)
        edges = np.flatnonzero(np.diff(owner, prepend=-1, append=-1)).tolist()
        found = [(int(owner[a]), a, b) for a, b in itertools.pairwise(edges) if owner[a] >= 0]
    elif decoder.method == 'semi_markov' and durations is not None:
        found = semi_markov(probability, fps, durations, decoder.background)
    else:
        raise ValueError(f'decoder {decoder.method!r} is unknown or lacks durations')
    whole: list[tuple[int, int, int]] = []
    for label, start, stop in found:
        if whole and whole[-1][0] == label and start - whole[-1][2] < decoder.min_gap * fps:
            start = whole.pop()[1]
        whole.append((label, start, stop))
    reached = decoder.high if decoder.method == 'hysteresis' else 0
    spans = []
    for label, start, stop in whole:
        inside = [gap for gap in gaps if gap[0] < stop and gap[1] > start]
        edges = [start, *(edge for gap in inside for edge in gap), stop]
        for a, b in zip(edges[::2], edges[1::2], strict=True):
            if b - a >= max(decoder.min_length * fps, 1):
                confidence = float(probability[a:b, label].mean())
                high = probability[start:stop, label].max() >= reached
                if high and confidence >= decoder.confidence:
                    spans.append((label, a, b, confidence))
    return spans


def semi_markov(
    probability: np.ndarray, fps: float, durations: np.ndarray, background: float = 0.0
) -> list[tuple[int, int, int]]:
    """The most probable sequence of gestures, whose durations are log-normal, and "nothing".

    A hidden semi-Markov model (Yu, Artificial Intelligence 174, 2010): gestures follow directly or
    after any "nothing", with equal probability. Viterbi's search, O(T K D) with D the longest
    duration; memory O(T K) in single precision.
    """
    step = max(1, round(fps / RATE))
    frames, number = len(probability), probability.shape[1] - 1
    steps = -(-frames // step)
    at = np.arange(0, frames, step)
    logs = np.log(np.maximum(np.add.reduceat(probability, at, axis=0, dtype=np.float32), 1e-6))
    logs -= np.log(np.diff(np.append(at, frames)))[:, None]
    mean, deviation = durations[:, 0] + np.log(fps / step), durations[:, 1]
    longest = int(min(steps, np.ceil(np.exp((mean + 3 * deviation).max())) + 1))
    length = np.arange(1, longest + 1)
    log_length = np.log(length)
    duration = -0.5 * ((log_length - mean[:, None]) / deviation[:, None]) ** 2  # (K, D)
    duration -= np.log(deviation)[:, None]
    duration -= log_length
    # total[k]: what class k has collected until now; entry[t, k]: best score of a past that ends at
    # t, less what class k had collected until t, for the last ``longest`` values of t.
    total, entry = np.zeros(number), np.zeros((longest, number))
    best_nothing, best_gesture = 0.0, -np.inf
    gesture_of, length_of = np.zeros((2, steps + 1), np.int32)
    # Whether "nothing" that ends at t follows a gesture, and whether one ends best at t.
    from_gesture, after_gesture = np.zeros((2, steps + 1), bool)
    classes = np.arange(number)
    for t in range(1, steps + 1):
        reach = min(t, longest)
        total += logs[t - 1, :-1]
        scores = entry[(t - length[:reach]) % longest].T + duration[:, :reach]
        which = scores.argmax(1)
        ends = scores[classes, which] + total
        label = int(ends.argmax())
        gesture, nothing = ends[label], logs[t - 1, -1] + background
        from_gesture[t] = best_gesture > best_nothing
        best_nothing = max(best_nothing, best_gesture) + nothing
        best_gesture, gesture_of[t], length_of[t] = gesture, label, which[label] + 1
        after_gesture[t] = best_gesture > best_nothing
        entry[t % longest] = max(best_nothing, best_gesture) - total
    spans, t = [], steps
    in_gesture = best_gesture > best_nothing
    while t > 0:
        if in_gesture:
            start = t - int(length_of[t])
            spans.append((int(gesture_of[t]), start * step, min(t * step, frames)))
            t, in_gesture = start, after_gesture[start]
        else:
            t, in_gesture = t - 1, from_gesture[t]
    return spans[::-1]


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Spans (start, stop) of consecutive true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def class_durations(
    segments: Iterable[tuple[int, float]], classes: int, floor: float = 0.25
) -> np.ndarray:
    """(K, 2) mean and deviation of log seconds of each class, from (class, seconds)."""
    # Few examples say little: the figures of all classes count as five examples of each.
    pairs = [(label, np.log(seconds)) for label, seconds in segments if seconds > 0]
    logs = np.array([log for _, log in pairs])
    labels = np.array([label for label, _ in pairs], int)
    mean, deviation = (logs.mean(), logs.std()) if len(logs) else (0.0, 1.0)
    table = np.empty((classes, 2))
    for label in range(classes):
        own = logs[labels == label]
        centre = (own.sum() + 5 * mean) / (len(own) + 5)
        spread = (((own - centre) ** 2).sum() + 5 * deviation**2) / (len(own) + 5)
        table[label] = centre, max(np.sqrt(spread), floor)
    return table


def calibrate(
    recordings: Sequence[tuple[np.ndarray, float, Sequence[tuple[int, int, int]]]],
    durations: np.ndarray,
    start: Decoder | None = None,
) -> Decoder:
    """The decoder that spots best on training recordings, by F1 at IoU 0.5.

    A recording is (probability (T, K + 1), fps, true spans). Background and confidence are tried;
    of equally good decoders the one nearest to ``start`` is taken.
    """
    start = start or Decoder()
    best, highest = start, -1.0
    grid = itertools.product((-0.5, 0.0, 0.5, 1.0, 1.5), (0.3, 0.4, 0.5, 0.6, 0.7, 0.8))
    middle = np.array([start.background, start.confidence])
    for background, confidence in sorted(grid, key=lambda pair: np.abs(pair - middle).sum()):
        decoder = replace(start, background=background, confidence=confidence)
        pairs = [(truth, decode(p, fps, decoder, durations)) for p, fps, truth in recordings]
        score = round(overlap_scores(pairs, (0.5,))['f1@0.5'], 4)
        if score > highest:
            best, highest = decoder, score
    return best
