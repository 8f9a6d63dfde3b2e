"""Evaluations as the report takes them, made up from a seed."""

import random

from mg_plugins.emotion.tasks import STATUSES

NAMES = ('rub hand', 'cover face', 'fold arm', 'head up', 'bite lip', 'touch chin', 'deep breath')


def sample(scenarios=24, seed=0, name='synthetic, linked', hostile=None, open_ended=False):
    """Figures and records of a made-up evaluation, as `evaluate` shapes them."""
    draw = random.Random(seed)
    records = []
    for k in range(scenarios):
        truth = ('win', 'lose')[k % 2]
        for arm, exchanges in (('without', 1), ('with', 1), ('placebo', 2)):
            for exchange in range(exchanges):
                for rotation in (0, 1):
                    records.append(_question(draw, name, k, truth, arm, exchange, rotation))
    if hostile:
        records[0] |= dict(user=hostile, reply=hostile, text=hostile, scenario=hostile)
    arms = {arm: _arm([r for r in records if r['arm'] == arm]) for arm in ('without', 'with')}
    arms['placebo'] = _arm([r for r in records if r['arm'] == 'placebo'])
    value = {arm: arms[arm]['accuracy']['value'] for arm in arms}
    metrics = dict(
        version=1,
        name=name,
        source='synthetic',
        judge=dict(name='lexicon', kind='lexicon', prior='documented'),
        seed=seed,
        scenarios=scenarios,
        subjects=12,
        states=['win', 'lose'],
        open_ended=open_ended,
        arms=arms,
        comparisons={
            f'{a} - {b}': dict(
                gain=_interval(value[a] - value[b]), mcnemar=dict(b=14, c=5, p=0.0636)
            )
            for a, b in (('with', 'without'), ('with', 'placebo'), ('placebo', 'without'))
        },
        gestures=[
            dict(
                name=hostile or n,
                scenarios=20 - k,
                to_right=9 - k,
                to_wrong=k,
                cited=k,
            )
            for k, n in enumerate(NAMES * 3)
            if k < 9
        ]
        + [
            dict(name=f'gesture {k}', scenarios=2, to_right=0, to_wrong=0, cited=1)
            for k in range(9)
        ],
        baselines={
            n: dict(accuracy=_interval(v), macro_f1=_interval(v - 0.02), train_sessions=72)
            for n, v in (('majority', 0.5), ('bag of gestures', 0.71))
        },
        open={
            arm: dict(
                completeness=_interval(0.4 + 0.1 * k),
                depth=_interval(2.3 + 0.5 * k),
                evidence=_interval(0.3 + 0.1 * k),
            )
            for k, arm in enumerate(arms)
        }
        if open_ended
        else None,
        open_comparisons={'with - without': dict(completeness=_interval(0.1), depth=_interval(0.5))}
        if open_ended
        else {},
        rubric_judge='grader' if open_ended else None,
        origin=['synthetic'],
        findings=['Against no gestures, the gestures change accuracy by +20 points.'],
        total_replies=len(records),
        total_tokens=12_000,
        calls=len(records),
        tokens=0,
        cached=12,
        stopped='',
        seconds=3.21,
        notes=['24 scenarios of split train were not judged; the 24 are for fitting.'],
    )
    return metrics, records


def _question(draw, name, k, truth, arm, exchange, rotation):
    states = ['win', 'lose'] if rotation == 0 else ['lose', 'win']
    status = draw.choices(['answered', 'refused', 'unreadable', 'failed'], [40, 1, 1, 1])[0]
    right = draw.random() < (0.8 if arm == 'with' else 0.6)
    state = truth if right else {'win': 'lose', 'lose': 'win'}[truth]
    told = status == 'answered'
    gestures = ', '.join(draw.sample(NAMES, 3))
    timeline = '' if arm == 'without' else f'\n\nMicro-gestures seen (seconds): {gestures}'
    record = dict(
        set=name,
        scenario=f'q{k:04d}',
        subject=f'p{k % 12:02d}',
        arm=arm,
        draw=exchange,
        rotation=rotation,
        sample=0,
        options=[f'The player has {s}.' for s in states],
        states=states,
        user=f'"We kept the pressure up, number {k}, and I am proud of the team." {timeline}\n\n'
        'How did the match end?\nA. won\nB. lost',
        system='You read short statements after a match. Answer with JSON: {"answer": "A"}',
        reply='{"answer": "A", "confidence": 0.7}' if told else 'I would rather not say.',
        status=status,
        choice=states.index(state) if told else None,
        state=state if told else None,
        truth=truth,
        confidence=round(draw.uniform(0.5, 0.98), 2) if told else None,
        text='The tone is calm and positive.' if told else 'refused',
        correct=right and told,
        thoughts='Let me see.' if told else None,
        grounded=0.5 if told else None,
        cited=['00:03.0 rub hand'] if told else None,
        prompt_cut=False,
    )
    if arm == 'placebo':
        record['gestures_of'] = f'q{(k + 1 + exchange) % 24:04d}'
    return record


def _arm(records):
    counts = {s: sum(r['status'] == s for r in records) for s in STATUSES}
    share = sum(r['correct'] for r in records) / len(records)
    return dict(
        asked=len(records),
        **counts,
        accuracy=_interval(share),
        macro_f1=_interval(share - 0.01),
        evidence=_interval(share / 2),
        ece=0.081,
        brier=0.21,
        mean_confidence=0.74,
    )


def _interval(value):
    return dict(value=value, low=value - 0.08, high=value + 0.08)
