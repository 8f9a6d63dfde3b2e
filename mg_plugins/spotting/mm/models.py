"""The network, its metric and hook for MMEngine's Runner, and trained models that spot gestures."""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from mmaction.registry import HOOKS, METRICS, MODELS, TRANSFORMS
from mmengine.dataset import Compose, pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

from mg_plugins.data.layouts import Layout, get_layout, joint_parts, relayout
from mg_plugins.data.mm.transforms import read_config
from mg_plugins.errors import UserError
from mg_plugins.pose import PoseTrack
from mg_plugins.spotting import dense
from mg_plugins.spotting.decode import Decoder, Span, decode
from mg_plugins.spotting.features import RecordingFeatures, channels
from mg_plugins.spotting.metrics import spotting_scores
from mg_plugins.spotting.pictures import frame_ends
from mg_plugins.spotting.segments import Segment, Segments, frame_segments

#: Seconds of a window and between windows, for models that classify cut clips.
WINDOW, STEP = 2.0, 0.25
METHODS = ('semi_markov', 'hysteresis')


@MODELS.register_module()
class MGSpotter(BaseModel):
    """A GCN backbone and a dense head: class probabilities for every frame of a recording.

    The checkpoint carries what decoding needs: durations of the classes and the decoder.

    Args:
        backbone: Config of a GCN backbone, fused or not, input (N, M, T, V, C).
        head: Options of `DenseHead`; ``loss`` are those of `dense_loss`, ``decoder`` of `Decoder`.
        crop: Frames of a training sample, which inference runs in.
        stride: Frames that are averaged before the backbone; scores are at the frame rate.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        loss: dict | None = None,
        crop: int = 256,
        stride: int = 1,
        decoder: dict | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor or dict(type='BaseDataPreprocessor'))
        self.backbone = MODELS.build(backbone)
        self.head = dense.DenseHead(**head)
        self.loss_options, self.crop, self.stride = loss or {}, crop, stride
        self.register_buffer('durations', torch.tensor([[0.0, 1.0]]).repeat(head['num_classes'], 1))
        self.register_buffer('decoding', torch.zeros(len(fields(Decoder)), dtype=torch.float64))
        self.decoder = Decoder(**(decoder or {}))

    @property
    def decoder(self) -> Decoder:
        values = [round(v, 6) for v in self.decoding.tolist()]
        return Decoder(METHODS[int(values[0])], *values[1:])

    @decoder.setter
    def decoder(self, decoder: Decoder) -> None:
        method, *values = astuple(decoder)
        self.decoding.copy_(torch.tensor([METHODS.index(method), *values]))

    def scores(self, inputs: torch.Tensor) -> torch.Tensor:
        """Scores (N, K + 1, T) of inputs (N, T, V, C)."""
        frames, x = inputs.shape[1], inputs
        if self.stride > 1 and frames >= self.stride:
            whole = frames - frames % self.stride
            x = x[:, :whole].unflatten(1, (-1, self.stride)).mean(2)
        return self.head(self.backbone(x.unsqueeze(1)), frames)

    def probabilities(self, features: RecordingFeatures, **options) -> np.ndarray:
        """(T, K + 1) of a whole recording; see :func:`mg_plugins.spotting.frame_probabilities`."""
        self.eval()
        device = self.durations.device
        return dense.frame_probabilities(
            lambda x: self.scores(x.to(device)).cpu(), features, self.crop, **options
        )

    def spans(self, features: RecordingFeatures, **options) -> list[Span]:
        probability, durations = self.probabilities(features, **options), self.durations.cpu()
        fps, present = features.fps, features.present
        return decode(probability, fps, self.decoder, durations.numpy(), present)

    def forward(self, inputs: Sequence, data_samples: list | None = None, mode: str = 'tensor'):
        """Scores or losses of crops; of whole recordings' features samples with ``spans``."""
        if mode == 'predict':
            for features, sample in zip(inputs, data_samples, strict=True):
                sample.set_metainfo(dict(spans=self.spans(features)))
            return data_samples
        scores = self.scores(torch.stack(list(inputs)))
        if mode == 'tensor':
            return scores
        target = torch.stack([sample.target for sample in data_samples])
        return dense.dense_loss(scores, target, **self.loss_options)


@METRICS.register_module()
class SpottingMetric(BaseMetric):
    """F1 at IoU 0.1, 0.3, 0.5, detection rate, false positives, frame-wise macro-F1, latency."""

    default_prefix = 'spot'
    latest: list[dict] | None = None

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        names = ('frame_dir', 'segments', 'spans', 'frames', 'fps', 'classes')
        self.results += [{name: sample[name] for name in names} for sample in data_samples]

    def evaluate(self, size: int) -> dict[str, float]:
        """As upstream; on a synthetic set the names of all metrics begin with that word."""
        if (self.dataset_meta or {}).get('source') == 'synthetic':
            self.prefix = 'synthetic'
        return super().evaluate(size)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        self.latest, classes = results, results[0]['classes']
        frames, fps = ([r[key] for r in results] for key in ('frames', 'fps'))
        return spotting_scores([(r['segments'], r['spans']) for r in results], frames, fps, classes)


@HOOKS.register_module()
class SpottingHook(Hook):
    """Gives the model, before training, the durations of the training set's classes.

    The decoder is not fitted to that set, on which the network is surer than on others.
    """

    def before_train(self, runner: object) -> None:
        model = getattr(runner.model, 'module', runner.model)
        model.durations.copy_(torch.from_numpy(runner.train_dataloader.dataset.durations()))


