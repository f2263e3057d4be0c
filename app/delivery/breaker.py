"""Whether requests may go to a destination: a circuit breaker that knows why it is open. Pure over a clock.

closed ──► open ──► half-open ──► closed
             ▲           │
             └───────────┘

What time does not mend (credentials, configuration, 410, an operator's pause) stays open until an operator acts. Errors trip it by their
rate, and a destination that asked to be left alone for long is parked; after either, probes pass one at a time, and some of them must
succeed in a row before it closes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from app.destinations.outcomes import DownCause

#: The last answers, at most so many and none older than this, decide. Convoy looks at five minutes; the bound on their number lets a busy
#: destination trip after moments, not after most of five minutes.
WINDOW_MS = 300_000
WINDOW_ANSWERS = 100
#: It trips when so many were asked for and this share of them failed (Convoy: 10 and 70 %). One success among failures resets nothing.
MIN_ANSWERS = 10
TRIP_SHARE = 0.7
#: How long errors keep it open: the first wait of the retry schedule, then twice as long with each trip in a row.
FIRST_OPEN_MS = 5_000
MAX_OPEN_MS = 300_000
#: Trips are in a row if it was closed for less than this between them: closing alone does not make a flapping destination a sound one.
SOUND_MS = WINDOW_MS
#: Probes that must succeed, one after the other, before it closes.
PROBES = 3
#: A probe of which nothing was heard for so long is over: longer than any request may last (``timeout_seconds`` is at most 60).
PROBE_MS = 90_000
#: A request to stay away for longer than this parks the destination; a shorter one is a pause (limiter.py).
PARK_BEYOND_MS = 3_600_000
#: No request to stay away is honoured for longer: HubSpot's 477 asks for up to 24 hours.
MAX_PARKED_MS = 25 * 3_600_000
MAX_REASON_CHARS = 200


class Cause(Enum):
    """Why it is open; the stronger ones last."""

    #: Too many requests failed.
    ERRORS = "errors"
    #: The destination asked to be left alone for long.
    PARKED = "parked"
    #: What DownCause names.
    AUTH = "auth"
    CONFIGURATION = "configuration"
    GONE = "gone"
    #: An operator paused it; or, in a closed state, an operator closed it.
    OPERATOR = "operator"

    @property
    def needs_operator(self) -> bool:
        """Whether time alone does not end it."""
        return self not in (Cause.ERRORS, Cause.PARKED)

    @property
    def strength(self) -> int:
        """What is stronger is not replaced by what is weaker."""
        return _STRENGTHS[self]


_STRENGTHS = {Cause.ERRORS: 0, Cause.PARKED: 1, Cause.AUTH: 2, Cause.CONFIGURATION: 2, Cause.GONE: 2, Cause.OPERATOR: 3}


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Since when it is as it is, and why."""

    kind: Literal["closed", "open", "half_open"] = "closed"
    cause: Cause | None = None
    #: In words: printable, at most MAX_REASON_CHARS.
    reason: str = ""
    #: Milliseconds since 1970; 0 in the first state of all. It grows with each change, whatever the clock does; half-open keeps it.
    since_ms: int = 0
    #: Open: when it becomes half-open (0: not before an operator acts).
    until_ms: int = 0


