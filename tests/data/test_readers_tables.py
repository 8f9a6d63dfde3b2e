"""Tables that users write, and persons put together over time."""

import numpy as np
import pytest

from mg_plugins.data.readers import FormatError, common, people, tables

import make_raw as raw
from make_raw import labels, where

# ---- labels, classes, splits


def test_labels_rejects(tmp_path):
    path = labels(
        tmp_path,
        'a,wave,,,',
        ',wave,,,',
        'b,,,,',
        'c,jump,,,',
        'd,2,,,',
        'e,1,x,9,',
        'f,1,3,,',
        'g,1,3,9,fast',
        'a,0,3,9,',
        header='clip,label,start,end,fps',
    )
    classes = str(raw.write_lines(tmp_path / 'classes.txt', ['wave', 'nod', '']))
    table = tables.read_labels(path, classes)
    assert table.classes == ['wave', 'nod']
    assert [(r.line, r.label, r.start, r.frame_dir) for r in table.rows['a']] == [
        (2, 0, None, 'a'),
        (10, 0, 3, 'a_00003_00009_00'),
    ]
    assert list(table.rows) == ['a']
    assert where(table.rejects) == [
        ('labels.csv line 3', 'labels.csv', 3, 'empty'),
        ('b', 'labels.csv', 4, 'empty'),
        ('c', 'labels.csv', 5, 'label out of range'),
        ('d', 'labels.csv', 6, 'label out of range'),
        ('e', 'labels.csv', 7, 'non-numeric'),
        ('f', 'labels.csv', 8, 'empty'),
        ('g', 'labels.csv', 9, 'non-numeric'),
    ]


def test_labels_classes_by_inference(tmp_path):
    assert tables.read_labels(labels(tmp_path, 'a,wave', 'b,nod'), None).classes == ['nod', 'wave']
    numbered = tables.read_labels(labels(tmp_path, 'a,2', 'b,0'), None)
    assert numbered.classes == ['class 0', 'class 1', 'class 2']
    assert tables.read_labels(labels(tmp_path, 'a,touch hat'), 'imigue').rows['a'][0].label == 2


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a\nb\na\n', 'repeats a'),
        ('\n', 'holds no name'),
        ('["a", 1]', 'JSON list'),
        ('[', 'line 1'),
    ],
)
def test_classes_files_that_are_none(tmp_path, text, message):
    path = tmp_path / ('classes.json' if text.startswith('[') else 'classes.txt')
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        tables.read_classes(str(path))


def test_labels_that_are_none(tmp_path):
    with pytest.raises(FormatError, match='--labels CSV is needed'):
        tables.read_labels(None, None)
    with pytest.raises(FormatError, match=r'must begin with the header clip,label.*found a,b'):
        tables.read_labels(labels(tmp_path, 'x,y', header='a,b'), None)
    with pytest.raises(FormatError, match='no such file'):
        tables.read_labels(str(tmp_path / 'none.csv'), None)
    with pytest.raises(FormatError, match='no rows'):
        tables.read_labels(labels(tmp_path), None)


def clip_of(name, subject=None, split=None):
    annotation = dict(frame_dir=name, **({'subject': subject} if subject else {}))
    return common.Clip(annotation, 'labels.csv', 1, split)


def test_user_splits():
    clips = [clip_of('a', '1'), clip_of('b', '2'), clip_of('c')]
    split, notes = tables.user_splits(clips, '2')
    assert split == dict(xsub_train=['a'], xsub_val=['b']) and '1 clips are in no split' in notes[0]
    with pytest.raises(FormatError, match='no clip has the subject 9; subjects are 1, 2'):
        tables.user_splits(clips, '2, 9')
    split, notes = tables.user_splits(clips, None)
    assert split == dict(all=['a', 'b', 'c']) and notes
    named = [clip_of('a', split='train'), clip_of('b', split='val')]
    assert tables.user_splits(named, None) == (dict(train=['a'], val=['b']), [])
    with pytest.raises(FormatError, match='not both'):
        tables.user_splits(named, '1')


# ---- persons


def frame(*places, ids=None):
    """Persons with one joint pattern at the given places."""
    pattern = np.float32([[0, 0], [100, 0], [0, 200]])
    points = np.stack([pattern + np.float32(place) for place in places])
    return people.Frame(points, np.ones(points.shape[:2], np.float32), ids)


def test_persons_are_followed_when_their_order_changes():
    frames = [
        frame((100, 100), (500, 100)),
        frame((510, 100), (105, 100)),
        None,
        frame((110, 100), (520, 100)),
        frame((115, 100)),
    ]
    keypoint, score = people.assemble(frames, 2)
    assert keypoint.shape == (2, 5, 3, 2)
    np.testing.assert_array_equal(keypoint[0, :, 0, 0], [100, 105, 0, 110, 115])
    np.testing.assert_array_equal(keypoint[1, :, 0, 0], [500, 510, 0, 520, 0])
    np.testing.assert_array_equal(score[:, :, 0], [[1, 1, 0, 1, 1], [1, 1, 0, 1, 0]])


def test_a_person_who_appears_elsewhere_is_someone_else():
    keypoint, _ = people.assemble([frame((100, 100), (900, 100)), frame((100, 100), (500, 100))], 3)
    assert len(keypoint) == 3


def test_ids_of_the_estimator_win_and_the_most_visible_stay():
    frames = [frame((0, 100), (900, 100), ids=(7, 3)), frame((900, 100), ids=(7,))]
    keypoint, _ = people.assemble(frames, 1)
    np.testing.assert_array_equal(keypoint[:, :, 0, 0], [[0, 900]])
