"""Turn a dataset in its own format into the annotation file that training reads.

python tools/prepare_data.py SOURCE [options]            the format is found by looking at the files
python tools/prepare_data.py FORMAT SOURCE [options]
python tools/prepare_data.py FORMAT --help
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mg_plugins.data.prepare import Report
    from mg_plugins.data.readers.common import ClipError

# More rejected clips than this are in the log only, which always lists every one.
SHOWN_REJECTS = 50
# Read by path, so that --help need not import anything of ours.
PATH = Path(__file__).parents[1] / 'mg_plugins' / 'data' / 'readers' / 'formats.json'
TABLE = json.loads(PATH.read_text(encoding='utf-8'))
TYPES = {'int': int, 'float': float}


def build_parser() -> argparse.ArgumentParser:
    """One sub-command a format, and `auto`."""
    known = TABLE['options'] | TABLE['always']
    named = {key for entry in TABLE['formats'].values() for key in entry['options']}
    of_any = [key for key in known if key in named and not key.startswith('synthetic_')]
    formats = dict(TABLE['formats'], auto=dict(TABLE['auto'], options=of_any))
    parser = argparse.ArgumentParser(
        description='Turn a dataset in its own format into an annotation file for training. '
        'Without FORMAT, the format is found by looking at the files.',
        usage='%(prog)s [FORMAT] SOURCE [options]',
        epilog='What each format looks like, its options and an example: FORMAT --help',
    )
    commands = parser.add_subparsers(dest='format', metavar='FORMAT', required=True)
    for name, entry in formats.items():
        doc = '\n'.join(entry['doc']).strip()
        command = commands.add_parser(
            name,
            help=entry['summary'],
            description=f'{doc}\n\nSOURCE: {entry["expects"]}.',
            epilog=f'example:\n  {entry["example"]}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if entry.get('needs_source', True):
            command.add_argument('source', metavar='SOURCE', help='what to read; see above')
        out = entry.get('out', 'data/<source>/<source>.pkl')
        command.add_argument('--out', help=f'.pkl, .npz or .mg to write (default: {out})')
        for key in (*TABLE['always'], *entry['options']):
            option = dict(known[key], default=argparse.SUPPRESS)
            if 'type' in option:
                option['type'] = TYPES[option['type']]
            command.add_argument(option.pop('flag'), **option)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 (bad data), 2 (bad usage) or 130 (stopped)."""
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    if argv and argv[0] not in (*TABLE['formats'], 'auto', '-h', '--help'):
        argv = ['auto', *argv]
    options = vars(parser.parse_args(argv))
    name, bar = options.pop('format'), not options.pop('quiet', False)

    from mg_plugins.data.prepare import prepare
    from mg_plugins.data.readers.common import FormatError
    from mg_plugins.errors import UserError

    try:
        report = prepare(name, bar=bar, announce=partial(print, file=sys.stderr), **options)
    except (OSError, UserError) as error:
        rejects = getattr(error, 'rejects', [])
        print_rejects(rejects, len(rejects))
        print(f'{name}: {error}', file=sys.stderr)
        return 2 if isinstance(error, FormatError) else 1
    except KeyboardInterrupt:
        print('Stopped; nothing was written.', file=sys.stderr)
        return 130
    print_rejects(report.rejects, SHOWN_REJECTS, f'all of them are in {report.log}')
    print_report(report)
    return 0


def print_rejects(rejects: list[ClipError], limit: int, rest: str = '') -> None:
    """List rejected clips on stderr; what holds for several clips is said once, with the first."""
    same: dict[tuple, list[ClipError]] = {}
    for reject in rejects:
        same.setdefault((reject.reason, reject.detail), []).append(reject)
    groups = list(same.values())
    for first, *others in groups[:limit]:
        many = f'{1 + len(others)} clips, the first ' if others else ''
        print(f'rejected {many}{first}', file=sys.stderr)
    if left := sum(map(len, groups[limit:])):
        print(f'… and {left} more; {rest}', file=sys.stderr)


def print_report(report: Report) -> None:
    """Print the summary table, the notes and the next command."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mg_plugins.errors import counted

    title = f'{report.format}: {counted(report.clips, "clips")} in {report.seconds:.1f} s'
    table = Table('what', title=title)
    table.add_column('', overflow='fold')
    rows = [(f'split {name}', counted(clips, 'clips')) for name, clips in report.splits.items()]
    rows += [('classes', report.classes), ('subjects', report.subjects or 'not known')]
    rows += [('layout', report.layout)]
    seen = report.undetected.items()
    rows += [(f'  {part} never seen', f'in {share:.1%} of the clips') for part, share in seen]
    rows += [('rejected', len(report.rejects))]
    rows += [(f'  {reason}', clips) for reason, clips in report.rejected_by_reason.items()]
    for what, value in [*rows, ('written', report.out), ('log', report.log)]:
        table.add_row(escape(what), escape(str(value)))
    Console().print(table)
    for note in report.notes:
        print(f'note: {note}')
    print(f'next: {report.next_command}')


if __name__ == '__main__':
    # A polite kill ends the run as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
