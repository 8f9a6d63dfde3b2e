"""What is broken, hostile or huge: one sentence that names the file, and the rest goes on.

Every case is a file that stands beside a good one of the same format. It must be listed as rejected
(file, reason, a part of the sentence), and the good one must come out.
"""

import json
import pickle

import numpy as np
import pytest
from pose_files import F33, P17, ROWS, bvh, coco, flat, head, mmpose, mp, ntu, pyskl, wide, write

from make_raw import by_name, run

GOOD = {
    'poses.json': mmpose(*[coco(f) for f in P17]),
    'mediapipe.csv': wide(head('{a}{j}'), ROWS),
    'mediapipe.json': [mp(f) for f in F33],
    'bvh.bvh': bvh(),
}
OPTIONS = {'bvh': dict(unit='cm'), 'mediapipe': dict(size='640x480', min_score=0)}
LINES = GOOD['mediapipe.csv'].splitlines()
KEYS = '{"frame_id": 0, "instances": [%s]}'


def joined(**change):
    lines = list(LINES)
    for at, line in change.items():
        lines[int(at[1:])] = line
    return '\n'.join(lines)


def cell(text, row=1, column=4):
    cells = LINES[row].split(',')
    cells[column] = text
    return joined(**{f'_{row}': ','.join(cells)})


def person(**change):
    return mmpose({**coco(P17[0]), **change})


def hierarchy(old, new):
    assert old in bvh()
    return bvh().replace(old, new, 1)