class Breaker:
    """One destination's breaker, on one worker.

    ``on_change`` gets each new state, whoever brought it about. Call ``begin`` for each request, and then exactly one of ``succeeded`` (it
    was answered, whatever the answer said about people), ``failed`` (it was not, or with a server error), ``ended`` (nothing is to be
    learned from it: throttled, or never sent), ``opened`` and ``parked``. What ``begin`` returned may be passed on, so that an answer to a
    request from before a trip is not taken for a probe's.
    """

    def __init__(self, clock: Callable[[], int], on_change: Callable[[BreakerState], None] = lambda _: None) -> None:
        """``clock``: milliseconds since 1970."""
        self._clock = clock
        self._on_change = on_change
        self._state = BreakerState()
        #: (when, whether it failed), the oldest first.
        self._answers: deque[tuple[int, bool]] = deque(maxlen=WINDOW_ANSWERS)
        self._failures = 0
        self._trips_in_a_row = 0
        self._closed_at_ms = 0
        #: Grows with each change of state and each probe: an answer to a request of another era says nothing about this one.
        self._era = 0
        self._probe_since_ms: int | None = None
        self._probes_succeeded = 0

    @property
    def state(self) -> BreakerState:
        return self._state

    # Requests ----------------------------------------------------------------------------------------------------------

    def allows(self) -> bool:
        """Whether a request may begin now. An open one becomes half-open here, when its time has come."""
        if self._state.kind == "closed":
            return True
        now_ms = self._clock()
        self._half_open(now_ms)
        return self._state.kind == "half_open" and not self._is_probing(now_ms)

    def begin(self) -> int:
        """A request begins; half-open, it is the probe, and no other may begin before it ended. Returns its era."""
        if self._state.kind == "half_open":
            self._probe_since_ms = self._clock()
            self._era += 1  # a probe that was given up may end yet, and is not this one
        return self._era

    def succeeded(self, era: int | None = None) -> None:
        """The destination answered. A refusal of a person is an answer."""
        if era is not None and era != self._era:
            return
        match self._state.kind:
            case "closed":
                self._remember(self._clock(), failed=False)
            case "half_open":
                self._probe_since_ms = None
                self._probes_succeeded += 1
                if self._probes_succeeded >= PROBES:
                    self._close()

    def failed(self, reason: str, era: int | None = None) -> None:
        """The destination did not answer, or said that it failed."""
        if era is not None and era != self._era:
            return
        now_ms = self._clock()
        match self._state.kind:
            case "closed":
                self._remember(now_ms, failed=True)
                if self._too_many_failures():
                    self._trip(reason, now_ms)
            case "half_open":
                self._trip(reason, now_ms)

    def ended(self, era: int | None = None) -> None:
        """A request ended, or did not take place, and nothing is to be learned from it."""
        if era is None or era == self._era:
            self._probe_since_ms = None

    # What opens and closes it at once ----------------------------------------------------------------------------------

    def opened(self, cause: DownCause, reason: str) -> None:
        """The destination takes nothing until an operator acts."""
        self._open(Cause(cause.value), reason, 0)

    def parked(self, until_ms: int, reason: str) -> None:
        """The destination asked to be left alone until then; at most MAX_PARKED_MS from now."""
        self._open(Cause.PARKED, reason, max(1, min(until_ms, self._clock() + MAX_PARKED_MS)))

    def paused_by_operator(self, reason: str) -> None:
        """Nothing goes there until an operator resumes it."""
        self._open(Cause.OPERATOR, reason, 0)

    def closed_by_operator(self) -> None:
        """Whatever the cause was, it is mended, says an operator."""
        self._trips_in_a_row = 0
        self._change(BreakerState("closed", Cause.OPERATOR, since_ms=self._next_since_ms()))

    def restore(self, state: BreakerState) -> None:
        """Take over what another worker, or this one before its restart, found, or what an operator decided."""
        if state.kind == "closed" and state.cause is Cause.OPERATOR:
            self._trips_in_a_row = 0
        self._change(state)

    # When --------------------------------------------------------------------------------------------------------------

    def next_at_ms(self) -> int | None:
        """When ``allows`` may next be true with nothing else happening before; 0: it is. None: not before an operator acts."""
        state = self._state
        if state.kind == "open":
            return state.until_ms or None
        now_ms = self._clock()
        if state.kind == "half_open" and self._probe_since_ms is not None and self._is_probing(now_ms):
            return self._probe_since_ms + PROBE_MS
        return 0

    def is_sound(self) -> bool:
        """Whether this worker's own last answers say that the destination works, whatever others found."""
        self._forget(self._clock())
        return self._state.kind == "closed" and len(self._answers) >= PROBES and self._failures < TRIP_SHARE * len(self._answers)

    # -------------------------------------------------------------------------------------------------------------------

    def _open(self, cause: Cause, reason: str, until_ms: int) -> None:
        now = self._state
        if now.kind == "open" and now.cause is not None:
            if now.cause.strength > cause.strength or (now.cause is cause and now.until_ms == until_ms):
                return
            if now.cause.needs_operator and now.cause.strength == cause.strength:
                return  # the first of them is what the operator is told
        self._change(BreakerState("open", cause, printable(reason), self._next_since_ms(), until_ms))

    def _half_open(self, now_ms: int) -> None:
        state = self._state
        if state.kind != "open" or not state.until_ms:
            return
        longest_ms = MAX_OPEN_MS if state.cause is Cause.ERRORS else MAX_PARKED_MS
        # Later than it can be: whoever opened it had a clock that was ahead.
        if not state.until_ms - longest_ms <= now_ms < state.until_ms:
            self._change(BreakerState("half_open", state.cause, state.reason, state.since_ms))

    def _trip(self, reason: str, now_ms: int) -> None:
        if self._state.kind == "closed" and now_ms - self._closed_at_ms >= SOUND_MS:
            self._trips_in_a_row = 0
        open_ms = min(FIRST_OPEN_MS * 2 ** min(self._trips_in_a_row, 20), MAX_OPEN_MS)
        self._trips_in_a_row += 1
        self._change(BreakerState("open", Cause.ERRORS, printable(reason), self._next_since_ms(), now_ms + open_ms))

    def _close(self) -> None:
        self._change(BreakerState("closed", since_ms=self._next_since_ms()))

    def _change(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
        self._answers.clear()
        self._failures = 0
        self._probe_since_ms = None
        self._probes_succeeded = 0
        if state.kind == "closed":
            self._closed_at_ms = self._clock()
        self._on_change(state)

    def _next_since_ms(self) -> int:
        return max(self._clock(), self._state.since_ms + 1)

    def _is_probing(self, now_ms: int) -> bool:
        since_ms = self._probe_since_ms
        return since_ms is not None and 0 <= now_ms - since_ms < PROBE_MS  # a clock that was set back must not keep a probe for ever

    def _remember(self, now_ms: int, *, failed: bool) -> None:
        if len(self._answers) == WINDOW_ANSWERS:
            self._failures -= self._answers[0][1]
        self._answers.append((now_ms, failed))
        self._failures += failed

    def _too_many_failures(self) -> bool:
        self._forget(self._clock())
        return len(self._answers) >= MIN_ANSWERS and self._failures >= TRIP_SHARE * len(self._answers)

    def _forget(self, now_ms: int) -> None:
        answers = self._answers
        while answers and not now_ms - WINDOW_MS <= answers[0][0] <= now_ms:
            self._failures -= answers.popleft()[1]


def printable(reason: str) -> str:
    """At most MAX_REASON_CHARS of it, in one line."""
    return "".join(c if c.isprintable() else " " for c in reason[:MAX_REASON_CHARS])
