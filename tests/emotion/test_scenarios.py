"""The schema: what is written is read back, and what is wrong is named by line and field."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mg_plugins.emotion.scenarios import (
    Gesture,
    Scenario,
    load_scenarios,
    save_scenarios,
    scenario_from_json,
)
from mg_plugins.errors import UserError

GOOD = dict(
    version=1,
    id='a',
    subject='p1',
    session='v1',
    domain='post_match',
    source='mine',
    context='What was said.',
    gestures=[dict(name='rub hand', start=1, end=2.5, confidence=0.5)],
    question='Who won?',
    options=['the player won', 'the player lost'],
    states=['win', 'lose'],
    valences=[1, -1],
    state='win',
    split='test',
)
TEXT = st.text(st.characters(codec='utf-8'), min_size=1, max_size=20).filter(str.strip)
TIMES = st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)).map(sorted)


@st.composite
def scenarios(draw):
    number = draw(st.integers(2, 4))
    options = draw(st.lists(TEXT, min_size=number, max_size=number, unique=True))
    gestures = [
        Gesture(draw(TEXT), *draw(TIMES), draw(st.floats(0, 1)))
        for _ in range(draw(st.integers(0, 4)))
    ]
    states = tuple(draw(st.lists(TEXT, min_size=number, max_size=number, unique=True)))
    return Scenario(
        **{name: draw(TEXT) for name in ('subject', 'session', 'domain', 'source', 'question')},
        id=draw(TEXT),
        context=draw(st.text(st.characters(codec='utf-8'), max_size=50)),
        gestures=tuple(sorted(gestures, key=lambda g: (g.start, g.end))),
        options=tuple(options) if draw(st.booleans()) else (),
        states=states,
        valences=tuple(draw(st.floats(-1, 1)) for _ in states),
        state=draw(st.sampled_from([*states, ''])),
        split=draw(st.sampled_from(['train', 'test', ''])),
    )


@settings(max_examples=60, deadline=None)
@given(scenarios())
def test_what_is_written_is_read_back(tmp_path_factory, scenario):
    path = tmp_path_factory.mktemp('file') / 'new' / 's.jsonl'
    save_scenarios(path, [scenario])
    assert load_scenarios(path) == [scenario]
    assert [p.name for p in path.parent.iterdir()] == ['s.jsonl']


WRONG = [
    (dict(version=2), 'field version: 2, but this program reads 1'),
    (dict(id=''), "field id: a text was expected, not ''"),
    (dict(id=None), 'field id: Input should be a valid string, not None'),
    (dict(contxt='x'), 'field contxt: Unexpected keyword'),
    (dict(split='val'), "field split: Input should be 'train', 'test' or ''"),
    (dict(options=['one']), 'field states: 2 for 1 options'),
    (dict(options=['same', 'same']), 'field options: different ones'),
    (dict(options='won'), "field options: a list was expected, not 'won'"),
    (dict(options=['a', 3]), r'field options\[1\]: Input should be a valid string, not 3'),
    (dict(states=['win']), 'field states: .* at least 2 items'),
    (dict(states=['a', 'b', 'c']), 'field states: 3 for 2 options'),
    (dict(options=[str(n) for n in range(27)]), 'field options: .* at most 26 items'),
    (dict(valences=[1]), 'field valences: 1 for 2 states'),
    (dict(valences=[1, -2]), r'field valences\[1\]: Input should be .* -1, not -2'),
    (dict(valences=[1, True]), r'field valences\[1\]: Input should be a valid number'),
    (dict(state='draw'), "field state: 'draw' is none of"),
    (dict(question='half an emoji \ud83d'), 'field question: .* unicode'),
    (dict(context='\ud83d'), 'field context: .* unicode'),
    (dict(gestures=[3]), r'field gestures\[0\]: a JSON object was expected, not 3'),
    (dict(gestures=[dict(name='x', start=1)]), r'field gestures\[0\].end: .* required'),
    (
        dict(gestures=[dict(name='x', start=2, end=1)]),
        r'gestures\[0\].end: it comes before the start',
    ),
    (dict(gestures=[dict(name='x', start=-1, end=1)]), 'start: Input should be greater'),
    (dict(gestures=[dict(name='x', start=0, end=float('inf'))]), 'end: Input should be less'),
    (dict(gestures=[dict(name='x', start=0, end=float('nan'))]), 'end: Input should be less'),
    (dict(gestures=[dict(name='x', start=0, end=10**400)]), 'a number of very many digits'),
    (
        dict(gestures=[dict(name='x', start=0, end=1, confidence=2)]),
        'confidence: Input should be less',
    ),
    (dict(gestures=[dict(name='x', start=0, end=1, who='me')]), 'who: Unexpected keyword'),
]


@pytest.mark.parametrize(('change', 'message'), WRONG)
def test_what_is_wrong_is_named(change, message):
    assert scenario_from_json(GOOD)
    with pytest.raises(UserError, match=message) as caught:
        scenario_from_json({**GOOD, **change}, 'f.jsonl, line 7')
    assert str(caught.value).startswith('f.jsonl, line 7')


def test_messages_stay_short():
    with pytest.raises(UserError) as caught:
        scenario_from_json({**GOOD, 'options': 'x' * 10**6})
    assert len(str(caught.value)) < 300


def test_files(tmp_path):
    path, line = tmp_path / 's.jsonl', json.dumps(GOOD)
    path.write_bytes(b'\xef\xbb\xbf' + line.encode() + b'\r\n\r\n')
    assert [s.id for s in load_scenarios(path)] == ['a']
    for content, message in (
        (f'{line}\n{line}', "line 2, field id: 'a' is already on line 1"),
        (f'{line}\n{{"version": 1,', 'line 2: not JSON'),
        ('[' * 100_000, 'line 1: not JSON'),
        ('{"version": ' + '9' * 5000 + '}', 'line 1'),
        ('\n', 'there is no scenario in it'),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            load_scenarios(path)
    path.write_bytes(line.encode('utf-16'))
    with pytest.raises(UserError, match='line 1: not JSON in UTF-8'):
        load_scenarios(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 's.jsonl'
    path.write_text('old')

    def broken():
        yield scenario_from_json(GOOD)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_scenarios(path, broken())
    assert path.read_text() == 'old' and [p.name for p in tmp_path.iterdir()] == ['s.jsonl']
