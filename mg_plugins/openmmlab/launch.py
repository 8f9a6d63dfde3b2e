"""From a config's name and a few wishes to a runner, for ``tools/train.py`` and ``test.py``."""

import argparse
import copy
import ctypes
import difflib
import importlib.util
import logging
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from mmaction.registry import MODELS, RUNNERS
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner, set_random_seed
from mmengine.utils import import_modules_from_strings

from mg_plugins.data.annotations import SUFFIXES
from mg_plugins.data.mm.transforms import META_KEYS, read_config
from mg_plugins.errors import counted
from mg_plugins.files import locked
from mg_plugins.openmmlab import annotation_file, settings, synthetic_data, weights
from mg_plugins.openmmlab.hooks import FiniteHook, SyntheticHook
from mg_plugins.openmmlab.settings import LaunchError, as_list

#: How messages begin that list every parameter, hook, package or setting.
LISTINGS = ('paramwise_options', 'System environment:', 'Config:', 'Hooks will be executed')


def train(args: argparse.Namespace) -> None:
    """Train, and test, what the command line of ``tools/train.py`` asks for."""
    cfg = load_config(args)
    if not args.retrain_head:
        settings.warn_of_retraining(cfg, args.config)
    apply_training_options(cfg, args)
    first = os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0'
    with locked(cfg.work_dir, 'the work directory') if first else nullcontext():
        runner = build_runner(cfg)
        runner.train()
        if not args.no_test and cfg.get('test_cfg') is not None:
            runner.test()
    leave_group()


def test(args: argparse.Namespace) -> None:
    """Test what the command line of ``tools/test.py`` asks for."""
    cfg = load_config(args)
    apply_test_options(cfg, args)
    runner = build_runner(cfg, training=False)
    runner.test()
    leave_group()


def parse_settings(items: Sequence[str]) -> dict:
    """``KEY=VALUE`` texts as :class:`mmengine.config.DictAction` reads them."""
    parsed = argparse.Namespace()
    wrong = [item for item in items if '=' not in item]
    if wrong:
        raise LaunchError(f'--cfg-options takes KEY=VALUE, got {wrong[0]!r}')
    DictAction(['--cfg-options'], 'settings')(argparse.ArgumentParser(), parsed, items)
    return parsed.settings


