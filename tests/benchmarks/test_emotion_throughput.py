"""1,000 scenarios in three arms against an endpoint that answers in 200 ms.

``pytest tests/benchmarks --benchmark-only -s`` prints the time over the least that is possible,
ceil(requests / concurrency) x 0.2 s. Where nothing is timed a short one runs.
"""

import math

import pytest

from mg_plugins.emotion.ask import ask_all
from mg_plugins.emotion.cache import Cache
from mg_plugins.emotion.judges import make_judge
from mg_plugins.emotion.scenarios import Gesture, Scenario
from mg_plugins.emotion.tasks import ANSWERED, render

import fake_server

CONCURRENCY, LATENCY = 32, 0.2


def make_tasks(scenarios):
    tasks = []
    for i in range(scenarios):
        shown = [
            [Gesture(name, 3.0 * j, 3.0 * j + 1, 0.8) for j in range(20)]
            for name in ('rub hand', 'fold arm')
        ]
        scenario = Scenario(
            id=str(i),
            subject=f'p{i % 20}',
            session=str(i),
            domain='post_match',
            source='benchmark',
            context=f'It is match {i}. ' + 'We did what we could, and it was a long day. ' * 10,
            gestures=tuple(shown[0]),
            question='Did the player win?',
            options=('lost', 'won'),
            states=('lose', 'win'),
            valences=(-1.0, 1.0),
        )
        tasks += [render(scenario, gestures, (0, 1)) for gestures in (None, *shown)]
    return tasks


@pytest.mark.slow
def test_throughput(benchmark, tmp_path):
    tasks = make_tasks(1000 if benchmark.enabled else 20)
    with fake_server.serve(latency=LATENCY) as server, Cache(tmp_path / 'cache') as cache:
        judge = make_judge('openai', model='fake', base_url=server.url)
        asked = benchmark.pedantic(
            ask_all,
            [judge, tasks],
            {'concurrency': CONCURRENCY, 'cache': cache, 'timeout': 30.0},
        )
        assert server.most_at_once() <= CONCURRENCY
    assert {answer.status for answer in asked.answers} == {ANSWERED}
    assert asked.calls == len(tasks)
    if benchmark.stats is not None:  # the plugin only times where it is asked to
        seconds, least = benchmark.stats.stats.min, math.ceil(len(tasks) / CONCURRENCY) * LATENCY
        benchmark.extra_info['time over the least'] = seconds / least
        print(f'\n{len(tasks)} requests in {seconds:.1f} s, {seconds / least:.2f} of the least')
