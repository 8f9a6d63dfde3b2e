"""`EmotionEvalHook`: what a recogniser's own predictions say about states, while it trains."""

import math
from collections.abc import Mapping
from functools import partialmethod, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
from mmaction.registry import HOOKS
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mg_plugins import emotion
from mg_plugins.data.mm.metrics import MGMetric
from mg_plugins.errors import UserError

# Figures that are logged, each after ``emotion/``, and where they stand in the metrics.
FIGURES = {
    'acc_without_mg': ('arms', 'without', 'accuracy', 'value'),
    'acc_with_mg': ('arms', 'with', 'accuracy', 'value'),
    'acc_placebo': ('arms', 'placebo', 'accuracy', 'value'),
    'gain': ('comparisons', 'with - without', 'gain', 'value'),
    'gain_low': ('comparisons', 'with - without', 'gain', 'low'),
    'gain_high': ('comparisons', 'with - without', 'gain', 'high'),
    'gain_over_placebo': ('comparisons', 'with - placebo', 'gain', 'value'),
    'macro_f1_with_mg': ('arms', 'with', 'macro_f1', 'value'),
    'answered': (),
    'failed': (),
}


@HOOKS.register_module()
class EmotionEvalHook(Hook):
    """After a validation or test epoch, ask a judge about its sessions with and without gestures.

    The predictions that an `MGMetric` of the loop's evaluator keeps are grouped into sessions by
    the clips' fields. The figures (`FIGURES`, shares) of the arms that are asked are logged through
    the runner, and so open to ``save_best``; on a synthetic set their names begin with
    ``synthetic/``. Files go to ``<work_dir>/emotion/epoch_N`` (``iter_N`` in a loop by iterations;
    ``val`` and ``test`` outside of training). Training never ends because of it: whatever goes
    wrong is a warning, ``failed`` is 1 and the other figures are NaN, which ``save_best`` passes
    over. Settings that cannot be raise at the start.

    Args:
        template: Name of a shipped template or path of one's own; it knows the states.
        judge: Arguments of `make_judge`; the lexicon's prior is the documented one.
        min_confidence: Gestures that the recogniser is less sure of are left out.
        ask: Arguments of `ask_all`; by default few retries and 300 seconds in all, below NCCL's
            600, after which waiting ranks give up.
        design: Fields of `Design`, such as the arms and the seed.
    """

    priority = 'HIGHEST'  # so that other hooks find the figures

    def __init__(
        self,
        template: str = 'post_match',
        judge: Mapping[str, Any] | None = None,
        min_confidence: float = 0.0,
        ask: Mapping[str, Any] | None = None,
        **design: Any,
    ) -> None:
        self.judge = dict(judge or dict(kind='lexicon'))
        emotion.make_judge(**self.judge)  # mistakes show now, not after the first epoch
        self.template = emotion.load_template(template)
        self.min_confidence = min_confidence
        # No baselines: they would need out-of-fold predictions of training sessions.
        self.design = dict(derangements=2, bootstrap=500, baselines=False) | design
        arms = set(emotion.Design(**self.design).arms)
        needed = {name: path[1].split(' - ') if path else () for name, path in FIGURES.items()}
        self.figures = {n: path for n, path in FIGURES.items() if arms.issuperset(needed[n])}
        self.ask = dict(seconds=300.0, timeout=30.0, retries=2) | dict(ask or {})

    def before_run(self, runner: Runner) -> None:
        if left_out := [name for name in FIGURES if name not in self.figures]:
            asked = ', '.join(self.design['arms'])
            runner.logger.info(f'Emotion (arms {asked}): no {", ".join(left_out)}')
        for when in ('val', 'test'):
            evaluator = getattr(runner, f'_{when}_evaluator')
            if evaluator is not None and _metric(runner.build_evaluator(evaluator)) is None:
                advice = f"add it, such as {when}_evaluator = [dict(type='MGMetric')]"
                raise ValueError(f'EmotionEvalHook needs the predictions of an MGMetric: {advice}')

    def _run(self, mode: str, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Evaluate on rank 0, tell every rank, and leave the figures in ``metrics``."""
        metric = _metric(getattr(runner, f'{mode}_evaluator'))
        source = (metric.dataset_meta or {}).get('source')
        synthetic = source == 'synthetic' or str(metric.prefix).startswith('synthetic')
        loop, place = runner._train_loop, mode  # when in training it is, or which loop
        if mode == 'val' and loop is not None and not isinstance(loop, dict):
            by_epoch = runner.log_processor.by_epoch
            place = f'epoch_{loop.epoch}' if by_epoch else f'iter_{loop.iter}'
        outcome: list = [dict.fromkeys(self.figures, math.nan), '']
        if is_main_process():
            try:
                outcome[0] = self._evaluate(runner, metric, place, synthetic)
            except Exception as problem:  # noqa: BLE001  training goes on, whatever it was
                outcome[1] = f'{type(problem).__name__}: {problem}'
                outcome[0]['failed'] = 1.0
        # Rank 0 comes here in any case, so nobody waits for good.
        broadcast_object_list(outcome)
        figures, why = outcome
        if why:
            runner.logger.warning(f'Emotion evaluation ({place}) failed, the run goes on: {why}')
        if metrics is not None:
            # NaN where there are none: the runner's log would repeat the last ones as this epoch's.
            prefix = 'synthetic/emotion' if synthetic else 'emotion'
            metrics.update({f'{prefix}/{name}': figures[name] for name in self.figures})

    after_val_epoch, after_test_epoch = partialmethod(_run, 'val'), partialmethod(_run, 'test')

    def _evaluate(
        self, runner: Runner, metric: MGMetric, place: str, synthetic: bool
    ) -> dict[str, float]:
        """Figures of one epoch; its files are written."""
        classes = list(map(str, (metric.dataset_meta or {}).get('classes') or ()))
        if not classes:
            give = 'metainfo=dict(classes=[…]), or an annotation file of tools/prepare_data.py'
            raise UserError(f'the dataset names no classes to name gestures by: give it {give}')
        if metric.latest is None:
            raise UserError('the epoch has left no predictions in its MGMetric')
        folder, notes = Path(runner.work_dir) / 'emotion', []
        scores, clips = _shares(metric.latest['scores']), metric.latest['clips']
        gestures = [classes[k] for k in scores.argmax(1)]
        options = dict(split='test', notes=notes)
        sessions = emotion.sessions_from_clips(clips, gestures, scores.max(1), **options)
        sessions.sort(key=lambda session: session.id)  # an order that no opaque id changes
        source, name = 'synthetic' if synthetic else 'epoch', 'synthetic, ' * synthetic + place
        options = dict(source=source, threshold=self.min_confidence or None, notes=notes)
        scenarios = emotion.build_scenarios(sessions, self.template, **options)
        options = dict(self.design, templates={self.template.name: self.template}, ask=self.ask)
        with emotion.Cache(folder / 'cache.jsonl') as cache:
            judge = emotion.make_judge(**self.judge)
            evaluation = emotion.evaluate(scenarios, judge, name=name, cache=cache, **options)
        metrics = evaluation.metrics
        metrics['notes'] += notes
        emotion.write_results(folder / place, [evaluation])
        figures = {n: reduce(getitem, path, metrics) for n, path in self.figures.items() if path}
        answered = sum(arm['answered'] for arm in metrics['arms'].values())
        figures |= {'answered': answered / len(evaluation.records), 'failed': 0}
        figures = {name: math.nan if v is None else float(v) for name, v in figures.items()}
        stopped = metrics['stopped']
        if stopped and metrics['calls'] < (self.ask.get('max_calls') or math.inf):
            raise UserError(stopped)
        if all(arm['accuracy']['value'] is None for arm in metrics['arms'].values()):
            why = stopped or 'no session has an outcome that the template knows'
            raise UserError(f'no figures: {why}; see {folder / place}')
        lexicon = metrics['judge'].get('kind') == 'lexicon'
        judge = 'lexicon judge, not a language model' if lexicon else metrics['judge']['name']
        runner.logger.info(f'Emotion ({judge}): {folder / place / "report.html"}')
        return figures


def _metric(evaluator: Any) -> MGMetric | None:
    return next((m for m in evaluator.metrics if isinstance(m, MGMetric)), None)


def _shares(scores: np.ndarray) -> np.ndarray:
    """Class scores (N, K) as probabilities: as they are, or their softmax if they are none."""
    from scipy.special import softmax

    if (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-2):
        return np.minimum(scores, 1.0)
    return softmax(scores, axis=1)
