"""Does a judge understand more when it sees micro-gestures? Three arms, paired, with intervals.

Asks it about scenarios without micro-gestures, with them, and with those of other scenarios
(placebo), and compares the arms. Writes metrics.json, answers.jsonl and report.html.

examples:
  python tools/eval_emotion.py --scenarios synthetic --out work_dirs/emotion
  python tools/eval_emotion.py --scenarios my.jsonl --judge openai --model qwen3-8b \\
      --base-url http://localhost:8000/v1 --out work_dirs/mine
  python tools/eval_emotion.py --scenarios my.jsonl --show
Any other model: inspect eval mg_plugins/emotion/inspect_task.py --model …

exit codes: 0 done, 1 error, 2 wrong usage, 3 stopped early (the same command goes on), 130 Ctrl-C
"""

import argparse
import json
import re
import sys
from contextlib import suppress
from pathlib import Path

from options import Parser, at_least, run

STOPPED_EARLY = 3
# Large enough that the link is found whatever the seed, small enough for one core and a minute.
SYNTHETIC = {'subjects': 60, 'sessions': 6, 'clips': 5000}
GO_ON = 'The same command goes on from here: what was answered is in the cache.'
# Options of a judge and of the design, as their arguments are called.
OPENAI = 'base_url model key_env allow_remote answer_tokens reasoning_effort extra_body'.split()
ARMS = ('without', 'with', 'placebo')
DESIGN = ('arms', 'derangements', 'seed', 'limit')
ASK = ('concurrency', 'timeout', 'retries', 'max_calls')


def build_parser() -> Parser:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group('what is judged').add_argument
    what = "of tools/build_scenarios.py, or 'synthetic': gestures linked to outcomes, and unlinked"
    add('--scenarios', required=True, metavar='FILE', help=what)
    add('--limit', type=at_least(1), metavar='N', help='judge N of a set, by chance')
    add('--template', action='append', default=[], metavar='FILE', help='own one of the scenarios')
    add('--show', nargs='?', const='', metavar='ID',
        help='print what would be sent for a scenario (default: the first), and end')  # fmt: skip

    add = parser.add_argument_group('the judge').add_argument
    add('--judge', choices=('lexicon', 'openai'), default='lexicon',
        help='the embedded word counter (default), or an OpenAI-compatible endpoint')  # fmt: skip
    add('--base-url', help='openai: the endpoint, such as http://localhost:8000/v1')
    add('--model', help='openai: its name there')
    add('--key-env', metavar='NAME', help='openai: variable that holds the key')
    add('--allow-remote', action='store_true', help='openai: allow another machine')
    add('--answer-tokens', type=at_least(1), metavar='N',
        help='openai: longest answer, thoughts included (default: 4096)')  # fmt: skip
    add('--reasoning-effort', metavar='LEVEL', help='openai: such as low, for models that take it')
    add('--extra-body', type=json_object, metavar='JSON', help='openai: further fields of requests')
    what = 'lexicon: fitted by default where 20 or more training scenarios have a known state'
    add('--prior', choices=('fitted', 'documented'), help=what)
    what = (
        'openai: who scores free text: the judge (default), nobody, another model of its endpoint'
    )
    add('--rubric-judge', metavar='judge|none|MODEL', help=what)

    add = parser.add_argument_group('the design').add_argument
    add('--arms', nargs='+', choices=ARMS, default=ARMS, help='(default: all three)')
    add('--derangements', type=at_least(1), default=3, help='placebo exchanges (default: 3)')
    add('--seed', type=at_least(0), default=0, help='of everything random (default: 0)')
    add('--no-baselines', action='store_true', help='fit no learned baselines')

    add = parser.add_argument_group('asking').add_argument
    add('--concurrency', type=at_least(1), default=8, help='at most so many at a time (default: 8)')
    add('--timeout', type=float, default=300.0, help='seconds for an answer, once it can be served')
    add('--retries', type=at_least(0), default=6, help='after an error (default: 6)')
    add('--max-calls', type=at_least(1), metavar='N', help='stop after so many requests for a set')

    add = parser.add_argument_group('output').add_argument
    what = 'folder, also of the cache of replies (default: work_dirs/emotion/SCENARIOS_JUDGE)'
    add('--out', type=Path, help=what)
    return parser


