"""Train the streams of a config and fuse their scores, or fuse rows that tools/compare.py has
trained. Weights are found on training subjects that are left out, or clips where these name none,
never on test clips. Where a config says retrain_head = True, heads are re-trained on balanced
batches too. The same command goes on where a killed one stopped.

examples:
  python tools/ensemble.py configs/imigue_best.py --jobs 2
  python tools/ensemble.py configs/stgcn_mgfuse_imigue.py --seeds 3
  python tools/ensemble.py work_dirs/compare/joint work_dirs/compare/bone
"""

from pathlib import Path

import options


def main() -> int:
    """Run the command."""
    parser = options.parser(__doc__)
    add = parser.add_argument
    what = (
        'configs, each trained with every stream; or two or more folders of rows (with test/s0/ '
        'and, to find the weights, without_…/s0/)'
    )
    add('what', nargs='+', type=Path, metavar='CONFIG|RUN', help=what)
    streams = options.FEATS
    what = f'of each config (default: {" ".join(streams)})'
    add('--streams', nargs='+', choices=streams, default=streams, metavar='STREAM', help=what)
    leave_out = 'training subjects to find weights on (default: a third of them)'
    options.experiment(parser, 'work_dirs/ensemble', 1, leave_out)
    args = parser.parse_args()
    options.need_openmmlab()
    from mg_plugins.experiments.ensemble import name_runs, train_streams, write_ensemble

    if any(path.is_dir() for path in args.what):
        print(write_ensemble(name_runs(args.what), args.out))
        return 0
    return train_streams(args)


if __name__ == '__main__':
    options.run(main, 'The same command goes on.')
