"""From outcomes to counts by seed and subject, and to a table, a record and a picture."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mg_plugins.data.statistics import bootstrap_difference
from mg_plugins.errors import UserError
from mg_plugins.experiments.plan import Run
from mg_plugins.experiments.runner import Plan
from mg_plugins.files import replacing, write_text

#: Measures in the order of the tables, and how these call them.
MEASURES = {
    'top1': 'top-1',
    'linear': 'linear',
    'knn': 'kNN',
    'linear_10%': 'linear, 10% of labels',
    'finetune_10%': 'fine-tuned, 10% of labels',
    'mAP': 'retrieval, mAP',
    'R1': 'retrieval, R@1',
    'finetune_100%': 'trained with all labels',
}


@dataclass(frozen=True)
class Style:
    """How a plan's results are shown.

    Attributes:
        by: The measure whose difference stands in the first table; None gives every measure a
            column in a second one.
        measures: Those to show, in order.
        lead: Tell the reference's lead over the rows, not the rows' gain over it.
        ranked: Section titles to 1, most gained first, or −1, most lost first; others as planned.
        drawn: Measures in the picture.
    """

    by: str | None = 'top1'
    measures: tuple[str, ...] = tuple(MEASURES)
    lead: bool = False
    ranked: Mapping[str, int] | None = None
    drawn: tuple[str, ...] = ('top1',)


def collect(plan: Plan) -> list[dict]:
    """Per table and row the sums of scores by seed and subject.

    Where clips have no subjects, the clips themselves are the clusters. Seeds of which a fold is
    missing are left out, and rows of which no seed is whole have no ``sums``.

    Returns:
        A dict a table, ready for JSON: ``name``; ``clusters``, 'subjects' or 'clips'; ``names``
        and ``totals``, the clips of each; ``clips``, a hash of their ids; ``source``; and ``rows``,
        each with ``name``, ``section``, ``base``, ``fingerprint``, ``seeds``, ``sums`` by measure
        (seeds, clusters), ``missing`` runs, ``failed`` and what runs tell beside scores.

    Raises:
        UserError: Rows were tested on different clips.
    """
    tables: dict[str, dict[str, list[Run]]] = {}
    for run in plan.runs():
        tables.setdefault(run.group, {}).setdefault(run.name, []).append(run)
    return [_table(plan, group, rows) for group, rows in tables.items()]


def _table(plan: Plan, group: str, rows: Mapping[str, Sequence[Run]]) -> dict:
    about = ('clusters', 'names', 'totals', 'clips', 'source')
    table: dict = dict(name=group, **dict.fromkeys(about), rows=[])

    def agree(found: Mapping, name: str, seed: int) -> None:
        """The first run says what is tested, and every other must have tested the same."""
        if table['clips'] is None:
            table.update({key: found[key] for key in about})
        if table['clips'] != found['clips']:
            raise UserError(f'{name}, seed {seed} was tested on other clips than the rest')

    for name, runs in rows.items():
        row: dict = dict(name=name, section=runs[0].section, base=runs[0].base)
        row.update(fingerprint=plan.row_fingerprint(group, name), seeds=[], sums={})
        row['missing'] = sum(not plan.done(run) for run in runs)
        row['failed'] = next(filter(None, map(plan.failure, runs)), '')
        told: dict[str, list] = {}
        for seed in dict.fromkeys(run.seed for run in runs):
            own = [run for run in runs if run.seed == seed]
            if not all(plan.done(run) for run in own):
                continue
            if plan.saved(own[0]):
                saved, known = plan.finished[group, name]
                agree(saved, name, seed)
                place = known['seeds'].index(seed)
                sums = {measure: rows[place] for measure, rows in known['sums'].items()}
                told.setdefault('minutes', []).append(known.get('minutes'))
                told.setdefault('step_ms', []).append(known.get('step_ms'))
            else:
                outcomes = [plan.outcome(run) for run in own]
                counts = _counts(outcomes)
                agree(counts, name, seed)
                sums = counts['sums']
                for key in ('minutes', 'step_ms'):
                    told.setdefault(key, []).extend(o.get(key) for o in outcomes)
                row['collapsed'] = row.get('collapsed', 0) + sum(
                    bool(o.get('collapsed')) for o in outcomes
                )
            row['seeds'].append(seed)
            for measure, values in sums.items():
                row['sums'].setdefault(measure, []).append(values)
        row['sums'] = {m: v for m, v in row['sums'].items() if len(v) == len(row['seeds'])}
        for key, values in told.items():
            values = [value for value in values if value is not None]
            row[key] = round(float(np.median(values)), 2) if values else None
        table['rows'].append(row)
    return table


def _counts(outcomes: Sequence[Mapping]) -> dict:
    """Sums of scores of one seed, by measure a number for each cluster."""
    clips = [clip for outcome in outcomes for clip in outcome['clips']]
    who = [subject for outcome in outcomes for subject in outcome['subjects']]
    kind = 'subjects' if all(who) else 'clips'
    names, of = np.unique(who if all(who) else clips, return_inverse=True)
    measures = set.intersection(*(set(outcome['scores']) for outcome in outcomes))
    sums = {}
    for measure in sorted(measures):
        scores = np.concatenate([outcome['scores'][measure] for outcome in outcomes])
        sums[measure] = np.bincount(of, scores, len(names)).round(4).tolist()
    digest = hashlib.sha256('\n'.join(sorted(clips)).encode()).hexdigest()
    return dict(
        clusters=kind,
        names=names.tolist(),
        totals=np.bincount(of, minlength=len(names)).tolist(),
        clips=digest,
        source=outcomes[0].get('source', ''),
        sums=sums,
    )


def summarise(table: dict, style: Style) -> None:
    """Add figures to a table of `collect`, in place.

    Rows get ``figures``: by measure ``mean``, ``deviation`` over seeds and ``seeds`` one by one, in
    points of 100; and ``differences``: by measure ``value``, ``low`` and ``high``, in points, of
    the row's gain over its base, or of the base's lead over the row (`Style.lead`).
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
                row['differences'][measure] = {
                    key: None if value is None else round(100 * value, 4)
                    for key, value in found.items()
                }


