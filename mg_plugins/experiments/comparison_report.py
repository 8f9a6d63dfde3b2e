"""Tables and pictures of a comparison of pre-trainings, from what its units left behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mg_plugins.contrast.queue import ContrastError
from mg_plugins.experiments.compare import bootstrap_difference
from mg_plugins.experiments.comparison import Unit, read_json

#: Probes in the order of the tables, and how these call them.
PROBES = {
    'linear': 'linear',
    'knn': 'kNN',
    'linear_10%': 'linear, 10% of labels',
    'finetune_10%': 'fine-tuned, 10% of labels',
    'mAP': 'retrieval, mAP',
    'R1': 'retrieval, R@1',
    'finetune_100%': 'trained with all labels',
}
BOOTSTRAPS = 10_000


def collect(units: Sequence[Unit], stream: str | None = None) -> dict[str, dict]:
    """Per arm and probe the sum of scores of each seed and subject.

    Args:
        units: Those whose outcome is there count.
        stream: The stream to look at; None takes each arm's main one. Arms without it drop out.

    Returns:
        By arm: ``seeds``, ``subjects``, ``clips`` (subjects,), ``scores`` by probe
        (seeds, subjects). Seeds of which a fold is missing are left out.

    Raises:
        ContrastError: Arms were tested on different clips.
    """
    tables: dict[str, dict] = {}
    reference = None
    folds = {unit.left_out for unit in units}
    for name in dict.fromkeys(unit.arm.name for unit in units):
        own = [unit for unit in units if unit.arm.name == name and unit.outcome.is_file()]
        table: dict = dict(seeds=[], scores={})
        for seed in sorted({unit.seed for unit in own}):
            found = [read_json(u.outcome) for u in own if u.seed == seed]
            which = [stream or outcome['main'] for outcome in found]
            if len(found) < len(folds) or any(
                w not in o['scores'] for w, o in zip(which, found, strict=True)
            ):
                continue
            clips = [clip for outcome in found for clip in outcome['clips']]
            if reference is None:
                reference = clips
            if clips != reference:
                raise ContrastError(f'{name}, seed {seed} was tested on other clips than the rest')
            subjects = np.array([s for outcome in found for s in outcome['subjects']])
            table['subjects'] = sorted(set(subjects))
            table['clips'] = np.array([(subjects == s).sum() for s in table['subjects']])
            table['seeds'].append(seed)
            probes = set.intersection(
                *(set(o['scores'][w]) for w, o in zip(which, found, strict=True))
            )
            for probe in probes:
                score = np.concatenate(
                    [o['scores'][w][probe] for w, o in zip(which, found, strict=True)]
                )
                sums = [score[subjects == s].sum() for s in table['subjects']]
                table['scores'].setdefault(probe, []).append(sums)
        if table['seeds']:
            table['scores'] = {probe: np.array(rows) for probe, rows in table['scores'].items()}
            tables[name] = table
    return tables


def summarise(tables: dict[str, dict], reference: str | None = None) -> dict:
    """Means and deviations over seeds, and the reference arm's lead over each other arm.

    Args:
        tables: From `collect`.
        reference: The arm whose lead is asked for; the last one by default.

    Returns:
        ``arms``: one dict an arm, with ``probes``: ``mean``, ``deviation`` and ``seeds`` of each,
        in points of 100. ``leads``: by other arm and probe ``difference``, ``low`` and ``high``,
        95% by bootstrap over subjects and seeds, None where there is one of either.

    Raises:
        ContrastError: Nothing is there, or no arm of that name.
    """
    if not tables:
        raise ContrastError('no run is finished yet: there is nothing to summarise')
    reference = reference or list(tables)[-1]
    if reference not in tables:
        raise ContrastError(f'there is no finished arm {reference!r}: {", ".join(tables)}')
    arms, leads = [], {}
    for name, table in tables.items():
        total = table['clips'].sum()
        found = {}
        for probe in PROBES:
            if probe in table['scores']:
                values = 100 * table['scores'][probe].sum(1) / total
                found[probe] = dict(
                    mean=float(values.mean()),
                    deviation=float(values.std(ddof=1)) if len(values) > 1 else None,
                    seeds=[round(float(v), 2) for v in values],
                )
        arms.append(
            dict(
                name=name,
                seeds=table['seeds'],
                clips=int(total),
                probes=found,
            )
        )
        if name == reference:
            continue
        ours = tables[reference]
        leads[name] = {}
        for probe in PROBES:
            if probe in table['scores'] and probe in ours['scores']:
                pair = table['scores'][probe], ours['scores'][probe]
                means = [100 * side.sum(1).mean() / total for side in pair]
                lead = dict(difference=float(means[1] - means[0]), low=None, high=None)
                # One seed or one subject says nothing about how much they differ.
                if min(len(pair[0]), len(pair[1]), len(table['subjects'])) > 1:
                    draws = bootstrap_difference(*pair, table['clips'], BOOTSTRAPS)
                    low, high = np.percentile(draws, [2.5, 97.5])
                    lead.update(low=float(low), high=float(high))
                leads[name][probe] = lead
    subjects = len(tables[reference]['subjects'])
    return dict(reference=reference, subjects=subjects, arms=arms, leads=leads)


def markdown(summary: dict) -> str:
    """Two Markdown tables: what each arm reaches, and the reference's lead over the others."""
    arms, reference = summary['arms'], summary['reference']
    probes = [p for p in PROBES if any(p in arm['probes'] for arm in arms)]
    lines = [
        '| arm | ' + ' | '.join(PROBES[p] for p in probes) + ' | seeds |',
        '| --- |' + ' --- |' * (len(probes) + 1),
    ]
    for arm in arms:
        cells = []
        for probe in probes:
            value = arm['probes'].get(probe)
            cell = '–' if value is None else f'{value["mean"]:.1f}'
            if value is not None and value['deviation'] is not None:
                cell += f' ± {value["deviation"]:.1f}'
            cells.append(cell)
        name = f'**{arm["name"]}**' if arm['name'] == reference else arm['name']
        lines.append(f'| {name} | {" | ".join(cells)} | {len(arm["seeds"])} |')
    known = [p for p in probes if any(p in lead for lead in summary['leads'].values())]
    lines += [
        '',
        f'| {reference} over … | ' + ' | '.join(PROBES[p] for p in known) + ' |',
        '| --- |' + ' --- |' * len(known),
    ]
    for name, lead in summary['leads'].items():
        cells = [_cell(lead[p]) if p in lead else '–' for p in known]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    lines += [
        '',
        f"Intervals: 95%, bootstrap over {summary['subjects']} subjects and each arm's seeds, "
        'where there are two of each. Few subjects make it too narrow.',
    ]
    return '\n'.join(lines) + '\n'


