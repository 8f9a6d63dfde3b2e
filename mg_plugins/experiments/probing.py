"""Probe a pre-trained model: build what its checkpoint needs, take features, run every probe."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from mg_plugins.contrast import probes
from mg_plugins.contrast.extract import extract_features
from mg_plugins.contrast.mm.loaders import loader_of
from mg_plugins.contrast.probes import Features
from mg_plugins.contrast.queue import ContrastError
from mg_plugins.data.labelled import draw_labelled
from mg_plugins.errors import UserError
from mg_plugins.experiments.finetuning import TRAINED, check_encoders, train_on_shares
from mg_plugins.files import read_json, replacing, write_json

PROBES = ('knn', 'linear', 'retrieval', 'semi')
SHARES = (0.01, 0.05, 0.1)


def load_model(cfg: Config, checkpoint: str | os.PathLike) -> nn.Module:
    """The model of a config with a checkpoint's weights, in evaluation mode.

    Raises:
        ContrastError: A weight of the encoders is missing in the checkpoint, or does not fit.
    """
    init_default_scope('mmaction')
    model = MODELS.build(copy.deepcopy(cfg.model))
    content = load_checkpoint(model, str(checkpoint), map_location='cpu', strict=False)
    check_encoders(model.state_dict(), content.get('state_dict', content), checkpoint)
    return model.eval()


def checkpoint_in(path: str | os.PathLike) -> Path:
    """A checkpoint's file: as given, or the last one of a run's folder.

    Raises:
        ContrastError: There is none.
    """
    path = Path(path)
    note = path / 'last_checkpoint'
    if note.is_file():
        # The folder may have been moved since.
        return path / Path(note.read_text().strip()).name
    if not path.is_file():
        near = path if path.is_dir() else path.parent
        there = ', '.join(sorted(p.name for p in near.glob('*.pth'))) or 'no checkpoint'
        raise ContrastError(f'there is no checkpoint {path}; in {near} there is {there}')
    return path


def config_beside(checkpoint: str | os.PathLike) -> Path:
    """The config that a run left in its work directory.

    Raises:
        ContrastError: There is none, or more than one.
    """
    folder = Path(checkpoint).resolve().parent
    found = sorted(folder.glob('*.py'))
    if len(found) != 1:
        raise ContrastError(
            f'{len(found)} configs lie beside {checkpoint}, one was expected: give --config'
        )
    return found[0]


@dataclass(frozen=True)
class Report:
    """What the probes found.

    Attributes:
        figures: Name of a probe to its figure, a share in [0, 1].
        correct: Name of a classifying probe to whether each test clip was right (N,), in the
            order of ``test``.
        test: The test clips' features.
    """

    figures: dict[str, float]
    correct: dict[str, np.ndarray]
    test: Features


def run_probes(
    train: Features,
    test: Features,
    names: Sequence[str] = PROBES,
    shares: Sequence[float] = SHARES,
    draws: int = 5,
    neighbours: int = 20,
) -> Report:
    """Run probes on one stream's features.

    Args:
        train: Features of training clips; all that is fitted is fitted on them.
        test: Features of test clips.
        names: Of `PROBES`.
        shares: Shares of labels of ``'semi'``, a linear probe on few clips.
        draws: Draws of labelled clips, whose mean counts; the seeds are 0, 1, …
        neighbours: Of the kNN probe.

    Raises:
        ContrastError: There is no such probe, or the features have collapsed.
    """
    unknown = [name for name in names if name not in PROBES]
    if unknown:
        raise ContrastError(f'there is no probe {unknown[0]!r}; known are {", ".join(PROBES)}')
    if probes.is_collapsed(train.vectors):
        raise ContrastError(
            'the features have collapsed: all clips have the same, and no probe can tell them '
            'apart. Look at contrast/std in the log of the training'
        )
    guesses: dict[str, list[np.ndarray]] = {}
    if 'knn' in names:
        guesses['knn'] = [probes.knn_probe(train, test, neighbours)]
    if 'linear' in names:
        guesses['linear'] = [probes.linear_probe(train, test)]
    for share in shares if 'semi' in names else ():
        few = [train.of(draw_labelled(train.labels, train.clips, share, s)) for s in range(draws)]
        guesses[f'linear_{share:.0%}'] = [probes.linear_probe(part, test) for part in few]
    right = {
        name: np.mean([guess == test.labels for guess in many], 0) for name, many in guesses.items()
    }
    figures = {name: float(share.mean()) for name, share in right.items()}
    if 'retrieval' in names:
        figures.update(probes.retrieval(train, test))
    return Report(figures, right, test)


def probe_checkpoint(
    cfg: Config,
    checkpoint: str | os.PathLike,
    names: Sequence[str] = PROBES,
    streams: Sequence[str] | None = None,
    progress: bool = False,
    work_dir: str | os.PathLike = 'work_dirs/finetune',
    training: Mapping | None = None,
    shares: Sequence[float] = SHARES,
    draws: int = 5,
    neighbours: int = 20,
) -> tuple[dict[str, tuple[Features, Report]], dict]:
    """Take features of a checkpoint and probe every stream.

    Args:
        cfg: Config of the checkpoint, or of the same model over other data (`transfer.with_data`).
        checkpoint: File.
        names: Of `PROBES` and `finetune.TRAINED`, which train the whole model for every share and
            draw.
        streams: Those to probe. None takes all, and the last one, the fused where there is one,
            for probes that train.
        progress: Show bars.
        work_dir: Folder for the logs of probes that train.
        training: Options of `finetune.finetune`, such as ``steps`` and ``lr``.
        shares: Shares of labels of ``'semi'`` and of probes that train.
        draws: Draws of labelled clips, whose mean counts; the seeds are 0, 1, …
        neighbours: Of the kNN probe.

    Returns:
        By stream the training features and the report; and what was probed on.

    Raises:
        ContrastError: As its parts do, or a stream that the model does not have.
    """
    unknown = [name for name in names if name not in (*PROBES, *TRAINED)]
    if unknown:
        known = ', '.join((*PROBES, *TRAINED))
        raise ContrastError(f'there is no probe {unknown[0]!r}; known are {known}')
    model = load_model(cfg, checkpoint)
    about = dict(checkpoint=str(checkpoint), config=str(cfg.filename))
    taken = {}
    for part in ('train', 'test'):
        loader = loader_of(cfg, part)
        taken[part] = extract_features(model, loader, f'features, {part}' if progress else None)
        about[f'{part}_clips'] = len(loader.dataset)
        about.update(
            classes=loader.dataset.metainfo.get('classes'),
            source=loader.dataset.metainfo.get('source', ''),
        )
    present = list(taken['train'])
    unknown = [name for name in streams or () if name not in present]
    if unknown:
        raise ContrastError(f'the model has no stream {unknown[0]!r}; it has {", ".join(present)}')
    frozen = [name for name in names if name in PROBES]
    found = {}
    for stream in streams or present:
        train, test = taken['train'][stream], taken['test'][stream]
        report = run_probes(train, test, frozen, shares, draws, neighbours)
        found[stream] = (train, report)
    trained = [name for name in names if name in TRAINED]
    if trained:
        about['finetune'] = dict(training or {})
    for stream in (streams or present[-1:]) if trained else ():
        report = found[stream][1]
        folder = Path(work_dir) / stream
        options = dict(training or {}, stream=stream, progress=progress)
        for name, many in train_on_shares(
            cfg, checkpoint, trained, shares, draws, folder, **options
        ).items():
            report.correct[name] = np.mean([run.correct for run in many], 0)
            report.figures[name] = float(report.correct[name].mean())
    return found, about


def write_probes(
    folder: Path, found: Mapping[str, tuple[Features, Report]], about: Mapping
) -> None:
    """Write ``probes.json``, ``features.npz`` (by stream) and a picture of each stream's features.

    Args:
        folder: Made if it is not there.
        found: What `probe_checkpoint` returned.
        about: What ``probes.json`` begins with; ``classes`` names the colours. Figures that are
            there already, of the same checkpoint on the same clips, stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for stream, (train, report) in found.items():
        for part, features in (('train', train), ('test', report.test)):
            arrays[f'{stream}_{part}'] = features.vectors
            arrays.update(
                {f'labels_{part}': features.labels, f'clips_{part}': features.clips},
                **{f'subjects_{part}': features.subjects},
            )
        if len(report.test) >= 5:
            probes.draw_features(folder / f'{stream}.png', report.test, about.get('classes'))
    with replacing(folder / 'features.npz') as temporary:
        np.savez_compressed(temporary, **arrays)
    figures = _known_figures(folder / 'probes.json', about)
    for stream, (_, report) in found.items():
        figures[stream] = figures.get(stream, {}) | report.figures
    write_json(folder / 'probes.json', {**about, 'probes': figures})


def _known_figures(path: Path, about: Mapping) -> dict[str, dict[str, float]]:
    """Figures by stream that an earlier probe of the same checkpoint and clips has left."""
    try:
        known = read_json(path)
    except UserError:
        return {}
    same = all(known.get(k) == about[k] for k in ('checkpoint', 'train_clips', 'test_clips'))
    return known.get('probes', {}) if same else {}
