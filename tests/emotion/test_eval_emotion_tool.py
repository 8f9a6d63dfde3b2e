"""The command line: the embedded run as a user starts it, and real HTTP with faults."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from tools_here import tool

from mg_plugins.emotion import ask
from mg_plugins.emotion.build import synthetic_scenarios
from mg_plugins.emotion.scenarios import save_scenarios

from fake_server import serve
from paths import ROOT

FAULTS = {'500': 0.08, 'drop': 0.07, '429': 0.05, 'truncated body': 0.05, 'broken body': 0.05}
REMOTE = ('--judge', 'openai', '--base-url', 'http://192.0.2.1/v1')
ARMS = ('without', 'with', 'placebo')


@pytest.fixture(scope='module')
def main():
    """The tool's ``main``, in this process (importing the package again costs seconds)."""
    return lambda *arguments: tool('eval_emotion')(arguments)


@pytest.fixture(scope='module')
def scenarios(tmp_path_factory):
    """20 scenarios to judge, of 10 subjects."""
    path = tmp_path_factory.mktemp('emotion') / 'small.jsonl'
    made = synthetic_scenarios(True, subjects=30, sessions=2, clips=400)
    save_scenarios(path, made)
    return path


def read(folder):
    return json.loads((folder / 'metrics.json').read_text())['evaluations']


def records(folder):
    return [json.loads(line) for line in (folder / 'answers.jsonl').read_text().splitlines()]


def endpoint(server, *more):
    return ('--judge', 'openai', '--base-url', server.url, '--model', 'fake', *more)


@pytest.fixture(scope='module')
def embedded(run_tool, tmp_path_factory):
    """The first command that users run."""
    folder = tmp_path_factory.mktemp('embedded')
    done = run_tool('eval_emotion', '--scenarios', 'synthetic', '--out', 'out', cwd=folder)
    return done.stdout, folder / 'out'


@pytest.mark.slow
def test_embedded_run_says_what_it_is(embedded):
    text, folder = embedded
    assert text.count('SYNTHETIC data, lexicon judge (not a language model)') == 2
    for word in (
        'without',
        'with',
        'placebo',
        'McNemar',
        'bag of gestures',
        'majority',
    ):
        assert word in text
    assert sorted(p.name for p in folder.glob('[a-z]*.*')) == [
        'answers.jsonl', 'cache.jsonl', 'metrics.json', 'report.html',
    ]  # fmt: skip
    page = (folder / 'report.html').read_text()
    assert 'synthetic, linked' in page and 'lexicon' in page


@pytest.mark.slow
def test_embedded_run_finds_the_link_and_only_where_there_is_one(embedded):
    linked, unlinked = read(embedded[1])
    assert (linked['name'], unlinked['name']) == ('synthetic, linked', 'synthetic, unlinked')
    assert linked['source'] == unlinked['source'] == 'synthetic'
    assert linked['comparisons']['with - without']['gain']['low'] > 0
    assert linked['comparisons']['with - placebo']['gain']['low'] > 0
    assert linked['comparisons']['placebo - without']['gain']['low'] <= 0
    gain = unlinked['comparisons']['with - without']['gain']
    assert gain['low'] <= 0 <= gain['high']
    assert linked['baselines']['bag of gestures']['accuracy']['low'] > 0.5
    for metrics in (linked, unlinked):
        assert set(metrics['arms']) == set(ARMS) and not metrics['stopped']


@pytest.mark.slow
def test_second_embedded_run_asks_nothing(embedded, main, capsys):
    first = read(embedded[1])
    assert main('--scenarios', 'synthetic', '--out', embedded[1], '--no-baselines') == 0
    for before, after in zip(first, read(embedded[1]), strict=True):
        assert after['calls'] == 0 and after['arms'] == before['arms']
    assert 'Written' in capsys.readouterr().out


@pytest.mark.slow
def test_faults_lose_no_scenario_and_a_rerun_makes_no_call(main, scenarios, tmp_path):
    with serve(faults=FAULTS, retry_after=0.05, seed=4) as server:
        command = ('--scenarios', scenarios, '--out', tmp_path, '--concurrency', '64')
        command += ('--limit', '12')
        command += endpoint(server, '--timeout', '20', '--no-baselines', '--retries', '12')
        assert main(*command) == 0
        seen = server.requests()
        faulty = sum(r['behaviour'] != 'answer' for r in seen)
        assert faulty > 0.2 * len(seen) > 20
        assert server.asked_after_answer() == []
        [metrics] = read(tmp_path)
        assert metrics['calls'] == len(seen)
        for arm, orders in zip(ARMS, (2, 2, 6), strict=True):
            figures = metrics['arms'][arm]
            assert figures['asked'] == figures['answered'] == 12 * orders
        assert len(records(tmp_path)) == 120
        assert main(*command) == 0
        assert len(server.requests()) == len(seen)
    again = read(tmp_path)[0]
    assert again['calls'] == 0 and again['cached'] == 120
    assert again['arms'] == metrics['arms'] and again['comparisons'] == metrics['comparisons']