def markdown(table: dict, style: Style, notes: Sequence[str] = ()) -> str:
    """The tables of one cell, and what stands behind their figures."""
    shown = [m for m in style.measures if any(m in row['figures'] for row in table['rows'])]
    others = {m for row in table['rows'] for m in row['figures'] if '/' in m}
    shown += sorted(others) if style.by is not None else []
    title = f'{table["name"]}: ' * bool(table['name'])
    synthetic = 'SYNTHETIC data, ' * (table['source'] == 'synthetic')
    kind = table['clusters'] or 'subjects'
    size = f'{sum(table["totals"] or [])} test clips'
    size += f' of {len(table["names"] or [])} subjects' * (kind == 'subjects')
    lines = [f'{title}{synthetic}{size}.', '']
    timed = any(row.get('step_ms') for row in table['rows'])
    for section in dict.fromkeys(row['section'] for row in table['rows']):
        rows = ranked(table, style, section)
        bases = ', '.join(dict.fromkeys(row['base'] for row in rows if row['base']))
        head = [section or 'row', *(MEASURES.get(m, m) for m in shown)]
        head += [f'difference to {bases}, 95% interval'] * bool(style.by and bases)
        head += ['step'] * timed + ['seeds']
        lines += [f'| {" | ".join(head)} |', '| --- |' + ' --- |' * (len(head) - 1)]
        for row in rows:
            cells = [f'**{row["name"]}**' if style.lead and not row['base'] else row['name']]
            cells += [_figure(row['figures'].get(measure)) for measure in shown]
            if style.by and bases:
                cells.append(_gap(row['differences'].get(style.by)))
            if timed:
                cells.append(f'{row["step_ms"]:.0f} ms' if row.get('step_ms') else '–')
            lines.append(f'| {" | ".join([*cells, _seeds(row)])} |')
        lines.append('')
    if style.by is None:
        lines += _leads(table, style, shown)
    lines += [f'{note}\n' for note in (*notes, _about_intervals(table))]
    return '\n'.join(lines)


def _leads(table: dict, style: Style, shown: Sequence[str]) -> list[str]:
    rows = [row for row in table['rows'] if row['differences']]
    if not rows:
        return []
    known = [m for m in shown if any(m in row['differences'] for row in rows)]
    what = f'{rows[0]["base"]} over …' if style.lead else f'… over {rows[0]["base"]}'
    lines = [f'| {what} | ' + ' | '.join(MEASURES.get(m, m) for m in known) + ' |']
    lines.append('| --- |' + ' --- |' * len(known))
    for row in rows:
        cells = [_gap(row['differences'].get(measure)) for measure in known]
        lines.append(f'| {row["name"]} | {" | ".join(cells)} |')
    return [*lines, '']


