"""Measure how well people can be told apart from key points, features and gesture timelines.

python tools/probe_identity.py [--keypoints FILE] [--features FILE] [--scenarios FILE] [--out DIR]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Name the subject of held-out sessions by logistic regression, and compare\n'
        'that with chance and with shuffled subjects. Without a source: the synthetic set.',
        epilog='example:\n  python tools/probe_identity.py --keypoints data/imigue/imigue.pkl '
        '\\\n      --scenarios scenarios.jsonl --out work_dirs/identity',
    )
    add = parser.add_argument
    add('--keypoints', type=Path, help='annotation file (.pkl, .npz)')
    add('--layout', help="joint layout of the key points (default: the file's own)")
    add('--features', type=Path, help='.npz with the arrays features, subject and session')
    add('--scenarios', type=Path, help='scenarios file (.jsonl) with gesture timelines')
    add('--out', type=Path, help='folder for identity.json and identity.png')
    add('--shuffles', type=int, default=200, help='label shuffles of the null (default: 200)')
    add('--seed', type=int, default=0, help='of folds, shuffles and intervals (default: 0)')
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 1 with an error."""
    args = build_parser().parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError) as error:  # the package's own errors are ValueErrors
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


def run(args: argparse.Namespace) -> None:
    """Collect samples, probe them and report."""
    from rich.console import Console
    from rich.progress import Progress

    from mg_plugins.emotion import identity

    if args.shuffles < 1:
        raise ValueError(f'--shuffles {args.shuffles} is not at least 1')
    samples, source = collect(args)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        probes = []
        for part in samples:
            task = bar.add_task(part.name, total=args.shuffles)
            probes.append(
                identity.probe_subjects(
                    part,
                    shuffles=args.shuffles,
                    seed=args.seed,
                    progress=lambda done, _, task=task: bar.update(task, completed=done),
                )
            )
    print_table(probes, source)
    if args.out:
        for path in identity.write_probes(args.out, probes, source):
            print(f'written: {path}')


def collect(args: argparse.Namespace) -> tuple[list, str]:
    """Samples of every source that was given, or of the synthetic set, and what to call them."""
    from mg_plugins.data.annotations import load_annotations
    from mg_plugins.emotion import identity
    from mg_plugins.emotion.scenarios import load_scenarios
    from mg_plugins.emotion.synthetic import synthetic_scenarios

    samples, sources = [], []
    if not (args.keypoints or args.features or args.scenarios):
        from mg_plugins.data.synthetic import ensure_synthetic

        print('No source was given: this is the synthetic set, which says nothing about people.')
        content = load_annotations(ensure_synthetic())
        timelines = identity.timeline_samples(synthetic_scenarios(True))
        return [identity.keypoint_samples(content), timelines], 'synthetic'
    if args.keypoints:
        content = load_annotations(args.keypoints)
        samples.append(identity.keypoint_samples(content, args.layout))
        sources.append(content['meta'].get('source') or args.keypoints.stem)
    if args.features:
        samples.append(identity.feature_samples(args.features))
        sources.append(args.features.stem)
    if args.scenarios:
        scenarios = load_scenarios(args.scenarios)
        samples.append(identity.timeline_samples(scenarios))
        sources += [scenario.source for scenario in scenarios]
    return samples, ', '.join(dict.fromkeys(sources))


def print_table(probes: list, source: str) -> None:
    """A row a kind of data."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f'Subjects told apart ({escape(source)})')
    table.add_column('from', no_wrap=True)
    for column in ('subjects', 'accuracy (95%)', 'chance', 'shuffled', 'p'):
        table.add_column(column, justify='right')
    for probe in probes:
        table.add_row(
            probe.name,
            f'{probe.subjects}',
            f'{probe.accuracy:.3f} ({probe.low:.2f}-{probe.high:.2f})',
            f'{probe.chance:.3f}',
            f'{probe.null_high:.3f}',
            f'{probe.p:.3f}',
        )
    Console().print(table)
    sessions = ', '.join(f'{probe.sessions} of {probe.name}' for probe in probes)
    print(f'Held-out sessions named: {sessions}.')
    print('Shuffled: the 95th percentile when subjects are shuffled among sessions.')
    print('A lower bound: a better classifier may tell people apart better than this one.')


if __name__ == '__main__':
    sys.exit(main())
