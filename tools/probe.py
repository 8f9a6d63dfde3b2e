"""Probe the frozen features of a pre-trained (or supervised) model: kNN, linear, retrieval, and
linear with few labels; or train the model itself with few labels, from the checkpoint and from
scratch. All is fitted on training clips.

examples:
  python tools/probe.py work_dirs/stbcl_stgcn_msr_action3d/epoch_100.pth
  python tools/probe.py CHECKPOINT --probes knn linear --streams graph
  python tools/probe.py CHECKPOINT --probes finetune scratch --shares 0.1 --steps 300
  python tools/probe.py CHECKPOINT --ann-file data/other.pkl --splits train val
"""

from pathlib import Path

import options


def main() -> None:
    """Run the command."""
    parser = options.parser(__doc__)
    add = parser.add_argument
    add('checkpoint', help="checkpoint file, or a run's folder for its last one")
    add('--config', help='its config (default: the one that lies beside the checkpoint)')
    usual = ['knn', 'linear', 'retrieval', 'semi']
    what = 'of knn, linear, retrieval, semi (default: these), and finetune, scratch, which take '
    add('--probes', nargs='+', default=usual, metavar='NAME', help=f'{what}minutes')
    add('--streams', nargs='+', metavar='NAME', help='fused, graph, sequence (default: all)')
    what = 'shares of labels for semi, finetune and scratch (default: 0.01 0.05 0.1)'
    add('--shares', nargs='+', type=float, default=[0.01, 0.05, 0.1], help=what)
    what = 'draws of labelled clips for semi, finetune and scratch (default: 5)'
    add('--draws', type=options.at_least(1), default=5, help=what)
    add('--neighbours', type=options.at_least(1), default=20, help='of kNN (default: 20)')
    tuning = parser.add_argument_group('finetune and scratch')
    add = tuning.add_argument
    add('--steps', type=int, help='steps of a training (default: of 50 epochs)')
    add('--lr', type=float, default=1e-3, help='learning rate (default: 0.001)')
    what = 'share of it that the pre-trained encoders have (default: 1)'
    add('--lr-mult', type=float, default=1.0, help=what)
    options.amp(tuning)
    # Its joints are brought to those of the model by their names.
    options.data(parser, 'probe on another set (transfer)')
    what = 'output folder (default: probes/ beside the checkpoint, probes_FILE/ with --ann-file)'
    parser.add_argument('--out', type=Path, help=what)
    args = parser.parse_args()
    options.need_openmmlab()
    from rich.console import Console
    from rich.table import Table

    from mg_plugins.data.mm.transforms import read_config
    from mg_plugins.errors import UserError
    from mg_plugins.experiments import probing

    if not all(0 < share <= 1 for share in args.shares):
        raise UserError(f'--shares must be above 0 and up to 1, got {args.shares}')
    checkpoint = probing.checkpoint_in(args.checkpoint)
    other = f'_{Path(args.ann_file).stem}' if args.ann_file else ''
    folder = args.out or checkpoint.parent / f'probes{other}'
    cfg = read_config(args.config or probing.config_beside(checkpoint))
    if args.ann_file:
        cfg = probing.with_data(cfg, args.ann_file, args.splits, args.layout)
    elif args.layout or args.splits:
        raise UserError('--layout and --splits say more about --ann-file: give it')
    training = dict(steps=args.steps, lr=args.lr, backbone_lr_mult=args.lr_mult, amp=args.amp)
    found, about = probing.probe_checkpoint(
        cfg,
        checkpoint,
        args.probes,
        args.streams,
        progress=True,
        work_dir=folder / 'trained',
        training=training,
        shares=args.shares,
        draws=args.draws,
        neighbours=args.neighbours,
    )
    probing.write_probes(folder, found, about)
    names = list(dict.fromkeys(name for _, report in found.values() for name in report.figures))
    synthetic = ', SYNTHETIC data' if about['source'] == 'synthetic' else ''
    clips = f'{about["train_clips"]} training and {about["test_clips"]} test clips{synthetic}'
    table = Table('probe, %', title=clips)
    for stream in found:
        table.add_column(stream, justify='right')
    for name in names:
        figures = (report.figures.get(name) for _, report in found.values())
        table.add_row(name, *('–' if f is None else f'{100 * f:.2f}' for f in figures))
    Console().print(table)
    print(f'probes.json, features.npz and pictures are in {folder}')


if __name__ == '__main__':
    options.run(main)
