"""Train several configs with several seeds, resumably, and compare them clip by clip.

Every run is one ``tools/train.py`` process whose last checkpoint is tested. Runs whose report is
there are not repeated, so that the same command goes on after a kill.
"""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.config import Config

TRAIN = Path(__file__).resolve().parents[2] / 'tools' / 'train.py'


@dataclass(frozen=True)
class Variant:
    """One side of a comparison: a config with settings of its own.

    Attributes:
        name: How tables and pictures call it.
        config: Config path.
        options: ``KEY=VALUE`` settings, as for ``--cfg-options``.
    """

    name: str
    config: str
    options: tuple[str, ...] = field(default=())

    @classmethod
    def parse(cls, text: str) -> 'Variant':
        """Read ``[NAME=]CONFIG[;KEY=VALUE…]``; the config's stem is the name by default.

        Raises:
            ValueError: If a setting has no ``=``.
        """
        head, *options = (part.strip() for part in text.split(';'))
        name, _, config = head.rpartition('=')
        for option in options:
            if '=' not in option:
                raise ValueError(f'{text!r}: a setting must be KEY=VALUE, got {option!r}')
        return cls(name.strip() or Path(config).stem, config.strip(), tuple(options))

    @property
    def folder(self) -> str:
        """The name as a folder."""
        return re.sub(r'[^\w.-]+', '_', self.name)


@dataclass(frozen=True)
class Run:
    """One training: a variant, a seed, and the training subjects that are left out to test on.

    Attributes:
        left_out: Subjects taken from the training split and tested instead of the test split; none
            for the final comparison on the test split.
    """

    variant: Variant
    seed: int
    left_out: tuple[str, ...]
    folder: Path

    @property
    def report(self) -> Path:
        """Folder of the run's report; its ``per_class.png`` is written last."""
        return self.folder / 'test'

    @property
    def done(self) -> bool:
        """Whether the run's report is whole."""
        return (self.report / 'per_class.png').is_file()

    def command(self, extra: Sequence[str], options: Sequence[str]) -> list[str]:
        """The process to start; goes on from a checkpoint that a killed run has left."""
        settings = ['default_hooks.checkpoint.max_keep_ckpts=2', *self.variant.options, *options]
        if self.left_out:
            out = ','.join(self.left_out)
            settings += [
                f'train_dataloader.dataset.exclude_subjects=[{out},]',
                f'test_dataloader.dataset.subjects=[{out},]',
                'test_dataloader.dataset.split=xsub_train',
            ]
        resume = ['--resume'] if (self.folder / 'last_checkpoint').is_file() else []
        fixed = ['--seed', str(self.seed), '--work-dir', str(self.folder), '--no-validate']
        return [
            *(sys.executable, str(TRAIN), self.variant.config, *fixed, *resume, *extra),
            *('--require-data', '--cfg-options', *settings),
        ]


def settle(run: Run, extra: Sequence[str], options: Sequence[str]) -> None:
    """Note in a run's folder what it is a run of, or check that it is the same as what is there.

    Raises:
        RuntimeError: If the folder holds a run of another config or with other settings.
    """
    from mg_plugins.openmmlab.launch import config_path

    path = config_path(run.variant.config)
    lines = [*run.variant.options, *extra, *options, *run.left_out]
    content = Config.fromfile(path).pretty_text
    what = dict(settings=lines, config=hashlib.sha256(content.encode()).hexdigest())
    note = run.folder / 'run.json'
    if note.is_file() and json.loads(note.read_text()) != what:
        raise RuntimeError(
            f'{run.folder} holds a run of another version of {run.variant.config}, or with other '
            'settings: choose another --out, or remove that folder to run it again'
        )
    run.folder.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(what))


