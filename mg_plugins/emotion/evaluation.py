"""Three arms, one judge, paired: does a judge understand more when it sees micro-gestures?

`evaluate` asks everything in one go, so that the concurrency limit is used to the full, and turns
the answers into two plain things: ``metrics``, which is what is reported, and ``records``, one a
question, which is what happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .arms import PLACEBO, Design, Question, plan_questions
from .figures import COMPARISONS, Tally, chosen_state
from .findings import findings
from .prompts import clock
from .rubric import GENERAL_RUBRIC, KEYWORD, OpenAnswer, Score, grade
from .scenarios import Scenario, ScenarioError
from .sets import for_fitting, judged, shipped_templates
from .tasks import ANSWERED, Answer, Judge, Reply

if TYPE_CHECKING:
    from .ask import Asked
    from .cache import Cache
    from .evidence import Evidence
    from .template import Template

VERSION = 2


@dataclass(frozen=True)
class Evaluation:
    """Of one set of scenarios.

    Attributes:
        metrics: What is reported, ready for JSON; `figures` describes its parts.
        records: One dict a question: what was sent, what came back, and what was made of it.
    """

    metrics: dict[str, Any]
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

    Raises:
        ScenarioError: Nothing to judge, a mix of the two kinds of questions, or a placebo with
            fewer than two scenarios.
        ValueError: A setting that cannot be.
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
        grade_open=lambda answers: grade(
            answers, rubric_judge, seed=plan.seed, cache=cache, ask=ask
        ),
        rubric=rubric_judge.name if rubric_judge else KEYWORD,
        templates=templates,
        started=started,
    )


@dataclass
class _Grading:
    """Scores of open-ended answers, and the figures made of them."""

    scores: list[Score | None]
    metrics: dict[str, Any]
    asked: Asked | None = None


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
        questions: Of `arms.plan_questions`, over the judged scenarios.
        asked: Their answers.
        judge: Its name and identity.
        plan: The design.
        notes: What the judge has to say of how it asked.
        grade_open: Scores open-ended answers, as `rubric.grade` does.
        rubric: Who scores them.
        started: `time.perf_counter` when asking began.
    """
    cases = judged(scenarios)
    tally = Tally(cases, questions, asked.answers, plan.bootstrap, plan.seed)
    open_ended = cases[0].open_ended
    graded = _Grading([None] * len(questions), {'open': None, 'open_comparisons': {}})
    further = _notes(scenarios, cases, tally, plan)
    if open_ended:
        graded = _graded(tally, templates, grade_open, rubric, further)
    judged_cases = [cases[i] for i in sorted({q.scenario for q in questions})]
    metrics = {
        'version': VERSION,
        'name': name,
        'source': ', '.join(sorted({case.source for case in cases})),
        'origin': _origins(judged_cases),
        'judge': dict(judge),
        'seed': plan.seed,
        'scenarios': len(judged_cases),
        'subjects': len({case.subject for case in judged_cases}),
        'states': tally.states,
        'open_ended': open_ended,
        'arms': {arm: tally.arm(arm) for arm in tally.arms},
        'comparisons': {
            f'{a} - {b}': tally.compare(a, b)
            for a, b in COMPARISONS
            if not open_ended and {a, b} <= set(tally.arms)
        },
        'gestures': [] if open_ended else tally.gestures(),
        'baselines': {},
        'rubric_judge': rubric if open_ended else None,
        **graded.metrics,
    }
    if plan.baselines and not open_ended:
        metrics['baselines'] = tally.baselines(for_fitting(scenarios), plan.seed, further)
    spent = [part for part in (asked, graded.asked) if part is not None]
    metrics |= {
        key: sum(getattr(part, key) for part in spent)
        for key in ('calls', 'tokens', 'cached', 'total_replies', 'total_tokens')
    }
    metrics |= {
        'stopped': next((part.stopped for part in spent if part.stopped), ''),
        'seconds': round(time.perf_counter() - started, 2) if started is not None else None,
        'findings': findings(tally, metrics, asked.replies, notes),
        'notes': further,
    }
    records = [
        _record(name, cases, pair, reply, score, evidence)
        for pair, reply, score, evidence in zip(
            tally.pairs, asked.replies, graded.scores, tally.evidence, strict=True
        )
    ]
    return Evaluation(metrics, records)


