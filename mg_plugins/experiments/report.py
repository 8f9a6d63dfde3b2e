"""Run a plan; from outcomes to counts by seed and subject, a table, a record and a picture."""

import argparse
import json
import platform
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

import mg_plugins
from mg_plugins.data.statistics import bootstrap_difference
from mg_plugins.errors import UserError, counted
from mg_plugins.experiments.plan import Run
from mg_plugins.experiments.runner import TESTED, Plan, execute
from mg_plugins.files import locked, read_table, replacing, write_text

#: Measures in the order of the tables, and how these call them.
MEASURES: dict[str, str] = read_table('experiments/measures.json')

#: Measures of all clips together, of which a bootstrap over clips or subjects says nothing.
WHOLE = ('rank',)


@dataclass(frozen=True)
class Style:
    """How a plan's results are shown."""

    #: The measure whose difference stands in the first table; None gives each a column in a second.
    by: str | None = 'top1'
    lead: bool = False  # tell the reference's lead over the rows, not their gain over it
    ranked: Mapping[str, int] | None = None  # section to 1, most gained first, or −1, most lost
    drawn: tuple[str, ...] = ('top1',)  # measures in the picture


def collect(plan: Plan) -> list[dict]:
    """Per table and row the sums of scores by seed and cluster, as `Plan.counts` has them.

    A dict a table, ready for JSON: ``name``, what its rows were tested on (`TESTED`; different
    clips are a UserError) and ``rows``, each with ``name``, ``section``, ``base``, ``fingerprint``,
    ``seeds``, ``sums`` by measure (seeds, clusters), ``missing`` runs, ``failed`` and what runs
    tell beside scores. Seeds of which a fold is missing are left out.
    """
    tables: dict[str, dict] = {}
    rows: dict[tuple[str, str], list[Run]] = {}
    for run in plan.runs():
        rows.setdefault((run.group, run.name), []).append(run)
    for (group, name), runs in rows.items():
        table = tables.setdefault(group, dict(name=group, **dict.fromkeys(TESTED), rows=[]))
        row: dict = dict(name=name, section=runs[0].section, base=runs[0].base)
        row.update(fingerprint=plan.row_fingerprint(group, name), seeds=[], sums={})
        row['missing'] = sum(not plan.done(run) for run in runs)
        row['failed'] = next(filter(None, map(plan.failure, runs)), '')
        told: dict[str, list] = {}
        for seed in dict.fromkeys(run.seed for run in runs):
            folds = [run for run in runs if run.seed == seed]
            if not all(map(plan.done, folds)):
                continue
            found = plan.counts(folds)
            if table['clips'] is None:
                table.update({key: found[key] for key in TESTED})
            if table['clips'] != found['clips']:
                raise UserError(f'{name}, seed {seed} was tested on other clips than the rest')
            row['seeds'].append(seed)
            for measure, values in found['sums'].items():
                row['sums'].setdefault(measure, []).append(values)
            if found['collapsed'] is not None:
                row['collapsed'] = row.get('collapsed', 0) + found['collapsed']
            for key in ('minutes', 'step_ms'):
                told.setdefault(key, []).extend(v for v in found[key] if v is not None)
        row['sums'] = {m: v for m, v in row['sums'].items() if len(v) == len(row['seeds'])}
        row.update({k: round(float(np.median(v)), 2) if v else None for k, v in told.items()})
        table['rows'].append(row)
    return list(tables.values())


def summarise(table: dict, style: Style) -> None:
    """Add figures to a table of `collect`, in place, by measure and in points of 100.

    ``figures`` have ``mean``, ``deviation`` over seeds and ``seeds`` one by one, ``differences``
    ``value``, ``low`` and ``high`` of the gain over the base, or of its lead (`Style.lead`).
    """
    total = sum(table['totals'] or [])
    by_name = {row['name']: row for row in table['rows']}
    for row in table['rows']:
        row['figures'], row['differences'] = {}, {}
        base = by_name.get(row['base'], dict(sums={}))
        for measure, sums in row['sums'].items():
            values = 100 * np.sum(sums, 1) / total
            row['figures'][measure] = dict(
                mean=round(float(values.mean()), 4),
                deviation=round(float(values.std(ddof=1)), 4) if len(values) > 1 else None,
                seeds=values.round(2).tolist(),
            )
            if measure in base['sums'] and style.by in (None, measure):
                sides = (base['sums'][measure], sums)
                sides = sides[::-1] if style.lead else sides
                found = bootstrap_difference(*map(np.array, sides), np.array(table['totals']))
                if measure in WHOLE:
                    found.update(low=None, high=None)
                row['differences'][measure] = {
                    key: None if value is None else round(100 * value, 4)
                    for key, value in found.items()
                }


