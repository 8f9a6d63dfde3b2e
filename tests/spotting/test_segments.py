"""The table of segments: what is written is read again, and nothing breaks a format."""

import csv
import json

import pytest

from mg_plugins.errors import UserError
from mg_plugins.spotting import Segment, Segments, read_segments

ROWS = [
    Segment(4.0, 5.5, 'rub hands & <b>', 0, 0.75, 100, 138, 'talk'),
    Segment(1.0, 2.25, 'touch nose', 0, 0.5, 25, 56, 'talk'),
    Segment(1.5, 3.0, 'fold arms', 1, 1.0, 38, 75, 'talk'),
]


def test_rows_come_in_order_of_time() -> None:
    assert [row.start for row in Segments(ROWS)] == [1.0, 1.5, 4.0]
    assert Segments(ROWS).duration == 5.5


@pytest.mark.parametrize('ending', ['csv', 'json'])
@pytest.mark.parametrize('rows', [ROWS, []], ids=['some', 'none'])
@pytest.mark.parametrize('source', ['', 'synthetic'])
def test_tables_are_read_as_written(tmp_path, ending, rows, source) -> None:
    table = Segments(rows, source, 10.0)
    path = tmp_path / f'segments.{ending}'
    getattr(table, f'write_{ending}')(path)
    again = read_segments(path)
    assert again.rows == table.rows
    if rows or ending == 'json':
        assert again.source == source


@pytest.mark.parametrize('rows', [ROWS, []], ids=['some', 'none'])
def test_elan_holds_the_same_segments(tmp_path, rows) -> None:
    from pympi import Eaf

    path = tmp_path / 'segments.eaf'
    Segments(rows, '', 10.0).write_eaf(path, tmp_path / 'annotated.mp4')
    assert [p.name for p in tmp_path.iterdir()] == ['segments.eaf']
    eaf = Eaf(str(path))
    (media,) = eaf.media_descriptors  # ELAN looks at the whole URL first, then beside the file
    assert media['MEDIA_URL'] == (tmp_path / 'annotated.mp4').as_uri()
    assert media['RELATIVE_MEDIA_URL'] == './annotated.mp4'
    found = [
        (tier, start / 1000, end / 1000, label)
        for tier in eaf.get_tier_names()
        for start, end, label, *_ in eaf.get_annotation_data_for_tier(tier)
    ]
    assert sorted(found) == sorted((f'person {r.person}', r.start, r.end, r.label) for r in rows)


@pytest.mark.parametrize('rows', [ROWS, []], ids=['some', 'none'])
def test_praat_holds_the_same_segments(tmp_path, rows) -> None:
    from pympi.Praat import TextGrid

    path = tmp_path / 'segments.TextGrid'
    Segments(rows, '', 10.0).write_textgrid(path)
    grid = TextGrid(str(path))
    found = [
        (round(a, 3), round(b, 3), label)
        for tier in grid.get_tiers()
        for a, b, label in tier.get_intervals()
        if label.strip()
    ]
    assert sorted(found) == sorted((r.start, r.end, r.label) for r in rows)
    assert grid.xmax == 10.0


def test_overlapping_intervals_of_one_person_are_cut_for_praat(tmp_path) -> None:
    from pympi.Praat import TextGrid

    rows = [Segment(0, 2, 'a'), Segment(1, 3, 'b'), Segment(1.5, 1.9, 'c')]
    Segments(rows).write_textgrid(tmp_path / 'x.TextGrid')
    tier = TextGrid(str(tmp_path / 'x.TextGrid')).get_tier(1)
    assert [i for i in tier.get_intervals() if i[2]] == [(0, 2, 'a'), (2, 3, 'b')]


def test_no_cell_is_taken_for_a_formula_and_no_control_character_breaks_xml(tmp_path) -> None:
    table = Segments([Segment(0, 1, '=HYPERLINK("x")\x01')])
    table.write_csv(tmp_path / 'x.csv')
    with (tmp_path / 'x.csv').open(newline='') as file:
        assert next(csv.DictReader(file))['class'].startswith("'=")
    table.write_eaf(tmp_path / 'x.eaf')
    assert '>=HYPERLINK("x") <' in (tmp_path / 'x.eaf').read_text()


@pytest.mark.parametrize(
    'start, end', [(2, 2), (3, 2), (-1, 2), (0, float('nan')), (0, float('inf'))]
)
def test_a_segment_that_is_no_span_is_refused(start, end) -> None:
    with pytest.raises(UserError, match='lasts from'):
        Segments([Segment(start, end, 'a')])


@pytest.mark.parametrize(
    'name, content, says',
    [
        ('a.csv', 'x,y\n1,2\n', 'lacks the column recording'),
        ('a.json', '{"segments": 3}', 'holds no segments'),
        ('a.json', 'no', 'is not JSON'),
        ('a.txt', '', 'are read from'),
    ],
)
def test_a_file_that_holds_no_segments_gives_a_sentence(tmp_path, name, content, says) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=says):
        read_segments(path)


def test_json_says_its_source(tmp_path) -> None:
    Segments([], 'synthetic', 3.0).write_json(tmp_path / 'x.json')
    content = json.loads((tmp_path / 'x.json').read_text())
    assert content == dict(source='synthetic', duration=3.0, segments=[])
