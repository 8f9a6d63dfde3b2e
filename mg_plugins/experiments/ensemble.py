"""Streams fused by their scores, with weights from left-out training clips.

What streams s say of a clip is joined to ``p(y) ∝ exp Σ_s w_s log p_s(y)`` with w_s ≥ 0. The
weights have the least negative log-likelihood on training clips that the streams did not learn
from, those of some subjects where clips name them. Their ratios say how much a stream counts; their
sum says how sharp the probabilities are, as a temperature does (Guo et al., ICML 2017), so that
fused probabilities are calibrated. Test clips choose nothing.
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from mg_plugins.contrast.mm.hooks import loader_of
from mg_plugins.data.mm.dataset import dataset_labels
from mg_plugins.errors import UserError, counted
from mg_plugins.experiments import plan
from mg_plugins.experiments.augmentation import default_folds, training_subjects
from mg_plugins.experiments.report import Style, run, write_tables
from mg_plugins.experiments.runner import Plan
from mg_plugins.experiments.training import Predicted, fields_of
from mg_plugins.files import read_json, replacing
from mg_plugins.openmmlab.settings import Config, datasets_of, set_feature

#: Names of the rows that are not a stream, and what is added where heads were re-trained.
FUSED, EQUAL, RETRAINED = 'ensemble', 'equal weights', ', re-trained heads'


def fit_weights(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights (S,) of streams, from log-probabilities (S, N, K) of N clips and their classes (N,).

    The problem is convex. A stream that adds nothing gets 0; where all would, none are told apart
    and probabilities are nearly even.
    """
    told = scores[:, np.arange(len(labels)), labels].mean(1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        fused = fuse(scores, weights)
        likely = fused[np.arange(len(labels)), labels].mean()
        expected = np.einsum('nk,snk->s', np.exp(fused), scores) / len(labels)
        return -likely, expected - told

    start = np.full(len(scores), 1 / len(scores))
    weights = minimize(loss, start, jac=True, bounds=[(0, None)] * len(scores)).x
    return weights if weights.any() else start / 1000


def fuse(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fused log-probabilities (N, K) of log-probabilities (S, N, K) by weights (S,)."""
    return log_softmax(np.tensordot(weights, scores, 1), 1)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in [0, 1]: |accuracy − confidence|, averaged over bins of clips.

    Args:
        probabilities: (N, K).
        labels: Classes (N,).
        bins: Number of equal parts of the confidence's range (Guo et al., ICML 2017, section 2).
    """
    confidence = probabilities.max(1)
    gap = (probabilities.argmax(1) == labels) - confidence
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, gap, bins)).sum() / len(labels))


def train_streams(args: argparse.Namespace) -> int:
    """Train every stream of configs and fuse them; returns the exit status.

    Each is trained on all training clips, and without those to find weights on: by default those of
    a third of the subjects, or a third of each class where clips name no two. Where a config says
    ``retrain_head = True`` its heads learn anew afterwards. Data that is missing is replaced by the
    synthetic set.

    Args:
        args: Of ``tools/ensemble.py``.
    """
    plan.check_arguments(args)
    entries = {}
    for config in args.what:
        for stream in args.streams:
            name = stream if len(args.what) == 1 else f'{config.stem}_{stream}'
            entries[plan.Entry(name, str(config))] = stream

    def make(entry: plan.Entry, cfg: Config) -> dict:
        set_feature(cfg, entries[entry])
        steps = dict(retrain_head=True) if cfg.pop('retrain_head', False) else {}
        return dict(fields_of(entry, cfg, args.amp), options=steps)

    def report() -> str:
        done = sum(made.done(run) for run in made.runs())
        if done < made.total:
            return f'{done} of {counted(made.total, "runs are")} done'
        return write_ensemble({entry.name: args.out / entry.name for entry in entries}, args.out)

    if len(entries) < 2:
        raise UserError('an ensemble needs at least two streams: name more in --streams')
    cell = plan.cell_of(args, *entries, require_data=False)
    folds = plan.parse_folds(args.leave_out) or _default_folds(cell.config(cell.entries[0]))
    made = Plan(args.out, plan.plan_runs([cell], args.seeds, [*folds, ()], make), args.finished)
    return run(made, args, report)


