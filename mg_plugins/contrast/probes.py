"""Features of clips out of a model, and how good they are: neighbours, linear, retrieval, t-SNE.

Whatever a probe fits (centring, a regularisation strength, a classifier) is fitted on the training
side alone; the test side is only ever predicted.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .losses import ContrastError
from .streams import GraphPool

# Inverse regularisation strengths that the linear probe chooses from, on training subjects.
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# One clip a class is what few labels mean; scikit-learn takes that for a mistake.
FEW_CLIPS = 'The number of unique classes is greater than 50%'
# Clips whose similarities to all others are in memory at a time.
BLOCK = 1024


@dataclass(frozen=True)
class Features:
    """Features of N clips."""

    vectors: np.ndarray  # one row a clip (N, D), float32
    labels: np.ndarray  # class of each clip (N,)
    clips: np.ndarray  # id of each clip (N,)
    subjects: np.ndarray  # subject of each clip (N,), empty texts where unknown

    def __post_init__(self) -> None:
        sizes = {len(getattr(self, f.name)) for f in fields(self)}
        if len(sizes) > 1:
            raise ValueError(f'features, labels, clips and subjects differ in number: {sizes}')
        if not np.isfinite(self.vectors).all():
            raise ContrastError(
                'there are features that are not finite: has the training diverged? Lower the '
                'learning rate (optim_wrapper.optimizer.lr)'
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def of_several(self) -> bool:
        """Whether they are of more than one subject."""
        return len(np.unique(self.subjects)) > 1

    def of(self, index: np.ndarray) -> 'Features':
        """The clips that an index or a mask picks."""
        return Features(*(getattr(self, f.name)[index] for f in fields(self)))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; every module then is in the mode it was in, come what may."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def filling_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation has the statistics of what passes in this block, all of it alike.

    Without, an untrained model has mean 0 and variance 1 everywhere, and is no fair twin of a
    trained one. Evaluation mode or not, layers then learn statistics and nothing else.
    """
    momenta = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm)}
    hooks = [m.register_forward_pre_hook(lambda norm, _: norm.train() and None) for m in momenta]
    for norm in momenta:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    try:
        yield
    finally:
        for hook, (norm, momentum) in zip(hooks, momenta.items(), strict=True):
            hook.remove()
            norm.momentum = momentum


