"""The augmentation study: which augmentations help to learn without labels, on left-out subjects.

A trial pre-trains a config briefly with one chain of augmentations for all views, without some of
the training subjects, and probes the features of the clips of those subjects. Clips of the test
split are never read. Trials that have an outcome on disk are not repeated, so that the same command
goes on after a kill; `study_trial` runs one, `study_report` draws what is there.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mg_plugins.augment.base import AUGMENTATIONS, Augmentation
from mg_plugins.augment.chain import Chain, build_steps, recipe_names
from mg_plugins.data.layouts import LayoutError
from mg_plugins.experiments import study_trial
from mg_plugins.experiments.study_folds import check_folds, default_folds, training_subjects

NOTHING = 'nothing'
#: How many of the augmentations, the best ones alone, are tried in pairs.
BEST = 4
#: With so many arms that failed in one run the rest is not tried.
MOST_FAILURES = 3


@dataclass(frozen=True)
class Arm:
    """What is tried: a chain of augmentations.

    Attributes:
        phase: 'nothing', 'recipe', 'alone', 'left_out' or 'pair'.
        name: How tables call it.
        steps: Its augmentations.
        without: For 'left_out', the augmentation that is missing.
    """

    phase: str
    name: str
    steps: tuple[Augmentation, ...]
    without: str = ''

    @cached_property
    def chain(self) -> list[dict]:
        """The steps as configs have them, every option written out."""
        return [dict(type=step.name, **asdict(step)) for step in self.steps]

    @cached_property
    def folder(self) -> str:
        """Name and content as a folder: a recipe that is changed later becomes another one."""
        name = re.sub(r'[^\w.-]+', '_', self.name)
        return f'{name}-{_digest(self.chain)[:8]}'


@dataclass(frozen=True)
class Trial:
    """One brief pre-training of an arm, and its outcome's file."""

    arm: Arm
    seed: int
    left_out: tuple[str, ...]
    path: Path

    @property
    def done(self) -> bool:
        """Whether its outcome is there."""
        return self.path.is_file()

    @property
    def note(self) -> Path:
        """File of the error, where it failed when it was last run."""
        return self.path.with_suffix('.failed')

    @property
    def error(self) -> str:
        """Why it failed when it was last run; empty where it did not."""
        return self.note.read_text(encoding='utf-8') if self.note.is_file() else ''


