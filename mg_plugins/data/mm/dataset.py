"""The dataset class that training and test configs name: `MGPoseDataset`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmaction.datasets import PoseDataset
from mmaction.registry import DATASETS
from mmengine.dataset import BaseDataset

from mg_plugins.data.annotations import AnnotationError, load_annotations
from mg_plugins.data.labelled import draw_labelled
from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.data.mm.sampler import MGClassBalancedSampler, dataset_labels

__all__ = ['MGPoseDataset', 'MGClassBalancedSampler', 'dataset_labels']


@DATASETS.register_module()
class MGPoseDataset(PoseDataset):
    """MMAction2's PoseDataset on files that are read without running what is in them.

    Every sample carries the fields of its annotation, session, subject, start, end, fps and
    outcome among them where the file knows them.

    Args:
        ann_file: A .pkl or .npz annotation file, see `mg_plugins.data.annotations`.
        pipeline: Transforms, as for PoseDataset.
        split: Name of a split of the file; None takes all clips.
        subjects: Keep only clips of these subjects (numbers or texts).
        exclude_subjects: Drop clips of these subjects; with ``subjects`` given on the test side
            this leaves subjects out within a split.
        share: Keep only this part of each class's clips, at least one clip a class, as if the
            others had no label; above 0 and up to 1. The draw is that of `labelled.draw_labelled`,
            taken after the choices above.
        share_seed: Which draw.
        layout: Joint layout of the clips; None takes the one that the file names.
        with_score: Give ``keypoint_score`` to the pipeline. MMAction2's own pipelines over NTU's
            joints in metres have no place for it.
        **kwargs: As for PoseDataset (``test_mode``, ``data_root``, ``num_classes``, ...).

    Raises:
        AnnotationError: A file that is missing, refused or wrongly built, an unknown split or
            subject, a label that is no class, or no clip left.
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
        layout: str | dict | None = None,
        with_score: bool = True,
        **kwargs,
    ) -> None:
        self.subjects = _texts(subjects)
        self.exclude_subjects = _texts(exclude_subjects)
        self.share, self.share_seed = share, share_seed
        self._layout = layout
        self.with_score = with_score
        self._labels: np.ndarray | None = None
        super().__init__(str(ann_file), pipeline, split=split, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the file, choose split and subjects, and take over its meta information."""
        content = load_annotations(self.ann_file)
        for key, value in content['meta'].items():
            self._metainfo.setdefault(key, value)
        clips = self._of_split(content['annotations'], content['split'])
        clips = self._of_subjects(clips)
        if not clips:
            raise AnnotationError(
                f'no clip of {self.ann_file} is left after split {self.split!r}, subjects '
                f'{self.subjects} and exclude_subjects {self.exclude_subjects}'
            )
        if self.share is not None:
            labels, ids = [c['label'] for c in clips], [c['frame_dir'] for c in clips]
            clips = [clips[i] for i in draw_labelled(labels, ids, self.share, self.share_seed)]
        layout = self.layout
        joints = clips[0]['keypoint'].shape[2]
        if layout is not None and layout.num_joints != joints:
            raise AnnotationError(
                f'{self.ann_file} has {joints} joints, but layout {layout.name!r} has '
                f'{layout.num_joints}'
            )
        largest = max(clips, key=lambda clip: clip['label'])
        known = self.num_classes or len(self._metainfo.get('classes') or ()) or largest['label'] + 1
        if largest['label'] >= known:
            raise AnnotationError(
                f'{self.ann_file}: clip {largest["frame_dir"]!r} has label {largest["label"]}, but '
                f'there are {known} classes'
            )
        if not self.with_score:
            clips = [{k: v for k, v in c.items() if k != 'keypoint_score'} for c in clips]
        return clips

    def _of_split(self, clips: list[dict], splits: dict) -> list[dict]:
        if self.split is None:
            return clips
        if self.split not in splits:
            raise AnnotationError(
                f'{self.ann_file} has no split {self.split!r}; it has {sorted(splits) or "none"}'
            )
        wanted = set(splits[self.split])
        return [clip for clip in clips if clip['frame_dir'] in wanted]

    def _of_subjects(self, clips: list[dict]) -> list[dict]:
        if self.subjects is None and self.exclude_subjects is None:
            return clips
        present = {str(clip['subject']) for clip in clips if 'subject' in clip}
        asked = {*(self.subjects or ()), *(self.exclude_subjects or ())}
        if not asked <= present:
            raise AnnotationError(
                f'{self.ann_file}, split {self.split!r}: no clips of subjects '
                f'{sorted(asked - present)}; it has {sorted(present) or "no subjects"}'
            )
        keep = present if self.subjects is None else set(self.subjects)
        keep -= set(self.exclude_subjects or ())
        return [clip for clip in clips if str(clip.get('subject')) in keep]

    @property
    def layout(self) -> Layout | None:
        """Joint layout of the clips, or None where neither the config nor the file names it."""
        layout = self._layout or self._metainfo.get('layout')
        return None if layout is None else get_layout(layout)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names in label order, or None where unknown."""
        classes = self._metainfo.get('classes')
        return None if classes is None else tuple(classes)

    @property
    def labels(self) -> np.ndarray:
        """Label (N) of every clip, in the order of the dataset."""
        if self._labels is None:
            self._labels = np.array(
                [BaseDataset.get_data_info(self, index)['label'] for index in range(len(self))],
                dtype=np.int64,
            )
        return self._labels

    @property
    def class_counts(self) -> np.ndarray:
        """Number of clips of each class (num_classes), after all choices; zeros included."""
        return np.bincount(self.labels, minlength=self.num_classes or len(self.classes or ()))

    def get_cat_ids(self, idx: int) -> list[int]:
        """Label of one clip, for MMEngine's ClassBalancedDataset."""
        return [int(self.labels[idx])]

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Keep the given clips only."""
        self._labels = None
        super().get_subset_(indices)

    def get_subset(self, indices: int | Sequence[int]) -> MGPoseDataset:
        """A copy with the given clips only."""
        subset = super().get_subset(indices)
        subset._labels = None
        return subset


def _texts(subjects: Sequence[int | str] | None) -> list[str] | None:
    if subjects is None:
        return None
    if isinstance(subjects, str):
        raise TypeError(f'subjects are a list, such as [1, 3], not the text {subjects!r}')
    return [str(subject) for subject in subjects]
