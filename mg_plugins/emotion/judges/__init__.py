"""Judges: an OpenAI-compatible endpoint, and the lexicon judge.

The lexicon judge needs no network, key or model. It counts words and gestures, and is never called
a language model. Any other model: `mg_plugins.emotion.inspect_task`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..tasks import Judge

KINDS = {
    'lexicon': ('lexicon', 'LexiconJudge', 'emotion'),
    'openai': ('openai_api', 'OpenAIJudge', 'llm'),
}


def make_judge(kind: str, **options: Any) -> Judge:
    """A judge by its kind, ``'lexicon'`` or ``'openai'``, with the options of its class."""
    if kind not in KINDS:
        raise ValueError(f'there is no judge {kind!r}; there are {", ".join(KINDS)}')
    module, name, extra = KINDS[kind]
    try:
        return getattr(import_module(f'.{module}', __name__), name)(**options)
    except ImportError as error:
        needs = f'the judge {kind!r} needs {error.name}: pip install -e ".[{extra}]"'
        raise ImportError(needs) from None
