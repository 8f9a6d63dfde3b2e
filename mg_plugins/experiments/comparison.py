"""Compare ways of pre-training over seeds, resumably: each is pre-trained, probed and fine-tuned.

Every pre-training is one ``tools/train.py`` process that goes on from its last checkpoint after a
kill; what its features are worth is one ``outcome.json`` in its folder, and what is there is not
done again.
"""

from __future__ import annotations

import copy
import fcntl
import hashlib
import json
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config, DictAction

from mg_plugins.augment.chain import build_steps
from mg_plugins.contrast.queue import ContrastError
from mg_plugins.data.labelled import draw_labelled
from mg_plugins.experiments.compare import TRAIN
from mg_plugins.experiments.comparison_arms import Arm

#: Share of the labels in the probes with few labels.
SHARE = 0.1


@dataclass(frozen=True)
class Unit:
    """One pre-training: an arm, a seed, and the training subjects left out to test on."""

    arm: Arm
    seed: int
    left_out: tuple[str, ...]
    folder: Path

    @property
    def outcome(self) -> Path:
        """File that is there when all is done."""
        return self.folder / 'outcome.json'

    def config(self) -> Config:
        """The arm's config with its settings."""
        cfg = Config.fromfile(self.arm.config)
        pairs = [text.split('=', 1) for text in self.arm.settings(self.left_out)]
        cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in pairs})
        return cfg


def plan(
    arms: Sequence[Arm], seeds: Sequence[int], left_out: Sequence[tuple[str, ...]], folder: Path
) -> list[Unit]:
    """All units, seed by seed, so that what is done at any time compares fairly."""
    return [
        Unit(
            arm,
            seed,
            fold,
            folder / arm.folder / ('without_' + '_'.join(fold) if fold else 'test') / f's{seed}',
        )
        for seed in seeds
        for fold in list(left_out) or [()]
        for arm in arms
    ]


@dataclass(frozen=True)
class Tuning:
    """How units are run, the same for all.

    Attributes:
        amp: Pre-train and fine-tune in mixed precision.
        steps: Length of fine-tuning; 0 leaves it out.
        lr: Learning rate of fine-tuning.
        backbone_lr_mult: Learning rate of pre-trained encoders as a share of ``lr``.
        full: Fine-tune with all labels too, the arms that start from nothing.
    """

    amp: bool = False
    steps: int = 200
    lr: float = 1e-3
    backbone_lr_mult: float = 1.0
    full: bool = True

    def __post_init__(self) -> None:
        rates = (self.lr, self.backbone_lr_mult)
        if self.steps < 0 or not all(math.isfinite(rate) and rate > 0 for rate in rates):
            raise ContrastError(
                'fine-tuning needs steps of at least 0 and learning rates above 0, got steps='
                f'{self.steps}, lr={self.lr}, backbone_lr_mult={self.backbone_lr_mult}'
            )


def settle(unit: Unit, amp: bool) -> None:
    """Note in a unit's folder what is pre-trained, or check that it is what is there.

    Raises:
        ContrastError: The folder holds a unit of another config, or with other augmentations, data
            or precision.
    """
    cfg = unit.config()
    # A recipe is only named in the config, and data too.
    views = cfg.model.get('data_preprocessor', {}).get('views') or ()
    steps = [[dict(type=step.name, **asdict(step)) for step in build_steps(v)] for v in views]
    data = Path(cfg.train_dataloader.dataset.ann_file)
    size = data.stat().st_size if data.is_file() else None
    content = json.dumps([cfg.pretty_text, steps, size, amp, unit.arm.start])
    what = dict(arm=unit.arm.name, settings=hashlib.sha256(content.encode()).hexdigest())
    note = unit.folder / 'unit.json'
    if note.is_file() and read_json(note) != what:
        raise ContrastError(
            f'{unit.folder} holds a run of another version of {unit.arm.config}, or with other '
            'augmentations, data or settings: choose another --out, or remove that folder to run '
            'it again'
        )
    unit.folder.mkdir(parents=True, exist_ok=True)
    write_json(note, what)


