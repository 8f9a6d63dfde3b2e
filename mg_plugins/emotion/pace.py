"""Limits of asking: what a run may cost, and how many requests may be under way."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass
class Budget:
    """Limits over one call of `ask_all`, or over all that are given the same object.

    ``calls`` are requests, retries included. After ``tokens`` nothing new is asked, but what is
    under way is awaited, so that a few answers more may come.
    """

    calls: int | None = None
    tokens: int | None = None
    used_calls: int = 0
    used_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ('calls', 'tokens'):
            limit = getattr(self, name)
            if limit is not None and limit < 0:
                raise ValueError(f'budget of {limit} {name}: a number of at least 0 was expected')

    def over(self) -> str:
        """Which limit is reached, or an empty text."""
        if self.calls is not None and self.used_calls >= self.calls:
            return f'the budget of {self.calls} calls is used up'
        if self.tokens is not None and self.used_tokens >= self.tokens:
            return f'the budget of {self.tokens} tokens is used up ({self.used_tokens} used)'
        return ''


class Pace:
    """How many requests may be under way (``allowed``): one at first, at last ``most``.

    After each round (as many replies as may be under way) the median time of its replies is
    compared with that of the fastest round so far: up to 1.5 times, the number doubles; above 3
    times, it falls by one. A time-out or "too many requests" (`overloaded`) halves it.
    """

    def __init__(self, most: int) -> None:
        self.most, self.allowed = most, 1
        self._times: list[float] = []
        self._fastest = float('inf')

    def replied(self, seconds: float) -> None:
        """A reply came after so many seconds."""
        self._times.append(seconds)
        if len(self._times) < self.allowed:
            return
        median = statistics.median(self._times)
        self._times.clear()
        self._fastest = min(self._fastest, max(median, 0.01))
        if median <= 1.5 * self._fastest:
            self.allowed = min(self.most, 2 * self.allowed)
        elif median > 3 * self._fastest:
            self.allowed = max(1, self.allowed - 1)

    def overloaded(self) -> None:
        """A time-out, or the endpoint said that there are too many requests."""
        self.allowed = max(1, self.allowed // 2)
        self._times.clear()
