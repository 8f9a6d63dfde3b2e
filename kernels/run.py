"""Test and measure the kernels: ``python kernels/run.py --out DIR``.

Needs torch, Triton, numpy, pytest and pytest-benchmark; the package need not be installed.
"""

import argparse
import importlib.util
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Seconds for the tests of the kernels and for the benchmarks; 8 minutes in all on a GPU.
LIMITS = {'cuda': (150, 290), 'cpu': (420, 60)}
# What a benchmark that has begun may take beyond its time, a first compilation above all.
GRACE = {'cuda': 40, 'cpu': 240}
NEEDED = ('torch', 'triton', 'numpy', 'pytest', 'pytest_benchmark')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Run the tests of the kernels, then their benchmarks, and write the results\n'
        'as JSON, table and plots. On a GPU it takes under 8 minutes; without one it measures\n'
        'small shapes on the CPU and says so.',
        epilog='examples:\n'
        '  python kernels/run.py --out work_dirs/kernels\n'
        '  python kernels/run.py        # into kernels/benchmarks/results and docs\n'
        '  python kernels/run.py --plots-from kernels/benchmarks/results/cpu.json\n',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='folder for everything (default: kernels/benchmarks/results, plots in docs)',
    )
    parser.add_argument(
        '--seconds', type=float, help='time for the benchmarks (default: 290 on a GPU, 60 on a CPU)'
    )
    parser.add_argument(
        '--skip-tests', action='store_true', help='measure only; the results say so'
    )
    parser.add_argument(
        '--plots-from',
        type=Path,
        metavar='FILE',
        help='draw the plots of a JSON file beside it (or in --out), nothing else',
    )
    args = parser.parse_args(argv)
    if args.seconds is not None and not 0 < args.seconds < math.inf:
        parser.error(f'--seconds must be above 0 and finite, got {args.seconds:g}')
    return args


def run_pytest(
    folder: Path, what: str, arguments: list[str], limit: float, **environment: str
) -> tuple[int | None, str]:
    """Run pytest in a process of its own; returns its exit code, None when stopped, and output."""
    command = [sys.executable, '-m', 'pytest', '-c', str(ROOT / 'pyproject.toml')]
    command += ['--rootdir', str(ROOT), '-p', 'no:cacheprovider', '-q', *arguments]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    environment = dict(os.environ, PYTHONPATH=paths, PYTHONSAFEPATH='1', **environment)
    print(f'{what}: at most {limit:.0f} s', file=sys.stderr, flush=True)
    log, began = folder / 'log', time.monotonic()
    with log.open('wb') as file:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while child.poll() is None and time.monotonic() - began < limit:
                try:
                    child.wait(timeout=min(30, limit))
                except subprocess.TimeoutExpired:
                    dots = log.read_text(errors='replace').rstrip().rsplit('\n', 1)[-1][-60:]
                    print(f'  {time.monotonic() - began:.0f} s {dots}', file=sys.stderr, flush=True)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                code = None
            else:
                code = child.returncode
    return code, log.read_text(errors='replace')


def test(folder: Path, device: str, limit: float) -> str:
    """Run the tests of the kernels; returns what to say of them, ``passed …`` if they did."""
    arguments = [str(ROOT / 'tests' / 'kernels')]
    without = ''
    if device == 'cuda':
        # Compiling for other chips needs no GPU; machines without one do it.
        arguments += [f'--ignore-glob={ROOT}/tests/kernels/*aot*']
        without = ', without those that compile for other chips'
    if importlib.util.find_spec('xdist'):
        # sched_getaffinity where there is one: a container may allow fewer than there are.
        allowed = getattr(os, 'sched_getaffinity', None)
        cores = len(allowed(0)) if allowed else os.cpu_count() or 1
        arguments += ['-n', str(min(8, cores))]
    code, output = run_pytest(folder, 'tests of the kernels', arguments, limit)
    if code is None:
        return f'not finished in {limit:.0f} s{without}'
    counts = re.findall(r'\d+ (?:passed|failed|errors?|skipped)', output.strip().split('\n')[-1])
    if code == 0:
        return f'passed ({", ".join(counts)}){without}'
    print(output[-6000:], file=sys.stderr)
    return f'failed ({", ".join(counts) or f"exit code {code}"}){without}'


