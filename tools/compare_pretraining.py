"""Pre-train every arm with every seed, probe its frozen features (linear, kNN, few labels,
retrieval), fine-tune it with a tenth of the labels, and compare the arms clip by clip. The same
command goes on where a killed one stopped.

example:
  python tools/compare_pretraining.py configs/arms_msr_action3d.json --seeds 5 --jobs 2

ARMS.json is a list of {"name", "config", "options": ["KEY=VALUE", …], "start", "seeds"}, or of
tables {"cell": NAME, "rows": [arms], "ann_file", "splits", "layout", "options", "reference"}; start
is "pre-training" (the default), "synthetic" (pre-train on the synthetic set) or "nothing" (random
features, and training from scratch).
"""

import options


def main() -> int:
    """Run the command."""
    parser = options.parser(__doc__)
    add = parser.add_argument
    add('arms', metavar='ARMS.json', help='JSON file with the arms')
    options.experiment(parser, 'work_dirs/compare_pretraining', seeds=5)
    what = 'these arms alone (default: all of the file)'
    add('--only', nargs='+', metavar='NAME', help=what)
    add('--reference', help='the arm whose lead over the others is told (default: the last one)')
    what = 'length of fine-tuning (default: 200; 0 leaves it out)'
    add('--finetune-steps', type=int, default=200, help=what)
    add('--finetune-lr', type=float, default=1e-3, help='its learning rate (default: 0.001)')
    what = 'learning rate of pre-trained encoders as a share of it (default: 1)'
    add('--finetune-mult', type=float, default=1.0, metavar='SHARE', help=what)
    args = parser.parse_args()
    options.need_openmmlab()
    from functools import partial

    from mg_plugins.experiments import plan, pretraining, report
    from mg_plugins.experiments.runner import Plan

    plan.check_arguments(args)
    folds = plan.parse_folds(args.leave_out, overlap=False)
    measures = pretraining.Measures(
        steps=args.finetune_steps,
        lr=args.finetune_lr,
        backbone_lr_mult=args.finetune_mult,
        full=not folds,
        amp=args.amp,
    )
    cells = plan.read_cells(args.arms, plan.cell_of(args))
    cells = [plan.choose(cell, args.only) for cell in cells]
    make = partial(pretraining.fields_of, measures=measures)
    style = report.Style(by=None, lead=True, drawn=('linear', 'knn', 'finetune_10%', 'mAP'))
    runs = plan.plan_runs(cells, args.seeds, folds, make)
    return report.run_and_report(Plan(args.out, runs, args.finished), args, style)


if __name__ == '__main__':
    options.run(main, 'The same command goes on.')
