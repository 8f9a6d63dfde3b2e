"""The dataset class that training and test configs name, and the sampler for long-tailed sets."""

import logging
from collections.abc import Iterator, Sequence, Sized
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from mmaction.datasets import PoseDataset
from mmaction.registry import DATASETS
from mmengine.dataset import BaseDataset, ConcatDataset, DefaultSampler, RepeatDataset
from mmengine.registry import DATA_SAMPLERS

from mg_plugins.data.annotations import AnnotationError, load_annotations
from mg_plugins.data.checks import check_classes
from mg_plugins.data.classes import draw_labelled
from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.data.storage import ClipFolder, clip_labels, clip_names
from mg_plugins.errors import UserError

_log = logging.getLogger('mg_plugins')


@DATASETS.register_module()
class MGPoseDataset(PoseDataset):
    """MMAction2's PoseDataset on what `load_annotations` reads, without running what is in it.

    Every sample carries the fields of its annotation. The clips of a ``.mg`` folder stay on the
    disk; worker processes share those of other files, so there is no ``serialize_data``. What is
    wrong with the file, the choice of clips or a label is an AnnotationError.

    Args:
        subjects: Keep only clips of these subjects (numbers or texts).
        exclude_subjects: Drop clips of these subjects, so as to leave some out within a split.
        share: Keep only this part of each class's clips, as if the others had no label: the draw
            ``share_seed`` of `draw_labelled` among the labelled clips that are left of the above.
        rest: Take the clips with a label that ``share`` leaves instead.
        labelled: Keep only clips with a label; the others serve pre-training and prediction. The
            tools set it where the model learns from labels.
        layout: Joint layout of the clips; None takes the one that the file names.
        with_score: Give ``keypoint_score`` to the pipeline. MMAction2's own pipelines over NTU's
            joints in metres have no place for it.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: list,
        split: str | None = None,
        subjects: Sequence[int | str] | None = None,
        exclude_subjects: Sequence[int | str] | None = None,
        share: float | None = None,
        share_seed: int = 0,
        rest: bool = False,
        labelled: bool = False,
        layout: str | dict | None = None,
        with_score: bool = True,
        **kwargs,
    ) -> None:
        self.subjects, self.exclude_subjects = _texts(subjects), _texts(exclude_subjects)
        self.share, self.share_seed, self.rest = share, share_seed, rest
        self.labelled = labelled or share is not None
        self._layout, self.with_score = layout, with_score
        super().__init__(str(ann_file), pipeline, split=split, **kwargs | {'serialize_data': False})

    def load_data_list(self) -> Sequence[dict]:
        path = Path(self.ann_file)
        stat = path.stat() if path.exists() else None
        content = _content(path, stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino))
        self._metainfo = content['meta'] | self._metainfo
        clips = self._chosen(content)
        if not len(clips):
            raise AnnotationError(
                f'no clip of {self.ann_file} is left after split {self.split!r}, subjects '
                f'{self.subjects} and exclude_subjects {self.exclude_subjects}'
                + (', with a label' if self.labelled else '')
                + (f', without a share of {self.share:.3g} of each class' if self.rest else '')
            )
        layout, joints = self.layout, clips[0]['keypoint'].shape[2]
        if layout is not None and layout.num_joints != joints:
            known = f'layout {layout.name!r} has {layout.num_joints}'
            raise AnnotationError(f'{self.ann_file} has {joints} joints, but {known}')
        known = self.num_classes or len(self.classes or ())
        check_classes(clips, clip_labels(clips), known, self.ann_file)
        return clips

    def _chosen(self, content: dict) -> Sequence[dict]:
        """The clips of the split, the subjects and the share asked for."""
        clips, splits = content['annotations'], content['split']
        names, labels = np.array(clip_names(clips), object), clip_labels(clips)
        keep = np.ones(len(clips), bool)
        if self.split is not None:
            if self.split not in splits:
                has = sorted(splits) or 'none'
                raise AnnotationError(f'{self.ann_file} has no split {self.split!r}; it has {has}')
            wanted = set(splits[self.split])
            keep = np.array([name in wanted for name in names], bool)
        if self.subjects is not None or self.exclude_subjects is not None:
            keep &= self._of_subjects(clips, keep)
        if self.labelled:
            bare = keep & (labels < 0)
            keep &= ~bare
            if bare.any() and keep.any():
                what = f'{bare.sum()} clips without a label are left out, {keep.sum()} are kept'
                _log.warning('%s, split %r: %s', self.ann_file, self.split, what)
        chosen = np.flatnonzero(keep)
        if self.share is not None:
            own = draw_labelled(labels[chosen], names[chosen], self.share, self.share_seed)
            chosen = np.delete(chosen, own) if self.rest else chosen[own]
        return clips[chosen] if isinstance(clips, ClipFolder) else [clips[i] for i in chosen]

    def _of_subjects(self, clips: Sequence[dict], keep: np.ndarray) -> np.ndarray:
        own = [str(c['subject']) if 'subject' in c else None for c in clips]
        present = {subject for subject, kept in zip(own, keep, strict=True) if kept} - {None}
        excluded = set(self.exclude_subjects or ())
        asked = excluded | set(self.subjects or ())
        if not asked <= present:
            where = f'{self.ann_file}, split {self.split!r}'
            lacking, has = sorted(asked - present), sorted(present) or 'no subjects'
            raise AnnotationError(f'{where}: no clips of subjects {lacking}; it has {has}')
        wanted = (present if self.subjects is None else set(self.subjects)) - excluded
        return np.array([subject in wanted for subject in own], bool)

    def get_data_info(self, idx: int) -> dict:
        info = super().get_data_info(idx)
        if not self.with_score:
            info.pop('keypoint_score', None)
        return info

    @property
    def layout(self) -> Layout | None:
        """Joint layout of the clips, if the config or the file names it."""
        layout = self._layout or self._metainfo.get('layout')
        return None if layout is None else get_layout(layout)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names in label order, if known."""
        classes = self._metainfo.get('classes')
        return None if classes is None else tuple(classes)

    @property
    def labels(self) -> np.ndarray:
        """Label (N) of every clip, in the order of the dataset; -1 where there is none."""
        self.full_init()
        return clip_labels(self.data_list)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Label of one clip, for MMEngine's ClassBalancedDataset."""
        self.full_init()
        return [self.data_list[idx].get('label', -1)]


