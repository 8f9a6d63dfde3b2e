"""Turn a dataset in its own format into an annotation file: `prepare('imigue', folder)`.

Stopped at any moment, it leaves the old file or the new one. For `.mg`, arrays stay on the disk.
"""

import json
import mmap
import multiprocessing
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mg_plugins.errors import UserError, counted
from mg_plugins.files import write_json

from .annotations import SUFFIXES, save_annotations, summarise
from .checks import checked_split, one_sided
from .readers import READERS, common, detect
from .readers.common import Clip, ClipError, FormatError, Parsed, Plan, Reader, require
from .readers.sources import Source
from .readers.takes import UNITS
from .storage import ARRAYS

# Jobs that are handed out ahead of the one whose result is taken next, for each worker.
AHEAD = 4


class PrepareError(UserError):
    """Nothing was written: no clip could be used, or `strict` met one of the `rejects`."""

    def __init__(self, message: str, rejects: list[ClipError]):
        super().__init__(message)
        self.rejects = rejects


@dataclass(frozen=True)
class Report:
    """What a run of `prepare` did; `undetected` is that of `summarise`."""

    format: str
    source: str
    out: Path
    log: Path
    clips: int
    splits: dict[str, int]
    classes: int
    subjects: int
    layout: str
    undetected: dict[str, float]
    options: dict[str, Any]
    rejects: list[ClipError]
    notes: list[str]
    seconds: float

    @property
    def rejected_by_reason(self) -> dict[str, int]:
        """Rejected clips of each reason, the most frequent first."""
        return dict(Counter(reject.reason for reject in self.rejects).most_common())

    @property
    def next_command(self) -> str:
        """What to run next, with the options that make the config read this file."""
        if not self.classes:
            said = [('', self.source)]
            said += [(f'--{key} ', self.options.get(key)) for key in ('size', 'layout', 'fps')]
            said = ' '.join(f'{key}{shlex.quote(str(value))}' for key, value in said if value)
            return f'python tools/recognize.py {said} --config CONFIG --checkpoint CHECKPOINT'
        reader = READERS[self.format]
        command = f'python tools/train.py {reader.config or "configs/stgcn_mgfuse_imigue.py"}'
        needed = 'recordings_train' if '/spot_' in command else 'xsub_train'
        if reader.config and Path(reader.out) == self.out and self.splits.get(needed):
            return command
        # Training takes xsub_… of itself; a set whose first split is another is usually split so.
        first = next(iter(self.splits), '')
        usual = 'xsub_train' in self.splits and first.endswith('_train') and first != 'xsub_train'
        pair = f' --splits {first} {first.removesuffix("train")}val' if usual else ''
        return f'{command} --ann-file {shlex.quote(str(self.out))}{pair}'


