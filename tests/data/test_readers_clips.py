"""BVH, NTU, pickles and arrays: each way to write them is read right.

A case is files, options, and what must come out: coordinates, and where it matters scores, layout,
frame rate, notes. The format is found by content.
"""

import numpy as np
import pytest
from pose_files import (
    BODY25,
    BVH,
    FLAT25,
    K17,
    METRES,
    P17,
    S17,
    SIZED,
    T,
    bvh,
    check_spelling,
    gap,
    in_pickle,
    npz,
    ntu,
    pyskl,
)

CASES = {
    # ---- BVH, NTU
    'bvh': ({'a.bvh': bvh()}, {}, BVH, dict(fps=25.0, near=True, layout='bvh')),
    'ntu': (
        {'S001C002P001R001A008.skeleton': ntu([[(72, f)] for f in BODY25])},
        {},
        BODY25,
        dict(name='S001C002P001R001A008', layout='ntu25', label=7),
    ),
    'ntu-frame-without-body': (
        {'S001C002P001R001A008.skeleton': ntu([[(72, f)] if f.any() else [] for f in gap(BODY25)])},
        {},
        gap(BODY25),
        dict(name='S001C002P001R001A008'),
    ),
    'ntu-noise': (
        {
            'S001C002P001R001A008.skeleton': ntu(
                [
                    [(1, f), (2, g), *([(3, g)] if t < 3 else [])]
                    for t, (f, g) in enumerate(zip(BODY25, FLAT25, strict=True))
                ]
            )
        },
        {},
        BODY25,
        dict(name='S001C002P001R001A008', note='2 bodies were dropped'),
    ),
    # ---- arrays
    'pyskl-float16': ({'set.pkl': in_pickle([pyskl()])}, {}, P17, dict(layout='coco17')),
    'pyskl-split': (
        {'set.pkl': in_pickle([pyskl()], dict(xsub_train=['a'], xsub_val=[]))},
        {},
        P17,
        dict(split=dict(xsub_train=['a'], xsub_val=[])),
    ),
    'pyskl-train-and-test': (
        {'train.pkl': in_pickle([pyskl()]), 'test.pkl': in_pickle([pyskl(frame_dir='b')])},
        {},
        P17,
        dict(split=dict(train=['a'], test=['b'])),
    ),
    'pyskl-zero-bodies': (
        {'set.pkl': in_pickle([pyskl(), pyskl(frame_dir='b', keypoint=np.zeros((0, T, 17, 2)))])},
        {},
        P17,
        dict(rejected=['b']),
    ),
    'pyskl-no-labels': (
        {'set.pkl': in_pickle([{k: v for k, v in pyskl().items() if k != 'label'}])},
        {},
        P17,
        dict(label=None),
    ),
    'pyskl-x-y-score': (
        {
            'set.pkl': in_pickle(
                [{**pyskl(), 'keypoint': P17[None].astype(np.float16), 'keypoint_score': None}]
            )
        },
        {},
        P17,
        dict(note='three channels'),
    ),
    'npz': (
        {'set.npz': npz(keypoint=K17, keypoint_score=S17, label=[0], clip=['a'])},
        dict(SIZED, layout='coco17'),
        P17,
        {},
    ),
    'npz-n-c-t-v-m': (
        {
            'set.npz': npz(
                keypoint=np.stack([P17, P17 * 0], -1)[None].transpose(0, 3, 1, 2, 4), clip=['a']
            )
        },
        dict(SIZED, layout='coco17'),
        P17,
        dict(label=None, note='three channels'),
    ),
    'npz-nan': (
        {
            'set.npz': npz(
                keypoint=np.where(gap(K17[0])[None].any(-1, keepdims=True), gap(K17[0]), np.nan),
                label=[0],
                clip=['a'],
            )
        },
        dict(SIZED, layout='coco'),
        gap(K17[0]),
        dict(note='NaN count as missing', layout='coco17'),
    ),
    'npz-labels-from-1': (
        {
            'set.npz': npz(
                keypoint=np.repeat(K17, 2, 0), label=[1, 2], clip=['b', 'a'], classes=['p', 'q']
            )
        },
        dict(SIZED, layout='coco17'),
        K17[0],
        dict(label=1),
    ),
    'npz-millimetres': (
        # The second clip, a small body, is in the unit of the file as well.
        {
            'set.npz': npz(
                keypoint=1000 * np.stack([METRES, METRES / 8])[:, None],
                clip=['b', 'a'],
                label=[0, 1],
            )
        },
        dict(layout='h36m17'),
        METRES / 8,
        dict(near=True, note='in mm'),
    ),
    'npy-test-set': (
        {'set.npy': None},
        dict(SIZED, layout='coco17'),
        K17[0],
        dict(name='clip_00000', label=None),
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_it_is_read_right(tmp_path, case):
    check_spelling(tmp_path, *CASES[case])
