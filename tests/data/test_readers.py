"""Rows of numbers, iMiGUE, and refusals of any format."""

import numpy as np
import pytest

from mg_plugins.data.classes import get_classes, protocol
from mg_plugins.data.prepare import PrepareError
from mg_plugins.data.readers import common, sources
from mg_plugins.data.readers.common import FormatError

import make_raw as raw
from make_raw import by_name, run, where

UPPER_BODY = [*range(8), *range(15, 19), *range(25, 35)]


# ---- rows of numbers


@pytest.mark.parametrize(
    ('bad', 'reason', 'detail'),
    [
        ('1,2', common.SHORT_ROW, '2 numbers, expected 3'),
        ('1,2,3,', common.LONG_ROW, '4 numbers, expected 3'),
        ('1,x2,3', common.NON_NUMERIC, "'x2' in column 2"),
        ('1,,3', common.NON_NUMERIC, "'' in column 2"),
        ('1,1_0,3', common.NON_NUMERIC, "'1_0' in column 2"),
        ('1,2,nan', common.NAN, "'nan' in column 3"),
        ('1,2,-inf', common.NAN, "'-inf' in column 3"),
        ('1,2,1e39', common.NAN, "'1e39' in column 3"),
        ('', common.EMPTY, 'blank line'),
        (' \t', common.EMPTY, 'blank line'),
        ('1;2;3', common.SHORT_ROW, '1 numbers'),
        ('1,2,3�', common.NON_NUMERIC, 'column 3'),
    ],
)
@pytest.mark.parametrize('position', [0, 1, 2])
def test_a_bad_row_is_named(bad, reason, detail, position):
    lines = ['1,2,3', '4,5.5,-6e-1', ' 7 , 8 , 9']
    lines[position] = bad
    with pytest.raises(common.ClipError) as caught:
        sources.parse_rows(lines, 3, first_line=10)
    assert (caught.value.reason, caught.value.line) == (reason, 10 + position)
    assert detail in caught.value.detail


def test_good_rows_are_parsed():
    rows = sources.parse_rows(['1,2,3', '4,5.5,-6e-1', ' 7 , 8 , 9'], 3)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.float32([[1, 2, 3], [4, 5.5, -0.6], [7, 8, 9]]))
    np.testing.assert_array_equal(sources.parse_rows(['1 2', '3\t4'], 2, 1, None), [[1, 2], [3, 4]])


def test_all_rows_wide_in_the_same_way_are_refused():
    with pytest.raises(common.ClipError) as caught:
        sources.parse_rows(['1,2,3,4', '1,2,3,4'], 3, first_line=5)
    assert (caught.value.reason, caught.value.line) == (common.LONG_ROW, 5)


@pytest.mark.parametrize(
    ('lines', 'line', 'reason'),
    [
        (['1,2,3', '1,2,3,4'], 6, common.LONG_ROW),
        (['1,2,3', '1,2'], 6, common.SHORT_ROW),
        (['1,2,3,4', '1,2'], 5, common.LONG_ROW),
        (['1,2', '1,2,3,4'], 5, common.SHORT_ROW),
        (['1,2,3', 'x,2,3'], 6, common.NON_NUMERIC),
        (['nan,2,3', '1,2,3'], 5, common.NAN),
        (['1,2,3', '', '1,2,3'], 6, common.EMPTY),
    ],
)
def test_some_columns_of_a_bad_row(lines, line, reason):
    with pytest.raises(common.ClipError) as caught:
        sources.parse_rows(lines, 3, first_line=5, used=[0])
    assert (caught.value.reason, caught.value.line) == (reason, line)


def test_some_columns_of_good_rows():
    rows = sources.parse_rows(['1,x,3', '4,,6'], 3, used=[0])
    np.testing.assert_array_equal(rows, [[1], [4]])
    rows = sources.parse_rows(['1,2,3', '4,5,6'], 3, used=[2, 0])
    np.testing.assert_array_equal(rows, [[3, 1], [6, 4]])


@pytest.mark.parametrize(
    'content',
    [b'1,2\n3,4\n', b'1,2\r\n3,4\r\n', b'1,2\r3,4', b'\xef\xbb\xbf1,2\n3,4\n\n \n', b'1,2\n3,4'],
)
def test_line_ends_and_marks_do_not_matter(content):
    assert sources.split_lines(content) == ['1,2', '3,4']


# ---- iMiGUE


