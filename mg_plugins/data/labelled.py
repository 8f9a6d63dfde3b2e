"""Which clips keep their label when only a share of the labels may be used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def draw_labelled(
    labels: Sequence[int], clips: Sequence[str], share: float, seed: int = 0
) -> np.ndarray:
    """Indices of the clips whose labels may be used, sorted.

    ``ceil(share · N_c)`` clips of each class c, so at least one. The draw depends on the seed and
    on the clips' ids and labels alone, not on their order nor on the method that asks, and the
    clips of a smaller share are among those of a larger one.

    Args:
        labels: Class of each clip (N,).
        clips: Id of each clip (N,).
        share: Part of each class, above 0 and up to 1.
        seed: Which draw.

    Raises:
        ValueError: A share that is not above 0 and up to 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f'share must be above 0 and up to 1, got {share}')
    labels, clips = np.asarray(labels), np.asarray(clips)
    rank = np.empty(len(labels), int)
    order = np.argsort(clips)
    rank[order] = np.random.default_rng(seed).permutation(len(labels))
    chosen = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        # Rounded first: 0.1 · 30 is a little more than 3 in binary.
        count = int(np.ceil(round(share * len(own), 9)))
        chosen.append(own[np.argsort(rank[own])][:count])
    return np.sort(np.concatenate(chosen))
