"""What the augmentation study has found so far: a table, a record, and two pictures."""

from __future__ import annotations

import json
import platform
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mg_plugins.experiments.compare import bootstrap_difference
from mg_plugins.experiments.study import NOTHING, Arm, Study, read, write_whole

TITLES = {
    'recipe': 'Recipes',
    'alone': 'Alone',
    'left_out': 'Left out of {recipe}',
    'pair': 'Pairs of the best alone',
}


def clips_right(study: Study, arm: Arm) -> dict:
    """Correct clips of an arm, of the seeds that are whole.

    Returns:
        ``seeds`` that have every fold, ``subjects``, ``clips`` (subjects,), ``ids`` of all clips,
        and by probe ``right`` (seeds, subjects); ``collapsed`` is the number of trials that were.

    Raises:
        RuntimeError: If seeds were probed on different clips.
    """
    found = dict(seeds=[], subjects=(), clips=np.zeros(0, int), ids=None, right={}, collapsed=0)
    for seed in study.seeds:
        trials = study.of_arm(arm, seed)
        if not all(trial.done for trial in trials):
            continue
        outcomes = [read(study, trial) for trial in trials]
        who = np.array([s for o in outcomes for s in o['subjects']])
        ids = [clip for o in outcomes for clip in o['clips']]
        if found['ids'] not in (None, ids):
            raise RuntimeError(
                f'{arm.name}, seed {seed} was probed on other clips: has the data '
                f'changed? Remove {study.folder} to run the study again'
            )
        subjects = [subject for fold in study.folds for subject in fold]
        found.update(ids=ids, subjects=subjects)
        found.update(clips=np.array([(who == s).sum() for s in subjects]))
        found['seeds'].append(seed)
        found['collapsed'] += sum(bool(o['collapsed']) for o in outcomes)
        for name in outcomes[0]['correct']:
            right = np.array([r for o in outcomes for r in o['correct'][name]])
            counts = [right[who == s].sum() for s in subjects]
            found['right'].setdefault(name, []).append(counts)
    found['right'] = {name: np.array(rows) for name, rows in found['right'].items()}
    return found


def summarise(study: Study) -> list[dict]:
    """One row an arm: figures, and the difference to what it is compared with.

    Alone, recipes and pairs are compared with 'nothing', the left-out with the whole recipe.
    Differences are in points of 100, with a 95% interval by bootstrap over subjects and seeds.
    """
    arms = [*study.arms, *study.pairs()]
    tables = {arm.name: clips_right(study, arm) for arm in arms}
    ids = {str(table['ids']) for table in tables.values() if table['ids']}
    if len(ids) > 1:
        raise RuntimeError(
            'arms were probed on different clips: has the data changed? '
            f'Remove {study.folder} to run the study again'
        )
    rows = []
    for arm in arms:
        table = tables[arm.name]
        base = {NOTHING: None, 'left_out': study.recipe}.get(arm.phase, NOTHING)
        row = dict(phase=arm.phase, name=arm.name, without=arm.without, chain=arm.chain)
        row.update(seeds=table['seeds'], planned=len(study.seeds), collapsed=table['collapsed'])
        row['failed'] = study.failure(arm)
        row['figures'] = {
            name: float(100 * right.sum() / (len(right) * table['clips'].sum()))
            for name, right in table['right'].items()
        }
        row.update(base=base, difference=None, low=None, high=None)
        if base is not None and table['seeds'] and tables.get(base, {}).get('seeds'):
            sides = tables[base]['right'][study.by], table['right'][study.by]
            low, high = np.percentile(bootstrap_difference(*sides, table['clips']), [2.5, 97.5])
            totals = [100 * side.sum(1).mean() / table['clips'].sum() for side in sides]
            row.update(difference=float(totals[1] - totals[0]), low=float(low), high=float(high))
        rows.append(row)
    return rows


def ranked(rows: Sequence[dict], phase: str) -> list[dict]:
    """Rows of a phase, the most useful first: for the left-out, what is missed most."""
    own = [row for row in rows if row['phase'] == phase]
    sign = 1 if phase == 'left_out' else -1
    return sorted(
        own, key=lambda r: (r['difference'] is None, sign * (r['difference'] or 0), r['name'])
    )


