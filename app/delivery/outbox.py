"""What a user's outbox entry says about each target, and how it changes: due, in flight, confirmed, failed, given up. Pure.

A ``Delivery`` is written by these functions, and by an operator's commands (commands.py), only. Latest state wins: an entry knows
versions, never bodies, and a newer version takes the place of the one before, attempts and all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from app.delivery import retry
from tidings.state.v1.outbox_pb2 import DeadReason, Delivery, OutboxEntry

#: Characters kept of a failure's reason.
MAX_ERROR_CHARS = 200
#: No request is on the wire for longer: the longest time-out that the settings allow, and the widest margin of its mark (claim.py).
MAX_FLIGHT_MS = 80_000
#: Characters of a job's name.
MAX_JOB_CHARS = 500
#: How long a job over there may take to say what became of a person; after that they are due again.
MAX_JOB_MS = 15 * 60_000
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
class AskJob:
    """A job over there has the person, until then, and has not said yet what became of them. ``digest``: of what it took."""

    job: str
    version: int
    digest: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Send:
    """An attempt may start now."""

    #: Nothing is new: somebody asked that what was confirmed be sent again.
    is_resync: bool = False


Step = NotDue | WaitUntil | AskJob | Send
_NOT_DUE, _SEND, _RESYNC = NotDue(), Send(), Send(is_resync=True)


def next_step(entry: OutboxEntry | None, target: str, now_ms: int) -> Step:
    """What is to be done now for one user at one target."""
    delivery = delivery_of(entry, target) if entry else None
    return _NOT_DUE if delivery is None else step_of(delivery, now_ms)


def step_of(delivery: Delivery, now_ms: int, seen_for_ms: int = 0) -> Step:
    """The same for the target's side of the entry. ``seen_for_ms``: for how long its mark and its wait are known to be there."""
    in_flight_until_ms = delivery.in_flight_until_ms
    if in_flight_until_ms and delivery.job:
        until_ms = min(in_flight_until_ms, now_ms + MAX_JOB_MS)
        if until_ms > now_ms:
            return AskJob(delivery.job, delivery.in_flight_version, delivery.in_flight_digest, until_ms)
    is_behind = _is_behind(delivery)
    if not (is_behind or delivery.resync_since_ms) or delivery.blocked:
        return _NOT_DUE
    # Bounded from here: the worker that wrote these may have had another idea of the time.
    from_ms = now_ms - seen_for_ms
    until_ms = max(
        min(in_flight_until_ms, from_ms + MAX_FLIGHT_MS), min(delivery.next_attempt_at_ms, from_ms + _longest_wait_ms(delivery))
    )
    if until_ms > now_ms:
        return WaitUntil(until_ms)
    return _SEND if is_behind else _RESYNC


def is_odd(delivery: Delivery, now_ms: int) -> bool:
    """Whether the mark or the wait ends later than it could by a right clock: its author's was ahead."""
    return delivery.in_flight_until_ms > now_ms + MAX_FLIGHT_MS or delivery.next_attempt_at_ms > now_ms + _longest_wait_ms(delivery)


def _longest_wait_ms(delivery: Delivery) -> int:
    return MAX_WAIT_MS if delivery.throttled or not delivery.attempts else retry.longest_wait_ms(delivery.attempts)


def delivery_of(entry: OutboxEntry, target: str) -> Delivery | None:
    """The target's side of the entry, if the user was ever due there."""
    for delivery in entry.deliveries:
        if delivery.target == target:
            return delivery
    return None


def is_due(delivery: Delivery) -> bool:
    """Whether the target should still get something: a newer version, or what it has once more."""
    return is_live(delivery) or (delivery.resync_since_ms > 0 and not delivery.blocked)


def is_live(delivery: Delivery) -> bool:
    """Whether there is something that the target does not have yet."""
    return _is_behind(delivery) and not delivery.blocked


def _is_behind(delivery: Delivery) -> bool:
    return delivery.desired_version > max(delivery.confirmed_version, delivery.abandoned_version)


