"""Dataset of untrimmed recordings for MMEngine's Runner."""

from collections.abc import Sequence

import numpy as np
import torch
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement

from mg_plugins.augment import SampleRandomness
from mg_plugins.data.annotations import AnnotationError, load_annotations
from mg_plugins.data.layouts import Layout, get_layout, layout_names
from mg_plugins.data.skeleton import body_size, detected_joints
from mg_plugins.errors import counted
from mg_plugins.spotting.decode import class_durations
from mg_plugins.spotting.features import RecordingFeatures, channels, compose, vary, without_gaps
from mg_plugins.spotting.metrics import paint

#: Splits of recordings to train and to test on, looked for in this order.
PAIRS = (('recordings_xsub_train', 'recordings_xsub_val'), ('recordings_train', 'recordings_val'))


@DATASETS.register_module()
class MGRecordings(BaseDataset):
    """Untrimmed recordings with segments; in training, crops of them and composed sequences.

    A training sample is a crop of ``crop`` frames of a random recording at another pace (up to
    35%) or, with probability ``composed``, a sequence put together from cut clips; see `vary`. A
    test sample is a whole recording. The person with most detected joints counts.

    Args:
        split: Split of recordings with ``segments``; None only trains on composed sequences.
        clip_split: Split, or splits, of cut clips, for composed sequences.
        composed: Share of composed sequences; 1 where there are no recordings.
        samples: Training samples an epoch.
        layout: Joint layout; None takes the one that the file names.
        fps: Frames a second where a recording does not say so.
    """

    def __init__(
        self,
        ann_file: str,
        split: str | None = None,
        clip_split: str | Sequence[str] | None = None,
        composed: float = 0.0,
        crop: int = 256,
        samples: int = 64,
        layout: str | dict | None = None,
        fps: float = 30.0,
        test_mode: bool = False,
        **kwargs,
    ) -> None:
        self.split, self.clip_split, self.composed = split, clip_split, composed
        self.crop, self.samples, self.fps = crop, samples, fps
        self._layout, self.randomness = layout, SampleRandomness()
        self.clips: list[tuple[int, np.ndarray]] = []
        kwargs |= dict(pipeline=[], test_mode=test_mode, serialize_data=False)
        super().__init__(str(ann_file), **kwargs)

    def load_data_list(self) -> list[dict]:
        content = load_annotations(self.ann_file)
        self._metainfo = {**content['meta'], **self._metainfo}
        recordings = self._of_split(content, self.split)
        if cut := [clip['frame_dir'] for clip in recordings if 'segments' not in clip]:
            raise AnnotationError(
                f'{self.ann_file}: {cut[0]!r} of split {self.split!r} has no "segments": it is a '
                'cut clip, not an untrimmed recording'
            )
        if self.clip_split and not self.test_mode:
            self.clips = [
                (clip['label'], _without_gaps(clip, self.layout))
                for clip in self._of_split(content, self.clip_split)
                if 'label' in clip and clip['total_frames'] > 3
            ]
        if not recordings and not self.clips:
            raise AnnotationError(
                f'{self.ann_file}: split {self.split!r} has no recordings; '
                'tools/prepare_data.py writes splits recordings_... of sets that have them'
            )
        return recordings

    def _of_split(self, content: dict, names: str | Sequence[str] | None) -> list[dict]:
        names, split = _listed(names), content['split']
        if lost := [name for name in names if name not in split]:
            raise AnnotationError(
                f'{self.ann_file} has no split {lost[0]!r}; it has {sorted(split)}'
            )
        wanted = set().union(*(split[name] for name in names))
        return [clip for clip in content['annotations'] if clip['frame_dir'] in wanted]

    @property
    def layout(self) -> Layout:
        return get_layout(self._layout or self._metainfo.get('layout'))

    @property
    def classes(self) -> Sequence[str]:
        """Names of the K gesture classes."""
        return self._metainfo['classes']

    def durations(self) -> np.ndarray:
        """(K, 2) mean and deviation of log seconds, of segments or, without them, of cut clips."""
        pairs = [
            (label, (end - start) / (recording.get('fps') or self.fps))
            for recording in self.data_list
            for label, start, end in spans_of(recording)
        ] or [(label, len(clip) / self.fps) for label, clip in self.clips]
        return class_durations(pairs, len(self.classes))

    def features(self, index: int) -> RecordingFeatures:
        recording = self.data_list[index]
        fps = float(recording.get('fps') or self.fps)
        return RecordingFeatures(*_main_person(recording), self.layout, fps)

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
        """``inputs`` (T, V, C) and ``data_samples`` with ``target`` (T,), or a test recording's."""
        self.full_init()
        if self.test_mode:
            recording, features = self.data_list[index], self.features(index)
            about = dict(frames=len(features), fps=features.fps, classes=len(self.classes))
            about |= dict(frame_dir=recording['frame_dir'], segments=spans_of(recording))
            return dict(inputs=features, data_samples=BaseDataElement(metainfo=about))
        rng = self.randomness.of(dict(sample_idx=index))
        if not self.data_list or (self.clips and rng.random() < self.composed):
            options = self.crop + 2, self.fps, len(self.classes), self.layout, rng
            keypoint, target = compose(self.clips, *options)
            features = RecordingFeatures(keypoint, None, self.layout, self.fps)
            start, pace = 1, 1.0
        else:
            index = int(rng.integers(len(self.data_list)))
            features, recording = self.features(index), self.data_list[index]
            target = paint(spans_of(recording), len(features), len(self.classes))
            pace = float(np.exp(rng.uniform(-0.3, 0.3)))
            start = int(rng.integers(0, max(len(features) - round(pace * self.crop), 0) + 1))
        at = np.round(np.arange(self.crop) * pace).astype(int)
        at = at[at < len(features) - start]
        short = self.crop - len(at)
        inputs = vary(features.slice(start, start + at[-1] + 1)[at], rng, pace)
        inputs = np.pad(inputs, ((0, short), (0, 0), (0, 0)))
        target = np.pad(target[start + at], (0, short), constant_values=-100)
        sample = BaseDataElement(target=torch.from_numpy(target.astype(np.int64)))
        return dict(inputs=torch.from_numpy(inputs), data_samples=sample)