def test_imigue_clips(tmp_path):
    raw.write_imigue_video(tmp_path / 'raw', 1, ['3,0,9', '99.0,5,39'])
    raw.write_imigue_video(tmp_path / 'raw', 8, ['1,20,20'], split='validate')
    report, content = run(tmp_path, 'imigue', tmp_path / 'raw')
    clips = by_name(content)
    assert list(clips) == ['0001_00000_00009_02', '0001_00005_00039_31', '0008_00020_00020_00']
    assert content['split'] == dict(train=list(clips)[:2], val=list(clips)[2:])
    clip = clips['0001_00005_00039_31']
    rows = raw.imigue_rows(40, seed=1)[5:40, 1:].reshape(-1, 35, 3)[:, UPPER_BODY]
    np.testing.assert_array_equal(clip['keypoint'], np.float32(rows[None, ..., :2]))
    np.testing.assert_array_equal(clip['keypoint_score'], np.float32(rows[None, ..., 2]))
    assert clip['keypoint'].shape == (1, 35, 22, 2)
    assert not clip['keypoint'][:, :, 17].any() and not clip['keypoint_score'][:, :, 17].any()
    del clip['keypoint'], clip['keypoint_score']
    assert clip == dict(
        frame_dir='0001_00005_00039_31',
        label=31,
        total_frames=35,
        img_shape=(720, 1280),
        original_shape=(720, 1280),
        session='0001',
        start=5,
        end=39,
        fps=25.0,
    )
    assert content['meta']['layout'] == 'imigue22'
    assert content['meta']['classes'] == list(get_classes('imigue'))
    assert any('--subjects' in note for note in report.notes)
    assert report.subjects == 0 and not report.rejects


def broken(kind):
    """A skeleton of 40 rows of which row 12 is broken."""
    lines = raw.csv_lines(raw.imigue_rows(40, 7))
    cells = lines[12].split(',')
    if kind == 'short':
        lines[12] = ','.join(cells[:-1])
    elif kind == 'text':
        lines[12] = ','.join([*cells[:50], 'x', *cells[51:]])
    elif kind == 'nan':
        lines[12] = ','.join([*cells[:50], 'nan', *cells[51:]])
    elif kind == 'blank':
        lines[12] = ''
    elif kind == 'zero':
        lines[10:20] = [f'{i}' + ',0' * 105 for i in range(10, 20)]
    return lines


SKELETON = 'imigue_skeleton_train/0007/0007_light_hand.csv'
LABELS = 'imigue_skeleton_train/0007/0007_label.csv'


@pytest.mark.parametrize(
    ('kind', 'label', 'clip', 'file', 'line', 'reason'),
    [
        ('short', '2,10,19', '0007_00010_00019_01', SKELETON, 13, 'short row'),
        ('text', '2,10,19', '0007_00010_00019_01', SKELETON, 13, 'non-numeric'),
        ('nan', '2,10,19', '0007_00010_00019_01', SKELETON, 13, 'NaN'),
        ('blank', '2,10,19', '0007_00010_00019_01', SKELETON, 13, 'empty'),
        ('blank', '2,12,19', '0007_00012_00019_01', SKELETON, 13, 'empty'),
        ('zero', '2,10,19', '0007_00010_00019_01', SKELETON, 11, 'all-zero joints'),
        ('fine', '2,30,40', '0007_00030_00040_01', LABELS, 2, 'frames beyond the file'),
        ('fine', '2,-1,5', '0007_-0001_00005_01', LABELS, 2, 'frames beyond the file'),
        ('fine', '2,19,10', '0007_00019_00010_01', LABELS, 2, 'end before start'),
        ('fine', '33,10,19', '0007 label 2', LABELS, 2, 'label out of range'),
        ('fine', '0,10,19', '0007 label 2', LABELS, 2, 'label out of range'),
        ('fine', 'x,10,19', '0007 label 2', LABELS, 2, 'label out of range'),
        ('fine', '2,10.5,19', '0007 label 2', LABELS, 2, 'non-numeric'),
        ('fine', '2,10', '0007 label 2', LABELS, 2, 'short row'),
        ('fine', '2,10,19,1', '0007 label 2', LABELS, 2, 'long row'),
        ('fine', '1,0,5', '0007_00000_00005_00', LABELS, 2, 'duplicate clip'),
    ],
)
def test_imigue_broken_clips_are_listed_and_the_others_kept(
    tmp_path, kind, label, clip, file, line, reason
):
    raw.write_imigue_video(tmp_path / 'raw', 7, ['1,0,5', label, '1,20,25'], lines=broken(kind))
    report, content = run(tmp_path, 'imigue', tmp_path / 'raw')
    assert where(report.rejects) == [(clip, file, line, reason)]
    assert list(by_name(content)) == ['0007_00000_00005_00', '0007_00020_00025_00']


