"""Train and test a recognizer: ``python tools/train.py configs/stgcn_mgfuse_imigue.py``."""

import argparse
import sys


def parse_args() -> argparse.Namespace:
    """The command line; it takes everything that MMAction2's own train.py takes."""
    from mg_plugins.openmmlab import launch

    parser = argparse.ArgumentParser(
        description='Train a recognizer and test it with the last checkpoint.'
    )
    launch.common_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from the latest checkpoint in the work directory, or from the one given',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (bfloat16 on a CPU)')
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
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    from mg_plugins.openmmlab.compat import openmmlab_problem

    problem = openmmlab_problem()
    if problem is not None:
        sys.exit(f'train.py: {problem}')
    from mg_plugins.openmmlab import launch

    args = parse_args()
    try:
        cfg = launch.load_config(args)
        launch.apply_training_options(cfg, args)
        runner = launch.build_runner(cfg)
        runner.train()
        if not args.no_test and cfg.get('test_cfg') is not None:
            runner.test()
        launch.leave_group()
    except launch.EXPLAINED as error:
        sys.exit(f'train.py: {error}')
    except KeyboardInterrupt:
        print('\nStopped. The same command with --resume goes on.', file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    main()
