"""One pre-training, and what its features are worth: frozen, with few labels, fine-tuned."""

import copy
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import nn

from mg_plugins.contrast.losses import ContrastError
from mg_plugins.contrast.mm.hooks import loader_of
from mg_plugins.contrast.probes import extract_features, filling_statistics, is_collapsed
from mg_plugins.data import synthetic as synthetic_set
from mg_plugins.data.annotations import load_annotations
from mg_plugins.errors import UserError
from mg_plugins.experiments.plan import Entry, Run, refuse_unknown
from mg_plugins.experiments.probing import probe_scores
from mg_plugins.experiments.training import finetune, train
from mg_plugins.openmmlab import synthetic_data
from mg_plugins.openmmlab.launch import build_model
from mg_plugins.openmmlab.settings import Config, LaunchError, as_list, use_bfloat16

#: Share of the labels where few are used.
SHARE = 0.1
PROBES = ('knn', 'linear', 'linear_10%', 'retrieval')


@dataclass(frozen=True)
class Measures:
    """What is measured of a pre-training."""

    probes: tuple[str, ...] = PROBES  # of the frozen features
    steps: int = 200  # of fine-tuning with a tenth of the labels; 0 leaves it out
    lr: float = 1e-3  # its learning rate
    backbone_lr_mult: float = 1.0  # that of pre-trained encoders as a share of ``lr``
    full: bool = True  # also train with all labels, where encoders start from nothing
    amp: bool = False  # fine-tune in mixed precision
    streams: tuple[str, ...] | None = None  # probed beside the main one; None takes all
    keep: bool = True  # checkpoints and logs; a run without begins anew after a kill

    def __post_init__(self) -> None:
        rates = (self.lr, self.backbone_lr_mult)
        if self.steps < 0 or not all(0 < rate < float('inf') for rate in rates):
            raise UserError(
                'fine-tuning needs steps of at least 0 and learning rates above 0, got steps='
                f'{self.steps}, lr={self.lr}, backbone_lr_mult={self.backbone_lr_mult}'
            )


def fields_of(entry: Entry, cfg: Config, measures: Measures) -> dict:
    """Bring the config of an arm to `pretrain_and_probe`, in place; fields of its `Run`."""
    if measures.amp:
        use_bfloat16(cfg)
    options = dict(start=entry.start, **asdict(measures))
    if entry.start == 'synthetic':
        options['synthetic'] = synthetic_options(cfg)
    return dict(task=pretrain_and_probe, options=options)


def synthetic_options(cfg: Config) -> dict:
    """The synthetic set in the config's layout: its options, and epochs of as many steps."""
    made = synthetic_data.synthetic_options(cfg)
    own, size = cfg.train_dataloader.dataset, cfg.train_dataloader.batch_size

    def steps(file: str, split: str) -> int:
        return -(-len(load_annotations(file)['split'][split]) // size)

    total = cfg.train_cfg.max_epochs * steps(own.ann_file, own.split)
    path = str(synthetic_set.ensure_synthetic(**made))
    return dict(made=made, epochs=max(1, round(total / steps(path, 'xsub_train'))))


def set_epochs(cfg: Config, epochs: int) -> None:
    """Set the number of epochs, and scale what the schedule counts in epochs, in place."""
    before = cfg.train_cfg.get('max_epochs')
    if before is None:
        raise LaunchError('a config with train_cfg.max_epochs was expected')
    cfg.train_cfg.max_epochs = epochs
    for entry in as_list(cfg.get('param_scheduler')):
        keys = {'begin', 'end', 'T_max', 'milestones', 'step_size'} & set(entry)
        for key in keys if entry.get('by_epoch', True) else ():
            # One epoch is the least that most of them take; a beginning may stay 0.
            new = [max(min(v, 1), round(v * epochs / before)) for v in as_list(entry[key])]
            entry[key] = new if isinstance(entry[key], list | tuple) else new[0]


def pretrain_and_probe(run: Run, folder: Path) -> dict:
    """Pre-train, probe frozen features, and fine-tune, as the run's `Measures` say.

    Scores of the main stream are named as by `probe_scores`, ``finetune_10%`` (labels drawn by the
    run's seed, the same for every arm) and ``finetune_100%``; those of another are STREAM/PROBE.
    """
    options = dict(run.options)
    start, synthetic = options.pop('start'), options.pop('synthetic', None)
    measures = Measures(**options)
    cfg = Config(copy.deepcopy(run.cfg))
    model, checkpoint = _learn(cfg, run.seed, folder / 'training', start, synthetic, measures.keep)
    learned, asked = (extract_features(model, loader_of(cfg, part)) for part in ('train', 'test'))
    main = model.main_stream
    names = list(learned)
    if measures.streams is not None:
        names = list(dict.fromkeys([main, *measures.streams]))
    refuse_unknown('stream', names, learned, ContrastError)
    kinds = ['semi' if name == 'linear_10%' else name for name in measures.probes]
    scores = {}
    for name in names:
        found = probe_scores(learned[name], asked[name], kinds, [SHARE])
        scores.update({(p if name == main else f'{name}/{p}'): v for p, v in found.items()})
    clips = asked[main].clips.tolist()
    shares = [SHARE, *([1.0] if start == 'nothing' and measures.full else [])]
    for share in shares if measures.steps else ():
        predicted = finetune(
            cfg,
            checkpoint,
            work_dir=folder / f'finetune_{share:.0%}',
            share=share,
            seed=run.seed,
            steps=measures.steps if share < 1 else measures.steps * 3,
            lr=measures.lr,
            backbone_lr_mult=measures.backbone_lr_mult,
            amp=measures.amp,
        )
        if predicted.clips.tolist() != clips:
            raise UserError(f'{folder}: fine-tuning was tested on other clips')
        scores[f'finetune_{share:.0%}'] = predicted.correct
    if not measures.keep:
        shutil.rmtree(folder / 'training', ignore_errors=True)
    return dict(
        clips=clips,
        subjects=asked[main].subjects.tolist(),
        scores={k: np.round(values.astype(float), 4).tolist() for k, values in scores.items()},
        # A collapsed model is an outcome too: what its features are good for is what counts.
        collapsed=[name for name in names if is_collapsed(learned[name].vectors)],
        learned_from=len(learned[main]),
        source=str(loader_of(cfg, 'train').dataset.metainfo.get('source', '')),
    )


def _learn(
    cfg: Config, seed: int, folder: Path, start: str, synthetic: Mapping | None, keep: bool
) -> tuple[nn.Module, Path | None]:
    """The model in evaluation mode, and its checkpoint where there is one."""
    if start == 'nothing':
        model = build_model(cfg, seed)
        with filling_statistics(model):
            extract_features(model, loader_of(cfg, 'train'))
        return model, None
    cfg = copy.deepcopy(cfg)
    if synthetic is not None:
        path = synthetic_set.ensure_synthetic(**synthetic['made'])
        dataset = cfg.train_dataloader.dataset
        dataset.update(ann_file=str(path), split='xsub_train', data_root=None)
        dataset.pop('exclude_subjects', None)
        set_epochs(cfg, synthetic['epochs'])
    hooks = cfg.setdefault('default_hooks', {})
    if keep:
        hooks['checkpoint'] = dict(type='CheckpointHook', interval=10, max_keep_ckpts=2)
    else:
        hooks.update(logger=None, checkpoint=None)
    runner = train(cfg, seed, folder)
    model = getattr(runner.model, 'module', runner.model).eval()
    return model, folder / f'epoch_{runner.epoch}.pth' if keep else None
