"""Class names, published class counts and evaluation protocols of the data sets of the field.

Everything is data in `classes.json`.
"""

from __future__ import annotations

import copy

from mg_plugins.files import read_table


def dataset_names() -> list[str]:
    """Data sets of the table: imigue, smg, ma52, msr_action3d, nw_ucla, sfinge3d."""
    return list(read_table('data/classes.json'))


def get_classes(name: str) -> tuple[str, ...]:
    """Class names of one of `dataset_names`, in label order.

    Raises:
        KeyError: Unknown data set; the message lists the known ones.
    """
    return tuple(_part(name, 'classes'))


def class_counts(name: str) -> tuple[int, ...]:
    """Published number of training clips of each class, in label order.

    Raises:
        KeyError: Unknown data set, or one without published counts.
    """
    return tuple(_part(name, 'counts'))


def class_groups(name: str) -> dict[str, tuple[int, ...]]:
    """Class indices of every coarser group (the body parts of Micro-Action-52).

    Raises:
        KeyError: Unknown data set, or one without groups.
    """
    groups = _part(name, 'groups')
    return {group: tuple(range(first, last + 1)) for group, (first, last) in groups.items()}


def protocol(name: str, kind: str = 'cross_subject') -> dict:
    """An evaluation protocol as published.

    Args:
        name: One of `dataset_names`.
        kind: 'cross_subject' gives ``train_subjects`` and ``test_subjects`` (numbers from 1), with
            the published ``train_clips`` and ``test_clips`` where known; 'emotion' (imigue) gives
            ``train_videos``, ``test_videos`` and ``outcomes``; 'cross_view' (nw_ucla) gives
            ``train_cameras`` and ``test_cameras``.

    Raises:
        KeyError: Unknown data set or protocol.
    """
    protocols = _part(name, 'protocols')
    if kind not in protocols:
        raise KeyError(f'{name} has no protocol {kind!r}; it has {", ".join(protocols)}')
    return copy.deepcopy(protocols[kind])


def _part(name: str, part: str):
    table = read_table('data/classes.json')
    if name not in table:
        raise KeyError(f'no data set is called {name!r}; known are {", ".join(table)}')
    if part not in table[name]:
        having = [other for other, value in table.items() if part in value]
        raise KeyError(f'{name} has no {part} in the table; {", ".join(having)} have')
    return table[name][part]