def spans_of(recording: dict) -> list[tuple[int, int, int]]:
    """(class, start, end) of a recording's segments, in frames."""
    return [(s['label'], s['start'], s['end']) for s in recording['segments']]


def use_recordings(
    cfg: Config, path: str, layout: object = None, splits: Sequence[str] | None = None
) -> list[str]:
    """Bring an MGSpotter's config to an annotation file, in place, and tell what was changed.

    ``splits`` (training, test) are those of the config if the file has them, else of `PAIRS`.
    """
    content = load_annotations(path)
    meta, present, clips = content['meta'], content['split'], content['annotations']
    if not (layout := layout or meta.get('layout')):
        raise AnnotationError(f'{path} does not name its joint layout: say it by --layout')
    if not meta.get('classes'):
        raise AnnotationError(f'{path} does not name its classes: "meta" lacks "classes"')
    joints = get_layout(layout)
    layout = joints.name if joints.name in layout_names() else joints.as_dict()
    loaders = [cfg.get(f'{name}_dataloader') for name in ('train', 'val', 'test')]
    sets = [loader.dataset for loader in loaders if loader]
    own = tuple(dataset.get('split') for dataset in sets[:2])
    if own[0] is not None or splits:
        found = [p for p in ((splits,) if splits else (own, *PAIRS)) if set(p) <= set(present)]
        if not found:
            raise AnnotationError(
                f'{path} has the splits {", ".join(present)}: a spotting config needs two of '
                'untrimmed recordings, which tools/prepare_data.py --keep-recordings writes'
            )
        for place, dataset in enumerate(sets):
            dataset.split = found[0][min(place, 1)]
    if not {*_listed(sets[0].get('clip_split'))} <= set(present):
        sets[0].clip_split = next((n for n in ('xsub_train', 'train') if n in present), None)
    for dataset in sets:
        dataset.update(ann_file=str(path), layout=layout)
    dims, classes = clips[0]['keypoint'].shape[-1], len(meta['classes'])
    backbone = cfg.model.backbone.get('backbone', cfg.model.backbone)
    backbone.update(in_channels=channels(dims))
    backbone.graph_cfg.layout = layout
    cfg.model.head.num_classes = classes
    used = f'splits {[d.split for d in sets]}, {counted(classes, "classes")}, {dims} coordinates'
    return [f'{path}: {used}']


def _listed(names: str | Sequence[str] | None) -> Sequence[str]:
    return [names] if isinstance(names, str) else names or ()


def _main_person(clip: dict) -> tuple[np.ndarray, np.ndarray | None]:
    """keypoint (T, V, C) and score (T, V) of the person with most detected joints."""
    keypoint, score = clip['keypoint'], clip.get('keypoint_score')
    person = int(detected_joints(keypoint, score).sum((1, 2)).argmax())
    return keypoint[person], None if score is None else score[person]


def _without_gaps(clip: dict, layout: Layout) -> np.ndarray:
    """keypoint (T, V, C) of a cut clip with every joint in every frame; bodies of size 1 in 2D."""
    keypoint, score = _main_person(clip)
    seen = detected_joints(keypoint, score)
    if keypoint.shape[-1] == 2 and seen.any():
        keypoint = keypoint / body_size(keypoint, seen, layout)
    filled = keypoint.astype(np.float32)
    for joint in (layout.centre, *range(layout.num_joints)):
        if not seen[:, joint].any():
            filled[:, joint] = filled[:, layout.centre]
        elif not seen[:, joint].all():
            filled[:, joint] = without_gaps(keypoint[:, joint], seen[:, joint])
    return filled
