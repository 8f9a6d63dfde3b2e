"""Which augmentations help to learn without labels, on left-out training subjects.

A run pre-trains a config briefly with one chain of augmentations for all views, and probes the
features of the clips of subjects that it left out. Clips of the test split are never read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from math import comb
from pathlib import Path

from mg_plugins.augment.base import AUGMENTATIONS
from mg_plugins.augment.chain import Chain, build_steps, recipe_names
from mg_plugins.contrast.mm.hooks import loader_of
from mg_plugins.data.layouts import LayoutError
from mg_plugins.errors import UserError
from mg_plugins.experiments.plan import Cell, Run, leave_out, refuse_unknown
from mg_plugins.experiments.pretraining import Measures, pretrain_and_probe, set_epochs
from mg_plugins.experiments.runner import Plan
from mg_plugins.openmmlab.settings import Config, LaunchError, enter_scope, use_bfloat16

NOTHING = 'nothing'
#: How many of the augmentations, the best ones alone, are tried in pairs.
BEST = 4
RECIPES, ALONE, PAIRS = 'Recipes', 'Alone', 'Pairs of the best alone'


@dataclass(frozen=True)
class StudyOptions:
    """What a study tries and how it ranks."""

    folds: tuple[tuple[str, ...], ...] = ()  # subjects that are left out; `default_folds` if empty
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)  # in order; all runs of a seed are a round
    recipe: str = 'micro_gesture'  # out of which each augmentation is left
    augmentations: tuple[str, ...] | None = None  # to try alone; all if None
    by: str = 'linear'  # what ranks: a probe of the main stream, 'knn' too, or 'rank' (no labels)
    streams: tuple[str, ...] = ()  # probed beside the main one


class Study(Plan):
    """A plan, over a config of `prepare`, whose pairs follow from its first round."""

    def __init__(
        self, cfg: Config, folder: Path, options: StudyOptions, finished: Mapping | None = None
    ) -> None:
        subjects = training_subjects(cfg)
        if '' in subjects:
            raise UserError('the study leaves subjects out, and there are clips without a subject')
        self.options = options
        self.folds = options.folds or default_folds(list(subjects))
        check_folds(cfg, subjects, self.folds)
        self._configs = {fold: leave_out(cfg, fold) for fold in self.folds}
        self.left_out_of = f'Left out of {options.recipe}'
        rows, self.unfit = self._rows(cfg.model.data_preprocessor.layout)
        self.paired = False  # whether pairs are among the runs
        super().__init__(folder, self._of_rows(rows), finished)

    def _rows(self, layout: str | Mapping) -> tuple[list[tuple], dict[str, str]]:
        """Section, name, steps and base of each row but the pairs; and what does not fit."""
        recipe, names = self.options.recipe, self.options.augmentations
        names = list(AUGMENTATIONS if names is None else dict.fromkeys(names))
        refuse_unknown('recipe', [recipe], recipe_names())
        refuse_unknown('augmentation', names, sorted(AUGMENTATIONS))
        rows = [(ALONE, NOTHING, (), '')]
        rows += [(RECIPES, name, build_steps(name), NOTHING) for name in recipe_names()]
        rows += [(ALONE, name, build_steps(name), NOTHING) for name in names]
        steps = build_steps(recipe)
        for step in steps:
            rest = [other for other in steps if other is not step]
            rows.append((self.left_out_of, f'{recipe} without {step.name}', rest, recipe))
        fitting, unfit = [], {}
        for row in rows:
            try:
                Chain(row[2], layout)
                fitting.append(row)
            except LayoutError as error:
                unfit[row[1]] = str(error)
        return fitting, unfit

    def _of_rows(self, rows: Sequence[tuple]) -> list[Run]:
        """Runs of rows as those of `_rows`, round after round."""
        probes = ('rank',) if self.options.by == 'rank' else ('linear', 'knn')
        measures = Measures(probes, 0, streams=self.options.streams, keep=False)
        options = dict(asdict(measures), start='pre-training')
        runs = []
        for seed, row, fold in product(self.options.seeds, rows, self.folds):
            section, name, steps, base = row
            own = self._configs[fold].to_dict()
            preprocessor = own['model']['data_preprocessor']
            chain = [dict(type=step.name, **asdict(step)) for step in steps]
            preprocessor['views'] = [chain for _ in preprocessor['views']]
            runs.append(Run(name, seed, own, pretrain_and_probe, '', fold, base, section, options))
        return runs

    def runs(self) -> list[Run]:
        """All runs that can be named now, round after round; pairs once the first round is done."""
        if not self.paired and (best := self.best()):
            rows = []
            for pair in combinations(best, 2):
                rows.append((PAIRS, ' + '.join(pair), sum(map(build_steps, pair), []), NOTHING))
            runs = [*self.planned, *self._of_rows(rows)]
            self.planned = sorted(runs, key=lambda run: self.options.seeds.index(run.seed))
            self.paired = True
        return self.planned

    def best(self) -> list[str]:
        """The best four alone by the first seed, in the order of the table; [] until known."""
        means = {}
        for name, runs in self._alone().items():
            if not all(map(self.done, runs)):
                return []
            known = self.counts(runs)
            means[name] = sum(known['sums'][self.options.by]) / sum(known['totals'])
        chosen = sorted(means, key=means.get, reverse=True)[:BEST]
        return [name for name in means if name in chosen]

    def _alone(self) -> dict[str, list[Run]]:
        """Runs of the first seed of every augmentation alone of which none failed."""
        rows: dict[str, list[Run]] = {}
        for run in self.planned:
            if (run.seed, run.section) == (self.options.seeds[0], ALONE) and run.base:
                rows.setdefault(run.name, []).append(run)
        return {name: runs for name, runs in rows.items() if not any(map(self.failure, runs))}

    @property
    def total(self) -> int:
        """Number of runs, the pairs among them."""
        pairs = comb(min(BEST, len(self._alone())), 2)
        alone = sum(run.section != PAIRS for run in self.planned)
        return alone + pairs * len(self.folds) * len(self.options.seeds)

    def notes(self) -> list[str]:
        """What the report says beside its tables."""
        folds = ' | '.join(', '.join(fold) for fold in self.folds)
        notes = [f'Test subjects were not read. Folds of training subjects: {folds}.']
        if best := ', '.join(self.best()):
            notes.append(
                f'The best alone were chosen by the runs with seed {self.options.seeds[0]}: '
                f'{best}. That seed is among those reported, which favours them a little.'
            )
        else:
            notes.append('Pairs are not chosen yet.')
        if self.options.by == 'rank':
            notes.append('An effective rank is of all clips together and has no interval.')
        if self.unfit:
            reasons = '; '.join(f'{name}: {reason}' for name, reason in self.unfit.items())
            notes.append(f'Not for this layout: {reasons}.')
        return notes


def prepare(cell: Cell, epochs: int = 15, amp: bool = False) -> Config:
    """A pre-training config for short runs, from a cell of one row whose views a study can set.

    Its schedule is shortened in proportion, hooks that write or probe are left out, and of its test
    set only the pipeline stays.
    """
    (entry,) = cell.entries
    cfg = cell.config(entry)
    preprocessor = cfg.model.get('data_preprocessor') or {}
    if not preprocessor.get('views') or cfg.model.get('type') != 'DualStreamContrast':
        raise LaunchError(
            f'{entry.config} is not a config whose augmentations can be studied: it must learn by '
            'DualStreamContrast from data_preprocessor.views, as '
            'configs/stbcl_stgcn_msr_action3d.py does'
        )
    set_epochs(cfg, epochs)
    if amp:
        use_bfloat16(cfg)
    preprocessor.views = [[] for _ in preprocessor.views]
    cfg.test_dataloader.dataset = dict(pipeline=cfg.test_dataloader.dataset.pipeline)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.custom_hooks = [h for h in cfg.get('custom_hooks') or [] if h['type'] != 'ProbeHook']
    cfg.setdefault('default_hooks', {}).pop('visualization', None)
    cfg.update(log_level='ERROR', visualizer=dict(type='Visualizer', vis_backends=[]))
    cfg.update(vis_backends=[])
    return cfg


def training_subjects(cfg: Config) -> dict[str, int]:
    """Number of training clips of each subject, '' for those that do not say whose they are."""
    enter_scope()
    dataset = loader_of(cfg, 'train').dataset
    subjects = [str(dataset.get_data_info(i).get('subject', '')) for i in range(len(dataset))]
    order = sorted(set(subjects), key=lambda s: (not s.isdigit(), int(s) if s.isdigit() else 0, s))
    return {subject: subjects.count(subject) for subject in order}


def default_folds(subjects: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Two folds without a subject in common, a third of the subjects each, dealt in turn.

    Of 1 3 5 7 9 these are (1, 5) and (3, 7): two thirds stay to learn from.
    """
    size = max(1, round(len(subjects) / 3))
    return tuple(tuple(subjects[first : 2 * size : 2]) for first in (0, 1))


def check_folds(cfg: Config, subjects: Mapping[str, int], folds: Sequence[tuple[str, ...]]) -> None:
    """Refuse unknown subjects, a subject in two folds, and too few clips left to learn from."""
    named = [subject for fold in folds for subject in fold]
    refuse_unknown('training subject', named, subjects)
    if len(set(named)) < len(named):
        raise UserError('a subject can be left out in one fold only')
    queue = cfg.model.get('head', {}).get('queue_size', 0)
    for fold in folds:
        rest = sum(subjects.values()) - sum(subjects[s] for s in fold)
        if rest < max(queue, 1):
            raise UserError(
                f'without subjects {", ".join(fold)} there are {rest} clips to learn from, and the '
                f'queues hold {queue}: leave fewer subjects out, or set a smaller queue, as by '
                '--cfg-options model.head.queue_size=64'
            )
