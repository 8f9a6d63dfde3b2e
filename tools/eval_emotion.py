"""Does a judge understand more when it sees micro-gestures? Three arms, paired, with intervals.

python tools/eval_emotion.py --scenarios synthetic|FILE.jsonl --out DIR [options]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

ERROR, STOPPED_EARLY, INTERRUPTED = 1, 3, 130
# Subjects, sessions of each and gestures of the synthetic sets: large enough that the link is found
# whatever the seed, small enough for one core and a minute.
SYNTHETIC = {'subjects': 60, 'sessions': 6, 'clips': 5000}
GO_ON = 'The same command goes on from here: what was answered is in the cache.'


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Ask a judge about scenarios without micro-gestures, with them, and with those '
        'of other\nscenarios (placebo), and compare the arms. Writes metrics.json, answers.jsonl '
        'and report.html.',
        epilog='examples:\n'
        '  python tools/eval_emotion.py --scenarios synthetic --out work_dirs/emotion\n'
        '  python tools/eval_emotion.py --scenarios my.jsonl --judge openai --model qwen3-8b \\\n'
        '      --base-url http://localhost:8000/v1 --out work_dirs/mine\n'
        '  python tools/eval_emotion.py --scenarios my.jsonl --show\n'
        '\nexit codes: 0 done, 1 error, 2 wrong usage, 3 stopped early (the same command goes on), '
        '130 Ctrl-C',
    )
    group = parser.add_argument_group('what is judged')
    group.add_argument(
        '--scenarios',
        required=True,
        metavar='FILE',
        help="scenarios file of tools/build_scenarios.py, or 'synthetic': sessions with and "
        'without a link between gestures and outcome',
    )
    group.add_argument('--limit', type=_positive, metavar='N', help='judge N of a set, by chance')
    group.add_argument(
        '--open-ended', action='store_true', help='synthetic: ask for free text instead of a choice'
    )
    group.add_argument(
        '--template',
        action='append',
        default=[],
        metavar='FILE',
        help='own template that scenarios were built with (for the system text and the rubric)',
    )
    group.add_argument(
        '--show',
        nargs='?',
        const='',
        metavar='ID',
        help='print exactly what would be sent for a scenario (default: the first), and end',
    )

    group = parser.add_argument_group('the judge')
    group.add_argument(
        '--judge',
        choices=('lexicon', 'openai', 'local'),
        default='lexicon',
        help='the embedded word and gesture counter (default), any OpenAI-compatible endpoint, or '
        'a transformers model on this machine',
    )
    group.add_argument('--base-url', help='openai: the endpoint, such as http://localhost:8000/v1')
    group.add_argument('--model', help='openai: its name there; local: folder or name')
    group.add_argument('--key-env', metavar='NAME', help='openai: variable that holds the key')
    group.add_argument(
        '--allow-remote', action='store_true', help='openai: the endpoint may be another machine'
    )
    group.add_argument(
        '--allow-download', action='store_true', help='local: fetch a model that is not here yet'
    )
    group.add_argument(
        '--prior',
        metavar='fitted|documented|FILE',
        help='lexicon: fit it to the training scenarios (default where 20 or more have a known '
        'state), take the documented one (default else), or fit it to another scenarios file',
    )
    group.add_argument(
        '--rubric-judge',
        metavar='keyword|judge|MODEL',
        help='who scores free text: the embedded keyword rubric (default with lexicon), the judge '
        'itself (default else), or another model of its kind and endpoint',
    )

    group = parser.add_argument_group('the design')
    group.add_argument(
        '--arms',
        nargs='+',
        choices=('without', 'with', 'placebo'),
        default=('without', 'with', 'placebo'),
        help='(default: all three)',
    )
    group.add_argument(
        '--derangements', type=_positive, default=3, help='exchanges in the placebo (default: 3)'
    )
    group.add_argument('--no-rotate', action='store_true', help='ask in one order of options only')
    group.add_argument('--samples', type=_positive, default=1, help='draws of each (default: 1)')
    group.add_argument('--seed', type=_seed, default=0, help='of everything random (default: 0)')
    group.add_argument('--no-baselines', action='store_true', help='fit no learned baselines')

    group = parser.add_argument_group('asking')
    group.add_argument('--concurrency', type=_positive, default=8, help='at a time (default: 8)')
    group.add_argument('--timeout', type=float, default=60.0, help='seconds (default: 60)')
    group.add_argument('--retries', type=int, default=6, help='after an error (default: 6)')
    group.add_argument('--max-calls', type=int, metavar='N', help='stop after so many requests')
    group.add_argument('--max-tokens', type=int, metavar='N', help='stop after so many tokens')

    group = parser.add_argument_group('output')
    group.add_argument(
        '--out', type=Path, help='folder (default: work_dirs/emotion/SCENARIOS_JUDGE)'
    )
    group.add_argument(
        '--cache', metavar='FILE|none', help='where replies are kept (default: OUT/cache.sqlite)'
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = build_parser().parse_args(argv)
    try:
        return run(args)
    except KeyboardInterrupt:
        print(f'Stopped. {GO_ON}', file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f'error: {error}', file=sys.stderr)
        return ERROR


def run(args: argparse.Namespace) -> int:
    """Show or evaluate every set."""
    from mg_plugins.emotion.ask import Budget
    from mg_plugins.emotion.cache import Cache
    from mg_plugins.emotion.results import write_results
    from mg_plugins.emotion.tables import print_tables
    from mg_plugins.emotion.template import load_template

    args.out = args.out or default_folder(args)
    templates = {t.name: t for t in map(load_template, args.template)}
    sets = load_sets(args)
    if args.show is not None:
        show(args, sets, templates)
        return 0
    judges = [make_judges(args, scenarios) for scenarios in sets.values()]
    for key in ('max_calls', 'max_tokens'):
        if getattr(args, key) is not None and getattr(args, key) < 1:
            raise ValueError(f'--{key.replace("_", "-")} {getattr(args, key)}: at least 1 expected')
    budget = Budget(args.max_calls, args.max_tokens)
    cache = None
    if args.cache != 'none':
        cache = Cache(args.cache or args.out / 'cache.sqlite')
    try:
        evaluations = [
            evaluate_set(args, name, scenarios, judge, rubric_judge, templates, cache, budget)
            for (name, scenarios), (judge, rubric_judge) in zip(sets.items(), judges, strict=True)
        ]
    finally:
        if cache is not None:
            cache.close()
    if args.scenarios == 'synthetic':
        for evaluation in evaluations:
            evaluation.metrics['notes'].append(
                'The gestures are the true ones of synthetic sessions, not a recogniser’s.'
            )
    stopped = [e.metrics['stopped'] for e in evaluations if e.metrics['stopped']]
    if not any(record['reply'] is not None for e in evaluations for record in e.records):
        why = stopped or [e.records[0]['text'] for e in evaluations]
        raise RuntimeError(f'no question got a reply, so no figures were written: {why[0]}')
    paths = write_results(args.out, evaluations)
    for evaluation in evaluations:
        print_tables(evaluation.metrics)
    print('Written: ' + ', '.join(str(path) for path in paths.values()))
    if stopped:
        print(f'Stopped early: {stopped[0]}. {GO_ON}', file=sys.stderr)
        return STOPPED_EARLY
    return 0


def default_folder(args: argparse.Namespace) -> Path:
    """One for each scenarios file, judge and model, so that no result replaces another's."""
    parts = [Path(args.scenarios).stem, args.judge, args.model or '', 'open' * args.open_ended]
    name = '_'.join(re.sub(r'[^\w.-]+', '_', part).strip('_.') for part in parts if part)
    return Path('work_dirs/emotion') / name


