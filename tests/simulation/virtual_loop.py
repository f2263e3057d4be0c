"""One process's event loop without a clock or a socket of its own: it runs so many callbacks as it is told, and time is the world's."""

from __future__ import annotations

import asyncio
import heapq
import math
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from typing import Any


class Handle:
    """What ``call_soon`` and ``call_at`` return."""

    __slots__ = ("args", "callback", "is_cancelled")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.callback = callback
        self.args = args
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled


class VirtualLoop(asyncio.AbstractEventLoop):
    """``elapsed_ms`` is the world's clock. A process that is frozen is a loop that is not run; one that was killed never is again."""

    def __init__(self, elapsed_ms: Callable[[], int]) -> None:
        self._elapsed_ms = elapsed_ms
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = 0
        self._is_halted = False

    def run(self, most: float = math.inf) -> None:
        """What is ready, and what that makes ready, up to so many callbacks. An error in one of them is the caller's."""
        self._ring()
        ready, self._is_halted = self._ready, False
        events._set_running_loop(self)
        try:
            while ready and most > 0 and not self._is_halted:
                handle = ready.popleft()
                if not handle.is_cancelled:
                    handle.callback(*handle.args)
                most -= 1
        finally:
            events._set_running_loop(None)

    def halt(self) -> None:
        """After the callback that runs now, nothing does."""
        self._is_halted = True

    def go_on_with(self, halted: asyncio.Future[None]) -> None:
        """Whoever waits for it goes before everything that is ready, and before the timers that rang meanwhile."""
        if not halted.done():
            halted.set_result(None)
            self._ready.appendleft(self._ready.pop())

    @contextmanager
    def entered(self) -> Any:
        """What is called inside finds this loop running."""
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)

    @property
    def has_ready(self) -> bool:
        return bool(self._ready) or bool(self._timers and self._timers[0][0] <= self.time())

    def _ring(self) -> None:
        now = self.time()
        while self._timers and self._timers[0][0] <= now:
            self._ready.append(heapq.heappop(self._timers)[2])

    # What asyncio asks of a loop ------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._elapsed_ms() / 1000

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args)
        self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        return self.call_at(self.time() + delay, callback, *args)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Any = None, **_: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name or "task")

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Of tasks that ended in an error, or never, since their process did."""

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False
