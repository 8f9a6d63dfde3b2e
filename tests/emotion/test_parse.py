"""Answers are read where they are unmistakable, however they are wrapped, and never guessed."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mg_plugins.emotion.parse import parse_reply
from mg_plugins.emotion.tasks import (
    ANSWERED,
    CUT,
    REFUSED,
    THOUGHTS_ONLY,
    TOOL_CALL,
    UNREADABLE,
    Reply,
    Task,
)

from paths import ROOT


def task(options=('the player lost', 'the player won')):
    states = tuple(f's{i}' for i in range(len(options) or 2))
    valences = tuple(-1.0 + i for i in range(len(states)))
    return Task('system', 'user', None, '', None, options, states, valences)


def read(text, **changes):
    return parse_reply(Reply(text), task(**changes))


@pytest.mark.parametrize(
    ('text', 'confidence'),
    [
        ('{"answer": "B", "confidence": 0.7, "reason": "x"}', 0.7),
        ('{"confidence": 0.7, "reason": "A is less likely", "answer": "b"}', 0.7),
        ('```json\n{"answer": "B", "confidence": 0.7}\n```', 0.7),
        ('Here it is: {"answer": "B", "confidence": "70%"} I hope this helps with (A).', 0.7),
        ("{'answer': 'B', 'confidence': 0.7,}", 0.7),
        ('{"answer": "B", "confidence": 70, "sure": true,}', 0.7),
        ('{"answer": "B", "confidence": 0.7, "reason": "because the pl', 0.7),
        ('{"answer": "B", "confidence": 0.', None),
        ('{"answer": "B"', None),
        ('{"Answer": "(B)"}', None),
        ('{"answer": "B. the player won"}', None),
        ('{"answer": "B) the player won"}', None),
        ('{"answer": "The player won."}', None),
        ('{"answer": "Option B"}', None),
        ('{"choice": "B", "confidence": null}', None),
        ('{"answer": "B", "confidence": true}', None),
        ('{"answer": "B", "confidence": 1.3}', None),
        ('{"answer": "B", "confidence": -0.2}', None),
        ('{"answer": "B", "confidence": NaN}', None),
        ('{"answer": "B", "confidence": "high"}', None),
        ('{"answer": "B", "confidence": 1' + '0' * 400 + '}', None),
        ('{"answer": "B", "confidence": 1e400}', None),
        ('{"answer" :\t\t "B" , "confidence"   :   0.7,}', 0.7),
        ('Answer:   \n\n  **  B  **   \n\nConfidence   level:   **70 %**', 0.7),
        ('***B***', None),
        ('The answer is ***the   player won***.', None),
        ('{"answer": "B", "reason": "a line\nbreak"}', None),
        ('{"answer": "B"} and again {"answer": "B"}', None),
        ('{"reason": {"for": "A"}, "answer": "B"}', None),
        ('B', None),
        ('b', None),
        ('(B)', None),
        ('**B**', None),
        ('B. The player won', None),
        ('B) the player won', None),
        ('B\nbecause of the posture', None),
        ('Answer: B', None),
        ('answer: b', None),
        ('**Answer:** B', None),
        ('Answer: (B), confidence: 0.7', 0.7),
        ('Answer: B\nConfidence: 70%', 0.7),
        ('Answer: B\nConfidence: 7/10', None),
        ('The answer is B.', None),
        ('The answer is A player thing: no. The answer is B.', None),
        ('The correct answer would be **B**, since they smile.', None),
        ('My answer is option B', None),
        ('I would choose B because of the raised head.', None),
        ('All things weighed, (B).', None),
        ('The player won', None),
        ('"the player won"', None),
        ('I think it is "the player won".', None),
        ('The answer is the player won.', None),
        ('<think>The answer is A. Or is it {"answer": "A"}?</think>{"answer": "B"}', None),
        ('answer: A, no…</think>\n\nAnswer: B', None),
        ("I'm sorry, but this is hard. Answer: B", None),
    ],
)
def test_the_answer_is_found(text, confidence):
    answer = read(text)
    assert (answer.status, answer.choice) == (ANSWERED, 1), answer
    assert answer.confidence == (None if confidence is None else pytest.approx(confidence))


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{}',
        '{"answer": "',
        '{"answer": null}',
        '{"answer": 1}',
        '{"answer": "C"}',
        '{"answer": "A or B"}',
        '{"answer": "A. the player won"}',
        '{"answer": "B, or perhaps A"}',
        '{"answer": "A"} no, {"answer": "B"}',
        'C',
        'A. The player won',
        'Answer: C',
        'The answer is A or B.',
        'The answer is either.',
        'Answer: A\nAnswer: B',
        'Either (A) or (B).',
        'The answer is A, or B.',
        'A player who shows this may have lost.',
        'I think so.',
        'The answer is not B.',
        'They did not show that the player won.',
        '"the player won" or "the player lost"',
        'That depends.',
        '[1, 2, 3]',
        '{' * 100_000,
        '[' * 100_000,
    ],
)
def test_what_is_not_plain_is_unreadable(text):
    assert read(text).status == UNREADABLE


@pytest.mark.parametrize(
    'text',
    [
        'I cannot judge the emotional state of a person.',
        "I'm sorry, but I can't help with that.",
        'As an AI language model, I have no way to know (A) or (B).',
        'I am unable to determine this.',
        '{"answer": null, "reason": "I cannot tell from this."}',
        '{"answer": "", "reason": "I won’t speculate about a person."}',
    ],
)
def test_refusals_are_their_own_outcome(text):
    assert read(text).status == REFUSED
    assert read(text).text == text


def test_a_marked_refusal_is_one_whatever_it_says():
    assert parse_reply(Reply('{"answer": "A"}', refusal=True), task()).status == REFUSED


def test_the_reason_is_kept():
    assert read('{"answer": "B", "reason": "head up"}').text == 'head up'
    assert read('Answer: B, see the posture').text == 'Answer: B, see the posture'


def test_an_option_inside_another_is_told_apart():
    options = ('truthful', 'not truthful')
    assert read('{"answer": "not truthful"}', options=options).choice == 1
    assert read('The answer is truthful.', options=options).choice == 0


def test_many_options():
    options = tuple(f'state {i}' for i in range(9))
    assert read('Answer: I', options=options).choice == 8
    assert read('I think (C)', options=options).choice == 2
    assert read('Answer: I think C', options=options).status == UNREADABLE


@pytest.mark.parametrize(
    ('text', 'status', 'said'),
    [
        ('They look tense.', ANSWERED, 'They look tense.'),
        ('<think>hm</think>They look tense.', ANSWERED, 'They look tense.'),
        ('I cannot be certain, but they look tense.', ANSWERED, None),
        ('They say "I can\'t help it" and look tense.', ANSWERED, None),
        ('', UNREADABLE, ''),
        ('<think>only thoughts', THOUGHTS_ONLY, ''),
        ("I'm sorry, but I can't help with that.", REFUSED, None),
        ('As an AI, I cannot infer the feelings of real people.', REFUSED, None),
    ],
)
def test_open_answers(text, status, said):
    answer = read(text, options=())
    assert (answer.status, answer.choice) == (status, None)
    assert answer.text == (text if said is None else said)


PIECES = [
    '{',
    '}',
    '"answer"',
    ':',
    '"B"',
    '(A)',
    'answer is ',
    '<think>',
    '</think>',
    ',',
    "'",
    '\\',
]


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map(''.join)), st.booleans())
def test_it_never_raises(text, is_open):
    answer = read(text, options=() if is_open else ('lost', 'won'))
    assert answer.status in (ANSWERED, REFUSED, UNREADABLE, THOUGHTS_ONLY)
    assert (answer.choice is not None) == (answer.status == ANSWERED and not is_open)
    assert answer.confidence is None or 0 <= answer.confidence <= 1


@pytest.mark.parametrize('text', ['A', '{"answer": "A"}', '(a)', 'Answer: A'])
def test_a_letter_means_the_position_where_options_are_letters_too(text):
    letters = task(('b', 'c', 'a'))
    assert parse_reply(Reply(text), letters).choice == 0


@settings(deadline=None)
@given(st.lists(st.sampled_from([*PIECES, 'B', '**', ' ', '\n', 'confidence: 0.7'])), st.data())
def test_more_of_the_same_space_changes_nothing(pieces, data):
    text = ''.join(pieces)
    longer = ''.join(
        letter * data.draw(st.integers(1, 5)) if letter in ' \n' else letter for letter in text
    )
    for options in ((), ('lost', 'won')):
        short, long = read(text, options=options), read(longer, options=options)
        same = (long.status, long.choice, long.confidence)
        assert (short.status, short.choice, short.confidence) == same


@pytest.mark.parametrize('text', ['{"answer": "B", "reason": "\\ud83d"}', 'Answer: B, \ud83d'])
def test_the_text_can_be_written(text):
    answer = read(text)
    assert answer.choice == 1 and '?' in answer.text and answer.text.encode()


def test_the_ends_of_a_long_text_are_read():
    filler = 'They look here and there. ' * 2000
    assert read(filler + 'Answer: B').choice == read('Answer: B\n' + filler).choice == 1
    assert read(filler + '{"answer": "B", "reason": "x"}' + filler).choice == 1
    assert read(f'<think>{filler}</think>B').choice == 1
    assert read(filler, options=()).text == filler.strip()


@pytest.mark.parametrize(
    ('text', 'status'),
    [
        ('I really am not sure; sorry, but I cannot   help with that.', ANSWERED),
        ('I am sorry, but unfortunately I cannot help with that.', REFUSED),
        ('As an AI I must decline to do that.', REFUSED),
        ('But I cannot help noticing that they look tense.', ANSWERED),
    ],
)
def test_excuses_before_not_helping(text, status):
    assert read(text, options=()).status == status


ENDLESS = """
import sys, types
sys.modules['mg_plugins'] = types.ModuleType('mg_plugins')
sys.modules['mg_plugins'].__path__ = [sys.argv[1]]
from mg_plugins.emotion.parse import parse_reply
from mg_plugins.emotion.tasks import Reply, Task
for options in (), ('lost', 'won'):
    for text in {texts!r}:
        task = Task('', '', None, '', None, options, ('x', 'y'), (0.0, 1.0), 'd')
        print(parse_reply(Reply(text), task).status, flush=True)