def load_sets(args: argparse.Namespace) -> dict[str, list]:
    """Scenarios by the name of their set."""
    from mg_plugins.emotion.evaluate import limit, split_by_kind
    from mg_plugins.emotion.scenarios import load_scenarios
    from mg_plugins.emotion.synthetic import synthetic_scenarios

    if args.scenarios == 'synthetic':
        kind = ', open-ended' if args.open_ended else ''
        sets = {
            f'synthetic, {name}{kind}': synthetic_scenarios(
                linked, seed=args.seed, open_ended=args.open_ended, **SYNTHETIC
            )
            for name, linked in (('linked', True), ('unlinked', False))
        }
    else:
        if args.open_ended:
            raise ValueError(
                '--open-ended is for --scenarios synthetic; your own scenarios are open-ended '
                'where tools/build_scenarios.py --open-ended made them'
            )
        if not Path(args.scenarios).is_file():
            raise ValueError(
                f"--scenarios {args.scenarios}: there is no such file; 'synthetic' or a file that "
                'tools/build_scenarios.py wrote was expected'
            )
        sets = split_by_kind(load_scenarios(args.scenarios), Path(args.scenarios).stem)
    if args.limit:
        sets = {name: limit(scenarios, args.limit, args.seed) for name, scenarios in sets.items()}
    return sets