@lru_cache(maxsize=2)
def _content(path: Path, stamp: tuple | None) -> dict:
    """What is in a file, held once for all datasets of a process while the file stays the same."""
    return load_annotations(path)


def _texts(subjects: Sequence[int | str] | None) -> list[str] | None:
    if isinstance(subjects, str):
        raise TypeError(f'subjects are a list, such as [1, 3], not the text {subjects!r}')
    return None if subjects is None else [str(subject) for subject in subjects]


def dataset_labels(dataset) -> np.ndarray:
    """Integer label (N) of every sample, -1 for none, through RepeatDataset and ConcatDataset."""
    if isinstance(dataset, RepeatDataset):
        return np.tile(dataset_labels(dataset.dataset), dataset.times)
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([dataset_labels(part) for part in dataset.datasets])
    labels = getattr(dataset, 'labels', None)
    if labels is None and isinstance(dataset, BaseDataset):
        infos = (BaseDataset.get_data_info(dataset, index) for index in range(len(dataset)))
        labels = [info.get('label', -1) for info in infos]
    if labels is None:
        remedy = 'use MGPoseDataset, another MMEngine dataset, or give it a property "labels"'
        kind = type(dataset).__name__
        raise TypeError(f'class-balanced sampling needs the labels of {kind}: {remedy}')
    return np.asarray(labels, dtype=np.int64)


@DATA_SAMPLERS.register_module()
class MGClassBalancedSampler(DefaultSampler):
    """Draws every class c with probability proportional to count(c) ** (1 - power).

    ``power`` 0 is the data set as it is, 0.5 takes square roots, 1 gives all classes the same
    share. An epoch has as many draws as the data set has clips, by systematic sampling: a clip, and
    a class, whose expected number of draws is e comes floor(e) or ceil(e) times, in another order
    and selection each epoch; without ``shuffle`` they are the same, in data set order. Draws depend
    on ``seed + epoch`` alone, so a resumed run goes on as the killed one would have. Ranks share
    one sequence, each taking every world_size-th draw. Every clip needs a label.
    """

    def __init__(
        self,
        dataset: Sized,
        power: float = 0.5,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        if not 0 <= power <= 1:
            raise ValueError(f'power is {power}, expected 0 (no balancing) to 1 (equal classes)')
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=round_up)
        self.power, self.labels = power, dataset_labels(dataset)
        if bare := int((self.labels < 0).sum()):
            what = f'class-balanced sampling needs labels; {bare} of {len(self.labels)} clips have'
            raise UserError(f'{what} none: MGPoseDataset(labelled=True) keeps the others')
        weights = np.bincount(self.labels)[self.labels].astype(np.float64) ** -power
        self.expected = weights * (len(weights) / weights.sum())

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed + (self.epoch if self.shuffle else 0))
        size = len(self.expected)
        order = torch.randperm(size, generator=generator).numpy()
        order = order[np.argsort(self.labels[order], kind='stable')]
        start = torch.rand((), generator=generator, dtype=torch.float64).item()
        # Points start, start + 1, ... on a line where every clip owns a stretch as long as its
        # expected number of draws, the clips of a class side by side.
        edges = np.cumsum(self.expected[order])
        picks = np.searchsorted(edges, start + np.arange(size), side='right')
        drawn = order[np.minimum(picks, size - 1)]
        if self.shuffle:
            drawn = drawn[torch.randperm(size, generator=generator).numpy()]
        else:
            drawn = np.sort(drawn)
        return iter(np.resize(drawn, self.total_size)[self.rank :: self.world_size].tolist())
