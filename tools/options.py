"""What the command lines share. Nothing of ours is imported here, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path


def run(main: Callable[[], int | None], goes_on: str = '') -> None:
    """Run a tool: a user's error is one line, an interrupt is no traceback.

    Args:
        main: The tool; what it returns is the exit status.
        goes_on: Said on Ctrl-C, such as 'The same command goes on.'
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


def experiment(parser: argparse.ArgumentParser, out: str, seeds: int) -> None:
    """Add what the commands that train many times have in common.

    Args:
        parser: A command's.
        out: Its output folder by default.
        seeds: Its number of seeds by default.
    """
    parser.add_argument(
        '--seeds', type=int, default=seeds, help='number of seeds (default: %(default)s)'
    )
    parser.add_argument('--first-seed', type=int, default=0, help='the first seed (default: 0)')
    parser.add_argument(
        '--leave-out',
        nargs='+',
        default=[],
        metavar='SUBJECTS',
        help='for choices: do not touch the test split, but leave these training subjects out and '
        'test on them; comma-separated within a fold, a word a fold',
    )
    parser.add_argument('--ann-file', metavar='FILE', help='run the configs on this file instead')
    parser.add_argument(
        '--splits', nargs=2, metavar=('TRAIN', 'TEST'), help='its splits (default: as the configs)'
    )
    parser.add_argument('--layout', help='its joint layout (default: the one that it names)')
    parser.add_argument(
        '--out', type=Path, default=Path(out), help='output folder (default: %(default)s)'
    )
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time (default: 1)')
    parser.add_argument('--amp', action='store_true', help='mixed precision (bfloat16 on a CPU)')
    parser.add_argument(
        '--budget-minutes',
        type=float,
        metavar='MINUTES',
        help='start no run after this time; what was not run is in the report (default: run all)',
    )
    parser.add_argument(
        '--finished',
        type=Path,
        metavar='RESULTS.json',
        help='results.json of an earlier command, whose runs are not run again',
    )
    parser.add_argument(
        '--report-only', action='store_true', help='run nothing, report what is there'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='settings for all runs'
    )
