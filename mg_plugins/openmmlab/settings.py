"""Changes to a config that command lines ask for, each in place."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from mg_plugins.errors import UserError

WITH_GCN = ('RecognizerGCN', 'RecognizerDualStream', 'DualStreamContrast')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
AUTOFUSE = 'mg_plugins.autofuse'


class LaunchError(UserError):
    """A wish that cannot be met; the message says what to do instead."""


def as_list(value: Any) -> list:
    """A config's value that may be one thing, several or none."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def enter_scope() -> None:
    """Let names of types mean MMAction2's, as its runner does."""
    init_default_scope('mmaction')


def loaded(cfg: Config) -> Iterator[tuple[str, ConfigDict]]:
    """Every dataset of a config's dataloaders, out of wrappers, after its dataloader's name."""
    for name in LOADERS:
        for dataset in datasets_of((cfg.get(name) or {}).get('dataset')):
            yield name, dataset


def datasets(cfg: Config) -> Iterator[ConfigDict]:
    """The datasets of `loaded` alone."""
    return (dataset for _, dataset in loaded(cfg))


def backbone_of(cfg: Config) -> ConfigDict | dict:
    """The config of the plain backbone, out of `MGFuse` and `MGPlain`; empty where none is."""
    outer = cfg.model.get('backbone', {})
    return outer.get('backbone', outer)


def announce(title: str, lines: Sequence[str], colour: str) -> None:
    """Print a framed text to stderr, on the first process."""
    if os.environ.get('RANK', '0') == '0':
        text = Text('\n'.join(lines), overflow='fold')
        Console(stderr=True).print(Panel(text, title=title, border_style=colour))


def datasets_of(dataset: ConfigDict | None) -> Iterator[ConfigDict]:
    """The datasets with an annotation file inside one dataset's config."""
    if dataset is None:
        return
    if 'ann_file' in dataset:
        yield dataset
    for inner in (dataset.get('dataset'), *dataset.get('datasets', ())):
        yield from datasets_of(inner)


def pipelines(cfg: Config) -> Iterator[list]:
    """Every transform pipeline of a config's dataloaders, innermost dataset first."""
    return (dataset['pipeline'] for dataset in datasets(cfg) if 'pipeline' in dataset)


def steps(cfg: Config) -> Iterator[ConfigDict]:
    """Every transform of a config's pipelines."""
    return (step for pipeline in pipelines(cfg) for step in pipeline)


def cosine(epochs: int) -> list[dict]:
    """A schedule by a cosine from the config's learning rate, over so many epochs."""
    return [dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True, convert_to_iter_based=True)]


def set_fusion(cfg: Config, wanted: bool) -> None:
    """Wrap the backbone's config in ``MGFuse``, or unwrap it.

    One that is to stay plain although something, or the config, imports ``mg_plugins.autofuse`` is
    wrapped in ``MGPlain``.
    """
    model, kinds = cfg.model, (*WITH_GCN, 'MGSpotter')
    if model.get('type', '').removeprefix('mmaction.') not in kinds:
        raise LaunchError(
            f'--fuse and --no-fuse need a {" or ".join(kinds)}, not a {model.get("type")}'
        )
    kind, wrapper = model.backbone.get('type'), 'MGFuse' if wanted else 'MGPlain'
    if kind == wrapper:
        return
    plain = model.backbone.backbone if kind in ('MGFuse', 'MGPlain') else model.backbone
    imported = [*sys.modules, *as_list((cfg.get('custom_imports') or {}).get('imports'))]
    automatic = AUTOFUSE in imported or AUTOFUSE in str(cfg.get('runner_type'))
    wrap = wanted or automatic
    model.backbone = ConfigDict(type=wrapper, backbone=plain) if wrap else plain


