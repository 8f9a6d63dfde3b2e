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
from .figures import Tally, chosen_state
from .findings import findings, notes_on
from .prompts import clock
from .rubric import GENERAL_RUBRIC, KEYWORD, OpenAnswer, Score, grade
from .scenarios import Scenario, ScenarioError
from .sets import for_fitting, judged, shipped_templates
from .tasks import ANSWERED, Judge, Reply

if TYPE_CHECKING:
    from .ask import Asked
    from .cache import Cache
    from .template import Template

VERSION = 2
CRUDE = (
    'The keyword rubric is crude: it counts words, and can hardly tell apart answers of one form, '
    'such as the lexicon judge’s. The evidence score does not depend on it.'
)


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
        questions: Of `arms.plan_questions`, over the judged scenarios.
        asked: Their answers.
        judge: Its name and identity.
        plan: The design.
        notes: What the judge has to say of how it asked.
        grade_open: Scores open-ended answers, as `rubric.grade` does.
        rubric: Who scores them.
        started: `time.perf_counter` when asking began.
    """
    tally = Tally(judged(scenarios), questions, asked.answers, plan.bootstrap, plan.seed)
    further = notes_on(scenarios, tally, plan)
    cases = [tally.cases[i] for i in sorted({q.scenario for q in questions})]
    metrics = {
        'version': VERSION,
        'name': name,
        'source': ', '.join(sorted({case.source for case in tally.cases})),
        'origin': _origins(cases),
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


def _origins(cases: Sequence[Scenario]) -> list[str]:
    """Who named the gestures, and above which confidence."""
    kinds = {(case.origin, case.threshold or 0) for case in cases if case.origin}
    return [
        origin + (f', confidence of {threshold:g} or more' if threshold else '')
        for origin, threshold in sorted(kinds)
    ]


def _record(tally: Tally, place: int, reply: Reply | None, score: Score | None) -> dict[str, Any]:
    """What is kept of one question."""
    question, answer = tally.pairs[place]
    case, task, evidence = tally.cases[question.scenario], question.task, tally.evidence[place]
    state = chosen_state(question, answer)
    record = {
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
        record['gestures_of'] = tally.cases[question.gestures_of].id
    if score is not None:
        record |= {'completeness': score.completeness, 'depth': score.depth}
    return record
