"""The embedded synthetic set, written where you want it; see `mg_plugins.data.synthetic`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .common import Clip, Dataset, FormatError, Parsed, Plan, Reader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this format; the same as those of `make_synthetic`."""
    parser.add_argument('--seed', type=int, default=0, help='everything random follows from it')
    parser.add_argument('--subjects', type=int, default=24, help='number of people (default: 24)')
    parser.add_argument('--clips', type=int, default=2000, help='number of clips (default: 2000)')
    parser.add_argument('--sessions', type=int, default=6, help='sessions a subject (default: 6)')
    parser.add_argument(
        '--unlinked',
        action='store_true',
        help='do not let the outcome of a session shift how often its gestures occur',
    )
    parser.add_argument(
        '--dataset', default='imigue', help='data set to imitate: imigue, smg, msr_action3d …'
    )
    parser.add_argument('--layout', help="joint layout (default: that data set's own)")
    parser.add_argument(
        '--noise', type=float, default=1.0, help="factor of the detector's errors (default: 1)"
    )


def plan(source: Path | None, options: Mapping[str, Any]) -> Plan:
    """One job: the whole set."""
    if source is not None:
        raise FormatError(f'synthetic reads nothing, but the source {source} was given')
    wanted = {name: value for name, value in options.items() if name != 'unlinked'}
    return Plan([dict(wanted, linked=not options['unlinked'])])


def read(job: dict) -> Parsed:
    """Generate the set."""
    from mg_plugins.data.synthetic import make_synthetic

    try:
        split, annotations, meta = make_synthetic(**job)
    except ValueError as error:
        raise FormatError(str(error)) from None
    clips = [Clip(annotation, 'synthetic') for annotation in annotations]
    return Parsed(clips, extra=(split, meta))


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """The set's own splits and meta."""
    split, meta = extras[0]
    return Dataset(split, meta, [meta['note']], f'configs/stgcn_mgfuse_{options["dataset"]}.py')


READER = Reader(
    name='synthetic',
    summary='the embedded synthetic set (generated, no download)',
    doc=__doc__,
    expects='nothing: the set is generated',
    example='python tools/prepare_data.py synthetic --clips 4000 --seed 1',
    add_arguments=add_arguments,
    plan=plan,
    read=read,
    collect=collect,
    out='data/synthetic/synthetic.pkl',
    needs_source=False,
)
