"""From a config's name and a few wishes to a runner, for ``tools/train.py`` and ``test.py``."""

import argparse
import importlib.util
import logging
import os
import sys
from pathlib import Path

import torch
from mmaction.registry import RUNNERS
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mg_plugins.contrast.queue import ContrastError
from mg_plugins.data.annotations import AnnotationError
from mg_plugins.data.layouts import LayoutError
from mg_plugins.fusion.probe import PlugError
from mg_plugins.openmmlab import annotation_file as owndata
from mg_plugins.openmmlab import synthetic_data as standin
from mg_plugins.openmmlab.memory import keep_memory
from mg_plugins.openmmlab.settings import (
    LaunchError,
    add_report,
    datasets,
    keep_fields,
    set_feature,
    set_fusion,
    use_bfloat16,
)

#: Errors whose message is all that a user needs.
EXPLAINED = (LaunchError, AnnotationError, LayoutError, PlugError, ContrastError)


def common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what training and testing have in common to a command line."""
    parser.add_argument(
        'config',
        help='config file, or mmaction::PATH for one of the configs that MMAction2 carries, e.g. '
        'mmaction::skeleton/stgcn/stgcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py',
    )
    parser.add_argument(
        '--work-dir',
        help='where logs, checkpoints and reports go (default: work_dirs/CONFIG, or '
        'work_dirs/CONFIG_FILE with --ann-file)',
    )
    own = parser.add_argument_group('your data')
    own.add_argument(
        '--ann-file',
        metavar='FILE',
        help="run any of this project's GCN configs on this annotation file, which "
        'tools/prepare_data.py writes: file, splits, joint layout and number of classes are set',
    )
    own.add_argument(
        '--layout',
        help='joint layout of --ann-file, a name or a .json file (default: the one it names)',
    )
    own.add_argument(
        '--splits',
        nargs=2,
        metavar=('TRAIN', 'TEST'),
        help='its splits (default: those of the config, else xsub_train xsub_val, or train val)',
    )
    parser.add_argument(
        '--feat',
        choices=['joint', 'bone', 'joint_motion', 'bone_motion'],
        help='what the model is shown, in every pipeline (default: as the config says)',
    )
    fuse = parser.add_mutually_exclusive_group()
    fuse.add_argument(
        '--fuse', action='store_true', help='put the fusion into the backbone of any GCN config'
    )
    fuse.add_argument(
        '--no-fuse', action='store_true', help='take it out again: the plain twin of a fused config'
    )
    parser.add_argument(
        '--require-data',
        action='store_true',
        help='fail where the data is missing instead of going on with the synthetic set',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings to override, e.g. train_cfg.max_epochs=5 model.cls_head.dropout=0.5; '
        'lists as key="[a,b]", without spaces',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run were started',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def config_path(name: str) -> Path:
    """The file of a config that is given by path or as ``mmaction::path``.

    Raises:
        LaunchError: If there is no such file; similar names are suggested.
    """
    package, _, inside = name.rpartition('::')
    if package:
        spec = importlib.util.find_spec(package.partition('.')[0])
        if spec is None or '.' in package:
            raise LaunchError(f'{name}: there is no installed package {package!r}')
        folder = Path(spec.origin).parent / '.mim' / 'configs'
    else:
        folder = Path()
    path = folder / inside
    if path.is_file():
        return path
    import difflib

    known = (
        {str(p.relative_to(folder)) for p in folder.glob('skeleton/**/*.py')}
        if package
        else {str(p) for p in Path('configs').glob('*.py')}
    )
    close = difflib.get_close_matches(inside, known, 3, 0.4)
    hint = f'; did you mean {" or ".join(close)}?' if close else ''
    raise LaunchError(f'there is no config {name}{hint}')


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that a command line names and apply everything that it wishes for.

    Data that is missing is replaced by the synthetic set, unless ``--require-data`` is given.
    ``--cfg-options`` have the last word over ``--ann-file``.

    Raises:
        LaunchError: If the config or its data does not exist or a wish does not fit the config.
        AnnotationError: If ``--ann-file`` is missing or wrongly built.
        LayoutError: If ``--layout`` is no layout.
    """
    path = config_path(args.config)
    cfg = Config.fromfile(path)
    ann_file = getattr(args, 'ann_file', None)  # only the tools offer it
    if ann_file:
        owndata.use_data(cfg, ann_file, args.layout, args.splits)
    elif getattr(args, 'layout', None) or getattr(args, 'splits', None):
        raise LaunchError('--layout and --splits say more about --ann-file: give it')
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    # A dumped config is run again by other tools: it must bring the plug-ins with it.
    imports = cfg.setdefault('custom_imports', dict(imports=[], allow_failed_imports=False))
    if isinstance(imports['imports'], str):
        imports['imports'] = [imports['imports']]
    if 'mg_plugins' not in imports['imports']:
        imports['imports'] = [*imports['imports'], 'mg_plugins']
    if args.fuse or args.no_fuse:
        set_fusion(cfg, args.fuse)
    if args.feat or 'feat' in cfg:
        set_feature(cfg, args.feat or cfg.feat)
    keep_fields(cfg)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        # Runs that differ must not go on from, or overwrite, each other.
        marks = [args.feat or '', 'mgfuse' * args.fuse, 'plain' * args.no_fuse]
        cfg.work_dir = str(Path('work_dirs') / '_'.join(filter(None, [path.stem, *marks])))
        if ann_file:
            cfg.work_dir = owndata.of_data(cfg.work_dir, ann_file)
    if not torch.cuda.is_available():
        cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})['backend'] = 'gloo'
        if args.launcher != 'none':
            # MMEngine's default wrapper names a GPU for each process.
            wrapper = dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=cfg.get('find_unused_parameters', False),
            )
            cfg.setdefault('model_wrapper_cfg', wrapper)
    if args.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise LaunchError(
            '--launcher pytorch needs torchrun: '
            f'torchrun --nproc_per_node 2 {sys.argv[0]} {args.config} --launcher pytorch'
        )
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    missing = standin.missing_data(cfg)
    present = {d['ann_file'] for d in datasets(cfg)} - set(missing)
    if missing and (args.require_data or present):
        raise LaunchError(standin.how_to_get(cfg, missing))
    if missing:
        try:
            standin.use_synthetic(cfg, missing, keep=set(args.cfg_options or {}))
        except standin.NoStandIn as error:
            raise LaunchError(f'{standin.how_to_get(cfg, missing)}\n{error}') from error
    return cfg


