"""Probe frozen features: ``python tools/probe.py CHECKPOINT``."""

import argparse
import sys
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Probe the frozen features of a pre-trained (or supervised) model: kNN,\n'
        'linear, retrieval, and linear with few labels. Everything is fitted on training clips.',
        epilog='examples:\n'
        '  python tools/probe.py work_dirs/stbcl_stgcn_msr_action3d/epoch_100.pth\n'
        '  python tools/probe.py CHECKPOINT --probes knn linear --streams graph\n'
        '  python tools/probe.py CHECKPOINT --ann-file data/other.pkl --splits train val\n',
    )
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--config', help='its config (default: the one that lies beside the checkpoint)'
    )
    parser.add_argument(
        '--probes',
        nargs='+',
        default=['knn', 'linear', 'retrieval', 'semi'],
        metavar='NAME',
        help='of knn, linear, retrieval, semi (default: all)',
    )
    parser.add_argument(
        '--streams', nargs='+', metavar='NAME', help='fused, graph, sequence (default: all)'
    )
    parser.add_argument(
        '--shares',
        nargs='+',
        type=float,
        default=[0.01, 0.05, 0.1],
        help='shares of labels for semi (default: 0.01 0.05 0.1)',
    )
    parser.add_argument(
        '--draws', type=int, default=5, help='draws of labelled clips for semi (default: 5)'
    )
    parser.add_argument('--neighbours', type=int, default=20, help='of kNN (default: 20)')
    parser.add_argument('--ann-file', help='probe on another set of the same layout (transfer)')
    parser.add_argument(
        '--splits', nargs=2, metavar=('TRAIN', 'TEST'), help='names of its splits, for --ann-file'
    )
    parser.add_argument(
        '--out', type=Path, help='output folder (default: probes/ beside the checkpoint)'
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    from mg_plugins.compat import openmmlab_problem

    problem = openmmlab_problem()
    if problem is not None:
        sys.exit(f'probe.py: {problem}')
    args = parse_args()
    from mmengine.config import Config
    from rich.console import Console
    from rich.table import Table

    from mg_plugins.contrast import probing
    from mg_plugins.data.annotations import AnnotationError

    try:
        if not Path(args.checkpoint).is_file():
            raise probing.ContrastError(f'there is no checkpoint {args.checkpoint}')
        cfg = Config.fromfile(args.config or probing.config_beside(args.checkpoint))
        parts = ('train', 'test')
        sets = {part: {} for part in parts}
        if args.ann_file:
            for part in parts:
                sets[part]['ann_file'] = args.ann_file
        for part, split in zip(parts, args.splits or (), strict=False):
            sets[part]['split'] = split
        found, about = probing.probe_checkpoint(
            cfg,
            args.checkpoint,
            args.probes,
            args.streams,
            datasets=sets,
            progress=True,
            shares=args.shares,
            draws=args.draws,
            neighbours=args.neighbours,
        )
    except (probing.ContrastError, AnnotationError, ValueError, OSError) as error:
        sys.exit(f'probe.py: {error}')
    folder = args.out or Path(args.checkpoint).parent / 'probes'
    probing.write_probes(folder, found, about)
    names = list(next(iter(found.values()))[1].figures)
    synthetic = ', SYNTHETIC data' if about['source'] == 'synthetic' else ''
    table = Table(
        title=f'{about["train_clips"]} training and {about["test_clips"]} test clips{synthetic}'
    )
    table.add_column('probe, %')
    for stream in found:
        table.add_column(stream, justify='right')
    for name in names:
        figures = (report.figures[name] for _, report in found.values())
        table.add_row(name, *(f'{100 * figure:.2f}' for figure in figures))
    Console().print(table)
    print(f'probes.json, features.npz and pictures are in {folder}')


if __name__ == '__main__':
    main()
