"""How platforms count requests: by fixed windows, by a window that rolls, by what goes on at once. One for each way."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Limiter(Protocol):
    """Asked for each request, and told of each that is let in."""

    def wait_seconds(self, now: float) -> float:
        """0.0 if a request is let in now, or how long until one may be."""

    def take(self, now: float) -> None:
        """A request is let in."""

    def remaining(self, now: float) -> int:
        """Requests that would be let in now."""


class FixedWindow:
    """``amount`` requests between two full multiples of ``seconds``."""

    def __init__(self, amount: int, seconds: float) -> None:
        self.amount, self.seconds = amount, seconds
        self._window = 0
        self._used = 0

    def wait_seconds(self, now: float) -> float:
        return 0.0 if self.remaining(now) else self.resets_at(now) - now

    def take(self, now: float) -> None:
        self._look(now)
        self._used += 1

    def remaining(self, now: float) -> int:
        self._look(now)
        return self.amount - self._used

    def resets_at(self, now: float) -> float:
        return (math.floor(now / self.seconds) + 1) * self.seconds

    def _look(self, now: float) -> None:
        window = math.floor(now / self.seconds)
        if window != self._window:
            self._window, self._used = window, 0


class RollingWindow:
    """``amount`` requests in any ``seconds``."""

    def __init__(self, amount: int, seconds: float) -> None:
        self.amount, self.seconds = amount, seconds
        self._taken: deque[float] = deque(maxlen=amount)

    def wait_seconds(self, now: float) -> float:
        return 0.0 if self.remaining(now) else max(self._taken[0] + self.seconds - now, 0.001)

    def take(self, now: float) -> None:
        self._taken.append(now)

    def remaining(self, now: float) -> int:
        while self._taken and self._taken[0] <= now - self.seconds:
            self._taken.popleft()
        return self.amount - len(self._taken)


class AtOnce:
    """``amount`` requests at the same time; ``in_flight`` counts them, with the one that asks."""

    def __init__(self, amount: int, in_flight: Callable[[], int]) -> None:
        self.amount = amount
        self._in_flight = in_flight

    def wait_seconds(self, now: float) -> float:
        return 0.0 if self._in_flight() <= self.amount else 1.0

    def take(self, now: float) -> None:
        """Nothing to count: whoever is in flight is."""

    def remaining(self, now: float) -> int:
        return max(0, self.amount - self._in_flight())
