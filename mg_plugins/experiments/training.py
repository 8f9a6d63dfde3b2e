"""One training in a process that does many: a recognizer, or a pre-training with few labels."""

import copy
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mg_plugins.contrast.losses import ContrastError
from mg_plugins.contrast.mm.hooks import loader_of
from mg_plugins.contrast.mm.models import ENCODERS
from mg_plugins.experiments.plan import Entry, Run
from mg_plugins.files import replacing
from mg_plugins.openmmlab import settings
from mg_plugins.openmmlab.hooks import StartFrom
from mg_plugins.openmmlab.launch import run_once
from mg_plugins.openmmlab.settings import Config
from mg_plugins.openmmlab.weights import inside, weights_in

#: Mild augmentations of the clips that are learned from, drawn anew at every visit.
MILD = (
    dict(type='MGCrop', strength=0.25),
    dict(type='MGViewpoint', strength=0.3),
    dict(type='MGScale', strength=0.1),
)


@dataclass(frozen=True)
class Predicted:
    """What a model says about N test clips."""

    clips: np.ndarray  # ids
    subjects: np.ndarray  # empty texts where unknown
    labels: np.ndarray  # true classes
    scores: np.ndarray  # (N, classes)

    @property
    def predicted(self) -> np.ndarray:
        """Class that the model names (N,)."""
        return self.scores.argmax(1)

    @property
    def correct(self) -> np.ndarray:
        """Whether the model is right about each clip (N,), bool."""
        return self.predicted == self.labels

    @property
    def accuracy(self) -> float:
        """Share of the clips that the model is right about."""
        return float(self.correct.mean())


def train(
    cfg: Config, seed: int, folder: Path, test: bool = False, hooks: Sequence[Any] = ()
) -> Any:
    """Train as a config says, from the last checkpoint in the folder on; returns the runner.

    Nothing is validated on the way; the last checkpoint counts, and is tested where asked for.
    """
    known = folder / 'last_checkpoint'
    resume = known.is_file() and Path(known.read_text().strip()).is_file()
    cfg = copy.deepcopy(cfg)
    cfg.update(
        work_dir=str(folder),
        randomness=dict(seed=seed),
        resume=resume,
        load_from=None if resume else cfg.get('load_from'),
        # Runners of one process are told apart by their names.
        experiment_name=f'run_{uuid.uuid4().hex}',
        **dict.fromkeys(('val_cfg', 'val_dataloader', 'val_evaluator')),
    )
    return run_once(cfg, test, hooks)


def tested(runner: Any) -> Predicted:
    """What the `MGMetric` of a runner has heard in its test."""
    found = next(m.latest for m in runner.test_evaluator.metrics if hasattr(m, 'latest'))
    return Predicted(
        np.array([str(clip.get('frame_dir', n)) for n, clip in enumerate(found['clips'])]),
        np.array([str(clip.get('subject', '')) for clip in found['clips']]),
        found['labels'],
        found['scores'],
    )


def train_and_test(run: Run, folder: Path) -> dict:
    """Train a recognizer and test its last checkpoint: the measure is ``top1``.

    The scores of all classes are in ``scores.npz``, by clip. With the option ``retrain_head`` the
    head learns anew afterwards (`set_retraining`), and its scores are in ``retrained.npz``.
    """
    cfg = Config(copy.deepcopy(run.cfg))
    cfg.test_evaluator = settings.as_list(cfg.test_evaluator)
    if not any(metric['type'] == 'MGMetric' for metric in cfg.test_evaluator):
        cfg.test_evaluator.append(dict(type='MGMetric', prefix='mg'))
    cfg.custom_hooks = [h for h in cfg.get('custom_hooks') or [] if h['type'] != 'ReportHook']
    hooks = cfg.setdefault('default_hooks', {})
    hooks['checkpoint'] = dict(hooks.get('checkpoint') or dict(type='CheckpointHook', interval=1))
    hooks['checkpoint'].update(max_keep_ckpts=2, save_best=None)
    runner = train(cfg, run.seed, folder / 'training', test=True)
    said = tested(runner)
    _write_scores(said, folder / 'scores.npz')
    if run.options.get('retrain_head'):
        settings.set_retraining(cfg, (folder / 'training/last_checkpoint').read_text().strip())
        again = tested(train(cfg, run.seed, folder / 'retraining', test=True))
        _write_scores(again, folder / 'retrained.npz')
    return dict(
        clips=said.clips.tolist(),
        subjects=said.subjects.tolist(),
        scores=dict(top1=said.correct.astype(int).tolist()),
        source=str(runner.test_dataloader.dataset.metainfo.get('source', '')),
        step_ms=_step_time(runner),
    )


def _write_scores(said: Predicted, path: Path) -> None:
    with replacing(path) as temporary, temporary.open('wb') as file:
        np.savez_compressed(file, clips=said.clips, labels=said.labels, scores=said.scores)


def _step_time(runner: Any) -> float | None:
    """Median time of a step in milliseconds, without the data's; None for a step or two."""
    logged = runner.message_hub.log_scalars
    if not {'train/time', 'train/data_time'} <= set(logged):
        return None
    times, waits = (logged[f'train/{name}'].data[0] for name in ('time', 'data_time'))
    count = min(len(times), len(waits))
    steps = (np.asarray(times[-count:]) - np.asarray(waits[-count:]))[3:]  # without warm-up
    return 1000 * float(np.median(steps)) if len(steps) else None