@dataclass(frozen=True)
class Study:
    """All that is to be tried, and where.

    Attributes:
        cfg: From `study_trial.prepare`.
        folder: Where outcomes and reports go.
        folds: Training subjects that are left out, a group a fold.
        seeds: In the order in which they are run; all trials of a seed are a round.
        arms: All arms but the pairs, which follow from the first round.
        source: Where the clips come from, 'synthetic' for those.
        recipe: The recipe whose augmentations are left out one by one.
        by: The probe that ranks, 'linear' or 'knn', of the model's main stream.
        streams: Streams that are probed beside the main one.
        unfit: Augmentations and recipes that the layout cannot have, with the reason.
    """

    cfg: Config
    folder: Path
    folds: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    source: str = ''
    recipe: str = 'micro_gesture'
    by: str = 'linear'
    streams: tuple[str, ...] = ()
    unfit: Mapping[str, str] = field(default_factory=dict)

    def trial(self, arm: Arm, seed: int, fold: tuple[str, ...]) -> Trial:
        """One trial of an arm."""
        name = f'without_{"_".join(fold)}_s{seed}.json'
        return Trial(arm, seed, fold, self.folder / 'trials' / arm.folder / name)

    def of_arm(self, arm: Arm, seed: int) -> list[Trial]:
        """The trials of an arm with one seed, one a fold."""
        return [self.trial(arm, seed, fold) for fold in self.folds]

    def plan(self) -> Iterator[Trial]:
        """All trials that can be named now, round after round.

        Pairs are named once the first round has every augmentation alone, but those that failed.
        """
        arms = [*self.arms, *self.pairs()]
        for seed in self.seeds:
            for arm in arms:
                yield from self.of_arm(arm, seed)

    def pairs(self) -> list[Arm]:
        """The pairs among the best four alone; none as long as those are not known."""
        return [
            Arm('pair', f'{first.name} + {second.name}', first.steps + second.steps)
            for first, second in combinations(self.best(), 2)
        ]

    def best(self) -> list[Arm]:
        """The best four alone by the first seed's trials, in the order of the table.

        Those that failed are left out.
        """
        alone = self._alone()
        shares = {}
        for arm in alone:
            trials = self.of_arm(arm, self.seeds[0])
            if not all(trial.done for trial in trials):
                return []
            right = [c for trial in trials for c in read(self, trial)['correct'][self.by]]
            shares[arm.name] = float(np.mean(right))
        chosen = sorted(shares, key=shares.get, reverse=True)[:BEST]
        return [arm for arm in alone if arm.name in chosen]

    def failure(self, arm: Arm) -> str:
        """Why a trial of an arm failed, the first that did; empty where none did."""
        trials = (trial for seed in self.seeds for trial in self.of_arm(arm, seed))
        return next((trial.error for trial in trials if trial.error), '')

    def _alone(self) -> list[Arm]:
        """The arms alone of which no trial failed with the first seed."""
        first = self.seeds[0]
        return [
            arm
            for arm in self.arms
            if arm.phase == 'alone' and not any(t.error for t in self.of_arm(arm, first))
        ]

    @property
    def total(self) -> int:
        """Number of trials, the pairs among them."""
        best = min(BEST, len(self._alone()))
        return (len(self.arms) + best * (best - 1) // 2) * len(self.folds) * len(self.seeds)

    @cached_property
    def settings(self) -> str:
        """Hash of everything but the chain, the seed and the fold that an outcome follows from."""
        return _digest([self.cfg.pretty_text, self.streams])


def arms_of(
    cfg: Config, recipe: str = 'micro_gesture', augmentations: Sequence[str] | None = None
) -> tuple[tuple[Arm, ...], dict[str, str]]:
    """What is tried before pairs, and what the layout does not allow.

    Args:
        cfg: From `study_trial.prepare`.
        recipe: The recipe out of which each augmentation is left.
        augmentations: Names of those to try alone; all if None.

    Raises:
        ValueError: An unknown recipe or augmentation.
    """
    if recipe not in recipe_names():
        raise ValueError(f'recipe {recipe!r} is unknown; there are {", ".join(recipe_names())}')
    names = list(AUGMENTATIONS if augmentations is None else dict.fromkeys(augmentations))
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise ValueError(
            f'augmentation {unknown[0]!r} is unknown; there are {", ".join(sorted(AUGMENTATIONS))}'
        )
    arms = [Arm(NOTHING, NOTHING, ())]
    arms += [Arm('recipe', name, tuple(build_steps(name))) for name in recipe_names()]
    arms += [Arm('alone', name, tuple(build_steps(name))) for name in names]
    steps = tuple(build_steps(recipe))
    for place, step in enumerate(steps):
        rest = steps[:place] + steps[place + 1 :]
        arms.append(Arm('left_out', f'{recipe} without {step.name}', rest, step.name))
    fitting, unfit = [], {}
    for arm in arms:
        try:
            Chain(arm.steps, cfg.model.data_preprocessor.layout)
            fitting.append(arm)
        except LayoutError as error:
            unfit[arm.name] = str(error)
    return tuple(fitting), unfit


def plan_study(
    cfg: Config,
    folder: Path,
    folds: Sequence[tuple[str, ...]] = (),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    recipe: str = 'micro_gesture',
    augmentations: Sequence[str] | None = None,
    by: str = 'linear',
    streams: Sequence[str] = (),
) -> Study:
    """The study of a config; ``folds`` are `default_folds` where none are given.

    Raises:
        LaunchError: Folds that cannot be, see `check_folds`.
        ValueError: An unknown recipe or augmentation.
    """
    subjects, source = training_subjects(cfg)
    folds = tuple(folds) or default_folds(list(subjects))
    check_folds(cfg, subjects, folds)
    arms, unfit = arms_of(cfg, recipe, augmentations)
    given = tuple(seeds), arms, source, recipe, by, tuple(streams), unfit
    return Study(cfg, folder, folds, *given)


def settle(study: Study, about: Mapping) -> None:
    """Note in the study's folder what it is a study of, or check that it is the one there.

    Args:
        study: The study.
        about: What readers should know: config, epochs, …

    Raises:
        RuntimeError: If the folder holds a study of another config or with other settings.
    """
    note = study.folder / 'study.json'
    if note.is_file() and json.loads(note.read_text())['settings'] != study.settings:
        raise RuntimeError(
            f'{study.folder} holds a study of another version of the config, or with another '
            '--epochs, --amp, --stream or --cfg-options: choose another --out, or remove that '
            'folder to run it again'
        )
    write_whole(note, json.dumps({**about, 'settings': study.settings}, indent=1) + '\n')


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)