def is_done(unit: Unit, tuning: Tuning) -> bool:
    """Whether a unit's outcome is there, with this fine-tuning."""
    return unit.outcome.is_file() and read_json(unit.outcome)['tuning'] == asdict(tuning)


def read_json(path: Path) -> dict:
    """A file of `write_json`.

    Raises:
        ContrastError: It is damaged.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ContrastError(f'{path} is damaged ({error}): remove it and run again') from error


def write_json(path: Path, content: object) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporary.write_text(json.dumps(content) + '\n', encoding='utf-8')
    os.replace(temporary, path)


def execute(units: Sequence[Unit], tuning: Tuning, jobs: int) -> None:
    """Run what is not done yet, ``jobs`` at a time, sharing the processors evenly.

    An ``OMP_NUM_THREADS`` that is set already stays.

    Raises:
        ContrastError: A pre-training fails, with what it printed last; or a folder holds another.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    for unit in units:
        settle(unit, tuning.amp)
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    # MKL's own variable would win over it.
    os.environ['MKL_NUM_THREADS'] = os.environ.setdefault('OMP_NUM_THREADS', str(threads))
    waiting = [unit for unit in units if not is_done(unit, tuning)]
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()
    with (
        Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar,
        ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn'), end_with_parent) as pool,
    ):
        task = bar.add_task('runs', total=len(units), completed=len(units) - len(waiting))
        futures = [pool.submit(run, unit, tuning) for unit in waiting]
        try:
            for future in as_completed(futures):
                future.result()
                bar.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def end_with_parent() -> None:
    """Let this process end when the one that it serves is killed, so that it starts nothing more.

    A pre-training under way comes to its end by itself, and its folder stays locked so long.
    """

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def run(unit: Unit, tuning: Tuning) -> None:
    """Pre-train, probe and fine-tune one unit, and write its outcome.

    Raises:
        ContrastError: The pre-training fails, or another process is at work in the unit's folder.
    """
    start = time.monotonic()
    with (unit.folder / 'lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ContrastError(
                f'another process is at work in {unit.folder}, perhaps what a killed command has '
                'left running: wait for its end, or stop it'
            ) from None
        checkpoint = None
        if unit.arm.start != 'nothing':
            checkpoint = pretrain(unit, tuning.amp, lock.fileno())
        outcome = evaluate(unit, checkpoint, tuning)
    outcome.update(
        arm=unit.arm.name,
        seed=unit.seed,
        left_out=list(unit.left_out),
        tuning=asdict(tuning),
        minutes=round((time.monotonic() - start) / 60, 2),
    )
    write_json(unit.outcome, outcome)


def pretrain(unit: Unit, amp: bool, lock: int) -> Path:
    """Pre-train in a process of its own, from its last checkpoint on; returns the last one.

    The process inherits the lock of the folder, which lasts as long as anyone who has it.

    Raises:
        ContrastError: The process fails.
    """
    cfg = unit.config()
    settings = unit.arm.settings(unit.left_out)
    epochs = cfg.train_cfg.max_epochs
    if unit.arm.start == 'synthetic':
        extra, epochs = synthetic_settings(cfg)
        settings += extra
    last = unit.folder / f'epoch_{epochs}.pth'
    note = unit.folder / 'last_checkpoint'
    # The note is written after its checkpoint is whole.
    known = note.read_text().strip() if note.is_file() else ''
    if Path(known).name == last.name and last.is_file():
        return last
    if known and not Path(known).is_file():
        known = ''  # what it names was removed: begin anew
    command = [
        *(sys.executable, str(TRAIN), unit.arm.config, '--seed', str(unit.seed)),
        *('--work-dir', str(unit.folder), '--require-data', '--no-test'),
        *(['--resume'] if known else []),
        *(['--amp'] if amp else []),
        *('--cfg-options', 'default_hooks.checkpoint.interval=10', *settings),
    ]
    log = unit.folder / 'output.txt'
    with log.open('w') as file:
        process = subprocess.run(command, stdout=file, stderr=file, pass_fds=[lock])
    code = process.returncode
    if code or not last.is_file():
        end = '\n'.join(log.read_text(errors='replace').splitlines()[-12:])
        raise ContrastError(f'{unit.folder} failed with exit code {code}:\n{end}')
    return last


