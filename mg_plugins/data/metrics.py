"""Recognition metrics of class scores, and their report as files."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mg_plugins.errors import counted
from mg_plugins.files import replacing, write_json

_log = logging.getLogger('mg_plugins')


def recognition_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Top-1, top-5, mean class accuracy and macro-F1 of scores (N, K), as shares in [0, 1].

    Mean class accuracy runs over the classes among the labels (N,), macro-F1 over those and the
    classes that are only ever predicted (whose F1 is 0). Of equal scores the one of the smaller
    class number comes first. A clip with a score that is not finite counts as wrong; that, and
    scores that tell no classes apart, are logged as a warning.
    """
    from sklearn.metrics import f1_score, recall_score

    if len(labels) == 0:
        raise ValueError('there are no clips to evaluate: is the split empty?')
    finite = np.isfinite(scores).all(1)
    if not finite.all():
        what = f'scores of {(~finite).sum()} of {len(labels)} clips are not finite'
        _log.warning('the %s, so the model has diverged; these clips count as wrong', what)
    elif scores.shape[1] > 1 and (np.ptp(scores, axis=1) == 0).all():
        _log.warning('every clip has the same score for all classes: the model tells none apart')
    order = np.argsort(-scores, axis=1, kind='stable')
    right = (order == labels[:, None]) & finite[:, None]
    predicted = np.where(finite, order[:, 0], -1)
    occurring = np.unique(labels)
    compared = np.union1d(occurring, predicted[finite])
    macro = dict(average='macro', zero_division=0)
    return dict(
        top1=float(right[:, 0].mean()),
        top5=float(right[:, :5].any(1).mean()),
        mean_class_acc=float(recall_score(labels, predicted, labels=occurring, **macro)),
        macro_f1=float(f1_score(labels, predicted, labels=compared, **macro)),
    )


def write_report(
    folder: Path,
    metrics: dict[str, float],
    scores: np.ndarray,
    labels: np.ndarray,
    clips: Sequence[dict],
    classes: Sequence[str] | None = None,
    note: str = '',
) -> None:
    """Write ``metrics.json``, ``predictions.csv`` (a row a clip) and ``scores.npy`` (N, K).

    Of the clips with a label (N,; -1 where unknown) also ``confusion`` and ``per_class``, each
    ``.csv`` and ``.png``. ``clips`` are the fields of each clip (``frame_dir``, ``session``, …),
    columns of the predictions; the K ``classes`` are numbers where their names are not known, and
    ``note`` is added to the titles of the pictures.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    number = scores.shape[1]
    if classes is None or len(classes) != number:
        classes = [str(k) for k in range(number)]
    # JSON has no NaN.
    finite = {k: float(v) if np.isfinite(v) else None for k, v in metrics.items()}
    write_json(folder / 'metrics.json', finite)
    with replacing(folder / 'scores.npy') as path, path.open('wb') as file:
        np.save(file, scores)
    predicted, known = scores.argmax(1), labels >= 0
    fields = list(dict.fromkeys(key for clip in clips for key in clip))
    rows = []
    for clip, label, guess, row in zip(clips, labels, predicted, scores, strict=True):
        own = [clip.get(key, '') for key in fields] + ['' if label < 0 else label]
        rows.append([*own, guess, classes[guess], f'{row[guess]:.4f}'])
    header = [*fields, 'label', 'predicted', 'predicted_class', 'score']
    _write_csv(folder / 'predictions.csv', header, rows)
    if not known.any():
        return
    every = np.arange(number)
    pair = labels[known], predicted[known]
    matrix = confusion_matrix(*pair, labels=every)
    rows = [[name, *row] for name, row in zip(classes, matrix.tolist(), strict=True)]
    _write_csv(folder / 'confusion.csv', ['true \\ predicted', *classes], rows)
    precision, recall, f1, support = precision_recall_fscore_support(
        *pair, labels=every, zero_division=0
    )
    table = zip(every, classes, support, precision, recall, f1, strict=True)
    rows = [[k, name, n, *(f'{share:.4f}' for share in shares)] for k, name, n, *shares in table]
    _write_csv(folder / 'per_class.csv', 'class name clips precision recall f1'.split(), rows)

    from matplotlib.figure import Figure

    title = counted(known.sum(), 'clips') + (note and f', {note}')
    size = max(5.0, 0.28 * number + 2)
    confusion = Figure(figsize=(size + 1, size), layout='constrained')
    axes = confusion.subplots()
    image = axes.imshow(matrix / np.maximum(support[:, None], 1), cmap='Blues', vmin=0, vmax=1)
    axes.set(xlabel='predicted', ylabel='true', title=f'Share of each true class, {title}')
    axes.set_xticks(every, classes, rotation=90, fontsize=7)
    axes.set_yticks(every, classes, fontsize=7)
    confusion.colorbar(image, ax=axes, shrink=0.7)

    per_class = Figure(figsize=(7, size), layout='constrained')
    axes, order = per_class.subplots(), np.argsort(support)
    axes.barh(every + 0.2, recall[order], 0.4, label='recall', color='#4477aa')
    axes.barh(every - 0.2, f1[order], 0.4, label='F1', color='#ee6677')
    axes.set_yticks(every, [f'{classes[k]} ({support[k]})' for k in order], fontsize=7)
    axes.set(xlim=(0, 1), title=f'Classes by number of test clips, {title}')
    axes.legend(loc='lower right')
    for name, figure in (('confusion', confusion), ('per_class', per_class)):
        with replacing(folder / f'{name}.png') as path:
            figure.savefig(path, dpi=120, format='png')


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence]) -> None:
    with replacing(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([header, *rows])
