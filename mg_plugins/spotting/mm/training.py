"""Dataset of untrimmed recordings, network, metric and hook for MMEngine's Runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields

import numpy as np
import torch
from mmaction.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from mg_plugins.augment.randomness import SampleRandomness
from mg_plugins.data.annotations import AnnotationError, load_annotations
from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.data.skeleton import body_size
from mg_plugins.spotting.compose import compose
from mg_plugins.spotting.decode import Decoder, Span, calibrate, class_durations, decode
from mg_plugins.spotting.dense import DenseHead, dense_loss, frame_probabilities
from mg_plugins.spotting.features import RecordingFeatures
from mg_plugins.spotting.metrics import paint, spotting_scores

METHODS = ('semi_markov', 'hysteresis')


@DATASETS.register_module()
class MGRecordings(BaseDataset):
    """Untrimmed recordings with segments; in training, crops of them and composed sequences.

    A training sample is a crop of ``crop`` frames of a random recording or, with probability
    ``composed``, a sequence put together from cut clips. A test sample is a whole recording. The
    person with most detected joints counts.

    Args:
        ann_file: A .pkl or .npz annotation file.
        split: Split of recordings with ``segments``; None only trains on composed sequences.
        clip_split: Split of cut clips, for composed sequences.
        composed: Share of composed sequences; 1 where there are no recordings.
        crop: Frames of a training sample.
        samples: Training samples an epoch.
        keep: Take only these recordings of the split, by position, such as ``(0, 24)``.
        layout: Joint layout; None takes the one that the file names.
        fps: Frames a second where a recording does not say so.
        test_mode: Whole recordings instead of crops.
        **kwargs: As for BaseDataset.

    Raises:
        AnnotationError: The file, a split or segments are missing.
    """

    def __init__(
        self,
        ann_file: str,
        split: str | None = None,
        clip_split: str | None = None,
        composed: float = 0.0,
        crop: int = 256,
        samples: int = 64,
        keep: tuple[int, int] | None = None,
        layout: str | dict | None = None,
        fps: float = 30.0,
        test_mode: bool = False,
        **kwargs,
    ) -> None:
        self.split, self.clip_split, self.composed = split, clip_split, composed
        self.crop, self.samples, self.keep, self.fps = crop, samples, keep, fps
        self._layout, self.randomness = layout, SampleRandomness()
        self.clips: list[tuple[int, np.ndarray]] = []
        kwargs.pop('pipeline', None)
        super().__init__(
            str(ann_file), pipeline=[], test_mode=test_mode, serialize_data=False, **kwargs
        )

    def load_data_list(self) -> list[dict]:
        """Read recordings and cut clips."""
        content = load_annotations(self.ann_file)
        for key, value in content['meta'].items():
            self._metainfo.setdefault(key, value)
        recordings = self._of_split(content, self.split) if self.split else []
        for recording in recordings:
            if 'segments' not in recording:
                raise AnnotationError(
                    f'{self.ann_file}: {recording["frame_dir"]!r} of split {self.split!r} has no '
                    '"segments": it is a cut clip, not an untrimmed recording'
                )
        if self.keep:
            recordings = recordings[slice(*self.keep)]
        if self.clip_split:
            self.clips = [
                (clip['label'], _without_gaps(clip, self.layout))
                for clip in self._of_split(content, self.clip_split)
                if 'label' in clip and clip['total_frames'] > 3
            ]
        if not recordings and not (self.clips and not self.test_mode):
            raise AnnotationError(
                f'{self.ann_file}: split {self.split!r} has no recordings; '
                'tools/prepare_data.py writes splits recordings_... of sets that have them'
            )
        return recordings

    def _of_split(self, content: dict, name: str) -> list[dict]:
        if name not in content['split']:
            raise AnnotationError(
                f'{self.ann_file} has no split {name!r}; it has {sorted(content["split"])}'
            )
        wanted = set(content['split'][name])
        return [clip for clip in content['annotations'] if clip['frame_dir'] in wanted]

    @property
    def layout(self) -> Layout:
        """Joint layout of the recordings."""
        return get_layout(self._layout or self._metainfo.get('layout'))

    @property
    def classes(self) -> Sequence[str]:
        """Names of the K gesture classes."""
        return self._metainfo['classes']

    def durations(self) -> np.ndarray:
        """(K, 2) mean and deviation of log seconds, of segments or, without them, of cut clips."""
        pairs = [
            (s['label'], (s['end'] - s['start']) / (r.get('fps') or self.fps))
            for r in self.data_list
            for s in r['segments']
        ] or [(label, len(clip) / self.fps) for label, clip in self.clips]
        return class_durations(pairs, len(self.classes))

    def features(self, index: int) -> RecordingFeatures:
        """Features of a whole recording."""
        recording = self.data_list[index]
        keypoint, score = _main_person(recording)
        fps = float(recording.get('fps') or self.fps)
        return RecordingFeatures(keypoint, score, self.layout, fps)

    def __len__(self) -> int:
        self.full_init()
        return len(self.data_list) if self.test_mode else self.samples

    def __getitem__(self, index: int) -> dict:
        """``inputs`` (T, V, C) and ``data_samples`` with ``target`` (T,) and what is known."""
        self.full_init()
        if self.test_mode:
            return self._whole(index)
        rng = self.randomness.of(dict(sample_idx=index))
        if not self.data_list or (self.clips and rng.random() < self.composed):
            keypoint, target = compose(
                self.clips, self.crop + 2, self.fps, len(self.classes), self.layout, rng
            )
            features = RecordingFeatures(keypoint, None, self.layout, self.fps)
            inputs, target = features.slice(1, self.crop + 1), target[1:-1]
        else:
            inputs, target = self._crop(int(rng.integers(len(self.data_list))), rng)
        sample = BaseDataElement(target=torch.from_numpy(target.astype(np.int64)))
        return dict(inputs=torch.from_numpy(_vary(inputs, rng)), data_samples=sample)

    def _crop(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        features = self.features(index)
        target = _target(self.data_list[index], len(features), len(self.classes))
        start = int(rng.integers(0, max(len(features) - self.crop, 0) + 1))
        stop = min(start + self.crop, len(features))
        short = self.crop - (stop - start)
        inputs = np.pad(features.slice(start, stop), ((0, short), (0, 0), (0, 0)))
        return inputs, np.pad(target[start:stop], (0, short), constant_values=-100)

    def _whole(self, index: int) -> dict:
        recording, features = self.data_list[index], self.features(index)
        known = {k: recording[k] for k in ('frame_dir', 'session', 'subject') if k in recording}
        sample = BaseDataElement(
            metainfo=dict(
                known,
                fps=features.fps,
                segments=[(s['label'], s['start'], s['end']) for s in recording['segments']],
            ),
            present=torch.from_numpy(features.present),
        )
        inputs = torch.from_numpy(features.slice(0, len(features)))
        return dict(inputs=inputs, data_samples=sample)


@MODELS.register_module()
class MGSpotter(BaseModel):
    """A GCN backbone and a dense head: class probabilities for every frame of a recording.

    The checkpoint carries what decoding needs: durations of the classes and the calibrated decoder.

    Args:
        backbone: Config of a GCN backbone, fused or not, input (N, M, T, V, C).
        head: Options of :class:`mg_plugins.spotting.DenseHead`.
        loss: Options of :func:`mg_plugins.spotting.dense_loss`.
        crop: Frames of a training sample, which inference runs in.
        stride: Frames that are averaged before the backbone; scores are at the frame rate all the
            same.
        decoder: Options of :class:`mg_plugins.spotting.Decoder`.
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
        values = [METHODS.index(v) if k == 'method' else v for k, v in asdict(
            Decoder(**(decoder or {}))
        ).items()]  # fmt: skip
        self.register_buffer('decoding', torch.tensor(values, dtype=torch.float64))

    @property
    def decoder(self) -> Decoder:
        """How probabilities become segments."""
        values = [round(v, 6) for v in self.decoding.tolist()]
        return Decoder(METHODS[int(values[0])], *values[1:])

    @decoder.setter
    def decoder(self, decoder: Decoder) -> None:
        for place, field in enumerate(fields(decoder)):
            value = getattr(decoder, field.name)
            self.decoding[place] = METHODS.index(value) if field.name == 'method' else value

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

    def spans(self, probability: np.ndarray, fps: float, present: np.ndarray | None) -> list[Span]:
        """Decoded segments of a recording."""
        return decode(probability, fps, self.decoder, self.durations.cpu().numpy(), present)

    def forward(
        self, inputs: Sequence[torch.Tensor], data_samples: list | None = None, mode: str = 'tensor'
    ) -> object:
        """Scores, losses or samples with ``probability`` (T, K + 1) and ``spans``."""
        if mode == 'predict':
            for part, sample in zip(inputs, data_samples, strict=True):
                probability = self.probabilities(_Given(part.cpu().numpy()))
                present = sample.present.cpu().numpy()
                sample.set_data(dict(probability=torch.from_numpy(probability)))
                sample.set_metainfo(dict(spans=self.spans(probability, sample.fps, present)))
            return data_samples
        scores = self.scores(torch.stack(list(inputs)))
        if mode == 'tensor':
            return scores
        target = torch.stack([sample.target for sample in data_samples])
        return dense_loss(scores, target, **self.loss_options)


