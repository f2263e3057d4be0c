"""What an operator wants done for one person at one destination, and what it does to their outbox entry: retry, drop, resync. Pure.

A command that comes twice, or late, does no harm: what was given up or confirmed after it was issued stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Any

from google.protobuf.message import DecodeError

from app.delivery import outbox
from app.domain.validation import MAX_USER_ID_BYTES, Violation, id_problem, invalid, key_problem
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason
from tidings.internal.v1.delivery_command_pb2 import DeliveryCommand
from tidings.state.v1.outbox_pb2 import DeadReason, Delivery, OutboxEntry

#: Clocks of operators, workers and the broker differ by no more: a command said to be issued later was not.
MAX_SKEW_MS = 60_000
#: As the names of targets in the settings.
MAX_TARGET_BYTES = 40
ACTIONS = ("retry", "drop", "resync")


class Outcome(Enum):
    """What a command came to."""

    APPLIED = "applied"
    #: What it asks for is so already, or there is nothing that it could be done to.
    UNCHANGED = "unchanged"
    #: What it is about was given up once more, or confirmed, since it was issued.
    OUTDATED = "outdated"
    #: No such user, or no such target.
    UNKNOWN = "unknown"


def decode_command(value: bytes, key: bytes | None) -> DeliveryCommand | Violation:
    """The command in a Kafka record, or what is wrong with it."""
    try:
        command = DeliveryCommand.FromString(value)
    except DecodeError:
        detail = "the bytes are not a tidings.internal.v1.DeliveryCommand"
        return Violation(DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE, "", detail)
    if problem := key_problem(command.user_id, MAX_USER_ID_BYTES):
        return invalid("user_id", problem)
    if key != command.user_id.encode():
        return invalid("user_id", "must be equal to the record's key")
    if problem := id_problem(command.target, MAX_TARGET_BYTES):
        return invalid("target", problem)
    if command.issued_at_ms <= 0:
        return invalid("issued_at_ms", "is required")
    if command.WhichOneof("action") is None:
        detail = "action is missing, or of a kind that this version of Tidings does not know"
        return Violation(DeadLetterReason.DEAD_LETTER_REASON_UNKNOWN_PAYLOAD, "action", detail)
    return command


def outcome_of(command: DeliveryCommand, entry: OutboxEntry | None, targets: Collection[str], received_at_ms: int) -> Outcome:
    """What the command would come to; nothing is changed. ``targets`` are those of the settings.

    ``received_at_ms`` is the record's own time (0: none): a command cannot have been issued after it, whatever its writer's clock says.
    """
    if entry is None:
        return Outcome.UNKNOWN
    delivery = outbox.delivery_of(entry, command.target)
    issued_at_ms = _issued_at_ms(command, received_at_ms)
    match command.WhichOneof("action"):
        case "resync":
            return _outcome_of_resync(entry, delivery, issued_at_ms) if command.target in targets else Outcome.UNKNOWN
        case "retry" if command.target not in targets:
            return Outcome.UNKNOWN  # it would be due for ever at a target that nobody serves
        case "retry" | "drop" as action:
            if delivery is None:
                return Outcome.UNKNOWN
            # What was dropped may still be retried.
            if not (is_dead(delivery) or (action == "retry" and is_given_up(delivery))):
                return Outcome.UNCHANGED
            return Outcome.OUTDATED if issued_at_ms < delivery.abandoned_at_ms else Outcome.APPLIED
        case action:
            raise AssertionError(f"decode_command lets no {action} through")


def carry_out(command: DeliveryCommand, entry: OutboxEntry, received_at_ms: int) -> None:
    """Change the entry as the command says, whose ``outcome_of`` was APPLIED."""
    issued_at_ms = _issued_at_ms(command, received_at_ms)
    match command.WhichOneof("action"):
        case "retry":
            retry(entry, command.target, issued_at_ms)
        case "drop":
            delivery = outbox.delivery_of(entry, command.target)
            assert delivery is not None, "outcome_of found it"
            drop(delivery, issued_at_ms)
        case "resync":
            resync(entry, command.target, issued_at_ms)
        case action:
            raise AssertionError(f"decode_command lets no {action} through")


def is_given_up(delivery: Delivery) -> bool:
    """Whether the target will not get what it should have, unless somebody says so or, mostly, there is a newer list."""
    is_current = 0 < delivery.abandoned_version >= delivery.desired_version
    # What was confirmed since came by a resync.
    return delivery.blocked or (is_current and delivery.abandoned_at_ms >= delivery.confirmed_at_ms)


def is_dead(delivery: Delivery) -> bool:
    """Given up, for a reason, and not dropped since: what `tidings deliveries list` lists."""
    return delivery.dead_reason != DeadReason.DEAD_REASON_UNSPECIFIED and is_given_up(delivery)


def retry(entry: OutboxEntry, target: str, since_ms: int) -> None:
    """What was given up is due again, with what is known by then, and a block is lifted."""
    outbox.reopen(entry, [target])
    delivery = outbox.delivery_of(entry, target)
    assert delivery is not None, "outcome_of found it"
    if not outbox.is_due(delivery):
        delivery.resync_since_ms = since_ms  # it was a resync that was given up: the target has an older state of the same version


def drop(delivery: Delivery, at_ms: int) -> None:
    """It is no longer listed as dead. Nothing is sent before there is a newer version, and if it is blocked, not then either."""
    delivery.dead_reason = DeadReason.DEAD_REASON_UNSPECIFIED
    delivery.last_error = ""
    # An older `retry` that comes late finds that it was decided otherwise.
    delivery.abandoned_at_ms = at_ms


def resync(entry: OutboxEntry, target: str, since_ms: int) -> None:
    """The current list is due on the lane of those who are sent again, even if the person was never due at the target."""
    delivery = outbox.delivery_of(entry, target)
    if delivery is None:
        entry.deliveries.add(target=target)
        entry.deliveries.sort(key=_target_of)
        delivery = outbox.delivery_of(entry, target)
        assert delivery is not None
    delivery.resync_since_ms = delivery.resync_since_ms or since_ms


def _outcome_of_resync(entry: OutboxEntry, delivery: Delivery | None, issued_at_ms: int) -> Outcome:
    if not entry.update.version:
        return Outcome.UNCHANGED  # no list was made yet
    if delivery is None:
        return Outcome.APPLIED
    if delivery.blocked or delivery.resync_since_ms:
        return Outcome.UNCHANGED
    return Outcome.OUTDATED if delivery.confirmed_at_ms >= issued_at_ms else Outcome.APPLIED


def _issued_at_ms(command: DeliveryCommand, received_at_ms: int) -> int:
    return min(command.issued_at_ms, received_at_ms + MAX_SKEW_MS) if received_at_ms > 0 else command.issued_at_ms


def _target_of(delivery: Any) -> str:
    return str(delivery.target)
