"""Endpoints: whether one is this machine, what its errors say, and how it takes a request."""

import ipaddress
import json
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

FORMATS = ('bounded', 'json_schema', 'json_object', '')
BOUNDS = ('maxLength', 'maxItems', 'uniqueItems', 'minimum', 'maximum')
BOUND = re.compile(rf'\b({"|".join(BOUNDS)})\b', re.I)
OPTIONAL = ('seed', 'temperature')
FEWEST_TOKENS = 256
MOST_PARTS, DEEPEST = 20, 6  # of an error that are read
LIMIT = re.compile(r'max_(?:completion_)?tokens|context (?:length|window|size)|n_ctx')


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
