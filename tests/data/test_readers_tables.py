"""Tables that users write, and persons put together over time."""

import numpy as np
import pytest

from mg_plugins.data.readers import common, people, tables
from mg_plugins.data.readers.common import FormatError

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
    rows, names, rejects, _ = tables.read_labels(path, classes)
    assert names == ['wave', 'nod']
    assert [(r.line, r.label, r.start, r.frame_dir) for r in rows['a']] == [
        (2, 0, None, 'a'),
        (10, 0, 3, 'a_00003_00009_00'),
    ]
    assert list(rows) == ['a', 'b'] and rows['b'][0].label is None
    assert where(rejects) == [
        ('labels.csv line 3', 'labels.csv', 3, 'empty'),
        ('c', 'labels.csv', 5, 'label out of range'),
        ('d', 'labels.csv', 6, 'label out of range'),
        ('e', 'labels.csv', 7, 'non-numeric'),
        ('f', 'labels.csv', 8, 'empty'),
        ('g', 'labels.csv', 9, 'non-numeric'),
    ]


def test_labels_classes_by_inference(tmp_path):
    assert tables.read_labels(labels(tmp_path, 'a,wave', 'b,nod'), None)[1] == ['nod', 'wave']
    _, names, _, _ = tables.read_labels(labels(tmp_path, 'a,2', 'b,0'), None)
    assert names == ['class 0', 'class 1', 'class 2']
    assert tables.read_labels(labels(tmp_path, 'a,touch hat'), 'imigue')[0]['a'][0].label == 2


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
    with pytest.raises(FormatError, match=r'must begin with the header clip.*found a,b'):
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
    assert split == dict(xsub_train=['a'], xsub_val=['b']) and '1 clip is in no split' in notes[0]
    with pytest.raises(FormatError, match='no clip has the subject 9; subjects are 1, 2'):
        tables.user_splits(clips, '2, 9')
    split, notes = tables.user_splits(clips, None)
    assert split == dict(all=['a', 'b', 'c']) and notes
    named = [clip_of('a', split='train'), clip_of('b', split='val')]
    assert tables.user_splits(named, None) == (dict(train=['a'], val=['b']), [])
    with pytest.raises(FormatError, match='not both'):
        tables.user_splits(named, '1')


# ---- persons


def detections(*frames):
    """Persons (frame, place, id) with one pattern of joints at each place."""
    pattern = np.float32([[0, 0], [100, 0], [0, 200]])
    points = np.stack([pattern + np.float32(place) for _, place, _ in frames])
    ids = [identity for _, _, identity in frames]
    number = np.array([number for number, _, _ in frames])
    scores = np.ones(points.shape[:2], np.float32)
    return people.Detections(points, scores, number, None if None in ids else ids)


def tracks(*frames, length, most, keep='score', size=None):
    keypoint, _, counts = people.assemble(detections(*frames), 0, length, most, keep, size)
    return keypoint[:, :, 0, 0].tolist(), dict(counts)


def at(number, x, identity=None):
    return number, (x, 100), identity


def test_persons_are_followed_when_their_order_changes():
    frames = [at(0, 100), at(0, 500), at(1, 510), at(1, 105), at(3, 110), at(3, 520), at(4, 115)]
    found, _ = tracks(*frames, length=5, most=2)
    assert found == [[100, 105, 0, 110, 115], [500, 510, 0, 520, 0]]


def test_a_person_who_appears_elsewhere_is_someone_else():
    found, _ = tracks(at(0, 100), at(0, 900), at(1, 100), at(1, 500), length=2, most=3)
    assert sorted(found) == [[0, 500], [100, 100], [900, 0]]


def test_ids_of_the_estimator_win_and_the_most_visible_stay():
    found, _ = tracks(at(0, 100, 7), at(0, 900, 3), at(1, 900, 7), length=2, most=1)
    assert found == [[100, 900]]


@pytest.mark.parametrize(
    ('keep', 'expected'),
    [('score', [100, 100, 100]), ('centre', [0, 320, 320]), ('b', [0, 320, 320])],
)
def test_who_is_kept(keep, expected):
    frames = [at(0, 100, 'a'), at(1, 100, 'a'), at(1, 320, 'b'), at(2, 100, 'a'), at(2, 320, 'b')]
    found, counts = tracks(*frames, length=3, most=1, keep=keep, size=(740, 400))
    assert found == [expected]
    assert counts == {'persons or pieces of tracks were left out (--max-persons, --person)': 1}


def test_pieces_of_one_person_are_joined():
    # Lost for longer than tracks are followed, and seen under another id.
    pieces = [at(0, 100, 1), at(1, 102, 1), at(60, 104, 2), at(61, 106, 2)]
    # A spurious second detection in one frame takes no slot of the subject's.
    for frames, most in ((pieces, 1), (pieces, 2), ([*pieces[:2], at(1, 800, 9), *pieces[2:]], 1)):
        found, counts = tracks(*frames, length=62, most=most)
        assert found[0][:2] == [100, 102] and found[0][60:] == [104, 106] and len(found) == 1
        assert counts['pieces of tracks were joined to one person'] == 1
    with pytest.raises(ValueError, match='no person has the track id 5'):
        tracks(*pieces, length=62, most=1, keep='5')
