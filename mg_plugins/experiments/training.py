"""One training by MMEngine's runner, inside a process that does many; and fused against plain."""

from __future__ import annotations

import copy
import logging
import uuid
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from mg_plugins.experiments.plan import Entry, Run
from mg_plugins.files import replacing
from mg_plugins.openmmlab.settings import use_bfloat16


def train(cfg: Config, seed: int, folder: Path, test: bool = False) -> Runner:
    """Train as a config says, from the last checkpoint in the folder on.

    Nothing is validated on the way; the last checkpoint counts.

    Args:
        cfg: The config; it is not changed.
        seed: Of everything random.
        folder: Work directory.
        test: Test at the end.
    """
    from mg_plugins.openmmlab.launch import build_runner

    cfg = copy.deepcopy(cfg)
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    known = folder / 'last_checkpoint'
    resume = known.is_file() and Path(known.read_text().strip()).is_file()
    cfg.update(
        work_dir=str(folder),
        randomness=dict(seed=seed),
        resume=resume,
        load_from=None if resume else cfg.get('load_from'),
        # Runners of one process are told apart by their names.
        experiment_name=f'run_{uuid.uuid4().hex}',
    )
    cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
    runner = build_runner(cfg)
    try:
        runner.train()
        if test:
            runner.test()
    finally:
        for handler in list(runner.logger.handlers):
            # Taken off as well: MMEngine writes to the last logger's file, closed or not.
            runner.logger.removeHandler(handler)
            if isinstance(handler, logging.FileHandler):
                handler.close()
    return runner


def train_and_test(run: Run, folder: Path) -> dict:
    """Train a recognizer and test its last checkpoint: the measure is ``top1``.

    The scores of all classes are in ``scores.npz``, by clip.
    """
    from mg_plugins.data.mm.metrics import MGMetric

    cfg = Config(copy.deepcopy(run.cfg))
    evaluator = cfg.test_evaluator
    metrics = list(evaluator) if isinstance(evaluator, list | tuple) else [evaluator]
    if not any(metric['type'] == 'MGMetric' for metric in metrics):
        metrics.append(dict(type='MGMetric', prefix='mg'))
    cfg.test_evaluator = metrics
    cfg.custom_hooks = [h for h in cfg.get('custom_hooks') or [] if h['type'] != 'ReportHook']
    hooks = cfg.setdefault('default_hooks', {})
    hooks['checkpoint'] = dict(hooks.get('checkpoint') or dict(type='CheckpointHook', interval=1))
    hooks['checkpoint'].update(max_keep_ckpts=2)
    hooks['checkpoint'].pop('save_best', None)
    runner = train(cfg, run.seed, folder / 'training', test=True)
    metric = next(m for m in runner.test_evaluator.metrics if isinstance(m, MGMetric))
    found = metric.latest
    clips = [str(clip.get('frame_dir', n)) for n, clip in enumerate(found['clips'])]
    with replacing(folder / 'scores.npz') as path, path.open('wb') as file:
        np.savez_compressed(file, clips=clips, labels=found['labels'], scores=found['scores'])
    return dict(
        clips=clips,
        subjects=[str(clip.get('subject', '')) for clip in found['clips']],
        scores=dict(top1=(found['scores'].argmax(1) == found['labels']).astype(int).tolist()),
        source=str((metric.dataset_meta or {}).get('source', '')),
        step_ms=_step_time(runner),
    )


def _step_time(runner: Runner) -> float | None:
    """Median time of a step in milliseconds, without the data's; None for a step or two."""
    logged = runner.message_hub.log_scalars
    if not {'train/time', 'train/data_time'} <= set(logged):
        return None
    times, waits = (logged[f'train/{name}'].data[0] for name in ('time', 'data_time'))
    count = min(len(times), len(waits))
    steps = (np.asarray(times[-count:]) - np.asarray(waits[-count:]))[3:]  # without warm-up
    return 1000 * float(np.median(steps)) if len(steps) else None


def fields_of(entry: Entry, cfg: Config) -> dict:
    """Fields of a row's `Run`."""
    return dict(task=train_and_test)


def fields_of_amp(entry: Entry, cfg: Config) -> dict:
    """The same in mixed precision."""
    use_bfloat16(cfg)
    return fields_of(entry, cfg)