def make_judges(args: argparse.Namespace, scenarios: list) -> tuple:
    """The judge of a set, and who scores free text (None for the keyword rubric)."""
    from mg_plugins.emotion.evaluate import choose_prior
    from mg_plugins.emotion.judges import make_judge

    given = {
        'openai': {'base_url', 'model', 'key_env', 'allow_remote'},
        'local': {'model', 'allow_download'},
        'lexicon': {'prior'},
    }
    for key in sorted(set().union(*given.values()) - given[args.judge]):
        if getattr(args, key):
            raise ValueError(f'--{key.replace("_", "-")} says nothing to --judge {args.judge}')
    if args.judge == 'lexicon':
        if args.rubric_judge not in (None, 'keyword'):
            raise ValueError('--judge lexicon has no other rubric than --rubric-judge keyword')
        return make_judge('lexicon', prior=choose_prior(scenarios, args.prior)), None
    if not args.model:
        raise ValueError(f'--judge {args.judge} needs --model')
    keys = sorted(key for key in given[args.judge] if getattr(args, key))
    options = {key: getattr(args, key) for key in keys}
    judge = make_judge(args.judge, **options)
    if args.rubric_judge == 'keyword':
        return judge, None
    if args.rubric_judge in (None, 'judge'):
        return judge, make_judge(args.judge, **options)
    return judge, make_judge(args.judge, **{**options, 'model': args.rubric_judge})


def evaluate_set(
    args: argparse.Namespace,
    name: str,
    scenarios: list,
    judge: object,
    rubric_judge: object,
    templates: dict,
    cache: object,
    budget: object,
) -> object:
    """Evaluate one set under a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from mg_plugins.emotion.evaluate import evaluate, shipped_templates

    columns = ('{task.description}', BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task(name, total=None)
        return evaluate(
            scenarios,
            judge,
            name=name,
            cache=cache,
            arms=args.arms,
            derangements=args.derangements,
            rotations=1 if args.no_rotate else None,
            samples=args.samples,
            seed=args.seed,
            ask={
                'concurrency': args.concurrency,
                'timeout': args.timeout,
                'retries': args.retries,
                'budget': budget,
            },
            baselines=not args.no_baselines,
            templates={**shipped_templates(scenarios), **templates},
            rubric_judge=rubric_judge,
            progress=lambda done, total: bar.update(line, completed=done, total=total),
        )


def show(args: argparse.Namespace, sets: dict[str, list], templates: dict) -> None:
    """Print the messages of one scenario, an arm after the other."""
    from mg_plugins.emotion.evaluate import previews, shipped_templates

    # The first set that has it; exchanges of timelines stay within a set.
    having = [of for of in sets.values() if any(s.id == args.show for s in of)]
    scenarios = (having or list(sets.values()))[0]
    shown = previews(
        scenarios,
        args.show,
        arms=args.arms,
        derangements=args.derangements,
        rotations=1 if args.no_rotate else None,
        samples=args.samples,
        seed=args.seed,
        templates={**shipped_templates(scenarios), **templates},
    )
    for title, task in shown:
        print(f'===== {title}\n--- system\n{task.system}\n--- user\n{task.user}\n')
    if args.judge == 'lexicon':
        print('(The lexicon judge runs in this process: nothing is sent anywhere.)')
        return
    for schema in {json.dumps(task.schema) for _, task in shown if task.schema}:
        print(f'===== sent along: the JSON schema of the answer\n{schema}')
    if not all(task.options for _, task in shown) and args.rubric_judge != 'keyword':
        print('===== sent later: question, rubric and each answer, for scoring')


def _seed(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f'0 or more was expected, not {number}')
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'at least 1 was expected, not {number}')
    return number


if __name__ == '__main__':
    sys.exit(main())