def title_of(study: Study, about: Mapping) -> str:
    """What every table and picture says first."""
    data = 'SYNTHETIC data, ' if study.source == 'synthetic' else ''
    return f'{Path(about["config"]).stem}, {data}left-out training subjects'


def markdown(study: Study, rows: Sequence[dict], about: Mapping) -> str:
    """The ranked table, and what was run and what not."""
    names = list(dict.fromkeys(name for row in rows for name in row['figures'])) or [study.by]
    names = [study.by, *(name for name in names if name != study.by)]
    folds = ' | '.join(', '.join(fold) for fold in study.folds)
    lines = [
        f'# Augmentation study: {title_of(study, about)}',
        '',
        f'Trials of {about["epochs"]} epochs, each without a fold of the training subjects '
        f'({folds}), probed on the clips of those; test subjects were not read. Figures are shares '
        'of clips in %; differences are points of the first probe, with a 95% interval by '
        'bootstrap over subjects and seeds. An interval of a single seed does not know how much '
        'seeds differ.',
        '',
        coverage(study, rows),
    ]
    nothing = [row for row in rows if row['phase'] == NOTHING]
    for phase, title in TITLES.items():
        own = [*(nothing if phase == 'alone' else ()), *ranked(rows, phase)]
        if not own:
            continue
        against = study.recipe if phase == 'left_out' else NOTHING
        lines += [
            '',
            f'## {title.format(recipe=study.recipe)}',
            '',
            f'| augmentation | {" | ".join(names)} | difference to {against} | seeds |',
            '| --- |' + ' --- |' * (len(names) + 2),
        ]
        for row in own:
            figures = (row['figures'].get(name) for name in names)
            cells = ['–' if figure is None else f'{figure:.2f}' for figure in figures]
            seeds = f'{len(row["seeds"])} of {row["planned"]}'
            if row['collapsed']:
                seeds += f', {row["collapsed"]} trials collapsed'
            if row['failed']:
                seeds += f', {reason(row)}'
            what = row['without'] or row['name']
            lines.append(f'| {what} | {" | ".join(cells)} | {gap_of(row)} | {seeds} |')
    if study.unfit:
        lines += ['', 'Not for this layout:']
        lines += [f'- {name}: {reason}' for name, reason in study.unfit.items()]
    return '\n'.join(lines) + '\n'


def reason(row: Mapping) -> str:
    """Why a row's trials failed, short enough for a cell of a table."""
    return 'failed: ' + textwrap.shorten(row['failed'], 120, placeholder=' …').replace('|', r'\|')


def gap_of(row: Mapping) -> str:
    """A row's difference with its interval."""
    if row['difference'] is None:
        return '–'
    return f'{row["difference"]:+.2f} [{row["low"]:+.2f}, {row["high"]:+.2f}]'


def coverage(study: Study, rows: Sequence[dict]) -> str:
    """What was run and what was not, in a sentence or two."""
    trials = list(study.plan())
    done = sum(trial.done for trial in trials)
    whole = [s for s in study.seeds if rows and all(s in row['seeds'] for row in rows)]
    text = f'Run: {done} of {study.total} trials; {len(whole)} of {len(study.seeds)} rounds whole.'
    missing = [row['name'] for row in rows if not row['seeds'] and not row['failed']]
    broken = [f'{row["name"]} ({reason(row)})' for row in rows if row['failed']]
    best = study.best()
    if not best:
        missing.append('all pairs')
    if missing:
        text += f' Not run with any seed: {", ".join(missing)}.'
    if broken:
        text += f' Trials that failed: {", ".join(broken)}; the same command tries them again.'
    if best:
        names = ', '.join(arm.name for arm in best)
        text += (
            f' The best four alone were chosen by the trials with seed {study.seeds[0]}: {names}. '
            'That seed is among those reported, which favours them a little.'
        )
    return text