def ranked(table: dict, style: Style, section: str) -> list[dict]:
    """Rows of a section; where it is ranked those without a base, then by their difference."""
    rows = [row for row in table['rows'] if row['section'] == section]
    sign = (style.ranked or {}).get(section, 0)
    if not sign:
        return rows

    def place(row: dict) -> tuple:
        gap = row['differences'].get(style.by)
        return bool(row['base']), gap is None, -sign * (gap or dict(value=0))['value'], row['name']

    return sorted(rows, key=place)


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
    text = str(len(row['seeds']))
    if row['missing']:
        text += f', {row["missing"]} runs missing'
    if row.get('collapsed'):
        text += f', {row["collapsed"]} collapsed'
    if row['failed']:
        short = textwrap.shorten(row['failed'], 120, placeholder=' …').replace('|', r'\|')
        text += f', failed: {short}'
    return text


def _about_intervals(table: Mapping) -> str:
    if table['clusters'] is None:
        return 'No run is finished yet.'
    kind, count = table['clusters'], len(table['names'])
    text = (
        f'Intervals: 95%, bootstrap over {count} {kind} and the seeds of each row, expanded for '
        'few clusters (Hesterberg 2015); a row of one seed has none.'
    )
    if kind == 'clips':
        text += (
            ' The clips have no subjects, so clips are drawn: where a person has several clips, '
            'intervals are too narrow.'
        )
    return text


def draw(tables: Sequence[dict], style: Style, path: Path, title: str) -> None:
    """Write a picture: each row's seeds and mean, a panel a measure, and the differences."""
    from matplotlib.figure import Figure

    rows = []
    for table in tables:
        for section in dict.fromkeys(row['section'] for row in table['rows']):
            found = [row for row in ranked(table, style, section) if row['figures']]
            prefix = f'{table["name"]}: ' * bool(table['name'])
            rows += [(f'{prefix}{row["name"]}', row) for row in found]
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
            value = row['figures'].get(measure)
            if value is not None:
                axes.plot(value['seeds'], [at] * len(value['seeds']), 'o', color=colour, alpha=0.6)
                axes.plot(value['mean'], at, '|', color='#223355', markersize=14, mew=2)
        difference = row['differences'].get(gap)
        if difference is not None:
            if difference['low'] is not None:
                last.plot([difference['low'], difference['high']], [at, at], color='#cc6644', lw=2)
            last.plot(difference['value'], at, 'o', color='#882211')
    for axes, measure in zip(panels, shown, strict=True):
        axes.set(xlabel=f'{MEASURES.get(measure, measure)} (%), a dot a seed')
    bases = ', '.join(dict.fromkeys(row['base'] for _, row in rows if row['base']))
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
    """Write ``table.md``, ``results.json`` and ``results.png`` of what is there.

    Args:
        plan: The plan; its ``notes()`` are told where it has some.
        style: How to show it.
        about: What the record says besides: ``title``, arguments, …

    Returns:
        The tables, for the screen.
    """
    tables = collect(plan)
    for table in tables:
        summarise(table, style)
    notes = plan.notes() if hasattr(plan, 'notes') else []
    runs = list(plan.runs())
    missing = plan.total - sum(plan.done(run) for run in runs)
    if missing:
        notes = [*notes, f'Run: {plan.total - missing} of {plan.total} runs.']
    text = '\n'.join(markdown(table, style, notes) for table in tables)
    write_text(plan.folder / 'table.md', text)
    record = dict(about, **_origin(), notes=notes, tables=tables)
    text_of = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    # A list of numbers is one line: the counts of a seed.
    text_of = re.sub(r'\[[\s\d.,-]+\]', lambda m: ' '.join(m[0].split()), text_of)
    write_text(plan.folder / 'results.json', text_of + '\n')
    draw(tables, style, plan.folder / 'results.png', about.get('title', ''))
    return text


def _origin() -> dict:
    """What figures were made with: machine, versions, and the commit where the code is in git."""
    import torch

    import mg_plugins

    commit = subprocess.run(
        ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    ).stdout.strip()
    versions = dict(mg_plugins=mg_plugins.__version__, torch=torch.__version__)
    return dict(
        arguments=sys.argv[1:],
        machine=f'{platform.machine()}, {platform.system()}, Python {platform.python_version()}',
        versions=versions,
        commit=commit or None,
    )
