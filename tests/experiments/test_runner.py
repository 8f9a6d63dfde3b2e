"""The runner with runs that take no time: resuming, failing, being killed, and saved results."""

import argparse
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import toy_runs

from mg_plugins.errors import UserError
from mg_plugins.experiments.report import Style, run_and_report, write_report
from mg_plugins.experiments.runner import MOST_FAILURES, Plan, execute
from mg_plugins.files import InUse, locked, read_json

from paths import HELPERS, ROOT


def times(plan):
    """How often each run was done."""
    notes = [plan.folder / run.path / 'times' for run in plan.runs()]
    return [len(note.read_text()) if note.is_file() else 0 for note in notes]


def test_what_is_done_is_not_done_again_and_failures_are_told(tmp_path):
    good = toy_runs.runs(dict(a=5), 2)
    bad = toy_runs.runs(dict.fromkeys('bcdef', 5), 1, fails=True)
    toy_runs.do(Plan(tmp_path, good[:1]))
    plan = Plan(tmp_path, [*good, *bad])
    failed = execute(plan)
    # With failures of some rows the rest is not tried.
    assert [run.name for run in failed] == ['b', 'c', 'd'] and len(failed) == MOST_FAILURES
    assert times(plan) == [1, 1, 1, 1, 1, 0, 0]
    assert failed[bad[0]] == plan.failure(bad[0]) == 'ValueError: b cannot be'
    assert (tmp_path / good[1].path / 'output.txt').read_text() == 'a says something\n'
    assert 'Traceback' in (tmp_path / bad[0].path / 'output.txt').read_text()
    text = write_report(plan, Style(), {})
    assert '| b | – | 0, 1 run missing, failed: ValueError: b cannot be |' in text
    assert plan.failure(good[0]) == '' and '| a | 50.00 ± 0.00 | 2 |' in text


def test_no_time_starts_nothing(tmp_path):
    plan = Plan(tmp_path, toy_runs.runs(dict(a=5)))
    assert execute(plan, budget=0) == {} and sum(times(plan)) == 0
    text = write_report(plan, Style(), {})
    assert 'Run: 0 of 3 runs.' in text and 'No run is finished yet.' in text
    assert '| a | 0, 3 runs missing |' in text


def test_a_process_that_ends_by_itself_is_told(tmp_path):
    plan = Plan(tmp_path, toy_runs.runs(dict(a=5), 1, dies=True))
    with pytest.raises(UserError, match=r'ended by itself during .*a/test/s0 .*output.txt'):
        execute(plan)


def test_a_folder_of_another_version_is_refused(tmp_path):
    toy_runs.do(Plan(tmp_path, toy_runs.runs(dict(a=5), 1)))
    other = Plan(tmp_path, toy_runs.runs(dict(a=6), 1))
    with pytest.raises(UserError, match=r'a/test/s0 holds a run of another version .*--out'):
        execute(other)
    with pytest.raises(UserError, match='another version'):
        write_report(other, Style(), {})


def test_a_damaged_outcome_is_named(tmp_path):
    plan = Plan(tmp_path, toy_runs.runs(dict(a=5), 1))
    toy_runs.do(plan)
    (tmp_path / 'a/test/s0/outcome.json').write_text('{"clips": ')
    with pytest.raises(UserError, match='outcome.json is not JSON'):
        write_report(Plan(tmp_path, plan.planned), Style(), {})


def test_saved_results_take_the_place_of_runs(tmp_path):
    first = Plan(tmp_path / 'first', toy_runs.runs(dict(a=5, b=8), 2, 'a'))
    toy_runs.do(first)
    write_report(first, Style(), {})
    saved = read_json(tmp_path / 'first/results.json')
    more = Plan(tmp_path / 'more', toy_runs.runs(dict(a=5, b=8), 3, 'a'), saved)
    toy_runs.do(more)
    assert times(more) == [0, 0, 0, 0, 1, 1]
    write_report(more, Style(), {})
    (table,) = read_json(tmp_path / 'more/results.json')['tables']
    assert [row['seeds'] for row in table['rows']] == [[0, 1, 2]] * 2
    assert table['rows'][1]['sums']['top1'] == [[8.0, 8.0]] * 3
    other = Plan(tmp_path / 'more', toy_runs.runs(dict(a=4, b=8), 2, 'a'), saved)
    with pytest.raises(UserError, match="saved results of 'a' are of another version"):
        execute(other)


def test_a_folder_in_use_is_refused_with_the_process_named(tmp_path):
    args = argparse.Namespace(jobs=1, budget_minutes=0, report_only=True, leave_out=[])
    plan = Plan(tmp_path, toy_runs.runs(dict(a=5)))
    with locked(tmp_path), pytest.raises(InUse, match=rf'in use by process {os.getpid()} '):
        run_and_report(plan, args, Style())
    assert not (tmp_path / 'table.md').exists()


def alive(mark):
    """Processes that have a mark in their environment."""
    found = []
    for path in Path('/proc').glob('[0-9]*'):
        try:
            if mark.encode() in (path / 'environ').read_bytes() and (path / 'cmdline').read_bytes():
                found.append(int(path.name))
        except OSError:
            pass
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='processes are found by /proc')
def test_killed_commands_leave_no_process_and_go_on(tmp_path):
    """All at once, as each needs seconds to start; one is stopped when it is told to end."""
    stop, end, go_on = signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT
    paths = os.pathsep.join(map(str, (HELPERS, ROOT)))
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until, started = tmp_path / 'go', {}
    for numbers in ([end], [stop, end, go_on], [signal.SIGINT], [signal.SIGKILL]):
        name = '_'.join(number.name for number in numbers)
        mark = f'MG_TEST_MARK={uuid.uuid4().hex}'
        start = dict(env=os.environ | dict([mark.split('=')], PYTHONPATH=paths), **pipes)
        command = [sys.executable, HELPERS / 'toy_runs.py', tmp_path / name, until]
        started[name] = numbers, mark, command, start, subprocess.Popen(command, **start)
    for name, (numbers, mark, command, start, process) in started.items():
        for _ in range(2400):
            if list(tmp_path.glob(f'{name}/*/*/*/started')) or process.poll() is not None:
                break
            time.sleep(0.05)
        # The command, its run, and what that one started.
        assert len(alive(mark)) >= 3
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.2)
        said = process.communicate(timeout=60)[0]
        end = time.monotonic() + 5
        while alive(mark) and time.monotonic() < end:
            time.sleep(0.05)
        assert alive(mark) == []
        if name != 'SIGKILL':
            assert process.returncode == 130 and 'The same command goes on.' in said
            assert 'Traceback' not in said
            continue
        until.touch()
        done = subprocess.run(command, **start, timeout=280)
        assert done.returncode == 0 and '| a | 50.00 |' in done.stdout
