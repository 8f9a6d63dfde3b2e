"""The lexicon judge's arithmetic and honesty; the OpenAI judge's manners and discretion."""

import asyncio
import logging
import math
import random
import socket
import traceback
from dataclasses import replace
from email.utils import formatdate
from time import time

import pytest

from mg_plugins.data.classes import class_counts, get_classes
from mg_plugins.emotion import ask
from mg_plugins.emotion.ask import ask_all
from mg_plugins.emotion.cache import Cache
from mg_plugins.emotion.judges import make_judge, openai_api
from mg_plugins.emotion.judges.lexicon import Prior, fit_prior, sentiment
from mg_plugins.emotion.judges.openai_api import is_loopback, retry_after
from mg_plugins.emotion.parse import parse_reply
from mg_plugins.emotion.scenarios import Gesture, Scenario
from mg_plugins.emotion.tasks import ANSWERED, REFUSED, JudgeError, Task, answer_schema
from mg_plugins.files import read_table

from fake_server import ENDPOINTS, serve
from paths import ROOT

KEY = 'sk-secret-0123456789abcdef'
TASK = Task(
    system='You judge.',
    user='What a day. Question: …',
    schema=answer_schema(2),
    context='What a day.',
    gestures=None,
    options=('lost', 'won'),
    states=('lose', 'win'),
    valences=(-1.0, 1.0),
)


def answer(judge, task):
    return parse_reply(asyncio.run(judge.reply(task)), task)


def gestures(*names, confidence=1.0):
    return tuple(Gesture(name, i, i + 1, confidence) for i, name in enumerate(names))


def test_kinds():
    with pytest.raises(ValueError, match="'oracle'; there are lexicon, openai"):
        make_judge('oracle')


# --- lexicon


def test_the_documented_prior_has_a_reasoned_value_for_every_class():
    table = read_table('emotion/judges/affect.json')
    names = {*get_classes('imigue'), *get_classes('smg')}
    assert names == set(table['gestures'])
    for entry in table['gestures'].values():
        assert -1 <= entry['value'] <= 1 and entry['kind'] in table['kinds'] and entry['why']
    counts = dict(zip(get_classes('imigue'), class_counts('imigue'), strict=True))
    mean = sum(n * table['gestures'][name]['value'] for name, n in counts.items())
    assert table['usual'] == pytest.approx(mean / sum(counts.values()), abs=0.005)


def test_its_formula_by_hand():
    prior = Prior('toy', {'x': 1.0, 'y': -2.0}, usual=0.25, text=3.0, gestures=0.5, bias=0.1)
    shown = (*gestures('x', 'x', confidence=0.5), *gestures('y', 'unknown'))
    lean = math.tanh((2 * 0.5 * (1.0 - 0.25) + 1.0 * (-2.0 - 0.25)) / math.sqrt(2.0))
    assert prior.lean(shown) == pytest.approx(lean)
    judge = make_judge('lexicon', prior=prior)
    text = 'It was wonderful.'
    z = 0.1 + 3.0 * sentiment(text) + 0.5 * lean
    said = answer(judge, replace(TASK, context=text, gestures=shown))
    assert said.choice == 1
    assert said.confidence == pytest.approx(1 / (1 + math.exp(-z)), abs=1e-4)
    assert 'Not in the prior: unknown.' in said.text


def test_words_and_gestures_move_it_and_are_named():
    judge = make_judge('lexicon')
    assert judge.name == 'lexicon' and 'language' not in str(judge.identity())
    good = replace(TASK, context='A wonderful day, I am so happy.')
    bad = replace(TASK, context='It was awful. I am sad and angry.')
    assert [answer(judge, task).choice for task in (good, bad)] == [1, 0]
    up = answer(judge, replace(TASK, gestures=gestures('head up', 'sit straight')))
    down = answer(judge, replace(TASK, gestures=gestures('cover face', 'bite nails')))
    assert [up.choice, down.choice] == [1, 0]
    assert 'neutral' in up.text and 'head up' in up.text and 'ill at ease' in down.text


