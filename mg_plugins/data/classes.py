"""Class names, published counts and protocols of the field's data sets; the draw of few labels."""

import copy
from collections.abc import Sequence

import numpy as np

from mg_plugins.files import read_table


def dataset_names() -> list[str]:
    """The names that the functions below take; what the table lacks is a KeyError that says so."""
    return list(read_table('data/classes.json'))


def get_classes(name: str) -> tuple[str, ...]:
    """Class names of one of `dataset_names`, in label order."""
    return tuple(_part(name, 'classes'))


def class_counts(name: str) -> tuple[int, ...]:
    """Published number of training clips of each class, in label order."""
    return tuple(_part(name, 'counts'))


def class_groups(name: str) -> dict[str, tuple[int, ...]]:
    """Class indices of every coarser group (the body parts of Micro-Action-52)."""
    groups = _part(name, 'groups')
    return {group: tuple(range(first, last + 1)) for group, (first, last) in groups.items()}


def protocol(name: str, kind: str = 'cross_subject') -> dict:
    """An evaluation protocol as published.

    'cross_subject' gives ``train_subjects`` and ``test_subjects`` (numbers from 1), and the
    published ``train_clips`` and ``test_clips`` where known; 'emotion' (imigue) ``train_videos``,
    ``test_videos`` and ``outcomes``; 'cross_view' (nw_ucla) ``train_cameras``, ``test_cameras``.
    """
    protocols = _part(name, 'protocols')
    if kind not in protocols:
        raise KeyError(f'{name} has no protocol {kind!r}; it has {", ".join(protocols)}')
    return copy.deepcopy(protocols[kind])


def draw_labelled(
    labels: Sequence[int], clips: Sequence[str], share: float, seed: int = 0
) -> np.ndarray:
    """Indices of the clips whose labels may be used, sorted: ``ceil(share · N_c)`` of each class c.

    The draw depends on the seed and on the clips' labels and ids (N,) alone, not on their order nor
    on the method that asks, and the clips of a smaller share are among those of a larger one.
    """
    if not 0 < share <= 1:
        raise ValueError(f'share must be above 0 and up to 1, got {share}')
    labels, clips = np.asarray(labels), np.asarray(clips)
    rank = np.empty(len(labels), int)
    rank[np.argsort(clips)] = np.random.default_rng(seed).permutation(len(labels))
    chosen = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        # Rounded first: 0.1 · 30 is a little more than 3 in binary.
        count = int(np.ceil(round(share * len(own), 9)))
        chosen.append(own[np.argsort(rank[own])][:count])
    return np.sort(np.concatenate(chosen))


def _part(name: str, part: str):
    table = read_table('data/classes.json')
    if name not in table:
        raise KeyError(f'no data set is called {name!r}; known are {", ".join(table)}')
    if part not in table[name]:
        having = [other for other, value in table.items() if part in value]
        raise KeyError(f'{name} has no {part} in the table; {", ".join(having)} have')
    return table[name][part]
