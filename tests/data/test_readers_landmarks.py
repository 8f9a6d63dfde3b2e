"""MediaPipe Pose, Hands and Holistic, other tables: each way to write them is read right.

A case is files, options, and what must come out: coordinates, and where it matters scores, layout,
frame rate, notes. The format is found by content.
"""

import numpy as np
import pytest
from pose_files import (
    ALL,
    F33,
    F42,
    METRES,
    NAMES,
    P17,
    ROWS,
    SIZED,
    TIMES,
    T,
    check_spelling,
    flat,
    gap,
    hand,
    head,
    long_csv,
    mp,
    mp_csv,
    pixels,
    wide,
)

from mg_plugins.data.layouts import get_layout

DEEP = np.dstack([P17[..., :2], METRES[..., 2]])


def h36m(joints):
    names = get_layout('h36m17').joints
    return {'a.csv': wide(head('{j}_{a}', names, 'xyz'), map(flat, joints))}


CASES = {
    # ---- MediaPipe
    'mediapipe-x0': (mp_csv('{a}{j}'), ALL, pixels(F33), dict(layout='mediapipe33')),
    'mediapipe-0_x': (mp_csv('{j}_{a}'), ALL, pixels(F33), {}),
    'mediapipe-landmark_0_x': (mp_csv('landmark_{j}_{a}'), ALL, pixels(F33), {}),
    'mediapipe-pose_0_x': (mp_csv('pose_{j}_{a}'), ALL, pixels(F33), {}),
    'mediapipe-x_nose': (mp_csv('{a}_{j}', NAMES), ALL, pixels(F33), {}),
    'mediapipe-nose_x': (mp_csv('{j}_{a}', NAMES), ALL, pixels(F33), {}),
    'mediapipe-PoseLandmark.NOSE_x': (mp_csv('PoseLandmark.{J}_{a}', NAMES), ALL, pixels(F33), {}),
    'mediapipe-capitals': (mp_csv('{J}_{a}', NAMES), ALL, pixels(F33), {}),
    'mediapipe-from-1': (mp_csv('{a}{j}', range(1, 34)), ALL, pixels(F33), {}),
    'mediapipe-semicolons': (mp_csv('{a}{j}', delimiter=';'), ALL, pixels(F33), {}),
    'mediapipe-decimal-commas': (
        mp_csv('{a}{j}', delimiter=';', decimal=','),
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-tabs': (mp_csv('{a}{j}', delimiter='\t'), ALL, pixels(F33), {}),
    'mediapipe-utf-16': (
        {'a.csv': mp_csv('{a}{j}')['a.csv'].encode('utf-16')},
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-utf-16-without-mark': (
        {'a.csv': mp_csv('{a}{j}')['a.csv'].encode('utf-16-le')},
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-latin-1': (
        {
            'a.csv': ('größe,' + mp_csv('{a}{j}')['a.csv'].replace('\n', '\n1,')[:-2]).encode(
                'latin-1'
            )
        },
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-quoted': (
        {'a.csv': wide([f'"{name}"' for name in head('{a}{j}')], ROWS)},
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-carriage-returns': (
        {'a.csv': mp_csv('{a}{j}')['a.csv'].replace('\n', '\r\n')},
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-frame-column': (
        {
            'a.csv': wide(
                ['frame', *head('{a}{j}')], [[t + (t > 1), *row] for t, row in enumerate(ROWS)]
            )
        },
        ALL,
        gap(pixels(F33)),
        {},
    ),
    'mediapipe-timestamps': (
        {
            'a.csv': wide(
                ['timestamp', *head('{a}{j}')],
                [[time, *row] for time, row in zip(TIMES, ROWS, strict=True)],
            )
        },
        ALL,
        gap(pixels(F33)),
        dict(fps=25.0),
    ),
    'mediapipe-timestamps-ms': (
        {
            'a.csv': wide(
                ['timestamp_ms', *head('{a}{j}')],
                [[1000 * time, *row] for time, row in zip(TIMES, ROWS, strict=True)],
            )
        },
        ALL,
        gap(pixels(F33)),
        dict(fps=25.0),
    ),
    'mediapipe-irregular-times': (
        {
            'a.csv': wide(
                ['time', *head('{a}{j}')],
                [[time, *row] for time, row in zip([0, 0.1, 0.16, 0.26], ROWS, strict=True)],
            )
        },
        ALL,
        # Even steps of 0.1 s; 0.2 s lies four tenths of the way from 0.16 to 0.26.
        np.concatenate(
            [pixels(F33)[:2], 0.6 * pixels(F33)[2:3] + 0.4 * pixels(F33)[3:], pixels(F33)[3:]]
        ),
        dict(fps=10.0, near=True, note='irregular'),
    ),
    'mediapipe-empty-cells': (
        {
            'a.csv': wide(
                head('{a}{j}'), [['' if not f.any() else c for c in flat(f)] for f in gap(F33)]
            )
        },
        ALL,
        gap(pixels(F33)),
        {},
    ),
    'mediapipe-nan-cells': (
        {
            'a.csv': wide(
                head('{a}{j}'), [['NaN' if not f.any() else c for c in flat(f)] for f in gap(F33)]
            )
        },
        ALL,
        gap(pixels(F33)),
        {},
    ),
    'mediapipe-invisible': (
        {'a.csv': wide(head('{a}{j}'), [flat(f * [1, 1, 1, 0.7]) for f in F33])},
        SIZED,
        pixels(F33) * (F33[..., 3:] * 0.7 >= 0.4),
        dict(note='below 0.4'),
    ),
    'mediapipe-long': (
        {'a.csv': long_csv(str, F33, 'frame,landmark,x,y,z,visibility')},
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-long-index': (
        {'a.csv': long_csv(str, F33, 'frame_id,landmark_index,x,y,z,visibility')},
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-long-names': (
        {
            'a.csv': long_csv(
                lambda j: f'PoseLandmark.{NAMES[j].upper()}',
                F33,
                'frame,landmark_name,x,y,z,visibility',
            )
        },
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-json': ({'a.json': [dict(pose_landmarks=mp(f)) for f in F33]}, ALL, pixels(F33), {}),
    'mediapipe-json-tasks': (
        {'a.json': [dict(poseLandmarks=[mp(f)]) for f in F33]},
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-json-frame-numbers': (
        {
            'a.json': dict(
                fps=24, frames=[dict(frame=t + (t > 1), landmarks=mp(f)) for t, f in enumerate(F33)]
            )
        },
        ALL,
        gap(pixels(F33)),
        dict(fps=24.0),
    ),
    'mediapipe-json-by-name': (
        {
            'a.json': [
                dict(pose_landmarks={n: j for n, j in zip(NAMES, mp(f), strict=True)}) for f in F33
            ]
        },
        ALL,
        pixels(F33),
        {},
    ),
    'mediapipe-pixels': (
        {'a.csv': wide(head('{a}{j}'), [flat(frame * [640, 480, 1, 1]) for frame in F33])},
        ALL,
        pixels(F33),
        dict(note='holds pixels'),
    ),
    'mediapipe-world': (
        {'a.json': [dict(pose_world_landmarks=mp(f)) for f in F33]},
        dict(world=True, min_score=0),
        F33[..., :3],
        {},
    ),
    'holistic-json': (
        {
            'a.json': [
                dict(
                    pose_landmarks=mp(f),
                    left_hand_landmarks=hand(h[:21]),
                    right_hand_landmarks=hand(h[21:]),
                )
                for f, h in zip(F33, F42, strict=True)
            ]
        },
        ALL,
        pixels(np.concatenate([F33[..., :3], F42], 1)),
        dict(layout='holistic75'),
    ),
    'holistic-json-one-hand': (
        {
            'a.json': [
                dict(
                    pose_landmarks=mp(f),
                    left_hand_landmarks=None if t else hand(h[:21]),
                    right_hand_landmarks=None,
                )
                for t, (f, h) in enumerate(zip(F33, F42, strict=True))
            ]
        },
        ALL,
        pixels(
            np.concatenate(
                [
                    F33[..., :3],
                    F42 * (np.arange(42) < 21)[:, None] * (np.arange(T) < 1)[:, None, None],
                ],
                1,
            )
        ),
        {},
    ),
    'holistic-csv': (
        {
            'a.csv': wide(
                [
                    *head('pose_{j}_{a}'),
                    *head('left_hand_{j}_{a}', range(21), 'xyz'),
                    *head('right_hand_{j}_{a}', range(21), 'xyz'),
                ],
                [[*flat(f), *flat(h)] for f, h in zip(F33, F42, strict=True)],
            )
        },
        ALL,
        pixels(np.concatenate([F33[..., :3], F42], 1)),
        dict(layout='holistic75'),
    ),
    'hand-csv': (
        {'a.csv': wide(head('{a}{j}', range(21), 'xyz'), [flat(f[:21]) for f in F42])},
        ALL,
        pixels(F42[:, :21]),
        dict(layout='hand21'),
    ),
    'coco-csv': (
        {
            'a.csv': wide(
                head('{j}_{a}', get_layout('coco17').joints, ('x', 'y', 'score')), map(flat, P17)
            )
        },
        SIZED,
        P17,
        dict(layout='coco17'),
    ),
    # ---- A z is a coordinate unless the picture's size is given.
    'space-wide': (h36m(METRES), {}, METRES, dict(layout='h36m17')),
    'space-long': (
        {
            'a.csv': 'frame,joint,x,y,z\n'
            + ''.join(
                f'{t},{name},{x},{y},{z}\n'
                for t, frame in enumerate(METRES)
                for name, (x, y, z) in zip(get_layout('h36m17').joints, frame, strict=True)
            )
        },
        {},
        METRES,
        dict(layout='h36m17'),
    ),
    'space-in-a-picture': (
        h36m(DEEP),
        SIZED,
        DEEP[..., :2],
        dict(note='has a z that --size leaves out'),
    ),
    'space-flat': (h36m(DEEP * [1, 1, 0]), SIZED, DEEP[..., :2], dict(layout='h36m17')),
}


@pytest.mark.parametrize('case', CASES)
def test_it_is_read_right(tmp_path, case):
    check_spelling(tmp_path, *CASES[case])
