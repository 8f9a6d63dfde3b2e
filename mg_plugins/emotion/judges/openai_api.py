"""A judge behind any endpoint that speaks OpenAI's chat completions: hosted, vLLM, Ollama, …"""

from __future__ import annotations

import functools
import ipaddress
import logging
import math
import os
import re
import sys
import time
import traceback
import weakref
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ..tasks import JudgeError, Reply, Task
from . import Unreachable

OPENAI = 'https://api.openai.com/v1'
SHORTEST_KEY = 8  # a shorter one is no secret ('none', '0') and may stand in any text
MOST_TOKENS = 2**31
FORMATS = ('json_schema', 'json_object', None)
REMINDER = (
    'reminder: gestures and redacted texts are sent to {host}. Redaction lessens identity, it does '
    'not remove it: make sure that the data agreement of your recordings allows this. '
    '--show prints exactly what is sent.'
)
CLEAR = ' The connection is not encrypted: https:// would be.'
_reminded: set[str] = set()
LOGGERS = ('openai', 'httpx', 'httpcore')  # and their successors, such as httpx2


class OpenAIJudge:
    """Asks one model of an OpenAI-compatible endpoint.

    The key is read from the environment and stands in no message, file, log or identity, also where
    the endpoint sends it back. OPENAI_ORG_ID and OPENAI_PROJECT_ID are told to OpenAI only. A draw
    (`Task.sample`) of 0 is made at ``temperature``, further ones at ``sampling_temperature``; the
    draw's number is added to the seed. Answers are asked for in the task's JSON schema; where the
    endpoint rejects that, as a JSON object, and at last as text.

    Args:
        model: The endpoint's name of the model.
        base_url: Where it is, such as ``http://localhost:8000/v1``; by default OPENAI_BASE_URL, or
            OpenAI's own.
        key_env: Environment variable with the key. An endpoint on loopback needs none.
        allow_remote: Allow an endpoint that is not on loopback.
        temperature: Of the first draw.
        sampling_temperature: Of further draws.
        seed: Of the first draw.
        max_tokens: Longest answer.

    Raises:
        ValueError: A URL that cannot be used, a remote one without ``allow_remote``, no key, or one
            that no header can hold.
        ImportError: The `openai` package is not installed.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        key_env: str = 'OPENAI_API_KEY',
        allow_remote: bool = False,
        temperature: float = 0.0,
        sampling_temperature: float = 0.7,
        seed: int = 0,
        max_tokens: int = 512,
    ) -> None:
        _openai()
        if not model:
            raise ValueError('no model was given: --model NAME, as the endpoint calls it')
        self.model, self.key_env = model, key_env
        self.base_url = (base_url or os.environ.get('OPENAI_BASE_URL') or OPENAI).rstrip('/')
        self.temperature, self.sampling_temperature = temperature, sampling_temperature
        self.seed, self.max_tokens = seed, max_tokens
        self.name = f'openai: {model}'
        host = _host(self.base_url)
        self.loopback, self._is_openai = is_loopback(host), host == urlsplit(OPENAI).hostname
        if not self.loopback and not allow_remote:
            raise ValueError(
                f'{host} is not this machine, and nothing is sent elsewhere unless you say so: '
                '--allow-remote (in a config: allow_remote=True), if the data agreement of your '
                'recordings allows it; --show prints what would be sent'
            )
        key = self._key()
        if not all('!' <= character <= '~' for character in key):
            raise ValueError(
                f'the key in the environment variable {key_env} has white space, control '
                'characters or others than ASCII in it: put it there as it was given'
            )
        if not self.loopback and not key:
            raise ValueError(
                f'no key: put it into the environment variable {key_env}, or name the variable '
                'that has it: --key-env NAME'
            )
        if not self.loopback and host not in _reminded:
            _reminded.add(host)
            clear = self.base_url.startswith('http:')
            print(REMINDER.format(host=host) + CLEAR * clear, file=sys.stderr)
        self._client: Any = None
        # What the endpoint has been found not to take, for the rest of the run.
        self._format, self._limit, self._without = 0, 'max_tokens', frozenset()

    def identity(self) -> dict[str, Any]:
        """Endpoint, model and parameters."""
        return {
            'kind': 'openai',
            'model': self.model,
            'base_url': self.base_url,
            'temperature': self.temperature,
            'sampling_temperature': self.sampling_temperature,
            'seed': self.seed,
            'max_tokens': self.max_tokens,
        }

    async def reply(self, task: Task) -> Reply:
        """Make one request; errors that may pass are marked so and not tried again here.

        Raises:
            JudgeError: There is no reply.
        """
        if self._client is None:
            self._client = self._connect()
        form = self._format, self._limit, self._without
        try:
            # `chat.completions.create` is this call, but walks through the whole request with the
            # types of all parameters first: a third of what a request costs.
            response = await self._client.post(
                '/chat/completions',
                body=self._request(task, *form),
                cast_to=_openai().types.chat.ChatCompletion,
            )
            return self._read(response)
        except JudgeError as error:
            problem = error
        except Exception as error:  # noqa: BLE001  the client also passes on what its parser raises
            problem = self._problem(error, form)
        if isinstance(problem, Reply):
            return problem
        # Outside of the handler: the client's own error, which holds the request, stays behind.
        raise problem

    async def close(self) -> None:
        """Close the connections; a later question opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def scrub(self, text: str) -> str:
        """A text from outside without the key, also an escaped one, and writable as UTF-8."""
        key = self._key()
        if len(key) >= SHORTEST_KEY:
            text = _key_pattern(key).sub('***', text)
        return text.encode('utf-8', 'replace').decode()

    def _key(self) -> str:
        return os.environ.get(self.key_env, '').strip()

    def _connect(self):
        openai = _openai()
        # No redirects: the text goes where it was allowed to go. No proxy on the way to loopback.
        http = openai.DefaultAsyncHttpxClient(follow_redirects=False, trust_env=not self.loopback)
        client = openai.AsyncOpenAI(
            api_key=self._key() or 'none',
            base_url=self.base_url,
            max_retries=0,
            http_client=http,
        )
        if not self._is_openai:
            client.organization = client.project = None  # it has read them from the environment
        _scrub_logs(self)
        return client

    def _request(self, task: Task, form: int, limit: str, without: frozenset) -> dict[str, Any]:
        request: dict[str, Any] = {
            'model': self.model,
            'messages': [
                {'role': 'system', 'content': task.system},
                {'role': 'user', 'content': task.user},
            ],
            'temperature': self.sampling_temperature if task.sample else self.temperature,
            'seed': self.seed + task.sample,
            limit: self.max_tokens,
        }
        for name in without:
            del request[name]
        if task.schema is not None and FORMATS[form]:
            wanted: dict[str, Any] = {'type': FORMATS[form]}
            if FORMATS[form] == 'json_schema':
                wanted['json_schema'] = {'name': 'answer', 'strict': True, 'schema': task.schema}
            request['response_format'] = wanted
        return request

    def _read(self, response: Any) -> Reply:
        try:
            choice = response.choices[0]
            message = choice.message
            refusal = getattr(message, 'refusal', None)
            text = refusal or message.content or ''
            if not isinstance(text, str):
                raise TypeError('content')
        except (AttributeError, IndexError, TypeError, ValueError):
            raise JudgeError('the endpoint sent no chat completion', retry=True) from None
        refused = bool(refusal) or choice.finish_reason == 'content_filter'
        return Reply(self.scrub(text), _tokens(response), refused)

    def _problem(self, error: Exception, form: tuple) -> JudgeError | Reply:
        openai = _openai()
        if isinstance(error, openai.APIStatusError):
            return self._status_problem(error, form)
        if isinstance(error, openai.APITimeoutError):
            return JudgeError('the endpoint took too long', retry=True)
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__
            text = self._said(str(cause) or type(cause).__name__)
            if type(cause).__name__ == 'ConnectError':
                return Unreachable(f'nobody answers at {self.base_url}: {text}', retry=True)
            return JudgeError(f'the connection broke: {text}', retry=True)
        if isinstance(error, ValueError | openai.APIResponseValidationError):
            return JudgeError('the endpoint sent a broken JSON body', retry=True)
        return JudgeError(self._said(f'{type(error).__name__}: {error}'))

    def _status_problem(self, error: Any, form: tuple) -> JudgeError | Reply:
        body = error.body if isinstance(error.body, dict) else {}
        status, said = error.status_code, self._said(str(body.get('message') or error.message))
        after = retry_after(error.response.headers)
        code = str(getattr(error, 'code', None) or '')
        if status == 400 and code in ('content_filter', 'content_policy_violation'):
            return Reply(said, refusal=True)
        if status in (400, 422) and self._adapt(said.lower(), form):
            return JudgeError(f'the endpoint takes no such request: {said}', retry=True)
        if status == 429 and code == 'insufficient_quota':
            return JudgeError(f'the quota of this key is used up: {said}')
        if status in (408, 409, 429) or status >= 500:
            return JudgeError(f'the endpoint answered {status}: {said}', retry=True, after=after)
        advice = {
            401: f'it does not take the key; put the right one into {self.key_env}',
            403: f'the key in {self.key_env} may not use this model',
            404: f'there is no model {self.model!r}, or the base URL {self.base_url} is not right '
            '(most end in /v1)',
        }.get(status, 'it does not take this request')
        return JudgeError(f'the endpoint answered {status}: {advice}: {said}')

    def _adapt(self, said: str, form: tuple) -> bool:
        """Leave out what the endpoint complains about; whether asking anew may help."""
        level, limit, without = form
        if any(word in said for word in ('response_format', 'json_schema', 'json_object')):
            self._format = max(self._format, min(level + 1, len(FORMATS) - 1))
        elif 'max_completion_tokens' in said and limit == 'max_tokens':
            self._limit = 'max_completion_tokens'
        elif 'support' in said:
            self._without |= {name for name in ('temperature', 'seed') if name in said}
        return form != (self._format, self._limit, self._without)

    def _said(self, text: str) -> str:
        # First without the key, then short: of a key that is cut in two nothing would be found.
        return ' '.join(self.scrub(text).split())[:300]


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name: ``localhost``, 127.0.0.0/8 or ``::1``.

    Nothing is looked up: whoever answers for another name may say 127.0.0.1 now and something else
    at the next request.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == 'localhost'
    return address.version == 4 and address.is_loopback or address == ipaddress.IPv6Address(1)