def _graded(
    tally: Tally,
    templates: Mapping[str, Template],
    grade_open: Callable[[list[OpenAnswer]], tuple],
    rubric: str,
    notes: list[str],
) -> _Grading:
    told = [i for i, (_, answer) in enumerate(tally.pairs) if answer.status == ANSWERED]
    answers = [
        _open_answer(tally.cases[tally.pairs[i][0].scenario], tally.pairs[i][1].text, templates)
        for i in told
    ]
    given, asked = grade_open(answers)
    scores: list[Score | None] = [None] * len(tally.pairs)
    for i, score in zip(told, given, strict=True):
        scores[i] = score
    means, gains = tally.open(scores)
    ungraded = sum(score is None for score in given)
    if ungraded:
        notes.append(f'{ungraded} open-ended answers got no score and are left out.')
    if rubric == KEYWORD:
        notes.append(
            'The keyword rubric is crude: it counts words, and can hardly tell apart answers '
            'of one form, such as the lexicon judge’s. The evidence score does not depend on it.'
        )
    return _Grading(scores, {'open': means, 'open_comparisons': gains}, asked)


def _open_answer(case: Scenario, text: str, templates: Mapping[str, Template]) -> OpenAnswer:
    template = templates.get(case.domain)
    return OpenAnswer(case.question, tuple(template.rubric if template else GENERAL_RUBRIC), text)


def _origins(cases: Sequence[Scenario]) -> list[str]:
    """Who named the gestures, and above which confidence."""
    kinds = {(case.origin, case.threshold) for case in cases if case.origin}
    return [
        origin + (f', confidence of {threshold:g} or more' if threshold else '')
        for origin, threshold in sorted(kinds, key=lambda kind: (kind[0], kind[1] or 0))
    ]


def _notes(
    scenarios: Sequence[Scenario], cases: Sequence[Scenario], tally: Tally, plan: Design
) -> list[str]:
    notes = []
    train = for_fitting(scenarios)
    left_out = len(scenarios) - len(cases)
    both = {case.session for case in cases} & {s.session for s in scenarios if s.split == 'train'}
    if both:
        notes.append(
            f'{len(both)} sessions of split train are judged as well: nothing is fitted to them.'
        )
    shared = {case.subject for case in cases} & {s.subject for s in train}
    if shared:
        notes.append(f'{len(shared)} subjects are judged that training sessions are of, too.')
    if left_out:
        notes.append(
            f'{left_out} scenarios of split train were not judged; {len(train)} of them have a '
            'known state and are for fitting.'
        )
    unknown = len(tally.judged) - len(tally.known)
    if unknown:
        notes.append(f'{unknown} scenarios of unknown state were judged and left out of scores.')
    if tally.cut:
        notes.append(
            f'{len(tally.cut)} scenarios were not asked to the end and are left out of scores.'
        )
    exchanged = [q for q, _ in tally.pairs if q.arm == PLACEBO]
    own = sum(cases[q.scenario].subject == cases[q.gestures_of].subject for q in exchanged)
    if own:
        notes.append(
            f'In {own / len(exchanged):.0%} of the placebo the gestures are of another session '
            'of the same subject.'
        )
    if plan.rotations == 1 and not cases[0].open_ended:
        notes.append('Options were not rotated: liking a position can raise or lower scores.')
    return notes


def _record(
    name: str,
    cases: Sequence[Scenario],
    pair: tuple[Question, Answer],
    reply: Reply | None,
    score: Score | None,
    evidence: Evidence | None,
) -> dict[str, Any]:
    """What is kept of one question."""
    question, answer = pair
    case, task = cases[question.scenario], question.task
    state = chosen_state(question, answer)
    record = {
        'set': name,
        'scenario': case.id,
        'subject': case.subject,
        'arm': question.arm,
        'draw': question.draw,
        'rotation': question.rotation,
        'sample': task.sample,
        'options': list(task.options),
        'states': list(task.states),
        'user': task.user,
        'system': task.system,
        'reply': reply.text if reply else None,
        'thoughts': answer.thoughts or None,
        'finish': reply.finish if reply else None,
        'prompt_cut': bool(reply and reply.prompt_cut),
        'status': answer.status,
        'choice': answer.choice,
        'state': state or None,
        'truth': case.state or None,
        'confidence': answer.confidence,
        'text': answer.text,
        'evidence': list(answer.evidence),
        'correct': state == case.state if case.state and not case.open_ended else None,
    }
    if evidence is not None:
        segments = [case.gestures[i] for i in evidence.segments]
        record['grounded'] = evidence.score
        record['cited'] = [f'{clock(g.start)} {g.name}' for g in segments]
    if question.arm == PLACEBO:
        record['gestures_of'] = cases[question.gestures_of].id
    if score is not None:
        record |= {'completeness': score.completeness, 'depth': score.depth}
    return record
