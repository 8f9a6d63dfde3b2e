"""Recognition metrics, registered as ``MGMetric``, and the hook that writes the test report."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmaction.registry import HOOKS, METRICS
from mmengine.dist import master_only
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook

from mg_plugins.data.mm.transforms import META_KEYS


def recognition_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Top-1, top-5, mean class accuracy and macro-F1, as shares in [0, 1].

    Mean class accuracy runs over the classes that occur among the labels. Macro-F1 runs over
    those and the classes that are only ever predicted (whose F1 is 0).

    Args:
        scores: One row of class scores a clip (N, K).
        labels: True class of each clip (N,).

    Raises:
        ValueError: If there are no clips.
    """
    from sklearn.metrics import f1_score, recall_score

    if len(labels) == 0:
        raise ValueError('there are no clips to evaluate: is the split empty?')
    predicted = scores.argmax(1)
    own = np.take_along_axis(scores, labels[:, None], 1)
    better = (scores > own).sum(1)
    return dict(
        top1=float((predicted == labels).mean()),
        top5=float((better < 5).mean()),
        mean_class_acc=float(
            recall_score(labels, predicted, labels=np.unique(labels), average='macro')
        ),
        macro_f1=float(f1_score(labels, predicted, average='macro', zero_division=0)),
    )


@METRICS.register_module()
class MGMetric(BaseMetric):
    """Top-1, top-5, mean class accuracy and macro-F1 of a recognizer's predictions.

    After each evaluation ``latest`` holds, on rank 0, the scores (N, K), labels (N,) and the
    clips' fields (session, subject, …), for reports and hooks.

    Args:
        prefix: Put before each metric's name, ``acc/top1`` by default.
        collect_device: ``'cpu'`` or ``'gpu'``, where results of several ranks are gathered.
    """

    default_prefix = 'acc'

    def __init__(self, prefix: str | None = None, collect_device: str = 'cpu') -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.latest: dict | None = None

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Keep scores, label and fields of each clip of the batch."""
        for sample in data_samples:
            self.results.append(
                dict(
                    score=sample['pred_score'].float().cpu().numpy(),
                    label=int(sample['gt_label']),
                    clip={k: sample[k] for k in META_KEYS if k in sample},
                )
            )

    def evaluate(self, size: int) -> dict[str, float]:
        """As upstream; on a synthetic set the names of all metrics begin with that word."""
        if (self.dataset_meta or {}).get('source') == 'synthetic':
            if not self.prefix.startswith('synthetic'):
                self.prefix = 'synthetic'
        return super().evaluate(size)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Metrics over all clips of all ranks."""
        scores = np.stack([r['score'] for r in results])
        labels = np.array([r['label'] for r in results])
        self.latest = dict(scores=scores, labels=labels, clips=[r['clip'] for r in results])
        return recognition_metrics(scores, labels)


@HOOKS.register_module()
class ReportHook(Hook):
    """After a test epoch, write its figures and pictures to ``<work_dir>/<folder>``, on rank 0.

    Needs an :class:`MGMetric` among the test evaluator's metrics. Priority is low, so that the
    metrics are there.

    Args:
        folder: Name of the folder inside the work directory.
    """

    priority = 'VERY_LOW'

    def __init__(self, folder: str = 'test') -> None:
        self.folder = folder

    @master_only
    def after_test_epoch(self, runner: object, metrics: dict[str, float] | None = None) -> None:
        """Write the report of the epoch that just ended."""
        for metric in runner.test_evaluator.metrics:
            if isinstance(metric, MGMetric) and metric.latest is not None:
                classes = (metric.dataset_meta or {}).get('classes')
                folder = Path(runner.work_dir) / self.folder
                note = 'synthetic data' if metric.prefix.startswith('synthetic') else ''
                write_report(folder, metrics or {}, classes=classes, note=note, **metric.latest)
                runner.logger.info(f'Report written to {folder}')
                return


