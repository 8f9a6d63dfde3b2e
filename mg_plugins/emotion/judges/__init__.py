"""Judges: an OpenAI-compatible endpoint, a local language model, and the lexicon judge.

The lexicon judge needs no network, key or model. It counts words and gestures, and is never called
a language model.
"""

from __future__ import annotations

from typing import Any

from ..tasks import Judge, JudgeError

KINDS = ('lexicon', 'openai', 'local')


class Unreachable(JudgeError):
    """Nobody listens there: no use in asking many questions before saying so."""


def make_judge(kind: str, **options: Any) -> Judge:
    """A judge by its kind.

    Args:
        kind: ``'lexicon'``, ``'openai'`` or ``'local'``.
        options: Arguments of `LexiconJudge`, `OpenAIJudge` or `LocalJudge`.

    Raises:
        ValueError: Unknown kind, or an argument that the judge does not take.
        ImportError: What the judge needs is not installed; the message has the command.
    """
    if kind == 'lexicon':
        from .lexicon import LexiconJudge as maker
    elif kind == 'openai':
        from .openai_api import OpenAIJudge as maker
    elif kind == 'local':
        from .local import LocalJudge as maker
    else:
        raise ValueError(f'no judge is called {kind!r}; there are {", ".join(KINDS)}')
    return maker(**options)
