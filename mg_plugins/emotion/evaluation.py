"""Three arms, one judge, paired: does a judge understand more when it sees micro-gestures?

`evaluate` asks everything in one go, so that the concurrency limit is used to the full, and turns
the answers into two plain things: ``metrics``, which is what is reported, and ``records``, one a
question, which is what happened.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .arms import PLACEBO, WITH, WITHOUT, Design, Question, plan_questions
from .figures import NO_INTERVAL, Tally, chosen_state
from .prompts import TEXTS, clock
from .rubric import GENERAL_RUBRIC, KEYWORD, OpenAnswer, Score, grade
from .scenarios import Scenario, ScenarioError
from .sets import for_fitting, judged, shipped_templates
from .tasks import ANSWERED, NOT_ASKED, Judge, Reply

if TYPE_CHECKING:
    from .ask import Asked
    from .cache import Cache
    from .template import Template

VERSION = 2
CRUDE = (
    'The keyword rubric is crude: it counts words, and can hardly tell apart answers of one form, '
    'such as the lexicon judge’s. The evidence score does not depend on it.'
)

ENOUGH = 8  # answers for a pattern to be worth a sentence
ALWAYS = 0.85  # share of answers in one position that is called a bias
FEW_SUBJECTS = 5


@dataclass(frozen=True)
class Evaluation:
    """Of one set of scenarios."""

    metrics: dict[str, Any]  # what is reported, ready for JSON; `figures` describes its parts
    # One dict a question: what was sent, what came back, and what was made of it.
    records: list[dict[str, Any]]


def evaluate(
    scenarios: Sequence[Scenario],
    judge: Judge,
    *,
    name: str,
    cache: Cache | None = None,
    ask: Mapping[str, Any] | None = None,
    templates: Mapping[str, Template] | None = None,
    rubric_judge: Judge | None = None,
    **design: Any,
) -> Evaluation:
    """Ask a judge about every scenario in every arm, and compare the arms.

    A scenario's score in an arm is the share of right answers over rotations, samples and
    exchanges; a question without an answer (refused, unreadable, failed) counts as not right.
    McNemar's test needs one choice a scenario: the one that most of its questions made in that
    arm, where "no answer" is an outcome like any other, and a tie is not right. In the placebo the
    vote runs over all exchanges. That tends to flatter the placebo (several wrong timelines partly
    cancel), so the test against it errs on the careful side.

    Args:
        scenarios: Either all multiple choice or all open-ended. Split ``'train'`` fits the
            baselines; the rest is judged.
        judge: Who answers.
        name: Of the set, in reports.
        cache: Where replies are kept.
        ask: Further arguments of `ask.ask_all`: concurrency, timeout, retries, budget, progress.
        templates: By domain, for system texts and rubrics; the package's own by default.
        rubric_judge: Scores open-ended answers; None for the keyword rubric.
        design: Fields of `arms.Design`.
    """
    from .ask import ask_all

    started = time.perf_counter()
    plan, cases = Design(**design), judged(scenarios)
    if not cases:
        raise ScenarioError(f'{name}: nothing to judge: every scenario is of split train')
    if len({case.open_ended for case in cases}) > 1:
        raise ScenarioError(f'{name}: multiple choice and open-ended scenarios in one set')
    if templates is None:
        templates = shipped_templates(cases)
    questions = plan_questions(cases, templates=templates, **design)
    asked = ask_all(judge, [q.task for q in questions], cache=cache, **(ask or {}))
    return assess(
        scenarios,
        questions,
        asked,
        judge={'name': judge.name, **judge.identity()},
        notes=getattr(judge, 'notes', ()),
        name=name,
        plan=plan,
        grade_open=lambda said: grade(said, rubric_judge, seed=plan.seed, cache=cache, ask=ask),
        rubric=rubric_judge.name if rubric_judge else KEYWORD,
        templates=templates,
        started=started,
    )


def assess(
    scenarios: Sequence[Scenario],
    questions: Sequence[Question],
    asked: Asked,
    *,
    judge: Mapping[str, Any],
    name: str,
    plan: Design,
    templates: Mapping[str, Template],
    notes: Sequence[str] = (),
    grade_open: Callable[[list[OpenAnswer]], tuple] = grade,
    rubric: str = KEYWORD,
    started: float | None = None,
) -> Evaluation:
    """Figures and records of questions that have been asked, by whatever means.

    Args:
        scenarios, name, templates: As in `evaluate`.
        questions, asked: Of `arms.plan_questions`, over the judged scenarios, and their answers.
        judge: Its name and identity; ``notes`` is what it has to say of how it asked.
        plan: The design.
        grade_open: Scores open-ended answers, as `rubric.grade` does; ``rubric`` names who.
        started: `time.perf_counter` when asking began.
    """
    tally = Tally(judged(scenarios), questions, asked.answers, plan.bootstrap, plan.seed)
    further = notes_on(scenarios, tally, plan)
    cases = [tally.cases[i] for i in sorted({q.scenario for q in questions})]
    metrics = {
        'version': VERSION,
        'name': name,
        'source': ', '.join(sorted({case.source for case in tally.cases})),
        'origin': [
            origin + (f', confidence of {above:g} or more' if above else '')
            for origin, above in sorted({(c.origin, c.threshold or 0) for c in cases if c.origin})
        ],
        'judge': dict(judge),
        'seed': plan.seed,
        'scenarios': len(cases),
        'subjects': len({case.subject for case in cases}),
        'states': tally.states,
        'open_ended': tally.open_ended,
        'arms': {arm: tally.arm(arm) for arm in tally.arms},
        'comparisons': {} if tally.open_ended else tally.compare(),
        'gestures': [] if tally.open_ended else tally.gestures(),
        'baselines': {},
        'rubric_judge': rubric if tally.open_ended else None,
        'open': None,
        'open_comparisons': {},
    }
    scores, spent = [None] * len(questions), [asked]
    if tally.open_ended:
        scores, graded = _grade(tally, templates, grade_open, further)
        metrics['open'], metrics['open_comparisons'] = tally.open(scores)
        spent += [graded] if graded is not None else []
        further += [CRUDE] if rubric == KEYWORD else []
    elif plan.baselines:
        metrics['baselines'] = tally.baselines(for_fitting(scenarios), plan.seed, further)
    for key in ('calls', 'tokens', 'cached', 'total_replies', 'total_tokens'):
        metrics[key] = sum(getattr(part, key) for part in spent)
    metrics |= {
        'stopped': next((part.stopped for part in spent if part.stopped), ''),
        'seconds': round(time.perf_counter() - started, 2) if started is not None else None,
        'findings': [*findings(tally, metrics, asked.replies), *notes],
        'notes': further,
    }
    records = [
        {'set': name, **_record(tally, k, asked.replies[k], score)}
        for k, score in enumerate(scores)
    ]
    return Evaluation(metrics, records)


def _grade(
    tally: Tally, templates: Mapping[str, Template], grade_open: Callable, notes: list[str]
) -> tuple[list[Score | None], Asked | None]:
    """Scores of open-ended answers, and what asking for them cost."""
    told = [k for k, (_, answer) in enumerate(tally.pairs) if answer.status == ANSWERED]
    answers = []
    for question, answer in (tally.pairs[k] for k in told):
        case = tally.cases[question.scenario]
        template = templates.get(case.domain)
        rubric = tuple(template.rubric) if template else GENERAL_RUBRIC
        answers.append(OpenAnswer(case.question, rubric, answer.text))
    given, asked = grade_open(answers)
    scores = dict(zip(told, given, strict=True))
    ungraded = sum(score is None for score in given)
    if ungraded:
        notes.append(f'{ungraded} open-ended answers got no score and are left out.')
    return [scores.get(k) for k in range(len(tally.pairs))], asked


def _record(tally: Tally, place: int, reply: Reply | None, score: Score | None) -> dict[str, Any]:
    """What is kept of one question."""
    question, answer = tally.pairs[place]
    case, task, evidence = tally.cases[question.scenario], question.task, tally.evidence[place]
    state = chosen_state(question, answer)
    record = {
        'scenario': case.id,
        'subject': case.subject,
        **{name: getattr(question, name) for name in ('arm', 'draw', 'rotation')},
        'sample': task.sample,
        'options': list(task.options),
        'states': list(task.states),
        'user': task.user,
        'system': task.system,
        'reply': reply.text if reply else None,
        'finish': reply.finish if reply else None,
        'prompt_cut': bool(reply and reply.prompt_cut),
        **{name: getattr(answer, name) for name in ('status', 'choice', 'confidence', 'text')},
        'thoughts': answer.thoughts or None,
        'evidence': list(answer.evidence),
        'state': state or None,
        'truth': case.state or None,
        'correct': state == case.state if case.state and not case.open_ended else None,
    }
    if evidence is not None:
        segments = [case.gestures[i] for i in evidence.segments]
        record['grounded'] = evidence.score
        record['cited'] = [f'{clock(g.start)} {g.name}' for g in segments]
    if question.arm == PLACEBO:
        record['gestures_of'] = tally.cases[question.gestures_of].id
    if score is not None:
        record |= {'completeness': score.completeness, 'depth': score.depth}
    return record


def findings(
    tally: Tally, metrics: dict[str, Any], replies: Sequence[Reply | None]
) -> Iterator[str]:
    """Sentences for the top of the report, the result first."""
    for other, title in ((WITHOUT, 'no gestures'), (PLACEBO, 'those of another scenario')):
        gain = metrics['comparisons'].get(f'{WITH} - {other}', {}).get('gain', NO_INTERVAL)
        points = [_points(gain[key]) for key in ('value', 'low', 'high') if gain[key] is not None]
        if points:
            text = f'Against {title}, the gestures change accuracy by {points[0]} points'
            if len(points) == 1:
                yield f'{text}; there is no interval.'
                continue
            chance = gain['low'] <= 0 <= gain['high']
            sure = 'which may be chance' if chance else 'beyond chance'
            yield f'{text} [{points[1]}, {points[2]}], {sure}.'
    counts = Counter(answer.status for _, answer in tally.pairs)
    asked = len(tally.pairs) - counts[NOT_ASKED]
    for status, what in TEXTS['outcomes'].items():
        if counts[status]:
            yield f'{counts[status]} of {asked} answers {what}.'
    cut = sum(reply is not None and reply.prompt_cut for reply in replies)
    if cut:
        yield (
            f'{cut} prompts were cut by the server (it counted far fewer tokens than they have): '
            'raise its context length; these answers say nothing.'
        )
    # Answers by position, a confidence that never varies, answers that never change.
    told = [(q, a) for q, a in tally.pairs if a.status == ANSWERED and not tally.open_ended]
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
    # Why intervals are missing or not to be trusted.
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


def _points(share: float) -> str:
    text = f'{100 * share:+.1f}'.replace('-', '−')
    return '0.0' if text[1:] == '0.0' else text


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
