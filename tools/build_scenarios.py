"""Make emotion scenarios from micro-gestures, transcripts and outcomes.

python tools/build_scenarios.py SOURCE [SOURCE …] --template NAME --out FILE [options]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from options import run

SHOWN = 60


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Make scenarios (JSON lines), which tools/eval_emotion.py asks a judge about.\n'
        'What leaves a machine later is what --show prints, and nothing else.',
        epilog='examples:\n'
        '  python tools/build_scenarios.py data/imigue/imigue.pkl --transcripts transcripts/ \\\n'
        '      --names-file players.txt --out scenarios.jsonl\n'
        '  python tools/build_scenarios.py work_dirs/compare/a/*/s0/test/predictions.csv \\\n'
        '      --split train --salt "a secret" --out train.jsonl\n'
        '  python tools/build_scenarios.py scenarios.jsonl --show\n'
        'Files that were built with one --salt can be put together: cat train.jsonl test.jsonl',
    )
    add = parser.add_argument
    add('sources', nargs='*', metavar='SOURCE',
        help='an annotation file (.pkl, .npz: true labels), one or several predictions.csv of a '
        'test (several: of different clips), or segments.csv / segments.json of '
        'tools/recognize.py; with --show also a scenarios file (.jsonl)')  # fmt: skip
    add('--out', type=Path, help='scenarios file to write (.jsonl)')
    add('--template', help="name or path (default: post_match; to show: the scenario's own)")
    add('--list-templates', action='store_true', help='print the templates and end')
    add('--open-ended', action='store_true', help='ask for free text instead of an option')
    add('--transcripts', type=Path, metavar='DIR', help='folder of SESSION.srt, .vtt or .json')
    add('--outcomes', type=Path, metavar='CSV', help='file with session,subject,state')
    add('--names', nargs='+', default=[], metavar='NAME', help='names to mask, one word or quoted')
    add('--names-file', type=Path, help='names to mask: a person a line, aliases after commas')
    add('--split',
        help='annotations: take this split only; predictions: train or test, which they then '
        'are')  # fmt: skip
    add('--min-confidence', type=float, default=0.0, help='leave out less confident gestures')
    add('--max-gestures', type=int, help='keep the most confident ones of each session')
    add('--source-name', help="what reports call the source (default: the file's own name)")
    add('--salt', help='of the opaque ids; random by default, so that ids differ in every build')
    add('--keep-mapping', type=Path, metavar='FILE', help='write what ids and placeholders hide')
    add('--show', nargs='?', const='', metavar='ID',
        help='print exactly what would be sent for a scenario (default: the first)')  # fmt: skip
    return parser


def main() -> None:
    """List, show or build."""
    args = build_parser().parse_args()
    from mg_plugins import emotion
    from mg_plugins.errors import UserError

    if args.list_templates:
        for template in map(emotion.load_template, emotion.template_names()):
            states = '/'.join(s.name for s in template.states)
            print(f'{template.name} ({states}): {template.question}')
        return
    made = bool(args.sources) and args.sources[0].endswith('.jsonl')
    sure, most, out = args.min_confidence, args.max_gestures, args.out
    for wrong, message in (
        (not args.sources, 'no SOURCE was given; --help shows examples'),
        (not out and args.show is None, 'give --out FILE to write scenarios, or --show to see one'),
        (not 0 <= sure <= 1, f'--min-confidence {sure} is not from 0 to 1'),
        (most is not None and most < 1, f'--max-gestures {most} is not at least 1'),
        (
            made and (len(args.sources) > 1 or out),
            'a scenarios file can only be shown, alone, with --show',
        ),
    ):
        if wrong:
            raise UserError(message)
    if made:
        scenarios = emotion.load_scenarios(args.sources[0])
    else:
        scenarios = build(args, emotion.load_template(args.template or 'post_match'))
    if out:
        emotion.save_scenarios(out, scenarios)
        print(f'written: {out}')
    if args.show is not None:
        show(scenarios, args.show, args.template)


def build(args: argparse.Namespace, template: object) -> list:
    """Sessions to scenarios, with a summary of both."""
    from mg_plugins import emotion
    from mg_plugins.errors import UserError

    notes: list[str] = []
    sessions, source = emotion.load_sessions(args.sources, args.split, notes=notes)
    if args.outcomes:
        sessions, unused = emotion.with_outcomes(sessions, args.outcomes)
        if unused:
            notes.append(f'{args.outcomes} has {len(unused)} sessions without gestures')
    names = [*args.names, *(emotion.read_names(args.names_file) if args.names_file else ())]
    if args.transcripts:
        transcripts = emotion.read_transcripts(args.transcripts, notes)
        ids = [session.id for session in sessions]
        sessions, labels = emotion.with_transcripts(sessions, transcripts)
        given = emotion.Redactor(names)
        labels = [label for label in labels if given.mask(label) == label]
        names += labels
        if labels:
            notes.append(f'speakers, masked in what is said as well: {", ".join(labels)}')
        if without := [name for name in ids if name not in transcripts]:
            notes.append(f'{len(without)} sessions have no transcript, such as {without[0]}')
        if unused := sorted(set(transcripts) - set(ids)):
            notes.append(f'{len(unused)} transcripts are of no session, such as {unused[0]}')
    sessions = emotion.choose_gestures(sessions, args.min_confidence, args.max_gestures)
    sessions, left_out = emotion.fitting_sessions(sessions, template)
    if not sessions:
        reason = next(iter(left_out), 'the source has no clip')
        raise UserError(f'no session is left: {reason}; is --template right?')
    if empty := sum(not session.gestures for session in sessions):
        notes.append(f'{empty} sessions have no gesture')
    redactor, mapping = emotion.Redactor(names), {}
    scenarios = emotion.build_scenarios(
        sessions,
        template,
        open_ended=args.open_ended,
        source=args.source_name or source,
        redactor=redactor,
        salt=args.salt,
        mapping=mapping,
        threshold=args.min_confidence or None,
    )
    if args.split is None and not {'train', 'test'} <= {scenario.split for scenario in scenarios}:
        notes.append(
            'built without --split: baselines and a fitted prior need scenarios of split train as '
            'well as test; build each with --split and the same --salt, and put the files together'
        )
    if args.keep_mapping:
        emotion.save_mapping(args.keep_mapping, mapping, redactor.persons)
    if any(session.transcript for session in sessions):
        notes.append(
            'names that are not given are looked for among capitalised words only: those in lower '
            'case cannot be spotted'
        )
    if redactor.uncased:
        notes.append(
            f'{len(redactor.uncased)} transcripts, such as {redactor.uncased[0]}, have no capital '
            'letters or no others: nothing can be checked in them'
        )
    summarise(scenarios, left_out, redactor, notes)
    return scenarios


def summarise(scenarios: list, left_out: dict, redactor: object, notes: list[str]) -> None:
    """Print what was made, what was masked, and what may be names still."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    # Not the table's title, which wraps at the table's width.
    first = scenarios[0]
    above = f', confidence of {first.threshold:g} or more' if first.threshold else ''
    print(f'{len(scenarios)} scenarios, source: {first.source} ({first.origin} gestures{above})')
    splits = Counter(s.split or 'none' for s in scenarios)
    states = Counter(s.state or 'not known' for s in scenarios).most_common()
    rows = {
        'subjects': len({scenario.subject for scenario in scenarios}),
        'gestures': sum(len(scenario.gestures) for scenario in scenarios),
        **{f'state {name}': count for name, count in states},
        **{f'split {name}': count for name, count in sorted(splits.items())},
        **{f'masked as {what}': count for what, count in sorted(redactor.masked.items())},
    }
    out = [('left out', f'{len(i)}, such as {i[0]}: {reason}') for reason, i in left_out.items()]
    table = Table('what', '')
    for row in [*rows.items(), *out]:
        table.add_row(*(escape(str(cell)) for cell in row))
    Console().print(table)
    for note in notes:
        print(f'note: {note}')
    if found := redactor.report():
        print(f'{len(found)} things may be names still; give those that are with --names-file:')
        more = [f'… and {len(found) - SHOWN} more'] * (len(found) > SHOWN)
        print('\n'.join(f'  {line}' for line in [*found[:SHOWN], *more]))


def show(scenarios: list, wanted: str, named: str | None) -> None:
    """Print the messages of the arm with gestures, as a judge would get them."""
    from mg_plugins import emotion
    from mg_plugins.errors import UserError

    scenario = next((s for s in scenarios if wanted in ('', s.id)), None)
    if scenario is None:
        raise UserError(f'no scenario has the id {wanted!r}; the first is {scenarios[0].id!r}')
    own = emotion.shipped_templates([scenario]).get(scenario.domain)
    template = emotion.load_template(named) if named else own
    task = emotion.render(scenario, scenario.gestures, range(len(scenario.states)), template)
    print(f'--- {scenario.id}: system message\n{task.system}')
    print(f'--- {scenario.id}: user message\n{task.user}\n---')
    print('Every arm, with the orders of the options: tools/eval_emotion.py --show')


if __name__ == '__main__':
    run(main)
