"""A judge behind any endpoint that speaks OpenAI's chat completions, and how endpoints differ."""

import ipaddress
import json
import math
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ..tasks import JudgeError, Reply, Task

OPENAI = 'https://api.openai.com/v1'
SHORTEST_KEY = 8  # characters; a shorter word is no key, and would be masked in ordinary text
MOST_TOKENS = 2**31  # a count above it is a mistake
MOST_BODY = 1_000_000  # bytes of a reply, unpacked
CONNECTING = 30.0  # seconds
LONGEST_TOKEN = 8  # characters; the tokens of any tokenizer have fewer on average
FORMATS = ('bounded', 'json_schema', 'json_object', '')
BOUNDS = ('maxLength', 'maxItems', 'uniqueItems', 'minimum', 'maximum')
BOUND = re.compile(rf'\b({"|".join(BOUNDS)})\b', re.I)
OPTIONAL = ('seed', 'temperature')
FEWEST_TOKENS = 256
MOST_PARTS, DEEPEST = 20, 6  # of an error that are read
LIMIT = re.compile(r'max_(?:completion_)?tokens|context (?:length|window|size)|n_ctx')


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    temperature: float = 0.0  # of the first draw (`Task.sample` 0)
    further: float = 0.7  # and of further ones
    seed: int = 0  # of the first draw; the draw's number is added to it
    answer_tokens: int = 4096  # longest answer, thoughts included
    reasoning_effort: str = ''  # such as ``'low'``, for models that take it; not sent if empty
    extra: Mapping[str, Any] | None = None  # further fields of the request body