def test_the_place_of_an_option_does_not_matter_even_in_a_tie():
    judge = make_judge('lexicon')
    for context in ('', 'A wonderful day.'):
        one = replace(TASK, context=context)
        other = replace(one, options=('won', 'lost'), states=('win', 'lose'), valences=(1.0, -1.0))
        chosen = {task.states[answer(judge, task).choice] for task in (one, other)}
        assert chosen == ({'win'} if context else {'lose'})  # of a tie the first name


def test_more_states_than_two_take_the_nearest():
    judge = make_judge('lexicon', prior=Prior('toy', {}, 0.0, text=4.0))
    states = {'sad': -1.0, 'calm': 0.0, 'glad': 1.0}
    task = replace(
        TASK, options=tuple('xyz'), states=tuple(states), valences=tuple(states.values())
    )
    for context, state in (('', 'calm'), ('Wonderful, great!', 'glad'), ('Awful, sad.', 'sad')):
        said = answer(judge, replace(task, context=context))
        assert task.states[said.choice] == state and 1 / 3 < said.confidence < 1
    equal = replace(task, valences=(0.0, 0.0, 0.0))
    assert equal.states[answer(judge, equal).choice] == 'calm'


def test_an_open_question_gets_a_paragraph():
    task = replace(TASK, options=(), schema=None, gestures=gestures('head up'))
    said = answer(make_judge('lexicon'), task)
    assert said.status == ANSWERED and said.choice is None
    assert 'head up' in said.text and 'leans towards win' in said.text


def test_a_long_text_does_not_run_to_one_end():
    text = 'It was good. ' * 50 + 'It was bad. ' * 50
    assert abs(sentiment(text)) < 0.1
    assert sentiment('') == sentiment('The table is brown.') == 0


def scenarios(linked, sessions=60, seed=0):
    """Of 6 subjects: 'x' is seen with wins, 'y' with losses; or many gestures with either."""
    draw, made = random.Random(seed), []
    for i in range(sessions):
        win = i % 2 == 0
        names = draw.choices('xyz', [3, 1, 4] if win else [1, 3, 4], k=20)
        if not linked:
            names = draw.choices('abcdefghijklmnopqrstuvwxyz', k=20)
        tone = draw.choice(['It was good.', 'It was bad.'])
        fields = {'domain': 'd', 'source': 'toy', 'context': tone, 'question': '?'}
        made.append(
            Scenario(
                id=str(i),
                subject=f'p{i // 2 % 6}',
                session=str(i),
                gestures=gestures(*names),
                options=('lost', 'won'),
                states=('lose', 'win'),
                valences=(-1.0, 1.0),
                state='win' if win else 'lose',
                split='train',
                **fields,
            )
        )
    return made


def test_a_fitted_prior_finds_a_link_and_earns_no_weight_without_one():
    fitted = fit_prior(scenarios(linked=True))
    assert fitted.affect['x'] > 0.5 and fitted.affect['y'] < -0.5 and abs(fitted.affect['z']) < 0.3
    judge = make_judge('lexicon', prior=fitted)
    right = [
        answer(judge, replace(TASK, context=s.context, gestures=s.gestures)).choice
        == s.states.index(s.state)
        for s in scenarios(linked=True, seed=1)
    ]
    assert sum(right) > 50
    # With 26 gestures some go with wins by chance; seen in-sample they would look like a link.
    pulls = []
    for seed in range(5):
        made = scenarios(linked=False, seed=seed)
        unlinked = fit_prior(made)
        pulls += [unlinked.gestures * unlinked.lean(s.gestures) for s in made]
    linked = [fitted.gestures * fitted.lean(s.gestures) for s in scenarios(linked=True)]
    assert sum(map(abs, pulls)) / len(pulls) < 0.3 * sum(map(abs, linked)) / len(linked)