# (format, suffix): {case: (content, reason, part of the sentence)}.
POSES = {
    'nothing': ('', 'empty', 'the file is empty'),
    'spaces': ('  \n', 'empty', 'the file is empty'),
    'cut': ('[{"frame_id": 0, "instances": [', 'unreadable', 'not JSON'),
    'open quote': ('[{"frame_id', 'unreadable', 'not JSON'),
    'not UTF-8': (b'\xff\xfe\xfa[{', 'unreadable', 'not JSON'),
    'zero bytes': (b'\0' * 500, 'unreadable', 'not JSON'),
    'a NUL in text': ('[{"frame_id": 0, "a\0', 'unreadable', 'not JSON'),
    'binary': (bytes(range(256)) * 4, 'unreadable', 'not JSON'),
    'a number': ('3', 'unreadable', 'no list of frames'),
    'a text': ('"poses"', 'unreadable', 'no list of frames'),
    'null': ('null', 'empty', 'no frames'),
    'empty list': ('[]', 'empty', 'no frames'),
    'empty object': ('{}', 'empty', 'no frames'),
    'no frames in it': ({'poses': 1}, 'unreadable', 'no list of frames'),
    '200,000 brackets': ('[' * 200_000, 'unreadable', 'nested too deep'),
    '20,000 closed brackets': ('[' * 20_000 + ']' * 20_000, 'unreadable', 'nested too deep'),
    '401 digits': (
        json.dumps(person(), indent=None).replace('0', '1' * 401, 1),
        'unreadable',
        'frame',
    ),
    '401 digits in a joint': (KEYS % f'{{"keypoints": [[{"9" * 401}, 1]]}}', None, ''),
    '5,000 digits': ('[' + '9' * 5000 + ']', 'unreadable', 'not JSON'),
    'a frame number of 10^18': (
        [person()[0] | dict(frame_id=10**18)],
        'unreadable',
        'no number of a frame',
    ),
    'frames 0 and 900,000': (
        [dict(frame_id=n, instances=[coco(P17[0])]) for n in (0, 900_000)],
        'unreadable',
        'are these numbers of frames',
    ),
    'a negative frame number': (
        [dict(frame_id=-3, instances=[coco(P17[0])])],
        'unreadable',
        'frame -3',
    ),
    'nobody': ([dict(frame_id=0, instances=[])], 'all-zero joints', 'nobody'),
    'only zeros': (person(keypoints=[[0, 0]] * 17), 'all-zero joints', 'no joint'),
    'only null': (person(keypoints=[[None, None]] * 17), 'all-zero joints', 'no joint'),
    'scores of zero': (person(keypoint_scores=[0] * 17), 'all-zero joints', 'no joint'),
    'infinite': (person(keypoints=[[1e999, 1]] * 17), 'all-zero joints', 'no joint'),
    'text as joints': (person(keypoints='joints'), 'unreadable', "'joints'"),
    'text in joints': (person(keypoints=[['x', 1]] * 17), 'non-numeric', 'not a number'),
    'a number as joints': (person(keypoints=3), 'unreadable', 'not a list'),
    'joints of other lengths': (
        person(keypoints=[[1, 2], [3]]),
        'non-numeric',
        'lacks a coordinate',
    ),
    '5 coordinates': (person(keypoints=[[1] * 5] * 17), 'unreadable', 'shape (17, 5)'),
    'nested joints': (person(keypoints=[[[1, 2]]] * 17), 'unreadable', '1 joints'),
    'no joints': (person(keypoints=[]), 'short row', 'empty'),
    '50 numbers': (mmpose(dict(keypoints=[1.0] * 50)), 'short row', '50 numbers'),
    '16 joints': (
        person(keypoints=[[1, 2]] * 16, keypoint_scores=[1] * 16),
        'unreadable',
        '16 joints',
    ),
    '2 scores': (person(keypoint_scores=[1, 1]), 'short row', '2 scores for 17'),
    'text as scores': (person(keypoint_scores=['a'] * 17), 'non-numeric', 'not a number'),
    'scores up to 3.7': (person(keypoint_scores=[3.7] * 17), 'unreadable', '--max-score 3.7'),
    'scores up to 1000': (person(keypoint_scores=[1000] * 17), 'unreadable', '--max-score 1000'),
    'beyond the picture': (
        person(keypoints=[[1900, 1000]] * 17),
        'unreadable',
        'give the true --size',
    ),
    'track_id is a list': (person(track_id=[7, 8], keypoints='x'), 'unreadable', "'x'"),
    'a person is a number': ([dict(frame_id=0, instances=[3])], 'unreadable', 'not an object'),
    'instances is text': ([dict(frame_id=0, instances='all')], 'unreadable', 'no list of persons'),
    'animals': (
        dict(
            meta_info=dict(keypoint_id2name={str(i): f'paw_{i}' for i in range(17)}),
            instance_info=person(),
        ),
        'unreadable',
        'no layout has the joints paw_0',
    ),
    'names without numbers': (
        dict(meta_info=dict(keypoint_id2name={'a': 'nose'}), instance_info=person()),
        'unreadable',
        'invalid literal',
    ),
    'one picture': ([coco(P17[0])], 'unreadable', 'one picture'),
    'image ids are names': (
        [dict(image_id='cat.jpg', keypoints=flat(P17[0]))],
        'unreadable',
        'add "frame_id"',
    ),
}
CSV = {
    'nothing': ('', 'empty', 'empty'),
    'a header alone': (LINES[0], 'empty', 'no frames'),
    'no header': ('\n'.join(LINES[1:]), 'unreadable', 'the header must give'),
    'another header': ('a,b,c\n1,2,3', 'unreadable', 'found 0 joints'),
    'a column twice': (joined(_0=LINES[0].replace('x1,', 'x0,', 1)), 'unreadable', 'once each'),
    '32 landmarks': (
        '\n'.join(','.join(line.split(',')[:128]) for line in LINES),
        'unreadable',
        '32 joints',
    ),
    'text in a cell': (cell('left'), 'non-numeric', "'left' is not a number"),
    'two points': (cell('0.5.5'), 'non-numeric', 'not a number'),
    'a formula': (cell('=1+1'), 'non-numeric', 'not a number'),
    'pixels among fractions': (cell('512'), 'unreadable', 'fractions of the picture'),
    'a short row': (joined(_2='1,2,3'), 'short row', '3 cells, expected 132'),
    'a long row': (joined(_2=LINES[2] + ',1'), 'long row', '133 cells, expected 132'),
    'a blank row': (joined(_2=''), 'empty', 'blank line'),
    'an open quote': ('"' + joined(), 'unreadable', 'no table'),
    'zero bytes': (b'\0' * 400, 'unreadable', 'the header must give'),
    'a frame is text': (
        wide(['frame', *head('{a}{j}')], [['one', *ROWS[0]]]),
        'non-numeric',
        'frame',
    ),
    'frame 10^12': (wide(['frame', *head('{a}{j}')], [[10**12, *ROWS[0]]]), 'non-numeric', 'frame'),
    'only empty cells': (LINES[0] + '\n' + ',' * 131, 'all-zero joints', 'nobody'),
}
MOCAP = {
    'nothing': ('', 'unreadable', 'expected HIERARCHY'),
    'no motion': (bvh().split('MOTION')[0], 'unreadable', 'MOTION'),
    'an unknown channel': (
        hierarchy('Xposition', 'Wposition'),
        'unreadable',
        'no line of a hierarchy',
    ),
    'a joint twice': (hierarchy('RightLeg', 'LeftLeg'), 'unreadable', 'twice'),
    'a brace too many': (hierarchy('  }\n}', '  }\n}\n}'), 'unreadable', 'no line of a hierarchy'),
    'rows left out': (bvh().rsplit('1 90', 1)[0], 'short row', '1 rows of motion'),
    'a number left out': (hierarchy('1 90 2 0', '1 90 0'), 'short row', 'expected 12'),
    'no frame time': (hierarchy('Frame Time: 0.04', ''), 'unreadable', 'Frame Time'),
    'NaN': (hierarchy('1 90 2', 'nan 90 2'), 'NaN', 'not finite'),
}
ALL = {
    f'{name}: {case}': (name, suffix, *entry)
    for name, suffix, table in (
        ('poses', '.json', POSES), ('mediapipe', '.csv', CSV), ('bvh', '.bvh', MOCAP),
    )
    for case, entry in table.items()
}  # fmt: skip


