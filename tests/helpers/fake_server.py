"""A loopback server that speaks OpenAI's chat completions, well or badly, and notes requests.

    with serve(latency=0.2, faults={'500': 0.1, 'drop': 0.1}) as server:
        judge = make_judge('openai', model='fake', base_url=server.url)
        …
        server.requests()   # one dict a request, in the order of arrival

It runs in a process of its own, with the standard library only, and ends with the one that
started it. The answer is a function of the prompt, so that runs can be compared.
"""

import asyncio
import contextlib
import gzip
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
import urllib.request

# What a request may get. All but the first are faults.
BEHAVIOURS = (
    'answer',
    'stall',  # nothing for `stall` seconds
    'drop',  # the connection closes without a word
    '429',  # with Retry-After
    '500',
    'truncated body',  # less than Content-Length promises
    'broken body',  # whole, but no JSON
    'truncated content',  # JSON cut in the middle of the answer
    'prose',  # the answer, in a sentence
    'rambling',  # a sentence that names no option
    'refusal',  # by the message's field
    'refusal text',
    'content filter',  # by the finish reason
    'wrong letter',  # one that no option has
    'reject format',  # 400 about response_format
    '401',
    '404',
    'redirect',  # to `redirect_to`
)
# What real endpoints do, as options of `serve`, with what should become of three questions:
# their outcome, and the requests that they take. `{answer}` in a message is the usual answer.
GEMINI = [{'error': {'code': 400, 'message': 'Invalid JSON payload received. Unknown name "seed": '
                     'Cannot find field.', 'status': 'INVALID_ARGUMENT'}}]  # fmt: skip
PYDANTIC = {'detail': [{'type': 'extra_forbidden', 'loc': ['body', 'seed'],
                        'msg': 'Extra inputs are not permitted'}]}  # fmt: skip
MISTRAL = {'object': 'error', 'message': PYDANTIC}


def _openai(message, **more):
    return {'error': {'message': message, 'type': 'invalid_request_error', **more}}


