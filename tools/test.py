"""Test a checkpoint: ``python tools/test.py configs/stgcn_mgfuse_imigue.py CHECKPOINT``."""

import argparse

import options


def parse_args() -> argparse.Namespace:
    """The command line; it takes everything that MMAction2's own test.py takes."""
    parser = argparse.ArgumentParser(
        description='Test a recognizer; writes metrics, predictions, the confusion matrix and '
        'per-class figures (CSV and PNG) to WORK_DIR/test.'
    )
    options.config(parser)
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file (default: the last one in the work directory)',
    )
    parser.add_argument('--dump', metavar='FILE.pkl', help='also dump predictions to a pickle')
    parser.add_argument('--show-dir', help='where to put pictures of the predictions')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--interval', type=int, default=1, help='show every n-th sample')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds that a window stays open'
    )
    return options.parse(parser)


def main() -> None:
    """Run the command."""
    args = parse_args()
    options.need_openmmlab()
    from mg_plugins.openmmlab import launch

    launch.test(args)


if __name__ == '__main__':
    options.run(main)
