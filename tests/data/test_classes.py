"""Class names, counts and protocols as published."""

import pytest

from mg_plugins.data import classes


@pytest.mark.parametrize(
    ('name', 'count', 'first', 'last'),
    [
        ('imigue', 32, 'turtle neck', 'illustrative'),
        ('smg', 17, 'turtling neck and shoulder', 'illustrative hand gestures'),
        ('ma52', 52, 'shaking body', 'scratching feet'),
        ('msr_action3d', 20, 'high arm wave', 'pick up and throw'),
    ],
)
def test_class_names(name, count, first, last):
    names = classes.get_classes(name)
    assert len(names) == len(set(names)) == count
    assert (names[0], names[-1]) == (first, last)
    assert name in classes.dataset_names()


def test_imigue_counts_and_protocols():
    counts = classes.class_counts('imigue')
    assert len(counts) == 32 and sum(counts) == 13670 and counts[31] == 4023 and min(counts) == 2
    subjects = classes.protocol('imigue')
    train, test = subjects['train_subjects'], subjects['test_subjects']
    assert len(train) == 37 and len(test) == 35 and sorted(train + test) == list(range(1, 73))
    assert subjects['train_clips'] + subjects['test_clips'] == 18499
    videos = classes.protocol('imigue', 'emotion')
    train, test = set(videos['train_videos']), set(videos['test_videos'])
    assert (len(train), len(test)) == (102, 100) and not train & test


def test_other_protocols():
    assert classes.protocol('smg')['test_subjects'] == [36, 37, 38, 39, 40]
    msr = classes.protocol('msr_action3d')
    assert msr['train_subjects'] == [1, 3, 5, 7, 9] and msr['test_subjects'] == [2, 4, 6, 8, 10]
    groups = classes.class_groups('ma52')
    assert sorted(label for group in groups.values() for label in group) == list(range(52))
    assert classes.get_classes('ma52')[groups['head_hand'][0]].startswith('playing or tidying hair')


def test_a_caller_cannot_change_the_table():
    classes.protocol('msr_action3d')['train_subjects'].append(2)
    assert classes.protocol('msr_action3d')['train_subjects'] == [1, 3, 5, 7, 9]


def test_unknown_names_are_explained():
    with pytest.raises(KeyError, match='imigue, smg'):
        classes.get_classes('imigu')
    with pytest.raises(KeyError, match='no counts.*imigue have'):
        classes.class_counts('smg')
    with pytest.raises(KeyError, match="no protocol 'emotion'"):
        classes.protocol('smg', 'emotion')