def plan(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    left_out: Sequence[tuple[str, ...]],
    folder: Path,
) -> list[Run]:
    """All runs; the variants of one seed and fold stand together, so that halves compare fairly."""
    folds = list(left_out) or [()]
    return [
        Run(
            variant,
            seed,
            fold,
            folder
            / variant.folder
            / ('without_' + '_'.join(fold) if fold else 'test')
            / f's{seed}',
        )
        for seed in seeds
        for fold in folds
        for variant in variants
    ]


def execute(
    runs: Sequence[Run], jobs: int, extra: Sequence[str] = (), options: Sequence[str] = ()
) -> None:
    """Start what is not done yet, ``jobs`` at a time, sharing the processors evenly.

    Raises:
        RuntimeError: If a run fails, the message ends with what it printed last; or if a folder
            holds another run.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    for run in runs:
        settle(run, extra, options)
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    environment = os.environ | {'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads)}
    waiting = [run for run in runs if not run.done]
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn()) as bar, ThreadPoolExecutor(jobs) as pool:
        task = bar.add_task('runs', total=len(runs), completed=len(runs) - len(waiting))

        def one(run: Run) -> None:
            log = run.folder / 'output.txt'
            with log.open('w') as file:
                code = subprocess.run(
                    run.command(extra, options), stdout=file, stderr=file, env=environment
                ).returncode
            if code or not run.done:
                end = '\n'.join(log.read_text(errors='replace').splitlines()[-12:])
                raise RuntimeError(f'{run.folder} failed with exit code {code}:\n{end}')
            bar.advance(task)

        futures = [pool.submit(one, run) for run in waiting]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def read_run(run: Run) -> dict:
    """Outcome of a finished run: correct or not for each clip, its subject, sizes and times."""
    with (run.report / 'predictions.csv').open(newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    times = []
    for log in sorted(run.folder.glob('*/vis_data/scalars.json')):
        entries = (json.loads(line) for line in log.read_text().splitlines())
        # The first entries carry warm-up; what the data took is not the model's.
        times += [e['time'] - e['data_time'] for e in entries if 'loss' in str(e) and 'time' in e][
            1:
        ]
    return dict(
        correct=np.array([r['label'] == r['predicted'] for r in rows]),
        clips=[r['frame_dir'] for r in rows],
        subjects=np.array([r['subject'] for r in rows]),
        step=float(np.median(times)) if times else float('nan'),
    )


def table_of(runs: Sequence[Run]) -> dict[str, dict]:
    """Per variant: ``right`` (seeds, subjects) correct clips, ``clips`` (subjects,) and step times.

    Raises:
        ValueError: If a variant's runs did not test the same clips as the first variant's.
    """
    tables: dict[str, dict] = {}
    names = list(dict.fromkeys(run.variant.name for run in runs))
    reference = None
    for name in names:
        own = [run for run in runs if run.variant.name == name]
        seeds = sorted({run.seed for run in own})
        right, steps = [], []
        for seed in seeds:
            results = [read_run(run) for run in own if run.seed == seed]
            subjects = np.concatenate([r['subjects'] for r in results])
            correct = np.concatenate([r['correct'] for r in results])
            clips = sorted(sum((r['clips'] for r in results), []))
            if reference is None:
                reference, who = clips, sorted(set(subjects))
                counts = np.array([(subjects == s).sum() for s in who])
            if clips != reference:
                raise ValueError(f'{name}, seed {seed} was tested on other clips than the rest')
            right.append([correct[subjects == s].sum() for s in who])
            steps += [r['step'] for r in results]
        tables[name] = dict(
            right=np.array(right), clips=counts, subjects=who, seeds=seeds, steps=steps
        )
    return tables


def bootstrap_difference(
    first: np.ndarray, second: np.ndarray, clips: np.ndarray, draws: int = 20_000, seed: int = 0
) -> np.ndarray:
    """Bootstrap of ``accuracy(second) − accuracy(first)`` over subjects and seeds.

    Subjects are drawn with replacement, the same for both sides, and seeds with replacement for
    each side by itself (a seed has no meaning across two models).

    Args:
        first: Correct clips (seeds, subjects).
        second: Correct clips (seeds, subjects) of the other side.
        clips: Clips of each subject (subjects,).
        draws: Number of bootstrap draws.
        seed: Seed of the draws.

    Returns:
        Differences in points of 100 (draws,).
    """
    rng = np.random.default_rng(seed)
    subjects = rng.integers(len(clips), size=(draws, len(clips)))
    total = clips[subjects].sum(1)

    def accuracy(right: np.ndarray) -> np.ndarray:
        weights = rng.multinomial(len(right), np.full(len(right), 1 / len(right)), size=draws)
        by_subject = weights @ right / len(right)
        return np.take_along_axis(by_subject, subjects, 1).sum(1) / total

    return 100 * (accuracy(second) - accuracy(first))


def summarise(runs: Sequence[Run]) -> list[dict]:
    """One row a variant: accuracies, and the difference to the first variant with its interval."""
    tables = table_of(runs)
    base = next(iter(tables.values()))
    rows = []
    for name, table in tables.items():
        accuracy = 100 * table['right'].sum(1) / table['clips'].sum()
        row = dict(
            name=name,
            seeds=len(accuracy),
            clips=int(table['clips'].sum()),
            accuracies=[round(float(a), 2) for a in accuracy],
            mean=float(accuracy.mean()),
            deviation=float(accuracy.std(ddof=1)) if len(accuracy) > 1 else None,
            step_ms=1000 * float(np.median(table['steps'])),
            by_subject={
                s: round(float(100 * r / n), 1)
                for s, r, n in zip(
                    table['subjects'], table['right'].mean(0), table['clips'], strict=True
                )
            },
        )
        if table is not base:
            draws = bootstrap_difference(base['right'], table['right'], table['clips'])
            low, high = np.percentile(draws, [2.5, 97.5])
            difference = row['mean'] - rows[0]['mean']
            row.update(difference=float(difference), low=float(low), high=float(high))
        rows.append(row)
    return rows


def markdown(rows: Sequence[dict]) -> str:
    """The summary as a Markdown table; differences are to the first row."""
    lines = [
        '| variant | top-1, mean ± deviation | difference, 95% interval | step |',
        '| --- | --- | --- | --- |',
    ]
    for row in rows:
        gap = '–'
        if 'difference' in row:
            gap = f'{row["difference"]:+.2f} [{row["low"]:+.2f}, {row["high"]:+.2f}]'
        accuracy = f'{row["mean"]:.2f}'
        if row['deviation'] is not None:
            accuracy += f' ± {row["deviation"]:.2f}'
        # A run of a single logged interval has no step time after warm-up.
        step = '–' if np.isnan(row['step_ms']) else f'{row["step_ms"]:.0f} ms'
        lines.append(f'| {row["name"]} | {accuracy} | {gap} | {step} |')
    return '\n'.join(lines) + '\n'


def draw(rows: Sequence[dict], path: Path, title: str) -> None:
    """Plot each variant's seeds and mean, and the differences to the first with their intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.4 + 0.45 * len(rows)), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    for at, row in enumerate(rows):
        left.plot(row['accuracies'], [at] * len(row['accuracies']), 'o', color='#88aacc', alpha=0.7)
        left.plot(row['mean'], at, '|', color='#223355', markersize=18, markeredgewidth=2)
        if 'difference' in row:
            right.plot([row['low'], row['high']], [at, at], color='#cc6644', linewidth=2)
            right.plot(row['difference'], at, 'o', color='#882211')
    right.axvline(0, color='#999999', linewidth=1)
    left.set_yticks(range(len(rows)), [row['name'] for row in rows])
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set(xlabel='top-1 (%), a dot a seed', title=title)
    right.set(xlabel=f'difference to {rows[0]["name"]} (points), 95% interval')
    figure.savefig(path, dpi=130)