@dataclass(frozen=True)
class Form:
    """How an endpoint takes a request."""

    tokens: int  # longest answer that is asked for
    limit: str = 'max_tokens'  # what the endpoint calls this limit
    format: str = FORMATS[0]  # one of FORMATS
    without: frozenset[str] = frozenset()  # parameters of OPTIONAL that are left out

    def changed(self, said: str) -> tuple['Form | None', str]:
        """A form without what an endpoint's error complains about, if it can be, and its name."""
        text = said.lower()
        if 'max_completion_tokens' in text and self.limit == 'max_tokens':
            return replace(self, limit='max_completion_tokens'), 'max_tokens'
        for name in OPTIONAL:
            if name not in self.without and re.search(rf'\b{name}\b', text):
                return replace(self, without=self.without | {name}), name
        if LIMIT.search(text) and self.tokens > FEWEST_TOKENS:
            fewer = max(FEWEST_TOKENS, self.tokens // 2)
            return replace(self, tokens=fewer), f'answers of {self.tokens} tokens'
        bounded = self.format == 'bounded'
        if bounded and BOUND.search(text):
            return replace(self, format='json_schema'), 'bounds in a JSON schema'
        if self.format and re.search(r'response_?format|schema|json|grammar', text):
            # Where the schema is refused, its bounds are not the only cause.
            refused = 'json_schema' if bounded else self.format
            level = FORMATS[FORMATS.index(refused) + 1]
            return replace(self, format=level), f'response_format {refused}'
        return None, ''

    def response_format(self, schema: Mapping[str, Any] | None) -> dict[str, Any]:
        """The request's field for an answer in a JSON schema, as far as the endpoint takes it."""
        if schema is None or not self.format:
            return {}
        if self.format == 'json_object':
            return {'response_format': {'type': 'json_object'}}
        schema = schema if self.format == 'bounded' else without_bounds(schema)
        named = {'name': 'answer', 'strict': True, 'schema': schema}
        return {'response_format': {'type': 'json_schema', 'json_schema': named}}


class OpenAIJudge:
    """Asks one model of an OpenAI-compatible endpoint; ``sampling`` are fields of `Sampling`.

    The key is read from the environment variable ``key_env`` (loopback needs none) and stands in no
    message, file, log or identity, also where the endpoint sends it back. What an endpoint refuses
    is left out from then on; ``notes`` say so in its own words, and that a connection is not
    encrypted.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        key_env: str = 'OPENAI_API_KEY',
        allow_remote: bool = False,
        **sampling: Any,
    ) -> None:
        if not model:
            raise ValueError('no model was given: --model NAME, as the endpoint calls it')
        self.model, self.key_env, self.name = model, key_env, f'openai: {model}'
        self.base_url = (base_url or os.environ.get('OPENAI_BASE_URL') or OPENAI).rstrip('/')
        self.sampling = Sampling(**sampling)
        host, key = host_of(self.base_url), self._key()
        self.loopback = is_loopback(host)
        if self.sampling.answer_tokens < 1:
            raise ValueError(f'answer_tokens={self.sampling.answer_tokens}: at least 1 expected')
        if not self.loopback and not allow_remote:
            unless = 'nothing is sent there without --allow-remote (in a config: allow_remote=True)'
            advice = 'see the data agreement of your recordings, and what --show prints'
            raise ValueError(f'{host} is not this machine, and {unless}: {advice}')
        if not all('!' <= letter <= '~' for letter in key) or not (key or self.loopback):
            wrong = f'variable {key_env} holds no key of visible ASCII characters'
            advice = 'put it there, as it was given, or name its own: --key-env NAME'
            raise ValueError(f'the environment {wrong}: {advice}')
        self._session: Any = None
        clear = not self.loopback and self.base_url.startswith('http:')
        self.notes = [f'The connection to {host} is not encrypted: https:// would be.'] * clear
        self._form = Form(self.sampling.answer_tokens)  # as the endpoint takes it

    def identity(self) -> dict[str, Any]:
        chosen = {key: of for key, of in vars(self.sampling).items() if of not in ('', None)}
        return {'kind': 'openai', 'model': self.model, 'base_url': self.base_url, **chosen}

    async def reply(self, task: Task) -> Reply:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={'Authorization': f'Bearer {self._key()}'} if self._key() else {},
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECTING),
                trust_env=not self.loopback,  # no proxy on the way to loopback
            )
        form = self._form
        url, request = f'{self.base_url}/chat/completions', self._request(task, form)
        try:
            # No redirects: the text goes where it was allowed to go.
            posted = self._session.post(url, json=request, allow_redirects=False)
            async with posted as response:
                body = await _bounded(response)
                status, headers = response.status, response.headers
        except aiohttp.ClientConnectorError as error:
            said = f'nobody answers at {self.base_url}: {self._said(str(error.os_error))}'
            outcome = JudgeError(said, retry=True, unreachable=True)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            said = self._said(str(error) or type(error).__name__)
            outcome = JudgeError(f'the connection broke: {said}', retry=True)
        else:
            try:
                content = json.loads(body)
            except (ValueError, RecursionError):
                content = None if status == 200 else body.decode('utf-8', 'replace')
            if status == 200:
                return self._read(content, task)
            return self._refused(status, headers, content, form)
        # Outside of the handlers: the client's own error, which holds the request, stays behind.
        raise outcome

    async def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def scrub(self, text: str) -> str:
        """A text from outside without the key, also an escaped one, and writable as UTF-8."""
        key = self._key()
        if len(key) >= SHORTEST_KEY:
            text = _key_pattern(key).sub('***', text)
        return text.encode('utf-8', 'replace').decode()

    def _key(self) -> str:
        return os.environ.get(self.key_env, '').strip()

    def _request(self, task: Task, form: Form) -> dict[str, Any]:
        sampling, texts = self.sampling, {'system': task.system, 'user': task.user}
        request: dict[str, Any] = {
            'model': self.model,
            'messages': [{'role': role, 'content': text} for role, text in texts.items()],
            'temperature': sampling.further if task.sample else sampling.temperature,
            'seed': sampling.seed + task.sample,
            form.limit: form.tokens,
        }
        if sampling.reasoning_effort:
            request['reasoning_effort'] = sampling.reasoning_effort
        for name in form.without:
            del request[name]
        return request | form.response_format(task.schema) | dict(sampling.extra or {})

    def _read(self, content: Any, task: Task) -> Reply:
        try:
            choice = content['choices'][0]
            message = choice['message']
            refusal, text = message.get('refusal'), _texts(message.get('content'))
            names = ('reasoning_content', 'reasoning', 'thinking')
            thoughts = next(filter(None, (_texts(message.get(name)) for name in names)), '')
            finish = self.scrub(str(choice.get('finish_reason') or ''))[:60]
        except (AttributeError, IndexError, KeyError, TypeError):
            said = self._said(named_parameter(content)[0] if isinstance(content, Mapping) else '')
            said = f'the endpoint sent no chat completion: {said}'.removesuffix(': ')
            raise JudgeError(said, retry=True) from None
        if message.get('tool_calls') and not text:
            finish = 'tool_calls'
        read = _count(content, 'prompt_tokens')
        return Reply(
            self.scrub(str(refusal) if refusal else text),
            _count(content, 'total_tokens'),
            bool(refusal) or finish == 'content_filter',
            self.scrub(thoughts),
            finish,
            0 < read < (len(task.system) + len(task.user)) / LONGEST_TOKEN,
        )

    def _refused(self, status: int, headers: Mapping, content: Any, form: Form) -> Reply:
        """What an answer other than 200 means: a refusal, or a `JudgeError`."""
        said, code = named_parameter(content)
        said = self._said(said)
        if code in ('content_filter', 'content_policy_violation') and status == 400:
            return Reply(said, refusal=True)
        changed, what = form.changed(said) if status in (400, 422, 500, 501) else (None, '')
        if changed is not None:
            if self._form == form:
                self._form = changed
                self.notes.append(f'The endpoint does not take {what}. It says: “{said}”')
            raise JudgeError(f'the endpoint does not take {what}: {said}', True, free=True)
        if status == 429 and code == 'insufficient_quota':
            raise JudgeError(f'the quota of this key is used up: {said}')
        if status in (408, 409, 425, 429) or status >= 500:
            after, busy = retry_after(headers), status in (408, 429, 503, 529)
            raise JudgeError(f'the endpoint answered {status}: {said}', True, after, busy)
        advice = {
            401: f'it does not take the key; put the right one into {self.key_env}',
            403: f'the key in {self.key_env} may not use this model',
            404: f'no model {self.model!r}, or the base URL {self.base_url} is wrong (often …/v1)',
        }.get(status, 'it does not take this request')
        raise JudgeError(f'the endpoint answered {status}: {advice}: {said}')

    def _said(self, text: str) -> str:
        # First without the key, then short: of a key that is cut in two nothing would be found.
        return ' '.join(self.scrub(text[:MOST_BODY]).split())[:300]


@lru_cache(maxsize=8)
def _key_pattern(key: str) -> re.Pattern:
    """The key as it is, or with any of its characters escaped as JSON, Python or a URL do."""
    letters = ((re.escape(letter), f'{ord(letter):02x}') for letter in key)
    forms = (rf'(?:{a}|\\{{1,8}}(?:{a}|(?i:u00{n}|x{n}))|(?i:%{n}))' for a, n in letters)
    return re.compile(''.join(forms))


async def _bounded(response: Any) -> bytes:
    """The body, unpacked; the rest of one that is longer than MOST_BODY stays unread."""
    body = b''
    async for part in response.content.iter_chunked(2**16):
        body += part
        if len(body) > MOST_BODY:
            response.close()
            raise JudgeError('the reply is longer than 1 MB and was cut off')
    return body


def _texts(content: Any) -> str:
    """A message's text, also where it is a list of parts."""
    if isinstance(content, list):
        parts = [part.get('text') for part in content if isinstance(part, Mapping)]
        return ''.join(part for part in parts if isinstance(part, str))
    if not isinstance(content, (str, type(None))):
        raise TypeError('content')
    return content or ''


def _count(content: Mapping, name: str) -> int:
    """Tokens that the endpoint counted, or 0: no answer is lost to a number that is none."""
    try:
        return min(max(int(content['usage'][name]), 0), MOST_TOKENS)
    except OverflowError:  # infinity
        return MOST_TOKENS
    except (KeyError, TypeError, ValueError):
        return 0


def host_of(url: str) -> str:
    """The host of an http(s) base URL that holds no user and no query."""
    host = None
    with suppress(ValueError):
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ('http', 'https') and parts.port != 0 else None
    if not host:
        raise ValueError(f'the base URL {url!r} cannot be used: http://HOST:PORT/v1 was expected')
    if parts.username or parts.password or parts.query:
        wrong = 'holds a user or a query; keys belong into the environment (--key-env NAME)'
        raise ValueError(f'the base URL for {host} {wrong}')
    return host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name: what others stand for may change."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        return address.version == 4 and address.is_loopback or address == ipaddress.IPv6Address(1)
    return host == 'localhost'


def retry_after(headers: Any) -> float | None:
    """Seconds that a response asks to wait (a number, or the date until when), or None."""
    value, seconds = headers.get('retry-after', ''), math.inf
    with suppress(TypeError, ValueError, OverflowError):
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
    with suppress(ValueError):
        seconds = float(value)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def named_parameter(content: Any) -> tuple[str, str]:
    """An error's sentences, with the parameters that they name, and its code, from a body's JSON.

    OpenAI has ``{"error": {"message", "param", "code"}}``, Gemini a list of such objects, FastAPI
    (vLLM, TGI) ``{"detail": [{"loc", "msg"}]}``, others a text as error or message, or a bare one.
    """
    found, code, left = {}, '', [(content, DEEPEST)]
    while left:
        part, deep = left.pop(0)
        if isinstance(part, Mapping):
            code = str(part.get('code') or code)
            part = [part.get(n) for n in ('loc', 'param', 'message', 'msg', 'error', 'detail')]
        if isinstance(part, list):
            left[:0] = [(inner, deep - 1) for inner in part[:MOST_PARTS] if deep > 1]
        elif part is not None:
            found[str(part)] = None
    return ': '.join(found) or json.dumps(content)[:1000], code


def without_bounds(schema: Any) -> Any:
    """A JSON schema without the limits of BOUNDS."""
    if isinstance(schema, Mapping):
        return {k: without_bounds(v) for k, v in schema.items() if k not in BOUNDS}
    return [without_bounds(v) for v in schema] if isinstance(schema, list) else schema