def test_a_fitted_prior_does_not_look_at_the_test_split():
    train = scenarios(linked=True)
    test = [replace(s, split='test', state='win') for s in scenarios(linked=False, seed=3)]
    assert fit_prior([*train, *test]) == fit_prior(train)
    with pytest.raises(ValueError, match='0 labelled training scenarios'):
        fit_prior(test)
    with pytest.raises(ValueError, match='of 1 subjects'):
        fit_prior([replace(s, subject='p') for s in train])


def test_two_priors_are_two_judges(tmp_path):
    one, other = (make_judge('lexicon', prior=Prior('p', {'x': v}, 0.0)) for v in (0.5, -0.5))
    task = replace(TASK, gestures=gestures('x'))
    with Cache(tmp_path / 'c') as cache:
        ask_all(one, [task], cache=cache)
        assert ask_all(one, [task], cache=cache).cached == 1
        assert ask_all(other, [task], cache=cache).cached == 0
        # It reads the fields: the same messages with another confidence are another question.
        unsure = replace(task, gestures=gestures('x', confidence=0.4))
        assert ask_all(one, [unsure], cache=cache).cached == 0


# --- openai


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', KEY)


def openai_judge(server, **options):
    return make_judge('openai', model='fake', base_url=server.url, **options)


async def ask_closing(judge, task):
    try:
        return await judge.reply(task)
    finally:
        await judge.close()


def replied(judge, task=TASK):
    return asyncio.run(ask_closing(judge, task))


def failed(judge, task=TASK):
    with pytest.raises(JudgeError) as caught:
        replied(judge, task)
    return caught.value


def test_what_is_sent(key):
    with serve(answer='B', tokens=123) as server:
        reply = replied(openai_judge(server, seed=5, answer_tokens=99))
        replied(openai_judge(server, seed=5), replace(TASK, sample=2))
        first, second = server.requests()
    assert parse_reply(reply, TASK).choice == 1 and reply.tokens == 123
    assert (first['system'], first['user']) == (TASK.system, TASK.user)
    assert (first['format'], first['temperature'], first['seed']) == ('json_schema', 0, 5)
    assert (first['max_tokens'], first['authorization']) == (99, f'Bearer {KEY}')
    assert (second['temperature'], second['seed']) == (0.7, 7)


def test_a_key_in_a_finish_reason_is_taken_out(key):
    with serve(finish=f'stop {KEY}') as server:
        reply = replied(openai_judge(server))
    assert KEY not in repr(reply) and reply.finish.startswith('stop')


def test_no_key_is_needed_on_loopback_and_its_variable_can_be_named(monkeypatch):
    monkeypatch.delenv('OPENAI_API_KEY', raising=False)
    monkeypatch.setenv('MY_KEY', KEY)
    with serve() as server:
        replied(openai_judge(server))
        replied(openai_judge(server, key_env='MY_KEY'))
        sent = [request['authorization'] for request in server.requests()]
    assert sent == [None, f'Bearer {KEY}']


@pytest.mark.parametrize('name', ENDPOINTS)
def test_every_endpoint_is_answered_or_told_what_became_of_it(name, monkeypatch):
    """Each ends with its true outcome, and no refused parameter costs more than one request."""
    monkeypatch.setattr(ask, 'FIRST_WAIT', 0.01)
    options, outcome, requests = ENDPOINTS[name]
    tasks = [replace(TASK, user=f'{TASK.user} {i} ' + 'word ' * 60) for i in range(3)]
    with serve(**options) as server:
        judge = openai_judge(server)
        before = judge.identity()
        done = ask_all(judge, tasks, retries=1)
        assert [a.status for a in done.answers] == [outcome] * 3, done.answers
        if requests:
            assert len(server.requests()) == requests == done.calls
    assert judge.identity() == before
    refused = len(options.get('refuses', {}))
    assert len(judge.notes) >= refused and all('It says' in note for note in judge.notes)
    if 'reasoning' in name and outcome == 'answered':
        assert all(a.thoughts for a in done.answers)
    assert {bool(r and r.prompt_cut) for r in done.replies} == {name == 'prompt cut'}


