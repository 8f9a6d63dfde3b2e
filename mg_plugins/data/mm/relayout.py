"""Clips of one joint layout for a model of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from mg_plugins.data.layouts import Layout, LayoutError, get_layout
from mg_plugins.data.relayout import joint_parts, relayout


@TRANSFORMS.register_module()
class MGRelayout(BaseTransform):
    """The joints of another layout, for a model that was trained on that one; see `joint_parts`.

    Stands before MGNormalize, which then centres and scales by the target's own joints. Picture
    coordinates stay such and metres stay metres: it makes no depth and takes none away.

    Required keys: keypoint (M, T, V, C), keypoint_score (optional). Modified: keypoint
    (M, T, V', C). Added or modified: keypoint_score (M, T, V'), 0 for joints that the source does
    not have.

    Args:
        source: Name, dict or file of the clips' layout.
        target: Name, dict or file of the layout wanted.
        joints: Target joints by hand: ``dict(head='nose', neck=['left_shoulder',
            'right_shoulder'], left_foot=None)``; all others follow the table.
        coordinates: 2 or 3, what the model was trained on; clips with another number are refused.
            None takes what comes.

    Raises:
        LayoutError: Layouts without a common joint, a joint that is not there, or clips of another
            layout or number of coordinates.
    """

    def __init__(
        self,
        source: str | dict | Layout,
        target: str | dict | Layout,
        joints: Mapping[str, str | Sequence[str] | None] | None = None,
        coordinates: int | None = None,
    ) -> None:
        self.source, self.target = get_layout(source), get_layout(target)
        self.coordinates = coordinates
        self.parts = joint_parts(self.source, self.target, joints)

    @property
    def missing(self) -> list[str]:
        """Names of the target's joints that the source does not have."""
        return [j for j, part in zip(self.target.joints, self.parts, strict=True) if not part]

    def transform(self, results: dict) -> dict:
        """Give one sample its new joints."""
        keypoint = results['keypoint']
        dims = keypoint.shape[-1]
        if keypoint.ndim != 4 or keypoint.shape[2] != self.source.num_joints:
            raise LayoutError(
                f'clip {results.get("frame_dir")!r} has keypoint of shape {keypoint.shape}, '
                f'expected (persons, frames, {self.source.num_joints}, 2 or 3) for layout '
                f'{self.source.name!r}'
            )
        if self.coordinates not in (None, dims):
            advice = (
                'a model of joints in space cannot be shown pictures: their depth is not known'
                if dims < self.coordinates
                else 'project the joints into the picture plane, y downwards, and prepare those'
            )
            raise LayoutError(
                f'clip {results.get("frame_dir")!r} of layout {self.source.name!r} has {dims} '
                f'coordinates a joint, {self.coordinates} were expected for layout '
                f'{self.target.name!r}: {advice}'
            )
        results['keypoint'], results['keypoint_score'] = relayout(
            keypoint, results.get('keypoint_score'), self.parts
        )
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(source={self.source.name!r}, target={self.target.name!r}, '
            f'coordinates={self.coordinates})'
        )
