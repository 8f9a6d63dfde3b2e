"""Three arms, one judge, paired: does a judge understand more when it sees micro-gestures?"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mg_plugins.errors import UserError

from .arms import PLACEBO, WITH, WITHOUT, Design, Question, for_fitting, judged, plan_questions
from .ask import ask_all
from .build import Template, shipped_templates
from .cache import Cache
from .figures import NO_INTERVAL, Tally
from .scenarios import Scenario
from .scores import GENERAL_RUBRIC, grade, score_evidence
from .tasks import ANSWERED, LETTERS, NOT_ASKED, TEXTS, Answer, Judge, Reply, clock, rubric_task

VERSION = 2
SAYS = TEXTS['findings']
ENOUGH = 8  # answers for a pattern to be worth a sentence
ALWAYS = 0.85  # share of answers in one position that is called a bias
FEW_SUBJECTS = 5


@dataclass(frozen=True)
class Evaluation:
    """Of one set of scenarios."""

    metrics: dict[str, Any]  # what is reported, ready for JSON; docs/emotion.md has its parts
    records: list[dict[str, Any]]  # of each question what was sent, what came back and what it said


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

    A scenario's score in an arm is the share of right answers over rotations and exchanges; no
    answer (refused, unreadable, failed) is not right. McNemar's test needs one choice a scenario:
    the one that most of its questions made in that arm, "no answer" being one too; a tie is not
    right. In the placebo several wrong timelines partly cancel: the test errs on the careful side.

    Args:
        scenarios: Either all multiple choice or all open-ended; those of split ``'train'`` fit the
            baselines and are not judged.
        judge: Who answers; ``cache`` keeps the replies.
        name: Of the set, in reports.
        ask: Further arguments of `ask_all`: concurrency, timeout, retries, max_calls, progress.
        templates: By domain, for system texts and rubrics; the package's own by default.
        rubric_judge: Scores open-ended answers; without one only their evidence is scored.
        design: Fields of `Design`.
    """
    started = time.perf_counter()
    plan, cases = Design(**design), judged(scenarios)
    if not cases:
        raise UserError(f'{name}: nothing to judge: every scenario is of split train')
    if len({case.open_ended for case in cases}) > 1:
        both = 'multiple choice and open-ended scenarios in one file'
        raise UserError(f'{name}: {both}, whose scores differ: give each a file of its own')
    templates = shipped_templates(cases) if templates is None else templates
    questions = plan_questions(cases, templates=templates, **design)
    ask = dict(ask or {})
    asked = ask_all(judge, [q.task for q in questions], cache=cache, **ask)
    classes = {gesture.name for case in cases for gesture in case.gestures}
    records = [
        {'set': name, **_record(cases, *told, classes)}
        for told in zip(questions, asked.answers, asked.replies, strict=True)
    ]
    spent, ungraded = [asked], 0
    if cases[0].open_ended and rubric_judge:
        told, tasks = [r for r in records if r['status'] == ANSWERED], []
        of = {case.id: case for case in cases}
        for record in told:
            case = of[record['scenario']]
            rubric = templates[case.domain].rubric if case.domain in templates else GENERAL_RUBRIC
            tasks.append(rubric_task(case.question, rubric, record['text']))
        if ask.get('max_calls') is not None:
            ask['max_calls'] -= asked.calls
        scores, cost = grade(tasks, rubric_judge, seed=plan.seed, cache=cache, ask=ask)
        spent, ungraded = [asked, cost], scores.count(None)
        for record, score in zip(told, scores, strict=True):
            record |= score or {}
    tally = Tally(cases, records, plan.bootstrap, plan.seed)
    notes, choice = _notes(scenarios, tally, ungraded), not tally.open_ended
    free, free_gains = (None, {}) if choice else tally.open()
    chosen = [cases[i] for i in sorted({q.scenario for q in questions})]
    metrics = {
        'version': VERSION,
        'name': name,
        'source': ', '.join(sorted({case.source for case in cases})),
        'origin': [
            origin + (f', confidence of {above:g} or more' if above else '')
            for origin, above in sorted({(c.origin, c.threshold or 0) for c in chosen if c.origin})
        ],
        'judge': {'name': judge.name, **judge.identity()},
        'seed': plan.seed,
        'scenarios': len(chosen),
        'subjects': len({case.subject for case in chosen}),
        'open_ended': tally.open_ended,
        'arms': {arm: tally.arm(arm) for arm in tally.of},
        'comparisons': tally.compare() if choice else {},
        'gestures': tally.gestures() if choice else [],
        'baselines': {},
        'rubric_judge': None if choice or not rubric_judge else rubric_judge.name,
        'open': free,
        'open_comparisons': free_gains,
    }
    if choice and plan.baselines:
        metrics['baselines'] = tally.baselines(for_fitting(scenarios), notes)
    for key in ('calls', 'tokens', 'cached', 'total_replies', 'total_tokens'):
        metrics[key] = sum(getattr(part, key) for part in spent)
    metrics |= {
        'stopped': next((part.stopped for part in spent if part.stopped), ''),
        'seconds': round(time.perf_counter() - started, 2),
        'findings': [*_findings(tally, metrics), *getattr(judge, 'notes', ())],
        'notes': notes,
    }
    return Evaluation(metrics, records)


