"""What a reader has to know before any figure, in sentences: the result, and what spoils it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .arms import PLACEBO, WITH, WITHOUT
from .tasks import ANSWERED, CUT, FAILED, NOT_ASKED, REFUSED, THOUGHTS_ONLY, TOOL_CALL, UNREADABLE

if TYPE_CHECKING:
    from .figures import Tally
    from .tasks import Reply

ENOUGH = 8  # answers for a pattern to be worth a sentence
ALWAYS = 0.85  # share of answers in one position that is called a bias
FEW_SUBJECTS = 5
OUTCOMES = {
    CUT: 'were cut off at the limit on their length before an answer could be read '
    '(--answer-tokens raises it)',
    THOUGHTS_ONLY: 'held thoughts and no answer (--answer-tokens may be too low)',
    TOOL_CALL: 'called a tool instead of answering',
    REFUSED: 'were refusals',
    UNREADABLE: 'could not be read',
    FAILED: 'never came',
}


def findings(
    tally: Tally, metrics: dict[str, Any], replies: Sequence[Reply | None], notes: Sequence[str]
) -> list[str]:
    """Sentences for the top of the report, the result first.

    Args:
        tally: The answers.
        metrics: The figures made of them so far.
        replies: What the answers were read from.
        notes: The judge's own.
    """
    found = _results(metrics)
    answers = [answer for _, answer in tally.pairs]
    counts = Counter(answer.status for answer in answers)
    asked = len(answers) - counts[NOT_ASKED]
    for status, what in OUTCOMES.items():
        if counts[status]:
            found.append(f'{counts[status]} of {asked} answers {what}.')
    cut = sum(reply is not None and reply.prompt_cut for reply in replies)
    if cut:
        found.append(
            f'{cut} prompts were cut by the server (it counted far fewer tokens than they have): '
            'raise its context length; these answers say nothing.'
        )
    told = [(q, a) for q, a in tally.pairs if a.status == ANSWERED]
    if not metrics['open_ended']:
        found += _habits(tally, told)
    found += _intervals(metrics)
    return [*found, *notes]


def _results(metrics: dict[str, Any]) -> list[str]:
    """What showing the gestures changes, over both other arms."""
    found = []
    for other, title in ((WITHOUT, 'no gestures'), (PLACEBO, 'those of another scenario')):
        gain = metrics['comparisons'].get(f'{WITH} - {other}', {}).get('gain')
        if not gain or gain['value'] is None:
            continue
        text = f'Against {title}, the gestures change accuracy by {100 * gain["value"]:+.1f} points'
        if gain['low'] is None:
            found.append(f'{text}; there is no interval.')
        else:
            low, high = 100 * gain['low'], 100 * gain['high']
            sure = 'beyond chance' if low > 0 or high < 0 else 'which may be chance'
            found.append(f'{text} [{low:+.1f}, {high:+.1f}], {sure}.'.replace('-', '−'))
    return found


def _habits(tally: Tally, told: Sequence[tuple]) -> list[str]:
    """Answers by position, answers that never change, a confidence that never varies."""
    found = []
    positions = Counter(answer.choice for _, answer in told)
    if len(told) >= ENOUGH:
        place, most = positions.most_common(1)[0]
        rotated = len({question.rotation for question, _ in told}) > 1
        if rotated and most >= ALWAYS * len(told):
            found.append(
                f'{most} of {len(told)} answers name option {"ABCDEFGHIJ"[place : place + 1]} '
                'wherever the options stand: this judge answers by position, not by content.'
            )
        sure = {a.confidence for _, a in told if a.confidence is not None}
        if len(sure) == 1:
            found.append(f'The confidence is {sure.pop():g} in every answer: it says nothing.')
    if {WITH, WITHOUT} <= set(tally.votes) and told and tally.known:
        if (tally.votes[WITH] == tally.votes[WITHOUT]).all():
            found.append('Seeing the gestures changed no choice of this judge.')
    return found


def _intervals(metrics: dict[str, Any]) -> list[str]:
    """Why intervals are missing or not to be trusted."""
    subjects = metrics['subjects']
    if subjects == 1:
        return ['One subject only: there are no intervals.']
    gains = [c['gain'] for c in metrics['comparisons'].values()]
    flat = any(g['low'] is not None and g['low'] == g['high'] for g in gains)
    if flat:
        return [
            f'An interval has no width: all {subjects} subjects have the same gain. That is no '
            'certainty, the sample is too small or the judge too uniform.'
        ]
    if subjects < FEW_SUBJECTS:
        return [f'{subjects} subjects only: the intervals are rough.']
    return []
