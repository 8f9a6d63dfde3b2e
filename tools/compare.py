"""Compare configs over seeds: ``python tools/compare.py CONFIG CONFIG --seeds 10``."""

import argparse
import json
import platform
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Train each config with each seed, test its last checkpoint, and compare them\n'
        'clip by clip. The same command goes on where a killed one stopped.',
        epilog='examples:\n'
        '  python tools/compare.py configs/stgcn_msr_action3d.py '
        'configs/stgcn_mgfuse_msr_action3d.py --seeds 10\n'
        "  python tools/compare.py 'fused=configs/a.py' 'two heads=configs/a.py;"
        "model.backbone.heads=2' --leave-out 1,3 5,7\n",
    )
    parser.add_argument(
        'variants',
        nargs='+',
        metavar='CONFIG',
        help='[NAME=]CONFIG[;KEY=VALUE…]; the first is what the others are compared with',
    )
    parser.add_argument('--seeds', type=int, default=3, help='number of seeds (default: 3)')
    parser.add_argument('--first-seed', type=int, default=0, help='the first seed (default: 0)')
    parser.add_argument(
        '--leave-out',
        nargs='+',
        default=[],
        metavar='SUBJECTS',
        help='for choices: do not touch the test split, but leave these training subjects out and '
        'test on them; comma-separated within a fold, a word a fold',
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/compare'), help='output folder')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time (default: 1)')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='settings for all runs'
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    from mg_plugins.experiments import compare

    args = parse_args()
    try:
        variants = [compare.Variant.parse(text) for text in args.variants]
    except ValueError as error:
        sys.exit(f'compare.py: {error}')
    missing = [v.config for v in variants if '::' not in v.config and not Path(v.config).is_file()]
    if missing:
        sys.exit(f'compare.py: there is no config {", ".join(missing)}')
    if len({v.folder for v in variants}) < len(variants):
        sys.exit('compare.py: two variants have one name; name them: NAME=CONFIG;KEY=VALUE')
    if args.seeds < 1 or args.jobs < 1:
        sys.exit('compare.py: --seeds and --jobs must be at least 1')
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    folds = [tuple(word.split(',')) for word in args.leave_out]
    runs = compare.plan(variants, seeds, folds, args.out)
    try:
        compare.execute(runs, args.jobs, ['--amp'] if args.amp else [], args.cfg_options)
    except RuntimeError as error:
        sys.exit(f'compare.py: {error}')
    rows = compare.summarise(runs)
    args.out.mkdir(parents=True, exist_ok=True)
    table = compare.markdown(rows)
    (args.out / 'table.md').write_text(table)
    record = dict(
        arguments=sys.argv[1:],
        machine=f'{platform.machine()}, {platform.system()}, Python {platform.python_version()}',
        rows=rows,
    )
    (args.out / 'results.json').write_text(json.dumps(record, indent=1) + '\n')
    what = 'left-out training subjects' if folds else 'test subjects'
    compare.draw(rows, args.out / 'comparison.png', f'{rows[0]["clips"]} clips of {what}')
    print(table + f'\nTable, results.json and comparison.png are in {args.out}')


if __name__ == '__main__':
    main()