def _default_folds(cfg: Config) -> Sequence[tuple[str, ...]]:
    subjects = training_subjects(cfg)
    if all(subjects) and len(subjects) > 1:
        return default_folds(list(subjects))[:1]
    # The labels that a share leaves are not known to whoever asked for the share.
    shared = any(d.get('share') for d in datasets_of(cfg.train_dataloader.dataset))
    labels = dataset_labels(loader_of(cfg, 'train').dataset)
    few = np.bincount(labels[labels >= 0]).max() < 3  # so that a third of a class is a clip
    return [] if shared or few else [plan.A_THIRD]


def name_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders of rows by name: their last one, or whole paths where these are alike.

    Raises:
        UserError: One is no folder, or comes twice.
    """
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise UserError(f'{missing[0]} is no folder of a row: give folders alone, or configs alone')
    alike = len({folder.resolve().name for folder in folders}) < len(folders)
    named = {str(f) if alike else f.resolve().name: f for f in folders}
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError('a row comes twice: ' + ', '.join(map(str, folders)))
    return named


def write_ensemble(streams: Mapping[str, Path], out: Path) -> str:
    """Fuse finished streams, write tables, picture and probabilities, and return the tables.

    Where all streams have re-trained heads (``retrained.npz``), these are fused too, as rows of
    their own. ``probabilities_s0.npz`` (a file a seed; of the re-trained heads where there are) has
    ``clips``, ``labels``, ``probabilities`` (N, K), ``streams`` and ``weights``. Without left-out
    clips all streams count alike.

    Args:
        streams: Folders of the rows of an experiment by name. Each holds ``test/s0/`` and, to find
            the weights, ``without_…/s0/``.
        out: Output folder.

    Raises:
        UserError: There are no two streams, no seed that all have, or they saw different clips.
    """
    if len(streams) < 2:
        raise UserError('an ensemble needs at least two streams')
    there = [{p.parent.name for p in f.glob('test/s*/scores.npz')} for f in streams.values()]
    if not (seeds := set.intersection(*there)):
        raise UserError(
            f'there is no seed of which all of {", ".join(map(str, streams.values()))} have '
            'test/s…/scores.npz: give folders of rows that tools/compare.py has tested'
        )
    seeds = sorted(seeds, key=lambda name: int(name[1:]))
    tested = [folder / 'test' / seed for folder in streams.values() for seed in seeds]
    heads = {'': 'scores.npz'}
    if all((run / 'retrained.npz').is_file() for run in tested):
        heads[RETRAINED] = 'retrained.npz'
    rows: dict[str, dict] = {}
    chosen, notes, fitted = np.zeros(len(streams)), [], True
    for suffix, seed in product(heads, seeds):
        runs = {n: [f / 'test' / seed] for n, f in streams.items()}
        folds = {n: sorted(f.glob(f'without_*/{seed}')) for n, f in streams.items()}
        tests, scores = _read(runs, heads[suffix])
        weights, known, held = np.full(len(streams), 1 / len(streams)), scores, tests
        fitted = fitted and all(map(any, folds.values()))
        if fitted:
            held, known = _read(folds, heads[suffix])
            if set(held.clips) & set(tests.clips):
                raise UserError(
                    f'seed {seed[1:]}: clips of the test split were left out to find weights'
                )
            weights = fit_weights(known, held.labels)
        if not suffix:
            chosen += (known.argmax(2) == held.labels).mean(1)
        named = dict(zip(streams, scores, strict=True))
        named |= {EQUAL: scores.mean(0), FUSED: fuse(scores, weights)}
        who = tests.subjects if all(tests.subjects) else tests.clips
        names, of = np.unique(who, return_inverse=True)
        # So weighed, the mean over clips is the mean over classes.
        _, place, count = np.unique(tests.labels, return_inverse=True, return_counts=True)
        share = len(place) / len(count) / count[place]
        for name, values in named.items():
            right = values.argmax(1) == tests.labels
            sums = rows.setdefault(name + suffix, dict(top1=[], mean_class=[]))
            sums['top1'].append(np.bincount(of, right, len(names)).tolist())
            sums['mean_class'].append(np.bincount(of, right * share, len(names)).round(4).tolist())
        fused = np.exp(named[FUSED])
        with replacing(out / f'probabilities_{seed}.npz') as path, path.open('wb') as file:
            kept = dict(clips=tests.clips, labels=tests.labels, probabilities=fused)
            np.savez_compressed(file, **kept, streams=list(streams), weights=weights)
        errors = [calibration_error(np.exp(values), tests.labels) for values in named.values()]
        told = ', '.join(f'{n} {w:.2f}' for n, w in zip(streams, weights, strict=True))
        notes.append(
            f'Seed {seed[1:]}{suffix}: weights {told}; calibration error {100 * errors[-1]:.1f}% '
            f'(single streams {100 * min(errors[:-2]):.1f} to {100 * max(errors[:-2]):.1f}%).'
        )
    best = list(streams)[int(chosen.argmax())]
    of_clips = any((folder / f'without_{plan.A_THIRD[0]}').is_dir() for folder in streams.values())
    kind = 'subjects' if all(held.subjects) and not of_clips else 'clips'
    notes.append(
        f'Weights are from left-out training {kind}, and so is the best single stream, {best}.'
        if fitted
        else 'No training clips were left out: all streams count alike, and the best single '
        f'stream, {best}, was chosen on the test clips.'
    )
    about = dict(section='', fingerprint='', missing=0, failed='')
    table = dict(
        name='',
        clusters='subjects' if all(tests.subjects) else 'clips',
        names=names.tolist(),
        totals=np.bincount(of).tolist(),
        source=read_json(tested[0] / 'outcome.json').get('source', ''),
        rows=[
            dict(about, name=name, base='' if name == best else best, sums=sums)
            | dict(seeds=[int(seed[1:]) for seed in seeds])
            for name, sums in rows.items()
        ],
    )
    title = f'{len(streams)} streams and their ensemble, test split'
    return write_tables([table], out, Style(), dict(title=title), notes)


def _read(runs: Mapping[str, Sequence[Path]], scores: str) -> tuple[Predicted, np.ndarray]:
    """Clips of runs, in the order of their ids, and log-probabilities (S, N, K) by stream."""
    first, found = None, []
    for name, folders in runs.items():
        parts = []
        for folder in folders:
            subjects = read_json(folder / 'outcome.json')['subjects']
            with np.load(folder / scores, allow_pickle=False) as file:
                parts.append([file['clips'], subjects, file['labels'], file['scores']])
        columns = list(map(np.concatenate, zip(*parts, strict=True)))
        order = np.argsort(columns[0], kind='stable')
        said = Predicted(*(column[order] for column in columns))
        first = said if first is None else first
        same = np.array_equal(said.clips, first.clips) and np.array_equal(said.labels, first.labels)
        if not same or said.scores.shape != first.scores.shape:
            raise UserError(
                f'{name} was tested on other clips or classes than {next(iter(runs))}: fuse '
                'streams of one set and one split'
            )
        if not np.isfinite(said.scores).all():
            raise UserError(
                f'{name} has scores that are not finite ({folders[0] / scores}): its training has '
                'diverged; leave it out, or train it with a lower learning rate'
            )
        found.append(np.log(said.scores.astype(np.float64).clip(1e-12)))
    return first, np.stack(found)