def main() -> int:
    """Show or evaluate every set."""
    args = build_parser().parse_args()
    from tqdm import tqdm

    from mg_plugins import emotion
    from mg_plugins.errors import UserError

    # A folder for each scenarios file, judge and model, so that no result replaces another's.
    parts = filter(None, [Path(args.scenarios).stem, args.judge, args.model])
    name = '_'.join(re.sub(r'[^\w.-]+', '_', part).strip('_.') for part in parts)
    args.out = args.out or Path('work_dirs/emotion') / name
    own = {t.name: t for t in map(emotion.load_template, args.template)}
    if args.scenarios == 'synthetic':
        sets = {
            f'synthetic, {name}': emotion.synthetic_scenarios(linked, seed=args.seed, **SYNTHETIC)
            for name, linked in (('linked', True), ('unlinked', False))
        }
    else:
        sets = {Path(args.scenarios).stem: emotion.load_scenarios(args.scenarios)}
    if args.arms is ARMS and any(len(emotion.judged(cases)) == 1 for cases in sets.values()):
        args.arms = ARMS[:2]
        print('one scenario alone: judged without the placebo, which exchanges timelines')
    design = {name: getattr(args, name) for name in DESIGN}
    design['baselines'] = not args.no_baselines
    if args.show is not None:
        show(args, sets, own, design)
        return 0
    try:
        judges = [make_judges(args, scenarios) for scenarios in sets.values()]
    except (ValueError, ImportError) as error:
        raise UserError(str(error)) from error
    ask = {name: getattr(args, name) for name in ASK}
    evaluations = []
    with emotion.Cache(args.out / 'cache.jsonl') as cache:
        for (name, scenarios), (judge, rubric) in zip(sets.items(), judges, strict=True):
            options = dict(name=name, rubric_judge=rubric, cache=cache, **design)
            options['templates'] = {**emotion.shipped_templates(scenarios), **own}
            with tqdm(desc=name, leave=False, disable=None) as bar:

                def progress(done: int, total: int, bar: tqdm = bar) -> None:
                    bar.total = total
                    bar.update(done - bar.n)

                ask['progress'] = progress
                evaluations.append(emotion.evaluate(scenarios, judge, ask=ask, **options))
    stopped = [e.metrics['stopped'] for e in evaluations if e.metrics['stopped']]
    if not any(record['reply'] is not None for e in evaluations for record in e.records):
        why = stopped or [e.records[0]['text'] for e in evaluations]
        raise UserError(f'no question got a reply, so no figures were written: {why[0]}')
    paths = emotion.write_results(args.out, evaluations)
    for evaluation in evaluations:
        emotion.print_tables(evaluation.metrics)
    print('Written: ' + ', '.join(str(path) for path in paths.values()))
    if stopped:
        print(f'Stopped early: {stopped[0]}. {GO_ON}', file=sys.stderr)
    return STOPPED_EARLY if stopped else 0


def json_object(text: str) -> dict:
    """A ``type`` of arguments."""
    with suppress(ValueError, RecursionError):
        if isinstance(content := json.loads(text), dict):
            return content
    raise argparse.ArgumentTypeError(f'{text[:60]}: a JSON object was expected')


def make_judges(args: argparse.Namespace, scenarios: list) -> tuple:
    """The judge of a set, and who scores free text beside its evidence (None for nobody)."""
    from mg_plugins.emotion import choose_prior, make_judge

    for key in ('prior',) if args.judge == 'openai' else (*OPENAI, 'rubric_judge'):
        if getattr(args, key):
            raise ValueError(f'--{key.replace("_", "-")} says nothing to --judge {args.judge}')
    if args.judge == 'lexicon':
        return make_judge('lexicon', prior=choose_prior(scenarios, args.prior)), None
    options = {key: getattr(args, key) for key in OPENAI if key == 'model' or getattr(args, key)}
    options |= {'extra': options.pop('extra_body', None), 'seed': args.seed}
    judge, rubric = make_judge('openai', **options), args.rubric_judge
    options['model'] = args.model if rubric in (None, 'judge') else rubric
    return judge, None if rubric == 'none' else make_judge('openai', **options)


def show(args: argparse.Namespace, sets: dict[str, list], templates: dict, design: dict) -> None:
    """Print the messages of one scenario, an arm after the other."""
    from mg_plugins.emotion import previews, shipped_templates

    scenarios = next(iter(sets.values()))  # ids of the synthetic sets are the same
    known = {**shipped_templates(scenarios), **templates}
    shown = previews(scenarios, args.show, templates=known, **design | {'limit': None})
    for title, task in shown:
        print(f'===== {title}\n--- system\n{task.system}\n--- user\n{task.user}\n')
    if args.judge == 'lexicon':
        print('(The lexicon judge runs in this process: nothing is sent anywhere.)')
        return
    for schema in {json.dumps(task.schema) for _, task in shown if task.schema}:
        print(f'===== sent along: the JSON schema of the answer\n{schema}')
    if not all(task.options for _, task in shown) and args.rubric_judge != 'none':
        print('===== sent later: question, rubric and each answer, for scoring')


if __name__ == '__main__':
    run(main, goes_on=GO_ON)
