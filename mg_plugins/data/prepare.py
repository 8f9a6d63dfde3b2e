"""Turn a dataset in its own format into an annotation file: `prepare('imigue', folder)`.

Runs a reader of `mg_plugins.data.readers` in parallel over its files, keeps going past clips that
cannot be used, and writes the annotation file and a JSON log of what was left out beside it, each
at once and whole: stopped at any moment, it leaves the old file or the new one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mg_plugins.errors import UserError
from mg_plugins.files import write_json

from .annotations import SUFFIXES, save_annotations
from .readers import READERS, Clip, FormatError, Parsed, Plan, Reader, Reject
from .readers.common import DUPLICATE
from .readers.detect import detect
from .readers.sources import Source

# Called with (jobs done, jobs in all) from the process that called `prepare`.
Progress = Callable[[int, int], None]


class PrepareError(UserError):
    """Nothing was written: no clip could be used, or `strict` met a rejected one.

    Attributes:
        rejects: Every clip that could not be used.
    """

    def __init__(self, message: str, rejects: list[Reject]):
        super().__init__(message)
        self.rejects = rejects


@dataclass(frozen=True)
class Report:
    """What a run of `prepare` did."""

    format: str
    source: str
    out: Path
    log: Path
    clips: int
    splits: dict[str, int]
    classes: int
    subjects: int
    layout: str
    config: str | None
    rejects: list[Reject]
    notes: list[str]
    seconds: float

    @property
    def rejected_by_reason(self) -> dict[str, int]:
        """Rejected clips of each reason, the most frequent first."""
        return dict(Counter(reject.reason for reject in self.rejects).most_common())

    @property
    def next_command(self) -> str:
        """What to run next, with the options that make the config read this file."""
        command = f'python tools/train.py {self.config or "configs/stgcn_mgfuse_imigue.py"}'
        usual = READERS[self.format].out
        as_configured = usual is not None and Path(usual) == self.out
        if self.config and as_configured and self.splits.get('xsub_train'):
            return command
        return f'{command} --ann-file {shlex.quote(str(self.out))}'


def prepare(
    format_name: str,
    source: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
    *,
    workers: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
    **options: Any,
) -> Report:
    """Read a dataset and write its annotation file.

    Args:
        format_name: A key of `READERS`, or 'auto' to find out by looking at the files.
        source: Folder or file to read; None for a format that needs none (synthetic).
        out: `.pkl`, `.npz` or `.mg` (a folder of arrays) to write; the format's default if None.
        workers: Processes; every CPU this process may use if None; 1 stays in this process.
        strict: Refuse to write anything when any clip is rejected.
        progress: Called as jobs finish.
        announce: Called with the format found and why, before the reading.
        options: The format's own options, as its command line names them, with underscores.

    Returns:
        What was written and what was left out.

    Raises:
        FormatError: The source is not of that format, or an option does not fit.
        PrepareError: No clip could be used, or `strict` and some could not.
    """
    began = time.perf_counter()
    source = None if source is None else Path(source)
    why = ''
    if format_name == 'auto':
        if source is None:
            raise FormatError('a source is needed: a file, folder or archive')
        own = [] if out is None else [Path(out), log_of(Path(out))]
        format_name, why = detect(Source(source, own))
        if announce:
            announce(f'{format_name}: {why}')
    if format_name not in READERS:
        raise FormatError(f'{format_name!r} is no format; known: {", ".join(READERS)}')
    reader = READERS[format_name]
    options = complete_options(reader, options)
    if reader.needs_source and source is None:
        raise FormatError(f'{reader.name} needs a source. Expected: {reader.expects}')
    out = check_out(out, reader, source)
    if workers is not None and workers < 1:
        raise FormatError(f'--workers {workers} must be at least 1')

    outputs = [out, log_of(out)]
    known = dict(options, format=reader.name)
    plan = reader.plan(None if source is None else Source(source, outputs), known)
    rejects, notes = list(plan.rejects), list(plan.notes)
    clips, extras, counts = [], [], Counter()
    for parsed in run_jobs(reader, plan, workers, progress):
        clips += parsed.clips
        rejects += parsed.rejects
        notes += parsed.notes
        counts += parsed.counts
        extras.append(parsed.extra)
    notes += [f'{count} {what}' for what, count in counts.items()]
    clips = drop_duplicates(clips, rejects)
    if not clips:
        raise PrepareError(f'no clip in {source} can be used; nothing was written', rejects)
    dataset = reader.collect(clips, extras, plan, known)
    rejects += dataset.rejects
    if strict and rejects:
        message = f'{len(rejects)} clips were rejected and --strict was given; nothing was written'
        raise PrepareError(message, rejects)
    check_splits(dataset.split)
    annotations = [clip.annotation for clip in clips]
    try:
        save_annotations(out, dataset.split, annotations, dataset.meta)
    except OSError as error:
        raise PrepareError(f'{out} cannot be written: {error.strerror}', rejects) from None
    layout = dataset.meta['layout']
    report = Report(
        format=reader.name,
        source=str(source or ''),
        out=out,
        log=log_of(out),
        clips=len(annotations),
        splits={name: len(members) for name, members in dataset.split.items()},
        classes=len(dataset.meta['classes']),
        subjects=len({a['subject'] for a in annotations if 'subject' in a}),
        layout=layout if isinstance(layout, str) else layout['name'],
        config=dataset.config or reader.config,
        rejects=rejects,
        notes=notes + dataset.notes,
        seconds=time.perf_counter() - began,
    )
    write_log(report, options)
    return report


def complete_options(reader: Reader, given: Mapping[str, Any]) -> dict[str, Any]:
    """The reader's options with their defaults; refuses names that it does not know."""
    unknown = sorted(set(given) - set(reader.options))
    if unknown:
        known = ', '.join(sorted(reader.options)) or 'none'
        raise FormatError(f'{reader.name} has no option {", ".join(unknown)}; its options: {known}')
    return {**reader.options, **given}


