"""Judges: an OpenAI-compatible endpoint, and the lexicon judge, which is no language model."""

from typing import Any

from ..tasks import Judge


def make_judge(kind: str, **options: Any) -> Judge:
    """A judge by its kind, ``'lexicon'`` or ``'openai'``, with the options of its class."""
    try:
        if kind == 'lexicon':
            from .lexicon import LexiconJudge as Kind
        elif kind == 'openai':
            from .openai_api import OpenAIJudge as Kind
        else:
            raise ValueError(f'there is no judge {kind!r}; there are lexicon, openai')
        return Kind(**options)
    except ImportError as error:
        extra = 'emotion' if kind == 'lexicon' else 'llm'
        needs = f'the judge {kind!r} needs {error.name}: pip install -e ".[{extra}]"'
        raise ImportError(needs) from None
