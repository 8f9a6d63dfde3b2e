"""Three arms, one judge, paired: does a judge understand more when it sees micro-gestures?

`evaluate` asks everything in one go, so that the concurrency limit is used to the full, and turns
the answers into two plain things: ``metrics``, which is what is reported, and ``records``, one a
question, which is what happened.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .arms import ARMS, PLACEBO, WITH, WITHOUT, Question, plan_questions
from .figures import COMPARISONS, Books, chosen_state
from .rubric import GENERAL_RUBRIC, KEYWORD, OpenAnswer, Score, grade
from .scenarios import Scenario, ScenarioError, load_scenarios
from .tasks import ANSWERED, UNPARSABLE, Answer, Judge, Task

if TYPE_CHECKING:
    from .cache import Cache
    from .judges.lexicon import Prior
    from .template import Template

VERSION = 1
ENOUGH_TO_FIT = 20  # labelled training scenarios


@dataclass(frozen=True)
class Evaluation:
    """Of one set of scenarios.

    Attributes:
        metrics: What is reported, ready for JSON; `figures` describes its parts.
        records: One dict a question: what was sent, what came back, and what was made of it.
    """

    metrics: dict[str, Any]
    records: list[dict[str, Any]]


def judged(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those that judges are asked about: all but the ones for fitting."""
    return [s for s in scenarios if s.split != 'train']


