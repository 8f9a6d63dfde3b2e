"""Measure how well people can be told apart from key points and gesture timelines: name the subject
of held-out sessions by logistic regression, and compare that with chance and with shuffled
subjects. Without a source: the synthetic set.

example:
  python tools/probe_identity.py --keypoints data/imigue/imigue.pkl \\
      --scenarios scenarios.jsonl --out work_dirs/identity
"""

from pathlib import Path

import options


def main() -> None:
    """Collect samples of every source that was given, or of the synthetic set, and probe them."""
    parser = options.parser(__doc__)
    add = parser.add_argument
    add('--keypoints', type=Path, help='annotation file (.pkl, .npz)')
    add('--scenarios', type=Path, help='scenarios file (.jsonl) with gesture timelines')
    add('--out', type=Path, help='folder for identity.json')
    add('--shuffles', type=options.at_least(1), default=200, help='of the null (default: 200)')
    what = 'of folds, shuffles and intervals (default: 0)'
    add('--seed', type=options.at_least(0), default=0, help=what)
    args = parser.parse_args()
    from mg_plugins.data.annotations import load_annotations
    from mg_plugins.emotion import identity, load_scenarios, synthetic_scenarios
    from mg_plugins.files import write_json

    keypoints = args.keypoints
    scenarios = load_scenarios(args.scenarios) if args.scenarios else []
    if not (keypoints or scenarios):
        from mg_plugins.data.synthetic import ensure_synthetic

        print('No source was given: this is the synthetic set, which says nothing about people.')
        keypoints, scenarios = ensure_synthetic(), synthetic_scenarios(True)
    samples, sources = [], []
    if keypoints:
        content = load_annotations(keypoints)
        samples.append(identity.keypoint_samples(content))
        sources.append(content['meta'].get('source') or Path(keypoints).stem)
    if scenarios:
        samples.append(identity.timeline_samples(scenarios))
        sources += [scenario.source for scenario in scenarios]
    source = ', '.join(dict.fromkeys(sources))
    design = dict(shuffles=args.shuffles, seed=args.seed)
    probes = [identity.probe_subjects(part, **design) for part in samples]
    print(f'Subjects told apart ({source}):')
    for p in probes:
        print(
            f'  by {p["name"]}: {p["accuracy"]:.3f} ({p["low"]:.2f} to {p["high"]:.2f}) of '
            f'{p["sessions"]} held-out sessions of {p["subjects"]} subjects; chance '
            f'{p["chance"]:.3f}, shuffled {p["null_high"]:.3f}, p = {p["p"]:.3f}'
        )
    print('Shuffled: the 95th percentile when subjects are shuffled among sessions.')
    print('A lower bound: a better classifier may tell people apart better than this one.')
    if args.out:
        write_json(args.out / 'identity.json', {'version': 1, 'source': source, 'probes': probes})
        print(f'written: {args.out / "identity.json"}')


if __name__ == '__main__':
    options.run(main)