def check_out(out: str | os.PathLike | None, reader: Reader, source: Path | None) -> Path:
    """The output path, by default the one that the configs read."""
    if out is None:
        name = reader.name if source is None else source.resolve().name.split('.')[0]
        out = reader.out or f'data/{name}/{name}.pkl'
    out = Path(out)
    if out.suffix not in SUFFIXES:
        expected = ', '.join(SUFFIXES)
        raise FormatError(f'--out {out} must end in one of {expected}, which says how to write it')
    if out.is_dir() and out.suffix != '.mg':
        raise FormatError(f'--out {out} is a folder; give a file name in it')
    if source is not None and out.resolve() == source.resolve():
        raise FormatError(f'--out {out} is the source itself; give another file')
    # Found out before the reading, which may take long.
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise FormatError(f'--out {out} cannot be written: {folder}: {error.strerror}') from None
    return out


def check_splits(split: Mapping[str, list[str]]) -> None:
    """Refuse a clip that is in a training split and in the test or validation split beside it."""
    for name, members in split.items():
        for other in ('val', 'test'):
            beside = name.removesuffix('train') + other
            both = set(members) & set(split.get(beside, ())) if name.endswith('train') else ()
            if both:
                raise FormatError(
                    f'{len(both)} clips are in the split {name} and in {beside}, such as '
                    f'{min(both)}: take them out of one'
                )


def log_of(out: Path) -> Path:
    """The log of what was left out, beside the output."""
    return out.with_name(out.name + '.log.json')


def usable_cpus() -> int:
    """CPUs that this process may use (fewer than the machine has, in a container)."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(
    reader: Reader, plan: Plan, workers: int | None, progress: Progress | None
) -> Iterator[Parsed]:
    """Results of `plan.jobs`, in their order whatever the number of workers.

    Raises:
        PrepareError: A worker process died.
    """
    total = len(plan.jobs)
    report = progress or (lambda done, total: None)
    workers = min(workers or usable_cpus(), total)
    if workers <= 1:
        for done, job in enumerate(plan.jobs, 1):
            yield reader.read(job)
            report(done, total)
        return

    # Forked workers need not import anything again; elsewhere the platform's own way is used.
    context = multiprocessing.get_context('fork' if sys.platform == 'linux' else None)
    pool = ProcessPoolExecutor(workers, context, end_on_interrupt, (os.getpid(),))
    interrupted = True
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads; the workers use no thread of the parent.
            warnings.simplefilter('ignore', DeprecationWarning)
            results = pool.map(reader.read, plan.jobs)
        for done, parsed in enumerate(results, 1):
            yield parsed
            report(done, total)
        interrupted = False
    except BrokenProcessPool:
        interrupted = False
        message = 'a worker process died, perhaps out of memory; try --workers 1'
        raise PrepareError(message, []) from None
    finally:
        # The pool's own thread must not be left behind: a later fork beside it could hang.
        pool.shutdown(wait=not interrupted, cancel_futures=True)


def end_with_parent(parent: int) -> None:
    """End this worker when the process that started it is gone, killed perhaps."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def end_on_interrupt(parent: int) -> None:
    """Make Ctrl-C end a worker at once and without a traceback; the parent reports it.

    A shell without job control starts background commands with SIGINT ignored; then both ignore it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=end_with_parent, args=(parent,), daemon=True).start()


def drop_duplicates(clips: list[Clip], rejects: list[Reject]) -> list[Clip]:
    """The first clip of every id; the others are added to `rejects`."""
    first: dict[str, Clip] = {}
    for clip in clips:
        clip_id = clip.annotation['frame_dir']
        if clip_id in first:
            kept = first[clip_id]
            where = kept.file if kept.line is None else f'{kept.file}, line {kept.line}'
            rejects.append(Reject(clip_id, clip.file, clip.line, DUPLICATE, f'kept: {where}'))
        else:
            first[clip_id] = clip
    return list(first.values())


def write_log(report: Report, options: Mapping[str, Any]) -> None:
    """Write the report as JSON, whole or not at all."""
    content = {
        **asdict(report),
        'rejected': len(report.rejects),
        'rejected_by_reason': report.rejected_by_reason,
        'options': dict(options),
    }
    write_json(report.log, json.loads(json.dumps(content, default=str)), indent=2)
