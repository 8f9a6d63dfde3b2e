"""OpenPose, MMPose, COCO, AlphaPose, YOLO, Kinetics: each way to write them is read right.

A case is files, options, and what must come out: coordinates, and where it matters scores, layout,
frame rate, notes. The format is found by content.
"""

import json

import numpy as np
import pytest
from pose_files import (
    HANDS,
    METRES,
    P17,
    P18,
    P25,
    P26,
    P133,
    P136,
    SIZE,
    SIZED,
    check_spelling,
    coco,
    flat,
    gap,
    openpose,
    openpose_folder,
)

from mg_plugins.data.layouts import get_layout


def wholebody(frame, joints, flags=None):
    """COCO-WholeBody's own form: a list for each part of the body."""
    if flags:
        joints = np.concatenate([joints[:, :2], np.full((133, 1), flags)], 1)
    names = ('keypoints', 'foot_kpts', 'face_kpts', 'lefthand_kpts', 'righthand_kpts')
    parts = np.split(joints, (17, 23, 91, 112))
    lists = {name: part.reshape(-1).tolist() for name, part in zip(names, parts, strict=True)}
    return dict(image_id=frame, category_id=1, **lists)


CASES = {
    # ---- OpenPose
    'openpose': (openpose_folder([[openpose(f)] for f in P25]), SIZED, P25, dict(layout='body25')),
    'openpose-18': (
        openpose_folder([[openpose(f)] for f in P18]),
        SIZED,
        P18,
        dict(layout='openpose18'),
    ),
    'openpose-hands': (
        openpose_folder([[openpose(f, h)] for f, h in zip(P25, HANDS, strict=True)]),
        SIZED,
        np.concatenate([P25, HANDS], 1),
        dict(layout='openpose67'),
    ),
    'openpose-left-out': (
        {
            k: v
            for k, v in openpose_folder([[openpose(f)] for f in gap(P25)]).items()
            if '02_' not in k
        },
        SIZED,
        gap(P25),
        {},
    ),
    'openpose-0-to-1': (
        openpose_folder([[openpose(f / [640, 480, 1])] for f in P25]),
        SIZED,
        P25,
        dict(note='fractions of the picture', near=True),
    ),
    'openpose-minus-1-to-1': (
        openpose_folder([[openpose(f / [320, 240, 1] - [1, 1, 0])] for f in P25]),
        SIZED,
        P25,
        dict(note='fractions of the picture', near=True),
    ),
    'openpose-one-file': ({'a.json': [dict(people=[openpose(f)]) for f in P25]}, SIZED, P25, {}),
    'openpose-keyed-by-frame': (
        {'a.json': {f'{t:05d}': dict(people=[openpose(f)]) for t, f in enumerate(P25)}},
        SIZED,
        P25,
        {},
    ),
    'openpose-3d': (
        {
            'a.json': [
                dict(
                    people=[
                        dict(pose_keypoints_3d=flat(np.concatenate([f, f[:, :1] * 0 + 0.5], 1)))
                    ]
                )
                for f in np.pad(METRES, ((0, 0), (0, 8), (0, 0)), constant_values=0.25)
            ]
        },
        {},
        np.pad(METRES, ((0, 0), (0, 8), (0, 0)), constant_values=0.25),
        dict(layout='body25'),
    ),
    'openpose-person-id': (
        openpose_folder(
            [
                [openpose(P25[0], person_id=[4]), openpose(P25[1] + [200, 0, 0], person_id=[2])],
                [openpose(P25[1] + [200, 0, 0], person_id=[4]), openpose(P25[2], person_id=[2])],
            ]
        ),
        dict(size='1280x720', person='4', max_persons=1),
        np.stack([P25[0], P25[1] + [200, 0, 0]]),
        {},
    ),
    # ---- MMPose, COCO
    'mmpose': (
        {'a.json': [dict(frame_id=t, instances=[coco(f)]) for t, f in enumerate(P17)]},
        SIZED,
        P17,
        dict(layout='coco17'),
    ),
    'mmpose-left-out': (
        {'a.json': [dict(frame_id=t + (t > 1), instances=[coco(f)]) for t, f in enumerate(P17)]},
        SIZED,
        gap(P17),
        {},
    ),
    'mmpose-demo': (
        {
            'a.json': dict(
                meta_info={},
                instance_info=[dict(frame_id=t, instances=[coco(f)]) for t, f in enumerate(P17)],
            )
        },
        SIZED,
        P17,
        {},
    ),
    'mmpose-null': (
        {
            'a.json': [
                dict(frame_id=t, instances=[coco(f)] if f.any() else [])
                for t, f in enumerate(gap(P17))
            ]
        },
        SIZED,
        gap(P17),
        {},
    ),
    'mmpose-joint-null': (
        {
            'a.json': json.loads(
                json.dumps(
                    [dict(frame_id=t, instances=[coco(f)]) for t, f in enumerate(P17)]
                ).replace(json.dumps(P17[0, 0, :2].tolist()), '[null, null]')
            )
        },
        SIZED,
        np.concatenate([np.concatenate([P17[:1, :1] * 0, P17[:1, 1:]], 1), P17[1:]]),
        dict(note='null or NaN'),
    ),
    'mmpose-wholebody': (
        {'a.json': [dict(frame_id=t, instances=[coco(f)]) for t, f in enumerate(P133)]},
        SIZED,
        P133,
        dict(layout='coco_wholebody133'),
    ),
    'coco-wholebody-lists': (
        {'a.json': [wholebody(t, f) for t, f in enumerate(P133)]},
        SIZED,
        P133,
        dict(layout='coco_wholebody133'),
    ),
    'coco-wholebody-annotations': (
        {'a.json': dict(annotations=[wholebody(t, f, flags=2) for t, f in enumerate(P133)])},
        SIZED,
        np.concatenate([P133[..., :2], np.ones_like(P133[..., 2:])], -1),
        dict(layout='coco_wholebody133'),
    ),
    'mmpose-wholebody-to-coco17': (
        {'a.json': [dict(frame_id=t, instances=[coco(f)]) for t, f in enumerate(P133)]},
        dict(SIZED, layout='coco17'),
        P133[:, :17],
        dict(layout='coco17'),
    ),
    'mmpose-h36m-by-name': (
        {
            'a.json': dict(
                meta_info=dict(
                    keypoint_id2name={str(i): n for i, n in enumerate(get_layout('h36m17').joints)}
                ),
                instance_info=[
                    dict(
                        frame_id=t,
                        instances=[dict(keypoints=f.tolist(), keypoint_scores=[1.0] * 17)],
                    )
                    for t, f in enumerate(METRES)
                ],
            )
        },
        {},
        METRES,
        dict(layout='h36m17'),
    ),
    'mmpose-names-in-another-order': (
        {
            'a.json': dict(
                meta_info=dict(
                    keypoint_id2name={
                        str(16 - i): n for i, n in enumerate(get_layout('coco17').joints)
                    }
                ),
                instance_info=[
                    dict(frame_id=t, instances=[coco(f[::-1])]) for t, f in enumerate(P17)
                ],
            )
        },
        SIZED,
        P17,
        dict(layout='coco17'),
    ),
    'mmpose-3d-beside-scores': (
        {
            'a.json': [
                dict(frame_id=t, instances=[dict(keypoints=f.tolist(), keypoint_scores=[0.5] * 17)])
                for t, f in enumerate(METRES)
            ]
        },
        {},
        METRES,
        {},
    ),
    'mmpose-3d-millimetres': (
        {
            'a.json': [
                dict(
                    frame_id=t,
                    instances=[dict(keypoints=(1000 * f).tolist(), keypoint_scores=[0.5] * 17)],
                )
                for t, f in enumerate(METRES)
            ]
        },
        {},
        METRES,
        dict(note='in mm', near=True),
    ),
    'mmpose-track-id': (
        {
            'a.json': [
                dict(frame_id=t, instances=[coco(f + [600, 0, 0], track_id=1), coco(f, track_id=0)])
                for t, f in enumerate(P17)
            ]
        },
        dict(size='1280x720', person='0', max_persons=1),
        P17,
        {},
    ),
    'coco-results': (
        {
            'a.json': [
                dict(image_id=7 + t, category_id=1, keypoints=flat(f), score=0.9)
                for t, f in enumerate(P17)
            ]
        },
        SIZED,
        P17,
        {},
    ),
    'coco-flags': (
        {
            'a.json': [
                dict(
                    image_id=t,
                    category_id=1,
                    keypoints=flat(np.concatenate([f[:, :2], 2 + f[:, :1] * 0], 1)),
                )
                for t, f in enumerate(P17)
            ]
        },
        SIZED,
        np.concatenate([P17[..., :2], P17[..., :1] * 0 + 1], -1),
        dict(note='visibility flags'),
    ),
    'scores-in-percent': (
        {
            'a.json': [
                dict(frame_id=t, instances=[coco(f * [1, 1, 100])]) for t, f in enumerate(P17)
            ]
        },
        SIZED,
        P17,
        dict(note='percent'),
    ),
    'scores-by-max-score': (
        {'a.json': [dict(frame_id=t, instances=[coco(f * [1, 1, 4])]) for t, f in enumerate(P17)]},
        dict(SIZED, max_score=4.0),
        P17,
        {},
    ),
    'min-score': (
        {'a.json': [dict(frame_id=t, instances=[coco(f)]) for t, f in enumerate(P17)]},
        dict(SIZED, min_score=0.75),
        P17 * (P17[..., 2:] >= 0.75),
        dict(note='score below 0.75'),
    ),
    # ---- AlphaPose, PoseFlow
    'alphapose': (
        {
            'a.json': [
                dict(image_id=f'{t}.jpg', category_id=1, keypoints=flat(f), score=2.9, idx=3)
                for t, f in enumerate(P17)
            ]
        },
        SIZED,
        P17,
        {},
    ),
    'alphapose-halpe26': (
        {
            'a.json': [
                dict(image_id=f'{t}.jpg', keypoints=flat(f), score=2.9, box=[1, 2, 3, 4], idx=[3.0])
                for t, f in enumerate(P26)
            ]
        },
        SIZED,
        P26,
        dict(layout='halpe26'),
    ),
    'alphapose-halpe136': (
        {
            'a.json': [
                dict(image_id=f'{t}.jpg', keypoints=flat(f), score=2.9) for t, f in enumerate(P136)
            ]
        },
        SIZED,
        P136,
        dict(layout='halpe136'),
    ),
    'alphapose-left-out': (
        {
            'a.json': [
                dict(image_id=f'{t + (t > 1)}.jpg', keypoints=flat(f), idx=1)
                for t, f in enumerate(P17)
            ]
        },
        SIZED,
        gap(P17),
        {},
    ),
    'alphapose-cmu': (
        {
            'a.json': {
                f'{t}.jpg': dict(version=0.1, bodies=[dict(joints=flat(f))])
                for t, f in enumerate(P18)
            }
        },
        SIZED,
        P18,
        dict(layout='openpose18'),
    ),
    'poseflow': (
        {
            'a.json': {
                f'{t}.jpg': [dict(keypoints=flat(f), scores=2.5, idx=1)] for t, f in enumerate(P17)
            }
        },
        SIZED,
        P17,
        {},
    ),
    # ---- YOLO, Kinetics
    'yolo-json': (
        {
            'a.json': [
                [
                    dict(
                        name='person',
                        box={},
                        confidence=0.9,
                        track_id=1,
                        keypoints=dict(
                            x=f[:, 0].tolist(), y=f[:, 1].tolist(), visible=f[:, 2].tolist()
                        ),
                    )
                ]
                for f in P17
            ]
        },
        SIZED,
        P17,
        {},
    ),
    'yolo-txt': (
        {
            f'a/v_{t}.txt': ' '.join(map(str, [0, 0.5, 0.5, 1, 1, *flat(f / [640, 480, 1])]))
            for t, f in enumerate(P17)
        },
        SIZED,
        P17,
        dict(near=True),
    ),
    'yolo-txt-with-track-and-gap': (
        {
            f'a/v_{t + (t > 1)}.txt': ' '.join(
                map(str, [0, 0.5, 0.5, 1, 1, *flat(f / [640, 480, 1]), 0.9, 7])
            )
            for t, f in enumerate(P17)
        },
        SIZED,
        gap(P17),
        dict(near=True),
    ),
    'kinetics-skeleton': (
        {
            'a.json': dict(
                label='waving',
                label_index=3,
                data=[
                    dict(
                        frame_index=t + 1,
                        skeleton=[dict(pose=flat(f[:, :2] / SIZE), score=f[:, 2].tolist())],
                    )
                    for t, f in enumerate(P18)
                ],
            )
        },
        SIZED,
        P18,
        dict(near=True, layout='openpose18', label=0, classes=['waving']),
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_it_is_read_right(tmp_path, case):
    check_spelling(tmp_path, *CASES[case])