def build_runner(cfg: Config) -> Runner:
    """The runner that a config asks for (``runner_type``), MMEngine's own by default."""
    if cfg.get('launcher') == 'pytorch' and not torch.cuda.is_available():
        # MMEngine would give each process a GPU; it leaves alone what is initialised already.
        torch.distributed.init_process_group('gloo')
    keep_memory()
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    for handler in MMLogger.get_current_instance().handlers:
        if type(handler) is logging.StreamHandler:
            handler.addFilter(is_for_people)
    return runner


def leave_group() -> None:
    """End the processes of a distributed run together.

    A process that ends while its group lives now and then aborts ("terminate called"), and
    torchrun then takes a run that has done its work for a failed one.
    """
    group = torch.distributed
    if group.is_available() and group.is_initialized():
        group.barrier()
        group.destroy_process_group()


def check_weights(runner: Runner, checkpoint: str) -> None:
    """Refuse to test a checkpoint whose weights do not fit: MMEngine would test random ones.

    Raises:
        LaunchError: If a weight has another shape, or none of the model's weights is there.
    """
    from mmengine.runner import CheckpointLoader

    content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    given = content.get('state_dict', content)
    model = getattr(runner.model, 'module', runner.model).state_dict()
    bad = [k for k in model if k in given and given[k].shape != model[k].shape]
    if bad or not set(model) & set(given):
        shapes = [f'{k} {tuple(given[k].shape)}, not {tuple(model[k].shape)}' for k in bad[:2]]
        raise LaunchError(
            f'{checkpoint} is of another model than this config: '
            f'{"; ".join(shapes) or "no weight has a known name"}. Was it trained with other '
            '--cfg-options, --feat or data?'
        )


def is_for_people(record: logging.LogRecord) -> bool:
    """Keep listings of every parameter off the screen; the log file has them."""
    message = record.getMessage()
    frozen = message.endswith('is skipped since its requires_grad=False')
    return not (frozen or message.startswith('paramwise_options'))


def apply_training_options(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the options that only training has: resume, precision, seed, validation, report.

    Raises:
        LaunchError: If a checkpoint to start or resume from does not exist, or ``--amp`` does not
            fit.
    """
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_bfloat16(cfg)
    if args.resume == 'auto':
        cfg.resume, cfg.load_from = True, None
    elif args.resume:
        if not Path(args.resume).is_file():
            raise LaunchError(f'there is no checkpoint {args.resume} to resume from')
        cfg.resume, cfg.load_from = True, args.resume
    start = cfg.get('load_from')
    if start and not args.resume and '://' not in start and not Path(start).is_file():
        raise LaunchError(
            f'the config starts from {start}, which is not there: train that first, or name '
            'another checkpoint by --cfg-options load_from=FILE (load_from=None for none)'
        )
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise LaunchError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=…) in the config'
            )
        cfg.auto_scale_lr.enable = True
    if cfg.get('randomness') is None or args.seed is not None:
        cfg.randomness = dict(
            seed=args.seed, diff_rank_seed=args.diff_rank_seed, deterministic=args.deterministic
        )
    if not args.no_test:
        add_report(cfg)


def apply_test_options(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the options that only testing has: checkpoint, dump, pictures, report.

    Raises:
        LaunchError: If there is no checkpoint, or the dump is not to be a pickle.
    """
    checkpoint = args.checkpoint
    if checkpoint is None:
        note = Path(cfg.work_dir) / 'last_checkpoint'
        if not note.is_file():
            raise LaunchError(
                f'no checkpoint is given and {cfg.work_dir} holds none; train first, or name one'
            )
        checkpoint = note.read_text().strip()
    if not checkpoint.startswith(('http://', 'https://')) and not Path(checkpoint).is_file():
        raise LaunchError(f'there is no checkpoint {checkpoint}')
    cfg.load_from, cfg.resume = checkpoint, False
    add_report(cfg)
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
        cfg.default_hooks.visualization = dict(
            type='VisualizationHook',
            enable=True,
            show=args.show,
            out_dir=args.show_dir,
            interval=args.interval,
            wait_time=args.wait_time,
        )
