"""Run the tests of the kernels, then their benchmarks and train steps; write the results as JSON,
table and picture and print which aims are met.

Needs torch, Triton, numpy, filelock, pytest and pytest-benchmark; the package need not be
installed. Without a GPU it runs whole on the CPU, at small shapes, and says so.

examples:
  python kernels/run.py --out work_dirs/kernels
  python kernels/run.py --from work_dirs/kernels/cpu.json
"""

import argparse
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ('torch', 'triton', 'numpy', 'filelock', 'pytest', 'pytest_benchmark')
# Seconds at most: tests of the kernels, train steps, comparisons. Under 8 minutes on a GPU.
LIMITS = {'cuda': (150, 90, 200), 'cpu': (1800, 300, 180)}
ROUNDS = 60  # turns of each contender on a CPU


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    default = ROOT / 'kernels' / 'benchmarks' / 'results'
    add('--out', type=Path, default=default, help='folder for the results')
    add('--seconds', type=float, help='time for the comparisons')
    add('--skip-tests', action='store_true', help='measure only')
    what = 'write table and picture of a JSON file beside it, nothing else'
    add('--from', dest='source', type=Path, metavar='FILE', help=what)
    args = parser.parse_args()
    if args.seconds is not None and not 0 < args.seconds < math.inf:
        parser.error(f'--seconds must be above 0 and finite, got {args.seconds:g}')
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing and not args.source:
        advice = 'pip install -c constraints.txt -e ".[triton,test]"'
        sys.exit(f'error: {", ".join(missing)} not installed: {advice}')
    return args


def run_pytest(
    what: str, arguments: list[str], limit: float, workers: int
) -> tuple[int | None, str]:
    """Run pytest in a process of its own; its exit code, None when stopped, and its output."""
    command = [sys.executable, '-m', 'pytest', '-c', str(ROOT / 'pyproject.toml')]
    command += ['--rootdir', str(ROOT), '-p', 'no:cacheprovider', '-q', *arguments]
    command += ['-n', str(workers)] if importlib.util.find_spec('xdist') else []
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    print(f'{what}: at most {limit:.0f} s', file=sys.stderr, flush=True)
    with tempfile.TemporaryFile('w+', errors='replace') as log:
        child = subprocess.Popen(
            command, cwd=ROOT, env=dict(os.environ, PYTHONPATH=paths, PYTHONSAFEPATH='1'),
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        log.seek(0)
        return code, log.read()


def test(device: str, limit: float) -> str:
    """Run the tests of the kernels; what to say of them, ``passed …`` if they did."""
    arguments, without = [str(ROOT / 'tests' / 'kernels')], ''
    if device == 'cuda':
        # Compiling for other chips needs no GPU; machines without one do it.
        arguments += [f'--ignore-glob={ROOT}/tests/kernels/*aot*']
        without = ', without those that compile for other chips'
    workers = min(8, len(os.sched_getaffinity(0)))
    code, output = run_pytest('tests of the kernels', arguments, limit, workers)
    if code is None:
        return f'not finished in {limit:.0f} s{without}'
    counts = re.findall(r'\d+ (?:passed|failed|errors?|skipped)', output.strip().split('\n')[-1])
    if code:
        print(output[-6000:], file=sys.stderr)
    verdict = 'failed' if code else 'passed'
    return f'{verdict} ({", ".join(counts) or f"exit code {code}"}){without}'


def steps(record: dict, limit: float) -> None:
    """Measure the train step of the fused ST-GCN against the plain one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'steps.json')
        arguments = [str(ROOT / 'tests' / 'benchmarks' / 'test_step_time.py'), '--benchmark-only']
        arguments += [f'--benchmark-json={file}']
        code, output = run_pytest('train steps', arguments, limit, 0)
        if code != 0:
            record['failed'].append('train steps: stopped' if code is None else output[-400:])
            return
        for benchmark in json.loads(file.read_text())['benchmarks']:
            record['rows'] += benchmark['extra_info']['rows']


def comparisons(record: dict, seconds: float) -> None:
    """Measure everything of the plan that the time suffices for."""
    import torch

    from mg_plugins.kernels.benchmarks import cases

    device = torch.device(record['machine']['kind'])
    record['rates'] = cases.rates(device)
    began = time.monotonic()
    for what in cases.plan(device.type == 'cuda'):
        if time.monotonic() - began > seconds:
            record['left_out'].append(f'{what} (the time was over)')
            continue
        print(f'  {time.monotonic() - began:4.0f} s  {what}', file=sys.stderr, flush=True)
        found = cases.compare(what, device, ROUNDS)
        record['rows'] += found['rows']
        record['failed'] += found['failed']


def publish(record: dict, out: Path) -> None:
    """Write JSON, table and picture, and print the table with the aims."""
    from mg_plugins.files import write_json, write_text
    from mg_plugins.kernels.benchmarks import results

    name, text = results.file_name(record), results.report(record)
    write_json(out / f'{name}.json', record)
    write_text(out / f'{name}.md', f'# Speed of the kernels: {name}\n\n{text}')
    print(text)
    if importlib.util.find_spec('matplotlib'):
        results.draw(record, out / f'{name}.png')
    else:
        print('no picture: pip install matplotlib, then --from FILE', file=sys.stderr)
    print(f'Written to {out}: {name}.json and what is drawn from it')


def main() -> None:
    """Run the command."""
    args = parse_args()
    # A script's own folder comes first on the path, but its modules are no top-level ones.
    elsewhere = (p for p in sys.path if Path(p or '.').resolve() != ROOT / 'kernels')
    sys.path[:] = [str(ROOT), *elsewhere]
    try:
        from mg_plugins.kernels.benchmarks import results

        if args.source:
            publish(results.read(args.source), args.source.resolve().parent)
            return
        args.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=args.out).close()  # before minutes are spent
        import torch

        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        for_tests, for_steps, seconds = LIMITS[device]
        record = results.empty(device)
        if not args.skip_tests:
            record['correctness'] = test(device, for_tests)
        comparisons(record, args.seconds or seconds)
        steps(record, for_steps)
        publish(record, args.out)
    except (OSError, ModuleNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    if record['correctness'].startswith(('failed', 'not finished')):
        sys.exit(f'error: tests of the kernels: {record["correctness"]}')


if __name__ == '__main__':
    main()
