"""Fine-tune a pre-training, or train the same model from scratch, with few labels."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from mg_plugins.contrast.mm.hooks import loader_of
from mg_plugins.contrast.queue import ContrastError
from mg_plugins.experiments.training import Predicted, tested, train
from mg_plugins.openmmlab.hooks import StartFrom
from mg_plugins.openmmlab.settings import Config, enter_scope, only_dataset, use_bfloat16
from mg_plugins.openmmlab.weights import weights_in

#: Mild augmentations of the clips that are learned from, drawn anew at every visit.
MILD = (
    dict(type='MGCrop', strength=0.25),
    dict(type='MGViewpoint', strength=0.3),
    dict(type='MGScale', strength=0.1),
)
ENCODERS = ('backbone', 'sequence', 'fusion')
#: Probes that train the model itself, from its checkpoint and from scratch.
TRAINED = ('finetune', 'scratch')


def finetune(
    cfg: Config,
    checkpoint: str | os.PathLike | None,
    *,
    work_dir: str | os.PathLike,
    share: float = 0.1,
    seed: int = 0,
    steps: int | None = None,
    epochs: int = 50,
    lr: float = 1e-3,
    backbone_lr_mult: float = 1.0,
    batch_size: int = 16,
    stream: str | None = None,
    frozen: bool = False,
    amp: bool = False,
    augment: str | Sequence = MILD,
) -> Predicted:
    """Train a ``RecognizerDualStream`` on a share of the labels and test it once, at the end.

    The model is that of a pre-training's config, with a new head. Batches are always full: clips
    come in rounds, each round in another order, whatever its place among the batches. The learning
    rate falls along half a cosine. Nothing is validated on the way and no checkpoint is kept. The
    same arguments give the same predictions.

    Args:
        cfg: Config of the pre-training; it is not changed. The clips learned from are those of its
            ``train_dataloader``, seen through the pipeline of its ``test_dataloader``.
        checkpoint: What the encoders start from; None trains from scratch.
        work_dir: Folder for the config and the log of the training.
        share: Part of each class's clips that has labels; see `draw_labelled`.
        seed: Of the draw of labelled clips, the head's first weights, and the training.
        steps: Length of the training; None takes ``epochs``, which are short with few clips.
        epochs: Length of the training as passes through the labelled clips.
        lr: Learning rate of the head, and of all where nothing is pre-trained.
        backbone_lr_mult: Learning rate of the pre-trained encoders as a share of ``lr``.
        batch_size: Clips a step.
        stream: ``'fused'``, ``'graph'`` or ``'sequence'``; by default what there is, in that order.
        frozen: Train the head alone.
        amp: Mixed precision; bfloat16 on a CPU.
        augment: Chain of augmentations of the training clips: a recipe's name or a list.

    Raises:
        ContrastError: The config is of no such model, or the checkpoint of another one, or a
            setting is out of range.
        AnnotationError: The data is missing or has no such split.
    """
    if min(epochs if steps is None else steps, batch_size) < 1 or lr <= 0:
        raise ContrastError(
            f'steps, epochs and batch_size must be at least 1 and lr above 0, got steps={steps}, '
            f'epochs={epochs}, batch_size={batch_size}, lr={lr}'
        )
    if backbone_lr_mult <= 0:
        raise ContrastError(
            f'backbone_lr_mult must be above 0, got {backbone_lr_mult}; frozen=True trains the '
            'head alone'
        )
    enter_scope()
    data, views = _datasets(cfg, share, seed, augment)
    drawn = dict(share=share, share_seed=seed, labelled=True)
    learned, asked = (loader_of(cfg, p, drawn if p == 'train' else None).dataset for p in data)
    labels = [*learned.labels, *asked.labels]
    classes = max(len(learned.metainfo.get('classes') or ()), int(max(labels)) + 1)
    if steps is None:
        steps = epochs * -(-len(learned) // batch_size)
    model = recognizer(cfg, classes, stream, frozen, views)
    settings = _settings(model, data, steps, batch_size, cfg.test_dataloader.get('batch_size'))
    mult = 1.0 if checkpoint is None else backbone_lr_mult
    # The decay rules of the config. The head is named, not the encoders: a name that matches takes
    # a weight's other rules away.
    rules = copy.deepcopy((cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {})
    rules.setdefault('custom_keys', {})['cls_head'] = dict(lr_mult=1 / mult)
    optimizer = dict(type='AdamW', lr=lr * mult, weight_decay=0.01)
    settings.optim_wrapper = dict(
        type='OptimWrapper', optimizer=optimizer, paramwise_cfg=dict(rules)
    )
    if amp:
        use_bfloat16(settings)
    hooks = []
    if checkpoint is not None:
        given = weights_in(checkpoint)

        def fitting(wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
            check_encoders(wanted, given, checkpoint)
            return {name: given[name] for name in wanted if name.split('.')[0] in ENCODERS}

        hooks = [StartFrom(fitting)]
    return tested(train(settings, seed, Path(work_dir), test=True, hooks=hooks))


def recognizer(
    cfg: Config, num_classes: int, stream: str | None, frozen: bool, views: Mapping
) -> dict:
    """Config of the recognizer over the encoders of a config's model, with a linear head.

    ``views`` are options of the ``ContrastPreprocessor``.

    Raises:
        ContrastError: The config has no backbone, or its width is not known.
    """
    model = cfg.model
    channels = model.get('in_channels') or (model.get('cls_head') or {}).get('in_channels')
    if 'backbone' not in model or not channels:
        raise ContrastError(
            f'{cfg.filename} has a {model.get("type")}: a model with backbone and in_channels was '
            'expected, such as DualStreamContrast'
        )
    joined = {name: model[name] for name in ('segments', 'layout', 'fusion') if name in model}
    return dict(
        type='RecognizerDualStream',
        backbone=copy.deepcopy(model.backbone),
        in_channels=channels,
        sequence=copy.deepcopy(model.get('sequence')),
        **joined,
        stream=stream,
        frozen=frozen,
        cls_head=dict(type='GCNHead', num_classes=num_classes),
        data_preprocessor=dict(type='ContrastPreprocessor', **views),
    )


def check_encoders(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], checkpoint: str | os.PathLike
) -> None:
    """Refuse what a checkpoint has ``given`` where a weight of the encoders is missing."""
    needed = [name for name in wanted if name.split('.')[0] in ENCODERS]
    bad = [n for n in needed if n not in given or given[n].shape != wanted[n].shape]
    if bad:
        raise ContrastError(
            f'{checkpoint} does not fit its config: {len(bad)} of {len(needed)} weights are '
            f'missing or of another shape, {bad[0]} first. Was it trained with another config?'
        )


def _datasets(
    cfg: Config, share: float, seed: int, augment: str | Sequence
) -> tuple[dict[str, dict], dict]:
    """Configs of the training and the test set, and what makes the training clips' features.

    A training clip goes through the pipeline of the test, up to its features: those are made of
    whole batches, after the augmentations (`ContrastPreprocessor`).
    """
    # Serialised clips are for many worker processes; here that costs as much as five steps.
    data = {
        part: dict(only_dataset(cfg[f'{part}_dataloader'].dataset).to_dict(), serialize_data=False)
        for part in ('train', 'test')
    }
    pipeline = data['test']['pipeline']
    made = [step for step in pipeline if step['type'].endswith('MGSkeFeat')]
    if len(made) != 1:
        raise ContrastError(
            f'the test pipeline of {cfg.filename} has {len(made)} steps MGSkeFeat, one was '
            'expected: the augmentations of fine-tuning take its place'
        )
    data['train'].update(
        pipeline=[step for step in pipeline if step is not made[0]],
        test_mode=False,
        share=share,
        share_seed=seed,
    )
    views = dict(views=[augment], layout=made[0]['layout'], feat=made[0].get('feat', 'joint'))
    return data, views


def _settings(
    model: dict, data: Mapping[str, dict], steps: int, batch_size: int, test_size: int | None
) -> Config:
    """What the runner is told besides optimizer and seed."""

    def loader(part: str, size: int, sampler: str) -> dict:
        order = dict(type=sampler, shuffle=part == 'train')
        return dict(dataset=data[part], batch_size=size, num_workers=0, sampler=order)

    return Config(
        dict(
            model=model,
            train_dataloader=loader('train', batch_size, 'InfiniteSampler'),
            test_dataloader=loader('test', test_size or batch_size, 'DefaultSampler'),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps),
            test_cfg=dict(type='TestLoop'),
            test_evaluator=[dict(type='MGMetric')],
            param_scheduler=[dict(type='CosineAnnealingLR', T_max=steps, by_epoch=False)],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=max(1, steps // 10)),
                checkpoint=None,
                sampler_seed=None,
            ),
            log_processor=dict(type='LogProcessor', by_epoch=False),
            log_level='ERROR',
            default_scope='mmaction',
        )
    )