def for_fitting(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those of split ``'train'`` whose state is known and whose session is not judged."""
    sessions = {s.session for s in judged(scenarios)}
    train = [s for s in scenarios if s.split == 'train' and s.state]
    return [s for s in train if s.session not in sessions]


def split_by_kind(scenarios: Sequence[Scenario], name: str) -> dict[str, list[Scenario]]:
    """Multiple choice and open-ended apart, named so where there are both."""
    kinds = {
        'multiple choice': [s for s in scenarios if not s.open_ended],
        'open-ended': [s for s in scenarios if s.open_ended],
    }
    if all(kinds.values()):
        return {f'{name}, {kind}': members for kind, members in kinds.items()}
    return {name: list(scenarios)}


def limit(scenarios: Sequence[Scenario], number: int, seed: int = 0) -> list[Scenario]:
    """Those for fitting, and ``number`` of the others by chance, in their order."""
    cases = judged(scenarios)
    chosen = np.random.default_rng(seed).permutation(len(cases))[:number]
    kept = {id(cases[i]) for i in chosen}
    return [s for s in scenarios if s.split == 'train' or id(s) in kept]


def choose_prior(scenarios: Sequence[Scenario], wish: str | None = None) -> Prior:
    """The lexicon judge's prior for a set.

    Args:
        scenarios: The set, of which only the labelled training scenarios are looked at.
        wish: ``'fitted'``, ``'documented'``, or a scenarios file to fit to; by default fitted where
            there are 20 labelled training scenarios, else documented. Of a file, scenarios of
            sessions or subjects that are judged are left out.

    Raises:
        ValueError: There is too little to fit to; ScenarioError for a bad file.
    """
    from .judges.lexicon import Prior, fit_prior

    train = for_fitting(scenarios)
    if wish is None:
        wish = 'fitted' if len(train) >= ENOUGH_TO_FIT else 'documented'
    if wish == 'documented':
        return Prior.documented()
    if wish == 'fitted':
        return fit_prior(train)
    cases = judged(scenarios)
    sessions, subjects = {s.session for s in cases}, {s.subject for s in cases}
    given = load_scenarios(wish)
    apart = [s for s in given if s.session not in sessions and s.subject not in subjects]
    if not apart:
        raise ValueError(
            f'--prior {wish}: all of its {len(given)} scenarios are of sessions or subjects that '
            'are judged; a prior must be fitted to others'
        )
    return fit_prior(apart)


def previews(
    scenarios: Sequence[Scenario], wanted: str = '', **design: Any
) -> list[tuple[str, Task]]:
    """What would be sent for one scenario: every message that differs, titled.

    Args:
        scenarios: The whole set, since the placebo exchanges timelines.
        wanted: The scenario's id; the first one judged if empty.
        design: Arguments of `arms.plan_questions`.

    Raises:
        ScenarioError: No such scenario, or it is for fitting and would not be sent.
    """
    cases = judged(scenarios)
    ids = [case.id for case in cases]
    if not cases or (wanted and wanted not in ids):
        raise ScenarioError(
            f'no scenario {wanted!r} would be judged; there are {len(ids)}, such as '
            f'{", ".join(ids[:3])}'
        )
    place = ids.index(wanted) if wanted else 0
    shown: dict[tuple[str, str], tuple[str, Task]] = {}
    for question in plan_questions(cases, **design):
        if question.scenario == place:
            title = f'{cases[place].id}, {question.arm}'
            if question.arm == PLACEBO:
                title += f', exchange {question.draw + 1}'
            task = question.task
            title += f', order {question.rotation + 1} of the options' if task.options else ''
            shown.setdefault((task.system, task.user), (title, task))
    return list(shown.values())


def shipped_templates(scenarios: Sequence[Scenario]) -> dict[str, Template]:
    """The package's own templates that these scenarios were built with, by domain."""
    from .template import load_template, template_names

    names = {s.domain for s in scenarios} & set(template_names())
    return {name: load_template(name) for name in sorted(names)}


def evaluate(
    scenarios: Sequence[Scenario],
    judge: Judge,
    *,
    name: str,
    cache: Cache | None = None,
    arms: Sequence[str] = ARMS,
    derangements: int = 3,
    rotations: int | None = None,
    samples: int = 1,
    seed: int = 0,
    ask: Mapping[str, Any] | None = None,
    baselines: bool = True,
    bootstrap: int = 2000,
    templates: Mapping[str, Template] | None = None,
    rubric_judge: Judge | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Ask a judge about every scenario in every arm, and compare the arms.

    A scenario's score in an arm is the share of right answers over rotations, samples and
    exchanges; a question without an answer (refused, unparsable, failed) counts as not right.
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
        arms: Those wanted of ``arms.ARMS``.
        derangements, rotations, samples, seed: See `arms.plan_questions`.
        ask: Further arguments of `ask.ask_all`: concurrency, timeout, retries, reask, budget.
        baselines: Whether to fit the learned baselines on the training scenarios.
        bootstrap: How often subjects are drawn.
        templates: By domain, for system texts and rubrics; the package's own by default.
        rubric_judge: Scores open-ended answers; None for the keyword rubric.
        progress: Called with questions done and in all.

    Raises:
        ScenarioError: Nothing to judge, a mix of the two kinds of questions, or a placebo with
            fewer than two scenarios.
        ValueError: A setting that cannot be.
    """
    from .ask import ask_all

    started = time.perf_counter()
    cases = judged(scenarios)
    if not cases:
        raise ScenarioError(f'{name}: nothing to judge: every scenario is of split train')
    if len({case.open_ended for case in cases}) > 1:
        raise ScenarioError(f'{name}: multiple choice and open-ended scenarios in one set')
    if templates is None:
        templates = shipped_templates(cases)
    questions = plan_questions(
        cases,
        arms=arms,
        derangements=derangements,
        rotations=rotations,
        samples=samples,
        seed=seed,
        templates=templates,
    )
    tasks = [question.task for question in questions]
    asked = ask_all(judge, tasks, cache=cache, progress=progress, **(ask or {}))
    books = Books(cases, questions, asked.answers, bootstrap, seed)
    open_ended = cases[0].open_ended
    spent = Counter(calls=asked.calls, tokens=asked.tokens, cached=asked.cached)
    stopped = asked.stopped
    notes = _notes(scenarios, cases, books, rotations)
    graded: dict[str, Any] = {'open': None, 'open_comparisons': {}, 'rubric_judge': None}
    scores: list[Score | None] = [None] * len(questions)
    if open_ended:
        answers = [_open_answer(cases[q.scenario], a.text, templates) for q, a in books.pairs]
        told = [i for i, (_, a) in enumerate(books.pairs) if a.status == ANSWERED]
        given, extra = grade(
            [answers[i] for i in told], rubric_judge, seed=seed, cache=cache, ask=ask
        )
        for i, score in zip(told, given, strict=True):
            scores[i] = score
        if extra is not None:
            spent.update(calls=extra.calls, tokens=extra.tokens, cached=extra.cached)
            stopped = stopped or extra.stopped
        means, gains = books.open(scores)
        graded = {
            'open': means,
            'open_comparisons': gains,
            'rubric_judge': rubric_judge.name if rubric_judge else KEYWORD,
        }
        ungraded = sum(s is None for s in given)
        if ungraded:
            notes.append(f'{ungraded} open-ended answers got no score and are left out.')
        if rubric_judge is None:
            notes.append(
                'The keyword rubric is crude: it counts words, and can hardly tell apart answers '
                'of one form, such as the lexicon judge’s.'
            )
    metrics = {
        'version': VERSION,
        'name': name,
        'source': ', '.join(sorted({case.source for case in cases})),
        'judge': {'name': judge.name, **judge.identity()},
        'seed': seed,
        'scenarios': len(cases),
        'subjects': len({case.subject for case in cases}),
        'states': books.states,
        'open_ended': open_ended,
        'arms': {arm: books.arm(arm) for arm in books.arms},
        'comparisons': {
            f'{a} - {b}': books.compare(a, b)
            for a, b in COMPARISONS
            if not open_ended and {a, b} <= set(books.arms)
        },
        'gestures': [] if open_ended else books.gestures(),
        'baselines': {},
        **graded,
    }
    if baselines and not open_ended:
        metrics['baselines'] = books.baselines(for_fitting(scenarios), seed, notes)
    metrics |= {
        'calls': spent['calls'],
        'tokens': spent['tokens'],
        'cached': spent['cached'],
        'stopped': stopped,
        'seconds': round(time.perf_counter() - started, 2),
        'notes': notes,
    }
    records = [
        _record(name, cases, question, reply, answer, score)
        for (question, answer), reply, score in zip(books.pairs, asked.replies, scores, strict=True)
    ]
    return Evaluation(metrics, records)


def _open_answer(case: Scenario, text: str, templates: Mapping[str, Template]) -> OpenAnswer:
    template = templates.get(case.domain)
    return OpenAnswer(case.question, tuple(template.rubric if template else GENERAL_RUBRIC), text)


def _notes(
    scenarios: Sequence[Scenario], cases: Sequence[Scenario], books: Books, rotations: int | None
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
    unknown = sum(not case.state for case in cases)
    if unknown:
        notes.append(f'{unknown} scenarios of unknown state were judged and left out of scores.')
    if books.cut:
        notes.append(
            f'{len(books.cut)} scenarios were not asked to the end and are left out of scores.'
        )
    votes = books.votes
    statuses = Counter(answer.status for _, answer in books.pairs)
    answered = statuses[ANSWERED]
    if {WITH, WITHOUT} <= set(votes) and not cases[0].open_ended and answered:
        if books.known and (votes[WITH] == votes[WITHOUT]).all():
            notes.append('Seeing the gestures changed no choice of this judge.')
    if statuses[UNPARSABLE] > answered:
        notes.append(
            f'Most replies could not be read ({statuses[UNPARSABLE]} of {len(books.pairs)}): this '
            'judge does not follow the instruction, and its scores say nothing.'
        )
    exchanged = [q for q, _ in books.pairs if q.arm == PLACEBO]
    own = sum(cases[q.scenario].subject == cases[q.gestures_of].subject for q in exchanged)
    if own:
        notes.append(
            f'In {own / len(exchanged):.0%} of the placebo the gestures are of another session '
            'of the same subject.'
        )
    if len({case.subject for case in cases}) == 1:
        notes.append('One subject only: there are no intervals.')
    if rotations == 1 and not cases[0].open_ended:
        notes.append('Options were not rotated: liking a position can raise or lower scores.')
    return notes


def _record(
    name: str,
    cases: Sequence[Scenario],
    question: Question,
    reply: Any,
    answer: Answer,
    score: Score | None,
) -> dict[str, Any]:
    """What is kept of one question."""
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
        'status': answer.status,
        'choice': answer.choice,
        'state': state or None,
        'truth': case.state or None,
        'confidence': answer.confidence,
        'text': answer.text,
        'correct': state == case.state if case.state and not case.open_ended else None,
    }
    if question.arm == PLACEBO:
        record['gestures_of'] = cases[question.gestures_of].id
    if score is not None:
        record |= {'completeness': score.completeness, 'depth': score.depth}
    return record
