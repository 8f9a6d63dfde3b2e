"""A model on data that it was not trained on: other sets, other splits, other joint layouts."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mg_plugins.contrast.queue import ContrastError
from mg_plugins.data.annotations import load_annotations
from mg_plugins.data.layouts import get_layout, usual_coordinates
from mg_plugins.data.mm.transforms import MGRelayout
from mg_plugins.openmmlab.settings import Config, ConfigDict, only_dataset


def with_data(
    cfg: Config,
    ann_file: str | os.PathLike,
    splits: Sequence[str] | None = None,
    layout: str | Mapping | None = None,
) -> Config:
    """A config over other data: the same pipeline, over joints brought to the config's layout.

    Args:
        cfg: Config with ``train_dataloader`` and ``test_dataloader``; it is not changed.
        ann_file: Annotation file of the other data.
        splits: Names of its splits to fit on and to test on; those of the config if None.
        layout: Its joint layout; None takes the one that the file names. Where it is another than
            the config's, `MGRelayout` comes before ``MGNormalize``.

    Raises:
        UserError: The pipeline has no one ``MGNormalize``, the file cannot be read, or the layouts
            have nothing in common, or one is in space and one in pictures.
    """
    cfg = copy.deepcopy(cfg)
    pipeline = cfg.test_dataloader.dataset.pipeline
    steps = [n for n, step in enumerate(pipeline) if step['type'].endswith('MGNormalize')]
    if len(steps) != 1:
        raise ContrastError(
            f'the test pipeline of {cfg.filename} has {len(steps)} steps MGNormalize, one was '
            'expected: other data is brought to its layout just before'
        )
    other = load_annotations(ann_file)
    named = layout or other['meta'].get('layout')
    wanted = pipeline[steps[0]]['layout']
    sets = [only_dataset(cfg[f'{part}_dataloader'].dataset) for part in ('train', 'test')]
    if named is not None and get_layout(named).joints != get_layout(wanted).joints:
        # What the model was shown: by its own data, or by what the layout usually has.
        path = Path(sets[0].get('data_root') or '') / sets[0].ann_file
        coordinates = usual_coordinates(get_layout(wanted))
        if path.exists():
            coordinates = int(load_annotations(path)['annotations'][0]['keypoint'].shape[-1])
        step = dict(source=named, target=wanted, coordinates=coordinates)
        MGRelayout(**step)(dict(other['annotations'][0]))  # what does not fit is refused now
        pipeline.insert(steps[0], ConfigDict(step, type='MGRelayout'))
    for dataset, split in zip(sets, splits or (None, None), strict=True):
        # Subjects and shares were chosen for the config's own data.
        for key in ('subjects', 'exclude_subjects', 'share', 'share_seed', 'data_root'):
            dataset.pop(key, None)
        dataset.update(ann_file=str(ann_file))
        if named is not None:
            dataset.layout = named
        if split is not None:
            dataset.split = split
    return cfg