def mark_due(entry: OutboxEntry, targets: Iterable[str]) -> bool:
    """Each target should have ``entry.update``: call it after setting a newer update. True if a target became due, or at a newer version.

    A newer version starts with fresh attempts and need not wait for an older one's retry, unless it was the target that asked for the wait.
    Who is blocked there becomes due at no version.
    """
    changed = False
    version, caused_at_ms = entry.update.version, entry.update.caused_at_ms
    for target in targets:
        delivery = _delivery(entry, target)
        if version <= delivery.desired_version:
            continue
        delivery.desired_version = version
        if delivery.blocked:
            continue
        delivery.attempts = 0
        if not delivery.throttled:
            delivery.next_attempt_at_ms = 0
        if delivery.in_flight_version and delivery.due_since_ms:
            delivery.overtaken_since_ms = delivery.overtaken_since_ms or caused_at_ms
        else:
            delivery.due_since_ms = delivery.due_since_ms or caused_at_ms
        changed = True
    return changed


def begin(entry: OutboxEntry, target: str, version: int, until_ms: int, *, instead_of_ms: int = 0) -> None:
    """A request with this version may be on the wire until ``until_ms``. To be durable before the request leaves.

    ``instead_of_ms`` is the end of a mark of one's own under which nothing has come to the target: this one takes its place.
    """
    delivery = _delivery(entry, target)
    if delivery.in_flight_version and delivery.in_flight_until_ms != instead_of_ms:
        # Whoever set that mark did not live to say what came of it: what the target has is not known.
        delivery.confirmed_digest = 0
    delivery.in_flight_version = version
    delivery.in_flight_until_ms = until_ms
    if delivery.job:
        delivery.in_flight_digest = 0
        delivery.job = ""
    if version >= delivery.desired_version:
        # This request answers all events so far, those that overtook an earlier one too.
        delivery.due_since_ms = delivery.due_since_ms or delivery.overtaken_since_ms
        delivery.overtaken_since_ms = 0


def confirm(entry: OutboxEntry, target: str, version: int, now_ms: int, digest: int = 0) -> int:
    """The target has this version, which says what ``digest`` is of (0: not known). Returns when the first event that it answers was
    received, in ms since 1970 (0: not known).
    """
    delivery = _delivery(entry, target)
    if version >= delivery.confirmed_version:
        delivery.confirmed_at_ms = now_ms
        delivery.confirmed_digest = digest
        delivery.resync_since_ms = 0
    return _have(entry, delivery, version)


def suppress(entry: OutboxEntry, target: str, version: int) -> int:
    """This version says what the target has: as if it had been sent, but since when it has it stays. Returns as ``confirm`` does."""
    return _have(entry, _delivery(entry, target), version)


def says_nothing_new(delivery: Delivery, digest: int, now_ms: int, refresh_ms: int) -> bool:
    """Whether the target has just this, as far as we know, for less than ``refresh_ms`` (0: however long), and nobody asked to send it."""
    if delivery.confirmed_digest != digest or delivery.resync_since_ms:
        return False
    return not refresh_ms or 0 <= now_ms - delivery.confirmed_at_ms < refresh_ms


def accept(entry: OutboxEntry, target: str, version: int, job: str, digest: int, now_ms: int) -> None:
    """A job over there took this version: the person stays in flight until it says what became of it, for MAX_JOB_MS at most."""
    delivery = _delivery(entry, target)
    if delivery.in_flight_version != version:
        return
    delivery.job = job[:MAX_JOB_CHARS]
    delivery.in_flight_digest = digest
    delivery.in_flight_until_ms = now_ms + MAX_JOB_MS
    delivery.last_error = ""


