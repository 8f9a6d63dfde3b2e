"""What an endpoint's error says about a request, in whatever shape it has, and what to change."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

FORMATS = ('bounded', 'json_schema', 'json_object', '')
BOUNDS = ('maxLength', 'maxItems', 'uniqueItems', 'minimum', 'maximum')
OPTIONAL = ('seed', 'temperature')
FEWEST_TOKENS = 256
LIMIT = re.compile(r'max_(?:completion_)?tokens|context (?:length|window|size)|n_ctx')


@dataclass(frozen=True)
class Form:
    """How an endpoint takes a request.

    Attributes:
        tokens: Longest answer that is asked for.
        limit: What the endpoint calls this limit.
        format: One of FORMATS.
        without: Parameters of OPTIONAL that are left out.
    """

    tokens: int
    limit: str = 'max_tokens'
    format: str = FORMATS[0]
    without: frozenset[str] = frozenset()

    def changed(self, said: str) -> tuple[Form | None, str]:
        """A form without what an error complains about, and what that is.

        Args:
            said: The endpoint's sentence.

        Returns:
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
        bounds = any(re.search(rf'\b{bound.lower()}\b', text) for bound in BOUNDS)
        if bounds and self.format == 'bounded':
            return replace(self, format='json_schema'), 'bounds in a JSON schema'
        if re.search(r'response_?format|response_?schema|json|schema|grammar', text):
            level = FORMATS.index(self.format)
            # Where the schema is refused, its bounds are not the only cause.
            level += 2 if self.format == 'bounded' else 1
            if level < len(FORMATS):
                return replace(self, format=FORMATS[level]), f'response_format {self._type()}'
        return None, ''

    def _type(self) -> str:
        return 'json_schema' if self.format == 'bounded' else self.format


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