def prepare(
    format_name: str,
    source: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
    *,
    workers: int | None = None,
    strict: bool = False,
    bar: bool = False,
    announce: Callable[[str], None] | None = None,
    **options: Any,
) -> Report:
    """Read a dataset and write its annotation file, and beside it a log of what was left out.

    Args:
        format_name: A key of `READERS`, or 'auto' to find out by looking at the files.
        source: Folder, file or archive; None for a format that needs none (synthetic).
        out: `.pkl`, `.npz` or `.mg` (a folder of arrays); the format's default if None.
        workers: Processes; every CPU this process may use if None; 1 stays in this process.
        strict: Write nothing, with a PrepareError, when any clip is rejected.
        bar: Show the progress on a terminal.
        announce: Called with the format found and why, before the reading.
        options: The format's own options, as its command line names them, with underscores.
    """
    began = time.perf_counter()
    source = None if source is None else Path(source)
    if format_name == 'auto':
        require(source, 'a source is needed: a file, folder or archive')
        own = [] if out is None else [Path(out), log_of(Path(out))]
        format_name, why = detect(Source(source, own))
        if announce:
            announce(f'{format_name}: {why}')
    require(format_name in READERS, f'{format_name!r} is no format; known: {", ".join(READERS)}')
    reader = READERS[format_name]
    unknown = ', '.join(sorted(options.keys() - reader.options.keys()))
    known = ', '.join(sorted(reader.options)) or 'none'
    require(not unknown, f'{reader.name} has no option {unknown}; its options: {known}')
    needed = f'{reader.name} needs a source. Expected: {reader.expects}'
    require(source or not reader.needs_source, needed)
    out, options = check_out(out, reader, source), reader.options | options
    given = options | dict(format=reader.name)
    for name in ('workers', 'max_persons', 'max_score', 'fps'):
        number, flag = dict(given, workers=workers).get(name), name.replace('_', '-')
        what = f'--{flag} {number} must be above 0 and below a million'
        require(number is None or 0 < number < 1e6, what)
    unit = given.get('unit')
    require(unit in (None, *UNITS), f'--unit {unit} must be one of {", ".join(UNITS)}')

    plan = reader.plan(Source(source, [out, log_of(out)]) if source else None, given)
    rejects, notes, counts, found = list(plan.rejects), list(plan.notes), Counter(), {}
    spool = Spool(existing_parent(out)) if out.suffix == '.mg' else None
    about = dict(desc=reader.name, total=len(plan.jobs), unit='job', leave=False)
    for parsed in tqdm(run_jobs(reader, plan, workers), disable=None if bar else True, **about):
        rejects += parsed.rejects
        counts += parsed.counts
        for clip in parsed.clips:
            first = found.setdefault(clip.name, clip)
            if first is not clip:
                kept = f'kept: {common.place(first.file, first.line)}'
                rejects.append(ClipError(kept, common.DUPLICATE, clip.line, clip.file, clip.name))
            elif spool:
                with writing(out, rejects):
                    spool.put(clip.annotation)
    notes += [counted(count, what) for what, count in counts.items() if count]
    clips = list(found.values())
    if not clips:
        raise PrepareError(f'no clip in {source} can be used; nothing was written', rejects)
    if spool:
        with writing(out, rejects):
            spool.open(clip.annotation for clip in clips)
    dataset = reader.collect(clips, plan, given)
    rejects += dataset.rejects
    if strict and rejects:
        said = counted(len(rejects), 'clips were rejected and --strict was given')
        raise PrepareError(f'{said}; nothing was written', rejects)

    layout, note = dataset.layout, '; '.join([reader.unit] * bool(reader.unit) + dataset.notes)
    meta = dict(layout=layout, classes=list(dataset.classes), source=reader.name, note=note)
    meta |= dataset.meta
    split, said = checked_split(dataset.split, {clip.name for clip in clips}, source or reader.name)
    spelt = (re.sub(r'[\W_]+', ' ', name.casefold()).strip() or name for name in dataset.classes)
    said += [
        f'{count} classes are called {name!r} but for case and punctuation: is one misspelt?'
        for name, count in Counter(spelt).items()
        if count > 1
    ]
    notes += dataset.notes + said + one_sided(passing(clips, spool), layout)
    with writing(out, rejects):
        save_annotations(out, split, passing(clips, spool), meta)
    summary = summarise(dict(annotations=passing(clips, spool), split=split, meta=meta))
    report = Report(
        format=reader.name,
        source=str(source or ''),
        out=out,
        log=log_of(out),
        clips=len(clips),
        splits=summary['splits'],
        classes=len(dataset.classes),
        subjects=len(summary['subjects']),
        layout=layout if isinstance(layout, str) else layout['name'],
        undetected=summary['undetected'],
        options=options,
        rejects=rejects,
        notes=notes,
        seconds=time.perf_counter() - began,
    )
    log = asdict(report) | dict(rejected=len(rejects), rejected_by_reason=report.rejected_by_reason)
    write_json(report.log, json.loads(json.dumps(log, default=str)), indent=2)
    return report


