"""Recognition metrics, registered as ``MGMetric``, and the hook that writes the test report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmaction.registry import HOOKS, METRICS
from mmengine.dist import master_only
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook

from mg_plugins.data.metrics import recognition_metrics, write_report
from mg_plugins.data.mm.transforms import META_KEYS


@METRICS.register_module()
class MGMetric(BaseMetric):
    """Top-1, top-5, mean class accuracy and macro-F1 of a recognizer's predictions.

    Clips without a label are not counted; ``unlabelled`` says how many there are. After each
    evaluation ``latest`` holds, on rank 0, the scores (N, K), labels (N,; -1 where there is none)
    and the clips' fields, for reports and hooks. On a synthetic set all names begin with that word.
    """

    default_prefix = 'acc'
    latest: dict | None = None

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            score, label = sample['pred_score'].float().cpu().numpy(), sample.get('gt_label', -1)
            clip = {key: sample[key] for key in META_KEYS if key in sample}
            self.results.append(dict(score=score, label=int(label), clip=clip))

    def evaluate(self, size: int) -> dict[str, float]:
        synthetic = (self.dataset_meta or {}).get('source') == 'synthetic'
        if synthetic and not self.prefix.startswith('synthetic'):
            self.prefix = 'synthetic'
        return super().evaluate(size)

    def compute_metrics(self, results: list[dict]) -> dict[str, float | int]:
        scores = np.stack([r['score'] for r in results])
        labels = np.array([r['label'] for r in results])
        self.latest = dict(scores=scores, labels=labels, clips=[r['clip'] for r in results])
        known = labels >= 0
        metrics = dict(unlabelled=int((~known).sum())) if not known.all() else {}
        if known.any():
            metrics |= recognition_metrics(scores[known], labels[known])
        return metrics


@HOOKS.register_module()
class ReportHook(Hook):
    """After a test epoch, write its figures and pictures to ``<work_dir>/<folder>``, on rank 0.

    Needs an :class:`MGMetric` among the test evaluator's metrics.
    """

    priority = 'VERY_LOW'  # so that the metrics are there

    def __init__(self, folder: str = 'test') -> None:
        self.folder = folder

    @master_only
    def after_test_epoch(self, runner: object, metrics: dict[str, float] | None = None) -> None:
        for metric in runner.test_evaluator.metrics:
            if isinstance(metric, MGMetric) and metric.latest is not None:
                classes = (metric.dataset_meta or {}).get('classes')
                folder = Path(runner.work_dir) / self.folder
                note = 'synthetic data' if metric.prefix.startswith('synthetic') else ''
                write_report(folder, metrics or {}, classes=classes, note=note, **metric.latest)
                runner.logger.info(f'Report written to {folder}')
                return
