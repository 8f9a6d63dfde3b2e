"""Runs that take no time, for tests of the runner; as a command: a plan that takes its time."""

import gc
import os
import sys
import time
from pathlib import Path

from mg_plugins.experiments.plan import Run
from mg_plugins.experiments.runner import Plan, _work
from mg_plugins.files import write_json

SUBJECTS = ('2', '4')


def answer(run, folder):
    """The first ``right`` clips of every subject are right; notes each time that it runs."""
    with (folder / 'times').open('a') as file:
        file.write('x')
    print(f'{run.name} says something')
    options = dict(right=5, clips=10, subjects=SUBJECTS) | dict(run.options)
    if options.get('fails'):
        raise ValueError(f'{run.name} cannot be')
    if options.get('dies'):
        os._exit(3)
    scores = [float(i < options['right']) for _ in options['subjects'] for i in range(10)]
    return dict(
        clips=[f'{s}_{i}' for s in options['subjects'] for i in range(options['clips'])],
        subjects=[s for s in options['subjects'] for _ in range(options['clips'])],
        scores={measure: scores for measure in options.get('measures', ('top1',))},
    )


def sleep(run, folder):
    """Starts a process of its own, as data loading does, and waits until a file is there."""
    import multiprocessing

    context = multiprocessing.get_context('fork')
    context.Process(target=time.sleep, args=(600,), daemon=True).start()
    (folder / 'started').touch()
    while not Path(run.options['until']).exists():
        time.sleep(0.05)
    return answer(run, folder)


def runs(right, seeds=3, base='', task=answer, **options):
    """Runs of rows by how many of each subject's ten clips are right, seed by seed."""
    return [
        Run(
            name,
            seed,
            dict(model=dict()),
            task,
            base='' if name == base else base,
            options=dict(options, right=count),
        )
        for seed in range(seeds)
        for name, count in right.items()
    ]


def do(plan):
    """Do in this process what is not done, as the runner's processes do it."""
    gc.freeze()  # what is there already need not be looked through after every run
    for run in plan.runs():
        if not plan.done(run):
            folder = plan.folder / run.path
            write_json(folder / 'run.json', dict(name=run.name, fingerprint=run.fingerprint))
            assert not _work(run, folder)


def main():
    """``toy_runs.py FOLDER FILE``: a run that ends once FILE is there."""
    import argparse

    from mg_plugins.experiments.report import Style, run_and_report

    folder, until = map(Path, sys.argv[1:])
    plan = Plan(folder, runs(dict(a=5), 1, task=sleep, until=str(until)))
    args = argparse.Namespace(jobs=1, budget_minutes=None, report_only=False, leave_out=[])
    return run_and_report(plan, args, Style())


if __name__ == '__main__':
    from paths import ROOT

    sys.path.insert(0, str(ROOT / 'tools'))
    import options

    options.run(main, 'The same command goes on.')
