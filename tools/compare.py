"""Compare configs over seeds: ``python tools/compare.py CONFIG CONFIG --seeds 10``."""

import argparse

import options


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
        "model.backbone.heads=2' --leave-out 1,3 5,7\n"
        '  python tools/compare.py CELLS.json\n'
        '\nCELLS.json is a list of {"name", "config", "options": ["KEY=VALUE", …], "seeds"}, or\n'
        'of tables {"cell": NAME, "rows": [such objects], "ann_file", "splits", "layout",\n'
        '"options"}.\n',
    )
    parser.add_argument(
        'variants',
        nargs='+',
        metavar='CONFIG',
        help='[NAME=]CONFIG[;KEY=VALUE…]; the first is what the others are compared with',
    )
    options.experiment(parser, 'work_dirs/compare', seeds=3)
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    options.need_openmmlab()
    from functools import partial

    from mg_plugins.experiments import commands, plan, report, training

    commands.check_arguments(args)
    if args.variants[0].endswith('.json') and len(args.variants) == 1:
        cells = plan.read_cells(args.variants[0], commands.cell_of(args))
    else:
        cells = [commands.cell_of(args, *map(plan.Entry.parse, args.variants))]
    make = partial(training.fields_of, amp=args.amp)
    made = commands.plan_of(args, cells, plan.parse_folds(args.leave_out), make)
    return commands.run_and_report(made, args, report.Style())


if __name__ == '__main__':
    options.run(main, 'The same command goes on.')