def markdown(table: dict, style: Style, notes: Sequence[str] = ()) -> str:
    """The tables of one cell, and what stands behind their figures."""
    measured = {measure for row in table['rows'] for measure in row['figures']}
    shown = [measure for measure in MEASURES if measure in measured]
    shown += sorted(m for m in measured if '/' in m) if style.by is not None else []
    title = f'{table["name"]}: ' * bool(table['name'])
    synthetic = 'SYNTHETIC data, ' * (table['source'] == 'synthetic')
    size = f'{sum(table["totals"] or [])} test clips'
    size += f' of {counted(len(table["names"] or []), "subjects")}' * (table['clusters'] != 'clips')
    lines = [f'{title}{synthetic}{size}.', '']
    timed = any(row.get('step_ms') for row in table['rows'])
    for section, rows in sections(table, style).items():
        bases = bool(style.by) * _bases(rows)
        head = [section or 'row', *(MEASURES.get(m, m) for m in shown)]
        head += [f'difference to {bases}, 95% interval'] * bool(bases)
        head += ['step'] * timed + ['seeds']
        found = []
        for row in rows:
            cells = [f'**{row["name"]}**' if style.lead and not row['base'] else row['name']]
            cells += [_figure(row['figures'].get(measure)) for measure in shown]
            cells += [_gap(row['differences'].get(style.by))] * bool(bases)
            cells += [f'{row["step_ms"]:.0f} ms' if row.get('step_ms') else '–'] * timed
            found.append([*cells, _seeds(row)])
        lines += _lines(head, found)
    if rows := [row for row in table['rows'] if row['differences'] and style.by is None]:
        known = [m for m in shown if any(m in row['differences'] for row in rows)]
        base = rows[0]['base']
        head = [f'{base} over …' if style.lead else f'… over {base}']
        found = [[row['name'], *(_gap(row['differences'].get(m)) for m in known)] for row in rows]
        lines += _lines(head + [MEASURES.get(m, m) for m in known], found)
    return '\n'.join(lines + [f'{note}\n' for note in (*notes, _about_intervals(table))])


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [*(f'| {" | ".join(cells)} |' for cells in (head, ['---'] * len(head), *rows)), '']


def _bases(rows: Sequence[dict]) -> str:
    return ', '.join(dict.fromkeys(row['base'] for row in rows if row['base']))


def sections(table: dict, style: Style) -> dict[str, list[dict]]:
    """Rows by section; where it is ranked those without a base, then by their difference."""
    found: dict[str, list[dict]] = {}
    for row in table['rows']:
        found.setdefault(row['section'], []).append(row)

    def place(row: dict) -> tuple:
        gap = row['differences'].get(style.by)
        gained = -(style.ranked or {})[row['section']] * (gap or dict(value=0))['value']
        return bool(row['base']), gap is None, gained, row['name']

    for section in set(found) & set(style.ranked or ()):
        found[section].sort(key=place)
    return found


def _figure(figure: Mapping | None) -> str:
    if figure is None:
        return '–'
    spread = '' if figure['deviation'] is None else f' ± {figure["deviation"]:.2f}'
    return f'{figure["mean"]:.2f}{spread}'


def _gap(gap: Mapping | None) -> str:
    if gap is None:
        return '–'
    interval = '' if gap['low'] is None else f' [{gap["low"]:+.2f}, {gap["high"]:+.2f}]'
    return f'{gap["value"]:+.2f}{interval}'


def _seeds(row: Mapping) -> str:
    short = textwrap.shorten(row['failed'], 120, placeholder=' …').replace('|', r'\|')
    return (
        str(len(row['seeds']))
        + f', {counted(row["missing"], "runs")} missing' * bool(row['missing'])
        + f', {row.get("collapsed")} collapsed' * bool(row.get('collapsed'))
        + f', failed: {short}' * bool(short)
    )


def _about_intervals(table: Mapping) -> str:
    if table['clusters'] is None:
        return 'No run is finished yet.'
    kind, count = table['clusters'], len(table['names'])
    narrow = (
        ' The clips have no subjects, so clips are drawn: where a person has several clips, '
        'intervals are too narrow.'
    )
    return (
        f'Intervals: 95%, bootstrap over {count} {kind} and the seeds of each row, expanded for '
        'few clusters (Hesterberg 2015); a row of one seed has none.' + narrow * (kind == 'clips')
    )


