"""What exists because of MMEngine and MMAction2."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


def in_place_of(owner: Any, name: str) -> Callable[[Callable], Callable]:
    """Decorates what takes the place of a function or method, and gets that first; once only."""
    original = getattr(owner, name)

    def put(around: Callable) -> Callable:
        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs)

        wrapper.wrapped_by = f'{around.__module__}.{around.__qualname__}'
        if getattr(original, 'wrapped_by', None) != wrapper.wrapped_by:
            setattr(owner, name, staticmethod(wrapper) if inspect.ismethod(original) else wrapper)
        return around

    return put
