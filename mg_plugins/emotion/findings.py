"""What a reader has to know of an evaluation, in sentences: the result, and what spoils it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .arms import PLACEBO, WITH, WITHOUT, Design
from .scenarios import Scenario
from .sets import for_fitting
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
    tally: Tally, metrics: dict[str, Any], replies: Sequence[Reply | None]
) -> Iterator[str]:
    """Sentences for the top of the report, the result first.

    Args:
        tally: The answers.
        metrics: The figures made of them so far.
        replies: What the answers were read from.
    """
    for other, title in ((WITHOUT, 'no gestures'), (PLACEBO, 'those of another scenario')):
        gain = metrics['comparisons'].get(f'{WITH} - {other}', {}).get('gain')
        if gain and gain['value'] is not None:
            yield _gain(gain, title)
    counts = Counter(answer.status for _, answer in tally.pairs)
    asked = len(tally.pairs) - counts[NOT_ASKED]
    for status, what in OUTCOMES.items():
        if counts[status]:
            yield f'{counts[status]} of {asked} answers {what}.'
    cut = sum(reply is not None and reply.prompt_cut for reply in replies)
    if cut:
        yield (
            f'{cut} prompts were cut by the server (it counted far fewer tokens than they have): '
            'raise its context length; these answers say nothing.'
        )
    if not metrics['open_ended']:
        yield from _habits(tally)
    yield from _intervals(metrics)


def _gain(gain: dict[str, Any], title: str) -> str:
    """What showing the gestures changes, over another arm."""
    text = f'Against {title}, the gestures change accuracy by {100 * gain["value"]:+.1f} points'
    if gain['low'] is None:
        return f'{text}; there is no interval.'
    low, high = 100 * gain['low'], 100 * gain['high']
    sure = 'beyond chance' if low > 0 or high < 0 else 'which may be chance'
    return f'{text} [{low:+.1f}, {high:+.1f}], {sure}.'.replace('-', '−')


def _habits(tally: Tally) -> Iterator[str]:
    """Answers by position, answers that never change, a confidence that never varies."""
    told = [(q, a) for q, a in tally.pairs if a.status == ANSWERED]
    if len(told) >= ENOUGH:
        place, most = Counter(answer.choice for _, answer in told).most_common(1)[0]
        rotated = len({question.rotation for question, _ in told}) > 1
        if rotated and most >= ALWAYS * len(told):
            yield (
                f'{most} of {len(told)} answers name option {"ABCDEFGHIJ"[place : place + 1]} '
                'wherever the options stand: this judge answers by position, not by content.'
            )
        sure = {a.confidence for _, a in told if a.confidence is not None}
        if len(sure) == 1:
            yield f'The confidence is {sure.pop():g} in every answer: it says nothing.'
    if {WITH, WITHOUT} <= set(tally.votes) and told and tally.known:
        if (tally.votes[WITH] == tally.votes[WITHOUT]).all():
            yield 'Seeing the gestures changed no choice of this judge.'


def _intervals(metrics: dict[str, Any]) -> Iterator[str]:
    """Why intervals are missing or not to be trusted."""
    subjects = metrics['subjects']
    gains = [c['gain'] for c in metrics['comparisons'].values()]
    if subjects == 1:
        yield 'One subject only: there are no intervals.'
    elif any(g['low'] is not None and g['low'] == g['high'] for g in gains):
        yield (
            f'An interval has no width: all {subjects} subjects have the same gain. That is no '
            'certainty, the sample is too small or the judge too uniform.'
        )
    elif subjects < FEW_SUBJECTS:
        yield f'{subjects} subjects only: the intervals are rough.'


def notes_on(scenarios: Sequence[Scenario], tally: Tally, plan: Design) -> list[str]:
    """What was left out of the figures, and what may blur them."""
    cases, train = tally.cases, for_fitting(scenarios)
    left_out = [s for s in scenarios if s.split == 'train']
    both = {s.session for s in left_out} & {case.session for case in cases}
    shared = {s.subject for s in train} & {case.subject for case in cases}
    exchanged = [q for q, _ in tally.pairs if q.arm == PLACEBO]
    own = sum(cases[q.scenario].subject == cases[q.gestures_of].subject for q in exchanged)
    notes = {
        f'{len(both)} sessions of split train are judged as well: nothing is fitted to them.': both,
        f'{len(shared)} subjects are judged that training sessions are of, too.': shared,
        f'{len(left_out)} scenarios of split train were not judged; {len(train)} of them have a '
        'known state and are for fitting.': left_out,
        f'{len(tally.judged) - len(tally.known)} scenarios of unknown state were judged and left '
        'out of scores.': len(tally.judged) - len(tally.known),
        f'{len(tally.cut)} scenarios were not asked to the end and are left out of scores.': (
            tally.cut
        ),
        f'In {own / max(len(exchanged), 1):.0%} of the placebo the gestures are of another session '
        'of the same subject.': own,
        'Options were not rotated: liking a position can raise or lower scores.': (
            plan.rotations == 1 and not tally.open_ended
        ),
    }
    return [note for note, holds in notes.items() if holds]
