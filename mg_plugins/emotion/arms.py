"""The arms of an evaluation: without gestures, with them, and, as a placebo, with another's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mg_plugins.errors import UserError

from .build import Template
from .judges.lexicon import Prior, fit_prior
from .scenarios import Scenario
from .tasks import Task, render

WITHOUT, WITH, PLACEBO = ARMS = ('without', 'with', 'placebo')
MOST_ROTATIONS = 3
ENOUGH_TO_FIT = 20  # labelled training scenarios

# What an exchange of timelines avoids, from the worst (LENGTH: the whole range); chance adds < 1.
OWN, OTHER_DOMAIN, SAME_SUBJECT, AGAIN, LENGTH = 1e12, 1e8, 1e4, 1e2, 3.0


@dataclass(frozen=True)
class Question:
    """One question, and where it stands in the evaluation."""

    scenario: int  # index
    arm: str
    draw: int  # number of the exchange of timelines
    rotation: int  # of the options
    gestures_of: int | None  # index of the scenario whose timeline is shown
    task: Task


@dataclass(frozen=True)
class Design:
    """What is asked, and how its figures are made."""

    arms: Sequence[str] = ARMS  # those wanted of ``ARMS``
    derangements: int = 3  # exchanges of timelines in the placebo
    seed: int = 0  # of everything random
    limit: int | None = None  # judge so many, by chance; the placebo still exchanges among all
    bootstrap: int = 2000  # how often subjects are drawn for intervals
    baselines: bool = True  # whether to fit the learned baselines on the training scenarios

    def __post_init__(self) -> None:
        if not self.arms or not set(self.arms) <= set(ARMS):
            raise ValueError(f'arms {list(self.arms)}: some of {", ".join(ARMS)} were expected')
        if self.derangements < 1 or (self.limit is not None and self.limit < 1):
            numbers = f'derangements {self.derangements} and limit {self.limit}'
            raise ValueError(f'{numbers}: at least 1 was expected')


def plan_questions(
    scenarios: Sequence[Scenario], *, templates: Mapping[str, Template] | None = None, **design: Any
) -> list[Question]:
    """Every question of an evaluation, scenario by scenario; ``design`` are fields of `Design`.

    All arms of a scenario stand together, so that a budget that ends early leaves whole scenarios.
    """
    plan = Design(**design)
    exchanged = derange(scenarios, plan.derangements, plan.seed) if PLACEBO in plan.arms else []
    chosen = np.random.default_rng(plan.seed).permutation(len(scenarios))[: plan.limit]
    questions = []
    for i in sorted(chosen.tolist()):
        scenario = scenarios[i]
        sources = {WITHOUT: [None], WITH: [i], PLACEBO: [int(draw[i]) for draw in exchanged]}
        orders = rotate(len(scenario.states))[: 1 if scenario.open_ended else None]
        template = (templates or {}).get(scenario.domain)
        for arm in (arm for arm in ARMS if arm in plan.arms):
            for draw, source in enumerate(sources[arm]):
                gestures = None if source is None else scenarios[source].gestures
                for rotation, order in enumerate(orders):
                    task = render(scenario, gestures, order, template)
                    questions.append(Question(i, arm, draw, rotation, source, task))
    return questions


def rotate(options: int) -> list[tuple[int, ...]]:
    """Up to three rotations of so many options, evenly spread: liking a position gains nothing."""
    rotations = min(MOST_ROTATIONS, options)
    shifts = [r * options // rotations for r in range(rotations)]
    return [tuple((i + shift) % options for i in range(options)) for shift in shifts]


def derange(scenarios: Sequence[Scenario], number: int, seed: int = 0) -> list[np.ndarray]:
    """Permutations p (n,) in which scenario i is shown the timeline of p[i], none of its session.

    Each is the cheapest assignment: within domain and split, not to the own subject or a pair of an
    earlier exchange, numbers of gestures alike (what the mere number says stays in the placebo),
    chance breaking ties. Time and memory grow with n²: a second and 100 MB for 2,000 scenarios.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.stats import rankdata

    n = len(scenarios)
    cost = OTHER_DOMAIN * ~_same((s.domain, s.split) for s in scenarios)
    cost += SAME_SUBJECT * _same(s.subject for s in scenarios)
    # As ranks: a session with very many gestures would otherwise rule the whole assignment.
    ranks = rankdata([len(s.gestures) for s in scenarios]) / n
    cost += LENGTH * abs(ranks[:, None] - ranks)
    cost[_same(s.session for s in scenarios)] = OWN  # the diagonal too
    random = np.random.default_rng((seed, n))
    draws = []
    for _ in range(number):
        rows, columns = linear_sum_assignment(cost + random.random((n, n)))
        if (cost[rows, columns] >= OWN).any():
            why = f'shows other sessions, and one has more than half of the {n} scenarios'
            raise UserError(f'the placebo {why}: give more, or leave it out (--arms without with)')
        cost[rows, columns] += AGAIN
        draws.append(columns)
    return draws


def _same(keys: Iterable[object]) -> np.ndarray:
    """(n, n) whether two scenarios share a key."""
    codes = np.unique([repr(key) for key in keys], return_inverse=True)[1]
    return codes[:, None] == codes


def judged(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those that judges are asked about: all but the ones of split ``'train'``."""
    return [s for s in scenarios if s.split != 'train']


def for_fitting(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those of split ``'train'`` whose state is known and whose session is not judged."""
    sessions = {s.session for s in judged(scenarios)}
    return [s for s in scenarios if s.split == 'train' and s.state and s.session not in sessions]


def choose_prior(scenarios: Sequence[Scenario], wish: str | None = None) -> Prior:
    """The lexicon judge's prior, ``'fitted'`` (by default to 20 or more) or ``'documented'``."""
    train = for_fitting(scenarios)
    enough = len(train) >= ENOUGH_TO_FIT if wish is None else wish == 'fitted'
    return fit_prior(train) if enough else Prior.documented()


def previews(
    scenarios: Sequence[Scenario], wanted: str = '', **design: Any
) -> list[tuple[str, Task]]:
    """Titles and tasks of one scenario (the first by default), as `plan_questions` makes them."""
    cases = judged(scenarios)
    ids = [case.id for case in cases]
    if not cases or (wanted and wanted not in ids):
        such = f'there are {len(ids)}, such as {", ".join(ids[:3])}'
        raise UserError(f'no scenario {wanted!r} would be judged; {such}')
    place = ids.index(wanted) if wanted else 0
    shown: dict[tuple[str, str], tuple[str, Task]] = {}
    for q in plan_questions(cases, **design):
        if q.scenario == place:
            exchange = f', exchange {q.draw + 1}' if q.arm == PLACEBO else ''
            order = f', order {q.rotation + 1} of the options' if q.task.options else ''
            title = f'{cases[place].id}, {q.arm}{exchange}{order}'
            shown.setdefault((q.task.system, q.task.user), (title, q.task))
    return list(shown.values())