"""


@pytest.mark.parametrize(
    'text',
    [
        '{"confidence"' + ' ' * 20_000 + 'x',
        'confidence ' + '"* ' * 20_000 + 'x',
        '"answer":"x ' * 40_000,
        'answer ' + ' *_' * 40_000 + 'x',
        'answer *_' * 20_000,
        '{"answer": "answer' + ' ' * 200_000 + 'x"}',
        'as an AI ' * 60 + 'x',
        'I am sorry ' * 20_000 + 'x',
    ],
    ids=lambda text: text[:20],
)
def test_no_reply_takes_long(text):
    """Patterns that try every way to split such a text need minutes, or years."""
    script = ENDLESS.format(texts=[text])
    done = subprocess.run(
        [sys.executable, '-c', 'import sys; exec(sys.stdin.read())', str(ROOT / 'mg_plugins')],
        input=script,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert len(done.stdout.split()) == 2, done.stderr


@pytest.mark.parametrize(
    ('reply', 'status', 'choice', 'thoughts'),
    [
        (Reply('{"answer": "B"}', thoughts='hm'), ANSWERED, 1, 'hm'),
        (Reply('', thoughts='So {"answer": "B", "confidence": 0.7}'), ANSWERED, 1, None),
        (Reply('', thoughts=r'So \boxed{B}', finish='stop'), ANSWERED, 1, None),
        (Reply('', thoughts='The answer is B. Or A?', finish='stop'), THOUGHTS_ONLY, None, None),
        (Reply('', thoughts=r'So \boxed{B}', finish='length'), CUT, None, None),
        (Reply('<think>The answer is B', finish='length'), CUT, None, 'The answer is B'),
        (Reply('<think>The answer is B'), THOUGHTS_ONLY, None, 'The answer is B'),
        (Reply('', finish='tool_calls'), TOOL_CALL, None, ''),
        (Reply('{"reason": "it', finish='length'), CUT, None, ''),
        (Reply('{"answer": "B", "reason": "it', finish='length'), ANSWERED, 1, ''),
        (Reply(r'Thus $\boxed{\text{B}}$.'), ANSWERED, 1, ''),
        (Reply(r'\boxed{Z}'), UNREADABLE, None, ''),
        (Reply('[THINK]A?[/THINK]B'), ANSWERED, 1, 'A?'),
        (Reply('<|channel|>analysis<|message|>A?<|end|>'), THOUGHTS_ONLY, None, None),
    ],
)
def test_thoughts_are_set_apart_and_outcomes_told(reply, status, choice, thoughts):
    answer = parse_reply(reply, task())
    assert (answer.status, answer.choice) == (status, choice)
    assert thoughts is None and answer.thoughts or answer.thoughts == thoughts


def test_what_an_answer_cites_is_kept():
    said = (
        '{"reason": "x", "evidence": ["00:03 rub hand", 3, " ", "00:03 rub hand"], "answer": "B"}'
    )
    assert read(said).evidence == ('00:03 rub hand',)