def _record(
    cases: Sequence[Scenario], question: Question, answer: Answer, reply: Reply | None, classes: set
) -> dict[str, Any]:
    """What is kept of one question."""
    case, task = cases[question.scenario], question.task
    state = '' if answer.choice is None else task.states[answer.choice]
    record = {
        'scenario': case.id,
        'subject': case.subject,
        **{name: getattr(question, name) for name in ('arm', 'draw', 'rotation')},
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
    if answer.status == ANSWERED:
        # What is cited, against the own scenario: the arm takes no part.
        own = case.gestures, case.context
        evidence = score_evidence(answer.text, answer.evidence, *own, classes)
        segments = [case.gestures[i] for i in evidence.segments]
        record['grounded'] = evidence.score
        record['cited'] = [f'{clock(g.start)} {g.name}' for g in segments]
    if question.arm == PLACEBO:
        record['gestures_of'] = cases[question.gestures_of].id
    return record


def _findings(tally: Tally, metrics: dict[str, Any]) -> Iterator[str]:
    """Sentences for the top of the report, the result first."""
    for other, title in ((WITHOUT, 'no gestures'), (PLACEBO, 'those of another scenario')):
        gain = metrics['comparisons'].get(f'{WITH} - {other}', {}).get('gain', NO_INTERVAL)
        if gain['value'] is not None:
            points = (f'{100 * (of or 0.0):+.1f}'.replace('-', '−') for of in gain.values())
            value, low, high = ('0.0' if text[1:] == '0.0' else text for text in points)
            interval = '(there is no interval)'
            if gain['low'] is not None:
                chance = metrics['subjects'] < FEW_SUBJECTS or gain['low'] <= 0 <= gain['high']
                sure = 'which may be chance' if chance else 'beyond chance'
                interval = f'[{low}, {high}], {sure}'
            yield SAYS['gain'].format(other=title, value=value, interval=interval)
    counts = Counter(r['status'] for r in tally.records)
    for status, what in TEXTS['outcomes'].items():
        if counts[status]:
            yield f'{counts[status]} of {counts.total() - counts[NOT_ASKED]} answers {what}.'
    if cut := sum(r['prompt_cut'] for r in tally.records):
        yield SAYS['cut prompts'].format(n=cut)
    told = [r for r in tally.records if r['choice'] is not None]
    if len(told) >= ENOUGH:
        place, most = Counter(r['choice'] for r in told).most_common(1)[0]
        if most >= ALWAYS * len(told) and len({r['rotation'] for r in told}) > 1:
            yield SAYS['position'].format(n=most, told=len(told), letter=LETTERS[place])
        sure = {r['confidence'] for r in told if r['confidence'] is not None}
        if len(sure) == 1:
            yield SAYS['confidence'].format(value=sure.pop())
    if {WITH, WITHOUT} <= set(tally.votes) and told and tally.known:
        if (tally.votes[WITH] == tally.votes[WITHOUT]).all():
            yield SAYS['no choice']
    subjects = metrics['subjects']
    gains = [c['gain'] for c in metrics['comparisons'].values()]
    if subjects == 1:
        yield SAYS['one subject']
    elif any(g['low'] is not None and g['low'] == g['high'] for g in gains):
        yield SAYS['no width'].format(n=subjects)
    elif subjects < FEW_SUBJECTS:
        yield SAYS['few subjects'].format(n=subjects)


def _notes(scenarios: Sequence[Scenario], tally: Tally, ungraded: int) -> list[str]:
    """What was left out of the figures, and what may blur them."""
    cases, train = tally.cases, for_fitting(scenarios)
    left_out, judged_too = [s for s in scenarios if s.split == 'train'], cases.values()
    placebo = tally.of.get(PLACEBO, ())
    own = sum(r['subject'] == cases[r['gestures_of']].subject for r in placebo)
    found = {
        'both': len({s.session for s in left_out} & {case.session for case in judged_too}),
        'shared': len({s.subject for s in train} & {case.subject for case in judged_too}),
        'train': len(left_out),
        'unknown': len(tally.judged) - len(tally.known),
        'unfinished': len(tally.cut),
        'own subject': own,
        'ungraded': ungraded,
    }
    fields = {'fitting': len(train), 'share': own / max(len(placebo), 1)}
    return [SAYS[what].format(n=number, **fields) for what, number in found.items() if number]
