"""The embedded synthetic set, written where you want it; see `mg_plugins.data.synthetic`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .common import Clip, Dataset, FormatError, Parsed, Plan
from .sources import Source


def plan(source: Source | None, options: Mapping[str, Any]) -> Plan:
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


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """The set's own splits and meta."""
    split, meta = extras[0]
    return Dataset(split, meta, [meta['note']], f'configs/stgcn_mgfuse_{options["dataset"]}.py')