def config_path(name: str) -> Path:
    """The file of a config that is given by path or as ``mmaction::path``."""
    package, _, inside = name.rpartition('::')
    folder = Path()
    if package:
        spec = importlib.util.find_spec(package.partition('.')[0])
        if spec is None or '.' in package:
            raise LaunchError(f'{name}: there is no installed package {package!r}')
        folder = Path(spec.origin).parent / '.mim' / 'configs'
    path = folder / inside
    if path.is_file():
        return path
    known = folder.glob('skeleton/**/*.py' if package else 'configs/*.py')
    close = difflib.get_close_matches(inside, [str(p.relative_to(folder)) for p in known], 3, 0.4)
    hint = f'; did you mean {" or ".join(close)}?' if close else ''
    raise LaunchError(f'there is no config {name}{hint}')


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that a command line names and apply everything that it wishes for.

    Data that is missing is replaced by the synthetic set, unless ``--require-data`` is given.
    ``--cfg-options`` have the last word over ``--ann-file``.
    """
    wish = vars(args).get  # only the tools offer all of them
    given = wish('cfg_options') or {}
    chosen = given if isinstance(given, dict) else parse_settings(given)
    path = config_path(args.config)
    cfg = read_config(path)
    ann_file, launcher = wish('ann_file'), wish('launcher', 'none')
    if isinstance(ann_file, list):
        ann_file = annotation_file.put_together(ann_file)
    if ann_file:
        testing = 'checkpoint' in vars(args)
        annotation_file.use_data(cfg, ann_file, wish('layout'), wish('splits'), testing)
    elif wish('layout') or wish('splits'):
        raise LaunchError('--layout and --splits say more about --ann-file: give it')
    if (finetune := wish('finetune')) is not None:
        settings.set_finetuning(cfg, finetune)
    if wish('retrain_head'):
        settings.set_retraining(cfg, wish('retrain_head'))
    if chosen:
        cfg.merge_from_dict(chosen)
    # A dumped config is run again by other tools: it must bring the plug-ins with it.
    imports = cfg.setdefault('custom_imports', dict(imports=[], allow_failed_imports=False))
    imports['imports'] = list(dict.fromkeys([*as_list(imports['imports']), 'mg_plugins']))
    if wish('fuse') or wish('no_fuse'):
        settings.set_fusion(cfg, bool(wish('fuse')))
    if wish('feat') or 'feat' in cfg:
        settings.set_feature(cfg, wish('feat') or cfg.feat)
    # MMAction2's own pipelines, too, carry a clip's id, session, subject, … to the metrics.
    for step in settings.steps(cfg):
        if step['type'] == 'PackActionInputs':
            step.setdefault('meta_keys', META_KEYS)
    cfg.launcher = launcher
    if wish('work_dir') is not None:  # empty where the caller has folders of its own
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        # Runs that differ must not go on from, or overwrite, each other.
        marks = [path.stem, wish('feat')]
        marks.append(finetune and f'finetune_{finetune:g}'.removesuffix('_1'))
        marks.append(wish('retrain_head') and 'retrained')
        marks += [mark for key, mark in (('fuse', 'mgfuse'), ('no_fuse', 'plain')) if wish(key)]
        cfg.work_dir = str(Path('work_dirs', '_'.join(filter(None, marks))))
        if ann_file:
            cfg.work_dir = annotation_file.of_data(cfg.work_dir, ann_file)
    if not torch.cuda.is_available():
        cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})['backend'] = 'gloo'
        if launcher != 'none':
            # MMEngine's default wrapper names a GPU for each process.
            unused = cfg.get('find_unused_parameters', False)
            wrapper = dict(type='MMDistributedDataParallel', find_unused_parameters=unused)
            wrapper |= dict(device_ids=None, broadcast_buffers=False)
            cfg.setdefault('model_wrapper_cfg', wrapper)
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise LaunchError(
            '--launcher pytorch needs torchrun: '
            f'torchrun --nproc_per_node 2 {sys.argv[0]} {args.config} --launcher pytorch'
        )
    os.environ.setdefault('LOCAL_RANK', str(wish('local_rank', 0)))
    missing = synthetic_data.missing_data(cfg)
    present = {d['ann_file'] for d in settings.datasets(cfg)} - set(missing)
    if missing and (wish('require_data') or present):
        raise LaunchError(synthetic_data.how_to_get(cfg, missing))
    if missing:
        synthetic_data.use_synthetic(cfg, missing, keep=set(chosen))
    return cfg


def build_runner(cfg: Config, training: bool = True) -> Runner:
    """The runner that a config asks for (``runner_type``), MMEngine's own by default.

    What it starts from, goes on from or, without ``training``, tests is looked at first.
    """
    if cfg.get('launcher') == 'pytorch' and not torch.cuda.is_available():
        # MMEngine would give each process a GPU; it leaves alone what is initialised already.
        torch.distributed.init_process_group('gloo')
    keep_memory()
    if training:
        keep_labelled(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else QuietRunner.from_cfg(cfg)
    logger = MMLogger.get_current_instance()
    names = [name for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT') if name in os.environ]
    ways = [f'{name}={os.environ[name]}' for name in names] or ['busy waiting']
    logger.info(f'{counted(torch.get_num_threads(), "threads")}, {", ".join(ways)}')
    runner.register_hook(SyntheticHook())
    if training:
        runner.register_hook(FiniteHook())
        weights.check_start(runner)
    else:
        weights.check_test(runner)
    return runner


def keep_memory() -> None:
    """Tell glibc to keep what is freed, for the rest of the process; elsewhere it does nothing.

    By itself glibc hands the maps that a training step frees back to the system and asks for them
    again: some 14,000 page faults a step of the small ST-GCN, a twentieth of its time. The peak
    of a process's memory is the same; it only stays there. For programs, not for libraries.
    """
    if platform.libc_ver()[0] == 'glibc':
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: how much may lie free at the top of the heap
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD at its maximum: larger ones come from the system


def keep_labelled(cfg: Config) -> None:
    """Leave clips without a label out of the training of a model that learns from labels."""
    if 'cls_head' in cfg.model:
        for dataset in settings.datasets_of(cfg.train_dataloader.dataset):
            if dataset.get('type') == 'MGPoseDataset':
                dataset.setdefault('labelled', True)


def run_once(cfg: Config, test: bool = False, hooks: Sequence[Hook] = ()) -> Runner:
    """Train, and test, as a config says, in a process that does many runs."""
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    runner = build_runner(cfg)
    for hook in hooks:
        runner.register_hook(hook)
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


def build_model(cfg: Config, seed: int | None = None) -> torch.nn.Module:
    """The model of a config in evaluation mode, with first weights by a seed where one is given."""
    settings.enter_scope()
    if seed is not None:
        set_random_seed(seed)
    model = MODELS.build(copy.deepcopy(cfg.model))
    if seed is not None:
        model.init_weights()
    return model.eval()


def leave_group() -> None:
    """End the processes of a distributed run together.

    A process that ends while its group lives now and then aborts ("terminate called"), and
    torchrun then takes a run that has done its work for a failed one.
    """
    group = torch.distributed
    if group.is_available() and group.is_initialized():
        group.barrier()
        group.destroy_process_group()


class QuietRunner(Runner):
    """MMEngine's runner; `LISTINGS` are in its log file only."""

    def build_logger(self, *args: object, **options: object) -> MMLogger:
        """MMEngine's logger with a filter before the screen."""
        logger = super().build_logger(*args, **options)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(is_for_people)
        return logger


