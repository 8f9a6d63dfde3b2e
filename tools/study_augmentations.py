"""Pre-train CONFIG briefly with each augmentation alone, with each left out of a recipe, and with
pairs of the best four; probe the features of left-out training subjects, and rank. Test subjects
are never read. A round is all of this with one seed; rounds follow each other as long as the budget
lasts. The same command goes on where a killed one, or one whose budget was used up, stopped.
--leave-out gives the folds (default: two of a third of the training subjects each, dealt in turn).

examples:
  python tools/study_augmentations.py configs/stbcl_stgcn_msr_action3d.py \\
      --leave-out 7,9 1,3 --jobs 2 --budget-minutes 60
  python tools/study_augmentations.py configs/stbcl_stgcn_msr_action3d.py \\
      --leave-out 7,9 1,3 --report-only
"""

from pathlib import Path

import options


def main() -> int:
    """Run the command."""
    parser = options.parser(__doc__)
    add = parser.add_argument
    add('config', help='config that learns by DualStreamContrast')
    options.experiment(parser, 'work_dirs/study_augmentations/CONFIG', seeds=5)
    add('--epochs', type=options.at_least(1), default=15, help='of each run (default: 15)')
    what = 'recipe out of which each augmentation is left (default: micro_gesture)'
    add('--recipe', default='micro_gesture', help=what)
    add('--augmentations', nargs='+', metavar='NAME', help='those to try alone (default: all)')
    what = "probe of the model's main stream that ranks (default: linear)"
    add('--by', choices=['linear', 'knn'], default='linear', help=what)
    what = 'rank by the effective rank of the features of the left-out clips, which needs no labels'
    add('--without-labels', dest='by', action='store_const', const='rank', help=what)
    add('--stream', metavar='NAME', help='probe this stream too: fused, graph or sequence')
    add('--require-data', action='store_true', help='fail where the data is missing')
    args = parser.parse_args()
    options.need_openmmlab()
    from mg_plugins.experiments import augmentation, plan, report

    plan.check_arguments(args)
    # A run's own config is named after the shipped one; its folder also after the data.
    path = Path(args.config)
    name = path.parent.name if (path.parent / 'last_checkpoint').is_file() else path.stem
    if args.out.name == 'CONFIG':
        args.out = args.out.with_name(name)
    cell = plan.cell_of(args, plan.Entry(name, args.config), require_data=args.require_data)
    wanted = augmentation.StudyOptions(
        tuple(plan.parse_folds(args.leave_out)),
        tuple(args.seeds),
        args.recipe,
        args.augmentations,
        args.by,
        (args.stream,) if args.stream else (),
    )
    cfg = augmentation.prepare(cell, args.epochs, args.amp)
    study = augmentation.Study(cfg, args.out, wanted, args.finished)
    gains = dict.fromkeys((augmentation.RECIPES, augmentation.ALONE, augmentation.PAIRS), 1)
    style = report.Style(args.by, ranked={**gains, study.left_out_of: -1}, drawn=(args.by,))
    title = f'{name}, {args.epochs} epochs, left-out training subjects'
    return report.run_and_report(study, args, style, title)


if __name__ == '__main__':
    options.run(main, 'The same command goes on.')
