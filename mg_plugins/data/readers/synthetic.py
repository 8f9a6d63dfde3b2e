"""The embedded synthetic set, written where you want it; see `mg_plugins.data.synthetic`."""

from __future__ import annotations

from .common import Clip, Dataset, FormatError, Options, Parsed, Plan
from .sources import Source


def plan(source: Source | None, options: Options) -> Plan:
    """One job: the whole set."""
    if source is not None:
        raise FormatError(f'synthetic reads nothing, but the source {source} was given')
    wanted = {name: value for name, value in options.items() if name not in ('unlinked', 'format')}
    return Plan([dict(wanted, linked=not options['unlinked'])])


def read(job: dict) -> Parsed:
    """Generate the set."""
    from mg_plugins.data.synthetic import make_synthetic

    try:
        split, annotations, meta = make_synthetic(**job)
    except ValueError as error:
        raise FormatError(str(error)) from None
    return Parsed(
        [Clip(annotation, 'synthetic') for annotation in annotations], extra=(split, meta)
    )


def collect(clips: list[Clip], extras: list, plan: Plan, options: Options) -> Dataset:
    """The set's own splits and meta."""
    split, meta = extras[0]
    config = f'configs/stgcn_mgfuse_{options["dataset"]}.py'
    layout, classes = meta['layout'], meta['classes']
    return Dataset(split, layout, classes, [meta['note']], config=config, meta=meta)