class _Given:
    """Features that are there already, for `frame_probabilities`."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def slice(self, start: int, stop: int) -> np.ndarray:
        return self.array[start:stop]


@METRICS.register_module()
class SpottingMetric(BaseMetric):
    """F1 at IoU 0.1, 0.3, 0.5, detection rate, false positives, frame-wise macro-F1, latency.

    Args:
        prefix: Put before each metric's name, ``spot/f1@0.5`` by default.
        collect_device: Where results of several ranks are gathered.
    """

    default_prefix = 'spot'

    def __init__(self, prefix: str | None = None, collect_device: str = 'cpu') -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.latest: list[dict] | None = None

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Keep truth and spans of each recording."""
        for sample in data_samples:
            self.results.append(
                dict(
                    recording=sample['frame_dir'],
                    truth=sample['segments'],
                    spans=sample['spans'],
                    frames=len(sample['probability']),
                    fps=sample['fps'],
                    classes=sample['probability'].shape[1] - 1,
                )
            )

    def evaluate(self, size: int) -> dict[str, float]:
        """As upstream; on a synthetic set the names of all metrics begin with that word."""
        if (self.dataset_meta or {}).get('source') == 'synthetic':
            if not self.prefix.startswith('synthetic'):
                self.prefix = 'synthetic'
        return super().evaluate(size)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Metrics over all recordings of all ranks."""
        self.latest = results
        return spotting_scores(
            [(r['truth'], r['spans']) for r in results],
            [r['frames'] for r in results],
            [r['fps'] for r in results],
            results[0]['classes'],
        )


@HOOKS.register_module()
class SpottingHook(Hook):
    """Before training, durations from the training recordings; after it, the calibrated decoder.

    Runs before the checkpoint of the last iteration is written, which thus holds both. Without
    labelled recordings the decoder stays what the config says.
    """

    def before_train(self, runner: object) -> None:
        """Take the durations of the training set's classes."""
        model, dataset = _unwrap(runner.model), runner.train_dataloader.dataset
        model.durations.copy_(torch.from_numpy(dataset.durations()))

    def after_train_iter(self, runner: object, batch_idx: int, *args, **kwargs) -> None:
        """Calibrate on the last iteration."""
        if runner.iter + 1 < runner.max_iters:
            return
        model, dataset = _unwrap(runner.model), runner.train_dataloader.dataset
        recordings = []
        for index, recording in enumerate(dataset.data_list):
            features = dataset.features(index)
            truth = [(s['label'], s['start'], s['end']) for s in recording['segments']]
            recordings.append((model.probabilities(features), features.fps, truth))
        model.train()
        if recordings:
            model.decoder = calibrate(recordings, model.durations.cpu().numpy(), model.decoder)
            runner.logger.info(f'Decoder: {model.decoder}')


