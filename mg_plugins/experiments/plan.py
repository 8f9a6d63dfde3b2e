"""What is to be run: from a command's options to cells, and to runs with their fingerprints."""

import argparse
import copy
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from mg_plugins.augment.chain import build_steps
from mg_plugins.errors import UserError
from mg_plugins.files import read_json
from mg_plugins.openmmlab.launch import config_path, load_config
from mg_plugins.openmmlab.settings import Config, ConfigDict, datasets, datasets_of

#: What the encoders of a pre-training start from: the config's own data, the synthetic set in the
#: same layout, or first weights as they come, which makes fine-tuning a training from scratch.
STARTS = ('pre-training', 'synthetic', 'nothing')
ROW, ROW_TOO = {'name', 'config'}, {'options', 'start', 'seeds'}
CELL, CELL_TOO = {'cell', 'rows'}, {'ann_file', 'splits', 'layout', 'options', 'reference'}


@dataclass(frozen=True)
class Entry:
    """One row of a table: a config with settings of its own."""

    name: str
    config: str  # path, or ``mmaction::PATH``
    options: tuple[str, ...] = ()  # ``KEY=VALUE``, as for ``--cfg-options``
    start: str = STARTS[0]
    seeds: int | None = None  # at most the command's; None takes all of those

    @classmethod
    def parse(cls, text: str) -> 'Entry':
        """Read ``[NAME=]CONFIG[;KEY=VALUE…]``; the config's stem is the name by default."""
        head, *options = (part.strip() for part in text.split(';'))
        name, _, config = head.rpartition('=')
        return cls(name.strip() or Path(config).stem, config.strip(), tuple(options))


@dataclass(frozen=True)
class Cell:
    """One table: rows on one set of data, compared with one of them."""

    entries: tuple[Entry, ...]
    name: str = ''  # empty where there is one table
    ann_file: str | None = None  # takes the place of the configs' own
    splits: tuple[str, str] | None = None  # to train and to test on
    layout: str | None = None
    options: tuple[str, ...] = ()  # of all rows; a row's own have the last word
    reference: str = ''  # the row that is compared with the others
    require_data: bool = True  # fail where data is missing instead of taking the synthetic set

    def config(self, entry: Entry) -> Config:
        """The config of a row, on this cell's data."""
        settings = [*self.options, *entry.options]
        wishes = dict(config=entry.config, cfg_options=settings, require_data=self.require_data)
        data = dict(ann_file=self.ann_file, splits=self.splits, layout=self.layout)
        return load_config(argparse.Namespace(**wishes, **data, work_dir=''))


def read_cells(path: str | os.PathLike, defaults: Cell) -> list[Cell]:
    """Read a JSON list of rows (one table), or of cells with ``rows`` (a table each).

    A row has fields of `Entry`; a cell has its name, ``cell``, and fields of `Cell`. Configs are
    relative to the file's own folder, unless they stand relative to where one is. ``defaults`` has
    what a cell does not say. What is no such list is a UserError that names the entry.
    """
    content = read_json(path)
    content = content if isinstance(content, list) else [content]
    if not all(isinstance(entry, dict) for entry in content) or not content:
        raise UserError(f'{path}: a list of objects was expected, with at least one')
    folder = Path(path).parent
    if not any('rows' in entry for entry in content):
        return [replace(defaults, entries=_entries(str(path), content, folder))]
    cells = []
    for number, cell in enumerate(content):
        if not CELL <= set(cell) <= CELL | CELL_TOO:
            raise UserError(
                f'{path}, entry {number}: a cell needs cell and rows, and may have '
                f'{", ".join(sorted(CELL_TOO))}; it has {", ".join(cell)}'
            )
        own = {k: tuple(v) if isinstance(v, list) else v for k, v in cell.items() if k in CELL_TOO}
        entries = _entries(f'{path}, cell {cell["cell"]!r}', cell['rows'], folder)
        cells.append(replace(defaults, name=str(cell['cell']), entries=entries, **own))
    return cells