def fields_of(entry: Entry, cfg: Config, amp: bool = False) -> dict:
    """Fields of a row's `Run`, whose config is brought to mixed precision in place."""
    settings.warn_of_retraining(cfg, entry.name)
    if amp:
        settings.use_bfloat16(cfg)
    return dict(task=train_and_test)


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
    same arguments give the same predictions. What does not fit is a UserError.

    Args:
        cfg: Config of the pre-training; it is not changed. The clips learned from are those of its
            ``train_dataloader``, seen through the pipeline of its ``test_dataloader``.
        checkpoint: What the encoders start from; None trains from scratch.
        work_dir: Folder for the config and the log of the training.
        share: Part of each class's clips that has labels; see `draw_labelled`.
        seed: Of the draw of labelled clips, the head's first weights, and the training.
        steps, epochs: Length of the training; epochs, of the labelled clips, where steps are None.
        lr, backbone_lr_mult: Learning rate, and the share of it that pre-trained encoders have.
        batch_size, stream, frozen, amp: As for training; frozen trains the head alone.
        augment: Chain of augmentations of the training clips: a recipe's name or a list.
    """
    length = epochs if steps is None else steps
    if min(length, batch_size) < 1 or min(lr, backbone_lr_mult) <= 0:
        raise ContrastError(
            'steps, epochs and batch_size must be at least 1, lr and backbone_lr_mult above 0 '
            f'(frozen=True trains the head alone); got {steps=}, {epochs=}, {batch_size=}, {lr=}, '
            f'{backbone_lr_mult=}'
        )
    settings.enter_scope()
    data, views = _datasets(cfg, share, seed, augment)
    drawn = dict(share=share, share_seed=seed, labelled=True)
    learned, asked = (loader_of(cfg, p, drawn if p == 'train' else None).dataset for p in data)
    labels = [*learned.labels, *asked.labels]
    classes = max(len(learned.metainfo.get('classes') or ()), int(max(labels)) + 1)
    if steps is None:
        steps = epochs * -(-len(learned) // batch_size)
    mult = 1.0 if checkpoint is None else backbone_lr_mult
    # The decay rules of the config. The head is named, not the encoders: a name that matches takes
    # a weight's other rules away.
    rules = copy.deepcopy((cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {})
    rules.setdefault('custom_keys', {})['cls_head'] = dict(lr_mult=1 / mult)
    optimizer = dict(type='AdamW', lr=lr * mult, weight_decay=0.01)

    def loader(part: str, size: int, sampler: str) -> dict:
        order = dict(type=sampler, shuffle=part == 'train')
        return dict(dataset=data[part], batch_size=size, num_workers=0, sampler=order)

    test_size = cfg.test_dataloader.get('batch_size') or batch_size
    training = Config(
        dict(
            model=recognizer(cfg, classes, stream, frozen, views),
            train_dataloader=loader('train', batch_size, 'InfiniteSampler'),
            test_dataloader=loader('test', test_size, 'DefaultSampler'),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps),
            test_cfg=dict(type='TestLoop'),
            test_evaluator=[dict(type='MGMetric')],
            optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer, paramwise_cfg=dict(rules)),
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
    if amp:
        settings.use_bfloat16(training)
    hooks = []
    if checkpoint is not None:
        given = weights_in(checkpoint)
        hooks = [StartFrom(lambda wanted: encoder_weights(wanted, given, checkpoint))]
    return tested(train(training, seed, Path(work_dir), test=True, hooks=hooks))


def recognizer(
    cfg: Config, num_classes: int, stream: str | None, frozen: bool, views: Mapping
) -> dict:
    """Config of the recognizer over the encoders of a config's model, with a linear head."""
    model = cfg.model
    channels = model.get('in_channels') or (model.get('cls_head') or {}).get('in_channels')
    if 'backbone' not in model or not channels:
        raise ContrastError(
            f'{cfg.filename} has a {model.get("type")}: a model with backbone and in_channels was '
            'expected, such as DualStreamContrast'
        )
    joined = ('backbone', 'sequence', 'segments', 'layout', 'fusion')
    return dict(
        type='RecognizerDualStream',
        **{name: copy.deepcopy(model[name]) for name in joined if name in model},
        in_channels=channels,
        stream=stream,
        frozen=frozen,
        cls_head=dict(type='GCNHead', num_classes=num_classes),
        data_preprocessor=dict(type='ContrastPreprocessor', **views),
    )


def encoder_weights(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], checkpoint: str | os.PathLike
) -> dict[str, Tensor]:
    """What a checkpoint has ``given`` of the weights of encoders; it must have all of them."""
    needed = [name for name in wanted if name.split('.')[0] in ENCODERS]
    bad = [n for n in needed if n not in given or given[n].shape != wanted[n].shape]
    if bad:
        raise ContrastError(
            f'{checkpoint} does not fit its config: {len(bad)} of {len(needed)} weights are '
            f'missing or of another shape, {bad[0]} first. Was it trained with another config?'
        )
    return {name: given[name] for name in needed}


def _datasets(
    cfg: Config, share: float, seed: int, augment: str | Sequence
) -> tuple[dict[str, dict], dict]:
    """Configs of the training and the test set, and what makes features of training batches."""
    # Serialised clips are for many worker processes; here that costs as much as five steps.
    data = {}
    for part in ('train', 'test'):
        own = inside(cfg[f'{part}_dataloader'].dataset).to_dict()
        data[part] = dict(own, serialize_data=False)
    pipeline = data['test']['pipeline']
    made = [step for step in pipeline if step['type'].endswith('MGSkeFeat')]
    if len(made) != 1:
        raise ContrastError(
            f'the test pipeline of {cfg.filename} has {len(made)} steps MGSkeFeat, one was '
            'expected: the augmentations of fine-tuning take its place'
        )
    pipeline = [step for step in pipeline if step is not made[0]]
    data['train'].update(pipeline=pipeline, test_mode=False, share=share, share_seed=seed)
    views = dict(views=[augment], layout=made[0]['layout'], feat=made[0].get('feat', 'joint'))
    return data, views
