"""One trial of the augmentation study: its config, and its run in a process that runs many."""

from __future__ import annotations

import argparse
import copy
import gc
import multiprocessing
import os
import platform
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence

import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner

import mg_plugins
from mg_plugins.contrast import probes
from mg_plugins.contrast.extract import extract_features
from mg_plugins.contrast.queue import ContrastError
from mg_plugins.experiments.probing import loader_of
from mg_plugins.openmmlab.settings import LaunchError, datasets_of, use_bfloat16


def prepare(
    config: str,
    epochs: int = 15,
    amp: bool = False,
    options: Mapping | None = None,
    require_data: bool = False,
) -> Config:
    """A pre-training config for short trials.

    Its schedule is shortened in proportion, hooks that write or probe are left out, and of its test
    set only the pipeline stays. The synthetic set stands in for data that is missing.

    Args:
        config: Path of the config.
        epochs: Of each trial.
        amp: Train in bfloat16.
        options: Settings to override.
        require_data: Fail instead of taking the synthetic set.

    Raises:
        LaunchError: As `launch.load_config`, or a config whose views the study cannot set.
    """
    from mg_plugins.openmmlab.launch import load_config

    wishes = dict(config=config, cfg_options=dict(options or {}), require_data=require_data)
    unused = dict(fuse=False, no_fuse=False, feat=None, local_rank=0, work_dir='work_dirs/study')
    cfg = load_config(argparse.Namespace(**wishes, **unused, launcher='none'))
    preprocessor = cfg.model.get('data_preprocessor') or {}
    if not preprocessor.get('views') or cfg.model.get('type') != 'DualStreamContrast':
        raise LaunchError(
            f'{config} is not a config whose augmentations can be studied: it must learn by '
            'DualStreamContrast from data_preprocessor.views, as '
            'configs/stbcl_stgcn_msr_action3d.py does'
        )
    shorten(cfg, epochs)
    if amp:
        use_bfloat16(cfg)
    preprocessor.views = [[] for _ in preprocessor.views]
    cfg.test_dataloader.dataset = dict(pipeline=cfg.test_dataloader.dataset.pipeline)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.custom_hooks = [h for h in cfg.get('custom_hooks') or [] if h['type'] != 'ProbeHook']
    cfg.default_hooks = dict(cfg.get('default_hooks') or {}, logger=None, checkpoint=None)
    cfg.default_hooks.pop('visualization', None)
    cfg.update(work_dir=None, log_level='ERROR', load_from=cfg.get('load_from'), resume=False)
    return cfg


def shorten(cfg: Config, epochs: int) -> None:
    """Set the number of epochs, and scale what the schedule counts in epochs, in place.

    Raises:
        LaunchError: If the config does not count in epochs.
    """
    before = cfg.train_cfg.get('max_epochs')
    if before is None:
        raise LaunchError('the study needs a config with train_cfg.max_epochs')
    cfg.train_cfg.max_epochs = epochs
    schedulers = cfg.get('param_scheduler') or []
    for entry in schedulers if isinstance(schedulers, list) else [schedulers]:
        if not entry.get('by_epoch', True):
            continue
        for key in {'begin', 'end', 'T_max', 'milestones', 'step_size'} & set(entry):
            old = entry[key]
            many = isinstance(old, list | tuple)
            # One epoch is the least that most of them take; a beginning may stay 0.
            new = [max(min(v, 1), round(v * epochs / before)) for v in (old if many else [old])]
            entry[key] = new if many else new[0]


def start_process(log: str, threads: int) -> None:
    """Get a process ready: what it prints goes to a file, and it ends with the one it serves."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    warnings.simplefilter('ignore')
    torch.set_num_threads(threads)

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def run_trial(
    content: Mapping,
    chain: Sequence[Mapping],
    seed: int,
    left_out: Sequence[str],
    streams: Sequence[str] = (),
) -> dict:
    """Pre-train without some training subjects, and probe the features of their clips.

    Args:
        content: The config that `prepare` made, as a dict.
        chain: Augmentations of all views, as configs have them.
        seed: Of everything random.
        left_out: Training subjects that are not learned from.
        streams: Streams to probe beside the main one.

    Returns:
        The outcome, ready for JSON: by clip (``clips``, ``subjects``) whether each probe was right
        (``correct``, 0 or 1; a probe of another stream than the main one is ``STREAM/PROBE``),
        their ``figures`` in [0, 1], ``collapsed`` streams, ``seconds`` and ``versions``.

    Raises:
        ContrastError: If there is no such stream.
    """
    started = time.monotonic()
    cfg = Config(copy.deepcopy(dict(content)))
    preprocessor = cfg.model.data_preprocessor
    preprocessor.views = [copy.deepcopy(list(chain)) for _ in preprocessor.views]
    for dataset in datasets_of(cfg.train_dataloader.dataset):
        dataset.exclude_subjects = [*(dataset.get('exclude_subjects') or ()), *left_out]
    with tempfile.TemporaryDirectory(prefix='mg_study_') as folder:
        model = _train(cfg, seed, folder)
    learned = time.monotonic()
    train = extract_features(model, loader_of(cfg, 'train'))
    own = dict(subjects=list(left_out), exclude_subjects=None)
    test = extract_features(model, loader_of(cfg, 'train', own))
    names = dict.fromkeys([model.main_stream, *streams])
    unknown = [name for name in names if name not in train]
    if unknown:
        raise ContrastError(f'the model has no stream {unknown[0]!r}; it has {", ".join(train)}')
    correct, collapsed = {}, []
    for stream in names:
        # A collapsed model is an outcome too: what its features are good for is what counts.
        if probes.is_collapsed(train[stream].vectors):
            collapsed.append(stream)
        prefix = '' if stream == model.main_stream else f'{stream}/'
        for name, probe in (('linear', probes.linear_probe), ('knn', probes.knn_probe)):
            right = probe(train[stream], test[stream]) == test[stream].labels
            correct[prefix + name] = right.astype(int).tolist()
    clips = test[model.main_stream]
    outcome = dict(
        chain=list(chain),
        seed=seed,
        left_out=list(left_out),
        stream=model.main_stream,
        figures={name: float(np.mean(right)) for name, right in correct.items()},
        collapsed=collapsed,
        learned_from=len(train[model.main_stream]),
        seconds=dict(
            training=round(learned - started, 2), probes=round(time.monotonic() - learned, 2)
        ),
        versions=dict(
            mg_plugins=mg_plugins.__version__,
            torch=torch.__version__,
            mmengine=mmengine.__version__,
            python=platform.python_version(),
        ),
        clips=clips.clips.tolist(),
        subjects=clips.subjects.tolist(),
        correct=correct,
    )
    del model
    gc.collect()  # a runner and its hooks refer to each other
    return outcome


def _train(cfg: Config, seed: int, folder: str) -> torch.nn.Module:
    """The model after the training that a config describes; leaves nothing in ``folder``."""
    own = copy.deepcopy(cfg)
    own.update(
        work_dir=folder,
        randomness=dict(seed=seed),
        # Runners of one process need names of their own.
        experiment_name=f'study_{uuid.uuid4().hex}',
        visualizer=dict(type='Visualizer', vis_backends=[]),
        vis_backends=[],
    )
    for part in ('val', 'test'):
        own.update({f'{part}_{what}': None for what in ('cfg', 'dataloader', 'evaluator')})
    runner = Runner.from_cfg(own)
    runner.train()
    for handler in list(runner.logger.handlers):
        handler.close()
        runner.logger.removeHandler(handler)
    return getattr(runner.model, 'module', runner.model)
