"""Sets of scenarios: what is judged, what is fitted to, and what would be sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .scenarios import Scenario, ScenarioError, load_scenarios
from .tasks import Task
from .template import Template, load_template, template_names

if TYPE_CHECKING:
    from .judges.lexicon import Prior

ENOUGH_TO_FIT = 20  # labelled training scenarios


def judged(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those that judges are asked about: all but the ones for fitting."""
    return [s for s in scenarios if s.split != 'train']


def for_fitting(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those of split ``'train'`` whose state is known and whose session is not judged."""
    sessions = {s.session for s in judged(scenarios)}
    return [s for s in scenarios if s.split == 'train' and s.state and s.session not in sessions]


def split_by_kind(scenarios: Sequence[Scenario], name: str) -> dict[str, list[Scenario]]:
    """Multiple choice and open-ended apart, named so where there are both."""
    choice = [s for s in scenarios if not s.open_ended]
    free = [s for s in scenarios if s.open_ended]
    if choice and free:
        return {f'{name}, multiple choice': choice, f'{name}, open-ended': free}
    return {name: list(scenarios)}


def choose_prior(scenarios: Sequence[Scenario], wish: str | None = None) -> Prior:
    """The lexicon judge's prior for a set.

    ``wish`` is ``'fitted'`` (to its labelled training scenarios, the default where there are 20),
    ``'documented'`` (else the default), or a scenarios file to fit to; of that, scenarios of
    sessions or subjects that are judged are left out.
    """
    from .judges.lexicon import Prior, fit_prior

    train = for_fitting(scenarios)
    if wish == 'documented' or wish is None and len(train) < ENOUGH_TO_FIT:
        return Prior.documented()
    if wish in ('fitted', None):
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
    """What would be sent for one scenario (the first judged by default), as titles and tasks.

    The whole set is needed, since the placebo exchanges timelines; ``design`` are arguments of
    `arms.plan_questions`.
    """
    from .arms import PLACEBO, plan_questions

    cases = judged(scenarios)
    ids = [case.id for case in cases]
    if not cases or (wanted and wanted not in ids):
        raise ScenarioError(
            f'no scenario {wanted!r} would be judged; there are {len(ids)}, such as '
            f'{", ".join(ids[:3])}'
        )
    place = ids.index(wanted) if wanted else 0
    shown: dict[tuple[str, str], tuple[str, Task]] = {}
    for q in plan_questions(cases, **design):
        if q.scenario == place:
            exchange = f', exchange {q.draw + 1}' if q.arm == PLACEBO else ''
            order = f', order {q.rotation + 1} of the options' if q.task.options else ''
            title = f'{cases[place].id}, {q.arm}{exchange}{order}'
            shown.setdefault((q.task.system, q.task.user), (title, q.task))
    return list(shown.values())


def shipped_templates(scenarios: Sequence[Scenario]) -> dict[str, Template]:
    """The package's own templates that these scenarios were built with, by domain."""
    names = {s.domain for s in scenarios} & set(template_names())
    return {name: load_template(name) for name in sorted(names)}