@dataclass
class Spotter:
    """A trained model."""

    model: torch.nn.Module  # in evaluation mode
    classes: tuple[str, ...]  # names of the gesture classes
    layout: Layout  # joint layout that it was trained on
    source: str  # ``'synthetic'`` where its training data say so, else empty
    warning: str  # what a user should know before reading its results, or empty
    decoder: Decoder  # how probabilities become segments
    pipeline: Compose | None  # test pipeline of a model of cut clips; None for a dense one
    coordinates: int = 0  # 2 or 3, or 0 where the checkpoint does not say

    def segments(self, track: PoseTrack, name: str, progress: dense.Progress = None) -> Segments:
        """Gestures of every person, of any joint layout; progress counts the frames of all."""
        if not len(track.times):
            raise UserError(f'{name} has no frames')
        keypoint, score, layout = track.keypoint, track.score, get_layout(track.layout)
        if layout.joints != self.layout.joints:
            keypoint, score = relayout(keypoint, score, joint_parts(layout, self.layout))
        ends = frame_ends(track.times, track.fps)
        rows: list[Segment] = []
        for person in np.flatnonzero(score.any((1, 2))).tolist():
            done = person * len(track.times)
            told = progress and (lambda frames, done=done: progress(done + frames))
            spans = self.spot(keypoint[person], score[person], track.fps, track.size, told)
            rows += frame_segments(spans, self.classes, ends, name, person)
        return Segments(rows, self.source, float(ends[-1]))

    def spot(
        self,
        keypoint: np.ndarray,
        score: np.ndarray,
        fps: float,
        size: tuple[int, int] | None = None,
        progress: dense.Progress = None,
    ) -> list[Span]:
        """Segments of one person: keypoint (T, V, C), score (T, V), size (width, height)."""
        dims = keypoint.shape[-1]
        if self.coordinates not in (0, dims):
            raise UserError(
                f'the recording has {dims} coordinates a joint and the model learned from '
                f'{self.coordinates}: take a model trained on recordings with {dims}, which '
                '`python tools/train.py configs/spot_imigue.py --ann-file FILE` trains'
            )
        features = RecordingFeatures(keypoint, score, self.layout, fps)
        if self.pipeline is None:
            return self.model.spans(features, progress=progress)

        def compute(spans: list[tuple[int, int]]) -> np.ndarray:
            """(N, 1, K + 1): "nothing" where nobody is, and never probable elsewhere."""
            result = np.zeros((len(spans), 1, len(self.classes) + 1), np.float32)
            there = [features.present[slice(*span)].any() for span in spans]
            result[~np.array(there), :, -1] = 1
            samples = []
            for start, stop in itertools.compress(spans, there):
                clip = dict(
                    frame_dir='window', label=0, total_frames=stop - start, start_index=0,
                    keypoint=keypoint[None, start:stop].copy(), modality='Pose',
                    keypoint_score=score[None, start:stop].copy(),
                )  # fmt: skip
                if size:
                    clip.update(img_shape=size[::-1], original_shape=size[::-1])
                samples.append(self.pipeline(clip))
            if samples:
                found = self.model.test_step(pseudo_collate(samples))
                result[there, 0, :-1] = [sample.pred_score.numpy() for sample in found]
            return result

        length, step = max(2, round(WINDOW * fps)), max(1, round(STEP * fps))
        probability = dense.overlap_average(compute, len(keypoint), length, step, 16, progress)
        return decode(probability, fps, self.decoder, present=features.present)


def load_spotter(config: str | Path, checkpoint: str | Path, threshold: float = 0.6) -> Spotter:
    """A dense model, or a recognizer of cut clips with its ``threshold``, and its checkpoint."""
    for path in (config, checkpoint):
        if not Path(path).is_file():
            advice = f'`python tools/train.py {config}` trains a model and writes its checkpoint'
            raise UserError(f'{path} does not exist; {advice}')
    cfg = read_config(config)
    init_default_scope('mmaction')
    model = MODELS.build(cfg.model).eval()
    try:
        content = load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f'{checkpoint} is no checkpoint of {config}: {reason}') from error
    about = content.get('meta') or {}
    meta = about.get('dataset_meta') or {}
    of_frames = hasattr(model, 'durations')
    number = model.head.num_classes if of_frames else cfg.model.cls_head.num_classes
    backbone = cfg.model.backbone.get('backbone', cfg.model.backbone)
    pipeline, warning, decoder = None, '', getattr(model, 'decoder', None)
    coordinates = (about.get('inputs') or {}).get('coordinates', 0)
    if of_frames:
        coordinates = {channels(dims): dims for dims in (2, 3)}.get(backbone.in_channels)
        if coordinates is None:
            raise UserError(
                f'the network of {config} takes {backbone.in_channels} values a joint; this '
                f'version gives {channels(2)} (2D) or {channels(3)} (3D): train it anew'
            )
    else:
        steps = copy.deepcopy(cfg.test_dataloader.dataset.pipeline)
        pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        warning = (
            'this model has no "nothing" class: it was trained on cut clips and calls every '
            f'moment a gesture. Windows of {WINDOW:g} s below {threshold:g} count as nothing '
            '(--threshold); train a spotting config for better results'
        )
        decoder = Decoder('hysteresis', high=threshold, low=0.7 * threshold, confidence=0)
    classes = tuple(map(str, meta.get('classes') or range(number)))
    layout = get_layout(meta.get('layout') or backbone.graph_cfg.layout)
    source = 'synthetic' if meta.get('source') == 'synthetic' else ''
    return Spotter(model, classes, layout, source, warning, decoder, pipeline, coordinates)