@pytest.mark.parametrize('case', ALL)
def test_a_bad_file_is_listed_and_the_good_one_kept(tmp_path, case):
    name, suffix, content, reason, detail = ALL[case]
    source = tmp_path / 'raw'
    write(source / f'good{suffix}', GOOD[name + suffix])
    write(source / f'bad{suffix}', content)
    options = OPTIONS.get(name, dict(size='640x480'))
    report, result = run(tmp_path, name, source, **options)
    assert list(by_name(result)) == ['good']
    (reject,) = report.rejects
    assert reject.clip == 'bad' and reject.file == f'bad{suffix}'
    assert reason in (None, reject.reason) and detail in reject.detail
    assert '\n' not in str(reject) and len(str(reject)) < 400


SKELETON = ntu([[(1, np.full((25, 3), 0.5) + np.arange(25)[:, None] / 25)]] * 2)


@pytest.mark.parametrize(
    ('content', 'detail'),
    [
        ('', 'expected the number of frames, found the end'),
        ('2\n0\n', 'expected the number of bodies, found the end'),
        ('99999999999\n', 'expected the number of frames'),
        ('1\n1\n7\n25\n1 2 3\n', 'the file ends within a body'),
        ('1\n1\n7\n24\n', 'expected 25 joints'),
        (SKELETON.replace('0.5 ', 'x ', 1), 'is not a number'),
        ('3\n0\n0\n0\n', 'no body in any of the 3 frames'),
        ('1\n-1\n', 'expected the number of bodies'),
    ],
)
def test_ntu_files(tmp_path, content, detail):
    source = tmp_path / 'raw'
    write(source / 'S001C001P001R001A001.skeleton', SKELETON)
    write(source / 'S001C001P002R001A002.skeleton', content)
    report, result = run(tmp_path, 'ntu', source)
    assert list(by_name(result)) == ['S001C001P001R001A001']
    (reject,) = report.rejects
    assert reject.file == 'S001C001P002R001A002.skeleton' and detail in reject.detail


@pytest.mark.parametrize(
    ('change', 'detail'),
    [
        (dict(keypoint=None), 'keypoint is a NoneType'),
        (dict(keypoint=[[1.0]]), 'keypoint is a list'),
        (dict(keypoint=np.ones((4, 17, 2))), 'not numbers (M, T, V, 2 or 3)'),
        (dict(keypoint=np.ones((1, 4, 16, 2))), '16 joints, but the layout coco17 has 17'),
        (
            dict(keypoint=np.ones((1, 0, 17, 2)), total_frames=0),
            'keypoint has the shape (1, 0, 17, 2)',
        ),
        (dict(keypoint=np.zeros((1, 4, 17, 2))), 'no joint'),
        (dict(keypoint=np.full((1, 4, 17, 2), np.nan)), 'no joint'),
        (dict(keypoint_score=np.ones((1, 4, 3))), 'keypoint_score is float64 of shape (1, 4, 3)'),
        (dict(keypoint_score=P17[None, ..., 2] * 3.7), '--max-score'),
        (dict(label='wave'), "label is 'wave'"),
        (dict(label=-1), 'label -1'),
        (dict(total_frames=9), 'total_frames is 9, keypoint has 4'),
        (dict(img_shape=(48, 64)), 'give the true --size'),
        (dict(img_shape=None, original_shape=None), 'give --size'),
    ],
)
def test_clips_of_a_pickle(tmp_path, change, detail):
    clips = [pyskl(frame_dir='good'), pyskl(frame_dir='bad', **change)]
    (tmp_path / 'set.pkl').write_bytes(pickle.dumps(clips))
    report, result = run(tmp_path, 'pickle', tmp_path / 'set.pkl')
    assert list(by_name(result)) == ['good']
    (reject,) = report.rejects
    assert reject.file == 'set.pkl, clip bad' and detail in reject.detail