def test_nothing_but_redacted_text_and_gestures_reaches_the_endpoint(main, scenarios, tmp_path):
    with serve() as server:
        limits = ('--limit', '4', '--no-baselines', '--out', tmp_path)
        assert main('--scenarios', scenarios, *limits, *endpoint(server)) == 0
        sent = '\n'.join(r['system'] + r['user'] for r in server.requests())
    for record in records(tmp_path):
        for secret in (record['scenario'], record['subject']):
            assert secret not in sent
    assert not re.search(r'valence|\btruth\b|placebo|synthetic', sent)


def test_a_budget_stops_and_the_same_command_goes_on(main, scenarios, tmp_path, capsys):
    with serve() as server:
        command = ('--scenarios', scenarios, '--out', tmp_path, '--limit', '6', '--no-baselines')
        command += endpoint(server)
        assert main(*command, '--max-calls', '25') == 3
        assert 'The same command goes on' in capsys.readouterr().err
        first = read(tmp_path)[0]
        assert first['calls'] == 25 and first['stopped']
        assert main(*command, '--max-calls', '100') == 0
        assert read(tmp_path)[0]['calls'] == 60 - 25 == len(server.requests()) - 25
        assert server.asked_after_answer() == []


@pytest.mark.slow
def test_ctrl_c_and_going_on(main, scenarios, tmp_path):
    with serve(latency=0.1) as server:
        command = ('--scenarios', scenarios, '--out', tmp_path, '--limit', '6', '--no-baselines')
        command += endpoint(server, '--concurrency', '2')
        process = subprocess.Popen(
            [sys.executable, str(ROOT / 'tools/eval_emotion.py'), *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        until = time.monotonic() + 120
        while len(server.requests()) < 10 and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert 'stopped. The same command goes on' in said and 'Traceback' not in said
        assert not (tmp_path / 'metrics.json').exists()
        assert len(server.requests()) < 60
        assert main(*command) == 0
        # What was under way when it stopped never arrived.
        assert len(server.asked_after_answer()) <= 2
    [metrics] = read(tmp_path)
    assert metrics['cached'] >= 8 and metrics['cached'] + metrics['calls'] == 60


def test_design_options(main, scenarios, tmp_path):
    design = ('--arms', 'with', 'without', '--limit', '5', '--no-baselines')
    for prior in ('documented', 'fitted'):
        assert main('--scenarios', scenarios, *design, '--out', tmp_path, '--prior', prior) == 0
        [metrics] = read(tmp_path)
        assert metrics['judge']['prior'].startswith(prior) and metrics['cached'] == 0
        assert {k: v['asked'] for k, v in metrics['arms'].items()} == {'without': 10, 'with': 10}


def test_synthetic_show_is_what_a_run_sends(main, tmp_path, capsys):
    options = ('--scenarios', 'synthetic', '--limit', '5', '--out', tmp_path)
    assert main(*options, '--no-baselines') == 0
    sent = records(tmp_path)
    one = sent[0]['scenario']
    capsys.readouterr()
    assert main(*options, '--show', one) == 0
    shown = capsys.readouterr().out
    mine = [r for r in sent if r['scenario'] == one and r['set'] == sent[0]['set']]
    assert len(mine) == 10 and all(r['user'] in shown for r in mine)


@pytest.fixture(scope='module')
def free(tmp_path_factory):
    """20 scenarios with an open question."""
    path = tmp_path_factory.mktemp('emotion') / 'free.jsonl'
    made = synthetic_scenarios(True, subjects=30, sessions=2, clips=400, open_ended=True)
    save_scenarios(path, made)
    return path


def test_open_ended(main, free, tmp_path, capsys):
    assert main('--scenarios', free, '--limit', '5', '--out', tmp_path) == 0
    assert 'evidence' in capsys.readouterr().out
    [metrics] = read(tmp_path)
    scores, gains = metrics['open']['with'], metrics['open_comparisons']['with - without']
    assert metrics['open_ended'] and scores['evidence']['value'] > 0.5
    assert gains['evidence']['value'] > 0.5
    # Nobody is there to score them.
    assert scores['depth']['value'] is scores['completeness']['value'] is None


def test_open_ended_answers_are_sent_to_nobody_if_so_wished(main, free, tmp_path):
    design = ('--limit', '2', '--arms', 'with', 'without', '--out', tmp_path)
    with serve() as server:
        command = ('--scenarios', free, *design, *endpoint(server))
        assert main(*command, '--rubric-judge', 'none') == 0
        assert not any('Answer to grade' in r['user'] for r in server.requests())


def test_open_ended_questions_are_scored_by_the_judge_itself(main, free, tmp_path, capsys):
    design = ('--limit', '3', '--arms', 'with', 'without', '--out', tmp_path)
    with serve() as server:
        assert main('--scenarios', free, *design, *endpoint(server)) == 0
        graded = [r for r in server.requests() if 'Answer to grade' in r['user']]
    assert graded and not any('Micro-gestures' in r['user'] for r in graded)
    said = capsys.readouterr().out
    # This server knows no rubric: it says something else, which is told and not scored.
    assert 'scored by: openai: fake' in said and '6 open-ended answers got no score' in said


def test_show_prints_what_would_be_sent_and_ends(main, scenarios, tmp_path, capsys):
    assert main('--scenarios', scenarios, '--out', tmp_path / 'out', '--show') == 0
    shown = capsys.readouterr().out
    assert not (tmp_path / 'out').exists()
    assert shown.count('--- user') == 2 + 2 + 6 and 'nothing is sent anywhere' in shown
    remote = (*REMOTE, '--model', 'm')  # showing sends nothing, so it asks for no permission
    assert main('--scenarios', scenarios, '--show', *remote) == 0
    assert '"enum": ["A", "B"]' in capsys.readouterr().out
    with serve() as server:
        arguments = ('--scenarios', scenarios, '--out', tmp_path, '--no-baselines')
        assert main(*arguments, *endpoint(server)) == 0
        sent = [f'--- system\n{r["system"]}\n--- user\n{r["user"]}\n' for r in server.requests()]
    assert sum(text in shown for text in sent) >= 10


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--scenarios', 'nowhere.jsonl'), 'nowhere.jsonl'),
        (('--judge', 'openai'), 'no model was given: --model NAME'),
        (('--model', 'm'), '--model says nothing to --judge lexicon'),
        (('--judge', 'openai', '--model', 'm', '--prior', 'fitted'), '--prior says nothing'),
        (('--extra-body', '[3]'), 'argument --extra-body: [3]: a JSON object was expected'),
        (('--extra-body', '{n: 1}'), 'argument --extra-body: {n: 1}: a JSON object was expected'),
        (('--rubric-judge', 'judge'), '--rubric-judge says nothing to --judge lexicon'),
        (('--template', 'nothing.json'), "no template 'nothing.json'"),
        (('--show', 'zzz'), "no scenario 'zzz'"),
        (('--max-calls', '0'), 'argument --max-calls: at least 1 was expected, not 0'),
    ],
)
def test_errors_say_what_to_do(main, scenarios, tmp_path, capsys, arguments, message):
    start = () if '--scenarios' in arguments else ('--scenarios', scenarios)
    # argparse ends with 2, what is found later with 1
    assert main(*start, '--out', tmp_path / 'out', *arguments) in (1, 2)
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith('eval_emotion.py: ') and 'usage: ' not in said
    assert message in said and 'Traceback' not in said
    assert not (tmp_path / 'out/metrics.json').exists()


def test_a_dead_endpoint_is_an_error_and_nothing_is_written(
    main, scenarios, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(ask, 'FIRST_WAIT', 0.01)
    with serve() as server:
        server.kill()
        command = ('--scenarios', scenarios, '--out', tmp_path, '--no-baselines')
        assert main(*command, *endpoint(server)) == 1
    assert 'eval_emotion.py: no question got a reply' in capsys.readouterr().err
    assert not (tmp_path / 'metrics.json').exists()


def test_a_line_that_is_no_scenario_is_named(main, tmp_path, capsys):
    path = tmp_path / 'bad.jsonl'
    cases = synthetic_scenarios(True, subjects=4, sessions=2, clips=40)
    save_scenarios(path, [replace(c, split='test') for c in cases])
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace('"state": "', '"state": "x')
    path.write_text('\n'.join(lines))
    assert main('--scenarios', path, '--out', tmp_path) == 1
    assert 'bad.jsonl, line 3, field state' in capsys.readouterr().err


def test_wrong_usage_exits_with_2(main):
    assert main('--scenarios', 'synthetic', '--derangements', '0') == 2
