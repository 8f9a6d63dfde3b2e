"""Make emotion scenarios (JSON lines) from micro-gestures, transcripts and outcomes.

tools/eval_emotion.py asks a judge about them: what leaves a machine then is what its --show prints,
and nothing else. Files that were built with one --salt can be put together.

examples:
  python tools/build_scenarios.py data/imigue/imigue.pkl --transcripts transcripts/ \\
      --names-file players.txt --out scenarios.jsonl
  python tools/build_scenarios.py work_dirs/compare/a/*/s0/test/predictions.csv \\
      --split train --salt "a secret" --out train.jsonl
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from options import Parser, run

SHOWN = 60


def build_parser() -> Parser:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('sources', nargs='+', metavar='SOURCE',
        help='an annotation file (.pkl, .npz: true labels), predictions.csv of a test (several: of '
        'different clips), or segments.csv / segments.json of tools/recognize.py')  # fmt: skip
    add('--out', type=Path, required=True, help='scenarios file to write (.jsonl)')
    shipped = 'post_match (default), job_interview, deception, relaxed_stressed or a file'
    add('--template', default='post_match', help=shipped)
    add('--open-ended', action='store_true', help='ask for free text instead of an option')
    add('--transcripts', type=Path, metavar='DIR', help='folder of SESSION.srt, .vtt or .json')
    add('--outcomes', type=Path, metavar='CSV', help='file with session,subject,state')
    add('--names-file', type=Path, help='names to mask: a person a line, aliases after commas')
    add(
        '--split', help='annotations: take this one only; predictions: what they are, train or test'
    )
    add('--min-confidence', type=float, default=0.0, help='leave out less confident gestures')
    add(
        '--salt', help='of the opaque ids (default: random, so that nobody can tell what they hide)'
    )
    return parser


def main() -> None:
    """Sessions to scenarios, with a summary of both."""
    args = build_parser().parse_args()
    from mg_plugins import emotion
    from mg_plugins.errors import UserError, counted

    if args.out.is_dir() or str(args.out) in args.sources:
        raise UserError(f'--out {args.out} must be a file of its own')
    if not 0 <= args.min_confidence <= 1:
        raise UserError(f'--min-confidence {args.min_confidence} is not from 0 to 1')
    notes: list[str] = []
    template = emotion.load_template(args.template)
    sessions, source = emotion.load_sessions(args.sources, args.split, notes=notes)
    if args.outcomes:
        sessions = emotion.with_outcomes(sessions, args.outcomes)
    names = emotion.read_names(args.names_file) if args.names_file else []
    about: dict[str, Sequence[str]] = {}  # what is told of sessions and transcripts
    if args.transcripts:
        transcripts = emotion.read_transcripts(args.transcripts)
        ids = {session.id: None for session in sessions}
        sessions, labels = emotion.with_transcripts(sessions, transcripts)
        given = emotion.Redactor(names)
        labels = [label for label in labels if given.mask(label) == label]
        names += labels
        if labels:
            notes.append(f'speakers, masked in what is said as well: {", ".join(labels)}')
        about['sessions have no transcript'] = [name for name in ids if name not in transcripts]
        about['transcripts are of no session'] = sorted(transcripts.keys() - ids)
    redactor = emotion.Redactor(names)
    options = dict(open_ended=args.open_ended, salt=args.salt, source=source, redactor=redactor)
    options |= dict(threshold=args.min_confidence or None, notes=notes)
    scenarios = emotion.build_scenarios(sessions, template, **options)
    about['sessions have no gesture'] = [s.id for s in scenarios if not s.gestures]
    about['transcripts without capital letters or others cannot be checked'] = redactor.uncased
    if args.split is None and not {'train', 'test'} <= {scenario.split for scenario in scenarios}:
        advice = 'build each with --split and the same --salt, and put the files together'
        need = 'baselines and a fitted prior need scenarios of split train as well as test'
        notes.append(f'built without --split: {need}; {advice}')
    if any(session.transcript for session in sessions):
        notes.append('names that are not given and in lower case cannot be spotted')
    for what, found in about.items():
        if found:
            notes.append(f'{counted(len(found), what)}, such as {", ".join(found[:5])}')
    summarise(scenarios, redactor, notes)
    try:
        emotion.save_scenarios(args.out, scenarios)
    except OSError as error:
        raise UserError(f'--out {args.out} cannot be written: {error.strerror}') from None
    print(f'written: {args.out}; tools/eval_emotion.py --show prints what would be sent')


def summarise(scenarios: list, redactor: object, notes: list[str]) -> None:
    """Print what was made, what was masked, and what may be names still."""
    first = scenarios[0]
    above = f', confidence of {first.threshold:g} or more' if first.threshold else ''
    print(f'{len(scenarios)} scenarios, source: {first.source} ({first.origin} gestures{above})')
    splits = Counter(s.split or 'none' for s in scenarios)
    states = Counter(s.state or 'not known' for s in scenarios).most_common()
    print(f'  subjects: {len({scenario.subject for scenario in scenarios})}')
    print(f'  gestures: {sum(len(scenario.gestures) for scenario in scenarios)}')
    masked = sorted(redactor.masked.items())
    groups = {'state': states, 'split': sorted(splits.items()), 'masked as': masked}
    for what, rows in groups.items():
        for name, count in rows:
            print(f'  {what} {name}: {count}')
    for note in notes:
        print(f'note: {note}')
    if found := redactor.report():
        print(f'{len(found)} things may be names still; give those that are with --names-file:')
        more = [f'… and {len(found) - SHOWN} more'] * (len(found) > SHOWN)
        print('\n'.join(f'  {line}' for line in [*found[:SHOWN], *more]))


if __name__ == '__main__':
    run(main)
