"""Waiting for a condition by asking again and again, with a bound and a reason; no test sleeps for a guessed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

POLL_SECONDS = 0.1


async def until(condition: Callable[[], Any | Awaitable[Any]], seconds: float, what: str, *, every_seconds: float = POLL_SECONDS) -> Any:
    """The first true value of ``condition``. Raises AssertionError that says ``what`` did not come about, and the last value seen."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"within {seconds:g} s, not {what} (last seen: {value!r})")
        await asyncio.sleep(every_seconds)