@torch.no_grad()
def features_of_batch(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Features (N, D) by stream of clips (N, crops, M, T, V, C), crops averaged.

    A :class:`DualStream` gives all its streams; of any other recognizer with a GCN backbone the
    pooled feature map is ``'graph'``. The model must be in evaluation mode.
    """
    if hasattr(model, 'extract'):
        return model.extract(inputs, None)
    if not hasattr(model, 'backbone'):
        raise ContrastError(f'{type(model).__name__} has no backbone whose features could be taken')
    maps = model.backbone(inputs.flatten(0, 1))
    return dict(graph=GraphPool()(maps).float().view(*inputs.shape[:2], -1).mean(1))


def extract_features(
    model: nn.Module, loader: Iterable[dict], progress: str | None = None
) -> dict[str, Features]:
    """Features of every clip of a loader, by stream; ``progress`` is what a progress bar says.

    Samples carry ``gt_label`` and ``frame_dir``, and ``subject`` where it is known.
    """
    if progress is not None:
        loader = track(loader, progress, console=Console(stderr=True), transient=True)
    vectors: dict[str, list[np.ndarray]] = {}
    labels, clips, subjects = [], [], []
    with evaluating(model):
        for data in loader:
            data = model.data_preprocessor(data, training=False)
            for stream, rows in features_of_batch(model, data['inputs']).items():
                vectors.setdefault(stream, []).append(rows.float().cpu().numpy())
            for sample in data['data_samples']:
                labels.append(int(sample.gt_label))
                clips.append(str(sample.get('frame_dir', len(clips))))
                subjects.append(str(sample.get('subject', '')))
    if not labels:
        raise ContrastError('there is no clip to take features of')
    known = np.array(labels), np.array(clips), np.array(subjects)
    return {stream: Features(np.concatenate(rows), *known) for stream, rows in vectors.items()}


def is_collapsed(vectors: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Whether clips have nearly the same features, by √(Σ_d Var_n) of their directions."""
    return len(vectors) > 1 and float(np.sqrt(unit(vectors).var(0).sum())) < tolerance


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1 (N, D); rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def knn_probe(
    train: Features, test: Features, neighbours: int = 20, temperature: float = 0.07
) -> np.ndarray:
    """Labels (N_test,) by a vote of the nearest training clips.

    Of cosine similarity s one has weight exp(s / temperature) (Wu et al., arXiv 1805.01978).
    """
    return vote(unit(test.vectors) @ unit(train.vectors).T, train.labels, neighbours, temperature)


def vote(
    similarity: np.ndarray, labels: np.ndarray, neighbours: int, temperature: float = 0.07
) -> np.ndarray:
    """Labels (N_test,) by similarities (N_test, N) to clips with labels (N,); -inf has no vote."""
    count = min(neighbours, similarity.shape[1])
    nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    # The largest similarity is taken off first: the ratio of weights stays and nothing overflows.
    own = np.take_along_axis(similarity, nearest, 1)
    weights = np.exp((own - own.max(1, keepdims=True)) / temperature)
    votes = np.zeros((len(similarity), int(labels.max()) + 1))
    np.add.at(votes, (np.arange(len(similarity))[:, None], labels[nearest]), weights)
    return votes.argmax(1)


def linear_probe(train: Features, test: Features, seed: int = 0) -> np.ndarray:
    """Labels (N_test,) by multinomial logistic regression on standardised features.

    Its strength is chosen by cross-validation over training subjects (over clips where no subject
    is known or there is one only), unless there are too few clips for two folds.
    """
    model, _ = fit_linear(train, seed)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', FEW_CLIPS)
        return model.predict(test.vectors)


def fit_linear(train: Features, seed: int = 0) -> tuple[object, float]:
    """The linear probe's fitted scikit-learn pipeline, and the strength C that was chosen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def pipeline(strength: float):
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))

    given = train.vectors, train.labels
    groups = np.unique(train.subjects)
    rarest = np.unique(train.labels, return_counts=True)[1].min()
    folds, strength = (), 1.0
    if len(groups) > 1:
        folds = GroupKFold(min(5, len(groups))).split(*given, train.subjects)
    elif rarest > 1:
        folds = StratifiedKFold(min(5, rarest), shuffle=True, random_state=seed).split(*given)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', FEW_CLIPS)
        folds = [(a, b) for a, b in folds if len(np.unique(train.labels[a])) > 1]
        if folds:
            scores = [cross_val_score(pipeline(c), *given, cv=folds).mean() for c in STRENGTHS]
            strength = STRENGTHS[int(np.argmax(scores))]
        return pipeline(strength).fit(*given), strength


def retrieval_by_clip(gallery: Features, queries: Features) -> dict[str, np.ndarray]:
    """Average precision, R@1 and R@5 (N_queries,) of finding training clips of a clip's class.

    The gallery is ranked by cosine similarity. Average precision is the mean, over the gallery's
    clips of the class, of the precision at their ranks; R@k says whether one is among the first k.
    Queries whose class is not in the gallery count as 0.
    """
    similarity = unit(queries.vectors) @ unit(gallery.vectors).T
    order = np.argsort(-similarity, axis=1, kind='stable')
    hit = gallery.labels[order] == queries.labels[:, None]
    precision = hit.cumsum(1) / np.arange(1, hit.shape[1] + 1)
    return dict(
        mAP=(precision * hit).sum(1) / np.maximum(hit.sum(1), 1),
        R1=hit[:, :1].any(1).astype(float),
        R5=hit[:, :5].any(1).astype(float),
    )


def retrieval(gallery: Features, queries: Features) -> dict[str, float]:
    """Means of `retrieval_by_clip` over the queries."""
    return {name: float(v.mean()) for name, v in retrieval_by_clip(gallery, queries).items()}


def left_out_knn(features: Features, neighbours: int = 20) -> float:
    """Share of clips whose class their neighbours among the *other* subjects' clips name.

    Needs training clips alone, so it may be watched during pre-training and may choose a
    checkpoint. With fewer than two subjects each clip is left out by itself.
    """
    if len(features) < 2:
        raise ContrastError(f'neighbours need at least 2 clips, got {len(features)}')
    groups = features.subjects if features.of_several else np.arange(len(features))
    vectors, right = unit(features.vectors), 0
    for start in range(0, len(features), BLOCK):
        rows = slice(start, start + BLOCK)
        similarity = vectors[rows] @ vectors.T
        similarity[groups[rows, None] == groups] = -np.inf
        guess = vote(similarity, features.labels, neighbours)
        right += int((guess == features.labels[rows]).sum())
    return right / len(features)


def draw_features(
    path: Path, features: Features, classes: Sequence[str] | None = None, seed: int = 0
) -> None:
    """Write a t-SNE picture of the features (cosine distances), a colour a class."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    if len(features) < 5:
        raise ValueError(f'a picture needs at least 5 clips, got {len(features)}')
    perplexity = min(30.0, (len(features) - 1) / 3)
    embedding = TSNE(metric='cosine', init='random', perplexity=perplexity, random_state=seed)
    points = embedding.fit_transform(features.vectors)
    present = np.unique(features.labels)
    colours = colormaps['turbo'](np.linspace(0.03, 0.97, len(present)))
    figure = Figure(figsize=(9, 6.5), layout='constrained')
    axes = figure.subplots()
    for label, colour in zip(present, colours, strict=True):
        own = features.labels == label
        name = str(label) if classes is None else classes[label]
        axes.scatter(*points[own].T, s=14, color=colour, label=name, alpha=0.8, linewidths=0)
    axes.set(xticks=[], yticks=[], title=f't-SNE of the features of {len(features)} clips')
    axes.legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
