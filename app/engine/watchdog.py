"""The watchdog: finds out that a worker lives and does not go on, says where it stands still, and ends it for its supervisor.

The event loop looks at everything that must go on, once in a while, and a thread looks at the event loop. What waits for somebody outside
(a broker that is away, a destination that hangs, a limit) is no standstill; whoever reports a work says so (``Work.owed``). Of a work that
the broker may be to blame for, the broker is asked before anything ends. Should some C code hold the interpreter's lock for good, so that
no thread of Python's runs either, faulthandler ends the process a little later, with exit code 1.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import threading
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

from faust.types import TP

from app.errors import StandstillError

#: Between two looks, as a part of what is tolerated.
LOOKS = 20
#: A look that comes later than so many intervals counts as so many: the process was paused, or busy, and what it looks at with it.
MAX_INTERVALS = 3
#: faulthandler's turn comes so much later than the thread's.
BACKSTOP_SECONDS = 10.0
#: What telling why may take, once it is decided: a log that nobody reads must not keep the process.
LAST_WORDS_SECONDS = 3.0
#: Where the stacks go, whatever became of sys.stderr.
STDERR = 2


class Work(NamedTuple):
    """One thing that must go on, as it stands at a moment."""

    name: str
    #: Whatever changes when it goes on.
    position: Hashable
    #: Whether there is something to do that waits for nobody outside.
    owed: bool
    #: What stands still then, for whoever reads the log: a clause.
    what: str
    #: Tolerated beyond the watchdog's limit.
    patience_seconds: float = 0.0
    #: The partition whose leader may be to blame.
    place: TP | None = None


@dataclass(slots=True)
class _Seen:
    position: Hashable
    since: float


class Judge:
    """Which work has stood still for too long. Remembers one position for each work that was last reported."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._seen: dict[str, _Seen] = {}

    def look(self, works: Iterable[Work], now: float) -> list[Work]:
        """Those that stand still; ``now`` in seconds."""
        before, self._seen, still = self._seen, {}, []
        for work in works:
            seen = before.get(work.name)
            if seen is None or not work.owed or seen.position != work.position:
                seen = _Seen(work.position, now)
            self._seen[work.name] = seen
            if now - seen.since >= self._limit + work.patience_seconds:
                still.append(work)
        return still

    def excuse(self, work: Work, now: float) -> None:
        """It was not its fault: count from now."""
        self._seen[work.name] = _Seen(work.position, now)


class Watchdog:
    """``run`` looks until cancelled; ``fail`` is called, once, from whichever thread finds out."""

    def __init__(
        self,
        limit_seconds: float,
        works: Callable[[], Iterable[Work]],
        fail: Callable[[BaseException], None],
        *,
        broker_answers: Callable[[TP], Awaitable[bool]],
        clock: Callable[[], float] = monotonic,
        leave: Callable[[], None] | None = None,
    ) -> None:
        """``broker_answers``: whether the partition's leader does. ``leave`` ends the process if ``fail`` takes too long; the exit code is
        the caller's to choose.
        """
        self._limit = limit_seconds
        self._interval = limit_seconds / LOOKS
        self._works = works
        self._fail = fail
        self._broker_answers = broker_answers
        self._clock = clock
        self._leave = leave or (lambda: os._exit(1))
        self._judge = Judge(limit_seconds)
        self._looks = 0
        self._stopped = threading.Event()

    async def run(self) -> None:
        """Look, until cancelled."""
        thread = threading.Thread(target=self._watch_loop, name="watchdog", daemon=True)
        thread.start()
        now, last = 0.0, self._clock()
        try:
            while True:
                self._looks += 1
                for work in self._judge.look(self._works(), now):
                    if work.place is not None and not await self._broker_answers(work.place):
                        self._looks += 1
                        self._judge.excuse(work, now)
                        continue
                    self._end(f"{work.what} for {self._limit + work.patience_seconds:g} s, though nothing outside keeps it")
                    return
                await asyncio.sleep(self._interval)
                at = self._clock()
                now, last = now + min(at - last, MAX_INTERVALS * self._interval), at
        finally:
            self._stopped.set()

    def _watch_loop(self) -> None:
        """In a thread: whether the loop looks. Waits are counted, not timed: this thread was paused when the process was."""
        looks, waits = 0, 0
        try:
            while not self._stopped.wait(self._interval):
                faulthandler.dump_traceback_later(self._limit + BACKSTOP_SECONDS, exit=True, file=STDERR)
                if looks != self._looks:
                    looks, waits = self._looks, 0
                    continue
                waits += 1
                if waits > LOOKS:
                    self._end(f"the event loop has not gone round for {self._limit:g} s; the stacks of all threads are in the log")
                    return
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _end(self, reason: str) -> None:
        last_words = threading.Timer(LAST_WORDS_SECONDS, self._leave)
        last_words.daemon = True
        last_words.start()
        faulthandler.dump_traceback(file=STDERR, all_threads=True)
        self._fail(StandstillError(f"the watchdog found a standstill: {reason}"))
