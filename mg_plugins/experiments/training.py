"""One training inside a process that does many, what it says of test clips; fused against plain."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.experiments.plan import Entry, Run
from mg_plugins.files import replacing
from mg_plugins.openmmlab.launch import run_once
from mg_plugins.openmmlab.settings import Config, as_list, set_retraining, use_bfloat16


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
    cfg.test_evaluator = as_list(cfg.test_evaluator)
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
        set_retraining(cfg, (folder / 'training/last_checkpoint').read_text().strip())
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
    if amp:
        use_bfloat16(cfg)
    return dict(task=train_and_test)