def test_imigue_whole_files_that_lack(tmp_path):
    source = tmp_path / 'raw'
    raw.write_imigue_video(source, 1, ['1,0,5'])
    (raw.write_imigue_video(source, 2, ['1,0,5']) / '0002_label.csv').unlink()
    (raw.write_imigue_video(source, 3, ['1,0,5']) / '0003_light_hand.csv').unlink()
    raw.write_imigue_video(source, 4, [])
    raw.write_imigue_video(source, 5, ['1,0,5'], lines=['', ' '])
    report, content = run(tmp_path, 'imigue', source)
    assert len(content['annotations']) == 1
    assert where(report.rejects) == [
        ('0002', 'imigue_skeleton_train/0002/0002_label.csv', None, 'missing file'),
        ('0003', 'imigue_skeleton_train/0003/0003_light_hand.csv', None, 'missing file'),
        ('0004', 'imigue_skeleton_train/0004/0004_label.csv', None, 'empty'),
        ('0005', 'imigue_skeleton_train/0005/0005_light_hand.csv', None, 'empty'),
    ]


def test_imigue_a_video_in_both_splits_is_kept_once(tmp_path):
    for split in ('train', 'validate'):
        raw.write_imigue_video(tmp_path / 'raw', 1, ['1,0,5'], split=split)
    report, content = run(tmp_path, 'imigue', tmp_path / 'raw')
    file = 'imigue_skeleton_validate/0001/0001_label.csv'
    assert where(report.rejects) == [('0001_00000_00005_00', file, 1, 'duplicate clip')]
    assert 'imigue_skeleton_train/0001/0001_label.csv, line 1' in report.rejects[0].detail
    assert report.splits == dict(train=1)


@pytest.mark.parametrize('header', [',' + ','.join(map(str, range(105))), 'i' + ',nose' * 105])
def test_imigue_header_row_is_no_frame(tmp_path, header):
    lines = raw.csv_lines(raw.imigue_rows(40, 1))
    raw.write_imigue_video(tmp_path / 'with', 1, ['1,0,5', '2,30,39'], lines=[header, *lines])
    raw.write_imigue_video(tmp_path / 'without', 1, ['1,0,5', '2,30,39'], lines=lines)
    report, with_header = run(tmp_path, 'imigue', tmp_path / 'with')
    assert any('header' in note for note in report.notes)
    report, without = run(tmp_path, 'imigue', tmp_path / 'without')
    assert not any('header' in note for note in report.notes)
    for one, other in zip(with_header['annotations'], without['annotations'], strict=True):
        np.testing.assert_array_equal(one['keypoint'], other['keypoint'])
    lines[33] = 'x'
    raw.write_imigue_video(tmp_path / 'with', 1, ['1,0,5', '2,30,39'], lines=[header, *lines])
    report, _ = run(tmp_path, 'imigue', tmp_path / 'with')
    assert report.rejects[0].line == 35


def test_imigue_windows_files_are_the_same(tmp_path):
    lines = raw.csv_lines(raw.imigue_rows(40, 1))
    folder = raw.write_imigue_video(tmp_path / 'unix', 1, ['1,0,5', '2,30,39'], lines=lines)
    _, unix = run(tmp_path, 'imigue', tmp_path / 'unix')
    folder = tmp_path / 'dos' / folder.relative_to(tmp_path / 'unix')
    raw.write_lines(folder / '0001_light_hand.csv', [*lines, '', ''], '\r\n', '\ufeff')
    raw.write_lines(folder / '0001_label.csv', ['1,0,5', '', '2,30,39', ''], '\r\n', '\ufeff')
    report, dos = run(tmp_path, 'imigue', tmp_path / 'dos')
    assert not report.rejects and unix['split'] == dos['split']
    for one, other in zip(unix['annotations'], dos['annotations'], strict=True):
        np.testing.assert_array_equal(one['keypoint'], other['keypoint'])


def test_imigue_hands_follow_the_data(tmp_path):
    notes, contents = {}, {}
    for crossed in (False, True):
        source = tmp_path / str(crossed)
        raw.write_imigue_video(source, 1, ['1,0,39'], crossed=crossed)
        report, content = run(tmp_path, 'imigue', source)
        notes[crossed] = next(note for note in report.notes if note.startswith('hands'))
        contents[crossed] = content['annotations'][0]
    assert 'fingertips 12-16 belong to wrist 4' in notes[False]
    assert 'changed places' in notes[True] and notes[True] in content['meta']['note']
    for clip in contents.values():
        for wrist, tips in ((4, range(12, 17)), (7, range(17, 22))):
            seen = [tip for tip in tips if clip['keypoint_score'][0, :, tip].all()]
            distance = np.linalg.norm(
                clip['keypoint'][0][:, seen] - clip['keypoint'][0][:, [wrist]], axis=-1
            )
            assert distance.max() < 50
    # The joint that was never detected changes places with its hand.
    assert not contents[True]['keypoint_score'][0, :, 12].any()
    assert contents[True]['keypoint_score'][0, :, 17].all()


