"""The Inspect task: the same figures as ours on the same replies, and a log that opens."""

import pytest

inspect_ai = pytest.importorskip('inspect_ai', reason='extra [inspect] is not installed')
pytest.importorskip('openai', reason='the provider of the test needs openai')

from mg_plugins.emotion import (  # noqa: E402
    evaluate,
    make_judge,
    save_scenarios,
    synthetic_scenarios,
)
from mg_plugins.emotion.arms import judged  # noqa: E402
from mg_plugins.errors import UserError  # noqa: E402

from fake_server import serve  # noqa: E402

DESIGN = {'seed': 3, 'bootstrap': 200, 'derangements': 2}


@pytest.mark.slow
def test_the_task_gives_the_figures_of_the_tool(tmp_path, monkeypatch):
    from inspect_ai.log import read_eval_log
    from inspect_ai.model import get_model

    from mg_plugins.emotion import ask
    from mg_plugins.emotion.inspect_task import emotion

    monkeypatch.setenv('INSPECT_DISPLAY', 'none')
    monkeypatch.setattr(ask, 'REASK', 0)
    cases = judged(synthetic_scenarios(True, subjects=9, sessions=2, clips=150))
    save_scenarios(tmp_path / 's.jsonl', cases)
    faults = {'rambling': 0.1, 'refusal text': 0.1}
    with serve(faults=faults, seed=5) as server:
        judge = make_judge('openai', model='fake', base_url=server.url, seed=3)
        ours = evaluate(cases, judge, name='x', baselines=False, **DESIGN).metrics
    # The server's answers depend on the messages; a seed of the request changes its faults.
    with serve(faults=faults, seed=5) as server:
        model = get_model(
            'openai/fake', base_url=server.url, api_key='none', memoize=False, responses_api=False
        )
        (log,) = inspect_ai.eval(
            emotion(str(tmp_path / 's.jsonl'), **DESIGN),
            model=model,
            log_dir=str(tmp_path),
            display='none',
        )
    assert log.status == 'success', log.error
    (scores,) = log.results.scores
    theirs = {name: metric.value for name, metric in scores.metrics.items()}
    wanted = {}
    for arm, figures in ours['arms'].items():
        wanted[f'accuracy_{arm}'] = figures['accuracy']
    for pair, comparison in ours['comparisons'].items():
        first, second = pair.split(' - ')
        wanted[f'gain_{first}_over_{second}'] = comparison['gain']
    for name, figure in wanted.items():
        found = [theirs[name], theirs[f'{name}_low'], theirs[f'{name}_high']]
        assert found == pytest.approx(list(figure.values())), name
    assert ours['arms']['with']['unreadable'] and ours['arms']['with']['refused']
    again = read_eval_log(log.location)
    assert len(again.samples) == sum(arm['asked'] for arm in ours['arms'].values())
    statuses = {sample.scores['choice'].metadata['status'] for sample in again.samples}
    assert statuses == {'answered', 'refused', 'unreadable'}


def test_a_path_is_that_of_the_shell(tmp_path, monkeypatch):
    """Inspect makes a task in the folder of its file, wherever the command was given."""
    from mg_plugins.emotion.inspect_task import emotion

    cases = judged(synthetic_scenarios(True, subjects=6, sessions=1, clips=60))
    save_scenarios(tmp_path / 'mine.jsonl', cases)
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    monkeypatch.setenv('PWD', str(tmp_path))
    assert len(emotion('mine.jsonl', derangements=1).dataset) >= 3 * len(cases)
    with pytest.raises(UserError, match=r'yours\.jsonl'):
        emotion('yours.jsonl')
