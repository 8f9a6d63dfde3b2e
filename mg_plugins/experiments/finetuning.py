"""Fine-tune a pre-training, or train the same model from scratch, with few labels."""

from __future__ import annotations

import copy
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, Runner, set_random_seed
from torch import Tensor

from mg_plugins.contrast.queue import ContrastError
from mg_plugins.openmmlab.settings import use_bfloat16

#: Mild augmentations of the clips that are learned from, drawn anew at every visit.
MILD = (
    dict(type='MGCrop', strength=0.25),
    dict(type='MGViewpoint', strength=0.3),
    dict(type='MGScale', strength=0.1),
)
ENCODERS = ('backbone', 'sequence', 'fusion')
#: Probes that train the model itself, from its checkpoint and from scratch.
TRAINED = ('finetune', 'scratch')


@dataclass(frozen=True)
class Predicted:
    """What a model says about test clips.

    Attributes:
        clips: Id of each clip (N,).
        labels: True class of each clip (N,).
        predicted: Class that the model names (N,).
        subjects: Subject of each clip (N,), empty texts where unknown.
    """

    clips: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    subjects: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Whether the model is right about each clip (N,), bool."""
        return self.predicted == self.labels

    @property
    def accuracy(self) -> float:
        """Share of the clips that the model is right about."""
        return float(self.correct.mean())


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
    same arguments give the same predictions; MMEngine's runner seeds the process for that.

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
    init_default_scope('mmaction')
    set_random_seed(seed)
    name = f'finetune_{uuid.uuid4().hex}'  # runners of one process are told apart by their names
    MMLogger.get_instance(name, log_level='ERROR')
    data, views = _datasets(cfg, share, seed, augment)
    built = {part: DATASETS.build(copy.deepcopy(dataset)) for part, dataset in data.items()}
    classes = built['train'].metainfo.get('classes') or ()
    labels = np.concatenate([dataset.labels for dataset in built.values()])
    if steps is None:
        steps = epochs * -(-len(built['train']) // batch_size)
    model = recognizer(cfg, max(len(classes), int(labels.max()) + 1), stream, frozen, views)
    settings = _settings(model, steps, built['train'].metainfo.get('source') == 'synthetic')
    settings.optim_wrapper = _optimizer(cfg, lr, 1.0 if checkpoint is None else backbone_lr_mult)
    settings.update(work_dir=str(work_dir), randomness=dict(seed=seed))
    if amp:
        use_bfloat16(settings)
    loaders = dict(
        train=dict(batch_size=batch_size, sampler=dict(type='InfiniteSampler', shuffle=True)),
        test=dict(
            batch_size=cfg.test_dataloader.get('batch_size', batch_size),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
    )
    given = {
        f'{part}_dataloader': Runner.build_dataloader(
            dict(loader, dataset=built[part], num_workers=0), seed
        )
        for part, loader in loaders.items()
    }
    hooks = [] if checkpoint is None else [StartFrom(checkpoint)]
    runner = Runner(**settings.to_dict(), **given, custom_hooks=hooks, experiment_name=name)
    # Not through the runner, which formats a config as Python five times: as long as 20 steps.
    whole = {f'{part}_dataloader': dict(loaders[part], dataset=data[part]) for part in data}
    whole['load_from'] = None if checkpoint is None else str(checkpoint)
    Config(dict(settings.to_dict(), **whole)).dump(Path(work_dir) / 'config.json')
    runner.train()
    runner.test()
    for handler in list(runner.logger.handlers):
        # Taken off as well: MMEngine writes to the last logger's file, closed or not.
        runner.logger.removeHandler(handler)
        handler.close()
    (metric,) = runner.test_evaluator.metrics
    found = metric.latest
    return Predicted(
        np.array([str(clip.get('frame_dir', n)) for n, clip in enumerate(found['clips'])]),
        found['labels'],
        found['scores'].argmax(1),
        np.array([str(clip.get('subject', '')) for clip in found['clips']]),
    )


def train_on_shares(
    cfg: Config,
    checkpoint: str | os.PathLike,
    names: Sequence[str],
    shares: Sequence[float],
    draws: int,
    work_dir: str | os.PathLike,
    progress: bool = False,
    **options,
) -> dict[str, list[Predicted]]:
    """Fine-tune, or train from scratch, with few labels.

    Args:
        cfg: As for `finetune`.
        checkpoint: What ``'finetune'`` starts from.
        names: Of `TRAINED`.
        shares: Shares of labels.
        draws: Draws of labelled clips; the seeds are 0, 1, …
        work_dir: Folder, with one inside for every training.
        progress: Show a bar.
        options: As for `finetune`.

    Returns:
        Name of probe and share, such as ``'finetune_10%'``, to what was said after each draw.
    """
    from rich.console import Console
    from rich.progress import track

    runs = [(n, share, seed) for n in names for share in shares for seed in range(draws)]
    if progress:
        bar = Console(stderr=True)
        runs = track(runs, f'trainings, {options.get("stream") or "model"}', console=bar)
    found: dict[str, list[Predicted]] = {}
    for name, share, seed in runs:
        start = checkpoint if name == 'finetune' else None
        folder = Path(work_dir) / f'{name}_{share:.0%}' / f's{seed}'
        said = finetune(cfg, start, work_dir=folder, share=share, seed=seed, **options)
        found.setdefault(f'{name}_{share:.0%}', []).append(said)
    return found


class StartFrom(Hook):
    """Puts a pre-training's encoders into the model, after all weights are initialised."""

    priority = 'HIGHEST'

    def __init__(self, checkpoint: str | os.PathLike) -> None:
        content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu')
        self.checkpoint, self.state = checkpoint, content.get('state_dict', content)

    def before_train(self, runner: Runner) -> None:
        """Load the weights.

        Raises:
            ContrastError: They do not fit.
        """
        wanted = runner.model.state_dict()
        check_encoders(wanted, self.state, self.checkpoint)
        own = {n: self.state[n] for n in wanted if n.split('.')[0] in ENCODERS}
        runner.model.load_state_dict(wanted | own)