def test_imigue_without_fingertips_leaves_the_hands_alone(tmp_path):
    rows = raw.imigue_rows(40, 1)
    rows[:, 1 + 3 * 25 :] = 0
    raw.write_imigue_video(tmp_path / 'raw', 1, ['1,0,39'], lines=raw.csv_lines(rows))
    report, _ = run(tmp_path, 'imigue', tmp_path / 'raw')
    assert any('too few fingertips' in note for note in report.notes)


def write_subjects(path, rows):
    return str(raw.write_lines(path, ['video,subject,outcome', *rows]))


def test_imigue_subjects_give_the_published_protocols(tmp_path):
    source = tmp_path / 'raw'
    emotion = protocol('imigue', 'emotion')
    assert 1 in emotion['train_videos'] and 9 in emotion['test_videos']
    for number in (1, 2, 9, 10, 11):
        raw.write_imigue_video(source, number, ['1,0,5'])
    subjects = write_subjects(
        tmp_path / 'subjects.csv', ['0001,2,Win', '2,4,', '9,1,lose', '10,3,']
    )
    report, content = run(tmp_path, 'imigue', source, subjects=subjects)
    clip = '{:04d}_00000_00005_00'.format
    assert content['split'] == dict(
        train=[clip(n) for n in (1, 2, 9, 10, 11)],
        xsub_train=[clip(1), clip(2)],
        xsub_val=[clip(9), clip(10)],
        emotion_train=[clip(1)],
        emotion_test=[clip(9)],
    )
    clips = by_name(content)
    assert clips[clip(1)]['subject'] == '2' and clips[clip(1)]['outcome'] == 'win'
    assert 'outcome' not in clips[clip(2)] and 'subject' not in clips[clip(11)]
    assert any('1 videos are not in' in note and '0011' in note for note in report.notes)
    assert report.subjects == 4


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        (['1,2,draw'], "line 2: outcome 'draw', expected lose, win"),
        (['1,2,', 'x,2,'], 'line 3: video and subject must be whole numbers'),
        (['1,2,', '1,3,'], "line 3: video 1 has .*'3'.* here and .*'2'.* before"),
        (['1,2,win,x'], 'line 2: 4 cells under 3 columns'),
    ],
)
def test_imigue_a_wrong_subjects_table_is_refused(tmp_path, rows, message):
    raw.write_imigue_video(tmp_path / 'raw', 1, ['1,0,5'])
    with pytest.raises(FormatError, match=message):
        run(tmp_path, 'imigue', tmp_path / 'raw', subjects=write_subjects(tmp_path / 's.csv', rows))


def test_imigue_a_subjects_table_without_header_is_refused(tmp_path):
    raw.write_imigue_video(tmp_path / 'raw', 1, ['1,0,5'])
    subjects = str(raw.write_lines(tmp_path / 's.csv', ['1,2,win']))
    with pytest.raises(FormatError, match=r'header video,subject\[,outcome\]; found 1,2,win'):
        run(tmp_path, 'imigue', tmp_path / 'raw', subjects=subjects)


# ---- any format


@pytest.mark.parametrize('name', ['imigue', 'smg', 'msr-action3d'])
def test_another_folder_is_refused_with_what_it_holds(tmp_path, name):
    raw.write_lines(tmp_path / 'raw' / 'deep' / 'poses.xyz', ['1'])
    with pytest.raises(FormatError, match=r'(?s)Expected: .*Found: .*1 \.xyz, such as deep/poses'):
        run(tmp_path, name, tmp_path / 'raw')
    with pytest.raises(FormatError, match='does not exist'):
        run(tmp_path, name, tmp_path / 'nowhere')


def test_nothing_usable_is_an_error(tmp_path):
    raw.write_imigue_video(tmp_path / 'raw', 1, ['1,50,60'])
    with pytest.raises(PrepareError, match='no clip') as caught:
        run(tmp_path, 'imigue', tmp_path / 'raw')
    assert [r.reason for r in caught.value.rejects] == ['frames beyond the file']
    assert not (tmp_path / 'out').exists()
