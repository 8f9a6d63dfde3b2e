"""Probe a pre-trained model, on its own data or others: load it, take features, run every probe."""

import copy
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from mg_plugins.contrast import probes
from mg_plugins.contrast.losses import ContrastError, effective_rank
from mg_plugins.contrast.mm.hooks import loader_of
from mg_plugins.contrast.probes import Features, extract_features
from mg_plugins.data.annotations import load_annotations
from mg_plugins.data.classes import draw_labelled
from mg_plugins.data.layouts import get_layout, usual_coordinates
from mg_plugins.data.mm.transforms import MGRelayout
from mg_plugins.errors import UserError
from mg_plugins.experiments.plan import refuse_unknown
from mg_plugins.experiments.training import encoder_weights, finetune
from mg_plugins.files import read_json, replacing, write_json
from mg_plugins.openmmlab.launch import build_model
from mg_plugins.openmmlab.settings import Config, ConfigDict
from mg_plugins.openmmlab.weights import inside, weights_in

PROBES = ('knn', 'linear', 'retrieval', 'semi')
#: Probes that train the model itself, from its checkpoint and from scratch.
TRAINED = ('finetune', 'scratch')
SHARES = (0.01, 0.05, 0.1)


def load_model(cfg: Config, checkpoint: str | os.PathLike) -> nn.Module:
    """The model of a config with a checkpoint's weights, in evaluation mode; encoders must fit."""
    model = build_model(cfg)
    given, own = weights_in(checkpoint), model.state_dict()
    encoder_weights(own, given, checkpoint)
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    return model


def checkpoint_in(path: str | os.PathLike) -> Path:
    """A checkpoint's file: as given, or the last one of a run's folder."""
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
    """The one config that a run left in its work directory."""
    found = sorted(Path(checkpoint).resolve().parent.glob('*.py'))
    if len(found) != 1:
        raise ContrastError(
            f'{len(found)} configs lie beside {checkpoint}, one was expected: give --config'
        )
    return found[0]


def with_data(
    cfg: Config,
    ann_file: str | os.PathLike,
    splits: Sequence[str] | None = None,
    layout: str | Mapping | None = None,
) -> Config:
    """A config over other data: the same pipeline, over joints brought to the config's layout.

    ``splits`` to fit on and to test on are by default those of the config, ``layout`` the one that
    the file names. Where its joints are others, `MGRelayout` comes before ``MGNormalize``; layouts
    that have nothing in common, one in space and one in pictures, are a UserError.
    """
    cfg = copy.deepcopy(cfg)
    pipeline = cfg.test_dataloader.dataset.pipeline
    steps = [n for n, step in enumerate(pipeline) if step['type'].endswith('MGNormalize')]
    if len(steps) != 1:
        raise ContrastError(
            f'the test pipeline of {cfg.filename} has {len(steps)} steps MGNormalize, one was '
            'expected: other data is brought to its layout just before'
        )
    other = load_annotations(ann_file)
    named = layout or other['meta'].get('layout')
    wanted = pipeline[steps[0]]['layout']
    sets = [inside(cfg[f'{part}_dataloader'].dataset) for part in ('train', 'test')]
    if named is not None and get_layout(named).joints != get_layout(wanted).joints:
        # What the model was shown: by its own data, or by what the layout usually has.
        path = Path(sets[0].get('data_root') or '') / sets[0].ann_file
        coordinates = usual_coordinates(get_layout(wanted))
        if path.exists():
            coordinates = int(load_annotations(path)['annotations'][0]['keypoint'].shape[-1])
        step = dict(source=named, target=wanted, coordinates=coordinates)
        MGRelayout(**step)(dict(other['annotations'][0]))  # what does not fit is refused now
        pipeline.insert(steps[0], ConfigDict(step, type='MGRelayout'))
    for dataset, split in zip(sets, splits or (None, None), strict=True):
        # Subjects and shares were chosen for the config's own data.
        for key in ('subjects', 'exclude_subjects', 'share', 'share_seed', 'data_root'):
            dataset.pop(key, None)
        dataset.update(ann_file=str(ann_file))
        if named is not None:
            dataset.layout = named
        if split is not None:
            dataset.split = split
    return cfg


@dataclass(frozen=True)
class Report:
    """What the probes found of one stream, over the features of the test clips."""

    scores: dict[str, np.ndarray]  # by measure one in [0, 1] for each test clip (N,)
    test: Features

    @property
    def figures(self) -> dict[str, float]:
        """Name of a measure to its mean."""
        return {name: float(values.mean()) for name, values in self.scores.items()}