def is_for_people(record: logging.LogRecord) -> bool:
    """Keep listings of parameters, hooks, packages and settings off the screen."""
    message = record.getMessage().lstrip('-\n')
    frozen = message.endswith('is skipped since its requires_grad=False')
    return not (frozen or message.startswith(LISTINGS))


def apply_training_options(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the options that only training has: resume, precision, seed, validation, report."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        settings.use_bfloat16(cfg)
    if args.resume:
        cfg.resume, cfg.load_from = True, None if args.resume == 'auto' else args.resume
        if cfg.load_from and not Path(args.resume).is_file():
            raise LaunchError(f'there is no checkpoint {args.resume} to resume from')
    start = cfg.get('load_from')
    if start and not args.resume and '://' not in start and not Path(start).is_file():
        raise LaunchError(
            f'the config starts from {start}, which is not there: train that first, or name '
            'another checkpoint by --cfg-options load_from=FILE (load_from=None for none)'
        )
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise LaunchError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        cfg.auto_scale_lr.enable = True
    if cfg.get('randomness') is None or args.seed is not None:
        cfg.randomness = dict(
            seed=args.seed, diff_rank_seed=args.diff_rank_seed, deterministic=args.deterministic
        )
    if not args.no_test:
        settings.add_report(cfg)


def apply_test_options(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the options that only testing has: checkpoint, dump, pictures, report."""
    checkpoint = args.checkpoint
    if checkpoint is None:
        note = Path(cfg.work_dir) / 'last_checkpoint'
        if not note.is_file():
            raise LaunchError(f'no checkpoint is given, and none is in {cfg.work_dir}: name one')
        checkpoint = note.read_text().strip()
    if checkpoint.endswith(SUFFIXES):
        raise LaunchError(
            f'{checkpoint} is no checkpoint but an annotation file: --ann-file takes one, whose '
            'splits --splits TRAIN TEST chooses from'
        )
    if not checkpoint.startswith(('http://', 'https://')) and not Path(checkpoint).is_file():
        raise LaunchError(f'there is no checkpoint {checkpoint}')
    cfg.load_from, cfg.resume = checkpoint, False
    settings.add_report(cfg)
    if args.dump:
        if not args.dump.endswith(('.pkl', '.pickle')):
            raise LaunchError(f'--dump writes a pickle: name it .pkl or .pickle, not {args.dump}')
        cfg.test_evaluator.append(dict(type='DumpResults', out_file_path=args.dump))
    if (args.show or args.show_dir) and cfg.model.get('type') == 'RecognizerGCN':
        raise LaunchError(
            "--show and --show-dir are MMAction2's and draw video frames, which skeleton data does "
            f'not have; the predictions are in {cfg.work_dir}/test/predictions.csv'
        )
    if args.show or args.show_dir:
        shown = dict(show=args.show, out_dir=args.show_dir, interval=args.interval)
        shown |= dict(type='VisualizationHook', enable=True, wait_time=args.wait_time)
        cfg.default_hooks.visualization = shown