def read(study: Study, trial: Trial) -> dict:
    """A trial's outcome.

    Raises:
        RuntimeError: If it is of another study.
    """
    outcome = json.loads(trial.path.read_text(encoding='utf-8'))
    if outcome['settings'] != study.settings:
        raise RuntimeError(f'{trial.path} was run with other settings: remove it, or its folder')
    return outcome


def execute(study: Study, jobs: int = 1, budget: float | None = None) -> dict[Path, str]:
    """Run what is not done yet, ``jobs`` trials at a time, sharing the processors evenly.

    A smaller ``OMP_NUM_THREADS`` than the even share is kept.

    Args:
        study: After `settle`.
        jobs: Processes; each starts once and runs many trials. What they print is in ``log.txt``.
        budget: Minutes after which no trial is started any more; None for no limit.

    Returns:
        By outcome's file the error of each trial that failed; the next run tries those again. Once
        trials of `MOST_FAILURES` arms failed no more start.

    Raises:
        RuntimeError: If a process ends by itself, as it does where memory runs out.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    end = float('inf') if budget is None else time.monotonic() + 60 * budget
    share = max(1, len(os.sched_getaffinity(0)) // jobs)
    threads = str(min(share, int(os.environ.get('OMP_NUM_THREADS') or share)))
    # Inherited by the processes: they import numpy and torch before any of our code runs.
    os.environ.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    study.folder.mkdir(parents=True, exist_ok=True)
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        jobs,
        multiprocessing.get_context('spawn'),
        study_trial.start_process,
        (str(study.folder / 'log.txt'), int(threads)),
    )
    running: dict[Future, Trial] = {}
    failed: dict[Path, str] = {}
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task('trials', total=study.total)
        try:
            while True:
                taken = {trial.path for trial in running.values()} | set(failed)
                left = (t for t in study.plan() if not t.done and t.path not in taken)
                while len(running) < jobs and time.monotonic() < end:
                    trial = next(left, None)
                    if trial is None or len({path.parent for path in failed}) >= MOST_FAILURES:
                        break
                    # While it is tried again it has not failed: pairs wait for it.
                    trial.note.unlink(missing_ok=True)
                    what = trial.arm.chain, trial.seed, trial.left_out, study.streams
                    future = pool.submit(study_trial.run_trial, study.cfg.to_dict(), *what)
                    running[future] = trial
                    bar.update(task, description=f'{trial.arm.name}, seed {trial.seed}')
                bar.update(task, completed=sum(trial.done for trial in study.plan()))
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    trial = running.pop(future)
                    try:
                        outcome = future.result()
                    except BrokenProcessPool as error:
                        raise RuntimeError(
                            f'a process ended by itself (is there enough memory for {jobs} jobs?); '
                            f'what it printed is in {study.folder / "log.txt"}'
                        ) from error
                    except Exception as error:
                        failed[trial.path] = f'{type(error).__name__}: {error}'
                        write_whole(trial.note, failed[trial.path])
                        bar.print(f'failed: {trial.arm.name}, seed {trial.seed}', style='red')
                        continue
                    outcome.update(settings=study.settings, name=trial.arm.name)
                    write_whole(trial.path, json.dumps(outcome) + '\n')
            return failed
        except BaseException:
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _digest(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