def retry_after(headers: Any) -> float | None:
    """Seconds that a response asks to wait (a number, or the date until when), or None."""
    value = headers.get('retry-after')
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        usable = parts.scheme in ('http', 'https') and host and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f'the base URL {url!r} is none: http://HOST:PORT/v1 was expected')
    if parts.username or parts.password or parts.query:
        raise ValueError(
            f'the base URL for {host} holds a user or a query; keys belong into the environment '
            '(--key-env NAME)'
        )
    return host


def _tokens(response: Any) -> int:
    """The tokens that the endpoint counted, or 0: no answer is lost to a number that is none."""
    try:
        return min(max(int(response.usage.total_tokens), 0), MOST_TOKENS)
    except OverflowError:  # infinity
        return MOST_TOKENS
    except (AttributeError, TypeError, ValueError):
        return 0


@functools.lru_cache(maxsize=8)
def _key_pattern(key: str) -> re.Pattern:
    """The key as it is, or with any of its characters escaped as JSON, Python or a URL do."""
    return re.compile(
        ''.join(
            rf'(?:{re.escape(letter)}|\\{{1,8}}(?:{re.escape(letter)}|(?i:u00{ord(letter):02x}'
            rf'|x{ord(letter):02x}))|(?i:%{ord(letter):02x}))'
            for letter in key
        )
    )


class _LogFilter(logging.Filter):
    """Takes the keys of judges out of what the client logs, such as a response's headers."""

    def __init__(self) -> None:
        super().__init__()
        self.judges: weakref.WeakSet[OpenAIJudge] = weakref.WeakSet()

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.scrub(record.getMessage()), None
        if record.exc_info and record.exc_info[0]:
            record.exc_text = self.scrub(''.join(traceback.format_exception(*record.exc_info)))
            record.exc_info = None
        return True

    def scrub(self, text: str) -> str:
        for judge in list(self.judges):
            text = judge.scrub(text)
        return text


_log_filter = _LogFilter()


def _scrub_logs(judge: OpenAIJudge) -> None:
    _log_filter.judges.add(judge)
    for name in list(logging.root.manager.loggerDict):  # a filter does not hold for those below
        if name.split('.')[0].rstrip('0123456789') in LOGGERS:
            logging.getLogger(name).addFilter(_log_filter)


def _openai():
    try:
        import openai
    except ImportError:
        raise ImportError('this judge needs openai: pip install -e ".[llm]"') from None
    return openai