def _entries(where: str, rows: Any, folder: Path) -> tuple[Entry, ...]:
    entries = []
    for number, row in enumerate(rows if isinstance(rows, list) else [rows]):
        if not isinstance(row, dict) or not ROW <= set(row) <= ROW | ROW_TOO:
            raise UserError(
                f'{where}, entry {number}: a row needs name and config, and may have options, '
                f'start and seeds; got {row}'
            )
        beside = folder / row['config']
        config = str(beside) if beside.is_file() else row['config']
        entry = Entry(**dict(row, config=config, options=tuple(row.get('options', ()))))
        if entry.start not in STARTS:
            raise UserError(
                f'{where}, entry {number}: start must be one of {", ".join(STARTS)}, '
                f'got {entry.start!r}'
            )
        entries.append(entry)
    return tuple(entries)


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse numbers and combinations that cannot be; read ``--finished`` and count the seeds."""
    if args.budget_minutes is not None and not args.budget_minutes >= 0:
        raise UserError('--budget-minutes must not be negative')
    if not args.ann_file and (args.layout or args.splits):
        raise UserError('--layout and --splits say more about --ann-file: give it')
    if args.finished is not None:
        content = read_json(args.finished)
        if not isinstance(content, dict) or not isinstance(content.get('tables'), list):
            raise UserError(f'{args.finished} is no results.json of this command: it has no tables')
        args.finished = content
    args.seeds = range(args.first_seed, args.first_seed + args.seeds)


def cell_of(args: argparse.Namespace, *entries: Entry, require_data: bool = True) -> Cell:
    """The command's own cell; in a file of cells, what they do not say themselves."""
    return Cell(
        entries,
        ann_file=args.ann_file,
        splits=tuple(args.splits) if args.splits else None,
        layout=args.layout,
        options=tuple(args.cfg_options),
        reference=getattr(args, 'reference', None) or '',
        require_data=require_data,
    )


def refuse_unknown(
    what: str, names: Iterable[str], known: Collection[str], error: type[UserError] = UserError
) -> None:
    """Name the first of names that is not known."""
    if unknown := [name for name in names if name not in known]:
        raise error(f'there is no {what} {unknown[0]!r}; there are {", ".join(known)}')


def choose(cell: Cell, names: Sequence[str] | None) -> Cell:
    """A cell with the rows named; the last one is its reference where there is none."""
    refuse_unknown('row', names or (), [entry.name for entry in cell.entries])
    entries = tuple(e for e in cell.entries if names is None or e.name in names)
    return replace(cell, entries=entries, reference=cell.reference or entries[-1].name)


def check_cells(cells: Sequence[Cell]) -> None:
    """Refuse what cannot be told apart or does not exist, before anything is trained."""
    names = [folder_name(cell.name) for cell in cells]
    if len(set(names)) < len(names):
        raise UserError(f'cells need names of their own, got {", ".join(names)}')
    for cell in cells:
        rows = [entry.name for entry in cell.entries]
        if len(set(map(folder_name, rows))) < len(rows):
            raise UserError(
                f'two rows have one name ({", ".join(rows)}); name them: NAME=CONFIG;KEY=VALUE'
            )
        refuse_unknown('reference row', [cell.reference] * bool(cell.reference), rows)
        for entry in cell.entries:
            config_path(entry.config)
            for option in (*cell.options, *entry.options):
                if '=' not in option:
                    raise UserError(f'{entry.name}: a setting must be KEY=VALUE, got {option!r}')


#: Changes a row's config in place and returns ``task`` and ``options`` of its runs.
Make = Callable[[Entry, Config], Mapping]


def folder_name(name: str) -> str:
    """A name as a folder's."""
    return re.sub(r'[^\w.-]+', '_', name)


