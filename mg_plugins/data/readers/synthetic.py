"""The embedded synthetic set, written where you want it; see `mg_plugins.data.synthetic`."""

from .common import Clip, Dataset, FormatError, Options, Parsed, Plan, require
from .sources import Source


def plan(source: Source | None, options: Options) -> Plan:
    """One job: all the annotations."""
    from mg_plugins.data.synthetic import make_synthetic

    require(source is None, f'synthetic reads nothing, but the source {source} was given')
    wanted = {name: value for name, value in options.items() if name not in ('unlinked', 'format')}
    try:
        split, annotations, meta = make_synthetic(**wanted, linked=not options['unlinked'])
    except ValueError as error:
        raise FormatError(str(error)) from None
    return Plan([annotations], context=dict(split=split, meta=meta))


def read(job: list[dict]) -> Parsed:
    """Clips of the set."""
    return Parsed([Clip(annotation, 'synthetic') for annotation in job])


def collect(clips: list[Clip], plan: Plan, options: Options) -> Dataset:
    """The set's own splits and meta."""
    meta = plan.context['meta']
    return Dataset(plan.context['split'], meta['layout'], meta['classes'], [meta['note']], meta)
