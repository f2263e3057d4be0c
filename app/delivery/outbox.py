"""What a user's outbox entry says about each target, and how it changes: due, in flight, confirmed, failed, given up. Pure.

A ``Delivery`` is written by these functions only. Latest state wins: an entry knows versions, never bodies, and a newer version takes the
place of the one before, attempts and all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from app.delivery import retry
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry

#: Characters kept of a failure's reason.
MAX_ERROR_CHARS = 200
#: No request is on the wire for longer: the longest time-out that the settings allow, and the margin of its mark.
MAX_FLIGHT_MS = 65_000
#: No attempt waits for longer: the last step of the schedule with its jitter.
MAX_WAIT_MS = 30 * 3600 * 1000
#: The reason of a version that was not sent because the person may not be written about.
WITHHELD = "withheld: unknown, or no consent to personalised e-mail"


@dataclass(frozen=True, slots=True)
class NotDue:
    """The target has what it should have, or was given up at it."""


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """An attempt is due, but may not start before then: a request may still be on the wire, or the last attempt failed."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Send:
    """An attempt may start now."""


def next_step(entry: OutboxEntry | None, target: str, now_ms: int) -> NotDue | WaitUntil | Send:
    """What is to be done now for one user at one target."""
    delivery = delivery_of(entry, target) if entry else None
    return NotDue() if delivery is None else step_of(delivery, now_ms)


def step_of(delivery: Delivery, now_ms: int) -> NotDue | WaitUntil | Send:
    """The same for the target's side of the entry."""
    if not is_due(delivery):
        return NotDue()
    # Bounded from here: the worker that wrote these may have had another idea of the time.
    until_ms = max(min(delivery.in_flight_until_ms, now_ms + MAX_FLIGHT_MS), min(delivery.next_attempt_at_ms, now_ms + MAX_WAIT_MS))
    return WaitUntil(until_ms) if until_ms > now_ms else Send()


def delivery_of(entry: OutboxEntry, target: str) -> Delivery | None:
    """The target's side of the entry, if the user was ever due there."""
    for delivery in entry.deliveries:
        if delivery.target == target:
            return delivery
    return None


def is_due(delivery: Delivery) -> bool:
    """Whether the target should still get something."""
    return delivery.desired_version > max(delivery.confirmed_version, delivery.abandoned_version)


def mark_due(entry: OutboxEntry, targets: Iterable[str]) -> bool:
    """Each target should have ``entry.update``: call it after setting a newer update. True if a target became due, or at a newer version.

    A newer version starts with fresh attempts and need not wait for an older one's retry, unless it was the target that asked for the wait.
    """
    changed = False
    version, caused_at_ms = entry.update.version, entry.update.caused_at_ms
    for target in targets:
        delivery = _delivery(entry, target)
        if version <= delivery.desired_version:
            continue
        delivery.desired_version = version
        delivery.attempts = 0
        if not delivery.throttled:
            delivery.next_attempt_at_ms = 0
        if delivery.in_flight_version:
            delivery.overtaken_since_ms = delivery.overtaken_since_ms or caused_at_ms
        else:
            delivery.due_since_ms = delivery.due_since_ms or caused_at_ms
        changed = True
    return changed


def begin(entry: OutboxEntry, target: str, version: int, until_ms: int) -> None:
    """A request with this version may be on the wire until ``until_ms``. To be durable before the request leaves."""
    delivery = _delivery(entry, target)
    delivery.in_flight_version = version
    delivery.in_flight_until_ms = until_ms
    if version >= delivery.desired_version:
        # This request answers all events so far, those that overtook an earlier one too.
        delivery.due_since_ms = delivery.due_since_ms or delivery.overtaken_since_ms
        delivery.overtaken_since_ms = 0


def confirm(entry: OutboxEntry, target: str, version: int, now_ms: int) -> int:
    """The target has this version. Returns when the first event that it answers was received, in ms since 1970 (0: not known)."""
    delivery = _delivery(entry, target)
    _end_flight(delivery, version)
    since_ms = delivery.due_since_ms
    if version > delivery.confirmed_version:
        delivery.confirmed_version = version
        delivery.confirmed_at_ms = now_ms
    delivery.last_error = ""
    delivery.attempts = 0
    delivery.next_attempt_at_ms = 0
    delivery.throttled = False
    delivery.due_since_ms = (delivery.overtaken_since_ms or entry.update.caused_at_ms) if is_due(delivery) else 0
    delivery.overtaken_since_ms = 0
    return since_ms