def synthetic_settings(cfg: Config) -> tuple[list[str], int]:
    """Settings that pre-train on the synthetic set in the config's layout, for as many steps.

    Returns:
        The settings, and the number of epochs.
    """
    from mg_plugins.data.annotations import load_annotations
    from mg_plugins.data.synthetic import ensure_synthetic
    from mg_plugins.openmmlab.synthetic_data import stand_in_options

    path = ensure_synthetic(**stand_in_options(cfg))

    def clips(file: str, split: str) -> int:
        return len(load_annotations(file)['split'][split])

    own = cfg.train_dataloader.dataset
    size = cfg.train_dataloader.batch_size
    steps = cfg.train_cfg.max_epochs * -(-clips(own.ann_file, own.split) // size)
    epochs = max(1, round(steps / -(-clips(str(path), 'xsub_train') // size)))
    return [
        f'train_dataloader.dataset.ann_file={path}',
        'train_dataloader.dataset.split=xsub_train',
        f'train_cfg.max_epochs={epochs}',
        f'param_scheduler.0.T_max={epochs}',
    ], epochs


def evaluate(unit: Unit, checkpoint: Path | None, tuning: Tuning) -> dict:
    """What a pre-training is worth for each test clip, by probe.

    Frozen features of every stream: ``knn``, ``linear``, ``linear_10%`` (mean of five draws),
    ``mAP``, ``R1`` and ``R5``, as in `probes`. Then ``finetune_10%``, with the labels drawn by the
    unit's seed: the same for every arm. Arms that start from nothing are trained with all labels
    too (``finetune_100%``).

    Returns:
        ``clips``, ``labels`` and ``subjects`` of the test clips, and ``scores``: by stream and
        probe the score of each test clip, in [0, 1].
    """
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope
    from mmengine.runner import set_random_seed

    from mg_plugins.contrast import probes
    from mg_plugins.contrast.extract import extract_features
    from mg_plugins.experiments.finetune import finetune
    from mg_plugins.experiments.probing import load_model, loader_of

    cfg = unit.config()
    init_default_scope('mmaction')
    if checkpoint is None:
        set_random_seed(unit.seed)
        model = MODELS.build(copy.deepcopy(cfg.model))
        model.init_weights()
        model.eval()
    else:
        model = load_model(cfg, checkpoint)
    train, test = (extract_features(model, loader_of(cfg, part)) for part in ('train', 'test'))
    scores: dict[str, dict[str, list[float]]] = {}

    def keep(stream: str, probe: str, values: np.ndarray) -> None:
        scores.setdefault(stream, {})[probe] = [round(float(value), 4) for value in values]

    for stream, known in train.items():
        asked = test[stream]
        keep(stream, 'knn', probes.knn_probe(known, asked) == asked.labels)
        keep(stream, 'linear', probes.linear_probe(known, asked) == asked.labels)
        draws = [draw_labelled(known.labels, known.clips, SHARE, seed) for seed in range(5)]
        few = [probes.linear_probe(known.of(draw), asked) == asked.labels for draw in draws]
        keep(stream, 'linear_10%', np.mean(few, 0))
        for probe, values in probes.retrieval_by_clip(known, asked).items():
            keep(stream, probe, values)
    main = model.main_stream
    first = test[main]
    shares = [SHARE, 1.0] if checkpoint is None and tuning.full else [SHARE]
    for share in shares if tuning.steps else ():
        predicted = finetune(
            cfg,
            checkpoint,
            work_dir=unit.folder / f'finetune_{share:.0%}',
            share=share,
            seed=unit.seed,
            steps=tuning.steps if share < 1 else tuning.steps * 3,
            lr=tuning.lr,
            backbone_lr_mult=tuning.backbone_lr_mult,
            amp=tuning.amp,
        )
        if list(predicted.clips) != list(first.clips):
            raise ContrastError(f'{unit.folder}: fine-tuning was tested on other clips')
        keep(main, f'finetune_{share:.0%}', predicted.correct)
    return dict(
        main=main,
        clips=[str(clip) for clip in first.clips],
        labels=[int(label) for label in first.labels],
        subjects=[str(subject) for subject in first.subjects],
        scores=scores,
    )
