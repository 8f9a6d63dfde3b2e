"""Test a recognizer; writes metrics, predictions, the confusion matrix and per-class figures
(CSV and PNG) to WORK_DIR/test.

example: python tools/test.py configs/stgcn_mgfuse_imigue.py CHECKPOINT
"""

import argparse

import options


def parse_args() -> argparse.Namespace:
    """The command line; it takes everything that MMAction2's own test.py takes."""
    parser = options.parser(__doc__)
    options.config(parser)
    add = parser.add_argument
    add('checkpoint', nargs='?', help='checkpoint (default: the last one in the work directory)')
    add('--dump', metavar='FILE.pkl', help='also dump predictions to a pickle')
    add('--show-dir', help='where to put pictures of the predictions')
    add('--show', action='store_true', help='show predictions in a window')
    add('--interval', type=int, default=1, help='show every n-th sample')
    add('--wait-time', type=float, default=2, help='seconds that a window stays open')
    return options.parse(parser)


def main() -> None:
    """Run the command."""
    args = parse_args()
    options.need_openmmlab()
    from mg_plugins.openmmlab import launch

    launch.test(args)


if __name__ == '__main__':
    options.run(main)