@dataclass(frozen=True, eq=False)
class Run:
    """One training and what is measured of it.

    ``task``, which another process imports, returns of a run and its folder the outcome: ``clips``
    and ``subjects`` of the test clips and ``scores``, by measure one in [0, 1] for each clip.
    """

    name: str  # of the row
    seed: int  # of everything random
    cfg: dict  # the whole config, as ``Config.to_dict`` gives it
    task: Callable[['Run', Path], dict]
    group: str = ''  # the table
    left_out: tuple[str, ...] = ()  # training subjects that are tested instead of the test split
    base: str = ''  # the row it is compared with
    section: str = ''  # title of its part of the table
    options: Mapping = field(default_factory=dict)  # of the task, ready for JSON

    @property
    def path(self) -> Path:
        """Its folder inside that of the plan."""
        fold = 'without_' + '_'.join(self.left_out) if self.left_out else 'test'
        return Path(folder_name(self.group), folder_name(self.name), fold, f's{self.seed}')

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that the outcome follows from, but the seed, files and recipes included."""
        cfg = Config(self.cfg)
        views = (cfg.model.get('data_preprocessor') or {}).get('views') or ()
        chains = [[[step.name, asdict(step)] for step in build_steps(view)] for view in views]
        names = {os.path.join(d.get('data_root') or '', d['ann_file']) for d in datasets(cfg)}
        names.add(cfg.get('load_from') or '')
        files = {name: _content(name) for name in names}
        task = f'{self.task.__module__}.{self.task.__qualname__}'
        what = [self.cfg, chains, files, task, dict(self.options)]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=repr).encode()).hexdigest()


def _content(name: str) -> str:
    """Hashes of a file or of the files in a folder; '' where there is none."""
    inside = sorted(os.listdir(name)) if os.path.isdir(name) else ()
    paths = filter(os.path.isfile, (name, *(os.path.join(name, file) for file in inside)))
    states = ((path, os.stat(path)) for path in paths)
    return ' '.join(_hash(path, (state.st_mtime_ns, state.st_size)) for path, state in states)


@lru_cache
def _hash(path: str, state: tuple[int, int]) -> str:
    """Hash of a file's content, which changes with its state."""
    digest = hashlib.sha256()  # `hashlib.file_digest` is not in Python 3.10
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


#: Left out of each class in place of subjects, where clips name none.
A_THIRD = ('a_third_of_the_clips',)


def leave_out(cfg: Config, subjects: Sequence[str]) -> Config:
    """A config that learns without some training subjects and tests on their clips instead.

    Their clips are those of the training split and go through the test's pipeline; the test split
    is not read. `A_THIRD` leaves clips out instead. Without subjects it is a copy; no copy has a
    work directory.
    """
    cfg = copy.deepcopy(cfg)
    cfg.pop('work_dir', None)
    if not subjects:
        return cfg
    learnt = list(datasets_of(cfg.train_dataloader.dataset))
    if not learnt or 'pipeline' not in cfg.test_dataloader.dataset:
        raise UserError('subjects can be left out of a set with an annotation file only')
    test = ConfigDict(learnt[0].to_dict())
    test.update(pipeline=cfg.test_dataloader.dataset.pipeline, test_mode=True)
    if tuple(subjects) == A_THIRD:
        for dataset in learnt:
            dataset.share = 2 / 3
        test.update(share=2 / 3, rest=True)
    else:
        for dataset in learnt:
            dataset.exclude_subjects = [*(dataset.get('exclude_subjects') or ()), *subjects]
        test.subjects = list(subjects)
    # Assigned, not updated: the test clips' own selection must not be merged in.
    cfg.test_dataloader.dataset = test
    return cfg


def plan_runs(
    cells: Sequence[Cell], seeds: Sequence[int], folds: Sequence[tuple[str, ...]], make: Make
) -> list[Run]:
    """All runs of cells, seed by seed: what is done at any time compares fairly.

    The first row is the reference where none is named; without ``folds`` the test split is tested.
    """
    check_cells(cells)
    rows = []
    for cell in cells:
        base = cell.reference or cell.entries[0].name
        made = []
        for entry in cell.entries:
            cfg = cell.config(entry)
            fields = dict(make(entry, cfg), base='' if entry.name == base else base)
            made.append((entry, cfg, dict(fields, group=cell.name)))
        for fold, (entry, cfg, fields) in product(folds or [()], made):
            rows.append((entry, dict(fields, cfg=leave_out(cfg, fold).to_dict(), left_out=fold)))
    return [
        Run(entry.name, seed, **fields)
        for place, seed in enumerate(seeds)
        for entry, fields in rows
        if entry.seeds is None or place < entry.seeds
    ]


def parse_folds(words: Iterable[str], overlap: bool = True) -> list[tuple[str, ...]]:
    """``--leave-out``: subjects comma-separated within a fold, a word a fold."""
    folds = [tuple(word.split(',')) for word in words]
    named = [subject for fold in folds for subject in fold]
    if '' in named:
        raise UserError('--leave-out: a subject is empty; give them as 1,3 5,7')
    if not overlap and len(set(named)) < len(named):
        raise UserError('--leave-out: a subject can be left out in one fold only')
    return folds