def fail(entry: OutboxEntry, target: str, version: int, reason: str, now_ms: int, *, after_ms: int = 0) -> retry.RetryAt | retry.GiveUp:
    """An attempt at this version failed: it is due again by the schedule, or, at its end, given up until there is a newer version."""
    delivery = _delivery(entry, target)
    _end_flight(delivery, version)
    delivery.last_error = reason[:MAX_ERROR_CHARS]
    delivery.throttled = False
    if version < delivery.desired_version:
        # The version that failed is nobody's concern any more; the newer one has not been tried. What the target asked for still holds.
        delivery.next_attempt_at_ms = now_ms + after_ms if after_ms else 0
        delivery.throttled = after_ms > 0
        return retry.RetryAt(delivery.next_attempt_at_ms)
    delivery.attempts += 1
    jitter = retry.jitter_of(target, entry.user_id, version, delivery.attempts)
    decision = retry.next_attempt(delivery.attempts, now_ms, jitter=jitter, after_ms=after_ms)
    match decision:
        case retry.RetryAt(at_ms):
            delivery.next_attempt_at_ms = at_ms
            delivery.throttled = after_ms > 0 and at_ms == now_ms + after_ms
        case retry.GiveUp():
            _abandon(delivery, version)
        case _:
            assert_never(decision)
    return decision


def postpone(entry: OutboxEntry, target: str, version: int, reason: str, until_ms: int) -> None:
    """The target asked for fewer requests: nobody's failure, but not before ``until_ms``, whatever version it is by then."""
    delivery = _delivery(entry, target)
    _end_flight(delivery, version)
    delivery.last_error = reason[:MAX_ERROR_CHARS]
    delivery.next_attempt_at_ms = until_ms
    delivery.throttled = True


def release(entry: OutboxEntry, target: str, version: int, reason: str) -> None:
    """The request is off the wire and the user stays due, as if it had not been sent."""
    delivery = _delivery(entry, target)
    _end_flight(delivery, version)
    delivery.last_error = reason[:MAX_ERROR_CHARS]


def unmark(entry: OutboxEntry, target: str, version: int, until_ms: int) -> None:
    """The request that the mark announced was not sent, and will not be: the user is due as before. Another's mark stays."""
    delivery = _delivery(entry, target)
    if delivery.in_flight_until_ms == until_ms:
        _end_flight(delivery, version)


def withhold(entry: OutboxEntry, target: str, version: int) -> None:
    """The target may not be told about this person: nothing is due until there is a version above this one, or ``reopen``."""
    delivery = _delivery(entry, target)
    _end_flight(delivery, delivery.in_flight_version)
    delivery.last_error = WITHHELD
    _abandon(delivery, version)


def withheld_targets(entry: OutboxEntry) -> list[str]:
    """The targets that were not told about this person: to be reopened when they may be."""
    return [d.target for d in entry.deliveries if d.abandoned_version and d.last_error == WITHHELD]


def reopen(entry: OutboxEntry, targets: Iterable[str]) -> bool:
    """What was given up or withheld is due again: the cause was mended, consent was given. True if anyone became due."""
    changed = False
    for target in targets:
        delivery = delivery_of(entry, target)
        if delivery is not None and delivery.abandoned_version:
            was_due = is_due(delivery)
            delivery.abandoned_version = 0
            if is_due(delivery) and not was_due:
                delivery.due_since_ms = entry.update.caused_at_ms
                changed = True
    return changed


def _delivery(entry: OutboxEntry, target: str) -> Delivery:
    found = delivery_of(entry, target)
    if found is not None:
        return found
    entry.deliveries.add(target=target)
    entry.deliveries.sort(key=_target_of)
    found = delivery_of(entry, target)
    assert found is not None
    return found


def _target_of(delivery: Delivery) -> str:
    return delivery.target


def _end_flight(delivery: Delivery, version: int) -> None:
    if delivery.in_flight_version == version:
        delivery.in_flight_version = 0
        delivery.in_flight_until_ms = 0


def _abandon(delivery: Delivery, version: int) -> None:
    delivery.abandoned_version = max(delivery.abandoned_version, version)
    if is_due(delivery):
        return
    delivery.attempts = 0
    delivery.next_attempt_at_ms = 0
    delivery.throttled = False
    delivery.due_since_ms = 0
    delivery.overtaken_since_ms = 0
