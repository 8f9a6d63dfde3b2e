"""Train and test a recognizer: ``python tools/train.py configs/stgcn_mgfuse_imigue.py``."""

import argparse

import options


def parse_args() -> argparse.Namespace:
    """The command line; it takes everything that MMAction2's own train.py takes."""
    parser = argparse.ArgumentParser(
        description='Train a recognizer and test it with the last checkpoint.'
    )
    options.config(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from the latest checkpoint in the work directory, or from the one given',
    )
    parser.add_argument(
        '--retrain-head',
        metavar='CHECKPOINT',
        help='for a long tail: the head alone learns anew from this checkpoint, on class-balanced '
        'batches, for a fifth of the epochs',
    )
    options.amp(parser)
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    parser.add_argument('--no-test', action='store_true', help='do not test at the end')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the batch size, as the config says',
    )
    parser.add_argument('--seed', type=int, help='random seed (default: a random one, printed)')
    parser.add_argument('--diff-rank-seed', action='store_true', help='another seed on each rank')
    parser.add_argument(
        '--deterministic', action='store_true', help='deterministic operations, slower'
    )
    return options.parse(parser)


def main() -> None:
    """Run the command."""
    args = parse_args()
    options.need_openmmlab()
    from mg_plugins.openmmlab import launch

    launch.train(args)


if __name__ == '__main__':
    options.run(main, 'The same command with --resume goes on.')
