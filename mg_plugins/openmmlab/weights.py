"""Checkpoints and data looked at before a run loads them: whole, of numbers, of this model."""

import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader, Runner, find_latest_checkpoint
from torch import Tensor

from mg_plugins.openmmlab.checkpoints import CheckpointError
from mg_plugins.openmmlab.settings import LaunchError


def load_whole(path: str | os.PathLike) -> dict:
    """Load a checkpoint whose weights are whole and finite, or raise a `CheckpointError`."""
    path = str(path)
    if '://' not in path:
        if not Path(path).is_file():
            raise CheckpointError(f'{path} is not there')
        if zipfile.is_zipfile(path):
            # torch reads past a wrong checksum: one flipped bit trains to nan.
            try:
                part = zipfile.ZipFile(path).testzip()
            except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
                raise CheckpointError(f'{path} is damaged: {error}') from error
            if part is not None:
                raise CheckpointError(f'{path} is damaged: its part {part} has a wrong checksum')
    content = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    given = content.get('state_dict', content) if isinstance(content, dict) else None
    if not isinstance(given, Mapping) or not given:
        raise CheckpointError(f'{path} holds no weights')
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f'{path} holds {type(value).__name__} {name!r}, not a weight')
        if value.layout != torch.strided or value.is_meta or value.is_complex():
            raise CheckpointError(f'{path} holds a sparse, complex or empty tensor as {name!r}')
    if (name := not_finite(given)) is not None:
        raise CheckpointError(f'{path} has weights that are not finite ({name})')
    return content


def weights_in(path: str | os.PathLike) -> Mapping[str, Tensor]:
    """The weights of a checkpoint of `load_whole`."""
    content = load_whole(path)
    return content.get('state_dict', content)


def not_finite(given: Mapping[str, Any]) -> str | None:
    """Name of the first weight that holds NaN or an infinity."""
    for name, value in given.items():
        if torch.is_tensor(value) and value.is_floating_point() and not value.isfinite().all():
            return name
    return None


def inputs_of(dataset: Any) -> dict[str, Any]:
    """What a model learns from, as far as its dataset tells: coordinates, layout, classes."""
    dataset = inside(dataset)
    meta, layout = getattr(dataset, 'metainfo', None) or {}, getattr(dataset, 'layout', None)
    known: dict[str, Any] = {}
    if meta.get('classes'):
        known['classes'] = list(meta['classes'])
    if layout is not None:
        known['layout'] = layout.name
    first = dataset.get_data_info(0) if hasattr(dataset, 'get_data_info') and len(dataset) else {}
    if 'keypoint' in first:
        known['coordinates'] = int(first['keypoint'].shape[-1])
    return known


def inside(dataset: Any) -> Any:
    """The dataset, or the config of one, inside wrappers such as RepeatDataset."""
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return dataset


def check(
    path: str, content: dict, model: torch.nn.Module, complete: bool, now: Mapping | None = None
) -> None:
    """Refuse weights that would leave parts of a model random, or that learned from other inputs.

    ``content`` is what `load_whole` has read of ``path``, ``now`` is `inputs_of` the data that the
    model gets. All weights must be there where ``complete``, as for a test, else the backbone's.
    """
    own = getattr(model, 'module', model).state_dict()
    own = {name: value for name, value in own.items() if torch.is_tensor(value)}
    given = {k.removeprefix('module.'): v for k, v in content.get('state_dict', content).items()}
    remedy = 'Was it trained with other --cfg-options, --feat or data?'
    bad = [k for k in own if k in given and given[k].shape != own[k].shape]
    graphs = [k for k in bad if k.rpartition('.')[2] in ('A', 'PA')]
    needed = [k for k in own if '.mg_fusion.' not in k and not k.endswith('num_batches_tracked')]
    missing = [k for k in needed if k not in given and (complete or k.startswith('backbone.'))]
    what = ''
    if graphs:
        then, here = given[graphs[0]].shape[-1], own[graphs[0]].shape[-1]
        what = f'its graphs have {then} joints, those of this config {here}. {remedy}'
    elif bad and all(k.startswith('cls_head.') for k in bad):
        then, here = given[bad[0]].shape[0], own[bad[0]].shape[0]
        what = (
            f'it tells {then} classes apart, this config {here}. {remedy} To start from '
            'its backbone alone: --cfg-options load_from=None and, for the backbone, '
            f"init_cfg=dict(type='Pretrained', checkpoint='{path}', prefix='backbone.')"
        )
    elif bad or not own.keys() & given.keys():
        shapes = [f'{k} {tuple(given[k].shape)}, not {tuple(own[k].shape)}' for k in bad[:2]]
        what = f'{"; ".join(shapes) or "no weight has a known name"}. {remedy}'
    elif any('.mg_fusion.' in k for k in given) and not any('.mg_fusion.' in k for k in own):
        what = 'it has the fusion, this config has not: add --fuse'
    elif missing:
        what = f'it has no {missing[0]}, nor {len(missing) - 1} more weights of it. {remedy}'
    if what:
        raise LaunchError(f'{path} is of another model than this config: {what}')
    then = (content.get('meta') or {}).get('inputs') or {}
    words = dict(coordinates='coordinates a joint', layout='joint layout')
    for key, word in (words | (dict(classes='classes') if complete else {})).items():
        if now and key in now and key in then and now[key] != then[key]:
            raise LaunchError(
                f'{path} learned from data with {word} {then[key]!r}, this data has '
                f'{now[key]!r}: use the data that it was trained on, or train again'
            )


def check_start(runner: Runner) -> None:
    """Look at what a training starts or goes on from, before the runner loads it."""
    path, resume = runner._load_from, runner._resume
    if resume and path is None:
        path = find_latest_checkpoint(runner.work_dir)
    if path is None:
        return
    try:
        content = load_whole(path)
    except CheckpointError as error:
        if not resume:
            raise CheckpointError(
                f'{error}: name another by --cfg-options load_from=FILE (load_from=None for none)'
            ) from error
        raise CheckpointError(f'{error}; {_remedy(Path(path))}') from error
    check(path, content, runner.model, resume, inputs_of(runner.train_loop.dataloader.dataset))


def _remedy(damaged: Path) -> str:
    """The last whole checkpoint beside a damaged one, or that there is none."""
    others = (p for form in ('epoch_*.pth', 'iter_*.pth') for p in damaged.parent.glob(form))
    for path in sorted(others, key=lambda p: p.stat().st_mtime, reverse=True):
        if path.name != damaged.name:
            with suppress(CheckpointError):
                load_whole(path)
                return f'the last whole one is {path}: --resume {path}'
    return 'no other one is whole: train again without --resume'


def check_test(runner: Runner) -> None:
    """Look at the checkpoint that a runner is to test, before it loads it."""
    path, now = runner._load_from, inputs_of(runner.test_loop.dataloader.dataset)
    check(path, load_whole(path), runner.model, True, now)