def _cell(lead: dict) -> str:
    if lead['low'] is None:
        return f'{lead["difference"]:+.1f}'
    return f'{lead["difference"]:+.1f} [{lead["low"]:+.1f}, {lead["high"]:+.1f}]'


def draw(summary: dict, path: Path, title: str) -> None:
    """Plot each arm's seeds and mean, a panel a probe."""
    from matplotlib.figure import Figure

    arms = summary['arms']
    shown = [p for p in ('linear', 'knn', 'finetune_10%', 'mAP') if p in arms[-1]['probes']]
    figure = Figure(figsize=(3 + 2.6 * len(shown), 1.6 + 0.4 * len(arms)), layout='constrained')
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, probe in zip(panels, shown, strict=True):
        for at, arm in enumerate(arms):
            if probe not in arm['probes']:
                continue
            value = arm['probes'][probe]
            ours = arm['name'] == summary['reference']
            colour = '#cc6644' if ours else '#88aacc'
            axes.plot(value['seeds'], [at] * len(value['seeds']), 'o', color=colour, alpha=0.6)
            axes.plot(value['mean'], at, '|', color='#223355', markersize=18, markeredgewidth=2)
        axes.set(xlabel=f'{PROBES[probe]} (%)')
        axes.grid(axis='x', color='#eeeeee')
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(arms)), [arm['name'] for arm in arms])
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