def probe_scores(
    train: Features,
    test: Features,
    names: Sequence[str] = PROBES,
    shares: Sequence[float] = SHARES,
    draws: int = 5,
    neighbours: int = 20,
) -> dict[str, np.ndarray]:
    """By measure the score of each test clip (N,), in [0, 1]; all is fitted on training clips.

    ``knn`` and ``linear`` say whether a clip's class was named, ``linear_10%`` (one a share of
    ``'semi'``) in which part of the draws 0, 1, … of labelled clips, ``mAP``, ``R1`` and ``R5`` are
    those of ``'retrieval'``. ``rank`` needs no labels: of all test clips together, the effective
    rank of their features as a share of the greatest possible (RankMe, Garrido et al., ICML 2023).
    """
    guesses = {}
    if 'knn' in names:
        guesses['knn'] = [probes.knn_probe(train, test, neighbours)]
    if 'linear' in names:
        guesses['linear'] = [probes.linear_probe(train, test)]
    for share in shares if 'semi' in names else ():
        few = [train.of(draw_labelled(train.labels, train.clips, share, s)) for s in range(draws)]
        guesses[f'linear_{share:.0%}'] = [probes.linear_probe(part, test) for part in few]
    found = {k: np.mean([guess == test.labels for guess in many], 0) for k, many in guesses.items()}
    if 'rank' in names:
        most = max(min(len(test) - 1, test.vectors.shape[1]), 1)
        found['rank'] = np.full(len(test), effective_rank(torch.from_numpy(test.vectors)) / most)
    return found | (probes.retrieval_by_clip(train, test) if 'retrieval' in names else {})


def run_probes(train: Features, test: Features, names: Sequence[str] = PROBES, **options) -> Report:
    """Run `PROBES` on one stream's features, with options of `probe_scores`."""
    refuse_unknown('probe', names, PROBES, ContrastError)
    if probes.is_collapsed(train.vectors):
        raise ContrastError(
            'the features have collapsed: all clips have the same, and no probe can tell them '
            'apart. Look at contrast/std in the log of the training'
        )
    return Report(probe_scores(train, test, names, **options), test)


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

    Gives the training features and the report by stream, and what was probed on.

    Args:
        cfg: Config of the checkpoint, or of the same model over other data (`with_data`).
        checkpoint: File.
        names: Of `PROBES` and `TRAINED`, which train the whole model for every share and draw.
        streams: By default all; for probes that train the last one, fused where there is one.
        progress: Show bars.
        work_dir: Folder for the logs of probes that train.
        training: Options of `finetune`, such as ``steps`` and ``lr``.
        shares, draws, neighbours: As for `probe_scores`; the first two hold for probes that train.
    """
    refuse_unknown('probe', names, (*PROBES, *TRAINED), ContrastError)
    model = load_model(cfg, checkpoint)
    about = dict(checkpoint=str(checkpoint), config=str(cfg.filename))
    taken = {}
    for part in ('train', 'test'):
        loader = loader_of(cfg, part)
        taken[part] = extract_features(model, loader, f'features, {part}' if progress else None)
        about[f'{part}_clips'] = len(loader.dataset)
        meta = loader.dataset.metainfo
        about.update(classes=meta.get('classes'), source=meta.get('source', ''))
    present = list(taken['train'])
    refuse_unknown('stream', streams or (), present, ContrastError)
    options = dict(shares=shares, draws=draws, neighbours=neighbours)
    frozen = [name for name in names if name in PROBES]
    found = {}
    for stream in streams or present:
        train, test = taken['train'][stream], taken['test'][stream]
        found[stream] = train, run_probes(train, test, frozen, **options)
    trained = [name for name in names if name in TRAINED]
    if trained:
        about['finetune'] = dict(training or {})
    runs = list(product(streams or present[-1:], trained, shares, range(draws)))
    if progress and runs:
        runs = track(runs, 'trainings', console=Console(stderr=True))
    right: dict[tuple[str, str], list[np.ndarray]] = {}
    for stream, name, share, seed in runs:
        measure = f'{name}_{share:.0%}'
        options = dict(training or {}, stream=stream, share=share, seed=seed)
        start = checkpoint if name == 'finetune' else None
        said = finetune(cfg, start, work_dir=Path(work_dir, stream, measure, f's{seed}'), **options)
        right.setdefault((stream, measure), []).append(said.correct)
    for (stream, measure), many in right.items():
        found[stream][1].scores[measure] = np.mean(many, 0)
    return found, about


def write_probes(
    folder: Path, found: Mapping[str, tuple[Features, Report]], about: Mapping
) -> None:
    """Write ``probes.json``, ``features.npz`` (by stream) and a picture of each stream's features.

    ``about`` is what ``probes.json`` begins with; ``classes`` names the colours. Figures that are
    there already, of the same checkpoint on the same clips, stay.
    """
    arrays, figures = {}, {}
    with suppress(UserError):
        known = read_json(folder / 'probes.json')
        if all(known.get(key) == about[key] for key in ('checkpoint', 'train_clips', 'test_clips')):
            figures = known.get('probes', {})
    for stream, (train, report) in found.items():
        for part, features in (('train', train), ('test', report.test)):
            arrays[f'{stream}_{part}'] = features.vectors
            for key in ('labels', 'clips', 'subjects'):
                arrays[f'{key}_{part}'] = getattr(features, key)
        if len(report.test) >= 5:
            probes.draw_features(folder / f'{stream}.png', report.test, about.get('classes'))
        figures[stream] = figures.get(stream, {}) | report.figures
    with replacing(folder / 'features.npz') as temporary:
        np.savez_compressed(temporary, **arrays)
    write_json(folder / 'probes.json', {**about, 'probes': figures})