def fail(entry: OutboxEntry, target: str, version: int, reason: str, now_ms: int, *, after_ms: int = 0) -> retry.RetryAt | retry.GiveUp:
    """An attempt at this version failed: it is due again by the schedule, or, at its end, given up until there is a newer version."""
    delivery = _delivery(entry, target)
    _end_flight(delivery, version)
    delivery.last_error = reason[:MAX_ERROR_CHARS]
    delivery.throttled = False
    delivery.confirmed_digest = 0  # it may have come there all the same
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
            _abandon(delivery, version, DeadReason.DEAD_REASON_EXHAUSTED, now_ms)
        case _:
            assert_never(decision)
    return decision


def reject(
    entry: OutboxEntry, target: str, version: int, reason: DeadReason, detail: str, now_ms: int, *, blocks: bool = False
) -> None:
    """The target will not take this version, whose flight is over. ``blocks``: nor any newer one, until ``reopen``."""
    delivery = _delivery(entry, target)
    _end_flight(delivery, version)
    delivery.last_error = detail[:MAX_ERROR_CHARS]
    delivery.confirmed_digest = 0
    delivery.blocked = delivery.blocked or blocks
    _abandon(delivery, version, reason, now_ms)


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


def withhold(entry: OutboxEntry, target: str, version: int, now_ms: int = 0) -> None:
    """The target may not be told about this person: nothing is due until there is a version above this one, or ``reopen``."""
    delivery = _delivery(entry, target)
    _end_flight(delivery, delivery.in_flight_version)
    delivery.last_error = WITHHELD
    _abandon(delivery, version, DeadReason.DEAD_REASON_WITHHELD, now_ms)


def withheld_targets(entry: OutboxEntry) -> list[str]:
    """The targets that were not told about this person: to be reopened when they may be."""
    return [d.target for d in entry.deliveries if d.abandoned_version and not d.blocked and _is_withheld(d)]


def reopen(entry: OutboxEntry, targets: Iterable[str]) -> bool:
    """What was given up, blocked or withheld is due again: the cause was mended, consent was given. True if anyone became due."""
    changed = False
    for target in targets:
        delivery = delivery_of(entry, target)
        if delivery is not None and (delivery.abandoned_version or delivery.blocked):
            was_live = is_live(delivery)
            delivery.abandoned_version = delivery.abandoned_at_ms = 0
            delivery.dead_reason = DeadReason.DEAD_REASON_UNSPECIFIED
            delivery.blocked = False
            if is_live(delivery) and not was_live:
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


def _is_withheld(delivery: Delivery) -> bool:
    if delivery.dead_reason:
        return delivery.dead_reason == DeadReason.DEAD_REASON_WITHHELD
    return delivery.last_error == WITHHELD  # written before there were reasons


def _have(entry: OutboxEntry, delivery: Delivery, version: int) -> int:
    _end_flight(delivery, version)
    is_news = version > delivery.confirmed_version
    answered_ms = delivery.due_since_ms if is_news else 0
    delivery.confirmed_version = max(delivery.confirmed_version, version)
    delivery.last_error = ""
    delivery.attempts = 0
    delivery.next_attempt_at_ms = 0
    delivery.throttled = False
    if not is_live(delivery):
        delivery.due_since_ms = 0
    elif is_news or not delivery.due_since_ms:
        delivery.due_since_ms = delivery.overtaken_since_ms or entry.update.caused_at_ms
    delivery.overtaken_since_ms = 0
    return answered_ms


def _end_flight(delivery: Delivery, version: int) -> None:
    if delivery.in_flight_version == version:
        delivery.in_flight_version = 0
        delivery.in_flight_until_ms = 0
        if delivery.job:
            delivery.in_flight_digest = 0
            delivery.job = ""


def _abandon(delivery: Delivery, version: int, reason: DeadReason, now_ms: int) -> None:
    if version >= delivery.abandoned_version:
        delivery.abandoned_version = version
        delivery.abandoned_at_ms = now_ms
        delivery.dead_reason = reason
        delivery.resync_since_ms = 0
    if is_live(delivery):
        return
    delivery.attempts = 0
    delivery.next_attempt_at_ms = 0
    delivery.throttled = False
    delivery.due_since_ms = 0
    delivery.overtaken_since_ms = 0
