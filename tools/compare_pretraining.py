"""Compare ways of pre-training: ``python tools/compare_pretraining.py ARMS.json --seeds 5``."""

import argparse
import json
import platform
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Pre-train every arm with every seed, probe its frozen features (linear, kNN,\n'
        'few labels, retrieval), fine-tune it with a tenth of the labels, and compare the arms\n'
        'clip by clip. The same command goes on where a killed one stopped.',
        epilog='example:\n'
        '  python tools/compare_pretraining.py configs/arms_msr_action3d.json --seeds 5 --jobs 2\n'
        '\nARMS.json is a list of {"name", "config", "options": ["KEY=VALUE", …], "start"}; start\n'
        'is "pre-training" (the default), "synthetic" (pre-train on the synthetic set) or\n'
        '"nothing" (random features, and training from scratch).\n',
    )
    parser.add_argument('arms', help='JSON file with the arms')
    parser.add_argument('--seeds', type=int, default=5, help='number of seeds (default: 5)')
    parser.add_argument('--first-seed', type=int, default=0, help='the first seed (default: 0)')
    parser.add_argument(
        '--only', nargs='+', metavar='NAME', help='these arms alone (default: all of the file)'
    )
    parser.add_argument(
        '--reference', help='the arm whose lead over the others is told (default: the last one)'
    )
    parser.add_argument(
        '--leave-out',
        nargs='+',
        default=[],
        metavar='SUBJECTS',
        help='for choices: do not touch the test split, but leave these training subjects out and '
        'test on them; comma-separated within a fold, a word a fold',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/compare_pretraining'),
        help='output folder (default: %(default)s)',
    )
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time (default: 1)')
    parser.add_argument('--amp', action='store_true', help='mixed precision (bfloat16 on a CPU)')
    parser.add_argument(
        '--finetune-steps',
        type=int,
        default=200,
        help='length of fine-tuning (default: 200; 0 leaves it out)',
    )
    parser.add_argument(
        '--finetune-lr', type=float, default=1e-3, help='its learning rate (default: 0.001)'
    )
    parser.add_argument(
        '--finetune-mult',
        type=float,
        default=1.0,
        metavar='SHARE',
        help='learning rate of pre-trained encoders as a share of it (default: 1)',
    )
    parser.add_argument(
        '--report-only', action='store_true', help='tables of what is finished; run nothing'
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    from mg_plugins.openmmlab.compat import openmmlab_problem

    problem = openmmlab_problem()
    if problem is not None:
        sys.exit(f'compare_pretraining.py: {problem}')
    args = parse_args()
    from mg_plugins.contrast.queue import ContrastError
    from mg_plugins.experiments import comparison, comparison_report
    from mg_plugins.experiments.comparison_arms import read_arms

    if args.seeds < 1 or args.jobs < 1:
        sys.exit('compare_pretraining.py: --seeds and --jobs must be at least 1')
    folds = [tuple(word.split(',')) for word in args.leave_out]
    named = [subject for fold in folds for subject in fold]
    if len(set(named)) < len(named):
        sys.exit('compare_pretraining.py: a subject can be left out in one fold only')
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    try:
        tuning = comparison.Tuning(
            args.amp, args.finetune_steps, args.finetune_lr, args.finetune_mult, not folds
        )
        arms = read_arms(args.arms)
        if args.only:
            unknown = set(args.only) - {arm.name for arm in arms}
            if unknown:
                raise ContrastError(f'{args.arms} has no arm {", ".join(sorted(unknown))}')
            arms = [arm for arm in arms if arm.name in args.only]
        args.out.mkdir(parents=True, exist_ok=True)
        units = comparison.plan(arms, seeds, folds, args.out)
        if not args.report_only:
            comparison.execute(units, tuning, args.jobs)
        tables = comparison_report.collect(units)
        summary = comparison_report.summarise(tables, args.reference)
    except (ContrastError, ValueError, OSError) as error:
        sys.exit(f'compare_pretraining.py: {error}')
    except KeyboardInterrupt:
        print('\nStopped. The same command goes on.', file=sys.stderr)
        sys.exit(130)
    table = comparison_report.markdown(summary)
    (args.out / 'table.md').write_text(table, encoding='utf-8')
    summary['arguments'] = sys.argv[1:]
    summary['machine'] = (
        f'{platform.machine()}, {platform.system()}, Python {platform.python_version()}'
    )
    (args.out / 'results.json').write_text(json.dumps(summary, indent=1) + '\n', encoding='utf-8')
    what = 'left-out training subjects' if folds else 'test subjects'
    title = f'{summary["arms"][0]["clips"]} clips of {what}'
    comparison_report.draw(summary, args.out / 'comparison.png', title)
    print(f'{table}\nTable, results.json and comparison.png are in {args.out}')


if __name__ == '__main__':
    main()
