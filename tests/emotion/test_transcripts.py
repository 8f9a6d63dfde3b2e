import json

import pytest

from mg_plugins.emotion.transcripts import (
    Utterance,
    as_text,
    mask_speakers,
    read_transcript,
    read_transcripts,
    speaker_names,
)
from mg_plugins.errors import UserError

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i>
there.

2
01:00:03,250 --> 01:00:04,000
REPORTER: How was it?
3
01:00:05,000 --> 01:00:06,000
Look: it was fine.
"""
VTT = """WEBVTT - a title

NOTE a comment
that is long

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.500 align:start position:10%
<v.loud Ann Lee>Hello &amp; <b>welcome</b></v>

01:00:03.250 --> 01:00:04.000
<00:01.500><c.yellow>How</c> was it?

two voices
01:00:05.000 --> 01:00:06.000
<v Ann Lee>Fine.
<v Bob>Good.
"""


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_transcript(path)


@pytest.mark.parametrize('newline', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_srt(tmp_path, newline, encoding):
    found = read(tmp_path, 'a.srt', SRT.replace('\n', newline).encode(encoding))
    assert found == [
        Utterance(1.0, 2.5, 'Hello there.'),
        Utterance(3603.25, 3604.0, 'How was it?', 'REPORTER'),
        Utterance(3605.0, 3606.0, 'Look: it was fine.'),
    ]


@pytest.mark.parametrize('newline', ['\n', '\r\n'])
def test_vtt(tmp_path, newline):
    found = read(tmp_path, 'a.VTT', VTT.replace('\n', newline).encode('utf-8-sig'))
    assert found == [
        Utterance(1.0, 2.5, 'Hello & welcome', 'Ann Lee'),
        Utterance(3603.25, 3604.0, 'How was it?'),
        Utterance(3605.0, 3606.0, 'Fine.', 'Ann Lee'),
        Utterance(3605.0, 3606.0, 'Good.', 'Bob'),
    ]


@pytest.mark.parametrize('wrap', [lambda items: items, lambda items: {'segments': items}])
def test_json(tmp_path, wrap):
    items = [
        {'id': 1, 'start': 5, 'end': 6.5, 'text': ' Later\n on ', 'speaker': 'SPEAKER_01'},
        {'start': 1.5, 'end': 2, 'text': 'First', 'speaker': None, 'words': []},
        {'start': 3, 'end': 4, 'text': '  '},
    ]
    assert read(tmp_path, 'a.json', json.dumps(wrap(items))) == [
        Utterance(1.5, 2.0, 'First'),
        Utterance(5.0, 6.5, 'Later on', 'SPEAKER_01'),
    ]


@pytest.mark.parametrize(
    'name, content, message',
    [
        ('a.srt', SRT.replace('02,500', '62,500'), r'a\.srt, cue 1, line 2: a time .*62,500'),
        ('a.srt', SRT.replace('01:00:04,000', '00:00:04,000'), 'cue 2, line 7: .*before the start'),
        ('a.srt', 'words\n', r'a\.srt, cue 1, line 1'),
        ('a.srt', SRT + '\nloose text\n', 'cue 4, line 13: .*loose text'),
        ('a.srt', '1\n00:00:01,000 -->\nx', 'cue 1, line 2'),
        ('a.vtt', SRT, r'a\.vtt, line 1: "WEBVTT"'),
        ('a.vtt', '', r'a\.vtt, line 1'),
        ('a.vtt', VTT.replace('00:02.500', '2.5'), r'cue 1, line 10: .*2\.5'),
        ('a.json', '[\n{', r'a\.json, line 2: no JSON'),
        ('a.json', '{"text": "x"}', 'segments'),
        ('a.json', '[3]', 'segment 1: a JSON object'),
        ('a.json', '[{"start": 1, "end": 2}]', 'segment 1, field text'),
        ('a.json', '[{"start": "1", "end": 2, "text": "x"}]', 'segment 1, field start'),
        ('a.json', '[{"start": NaN, "end": 2, "text": "x"}]', 'segment 1, field start'),
        ('a.json', '[{"start": 3, "end": 2, "text": "x"}]', 'segment 1: the end 2.0 comes before'),
        ('a.srt', SRT.replace('01:00:03', '9' * 400 + ':00:03'), r'a\.srt, cue 2, line 7: a time'),
        ('a.srt', SRT.replace('01:00:04', '99999:00:04'), 'cue 2, line 7, field end: .* less than'),
        ('a.vtt', VTT.replace('00:02.500', '9' * 5000 + ':00:02.500'), 'cue 1, line 10: a time'),
        ('a.json', f'[{{"start": 1, "end": {"9" * 400}, "text": "x"}}]', 'segment 1, field end'),
        ('a.json', f'[{{"start": {"9" * 5000}, "end": 1, "text": "x"}}]', 'segment 1, field'),
        ('a.json', '[{"start": 1, "end": 2e7, "text": "x"}]', 'segment 1, field end'),
        ('a.srt', SRT.replace('Hello', 'Caf\xe9').encode('latin-1'), 'UTF-8'),
        ('a.txt', 'x', r'a\.txt: expected .*\.srt'),
    ],
)
def test_errors_say_where(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, content)


def test_labels_in_the_text(tmp_path):
    lines = ['Ann Lee: Hi.', 'Bob: Well.', 'Reporter 2: Why?', 'Ann Lee: Because: reasons.']
    cues = [f'{i}\n00:00:0{i},000 --> 00:00:0{i},500\n{x}\n' for i, x in enumerate(lines)]
    found = read(tmp_path, 'a.srt', '\n'.join(cues))
    assert [u.speaker for u in found] == ['Ann Lee', 'Bob', 'Reporter 2', 'Ann Lee']
    assert [u.text for u in found] == ['Hi.', 'Well.', 'Why?', 'Because: reasons.']
    assert speaker_names(found) == ['Ann Lee', 'Bob']
    labels = ['I', 'ME', 'SPEAKER_01', 'Reporter 2', 'THE PRESS', 'BOB', 'spk_0', '']
    assert speaker_names([Utterance(0, 1, 'x', label) for label in labels]) == ['BOB']


@pytest.mark.parametrize(
    'text, speaker',
    [
        ('sascha: hello', 'sascha'),
        ('- sascha zverev: hello', 'sascha zverev'),
        ('He Bingjiao: hello', 'He Bingjiao'),
        ('QUESTION: why', 'QUESTION'),
        ('reporter 12: why', 'reporter 12'),
        ("o'brien: no", "o'brien"),
        *((f'{x}: hello', '') for x in ('well', 'Note', 'question', 'Answer', 'Look', "That's")),
        ('the last set: hello', ''),
        ('one two three four: hello', ''),
        ('at 3:30 pm', ''),
        ('sascha:', ''),
    ],
)
@pytest.mark.parametrize('suffix', ['srt', 'json'])
def test_labels_whatever_their_case(tmp_path, text, speaker, suffix):
    content = f'1\n00:00:01,000 --> 00:00:02,000\n{text}\n'
    if suffix == 'json':
        content = json.dumps([dict(start=1, end=2, text=text)])
    (found,) = read(tmp_path, f'a.{suffix}', content)
    assert found.speaker == speaker
    assert speaker or found.text == text
    named = speaker and speaker not in ('QUESTION', 'reporter 12')
    assert speaker_names([found]) == ([speaker] if named else [])


def test_one_speaker_in_two_cases():
    masked = mask_speakers([Utterance(0, 1, 'x', name) for name in ('sascha', 'Sascha', 'Bob')])
    assert [u.speaker for u in masked] == ['Speaker A', 'Speaker A', 'Speaker B']


@pytest.mark.timeout(15)
@pytest.mark.parametrize('unit', ['{\\', '<v a', '<v.', '<', 'A', "A'", 'A ', '&#1', '<v\t', '>> '])
def test_repeats_take_no_time(tmp_path, unit):
    text = '1\n00:00:01,000 --> 00:00:02,000\nx' + unit * 200000
    read(tmp_path, 'a.srt', text)
    read(tmp_path, 'a.srt', text.replace('\nx', '\n'))


def test_numbers_that_are_no_characters(tmp_path):
    text = f'1\n00:00:01,000 --> 00:00:02,000\nHi &#{"1" * 5000}; &#65;\n'
    assert read(tmp_path, 'a.srt', text)[0].text == 'Hi A'


def test_speakers_are_letters():
    said = [Utterance(i, i + 1, 'x', f'name {i}') for i in range(28)]
    masked = mask_speakers([Utterance(0, 1, 'y'), *said, Utterance(99, 99, 'z', 'name 1')])
    assert [u.speaker for u in masked][:4] == ['', 'Speaker A', 'Speaker B', 'Speaker C']
    assert [u.speaker for u in masked][-3:] == ['Speaker AA', 'Speaker AB', 'Speaker B']
    assert as_text(masked[:2]) == '[00:00] y\n[00:00] Speaker A: x'
    assert as_text([Utterance(125.7, 126, 'z')]) == '[02:05] z'


def test_folder(tmp_path):
    (tmp_path / 'S1.srt').write_text(SRT)
    (tmp_path / 'S2.vtt').write_text(VTT)
    found = read_transcripts(tmp_path)
    assert {name: len(u) for name, u in found.items()} == {'S1': 3, 'S2': 4}
    (tmp_path / 'S1.vtt').write_text(VTT)
    with pytest.raises(UserError, match="two transcripts are of session 'S1'"):
        read_transcripts(tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=r'a transcript in it; expected SESSION\.srt'):
        read_transcripts(tmp_path / 'empty')
    with pytest.raises(UserError, match='no folder'):
        read_transcripts(tmp_path / 'nowhere')


def test_files_of_other_kinds_are_passed_over(tmp_path):
    for name in ('S3.txt', 'README', '.DS_Store', '._S1.srt', '.hidden.srt'):
        (tmp_path / name).write_text('no transcript')
    (tmp_path / 'more.srt').mkdir()
    with pytest.raises(UserError, match='no folder with a transcript'):
        read_transcripts(tmp_path)
    (tmp_path / 'S1.SRT').write_text(SRT)
    assert list(read_transcripts(tmp_path)) == ['S1']
