"""A config and its checkpoint as something that spots gestures in recordings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from mmaction.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.errors import UserError
from mg_plugins.spotting.decode import Decoder, Span, decode
from mg_plugins.spotting.features import RecordingFeatures

#: Seconds of a window and between windows, for models that classify cut clips.
WINDOW, STEP = 2.0, 0.25


@dataclass
class Spotter:
    """A trained model.

    Attributes:
        model: The network, in evaluation mode.
        classes: Names of the gesture classes.
        layout: Joint layout that it was trained on.
        source: ``'synthetic'`` where its training data say so, else empty.
        warning: What a user should know before reading its results, or empty.
        decoder: How probabilities become segments.
        pipeline: For a model of cut clips, its test pipeline; None for a dense one.
        coordinates: 2 or 3, or 0 where the checkpoint does not say.
    """

    model: torch.nn.Module
    classes: tuple[str, ...]
    layout: Layout
    source: str
    warning: str
    decoder: Decoder
    pipeline: Compose | None
    coordinates: int = 0

    def spot(
        self,
        keypoint: np.ndarray,
        score: np.ndarray,
        fps: float,
        size: tuple[int, int] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Span]:
        """Segments of one person: keypoint (T, V, C), score (T, V), size (width, height).

        Raises:
            UserError: The model learned from another number of coordinates.
        """
        if self.coordinates not in (0, keypoint.shape[-1]):
            raise UserError(
                f'the recording has {keypoint.shape[-1]} coordinates a joint and the model learned '
                f'from {self.coordinates}: take a model trained on recordings like this one'
            )
        features = RecordingFeatures(keypoint, score, self.layout, fps)
        if self.pipeline is not None:
            probability = self._windows(keypoint, score, fps, size, progress)
            return decode(probability, fps, self.decoder, present=features.present)
        probability = self.model.probabilities(features, progress=progress)
        durations = self.model.durations.numpy()
        return decode(probability, fps, self.decoder, durations, features.present)

    @torch.inference_mode()
    def _windows(
        self,
        keypoint: np.ndarray,
        score: np.ndarray,
        fps: float,
        size: tuple[int, int] | None,
        progress: Callable[[int], None] | None,
    ) -> np.ndarray:
        """(T, K + 1): mean over the windows that hold a frame; "nothing" is never probable."""
        frames, length = len(keypoint), max(2, round(WINDOW * fps))
        step = max(1, round(STEP * fps))
        starts = list(range(0, max(frames - length, 0) + 1, step))
        total = np.zeros((frames, len(self.classes) + 1), np.float32)
        counts = np.zeros(frames, np.float32)
        for first in range(0, len(starts), 16):
            samples, spans = [], []
            for start in starts[first : first + 16]:
                stop = min(start + length, frames) if start != starts[-1] else frames
                if score[start:stop].any():
                    clip = dict(
                        frame_dir='window', label=0, total_frames=stop - start, start_index=0,
                        keypoint=keypoint[None, start:stop].copy(),
                        keypoint_score=score[None, start:stop].copy(), modality='Pose',
                    )  # fmt: skip
                    if size:
                        clip.update(img_shape=size[::-1], original_shape=size[::-1])
                    samples.append(self.pipeline(clip))
                    spans.append((start, stop))
            if samples:
                for (start, stop), result in zip(
                    spans, self.model.test_step(pseudo_collate(samples)), strict=True
                ):
                    total[start:stop, :-1] += result.pred_score.numpy()
                    counts[start:stop] += 1
            if progress:
                progress(min(starts[min(first + 16, len(starts)) - 1] + length, frames))
        total[counts == 0, -1] = 1
        return total / np.maximum(counts, 1)[:, None]


def load_spotter(config: str | Path, checkpoint: str | Path, threshold: float = 0.6) -> Spotter:
    """Load a dense model, or any recognizer of cut clips.

    Args:
        config: Config file.
        checkpoint: Weights that tools/train.py wrote with it.
        threshold: Probability that a gesture must reach, for a model without a "nothing" class.

    Raises:
        UserError: A file is missing, or the checkpoint is not of this config.
    """
    for path, what in ((config, 'config'), (checkpoint, 'checkpoint')):
        if not Path(path).is_file():
            raise UserError(
                f'the {what} {path} does not exist; '
                f'`python tools/train.py {config}` trains a model and writes its checkpoint'
            )
    cfg = Config.fromfile(config)
    init_default_scope('mmaction')
    model = MODELS.build(cfg.model)
    try:
        content = load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f'{checkpoint} is no checkpoint of {config}: {reason}') from error
    model.eval()
    meta = (content.get('meta') or {}).get('dataset_meta') or {}
    dense = hasattr(model, 'durations')
    number = model.head.num_classes if dense else cfg.model.cls_head.num_classes
    classes = tuple(map(str, meta.get('classes') or range(number)))
    layout = get_layout(meta.get('layout') or _graph_layout(cfg))
    if dense:
        pipeline, warning, decoder = None, '', model.decoder
    else:
        steps = copy.deepcopy(cfg.test_dataloader.dataset.pipeline)
        pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        warning = (
            'this model has no "nothing" class: it was trained on cut clips and calls every '
            f'moment a gesture. Windows of {WINDOW:g} s below {threshold:g} count as nothing '
            '(--threshold); train a spotting config for better results'
        )
        decoder = replace(Decoder('hysteresis'), high=threshold, low=0.7 * threshold, confidence=0)
    inputs = (content.get('meta') or {}).get('inputs') or {}
    source = 'synthetic' if meta.get('source') == 'synthetic' else ''
    return Spotter(
        model, classes, layout, source, warning, decoder, pipeline, inputs.get('coordinates', 0)
    )


def _graph_layout(cfg: Config) -> str:
    inner = cfg.model.backbone.get('backbone', cfg.model.backbone)
    return inner.graph_cfg.layout
