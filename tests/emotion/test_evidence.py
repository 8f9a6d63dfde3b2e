"""What an answer cites is held against its own scenario; findings say what spoils the figures."""

import json
from dataclasses import replace

import pytest

from mg_plugins.emotion import evaluate, make_judge, score_evidence, synthetic_scenarios
from mg_plugins.emotion.arms import judged
from mg_plugins.emotion.build import build_scenarios, load_template
from mg_plugins.emotion.scenarios import Gesture
from mg_plugins.emotion.sessions import load_sessions, merge_windows
from mg_plugins.emotion.tasks import Reply
from mg_plugins.errors import UserError

GESTURES = (
    Gesture('rub hand', 3.2, 4.0),
    Gesture('bite lip', 10, 11),
    Gesture('put arm back', 20, 21),
)
CONTEXT = 'I felt good out there, and the crowd was loud.'


@pytest.mark.parametrize(
    ('text', 'cited', 'supported', 'segments'),
    [
        ('They look tense, for many good reasons.', 0, 0, ()),
        ('They are rubbing their hands.', 1, 1, (0,)),
        ('Rub hand at 00:03.5 shows it.', 1, 1, (0,)),
        ('Rub hand at 00:33.5 shows it.', 1, 0, ()),
        ('They cover their face.', 1, 0, ()),
        ('Rubbing his hands at 00:03.5, and biting the lip.', 2, 2, (0, 1)),
        ('They say "felt good out there".', 1, 1, ()),
        ('They say "felt awful out there".', 1, 0, ()),
        ('The arm put back, hand rubbed.', 0, 0, ()),
    ],
)
def test_citations(text, cited, supported, segments):
    found = score_evidence(text, [], GESTURES, CONTEXT, ['cover face'])
    assert (found.cited, found.supported, found.segments) == (cited, supported, segments)


def test_the_score_wants_three_supported_citations_and_no_wrong_one():
    listed = ['00:03.2-00:04.0 rub hand', '00:10.0 bite lip', 'the crowd was loud']
    assert score_evidence('', listed, GESTURES, CONTEXT, []).score == 1
    assert score_evidence('', listed[:1], GESTURES, CONTEXT, []).score == pytest.approx(1 / 3)
    wrong = [*listed, 'cover face']
    assert score_evidence('', wrong, GESTURES, CONTEXT, ['cover face']).score == 0.75
    assert score_evidence('Fluent. ' * 9000, [], GESTURES, CONTEXT, []).score == 0


class Says:
    """The same text to every question."""

    name, notes = 'says', ()

    def __init__(self, reply):
        self.text = reply

    def identity(self):
        return {'kind': 'says', 'text': repr(self.text)}

    async def reply(self, task):
        return self.text

    async def close(self):
        pass


def test_the_lexicon_and_a_random_answer_differ_in_evidence():
    cases = judged(synthetic_scenarios(True, subjects=12, sessions=2, clips=300))
    design = {'name': 'x', 'baselines': False, 'bootstrap': 50}
    lexicon = evaluate(cases, make_judge('lexicon'), **design).metrics['arms']
    fluent = json.dumps({'reason': 'They seem moved by the occasion.', 'answer': 'A'})
    other = evaluate(cases, Says(Reply(fluent)), **design).metrics['arms']
    assert lexicon['with']['evidence']['value'] > 0.9
    assert lexicon['with']['evidence']['low'] > lexicon['placebo']['evidence']['high']
    assert other['with']['evidence']['value'] == 0


@pytest.mark.parametrize(
    ('reply', 'said'),
    [
        (Reply('{"answer": "A", "confidence": 0.7}'), 'answers by position'),
        (Reply('{"answer": "A", "confidence": 0.7}'), 'The confidence is 0.7 in every answer'),
        (Reply('{"answer": "A", "confidence": 0.7}'), 'An interval has no width'),
        (Reply('{"answer": "A"}'), 'changed no choice'),
        (Reply('{"reason": "so', finish='length'), 'cut off at the limit'),
        (Reply('', thoughts='hm'), 'held thoughts and no answer'),
        (Reply('{"answer": "A"}', prompt_cut=True), 'prompts were cut by the server'),
    ],
)
def test_findings(reply, said):
    cases = judged(synthetic_scenarios(True, subjects=9, sessions=1, clips=60))
    result = evaluate(cases, Says(reply), name='x', baselines=False, bootstrap=50)
    (found,) = (text for text in result.metrics['findings'] if said in text)
    assert found.endswith('.')


def test_overlapping_windows_become_one_gesture():
    windows = [Gesture('rub hand', t / 4, t / 4 + 2, 0.5 + t / 40) for t in range(8)]
    merged = merge_windows([*windows, Gesture('rub hand', 9, 10, 0.4), Gesture('nod', 1, 2, 0.3)])
    assert [(g.name, g.start, g.end) for g in merged] == [
        ('rub hand', 0, 3.75), ('nod', 1, 2), ('rub hand', 9, 10),
    ]  # fmt: skip
    assert merged[0].confidence == pytest.approx(0.5875, abs=1e-4)


CSV = """recording,person,class,start_s,end_s,start_frame,end_frame,confidence
a,0,rub hand,1.000,3.000,30,90,0.8000
a,0,rub hand,2.000,4.000,60,120,0.6000
a,1,bite lip,1.000,2.000,30,60,0.9000
b,0,head up,5.000,6.000,150,180,0.3000
"""


def test_scenarios_from_segments(tmp_path):
    (tmp_path / 'segments.csv').write_text(CSV)
    rows = [
        {'recording': 'a', 'person': p, 'label': c, 'start': s, 'end': e, 'confidence': sure}
        for p, c, s, e, sure in [
            (0, 'rub hand', 1, 3, 0.8), (0, 'rub hand', 2, 4, 0.6), (1, 'bite lip', 1, 2, 0.9),
        ]
    ] + [{'recording': 'b', 'person': 0, 'label': 'head up', 'start': 5, 'end': 6,
          'confidence': 0.3}]  # fmt: skip
    (tmp_path / 'segments.json').write_text(
        json.dumps(dict(source='synthetic', duration=6, segments=rows))
    )
    one, source = load_sessions([tmp_path / 'segments.csv'])
    other, synthetic = load_sessions([tmp_path / 'segments.json'])
    assert one == other and (source, synthetic) == (tmp_path.name, 'synthetic')
    assert [s.id for s in one] == ['a person 0', 'a person 1', 'b']
    assert one[0].gestures == (Gesture('rub hand', 1, 4, 0.7),)
    made = build_scenarios(one, load_template('post_match'), source=source, threshold=0.5)
    assert {(s.origin, s.threshold) for s in made} == {('recognised', 0.5)}
    assert made[2].gestures == ()  # and without transcripts the arms differ still
    assert replace(made[0], gestures=()) != made[0]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (('0.8000', '8'), "a confidence from 0 to 1 were expected, not 'rub hand', 3 s, 8"),
        (('3.000', '3e8'), 'an end within 1e[+]07 s'),
        (('rub hand', ''), "a class, .*not ''"),
        (('rub hand,1.000,3.000', 'rub hand,3.000,1.000'), 'lasts from 3.0 to 1.0 s'),
        (('rub hand,1.000', 'rub hand,x'), 'segments.csv holds no segments'),
        (('confidence', 'sure'), 'lacks the column confidence'),
    ],
)
def test_wrong_segments_are_named(tmp_path, change, message):
    (tmp_path / 'segments.csv').write_text(CSV.replace(*change, 1))
    with pytest.raises(UserError, match=message):
        load_sessions([tmp_path / 'segments.csv'])