def recognizer(
    cfg: Config,
    num_classes: int,
    stream: str | None = None,
    frozen: bool = False,
    views: Mapping | None = None,
) -> dict:
    """Config of the recognizer over a pre-training's encoders, with a linear head.

    Args:
        cfg: Config of a ``DualStreamContrast`` (or of any recognizer with a GCN backbone).
        num_classes: Of the head.
        stream: As for ``RecognizerDualStream``.
        frozen: As for ``RecognizerDualStream``.
        views: Options of the ``ContrastPreprocessor``; None for plain clips.

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
    joined = {name: model[name] for name in ('segments', 'fusion') if name in model}
    return dict(
        type='RecognizerDualStream',
        backbone=copy.deepcopy(model.backbone),
        in_channels=channels,
        sequence=copy.deepcopy(model.get('sequence')),
        **joined,
        stream=stream,
        frozen=frozen,
        cls_head=dict(type='GCNHead', num_classes=num_classes),
        data_preprocessor=dict(type='ContrastPreprocessor', **(views or {})),
    )


def check_encoders(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], checkpoint: str | os.PathLike
) -> None:
    """Refuse weights that are not those of a model's encoders.

    Args:
        wanted: The model's state.
        given: The checkpoint's state.
        checkpoint: How the message calls it.

    Raises:
        ContrastError: A weight of the encoders is missing in the checkpoint, or does not fit.
    """
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
    data = {}
    for part in ('train', 'test'):
        dataset = cfg[f'{part}_dataloader'].dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        # Serialised clips are for many worker processes; here that costs as much as five steps.
        data[part] = dict(copy.deepcopy(dataset.to_dict()), serialize_data=False)
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


def _settings(model: dict, steps: int, synthetic: bool) -> Config:
    """What the runner is told besides data, optimizer and seed."""
    logs = 'SyntheticLogProcessor' if synthetic else 'LogProcessor'
    quiet = dict(
        logger=dict(type='LoggerHook', interval=max(1, steps // 10)),
        checkpoint=None,
        sampler_seed=None,
    )
    return Config(
        dict(
            model=model,
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps),
            test_cfg=dict(type='TestLoop'),
            test_evaluator=[dict(type='MGMetric')],
            param_scheduler=[dict(type='CosineAnnealingLR', T_max=steps, by_epoch=False)],
            default_hooks=quiet,
            log_processor=dict(type=logs, by_epoch=False),
            log_level='ERROR',
            default_scope='mmaction',
        )
    )


def _optimizer(cfg: Config, lr: float, backbone_lr_mult: float) -> dict:
    """AdamW with the decay rules of the config, and the head's own learning rate."""
    options = copy.deepcopy((cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {})
    # The head is named, not the encoders: a name that matches takes a weight's other rules away.
    options.setdefault('custom_keys', {})['cls_head'] = dict(lr_mult=1 / backbone_lr_mult)
    return dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=lr * backbone_lr_mult, weight_decay=0.01),
        paramwise_cfg=dict(options),
    )
