"""Dataset of untrimmed recordings for MMEngine's Runner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmaction.registry import DATASETS
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement

from mg_plugins.augment.randomness import SampleRandomness
from mg_plugins.data.annotations import AnnotationError, load_annotations
from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.data.skeleton import body_size
from mg_plugins.spotting.compose import compose
from mg_plugins.spotting.decode import class_durations
from mg_plugins.spotting.features import RecordingFeatures
from mg_plugins.spotting.metrics import paint


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

    def get_data_info(self, idx: int) -> dict:
        """As upstream; a cut clip where there are no recordings to train on."""
        self.full_init()
        if self.data_list:
            return super().get_data_info(idx)
        label, keypoint = self.clips[idx % len(self.clips)]
        return dict(label=label, keypoint=keypoint[None], total_frames=len(keypoint))

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
