"""Which wrist of a layout carries which fingertips, decided from data."""

from __future__ import annotations

import numpy as np

from .layouts import Layout, LayoutError, get_layout


def attach_hands(
    layout: Layout | str, keypoints: np.ndarray | list, scores: np.ndarray | list | None = None
) -> tuple[Layout, dict]:
    """Decide from data which wrist carries which fingertips.

    For every frame in which a wrist and a fingertip are both detected, their distance counts; the
    assignment of the two sets of fingertips to the two wrists with the smaller sum of median
    distances wins. Where it is the other one than the layout's, fingertips change their wrist,
    their side and their names.

    Args:
        layout: With joints left_wrist, right_wrist and left_finger*, right_finger* (`imigue22`).
        keypoints: (..., V, C) coordinates, or a list of such arrays.
        scores: (..., V) scores to match, 0 for a missing joint; else that has coordinates 0.

    Returns:
        The layout to use, and a report with ``swapped``, ``median_distance`` (in the data's unit,
        by 'fingers of left hand -> left_wrist' and so on), ``frames`` (measured wrist-to-finger
        distances) and ``decided`` (False when the data says too little; the layout then stays).
    """
    layout = get_layout(layout)
    wrists = {side: layout.index(f'{side}_wrist') for side in ('left', 'right')}
    fingers = {
        side: [j for j, name in enumerate(layout.joints) if name.startswith(f'{side}_finger')]
        for side in wrists
    }
    if not fingers['left'] or len(fingers['left']) != len(fingers['right']):
        raise LayoutError(f'layout {layout.name!r} has no equal sets of left and right fingertips')

    points = _rows(keypoints, layout.num_joints).astype(np.float64)
    detected = (points != 0).any(-1)
    if scores is not None:
        detected &= _rows(scores, layout.num_joints, 1)[..., 0] > 0
    median, frames = {}, {}
    for hand, tips in fingers.items():
        for side, wrist in wrists.items():
            both = detected[:, tips] & detected[:, [wrist]]
            distance = np.linalg.norm(points[:, tips] - points[:, [wrist]], axis=-1)[both]
            median[hand, side] = float(np.median(distance)) if distance.size else float('nan')
            frames[hand, side] = int(distance.size)

    same = median['left', 'left'] + median['right', 'right']
    crossed = median['left', 'right'] + median['right', 'left']
    decided = bool(np.isfinite(same) and np.isfinite(crossed) and same != crossed)
    swapped = decided and crossed < same

    def label(key: tuple[str, str]) -> str:
        return f'{key[0]}_finger* -> {key[1]}_wrist (joint {wrists[key[1]]})'

    report = dict(
        swapped=swapped,
        decided=decided,
        median_distance={label(key): value for key, value in median.items()},
        frames={label(key): value for key, value in frames.items()},
    )
    return (_exchange_hands(layout, fingers, wrists) if swapped else layout), report


def _exchange_hands(layout: Layout, fingers: dict, wrists: dict) -> Layout:
    """The layout with the two sets of fingertips on each other's wrist, renamed to match."""
    exchange = dict(zip(fingers['left'], fingers['right'], strict=True))
    exchange.update({right: left for left, right in exchange.items()})
    # Moving a bone to the mirrored fingertip and renaming both is one permutation of indices.
    move = [exchange.get(j, j) for j in range(layout.num_joints)]
    moved = layout.as_dict() | dict(joints=[layout.joints[j] for j in move])
    return get_layout(
        moved
        | dict(
            name=f'{layout.name}_hands_exchanged',
            note=f'{layout.note} Here attach_hands() found joints {fingers["right"]} at joint '
            f'{wrists["left"]} and {fingers["left"]} at joint {wrists["right"]}.',
        )
    )


def _rows(arrays: np.ndarray | list, joints: int, axes: int = -1) -> np.ndarray:
    """(F, V, C) of an array or a list of arrays, C of the last axis or 1 for scores."""
    arrays = [arrays] if isinstance(arrays, np.ndarray) else arrays
    return np.concatenate(
        [np.reshape(a, (-1, joints, np.shape(a)[-1] if axes < 0 else axes)) for a in arrays]
    )
