"""How long to wait before coming back."""

from __future__ import annotations

from typing import Callable

FIRST_S = 1.0
FACTOR = 1.5
CAP_S = 30.0


class Backoff:
    """Full jitter: anything between nothing and a bound that grows with each failure."""

    def __init__(self, random: Callable[[], float]):
        self._random = random
        self._failures = 0

    def next_s(self, at_least_s: float = 0.0) -> float:
        """The wait after one more failure, not less than what the server asked for."""
        bound = min(CAP_S, FIRST_S * FACTOR**self._failures)
        # Beyond the cap the number is of no use, and a float has an end.
        self._failures = min(self._failures + 1, 64)
        return max(at_least_s, self._random() * bound)

    def reset(self) -> None:
        """A connection has stood for a while."""
        self._failures = 0
