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

    def rows(arrays: np.ndarray | list, axes: int) -> np.ndarray:
        """One row a frame, of the last ``axes`` axes."""
        arrays = [arrays] if isinstance(arrays, np.ndarray) else arrays
        return np.concatenate([np.reshape(a, (-1, *np.shape(a)[-axes:])) for a in arrays])

    points = rows(keypoints, 2).astype(np.float64)
    detected = (points != 0).any(-1)
    if scores is not None:
        detected &= rows(scores, 1) > 0
    median, frames = {}, {}
    for hand, tips in fingers.items():
        for side, wrist in wrists.items():
            both = detected[:, tips] & detected[:, [wrist]]
            distance = np.linalg.norm(points[:, tips] - points[:, [wrist]], axis=-1)[both]
            name = f'{hand}_finger* -> {side}_wrist (joint {wrist})'
            median[name] = float(np.median(distance)) if distance.size else float('nan')
            frames[name] = int(distance.size)

    left_left, left_right, right_left, right_right = median.values()
    same, crossed = left_left + right_right, left_right + right_left
    decided = bool(np.isfinite(same) and np.isfinite(crossed) and same != crossed)
    swapped = decided and crossed < same
    report = dict(swapped=swapped, decided=decided, median_distance=median, frames=frames)
    if swapped:
        # Moving a bone to the mirrored fingertip and renaming both is one permutation of indices.
        move = np.arange(layout.num_joints)
        move[fingers['left'] + fingers['right']] = fingers['right'] + fingers['left']
        note = (
            f'{layout.note} Here attach_hands() found joints {fingers["right"]} at joint '
            f'{wrists["left"]} and {fingers["left"]} at joint {wrists["right"]}.'
        )
        moved = dict(
            name=f'{layout.name}_hands_exchanged',
            joints=[layout.joints[j] for j in move],
            note=note,
        )
        layout = get_layout(layout.as_dict() | moved)
    return layout, report