ENDPOINTS = {
    'plain': ({}, 'answered', 3),
    'reasoning_content beside the answer': (
        {'message': {'content': '{answer}', 'reasoning_content': 'Let me see.'}}, 'answered', 3),
    'reasoning, answer in it': (
        {'message': {'content': '', 'reasoning': 'I weigh it. {answer}'}}, 'answered', 3),
    'reasoning_content, content null': (
        {'message': {'content': None, 'reasoning_content': 'So: \\boxed{A}'}}, 'answered', 3),
    'thoughts in the text': (
        {'message': {'content': '<think>A or B?</think>\n{answer}'}}, 'answered', 3),
    'closing tag alone': ({'message': {'content': 'A or B?</think>{answer}'}}, 'answered', 3),
    'harmony': (
        {'message': {'content': '<|channel|>analysis<|message|>A or B?<|end|><|start|>assistant'
                     '<|channel|>final<|message|>{answer}<|return|>'}}, 'answered', 3),
    'content in parts': (
        {'message': {'content': [{'type': 'text', 'text': '{answer}'}]}}, 'answered', 3),
    'boxed': ({'message': {'content': 'So the answer is $\\boxed{\\text{B}}$.'}}, 'answered', 3),
    'reasoning only': (
        {'message': {'content': '', 'reasoning': 'Hm.'}}, 'reasoning only', 6),
    'cut in its thoughts': (
        {'message': {'content': '', 'reasoning_content': 'First, A says …'}, 'finish': 'length'},
        'cut', 6),
    'cut in the answer': (
        {'message': {'content': '{"reason": "First of'}, 'finish': 'length'}, 'cut', 6),
    'tool call': (
        {'message': {'content': None, 'tool_calls': [{'id': '1', 'type': 'function', 'function':
                     {'name': 'answer', 'arguments': '{}'}}]}, 'finish': 'tool_calls'},
        'tool call', 6),
    'refusal field': (
        {'message': {'content': None, 'refusal': 'I will not judge people.'}}, 'refused', 3),
    'content filter': ({'message': {'content': ''}, 'finish': 'content_filter'}, 'refused', 3),
    'seed refused, list': ({'refuses': {'seed': (400, GEMINI)}}, 'answered', 4),
    'seed refused, 422': ({'refuses': {'seed': (422, PYDANTIC)}}, 'answered', 4),
    'seed refused, nested': ({'refuses': {'seed': (422, MISTRAL)}}, 'answered', 4),
    'seed refused, bare text': (
        {'refuses': {'seed': (400, 'unsupported parameter: seed')}}, 'answered', 4),
    'temperature refused, 500': (
        {'refuses': {'temperature': (500, {'error': 'temperature is not implemented'})}},
        'answered', 4),
    'temperature refused, Kimi': (
        {'refuses': {'temperature': (400, _openai(
            'invalid temperature: only 1 is allowed for this model'))}}, 'answered', 4),
    'temperature refused, param': (
        {'refuses': {'temperature': (400, _openai('Unsupported value.', param='temperature'))}},
        'answered', 4),
    'max_tokens renamed': (
        {'refuses': {'max_tokens': (400, _openai(
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."))}},
        'answered', 4),
    'bounds refused': (
        {'refuses': {'uniqueItems': (400, _openai(
            "Invalid schema for response_format 'answer': 'uniqueItems' is not permitted."))}},
        'answered', 4),
    'schema refused': (
        {'refuses': {'json_schema': (400, _openai(
            "'response_format.type' must be 'json_object' or 'text'"))}}, 'answered', 4),
    'no response_format at all': (
        {'refuses': {'response_format': (422, {'detail': [
            {'loc': ['body', 'response_format'], 'msg': 'extra fields not permitted'}]})}},
        'answered', 5),
    'long answers refused': (
        {'refuses': {'4096': (400, {'error': 'max_tokens must be at most 2048'})}}, 'answered', 4),
    'four at once': (
        {'refuses': {'seed': (400, GEMINI), 'temperature': (500, 'no temperature'),
                     'json_schema': (400, 'no json_schema here')}}, 'answered', 6),
    'prompt cut': ({'usage': {'prompt_tokens': 5, 'total_tokens': 15}}, 'answered', 3),
    'error with status 200': (
        {'raw': [json.dumps({'error': {'message': 'model is loading'}}), 1]}, 'failed', None),
    'bomb': ({'bomb': 400}, 'failed', 3),
    'endless text': ({'raw': ['x', 3_000_000]}, 'failed', 3),
    'deep JSON': ({'raw': ['[', 200_000]}, 'failed', None),
}  # fmt: skip

DEFAULTS = {
    'answer': 'hash',  # a letter, 'hash' of the prompt, or {words in the prompt: letter}
    'options': 2,  # how many letters there are where no schema says so
    'confidence': 0.75,
    'latency': 0.0,  # seconds before a reply
    'faults': {},  # behaviour: share of requests
    'script': [],  # behaviours of the first requests, in the order of arrival
    'seed': 0,
    'stall': 30.0,
    'retry_after': 0.2,  # or a text, such as an HTTP date
    'formats': ['json_schema', 'json_object', 'text'],  # others get 400
    'rejects': {},  # field of the request: the message of the 400 that it gets
    'key': None,  # others get 401, which tells the key that came
    'tokens': 100,
    'usage': None,  # instead of one with `tokens`
    'content': None,  # the message's text, instead of an answer
    'error': None,  # the message of a 401
    'headers': {},  # of every response
    'models': ['fake'],
    'redirect_to': '',
    'port': 0,
    'message': None,  # fields of the reply's message
    'finish': None,  # its finish_reason
    'refuses': {},  # a field or text in the request: status and body of what it gets
    'raw': None,  # the whole body: [text, times that it is repeated]
    'bomb': 0,  # megabytes of zeros, packed
}


class Server:
    """A running server, seen from the tests."""

    def __init__(self, process, port):
        self.process, self.port = process, port
        self.url = f'http://127.0.0.1:{port}/v1'

    def requests(self):
        """What was asked so far.

        Keys: start, end (seconds by `time.time`; end is None while it waits or where the client
        left), behaviour, answered (a whole, valid answer was sent), in_flight (with this one),
        system, user, seed, temperature, max_tokens, format, authorization, model, headers.
        """
        with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/requests', timeout=10) as reply:
            return json.load(reply)

    def most_at_once(self):
        """The largest number of requests that waited at one time."""
        return max((request['in_flight'] for request in self.requests()), default=0)

    def asked_after_answer(self):
        """Requests that came after a valid answer to the same question had been sent."""
        answered, late = {}, []
        for request in self.requests():
            question = (request['system'], request['user'], request['seed'])
            if question in answered and request['start'] > answered[question]:
                late.append(request)
            if request['answered']:
                answered.setdefault(question, request['end'])
        return late

    def kill(self):
        """End it at once: from now on connections are refused."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serve(**options):
    """Run a server with ``DEFAULTS`` changed by ``options``."""
    unknown = set(options) - set(DEFAULTS)
    behaviours = {*options.get('faults', {}), *options.get('script', [])} - set(BEHAVIOURS)
    if unknown or behaviours:
        raise ValueError(f'the server knows nothing of {sorted(unknown | behaviours)}')
    process = subprocess.Popen(
        [sys.executable, '-I', __file__, json.dumps(DEFAULTS | options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Server(process, int(process.stdout.readline()))
    finally:
        process.stdin.close()  # which ends it
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class _Fake:
    def __init__(self, options):
        self.options, self.log, self.waiting, self.turns = options, [], 0, {}

    async def connection(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self.request(reader, writer):
                pass
        writer.close()

    async def request(self, reader, writer):
        head = (await reader.readuntil(b'\r\n\r\n')).decode('latin-1').split('\r\n')
        method, path, _ = head[0].split(' ', 2)
        headers = {}
        for line in head[1:]:
            name, _, value = line.partition(':')
            headers[name.strip().lower()] = value.strip()
        body = await reader.readexactly(int(headers.get('content-length', 0)))
        if (method, path) == ('GET', '/requests'):
            return await self.send(writer, 200, self.log)
        if (method, path) == ('GET', '/v1/models'):
            models = [{'id': name, 'object': 'model'} for name in self.options['models']]
            return await self.send(writer, 200, {'object': 'list', 'data': models})
        if (method, path) != ('POST', '/v1/chat/completions'):
            return await self.send(writer, 404, _error(f'no such path: {path}'))
        content = json.loads(body)
        texts = {message['role']: message['content'] for message in content['messages']}
        form = content.get('response_format') or {'type': 'text'}
        self.waiting += 1
        note = {
            'start': time.time(),
            'end': None,
            'behaviour': self.behaviour(texts, content),
            'answered': False,
            'in_flight': self.waiting,
            'system': texts.get('system', ''),
            'user': texts.get('user', ''),
            'seed': content.get('seed'),
            'temperature': content.get('temperature'),
            'max_tokens': content.get('max_tokens', content.get('max_completion_tokens')),
            'format': form['type'],
            'authorization': headers.get('authorization'),
            'model': content['model'],
            'headers': sorted(headers),
        }
        self.log.append(note)
        try:
            return await self.answer(writer, note, content, headers)
        finally:
            self.waiting -= 1

    def behaviour(self, texts, content):
        if len(self.log) < len(self.options['script']):
            return self.options['script'][len(self.log)]
        question = f'{self.options["seed"]} {texts.get("user")} {content.get("seed")}'
        self.turns[question] = self.turns.get(question, 0) + 1
        draw = random.Random(f'{question} {self.turns[question]}').random()
        for name, rate in self.options['faults'].items():
            draw -= rate
            if draw < 0:
                return name
        return 'answer'

    async def answer(self, writer, note, content, headers):
        options, kind = self.options, note['behaviour']
        await asyncio.sleep(options['stall'] if kind == 'stall' else options['latency'])
        rejected = [field for field in options['rejects'] if field in content]
        if (
            options['key'] is not None
            and headers.get('authorization') != f'Bearer {options["key"]}'
        ):
            return await self.send(
                writer, 401, _error(f'wrong key: {headers.get("authorization")}'), note
            )
        if content['model'] not in options['models'] or kind == '404':
            return await self.send(writer, 404, _error(f'no model {content["model"]}'), note)
        if note['format'] not in options['formats'] or kind == 'reject format':
            error = _error(f"'response_format' of type '{note['format']}' is not supported")
            return await self.send(writer, 400, error, note)
        if rejected:
            return await self.send(writer, 400, _error(options['rejects'][rejected[0]]), note)
        sent = json.dumps({k: v for k, v in content.items() if k != 'messages'})
        for word, (status, body) in options['refuses'].items():
            if f'"{word}"' in sent or f' {word},' in sent:
                return await self.send(writer, status, body, note)
        if options['bomb']:
            packed = gzip.compress(bytes(1_000_000)) * options['bomb']
            zipped = {'Content-Encoding': 'gzip'}
            return await self.send(writer, 200, packed, note, zipped)
        if options['raw'] is not None:
            return await self.send(
                writer, 200, (options['raw'][0] * options['raw'][1]).encode(), note
            )
        if kind == '401':
            error = _error(options['error'] or f'wrong key: {headers.get("authorization")}')
            return await self.send(writer, 401, error, note)
        if kind == '429':
            wait = {'Retry-After': str(options['retry_after'])}
            return await self.send(writer, 429, _error('too many requests'), note, wait)
        if kind == '500':
            return await self.send(writer, 500, _error('internal error'), note)
        if kind == 'redirect':
            there = {'Location': options['redirect_to']}
            return await self.send(writer, 307, _error('moved'), note, there)
        if kind == 'drop':
            note['end'] = time.time()
            writer.transport.abort()
            return False
        body = json.dumps(self.completion(kind, note['user'], content)).encode()
        if kind == 'broken body':
            return await self.send(writer, 200, body[: len(body) // 2], note)
        if kind == 'truncated body':
            await self.send(writer, 200, body[: len(body) // 2], note, length=len(body))
            return False
        note['answered'] = kind in ('answer', 'prose')
        return await self.send(writer, 200, body, note)

    def completion(self, kind, user, content):
        options = self.options
        form = (content.get('response_format') or {}).get('json_schema') or {}
        answer = form.get('schema', {}).get('properties', {}).get('answer', {})
        letters = answer.get('enum') or [chr(65 + i) for i in range(options['options'])]
        letter = self.letter(letters, user)
        is_open = bool(form) and 'enum' not in answer
        value = f'They seem to feel {letter}, for several reasons.' if is_open else letter
        said = {'answer': value, 'confidence': options['confidence'], 'reason': 'It looks so.'}
        message = {'role': 'assistant', 'content': json.dumps(said), 'refusal': None}
        texts = {
            'truncated content': '{"confidence": 0.75, "reason": "It looks so.", "answer": "',
            'prose': f'I looked at it for long. The answer is {letter}.',
            'rambling': 'That depends on many things.',
            'refusal text': "I'm sorry, but I can't help with judging people.",
            'wrong letter': json.dumps(said | {'answer': 'Z'}),
            'content filter': '',
        }
        message['content'] = texts.get(kind, options['content'] or message['content'])
        if kind == 'refusal':
            message |= {'content': None, 'refusal': 'I will not judge people.'}
        finish = 'content_filter' if kind == 'content filter' else options['finish'] or 'stop'
        if options['message'] is not None:
            message = json.loads(
                json.dumps({'role': 'assistant', **options['message']}).replace(
                    '{answer}', json.dumps(json.dumps(said))[1:-1]
                )
            )
        tokens = options['tokens']
        usage = {
            'prompt_tokens': max(tokens - 10, len(user) // 4 + 500),
            'completion_tokens': 10,
            'total_tokens': tokens,
        }
        return {
            'id': 'chatcmpl-0',
            'object': 'chat.completion',
            'created': 0,
            'model': content['model'],
            'choices': [{'index': 0, 'message': message, 'finish_reason': finish}],
            'usage': usage if options['usage'] is None else options['usage'],
        }

    def letter(self, letters, user):
        answer = self.options['answer']
        if isinstance(answer, dict):
            found = [letter for words, letter in answer.items() if words in user]
            return found[0] if found else letters[0]
        if answer == 'hash':
            return letters[hashlib.sha256(user.encode()).digest()[0] % len(letters)]
        return answer

    async def send(self, writer, status, content, note=None, headers=None, length=None):
        if isinstance(content, str):
            content = content.encode()
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        head = [f'HTTP/1.1 {status} X', 'Content-Type: application/json']
        head += [f'Content-Length: {len(body) if length is None else length}']
        head += [
            f'{name}: {value}'
            for name, value in (self.options['headers'] | (headers or {})).items()
        ]
        if writer.is_closing():  # the client has left
            return False
        if note is not None:
            note['end'] = time.time()
        writer.write(('\r\n'.join(head) + '\r\n\r\n').encode() + body)
        await writer.drain()
        return True


def _error(message):
    return {'error': {'message': message, 'type': 'error', 'code': None}}


async def _main(options):
    fake = _Fake(options)
    server = await asyncio.start_server(
        fake.connection, '127.0.0.1', options['port'], backlog=1024, limit=2**24
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    server.close()


if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks
    asyncio.run(_main(json.loads(sys.argv[1])))