def _unwrap(model: torch.nn.Module) -> MGSpotter:
    return getattr(model, 'module', model)


def _main_person(clip: dict) -> tuple[np.ndarray, np.ndarray | None]:
    """keypoint (T, V, C) and score (T, V) of the person with most detected joints."""
    score = clip.get('keypoint_score')
    seen = (clip['keypoint'] != 0).any(-1) if score is None else score > 0
    person = int(seen.sum((1, 2)).argmax())
    return clip['keypoint'][person], None if score is None else score[person]


def _without_gaps(clip: dict, layout: Layout) -> np.ndarray:
    """keypoint (T, V, C) of a cut clip with every joint in every frame; bodies of size 1 in 2D.

    Missing joints are interpolated, or lie at the centre where they were never seen.
    """
    keypoint, score = _main_person(clip)
    seen = (keypoint != 0).any(-1) if score is None else score > 0
    if keypoint.shape[-1] == 2 and seen.any():
        keypoint = keypoint / body_size(keypoint, seen, layout)
    if seen.all():
        return keypoint
    frames, filled = np.arange(len(keypoint)), keypoint.astype(np.float64)
    order = [layout.centre, *range(layout.num_joints)]
    for joint in order:
        at = np.flatnonzero(seen[:, joint])
        if at.size:
            for axis in range(keypoint.shape[-1]):
                filled[:, joint, axis] = np.interp(frames, at, keypoint[at, joint, axis])
        else:
            filled[:, joint] = filled[:, layout.centre]
    return filled.astype(np.float32)


def _target(recording: dict, frames: int, nothing: int) -> np.ndarray:
    spans = [(s['label'], s['start'], s['end']) for s in recording['segments']]
    return paint(spans, frames, nothing)


def _vary(inputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another size (±15%) and, in 3D, another viewpoint (up to 15° about each axis)."""
    dims = 2 if inputs.shape[-1] == 5 else 3
    vectors = inputs[..., : 2 * dims] * rng.uniform(0.85, 1.15)
    if dims == 3:
        from scipy.spatial.transform import Rotation

        turn = Rotation.from_euler('xyz', rng.uniform(-15, 15, 3), degrees=True).as_matrix()
        shape = vectors.shape
        vectors = (vectors.reshape(*shape[:-1], 2, 3) @ turn.T).reshape(shape)
    return np.concatenate([vectors, inputs[..., 2 * dims :]], -1).astype(np.float32)
