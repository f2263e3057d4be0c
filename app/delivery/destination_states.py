"""What workers and operators tell one another about a destination's breaker, and who is right when they disagree. Pure.

The topic holds the latest state by destination. Each state is later than those that its author knew of (``at_ms`` grows even if the clock
does not), so a state that was written late, by a worker that was frozen meanwhile, is told from the one that it covers up: whoever knows
the later one writes that again. What an operator says always holds; of what workers say, *down until an operator acts* holds over errors
and over "it works again".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from app.delivery.breaker import MAX_OPEN_MS, MAX_PARKED_MS, Breaker, BreakerState, Cause, printable
from tidings.internal.v1 import destination_state_pb2
from tidings.internal.v1.destination_state_pb2 import DestinationState

#: Who wrote a state that an operator decided.
OPERATOR = "operator"
#: The operator's clock may be behind a worker's by so much, and what the operator says still counts as said after what the worker found.
OPERATOR_SKEW_MS = 10_000
#: A state from further ahead is of a clock that cannot be right, and is left aside.
MAX_AHEAD_MS = 3_600_000

_BREAKERS: dict[Cause, destination_state_pb2.Breaker] = {
    Cause.ERRORS: destination_state_pb2.BREAKER_OPEN_ERRORS,
    Cause.PARKED: destination_state_pb2.BREAKER_PARKED,
    Cause.AUTH: destination_state_pb2.BREAKER_OPEN_AUTH,
    Cause.CONFIGURATION: destination_state_pb2.BREAKER_OPEN_CONFIGURATION,
    Cause.GONE: destination_state_pb2.BREAKER_OPEN_GONE,
    Cause.OPERATOR: destination_state_pb2.BREAKER_OPEN_OPERATOR,
}
_CAUSES = {value: cause for cause, value in _BREAKERS.items()}

_log = logging.getLogger(__name__)


def record_of(target: str, state: BreakerState, worker: str) -> DestinationState:
    """The message that tells others of a state which ``worker`` found; what an operator decided stays the operator's."""
    kind = destination_state_pb2.BREAKER_CLOSED if state.kind == "closed" or state.cause is None else _BREAKERS[state.cause]
    return DestinationState(
        target=target,
        at_ms=state.since_ms,
        by=OPERATOR if state.cause is Cause.OPERATOR else worker[:200],
        breaker=kind,
        reason=state.reason,
        until_ms=state.until_ms,
    )


def state_of(record: DestinationState, now_ms: int) -> BreakerState | None:
    """What a message says; None if it says nothing that this version understands, or is of a clock that cannot be right."""
    if not 0 < record.at_ms <= now_ms + MAX_AHEAD_MS:
        return None
    reason = printable(record.reason)
    if record.breaker == destination_state_pb2.BREAKER_CLOSED:
        return BreakerState("closed", Cause.OPERATOR if record.by == OPERATOR else None, reason, record.at_ms)
    cause = _CAUSES.get(record.breaker)
    if cause is None:
        return None
    until_ms = 0
    if not cause.needs_operator:
        longest_ms = MAX_OPEN_MS if cause is Cause.ERRORS else MAX_PARKED_MS
        until_ms = max(1, min(record.until_ms, now_ms + longest_ms))
    return BreakerState("open", cause, reason, record.at_ms, until_ms)


def apply(breakers: Mapping[str, Breaker], record: DestinationState, now_ms: int) -> bool:
    """Let this worker's breaker follow a message of the topic, if it is right to. True: the breaker changed."""
    breaker, told = breakers.get(record.target), state_of(record, now_ms)
    if breaker is None or told is None:
        return False
    own = breaker.state
    followed = _followed(own, told, record.by == OPERATOR, is_sound=breaker.is_sound())
    if followed is None:
        return False
    if followed.kind != own.kind or followed.cause is not own.cause:
        _log.warning("target %s is %s, says %s: %s", record.target, _words(followed), record.by, followed.reason or "no reason given")
    breaker.restore(followed)
    return True


def to_tell(state: BreakerState, known: BreakerState) -> bool:
    """Whether others must hear of a state: the topic's last one, ``known`` (the first state of all if it has none), is an earlier one.

    What was read is never echoed, for it is as late as the topic's. Half-open is each worker's own affair.
    """
    return state.kind != "half_open" and _order(state) > _order(known)


def _followed(own: BreakerState, told: BreakerState, by_operator: bool, *, is_sound: bool) -> BreakerState | None:
    """The state to take; None: stay as it is."""
    if by_operator:
        # Two states of operators are as late as they say.
        is_stale = _order(told) <= _order(own) if own.cause is Cause.OPERATOR else told.since_ms <= own.since_ms - OPERATOR_SKEW_MS
        return None if is_stale else replace(told, since_ms=max(told.since_ms, own.since_ms + (told.since_ms < own.since_ms)))
    if _order(told) <= _order(own):
        return None
    if own.kind == "open" and own.cause is not None and own.cause.needs_operator:
        if told.cause is not None and told.cause.strength >= own.cause.strength:
            return told
        return replace(own, since_ms=told.since_ms + 1)  # its author did not know: tell it once more
    if told.cause is Cause.ERRORS:
        if is_sound:
            return None  # it is the other's way there that is broken
        if own.kind == "open" and own.cause is Cause.PARKED:
            return replace(own, since_ms=told.since_ms + 1)
    return told


def _order(state: BreakerState) -> tuple[int, int, int]:
    """Of two states the later one; of the same moment, the stronger one, so that all agree."""
    if state.kind == "closed" or state.cause is None:
        return state.since_ms, 9 if state.cause is Cause.OPERATOR else -1, 0
    return state.since_ms, state.cause.strength, _BREAKERS[state.cause]


def _words(state: BreakerState) -> str:
    return state.kind if state.cause is None or state.kind == "closed" else f"{state.kind} ({state.cause.value})"
