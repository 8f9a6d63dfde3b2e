"""Scores of open-ended answers by a judge that does not see the arm."""

import json

import pytest

from mg_plugins.emotion.scores import grade, parse_score
from mg_plugins.emotion.tasks import JudgeError, Reply, rubric_task

RUBRIC = (
    'Names the feeling, such as relief or disappointment.',
    'Refers to the hands.',
)


def answer(text):
    return rubric_task('How does the athlete feel, how do athletes feel?', RUBRIC, text)


def score(completeness, depth):
    return {'completeness': completeness, 'depth': depth}


def test_the_rubric_judge_sees_question_items_and_answer_only():
    task = answer('Relieved.')
    assert task.user == (
        'Question: How does the athlete feel, how do athletes feel?\n\n'
        f'Rubric:\n1. {RUBRIC[0]}\n2. {RUBRIC[1]}\n\n'
        'Answer to grade:\nRelieved.'
    )
    assert (task.context, task.gestures, task.states, task.options) == ('', None, (), ())
    assert task.schema['properties']['covered']['items']['enum'] == [1, 2]


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('{"covered": [1, 2], "depth": 3}', score(1.0, 3)),
        ('{"covered": [], "depth": 0}', score(0.0, 0)),
        ('Sure {here}: ```json\n{"depth": 2, "covered": [2, 2]}\n``` done', score(0.5, 2)),
        ('{"covered": [3], "depth": 2}', None),
        ('{"covered": [1], "depth": 5}', None),
        ('{"covered": [true], "depth": 2}', None),
        ('{"covered": 1, "depth": 2}', None),
        ('{"covered": [1', None),
        ('a fine answer', None),
    ],
)
def test_parse_score(text, found):
    assert parse_score(text, answer('Relieved.')) == found


class Grader:
    """Covers item 1 where the answer is long, and keeps what it saw."""

    name = 'grader'

    def __init__(self):
        self.seen = []

    def identity(self):
        return {'kind': 'grader'}

    async def reply(self, task):
        self.seen.append(task.user)
        text = task.user.rsplit('grade:\n', 1)[1]
        if text == 'fail':
            raise JudgeError('no')
        if text == 'prose':
            return Reply('That is a good answer.')
        covered = [1] if len(text) > 5 else []
        return Reply(json.dumps({'covered': covered, 'depth': len(covered) + 1}))

    async def close(self):
        pass


def test_a_judge_grades_shuffled_and_each_answer_once():
    judge = Grader()
    texts = [f'answer {i}' for i in range(10)] + ['no', 'fail', 'prose', 'no']
    scores, asked = grade([answer(t) for t in texts], judge, seed=1, ask=dict(concurrency=1))
    assert scores[:10] == [score(0.5, 2)] * 10
    assert scores[10:] == [score(0.0, 1), None, None, score(0.0, 1)]
    order = [user.rsplit('grade:\n', 1)[1] for user in judge.seen]
    assert sorted(set(order)) == sorted(set(texts)) and order[:10] != texts[:10]
    assert asked.answers
