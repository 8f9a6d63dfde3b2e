"""The evaluation as a task of Inspect: the same scenarios, arms, prompts, parser and figures.

inspect eval mg_plugins/emotion/inspect_task.py --model openai/gpt-5-mini -T scenarios=my.jsonl
"""

import math
import os
from typing import Any

import numpy as np
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, ContentReasoning, GenerateConfig
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState, generate

from mg_plugins import emotion as room
from mg_plugins.data.statistics import Bootstrap
from mg_plugins.emotion.arms import Question
from mg_plugins.emotion.figures import COMPARISONS
from mg_plugins.emotion.tasks import Reply
from mg_plugins.errors import UserError

FINISH = {'max_tokens': 'length', 'model_length': 'length'}


@task
def emotion(
    scenarios: str = 'synthetic',
    template: str | None = None,
    cases: int | None = None,
    seed: int = 0,
    bootstrap: int = 2000,
    **design: Any,
) -> Task:
    """Three arms on multiple-choice scenarios of known state, a sample a question.

    Args:
        scenarios: A file of tools/build_scenarios.py, or ``'synthetic'``.
        template: The scenarios' own template, if it is none of the package.
        cases: Judge so many scenarios, by chance; the placebo still exchanges among all.
        seed: Of everything random, the model's draws included.
        design: Further fields of `mg_plugins.emotion.Design`.
    """
    made = scenarios == 'synthetic'
    if not made and not os.path.exists(scenarios):
        # Inspect makes the task in the folder of this file; the shell's own is in PWD.
        scenarios = os.path.join(os.environ.get('PWD', ''), scenarios)
    loaded = room.synthetic_scenarios(True, seed=seed) if made else room.load_scenarios(scenarios)
    chosen = [s for s in room.judged(loaded) if s.state and not s.open_ended]
    if not chosen:
        raise UserError(f'{scenarios}: no multiple-choice scenario of known state to judge')
    own = [room.load_template(template)] if template else []
    design |= dict(templates=room.shipped_templates(chosen) | {made.name: made for made in own})
    questions = room.plan_questions(chosen, limit=cases, seed=seed, **design)
    samples = []
    for number, question in enumerate(questions):
        case, shown = chosen[question.scenario], question.task
        about = dict(number=number, scenario=case.id, place=question.scenario, arm=question.arm)
        about |= dict(subject=case.subject, truth=case.state, source=case.source)
        sent = [ChatMessageSystem(content=shown.system), ChatMessageUser(content=shown.user)]
        samples.append(Sample(input=sent, target=case.state, id=f'{number:06d}', metadata=about))
    return Task(
        dataset=MemoryDataset(samples, name='emotion'),
        solver=generate(),
        scorer=choice(questions),
        metrics=[paired(bootstrap, seed)],
        config=GenerateConfig(temperature=0.0, seed=seed),
        name='emotion',
    )


@scorer(metrics=[], name='choice')
def choice(questions: list[Question]) -> Scorer:
    """Whether the state of the chosen option is the true one; no answer counts as not right."""

    async def score(state: TaskState, target: Target) -> Score:
        question, output = questions[state.metadata['number']], state.output
        message = output.message.content if output.choices else ''
        parts = [] if isinstance(message, str) else message
        thoughts = '\n'.join(p.reasoning for p in parts if isinstance(p, ContentReasoning))
        finish = FINISH.get(output.stop_reason, output.stop_reason or '')
        refused = finish == 'content_filter'
        reply = Reply(output.completion, refusal=refused, thoughts=thoughts, finish=finish)
        answer = room.parse_reply(reply, question.task)
        chosen = '' if answer.choice is None else question.task.states[answer.choice]
        about = dict(status=answer.status, confidence=answer.confidence)
        about['evidence'] = list(answer.evidence)
        right, said = float(chosen == target.text), chosen or answer.status
        return Score(value=right, answer=said, explanation=answer.text, metadata=about)

    return score


@metric(name='paired')
def paired(draws: int = 2000, seed: int = 0) -> Metric:
    """Accuracy of each arm and the paired gains, with intervals clustered by subject."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        shares: dict[str, dict[int, list[float]]] = {}
        subjects: dict[int, str] = {}
        for score in sorted(scores, key=lambda s: s.sample_metadata['number']):
            about = score.sample_metadata
            subjects[about['place']] = about['subject']
            of_arm = shares.setdefault(about['arm'], {})
            of_arm.setdefault(about['place'], []).append(score.score.as_float())
        # Where a run ended early, only scenarios that have every arm are comparable.
        places = [p for p in sorted(subjects) if all(p in of for of in shares.values())]
        boot = Bootstrap([subjects[p] for p in places], draws, seed)
        means = {arm: np.array([np.mean(of[p]) for p in places]) for arm, of in shares.items()}
        figures = {f'accuracy_{arm}': boot.mean(of) for arm, of in means.items()}
        for a, b in COMPARISONS:
            if a in means and b in means:
                figures[f'gain_{a}_over_{b}'] = boot.mean(means[a] - means[b])
        return {
            name + ending: math.nan if figure[key] is None else figure[key]
            for name, figure in figures.items()
            for ending, key in (('', 'value'), ('_low', 'low'), ('_high', 'high'))
        }

    return compute
