"""Pipeline transforms for any joint layout, and configs with one layout in all their parts.

A pipeline: ``MGNormalize``, augmentations, ``MGSkeFeat``, then MMAction2's FormatGCNInput and
``PackActionInputs(meta_keys=META_KEYS)``. A ``layout`` is a name, dict or file of one.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.config import Config

from mg_plugins.data.layouts import Layout, LayoutError, get_layout, joint_parts, relayout
from mg_plugins.data.skeleton import FEATURES, detected_joints, features, normalise

# Fields that travel to the evaluator; those that a sample lacks are left out.
META_KEYS = ('frame_dir', 'session', 'subject', 'start', 'end', 'fps', 'outcome')


@TRANSFORMS.register_module()
class MGNormalize(BaseTransform):
    """Body-centred coordinates, in shoulder widths for 2D: `skeleton.normalise` in a pipeline.

    Keys: keypoint (M, T, V, C) becomes float32, keypoint_score 0 where a joint has no coordinates.
    It is added where there is none, because the centre joint then lies at the origin, where only
    its score tells it from a missing one. So this comes once, before what moves joints. ``mode``
    '2d' and '3d' insist on that many coordinates, 'auto' takes what comes.
    """

    def __init__(
        self,
        layout: str | dict | Layout,
        mode: str = 'auto',
        scale: bool | None = None,
        per_frame: bool = False,
    ) -> None:
        if mode not in ('auto', '2d', '3d'):
            raise ValueError(f'mode is {mode!r}, expected auto, 2d or 3d')
        self.layout, self.mode = get_layout(layout), mode
        self.options = dict(scale=scale, per_frame=per_frame)

    def transform(self, results: dict) -> dict:
        keypoint, score = _keypoint(results, self.layout), results.get('keypoint_score')
        dims = keypoint.shape[-1]
        if self.mode not in ('auto', f'{dims}d'):
            raise ValueError(f'MGNormalize(mode={self.mode!r}) got {dims} coordinates a joint')
        detected = detected_joints(keypoint, score)
        score = detected if score is None else score * detected
        results['keypoint'] = normalise(keypoint, detected, self.layout, **self.options)
        results['keypoint_score'] = score.astype(np.float32)
        return results


@TRANSFORMS.register_module()
class MGSkeFeat(BaseTransform):
    """Joint, bone and motion inputs from the layout; see `skeleton.features`.

    The counterpart of MMAction2's GenSkeFeat, for every layout and with missing joints left out.
    Keys: keypoint (M, T, V, C) becomes (M, T, V, 3 * number of features), and keypoint_score goes:
    it is the third channel in 2D. ``feat`` is one or several of `FEATURES`.
    """

    def __init__(self, layout: str | dict | Layout, feat: str | Sequence[str] = 'joint') -> None:
        self.layout = get_layout(layout)
        self.feat = (feat,) if isinstance(feat, str) else tuple(feat)
        if not self.feat or not set(self.feat) <= set(FEATURES):
            raise ValueError(f'feat is {feat!r}, expected one or several of {list(FEATURES)}')

    def transform(self, results: dict) -> dict:
        keypoint = _keypoint(results, self.layout)
        score = results.pop('keypoint_score', None)
        results['keypoint'] = features(keypoint, score, self.layout, self.feat)
        return results


@TRANSFORMS.register_module()
class MGRelayout(BaseTransform):
    """The joints of another layout, for a model that was trained on that one; see `joint_parts`.

    Stands before MGNormalize, which then centres and scales by the target's own joints. Picture
    coordinates stay such and metres stay metres: it makes no depth and takes none away. Keys:
    keypoint (M, T, V, C) becomes (M, T, V', C), keypoint_score (M, T, V'), 0 for joints that the
    source does not have. ``coordinates`` is 2 or 3, what the model was trained on; clips with
    another number are refused, and layouts without a common joint.
    """

    def __init__(
        self,
        source: str | dict | Layout,
        target: str | dict | Layout,
        coordinates: int | None = None,
    ) -> None:
        self.source, self.target = get_layout(source), get_layout(target)
        self.coordinates = coordinates
        self.parts = joint_parts(self.source, self.target)

    def transform(self, results: dict) -> dict:
        keypoint = _keypoint(results, self.source)
        dims = keypoint.shape[-1]
        if self.coordinates not in (None, dims):
            advice = 'project the joints into the picture plane, y downwards, and prepare those'
            if dims < self.coordinates:
                advice = 'a model of joints in space takes no pictures: their depth is not known'
            what = f'clip {results.get("frame_dir")!r} of layout {self.source.name!r} has {dims}'
            wanted = f'{self.coordinates} were expected for layout {self.target.name!r}'
            raise LayoutError(f'{what} coordinates a joint, {wanted}: {advice}')
        results['keypoint'], results['keypoint_score'] = relayout(
            keypoint, results.get('keypoint_score'), self.parts
        )
        return results


def _keypoint(results: dict, layout: Layout) -> np.ndarray:
    """Coordinates checked against the layout, in float32: squares of the API's float16 overflow."""
    keypoint = np.asarray(results['keypoint']).astype(np.float32, copy=False)
    shape = keypoint.shape
    if len(shape) != 4 or shape[2] != layout.num_joints or shape[3] not in (2, 3):
        expected = f'(persons, frames, {layout.num_joints}, 2 or 3) for layout {layout.name!r}'
        what = f'clip {results.get("frame_dir")!r} has keypoint of shape {shape}'
        raise LayoutError(f'{what}, expected {expected}')
    return keypoint


def read_config(path: str | os.PathLike) -> Config:
    """Read a config; its ``layout``, where it has one, is that of its graph and all transforms.

    A child config therefore brings its base to other joints by the line ``layout = 'upper46'``.
    """
    cfg = Config.fromfile(path)
    if cfg.get('layout'):
        set_everywhere(cfg, dict(layout=cfg.layout, num_joints=get_layout(cfg.layout).num_joints))
    return cfg


def set_everywhere(node: Any, values: Mapping[str, Any]) -> None:
    """Replace, in place, the values of some keys wherever a config has them, not None."""
    if isinstance(node, (Config, dict)):
        for key, value in list(node.items()):
            if key in values and value is not None:
                node[key] = values[key]
            else:
                set_everywhere(value, values)
    elif isinstance(node, (list, tuple)):
        for value in node:
            set_everywhere(value, values)
