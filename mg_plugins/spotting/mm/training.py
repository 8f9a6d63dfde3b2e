"""Network, metric and hook for MMEngine's Runner."""

from collections.abc import Sequence
from dataclasses import astuple, fields

import numpy as np
import torch
from mmaction.registry import HOOKS, METRICS, MODELS
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel

from mg_plugins.spotting.decode import Decoder, Span, decode
from mg_plugins.spotting.dense import DenseHead, dense_loss, frame_probabilities
from mg_plugins.spotting.features import RecordingFeatures
from mg_plugins.spotting.metrics import spotting_scores

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
        self.head = DenseHead(**head)
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
        return frame_probabilities(
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
        return dense_loss(scores, target, **self.loss_options)


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