def draw(tables: Sequence[dict], style: Style, path: Path, title: str) -> None:
    """Write a picture: each row's seeds and mean, a panel a measure, and the differences."""
    from matplotlib.figure import Figure

    rows = []
    for table in tables:
        prefix = f'{table["name"]}: ' * bool(table['name'])
        for row in chain(*sections(table, style).values()):
            rows += [(f'{prefix}{row["name"]}', row)] if row['figures'] else []
    shown = [m for m in style.drawn if any(m in row['figures'] for _, row in rows)]
    if not shown:
        return
    gap = style.by or shown[0]
    number = len(shown) + 1
    figure = Figure(figsize=(2.5 + 3 * number, 1.8 + 0.3 * len(rows)), layout='constrained')
    *panels, last = figure.subplots(1, number, sharey=True, squeeze=False)[0]
    for at, (_, row) in enumerate(rows):
        colour = '#cc6644' if not row['base'] else '#88aacc'
        for axes, measure in zip(panels, shown, strict=True):
            if value := row['figures'].get(measure):
                axes.plot(value['seeds'], [at] * len(value['seeds']), 'o', color=colour, alpha=0.6)
                axes.plot(value['mean'], at, '|', color='#223355', markersize=14, mew=2)
        if difference := row['differences'].get(gap):
            if difference['low'] is not None:
                last.plot([difference['low'], difference['high']], [at, at], color='#cc6644', lw=2)
            last.plot(difference['value'], at, 'o', color='#882211')
    for axes, measure in zip(panels, shown, strict=True):
        axes.set(xlabel=f'{MEASURES.get(measure, measure)} (%), a dot a seed')
    bases = _bases([row for _, row in rows])
    words = f'lead of {bases}' if style.lead else f'difference to {bases}'
    last.axvline(0, color='#999999', linewidth=1)
    last.set(xlabel=f'{MEASURES.get(gap, gap)}: {words},\npoints, 95% interval')
    for axes in (*panels, last):
        axes.grid(axis='x', color='#eeeeee')
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(rows)), [name for name, _ in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format='png')


def write_report(plan: Plan, style: Style, about: Mapping) -> str:
    """Write ``table.md``, ``results.json`` (which begins with ``about``) and a picture."""
    done = sum(plan.done(run) for run in plan.runs())
    notes = plan.notes() + [f'Run: {done} of {counted(plan.total, "runs")}.'] * (done < plan.total)
    return write_tables(collect(plan), plan.folder, style, about, notes)


def write_tables(
    tables: Sequence[dict], folder: Path, style: Style, about: Mapping, notes: Sequence[str]
) -> str:
    """Summarise tables of `collect`'s form and write them; returns them as text."""
    for table in tables:
        summarise(table, style)
    text = '\n'.join(markdown(table, style, notes) for table in tables)
    write_text(folder / 'table.md', text)
    record = dict(about, **_origin(), notes=notes, tables=tables)
    text_of = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    # A list of numbers is one line: the counts of a seed.
    text_of = re.sub(r'\[[\s\d.,-]+\]', lambda m: ' '.join(m[0].split()), text_of)
    write_text(folder / 'results.json', text_of + '\n')
    draw(tables, style, folder / 'results.png', about.get('title', ''))
    return text


def _origin() -> dict:
    """What figures were made with: machine, versions, and the commit where the code is in git."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    said = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout
    return dict(
        arguments=sys.argv[1:],
        machine=f'{platform.machine()}, {platform.system()}, Python {platform.python_version()}',
        versions=dict(mg_plugins=mg_plugins.__version__, torch=torch.__version__),
        commit=said.strip() or None,
    )


def run_and_report(plan: Plan, args: argparse.Namespace, style: Style, title: str = '') -> int:
    """Run a plan, write its report and print it; returns the exit status."""
    title = title or ('left-out training subjects' if args.leave_out else 'test split')

    def report() -> str:
        text = write_report(plan, style, dict(title=title))
        return f'{text}\ntable.md, results.json and results.png are in {plan.folder}'

    return run(plan, args, report)


def run(plan: Plan, args: argparse.Namespace, report: Callable[[], str]) -> int:
    """Run a plan and print a report on it, both in its locked folder; returns the exit status."""
    with locked(plan.folder, 'the output folder'):
        failed = {} if args.report_only else execute(plan, args.jobs, args.budget_minutes)
        print(report())
    for one, error in failed.items():
        log = plan.folder / one.path / 'output.txt'
        said = log.read_text(errors='replace').splitlines()[-8:] if log.is_file() else []
        last = ''.join(f'  {line}\n' for line in said)
        print(f'{plan.folder / one.path} failed:\n{last}{error}', file=sys.stderr)
    if failed:
        again = f'{counted(len(failed), "runs")} failed; the same command tries again'
        print(again, file=sys.stderr)
    return 1 if failed else 0