def measure(folder: Path, device: str, seconds: float) -> dict:
    """Run the benchmarks; returns their record, also of a run that had to be stopped."""
    from mg_plugins.kernels.benchmarks import results

    out = folder / 'results'
    code, output = run_pytest(
        folder,
        'benchmarks',
        [str(ROOT / 'kernels' / 'benchmarks'), '-p', 'no:timeout', '--tb=short'],
        seconds + GRACE[device],
        MG_BENCHMARKS_OUT=str(out),
        MG_BENCHMARKS_BUDGET=str(seconds),
    )
    files = list(out.glob('*.json'))
    if code or not files:
        print(output[-6000:], file=sys.stderr)
    if not files:
        raise RuntimeError('the benchmarks left no results; their output is above')
    record = results.read(files[0])
    if code is None:
        record['left_out'].append('what came after: the benchmarks were stopped')
    elif code:
        record['failed'].append('at least one benchmark failed; see the output of the run')
    return record


def publish(record: dict, out: Path, docs: Path) -> None:
    """Write JSON, table and plots; each file appears whole or not at all."""
    from mg_plugins.kernels.benchmarks import bars, plots, results

    text = bars.report(record)
    name = results.name(record)
    results.write(out / f'{name}.json', results.dumps(record))
    results.write(out / f'{name}.md', f'# Speed of the kernels: {name}\n\n{text}')
    print(text)
    files = [out / f'{name}.json', out / f'{name}.md']
    try:
        files += plots.draw(record, docs)
    except ModuleNotFoundError as error:
        print(f'no plots: {error}', file=sys.stderr)
    print('Written: ' + ', '.join(map(str, files)))


def main() -> None:
    """Run the command."""
    args = parse_args()
    # Ends the processes that it started, too, and leaves nothing behind.
    for name in ('SIGTERM', 'SIGHUP'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: sys.exit('error: stopped'))
    out = args.out or ROOT / 'kernels' / 'benchmarks' / 'results'
    docs = args.out or ROOT / 'docs'
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing and not args.plots_from:
        sys.exit(
            f'error: {", ".join(missing)} not installed: '
            'pip install -c constraints.txt -e ".[triton,test]"'
        )
    folder = Path(tempfile.mkdtemp(prefix='mg_kernels_'))
    # A script's own folder comes first on the path, but its modules are no top-level ones.
    elsewhere = (p for p in sys.path if Path(p or '.').resolve() != ROOT / 'kernels')
    sys.path[:] = [str(ROOT), *elsewhere]
    try:
        from mg_plugins.kernels.benchmarks import plots, results

        if args.plots_from:
            beside = args.plots_from.resolve().parent
            beside = args.out or (docs if beside == results.FOLDER else beside)
            files = plots.draw(results.read(args.plots_from), beside)
            print('Written: ' + ', '.join(map(str, files)))
            return
        for place in {out, docs}:  # before minutes are spent on what could not be written
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        import torch

        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        test_seconds, seconds = LIMITS[device]
        correctness = None if args.skip_tests else test(folder, device, test_seconds)
        record = measure(folder, device, args.seconds or seconds)
        record['correctness'] = correctness
        publish(record, out, docs)
        if correctness and not correctness.startswith('passed'):
            hint = '; --skip-tests measures only' if 'not finished' in correctness else ''
            sys.exit(f'error: tests of the kernels: {correctness}{hint}')
        if not record['complete']:
            sys.exit(
                'error: the benchmarks did not come to their end; the files hold what they did'
            )
    except (OSError, ModuleNotFoundError, RuntimeError, ValueError) as error:
        sys.exit(f'error: {error}')
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    main()
