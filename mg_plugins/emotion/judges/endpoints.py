"""Endpoints: whether one is this machine, what its errors say, and how it takes a request."""

from __future__ import annotations

import ipaddress
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

FORMATS = ('bounded', 'json_schema', 'json_object', '')
BOUNDS = ('maxLength', 'maxItems', 'uniqueItems', 'minimum', 'maximum')
BOUND = re.compile(rf'\b({"|".join(BOUNDS)})\b', re.I)
OPTIONAL = ('seed', 'temperature')
FEWEST_TOKENS = 256
LIMIT = re.compile(r'max_(?:completion_)?tokens|context (?:length|window|size)|n_ctx')


def host_of(url: str) -> str:
    """The host of an http(s) base URL that holds no user and no query."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        usable = parts.scheme in ('http', 'https') and host and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f'the base URL {url!r} cannot be used: http://HOST:PORT/v1 was expected')
    if parts.username or parts.password or parts.query:
        raise ValueError(
            f'the base URL for {host} holds a user or a query; keys belong into the environment '
            '(--key-env NAME)'
        )
    return host


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


@dataclass(frozen=True)
class Form:
    """How an endpoint takes a request."""

    tokens: int  # longest answer that is asked for
    limit: str = 'max_tokens'  # what the endpoint calls this limit
    format: str = FORMATS[0]  # one of FORMATS
    without: frozenset[str] = frozenset()  # parameters of OPTIONAL that are left out

    def changed(self, said: str) -> tuple[Form | None, str]:
        """A form without what an endpoint's error complains about, and what that is.

        None where the error names nothing that can be left out.
        """
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
    """An error's sentence, with the parameter that it names, and its code, from a body's JSON.

    OpenAI has ``{"error": {"message", "param", "code"}}``, Gemini a list of such objects, FastAPI
    (vLLM, TGI) ``{"detail": [{"loc", "msg"}]}``, others ``{"error": "…"}``, ``{"message": "…"}``
    or a bare text.
    """
    if isinstance(content, list):
        content = content[0] if content else ''
    if not isinstance(content, Mapping):
        return str(content), ''
    inner = next((content[k] for k in ('error', 'detail', 'message') if content.get(k)), content)
    if isinstance(inner, list):
        parts = [
            f'{".".join(map(str, part.get("loc") or []))}: {part.get("msg", "")}'
            if isinstance(part, Mapping)
            else str(part)
            for part in inner
        ]
        return '; '.join(parts), ''
    if not isinstance(inner, Mapping):
        return str(inner), str(content.get('code') or '')
    said = str(inner.get('message') or inner.get('msg') or json.dumps(dict(inner))[:1000])
    parameter = inner.get('param')
    if isinstance(parameter, str) and parameter not in said:
        said = f'{parameter}: {said}'
    return said, str(inner.get('code') or '')


def without_bounds(schema: Any) -> Any:
    """A JSON schema without the limits of BOUNDS."""
    if isinstance(schema, Mapping):
        return {k: without_bounds(v) for k, v in schema.items() if k not in BOUNDS}
    return [without_bounds(v) for v in schema] if isinstance(schema, list) else schema
