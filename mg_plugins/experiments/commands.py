"""What the three commands share: from their options to a plan, and from a plan to a report."""

import argparse
import sys
from collections.abc import Callable, Sequence

from mg_plugins.errors import UserError, counted
from mg_plugins.experiments.plan import Cell, Entry, Make, check_cells, plan_runs
from mg_plugins.experiments.report import Style, write_report
from mg_plugins.experiments.runner import Plan, execute
from mg_plugins.files import locked, read_json


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse numbers and combinations that cannot be, and read ``--finished``."""
    if min(args.seeds, args.jobs) < 1:
        raise UserError('--seeds and --jobs must be at least 1')
    if args.budget_minutes is not None and not args.budget_minutes >= 0:
        raise UserError('--budget-minutes must not be negative')
    if not args.ann_file and (args.layout or args.splits):
        raise UserError('--layout and --splits say more about --ann-file: give it')
    if args.finished is not None:
        content = read_json(args.finished)
        if not isinstance(content, dict) or not isinstance(content.get('tables'), list):
            raise UserError(f'{args.finished} is no results.json of this command: it has no tables')
        args.finished = content


def cell_of(args: argparse.Namespace, *entries: Entry) -> Cell:
    """The command's own cell; in a file of cells, what they do not say themselves."""
    return Cell(
        entries,
        ann_file=args.ann_file,
        splits=tuple(args.splits) if args.splits else None,
        layout=args.layout,
        options=tuple(args.cfg_options),
        reference=getattr(args, 'reference', None) or '',
    )


def seeds_of(args: argparse.Namespace) -> range:
    """Seeds of the command."""
    return range(args.first_seed, args.first_seed + args.seeds)


def plan_of(
    args: argparse.Namespace, cells: Sequence[Cell], folds: Sequence[tuple[str, ...]], make: Make
) -> Plan:
    """The plan of a command that compares rows."""
    check_cells(cells)
    return Plan(args.out, plan_runs(cells, seeds_of(args), folds, make), args.finished)


def run_and_report(plan: Plan, args: argparse.Namespace, style: Style, title: str = '') -> int:
    """Run a plan, write its report and print it; returns the exit status."""
    title = title or ('left-out training subjects' if args.leave_out else 'test split')

    def report() -> None:
        text = write_report(plan, style, dict(title=title))
        print(f'{text}\ntable.md, results.json and results.png are in {plan.folder}')

    return run(plan, args, report)


def run(plan: Plan, args: argparse.Namespace, report: Callable[[], None]) -> int:
    """Run a plan and report on it, both in its locked folder; returns the exit status."""
    with locked(plan.folder, 'the output folder'):
        failed = {} if args.report_only else execute(plan, args.jobs, args.budget_minutes)
        report()
    for one, error in failed.items():
        log = plan.folder / one.path / 'output.txt'
        said = log.read_text(errors='replace').splitlines()[-8:] if log.is_file() else []
        last = ''.join(f'  {line}\n' for line in said)
        print(f'{plan.folder / one.path} failed:\n{last}{error}', file=sys.stderr)
    if failed:
        print(
            f'{counted(len(failed), "runs")} failed; the same command tries again', file=sys.stderr
        )
    return 1 if failed else 0