def test_a_bomb_is_not_unpacked(monkeypatch):
    """400 MB of zeros in 400 kB: memory stays below 150 MB more."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with serve(bomb=400) as server:
        assert 'longer than 1 MB' in str(failed(openai_judge(server)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def test_effort_and_extra_fields_are_sent_and_kept_when_refused(key):
    with serve(refuses={'min_p': (400, {'error': 'unknown field min_p'})}) as server:
        judge = openai_judge(server, reasoning_effort='low', extra={'min_p': 0.1})
        error = failed(judge)
    assert not error.retry and 'unknown field min_p' in str(error)
    assert judge.identity()['extra'] == {'min_p': 0.1}


def test_an_open_question_asks_for_no_schema():
    with serve() as server:
        replied(openai_judge(server), replace(TASK, options=(), schema=None))
        assert server.requests()[0]['format'] == 'text'


@pytest.mark.parametrize('kind', ['refusal', 'refusal text', 'content filter'])
def test_refusals(kind):
    with serve(script=[kind]) as server:
        reply = replied(openai_judge(server))
    assert parse_reply(reply, TASK).status == REFUSED
    assert reply.refusal == (kind != 'refusal text')


@pytest.mark.parametrize(
    ('kind', 'retry', 'message'),
    [
        ('429', True, 'answered 429: too many requests'),
        ('500', True, 'answered 500: internal error'),
        ('drop', True, 'connection broke'),
        ('truncated body', True, 'connection broke'),
        ('broken body', True, 'no chat completion'),
        ('401', False, 'put the right one into OPENAI_API_KEY'),
        ('404', False, "no model 'fake', or the base URL"),
        ('redirect', False, 'answered 307'),
    ],
)
def test_errors_say_what_to_do_and_whether_to_try_again(kind, retry, message, key):
    with serve() as elsewhere:
        with serve(script=[kind], redirect_to=elsewhere.url + '/chat/completions') as server:
            error = failed(openai_judge(server))
        assert elsewhere.requests() == []  # the text goes nowhere else
    assert error.retry == retry and message in str(error)
    assert error.after == (0.2 if kind == '429' else None)


def test_nobody_there():
    with serve() as server:
        server.kill()
        error = failed(openai_judge(server))
    assert error.unreachable and error.retry and server.url in str(error)


def test_loopback_goes_through_no_proxy(monkeypatch):
    with serve() as proxy, serve() as server:
        for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
            monkeypatch.setenv(name, f'http://127.0.0.1:{proxy.port}')
        monkeypatch.delenv('NO_PROXY', raising=False)
        monkeypatch.delenv('no_proxy', raising=False)
        replied(openai_judge(server))
        assert len(server.requests()) == 1


def test_the_key_is_nowhere(key, tmp_path, caplog, capfd):
    """The server tells the key it got in its errors: it must not come through."""
    texts = []
    with caplog.at_level(logging.DEBUG):
        logging.getLogger('openai').setLevel(logging.DEBUG)
        with serve(key='another', retry_after=0) as server, Cache(tmp_path / 'c') as cache:
            judge = openai_judge(server)
            error = failed(judge)
            assert 'Bearer ***' in str(error)  # it had been there
            texts += [
                '\n'.join(traceback.format_exception(error)),
                repr(error),
                str(error.__context__),
            ]
            asked = ask_all(judge, [TASK], cache=cache)
            texts += [repr(asked), repr(judge), str(vars(judge)), str(judge.identity())]
        with serve(key=KEY, answer=KEY) as server, Cache(tmp_path / 'c') as cache:
            asked = ask_all(openai_judge(server), [TASK, replace(TASK, user='x')], cache=cache)
            texts.append(repr(asked))
            assert server.requests()[0]['authorization'] == f'Bearer {KEY}'
            files = b''.join(file.read_bytes() for file in tmp_path.iterdir())
    assert len(files) > 0 and KEY.encode() not in files
    assert caplog.text and KEY not in caplog.text
    assert KEY not in ''.join(capfd.readouterr()) and KEY not in '\n'.join(texts)


@pytest.mark.parametrize('wrong', [f'{KEY}\nx', f'{KEY}\rx', f'{KEY} x', f'{KEY}\x01', f'{KEY}é'])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(wrong, monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', wrong)
    with pytest.raises(
        ValueError, match='variable OPENAI_API_KEY holds no key of visible'
    ) as caught:
        make_judge('openai', model='m', base_url='http://127.0.0.1:9/v1')
    assert 'secret' not in str(caught.value)


def test_space_around_the_key_does_not_matter(monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', f' {KEY}\n')
    with serve(key=KEY, content=f'A {KEY}') as server:
        reply = replied(openai_judge(server))
        assert server.requests()[0]['authorization'] == f'Bearer {KEY}'
    assert reply.text == 'A ***'


def test_of_a_key_in_a_long_error_no_part_is_left(key):
    for length in (270, 280, 290, 295):
        with serve(script=['401'], error='x' * length + KEY) as server:
            error = str(failed(openai_judge(server)))
        assert 'x' * 270 in error and KEY[:5] not in error


@pytest.mark.parametrize(
    'escape', ['\\u{:04x}', '\\u{:04X}', '\\\\u{:04x}', '\\x{:02x}', '%{:02X}']
)
def test_an_escaped_key_is_the_key(escape, key, tmp_path, monkeypatch):
    monkeypatch.setattr(ask, 'REASK', 0)
    hidden = ''.join(escape.format(ord(letter)) for letter in KEY[:9]) + KEY[9:]
    content = f'{{"answer": "A", "reason": "{hidden} it is"}}'
    with serve(key=KEY, content=content) as server, Cache(tmp_path / 'c') as cache:
        asked = ask_all(openai_judge(server), [TASK], cache=cache)
        kept = cache.replies(openai_judge(server), TASK)[-1]
    assert '*** it is' in kept.text and hidden not in kept.text
    assert '*** it is' in asked.answers[0].text and KEY not in asked.answers[0].text
    with serve(script=['401'], error=hidden) as server:
        assert hidden not in str(failed(openai_judge(server)))


def test_a_word_too_short_for_a_key_is_left_in_the_text(monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', '0')
    with serve(key='0', answer='B') as server:
        said = ask_all(openai_judge(server), [TASK]).answers[0]
    assert (said.choice, said.confidence) == (1, 0.75)


def test_a_header_with_the_key_is_not_logged(key, caplog):
    with caplog.at_level(logging.DEBUG), serve(headers={'X-Echo': KEY}) as server:
        replied(openai_judge(server))
    assert KEY not in caplog.text


@pytest.mark.parametrize('half', ['\ud83d', '\\ud83d'], ids=['sent', 'escaped'])
@pytest.mark.parametrize('keep', [True, False])
def test_half_a_character_does_not_lose_the_answer(half, keep, tmp_path):
    content = f'{{"answer": "B", "reason": "a smile {half}"}}'
    with serve(content=content) as server, Cache(tmp_path / 'c') as cache:
        asked = ask_all(openai_judge(server), [TASK], cache=cache if keep else None)
    (said,) = asked.answers
    assert (said.status, said.choice, asked.calls) == (ANSWERED, 1, 1)
    assert said.text.encode() == b'a smile ?' and asked.replies[0].text.encode()


@pytest.mark.parametrize(
    ('usage', 'tokens'),
    [
        (2**70, 2**31),
        (-(2**70), 0),
        (float('inf'), 2**31),
        (float('nan'), 0),
        ('many', 0),
        (None, 0),
        ([], 0),
        ({}, 0),
        (12.0, 12),
    ],
)
def test_odd_numbers_of_tokens_do_not_lose_the_answer(usage, tokens, tmp_path):
    with serve(usage={'total_tokens': usage}) as server, Cache(tmp_path / 'c') as cache:
        asked = ask_all(openai_judge(server), [TASK], cache=cache)
        assert cache.replies(openai_judge(server), TASK)[-1].tokens == tokens
    assert asked.answers[0].status == ANSWERED and (asked.calls, asked.tokens) == (1, tokens)


@pytest.mark.parametrize('usage', ['many', 7, [], {}])
def test_neither_does_an_odd_account_of_them(usage):
    with serve(usage=usage) as server:
        asked = ask_all(openai_judge(server), [TASK])
    assert asked.answers[0].status == ANSWERED and (asked.calls, asked.tokens) == (1, 0)


def test_a_remote_endpoint_wants_permission(key, monkeypatch):
    remote = {'model': 'm', 'base_url': 'https://192.0.2.1/v1'}
    with pytest.raises(
        ValueError, match='192.0.2.1 is not this machine.*--allow-remote.*agreement'
    ):
        make_judge('openai', **remote)
    assert make_judge('openai', **remote, allow_remote=True).notes == []
    clear = make_judge('openai', model='m', base_url='http://192.0.2.2/v1', allow_remote=True)
    assert clear.notes == ['The connection to 192.0.2.2 is not encrypted: https:// would be.']
    monkeypatch.delenv('OPENAI_API_KEY')
    with pytest.raises(ValueError, match='environment variable OPENAI_API_KEY'):
        make_judge('openai', **remote, allow_remote=True)


def test_without_a_url_it_is_openais_own(key, monkeypatch):
    monkeypatch.delenv('OPENAI_BASE_URL', raising=False)
    monkeypatch.setattr(openai_api, 'is_loopback', lambda host: host != 'api.openai.com')
    with pytest.raises(ValueError, match='api.openai.com is not this machine'):
        make_judge('openai', model='m')
    monkeypatch.setenv('OPENAI_BASE_URL', 'http://localhost:9/v1/')
    assert make_judge('openai', model='m').base_url == 'http://localhost:9/v1'


@pytest.mark.parametrize(
    'url',
    [
        'localhost:8000',
        'ftp://localhost/v1',
        'http://',
        'http://[::1',
        f'http://me:{KEY}@localhost/v1',
    ],
)
def test_urls_that_cannot_be_used(url):
    with pytest.raises(ValueError) as caught:
        make_judge('openai', model='m', base_url=url)
    assert 'base URL' in str(caught.value) and KEY not in str(caught.value)


def test_loopback_is_what_it_says(monkeypatch):
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.0.1', 0))]
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *args, **options: here)
    for host in ('localhost', '127.0.0.1', '127.8.9.10', '::1'):
        assert is_loopback(host), host
    addresses = ('192.0.2.1', '0.0.0.0', '10.0.0.1', '2001:db8::1', '127.1', '::1%eth0')
    names = ('rebind.evil.example', '127.0.0.1.nip.io', 'localhost.evil.example', 'x', '.' * 3, '')
    for host in (*addresses, *names):
        assert not is_loopback(host), host


def test_retry_after_takes_seconds_and_dates():
    assert retry_after({}) is None
    assert retry_after({'retry-after': '2.5'}) == 2.5
    assert retry_after({'retry-after': '-3'}) == 0
    for nonsense in ('soon', 'nan', 'inf', ''):
        assert retry_after({'retry-after': nonsense}) is None
    ahead = retry_after({'retry-after': formatdate(time() + 60, usegmt=True)})
    assert 50 < ahead <= 60
    assert retry_after({'retry-after': formatdate(0, usegmt=True)}) == 0


def test_importing_the_judges_imports_no_client():
    import subprocess
    import sys

    script = (
        'import sys, types; package = types.ModuleType("mg_plugins"); '
        f'package.__path__ = [{str(ROOT / "mg_plugins")!r}]; sys.modules["mg_plugins"] = package; '
        'import mg_plugins.emotion.ask, mg_plugins.emotion.judges.openai_api; '
        'import mg_plugins.emotion.judges.lexicon; '
        'heavy = {"torch", "openai", "transformers", "sklearn", "vaderSentiment", "mmengine"}; '
        'print(sorted(heavy & set(sys.modules)))'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == '[]'
