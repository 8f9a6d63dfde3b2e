"""Which augmentations help: ``python tools/study_augmentations.py CONFIG --budget-minutes 60``."""

import argparse
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """The command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Pre-train CONFIG briefly with each augmentation alone, with each left out of\n'
        'a recipe, and with pairs of the best four; probe the features of left-out training\n'
        'subjects, and rank. Test subjects are never read. A round is all of this with one seed;\n'
        'rounds follow each other as long as the budget lasts. The same command goes on where a\n'
        'killed one, or one whose budget was used up, stopped.',
        epilog='examples:\n'
        '  python tools/study_augmentations.py configs/stbcl_stgcn_msr_action3d.py '
        '--leave-out 7,9 1,3 --jobs 2 --budget-minutes 60\n'
        '  python tools/study_augmentations.py configs/stbcl_stgcn_msr_action3d.py '
        '--leave-out 7,9 1,3 --report-only\n',
    )
    parser.add_argument('config', help='config that learns by DualStreamContrast')
    parser.add_argument(
        '--leave-out',
        nargs='+',
        metavar='SUBJECTS',
        help='training subjects that are probed instead of learned from; comma-separated within a '
        'fold, a word a fold (default: two folds of a third of the training subjects each, dealt '
        'in turn)',
    )
    parser.add_argument('--epochs', type=int, default=15, help='of each trial (default: 15)')
    parser.add_argument('--seeds', type=int, default=5, help='rounds at most (default: 5)')
    parser.add_argument('--first-seed', type=int, default=0, help='the first seed (default: 0)')
    parser.add_argument(
        '--budget-minutes',
        type=float,
        metavar='MINUTES',
        help='start no trial after this time; what was not run is in the report (default: run all)',
    )
    parser.add_argument('--jobs', type=int, default=1, help='trials at a time (default: 1)')
    parser.add_argument('--amp', action='store_true', help='train in bfloat16')
    parser.add_argument(
        '--recipe',
        default='micro_gesture',
        help='recipe out of which each augmentation is left (default: micro_gesture)',
    )
    parser.add_argument(
        '--augmentations', nargs='+', metavar='NAME', help='those to try alone (default: all)'
    )
    parser.add_argument(
        '--by',
        choices=['linear', 'knn'],
        default='linear',
        help="probe of the model's main stream that ranks (default: linear)",
    )
    parser.add_argument(
        '--stream', metavar='NAME', help='probe this stream too: fused, graph or sequence'
    )
    parser.add_argument(
        '--out', type=Path, help='output folder (default: work_dirs/study_augmentations/CONFIG)'
    )
    parser.add_argument(
        '--report-only', action='store_true', help='run nothing, report what is there'
    )
    parser.add_argument(
        '--require-data', action='store_true', help='fail where the data is missing'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='settings'
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    from mg_plugins.openmmlab.compat import openmmlab_problem

    problem = openmmlab_problem()
    if problem is not None:
        sys.exit(f'study_augmentations.py: {problem}')
    args = parse_args()
    from mmengine.logging import MMLogger

    from mg_plugins.experiments import study, study_report
    from mg_plugins.experiments.study_trial import prepare
    from mg_plugins.openmmlab.launch import EXPLAINED

    MMLogger.get_current_instance().setLevel('WARNING')
    try:
        if min(args.seeds, args.jobs, args.epochs) < 1:
            raise ValueError('--seeds, --jobs and --epochs must be at least 1')
        if args.budget_minutes is not None and args.budget_minutes < 0:
            raise ValueError('--budget-minutes must not be negative')
        # A run's own config is named after the shipped one; its folder also after the data.
        path = Path(args.config)
        name = path.parent.name if (path.parent / 'last_checkpoint').is_file() else path.stem
        cfg = prepare(args.config, args.epochs, args.amp, args.cfg_options, args.require_data)
        plan = study.plan_study(
            cfg,
            args.out or Path('work_dirs/study_augmentations') / name,
            [tuple(word.split(',')) for word in args.leave_out or ()],
            range(args.first_seed, args.first_seed + args.seeds),
            args.recipe,
            args.augmentations,
            args.by,
            [args.stream] if args.stream else [],
        )
        study.settle(plan, dict(config=args.config, epochs=args.epochs, amp=args.amp))
        failed = {} if args.report_only else study.execute(plan, args.jobs, args.budget_minutes)
        summary = study_report.write_report(
            plan, dict(config=args.config, epochs=args.epochs, amp=args.amp, arguments=sys.argv[1:])
        )
    except (*EXPLAINED, ValueError, RuntimeError) as error:
        sys.exit(f'study_augmentations.py: {error}')
    except KeyboardInterrupt:
        print('\nStopped. The same command goes on.', file=sys.stderr)
        sys.exit(130)
    print(summary)
    if failed:
        lines = '\n'.join(f'  {path.parent.name}: {error}' for path, error in failed.items())
        sys.exit(f'study_augmentations.py: {len(failed)} trials failed:\n{lines}')


if __name__ == '__main__':
    main()