def set_finetuning(cfg: Config, share: float) -> None:
    """Let everything of a linear evaluation learn, with a share of each class's labels."""
    if cfg.model.get('type') != 'RecognizerDualStream':
        raise LaunchError(
            '--finetune needs a config that follows a pre-training, such as '
            'configs/stbcl_stgcn_imigue_linear.py'
        )
    if not 0 < share <= 1:
        raise LaunchError(f'--finetune takes a share above 0 and up to 1, not {share}')
    cfg.model.frozen = False
    cfg.optim_wrapper.optimizer.lr = 1e-3
    if share < 1:
        for dataset in datasets_of(cfg.train_dataloader.dataset):
            dataset.share = share


def set_retraining(cfg: Config, checkpoint: str) -> None:
    """Let the head alone learn anew from a checkpoint, on class-balanced batches.

    A fifth of the config's epochs, with a cosine from the config's learning rate.
    """
    if not cfg.model.get('cls_head') or cfg.model.get('type') == 'RecognizerDualStream':
        raise LaunchError('--retrain-head needs a config that trains a recognizer, with a cls_head')
    cfg.load_from = checkpoint
    cfg.train_dataloader.sampler = dict(type='MGClassBalancedSampler', power=1.0)
    epochs = max(1, round(cfg.train_cfg.max_epochs / 5))
    cfg.train_cfg.update(max_epochs=epochs, val_begin=1, val_interval=epochs)
    cfg.param_scheduler = cosine(epochs)
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='HeadAlone')]


def warn_of_retraining(cfg: Config, name: str) -> None:
    """Say what becomes of ``retrain_head = True`` where it does not count."""
    if cfg.get('retrain_head') and os.environ.get('RANK', '0') == '0':
        print(
            f'{name}: retrain_head = True counts in tools/ensemble.py alone; here heads stay as '
            'trained (tools/train.py --retrain-head CHECKPOINT re-trains one)',
            file=sys.stderr,
        )


def set_feature(cfg: Config, feat: str) -> None:
    """Let every pipeline show ``feat``: joint, bone, joint_motion or bone_motion.

    In pre-training the views that the data preprocessor makes show it, and the training pipeline,
    which ends before there are features, stays.
    """
    short = dict(joint='j', bone='b', joint_motion='jm', bone_motion='bm')
    if feat not in short:
        raise LaunchError(f'feat must be one of {", ".join(short)}, got {feat!r}')
    preprocessor = cfg.model.get('data_preprocessor') or {}
    views = bool(preprocessor.get('views'))
    if views:
        preprocessor['feat'] = feat
    for pipeline in pipelines(cfg):
        features = [s for s in pipeline if s['type'] in ('MGSkeFeat', 'GenSkeFeat')]
        if not features and not views:
            raise LaunchError('feat can only be set where a pipeline has MGSkeFeat or GenSkeFeat')
        for step in features:
            own = step['type'] == 'MGSkeFeat'
            step.update(dict(feat=feat) if own else dict(feats=[short[feat]]))
    cfg.feat = feat


def use_bfloat16(cfg: Config) -> None:
    """Mixed precision: MMEngine's own with an accelerator, bfloat16 autocast on a CPU."""
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'BFloat16OptimWrapper'):
        raise LaunchError(f'--amp does not go together with the optimizer wrapper {kind}')
    if torch.cuda.is_available():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    else:
        cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
        for option in ('loss_scale', 'dtype'):
            cfg.optim_wrapper.pop(option, None)


def add_report(cfg: Config) -> None:
    """Have the test epoch of a single-label recognizer write its report, by an MGMetric."""
    evaluator, model = cfg.get('test_evaluator'), cfg.get('model', {})
    single = not (model.get('cls_head') or {}).get('multi_class', False)
    if evaluator is None or not str(model.get('type')).startswith('Recognizer') or not single:
        return
    metrics = as_list(evaluator)
    if not any(m.get('type') == 'MGMetric' for m in metrics):
        # A name of its own beside the config's metric, whose top-1 would clash with it.
        metrics.append(dict(type='MGMetric', prefix='mg'))
    cfg.test_evaluator = metrics
    hooks = cfg.get('custom_hooks') or []
    if not any(h.get('type') == 'ReportHook' for h in hooks):
        cfg.custom_hooks = [*hooks, dict(type='ReportHook', folder='test')]