@contextmanager
def writing(out: Path, rejects: list[ClipError]) -> Iterator[None]:
    """An error of the disk in this block is one that names the output."""
    try:
        yield
    except OSError as error:
        raise PrepareError(f'{out} cannot be written: {error.strerror}', rejects) from None


class Spool:
    """Arrays of clips in a file without a name; until `open`, these are their place and shape."""

    def __init__(self, folder: Path):
        self.file, self.length = tempfile.TemporaryFile(dir=folder), 0

    def put(self, annotation: dict) -> None:
        for key in ARRAYS:
            array = np.ascontiguousarray(annotation[key], np.float32)
            self.file.write(array.data)
            annotation[key] = (self.length, array.shape)
            self.length += array.size

    def open(self, annotations: Iterable[dict]) -> None:
        self.file.flush()
        self.map = mmap.mmap(self.file.fileno(), 0)
        whole = np.frombuffer(self.map, np.float32)
        for annotation in annotations:
            for key in ARRAYS:
                first, shape = annotation[key]
                annotation[key] = whole[first : first + prod(shape)].reshape(shape)


def passing(clips: list[Clip], spool: Spool | None) -> Iterator[dict]:
    """The annotations one by one, so that those that passed need not stay in memory."""
    for number, clip in enumerate(clips, 1):
        yield clip.annotation
        if spool and number % 4096 == 0 and hasattr(mmap, 'MADV_DONTNEED'):
            spool.map.madvise(mmap.MADV_DONTNEED)  # the file keeps it


def check_out(out: str | os.PathLike | None, reader: Reader, source: Path | None) -> Path:
    """The output path, by default the one that the configs read."""
    name, suffixes = reader.out or source.resolve().name.split('.')[0], ', '.join(SUFFIXES)
    out = Path(out or reader.out or f'data/{name}/{name}.pkl')
    file = out.suffix in SUFFIXES and (out.suffix == '.mg' or not out.is_dir())
    require(file, f'--out {out} must be a file that ends in {suffixes}, which says how to write it')
    other = not source or out.resolve() != source.resolve()
    require(other, f'--out {out} is the source itself; give another file')
    # Found out before the reading, which may take long.
    folder = existing_parent(out)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise FormatError(f'--out {out} cannot be written: {folder}: {error.strerror}') from None
    return out


def existing_parent(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def log_of(out: Path) -> Path:
    return out.with_name(out.name + '.log.json')


def run_jobs(reader: Reader, plan: Plan, workers: int | None) -> Iterator[Parsed]:
    """Results of `plan.jobs`, in their order whatever the number of workers."""
    # Fewer than the machine has, in a container.
    usable = getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count() or 1))(0)
    workers = min(workers or len(usable), len(plan.jobs))
    if workers <= 1:
        yield from map(reader.read, plan.jobs)
        return

    # Forked workers need not import anything again; elsewhere the platform's own way is used.
    context = multiprocessing.get_context('fork' if sys.platform == 'linux' else None)
    pool = ProcessPoolExecutor(workers, context, end_on_interrupt, (os.getpid(),))
    jobs, interrupted = iter(plan.jobs), True
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads; the workers use no thread of the parent.
            warnings.simplefilter('ignore', DeprecationWarning)
            ahead = deque(pool.submit(reader.read, job) for job in islice(jobs, AHEAD * workers))
        while ahead:
            parsed = ahead.popleft().result()
            ahead.extend(pool.submit(reader.read, job) for job in islice(jobs, 1))
            yield parsed
        interrupted = False
    except BrokenProcessPool:
        interrupted = False
        raise PrepareError('a worker process died (of memory?): try --workers 1', []) from None
    finally:
        # The pool's own thread must not be left behind: a later fork beside it could hang.
        pool.shutdown(wait=not interrupted, cancel_futures=True)


def end_on_interrupt(parent: int) -> None:
    """Make Ctrl-C end a worker at once and without a traceback; the parent reports it."""
    # A shell without job control starts background commands with SIGINT ignored.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def end_with_parent() -> None:  # when it is gone, killed perhaps
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
