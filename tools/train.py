"""Train a recognizer and test it with the last checkpoint.

example: python tools/train.py configs/stgcn_mgfuse_imigue.py
"""

import argparse

import options


def parse_args() -> argparse.Namespace:
    """The command line; it takes everything that MMAction2's own train.py takes."""
    parser = options.parser(__doc__)
    options.config(parser)
    add = parser.add_argument
    what = 'go on from the latest checkpoint in the work directory, or from the one given'
    add('--resume', nargs='?', const='auto', metavar='CHECKPOINT', help=what)
    what = 'for a long tail: the head alone learns anew from this checkpoint, on balanced batches'
    add('--retrain-head', metavar='CHECKPOINT', help=what)
    options.amp(parser)
    add('--no-validate', action='store_true', help='do not evaluate while training')
    add('--no-test', action='store_true', help='do not test at the end')
    what = 'scale the learning rate to the batch size, as the config says'
    add('--auto-scale-lr', action='store_true', help=what)
    add('--seed', type=int, help='random seed (default: a random one, printed)')
    add('--diff-rank-seed', action='store_true', help='another seed on each rank')
    add('--deterministic', action='store_true', help='deterministic operations, slower')
    return options.parse(parser)


def main() -> None:
    """Run the command."""
    args = parse_args()
    options.need_openmmlab()
    from mg_plugins.openmmlab import launch

    launch.train(args)


if __name__ == '__main__':
    options.run(main, 'The same command with --resume goes on.')
