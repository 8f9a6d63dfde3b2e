"""Fuse streams by their scores: ``python tools/ensemble.py CONFIG`` or ``… RUN RUN``."""

import argparse
from pathlib import Path

import options

STREAMS = ('joint', 'bone', 'joint_motion', 'bone_motion')


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Train the streams of a config and fuse their scores, or fuse rows that\n'
        'tools/compare.py has trained. Weights are found on training subjects that are left\n'
        'out, or clips where these name none, never on test clips. Where a config says\n'
        'retrain_head = True, heads are re-trained on balanced batches too. The same command\n'
        'goes on where a killed one stopped.',
        epilog='examples:\n'
        '  python tools/ensemble.py configs/imigue_best.py --jobs 2\n'
        '  python tools/ensemble.py configs/stgcn_mgfuse_imigue.py --seeds 3\n'
        '  python tools/ensemble.py work_dirs/compare/joint work_dirs/compare/bone\n',
    )
    parser.add_argument(
        'what',
        nargs='+',
        type=Path,
        metavar='CONFIG|RUN',
        help='configs, each trained with every stream; or two or more folders of rows (with '
        'test/s0/ and, to find the weights, without_…/s0/)',
    )
    parser.add_argument(
        '--streams',
        nargs='+',
        choices=STREAMS,
        default=STREAMS,
        metavar='STREAM',
        help=f'of each config (default: {" ".join(STREAMS)})',
    )
    leave_out = 'training subjects to find weights on (default: a third of them)'
    options.experiment(parser, 'work_dirs/ensemble', 1, leave_out)
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    options.need_openmmlab()
    from mg_plugins.experiments.ensemble import name_runs, train_streams, write_ensemble

    if any(path.is_dir() for path in args.what):
        print(write_ensemble(name_runs(args.what), args.out))
        return 0
    return train_streams(args)


if __name__ == '__main__':
    options.run(main, 'The same command goes on.')
