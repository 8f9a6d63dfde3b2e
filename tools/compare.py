"""Train each config with each seed, test its last checkpoint, and compare them clip by clip.
The same command goes on where a killed one stopped.

examples:
  python tools/compare.py configs/stgcn_msr_action3d.py configs/stgcn_mgfuse_msr_action3d.py
  python tools/compare.py 'fused=configs/a.py' 'two heads=configs/a.py;model.backbone.heads=2' \\
      --leave-out 1,3 5,7
  python tools/compare.py CELLS.json --seeds 10

CELLS.json is a list of {"name", "config", "options": ["KEY=VALUE", …], "seeds"}, or of tables
{"cell": NAME, "rows": [such objects], "ann_file", "splits", "layout", "options"}.
"""

import options


def main() -> int:
    """Run the command."""
    parser = options.parser(__doc__)
    what = '[NAME=]CONFIG[;KEY=VALUE…]; the first is what the others are compared with'
    parser.add_argument('variants', nargs='+', metavar='CONFIG', help=what)
    options.experiment(parser, 'work_dirs/compare', seeds=3)
    args = parser.parse_args()
    options.need_openmmlab()
    from functools import partial

    from mg_plugins.experiments import plan, report, training
    from mg_plugins.experiments.runner import Plan

    plan.check_arguments(args)
    if args.variants[0].endswith('.json') and len(args.variants) == 1:
        cells = plan.read_cells(args.variants[0], plan.cell_of(args))
    else:
        cells = [plan.cell_of(args, *map(plan.Entry.parse, args.variants))]
    make = partial(training.fields_of, amp=args.amp)
    runs = plan.plan_runs(cells, args.seeds, plan.parse_folds(args.leave_out), make)
    return report.run_and_report(Plan(args.out, runs, args.finished), args, report.Style())


if __name__ == '__main__':
    options.run(main, 'The same command goes on.')
