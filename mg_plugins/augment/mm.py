"""Registered transforms, between MGNormalize and MGSkeFeat: every augmentation, and `MultiView`."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from mg_plugins.augment import SampleRandomness
from mg_plugins.augment.base import AUGMENTATIONS, Draws
from mg_plugins.augment.batched import build_views
from mg_plugins.augment.chain import Chain
from mg_plugins.augment.temporal import resample
from mg_plugins.data.layouts import Layout, LayoutError
from mg_plugins.data.skeleton import detected_joints, features


@TRANSFORMS.register_module()
class MGResample(BaseTransform):
    """Bring ``keypoint`` (M, T, V, C) and ``keypoint_score`` to ``clip_len`` frames, interpolated.

    Args:
        crop: Smallest and largest share in (0, 1] of the clip that is kept, at a random place; None
            keeps all of it.
        seed: None takes the run's.
    """

    def __init__(
        self, clip_len: int, crop: tuple[float, float] | None = None, seed: int | None = None
    ) -> None:
        if clip_len < 1:
            raise ValueError(f'clip_len must be at least 1 frame, got {clip_len}')
        if crop is not None and not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError(f'crop must be (smallest, largest) share in (0, 1], got {crop}')
        self.clip_len, self.crop = clip_len, crop
        self.randomness = None if crop is None else SampleRandomness(seed)

    def transform(self, results: dict) -> dict:
        keypoint, score = results['keypoint'], _scores(results, 'MGResample')
        start, stop = 0.0, keypoint.shape[1] - 1.0
        if self.crop is not None:
            rng = self.randomness.of(results)
            kept = stop * rng.uniform(*self.crop)
            start = rng.uniform(0, stop - kept)
            stop = start + kept
        points, scores = resample(keypoint, score, self.clip_len, start, stop)
        results.update(keypoint=points, keypoint_score=scores)
        results.update(clip_len=self.clip_len, num_clips=1, total_frames=self.clip_len)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(clip_len={self.clip_len}, crop={self.crop})'


class AugmentTransform(BaseTransform):
    """One augmentation of the table, with its options, as a pipeline step.

    Reads and writes ``keypoint`` (M, T, V, C) and, where there is one, ``keypoint_score``; without
    scores a joint is missing where all its coordinates are 0.

    Args:
        layout: Name, dict or file of the joint layout; only augmentations that know left from
            right, bones or body parts need one.
        seed: None takes the run's.
    """

    augmentation = ''

    def __init__(
        self, layout: str | dict | Layout | None = None, seed: int | None = None, **options
    ) -> None:
        self.chain = Chain([dict(options, type=self.augmentation)], layout)
        self.randomness = SampleRandomness(seed)

    def transform(self, results: dict) -> dict:
        keypoint, score = results['keypoint'], results.get('keypoint_score')
        if score is None:
            score = detected_joints(keypoint).astype(np.float32)
        results['keypoint'], score = self.chain(keypoint, score, Draws(self.randomness.of(results)))
        if 'keypoint_score' in results:
            results['keypoint_score'] = score
        return results

    def __repr__(self) -> str:
        options = dataclasses.asdict(self.chain.steps[0])
        return f'{type(self).__name__}({", ".join(f"{k}={v!r}" for k, v in options.items())})'


for _name, _augmentation in AUGMENTATIONS.items():
    # A transform for every augmentation, with its documentation, under its name.
    _text = f'{_augmentation.__doc__}\n    Options of every one: {AugmentTransform.__doc__}'
    _body = dict(augmentation=_name, __doc__=_text, __module__=__name__)
    globals()[_name] = type(_name, (AugmentTransform,), _body)
    TRANSFORMS.register_module(module=globals()[_name])


def _scores(results: dict, who: str) -> np.ndarray:
    if 'keypoint_score' not in results:
        raise ValueError(f'{who} needs keypoint_score: put it after MGNormalize, before MGSkeFeat')
    return results['keypoint_score']


@TRANSFORMS.register_module()
class MultiView(BaseTransform):
    """Several differently augmented views of one clip, each with its own features.

    Stands in the place of MGSkeFeat, after MGResample. Reads ``keypoint`` (M, T, V, C), writes
    (M, views * T, V, 3 * features) and ``num_clips``, from which FormatGCNInput makes
    (views, M, T, V, C) and the loader (N, views, M, T, V, C). Removes ``keypoint_score``.

    Args:
        layout: Name, dict or file of the joint layout.
        views: As for `mg_plugins.augment.BatchedViews`, which does the same to a batch, faster.
        seed: None takes the run's.
    """

    def __init__(
        self, layout: str | dict | Layout, views: Sequence[Mapping], seed: int | None = None
    ) -> None:
        self.layout, self.views = build_views(layout, views)
        self.randomness = SampleRandomness(seed)

    def transform(self, results: dict) -> dict:
        keypoint, score = results['keypoint'], _scores(results, 'MultiView')
        if keypoint.shape[2] != self.layout.num_joints:
            raise LayoutError(
                f'clip {results.get("frame_dir")!r} has {keypoint.shape[2]} joints, layout '
                f'{self.layout.name!r} has {self.layout.num_joints}'
            )
        draws = Draws(self.randomness.of(results))
        made = [(view.chain(keypoint, score, draws), view.feat) for view in self.views]
        views = [features(*clip, self.layout, feat) for clip, feat in made]
        results['keypoint'], results['num_clips'] = np.concatenate(views, axis=1), len(views)
        del results['keypoint_score']
        return results

    def __repr__(self) -> str:
        return f'MultiView(layout={self.layout.name!r}, views={list(self.views)})'
