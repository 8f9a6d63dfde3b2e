"""What the command lines share. Nothing heavy is imported here, so that ``--help`` is quick.

Tools import this module first: it says how PyTorch's threads wait, which only counts before torch
is imported. By itself torch's OpenMP waits busily, and every step stalls beside other work.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

# The workers of data loading and the processes of experiments inherit it; users override it.
if 'GOMP_SPINCOUNT' not in os.environ:
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

FEATS = ('joint', 'bone', 'joint_motion', 'bone_motion')


def run(main: Callable[[], int | None], goes_on: str = '') -> None:
    """Run a tool, which returns its exit status: a user's error is one line.

    ``goes_on`` is said on Ctrl-C, such as 'The same command goes on.'
    """
    name = Path(sys.argv[0]).name
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f'\n{name}: stopped. {goes_on}'.rstrip(), file=sys.stderr)
        status = 130
    except BrokenPipeError:
        # Whoever read the output has closed it, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:
        if 'UserError' not in {kind.__name__ for kind in type(error).__mro__}:
            raise
        print(f'{name}: {error}', file=sys.stderr)
        status = 1
    sys.exit(status)


class Parser(argparse.ArgumentParser):
    """Wrong usage is one sentence, as every error is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.prog}: {message} (--help tells more)\n')


def parser(doc: str) -> Parser:
    """A command line that is described by the docstring of its tool."""
    return Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line, in any order; ``--ann-file`` may be followed by further files."""
    args, words = parser.parse_known_intermixed_args()
    words = [word for word in (vars(args).get('checkpoint'), *words) if word]
    more = [w for w in words if args.ann_file and w.endswith(('.pkl', '.npz', '.mg'))]
    words = [word for word in words if word not in more]
    if 'checkpoint' in vars(args):
        args.checkpoint = words.pop(0) if words and not words[0].startswith('-') else None
    if words:
        parser.error(f'unrecognized arguments: {" ".join(words)}')
    if more:
        args.ann_file = [args.ann_file, *more]
    return args


def at_least(least: int) -> Callable[[str], int]:
    """A ``type`` of arguments: whole numbers from ``least`` on."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f'at least {least} was expected, not {text}')
        return int(text)

    number.__name__ = 'int'  # what argparse calls a text that is no number
    return number


def need_openmmlab() -> None:
    """Go on where MMAction2 can be used; else one sentence says what to install."""
    from mg_plugins.openmmlab import compat

    compat.require_openmmlab()


def data(
    parser: argparse._ActionsContainer, what: str = 'run the config on this file', more: str = ''
) -> None:
    """Add ``--ann-file``, ``--splits`` and ``--layout``."""
    add = parser.add_argument
    what += ', which tools/prepare_data.py writes: splits, joint layout and number of classes '
    add('--ann-file', metavar='FILE', help=f'{what}follow from it{more}')
    which = 'its splits (default: those of the config, else xsub_train xsub_val, or train val)'
    add('--splits', nargs=2, metavar=('TRAIN', 'TEST'), help=which)
    add('--layout', help='its joint layout, a name or a .json file (default: the one it names)')


def amp(parser: argparse._ActionsContainer) -> None:
    """Add ``--amp``."""
    parser.add_argument('--amp', action='store_true', help='mixed precision (bfloat16 on a CPU)')


def settings(parser: argparse._ActionsContainer) -> None:
    """Add ``--cfg-options``."""
    what = (
        'settings to override, e.g. train_cfg.max_epochs=5 model.cls_head.dropout=0.5; lists as '
        'key="[a,b]", without spaces'
    )
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help=what)


def config(parser: argparse.ArgumentParser) -> None:
    """Add what training and testing one config have in common."""
    add = parser.add_argument
    what = (
        'config file, or mmaction::PATH for one of the configs that MMAction2 carries, e.g. '
        'mmaction::skeleton/stgcn/stgcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py'
    )
    add('config', help=what)
    what = 'where logs, checkpoints and reports go (default: work_dirs/CONFIG, or '
    add('--work-dir', help=f'{what}work_dirs/CONFIG_FILE with --ann-file)')
    what = "run any of this project's GCN configs on it"
    more = '; files of the clips to train, validate and test on are put together'
    data(parser.add_argument_group('your data'), what, more)
    shown = 'what the model is shown, in every pipeline (default: as the config says)'
    add('--feat', choices=FEATS, help=shown)
    what = 'with a …_linear config: all weights learn, from this share of the labels (default: 1)'
    add('--finetune', nargs='?', const=1.0, type=float, metavar='SHARE', help=what)
    fuse = parser.add_mutually_exclusive_group().add_argument
    fuse('--fuse', action='store_true', help='put the fusion into the backbone of any GCN config')
    fuse('--no-fuse', action='store_true', help='take it out: the plain twin of a fused config')
    needed = 'fail where the data is missing instead of going on with the synthetic set'
    add('--require-data', action='store_true', help=needed)
    settings(parser)
    launchers = ['none', 'pytorch', 'slurm', 'mpi']
    how = 'how the processes of a distributed run were started'
    add('--launcher', choices=launchers, default='none', help=how)
    add('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def experiment(
    parser: argparse.ArgumentParser,
    out: str,
    seeds: int,
    leave_out: str = 'for choices: do not touch the test split, but leave these training subjects '
    'out and test on them',
) -> None:
    """Add what the commands that train many times have in common, with these defaults."""
    add = parser.add_argument
    add('--seeds', type=at_least(1), default=seeds, help='number of seeds (default: %(default)s)')
    add('--first-seed', type=int, default=0, help='the first seed (default: 0)')
    what = f'{leave_out}; comma-separated within a fold, a word a fold'
    add('--leave-out', nargs='+', default=[], metavar='SUBJECTS', help=what)
    data(parser, 'run the configs on this file instead')
    add('--out', type=Path, default=Path(out), help='output folder (default: %(default)s)')
    add('--jobs', type=at_least(1), default=1, help='runs at a time (default: 1)')
    amp(parser)
    what = 'start no run after this time; what was not run is in the report (default: run all)'
    add('--budget-minutes', type=float, metavar='MINUTES', help=what)
    what = 'results.json of an earlier command, whose runs are not run again'
    add('--finished', type=Path, metavar='RESULTS.json', help=what)
    add('--report-only', action='store_true', help='run nothing, report what is there')
    settings(parser)
