"""The dataset class that training and test configs name: `MGPoseDataset`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from mmaction.datasets import PoseDataset
from mmaction.registry import DATASETS

from mg_plugins.data.annotations import AnnotationError, load_annotations
from mg_plugins.data.checks import label_of
from mg_plugins.data.labelled import draw_labelled
from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.data.mm.sampler import MGClassBalancedSampler, dataset_labels
from mg_plugins.data.storage import ClipFolder, clip_labels, clip_names

__all__ = ['MGPoseDataset', 'MGClassBalancedSampler', 'dataset_labels']
_log = logging.getLogger('mg_plugins')


@DATASETS.register_module()
class MGPoseDataset(PoseDataset):
    """MMAction2's PoseDataset on files that are read without running what is in them.

    Every sample carries the fields of its annotation, session, subject, start, end, fps and
    outcome among them where the file knows them. Clips without a label are kept, for pre-training
    and prediction, unless ``labelled`` says otherwise. The clips of a ``.mg`` folder stay on the
    disk; worker processes share those of other files, so there is no ``serialize_data``.

    Args:
        ann_file: A .pkl or .npz file or a .mg folder, see `mg_plugins.data.annotations`.
        pipeline: Transforms, as for PoseDataset.
        split: Name of a split of the file; None takes all clips.
        subjects: Keep only clips of these subjects (numbers or texts).
        exclude_subjects: Drop clips of these subjects; with ``subjects`` given on the test side
            this leaves subjects out within a split.
        share: Keep only this part of each class's clips, at least one clip a class, as if the
            others had no label; above 0 and up to 1. The draw is that of `labelled.draw_labelled`,
            taken after the choices above, among the clips that have a label.
        share_seed: Which draw.
        labelled: Keep only clips with a label. The tools set it where the model learns from labels.
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
        labelled: bool = False,
        layout: str | dict | None = None,
        with_score: bool = True,
        **kwargs,
    ) -> None:
        self.subjects, self.exclude_subjects = _texts(subjects), _texts(exclude_subjects)
        self.share, self.share_seed = share, share_seed
        self.labelled = labelled or share is not None
        self._layout, self.with_score = layout, with_score
        super().__init__(str(ann_file), pipeline, split=split, **kwargs | {'serialize_data': False})

    def load_data_list(self) -> Sequence[dict]:
        """Read the file, choose split and subjects, and take over its meta information."""
        content = self._content = _shared(Path(self.ann_file))
        for key, value in content['meta'].items():
            self._metainfo.setdefault(key, value)
        clips = self._chosen(content)
        if not len(clips):
            raise AnnotationError(
                f'no clip of {self.ann_file} is left after split {self.split!r}, subjects '
                f'{self.subjects} and exclude_subjects {self.exclude_subjects}'
                + (', with a label' if self.labelled else '')
            )
        layout, joints = self.layout, clips[0]['keypoint'].shape[2]
        if layout is not None and layout.num_joints != joints:
            raise AnnotationError(
                f'{self.ann_file} has {joints} joints, but layout {layout.name!r} has '
                f'{layout.num_joints}'
            )
        known = self.num_classes or len(self.classes or ())
        wrong = np.flatnonzero(clip_labels(clips) >= known) if known else ()
        if len(wrong):
            raise AnnotationError(
                f'{self.ann_file}: {label_of(clips[int(wrong[0])], known)}; where labels are '
                'counted from 1, subtract 1'
            )
        return clips

    def _chosen(self, content: dict) -> Sequence[dict]:
        """The clips of the split, the subjects and the share asked for."""
        clips, splits = content['annotations'], content['split']
        names, labels = np.array(clip_names(clips), object), clip_labels(clips)
        keep = np.ones(len(clips), bool)
        if self.split is not None:
            if self.split not in splits:
                raise AnnotationError(
                    f'{self.ann_file} has no split {self.split!r}; it has '
                    f'{sorted(splits) or "none"}'
                )
            wanted = set(splits[self.split])
            keep = np.array([name in wanted for name in names], bool)
        if self.subjects is not None or self.exclude_subjects is not None:
            keep &= self._of_subjects(clips, keep)
        if self.labelled:
            bare = keep & (labels < 0)
            keep &= ~bare
            if bare.any() and keep.any():
                _log.warning(
                    '%s, split %r: %d clips without a label are left out, %d are kept',
                    *(self.ann_file, self.split, bare.sum(), keep.sum()),
                )
        chosen = np.flatnonzero(keep)
        if self.share is not None:
            own = draw_labelled(labels[chosen], names[chosen], self.share, self.share_seed)
            chosen = chosen[own]
        return clips[chosen] if isinstance(clips, ClipFolder) else [clips[i] for i in chosen]

    def _of_subjects(self, clips: Sequence[dict], keep: np.ndarray) -> np.ndarray:
        own = [str(c['subject']) if 'subject' in c else None for c in clips]
        present = {subject for subject, kept in zip(own, keep, strict=True) if kept} - {None}
        excluded = set(self.exclude_subjects or ())
        asked = excluded | set(self.subjects or ())
        if not asked <= present:
            raise AnnotationError(
                f'{self.ann_file}, split {self.split!r}: no clips of subjects '
                f'{sorted(asked - present)}; it has {sorted(present) or "no subjects"}'
            )
        wanted = (present if self.subjects is None else set(self.subjects)) - excluded
        return np.array([subject in wanted for subject in own], bool)

    def get_data_info(self, idx: int) -> dict:
        """One clip, whose arrays are the caller's own."""
        info = super().get_data_info(idx)
        if not self.with_score:
            info.pop('keypoint_score', None)
        return info

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
        """Label (N) of every clip, in the order of the dataset; -1 where there is none."""
        self.full_init()
        return clip_labels(self.data_list)

    @property
    def class_counts(self) -> np.ndarray:
        """Number of clips of each class (num_classes), after all choices; zeros included."""
        labels, classes = self.labels, self.num_classes or len(self.classes or ())
        return np.bincount(labels[labels >= 0], minlength=classes)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Label of one clip, for MMEngine's ClassBalancedDataset."""
        self.full_init()
        return [self.data_list[idx].get('label', -1)]


class _Shared(dict):
    """The content of a file, held once for all datasets of a process; copies are the same."""

    def __deepcopy__(self, memo: dict) -> _Shared:
        return self

    def __reduce__(self) -> tuple:
        return _Shared, ()


_loaded: WeakValueDictionary[tuple, _Shared] = WeakValueDictionary()


def _shared(path: Path) -> _Shared:
    stat = path.stat() if path.exists() else None
    key = (path.absolute(), stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    content = _loaded.get(key)
    if content is None:
        content = _loaded[key] = _Shared(load_annotations(path))
    return content


def _texts(subjects: Sequence[int | str] | None) -> list[str] | None:
    if isinstance(subjects, str):
        raise TypeError(f'subjects are a list, such as [1, 3], not the text {subjects!r}')
    return None if subjects is None else [str(subject) for subject in subjects]