def draw_bars(study: Study, rows: Sequence[dict], path: Path, title: str) -> None:
    """Differences of alone (with recipes) and left-out, with their intervals, side by side."""
    from matplotlib.figure import Figure

    sides = [
        [row for phase in phases for row in ranked(rows, phase) if row['difference'] is not None]
        for phases in (('recipe', 'alone'), ('left_out',))
    ]
    figure = Figure(figsize=(11, 1.8 + 0.27 * max(map(len, sides))), layout='constrained')
    for axes, own, against in zip(
        figure.subplots(1, 2), sides, (NOTHING, study.recipe), strict=True
    ):
        places = np.arange(len(own))
        values = np.array([row['difference'] for row in own])
        ends = np.array([[row['low'], row['high']] for row in own]).reshape(-1, 2)
        colours = ['#7f8c9b' if row['phase'] == 'recipe' else '#3b7dbb' for row in own]
        axes.barh(places, values, color=colours, height=0.7)
        # A percentile interval need not contain the mean.
        axes.hlines(places, ends[:, 0], ends[:, 1], color='#222222', linewidth=1.2)
        axes.set_yticks(places, [row['without'] or row['name'] for row in own], fontsize=8)
        axes.set_ylim(len(own) - 0.4, -0.6)
        axes.axvline(0, color='#222222', linewidth=0.8)
        axes.set_xlabel(f'{study.by} probe, difference to {against} (points), 95% interval')
    left, right = figure.axes
    left.set_title('alone (grey: recipes)')
    right.set_title(f'left out of {study.recipe}')
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def draw_pairs(study: Study, rows: Sequence[dict], path: Path, title: str) -> None:
    """Heat map of the best four and their pairs: differences to nothing, with intervals."""
    from matplotlib.figure import Figure

    best = study.best()
    by_name = {row['name']: row for row in rows}
    # Both orders of two names are one pair.
    cells = {(arm.name, arm.name): by_name[arm.name] for arm in best}
    for row in rows:
        if row['phase'] == 'pair':
            first, second = row['name'].split(' + ')
            cells[first, second] = cells[second, first] = row
    names = [arm.name for arm in best]
    values = np.array(
        [[cells[a, b]['difference'] for b in names] for a in names], dtype=float
    )  # None, a pair that was not run, becomes nan
    largest = max(np.nanmax(np.abs(values), initial=0), 1e-9)
    figure = Figure(figsize=(2.6 + 1.6 * len(names), 1.8 + 1.2 * len(names)), layout='constrained')
    axes = figure.subplots()
    image = axes.imshow(values, cmap='RdBu', vmin=-largest, vmax=largest)
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            row = cells[a, b]
            text = 'failed' if row['failed'] else 'not run'
            if row['difference'] is not None:
                text = f'{row["difference"]:+.1f}\n[{row["low"]:+.1f}, {row["high"]:+.1f}]'
            dark = row['difference'] is not None and abs(row['difference']) > 0.6 * largest
            axes.text(
                j, i, text, ha='center', va='center', fontsize=9, color='white' if dark else 'black'
            )
    axes.set_xticks(range(len(names)), names, rotation=20, ha='right')
    axes.set_yticks(range(len(names)), names)
    axes.set_title('Pairs of the best four alone (diagonal: alone)', fontsize=10)
    figure.suptitle(title, fontsize=10)
    figure.colorbar(image, label=f'{study.by} probe, difference to {NOTHING} (points)')
    figure.savefig(path, dpi=130)


def write_report(study: Study, about: Mapping) -> str:
    """Write ``table.md``, ``results.json``, ``bars.png`` and ``pairs.png`` of what is there.

    Args:
        study: The study.
        about: ``config``, ``epochs`` and what else the record should hold.

    Returns:
        The table, and where everything is, for the screen.
    """
    rows = summarise(study)
    title = title_of(study, about)
    table = markdown(study, rows, about)
    study.folder.mkdir(parents=True, exist_ok=True)
    write_whole(study.folder / 'table.md', table)
    record = dict(
        **about,
        synthetic=study.source == 'synthetic',
        machine=f'{platform.machine()}, {platform.system()}, Python {platform.python_version()}',
        settings=study.settings,
        folds=study.folds,
        seeds=study.seeds,
        by=study.by,
        best=[arm.name for arm in study.best()],
        coverage=coverage(study, rows),
        unfit=dict(study.unfit),
        rows=rows,
    )
    write_whole(study.folder / 'results.json', json.dumps(record, indent=1) + '\n')
    names = ['table.md', 'results.json']
    wanted = {
        'bars.png': (draw_bars, any(row['difference'] is not None for row in rows)),
        'pairs.png': (draw_pairs, len(study.best()) > 1),
    }
    for name, (draw, possible) in wanted.items():
        path = study.folder / name
        path.unlink(missing_ok=True)
        if possible:
            draw(study, rows, path, title)
            names.append(name)
    return f'{table}\n{", ".join(names)} are in {study.folder}'