def write_report(
    folder: Path,
    metrics: dict[str, float],
    scores: np.ndarray,
    labels: np.ndarray,
    clips: Sequence[dict],
    classes: Sequence[str] | None = None,
    note: str = '',
) -> None:
    """Write metrics, predictions, confusion matrix and per-class figures.

    Files: ``metrics.json``, ``predictions.csv`` (a row a clip), ``scores.npy`` (N, K),
    ``confusion.csv`` / ``.png``, ``per_class.csv`` / ``.png``. Each appears whole or not at all.

    Args:
        folder: Where the files go; made if it is not there.
        metrics: Named figures for ``metrics.json``.
        scores: Class scores (N, K).
        labels: True classes (N,).
        clips: Fields of each clip (``frame_dir``, ``session``, …).
        classes: Names of the K classes; numbers where they are not known.
        note: Added to the titles of the pictures.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    folder.mkdir(parents=True, exist_ok=True)
    number = scores.shape[1]
    if classes is None or len(classes) != number:
        classes = [str(k) for k in range(number)]
    predicted = scores.argmax(1)
    every = np.arange(number)
    matrix = confusion_matrix(labels, predicted, labels=every)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=every, zero_division=0
    )
    with _replacing(folder / 'metrics.json') as path:
        path.write_text(json.dumps({k: float(v) for k, v in metrics.items()}, indent=1) + '\n')
    with _replacing(folder / 'scores.npy') as path, path.open('wb') as file:
        np.save(file, scores)
    fields = [k for k in META_KEYS if any(k in clip for clip in clips)]
    rows = [
        [*(clip.get(k, '') for k in fields), label, guess, classes[guess], f'{row[guess]:.4f}']
        for clip, label, guess, row in zip(clips, labels, predicted, scores, strict=True)
    ]
    header = [*fields, 'label', 'predicted', 'predicted_class', 'score']
    _write_csv(folder / 'predictions.csv', header, rows)
    _write_csv(
        folder / 'confusion.csv',
        ['true \\ predicted', *classes],
        [[name, *row] for name, row in zip(classes, matrix.tolist(), strict=True)],
    )
    table = zip(every, classes, support, precision, recall, f1, strict=True)
    _write_csv(
        folder / 'per_class.csv',
        ['class', 'name', 'clips', 'precision', 'recall', 'f1'],
        [[k, name, n, f'{p:.4f}', f'{r:.4f}', f'{f:.4f}'] for k, name, n, p, r, f in table],
    )
    _draw(folder, matrix, recall, f1, support, classes, note)


def _draw(folder, matrix, recall, f1, support, classes, note):
    from matplotlib.figure import Figure

    size = max(5.0, 0.28 * len(classes) + 2)
    title = f'{support.sum()} clips' + (f', {note}' if note else '')
    figure = Figure(figsize=(size + 1, size), layout='constrained')
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(share, cmap='Blues', vmin=0, vmax=1)
    axes.set(xlabel='predicted', ylabel='true', title=f'Share of each true class, {title}')
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
    axes.set_yticks(range(len(classes)), classes, fontsize=7)
    figure.colorbar(image, ax=axes, shrink=0.7)
    with _replacing(folder / 'confusion.png') as path:
        figure.savefig(path, dpi=120, format='png')

    figure = Figure(figsize=(7, size), layout='constrained')
    axes = figure.subplots()
    order = np.argsort(support)
    rows = np.arange(len(classes))
    axes.barh(rows + 0.2, recall[order], 0.4, label='recall', color='#4477aa')
    axes.barh(rows - 0.2, f1[order], 0.4, label='F1', color='#ee6677')
    names = [f'{classes[k]} ({support[k]})' for k in order]
    axes.set_yticks(rows, names, fontsize=7)
    axes.set(xlim=(0, 1), title=f'Classes by number of test clips, {title}')
    axes.legend(loc='lower right')
    with _replacing(folder / 'per_class.png') as path:
        figure.savefig(path, dpi=120, format='png')


def _write_csv(path, header, rows):
    with _replacing(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


class _replacing:
    """A temporary path that takes the place of ``path`` when its block ends without an error."""

    def __init__(self, path: Path) -> None:
        self.path, self.temporary = path, path.with_name(f'.{path.name}.{os.getpid()}')

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind, *_: object) -> None:
        if kind is None:
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)
