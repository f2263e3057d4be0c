"""What an operator's command does to an outbox entry, and that one which comes twice or late does no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery import outbox
from app.delivery.commands import MAX_SKEW_MS, Outcome, carry_out, decode_command, is_dead, outcome_of
from app.domain.validation import Violation
from tidings.internal.v1.delivery_command_pb2 import DeliveryCommand
from tidings.state.v1.outbox_pb2 import DeadReason, Delivery, OutboxEntry

NOW = 1_700_000_000_000
TARGETS = ("inbox", "other")


def command(action: str, *, user: str = "ann", target: str = "inbox", at_ms: int = NOW + 1000) -> DeliveryCommand:
    made = DeliveryCommand(user_id=user, target=target, issued_at_ms=at_ms)
    getattr(made, action).SetInParent()
    return made


def confirmed(version: int = 3) -> OutboxEntry:
    entry = OutboxEntry(user_id="ann")
    entry.update.version, entry.update.caused_at_ms = version, NOW - 5000
    outbox.mark_due(entry, ["inbox"])
    outbox.confirm(entry, "inbox", version, NOW)
    return entry


def dead(*, blocked: bool = False) -> OutboxEntry:
    entry = OutboxEntry(user_id="ann")
    entry.update.version, entry.update.caused_at_ms = 3, NOW - 5000
    outbox.mark_due(entry, ["inbox"])
    inbox(entry).MergeFrom(
        Delivery(
            abandoned_version=3, abandoned_at_ms=NOW, dead_reason=DeadReason.DEAD_REASON_INVALID_IDENTITY, last_error="no address",
            blocked=blocked,
        )
    )  # fmt: skip
    return entry


def inbox(entry: OutboxEntry) -> Delivery:
    found = outbox.delivery_of(entry, "inbox")
    assert found is not None
    return found


def do(entry: OutboxEntry, *commands: DeliveryCommand, received_at_ms: int = 0) -> list[Outcome]:
    outcomes = []
    for one in commands:
        before = entry.SerializeToString(deterministic=True)
        outcomes.append(outcome_of(one, entry, TARGETS, received_at_ms))
        assert entry.SerializeToString(deterministic=True) == before, "to look changes nothing"
        if outcomes[-1] is Outcome.APPLIED:
            carry_out(one, entry, received_at_ms)
    return outcomes


def test_retry_makes_what_was_given_up_due_again_and_a_second_one_changes_nothing() -> None:
    entry = dead()
    assert not outbox.is_due(inbox(entry))
    assert do(entry, command("retry")) == [Outcome.APPLIED]
    assert outbox.is_due(inbox(entry))
    assert not is_dead(inbox(entry))
    assert do(entry, command("retry")) == [Outcome.UNCHANGED]


def test_retry_lifts_a_block() -> None:
    entry = dead(blocked=True)
    assert is_dead(inbox(entry))
    assert do(entry, command("retry")) == [Outcome.APPLIED]
    assert not inbox(entry).blocked
    assert outbox.is_due(inbox(entry))


def test_a_retry_of_a_resync_that_was_given_up_is_a_resync() -> None:
    entry = confirmed()
    do(entry, command("resync"))
    outbox.reject(entry, "inbox", 3, DeadReason.DEAD_REASON_REFUSED, "no such field", NOW + 2000)
    assert is_dead(inbox(entry))
    assert not outbox.is_due(inbox(entry))
    assert do(entry, command("retry", at_ms=NOW + 3000)) == [Outcome.APPLIED]
    assert inbox(entry).resync_since_ms == NOW + 3000
    outbox.confirm(entry, "inbox", 3, NOW + 4000)
    assert not is_dead(inbox(entry))
    assert not outbox.is_due(inbox(entry))


def test_what_was_given_up_and_confirmed_since_by_a_resync_is_not_dead() -> None:
    entry = dead()
    assert do(entry, command("resync")) == [Outcome.APPLIED]
    assert outbox.is_due(inbox(entry))
    outbox.confirm(entry, "inbox", 3, NOW + 2000)
    assert not is_dead(inbox(entry))
    assert do(entry, command("retry", at_ms=NOW + 3000)) == [Outcome.UNCHANGED]


def test_drop_takes_it_from_the_list_and_leaves_it_unsent_until_there_is_a_newer_list() -> None:
    entry = dead()
    assert do(entry, command("drop")) == [Outcome.APPLIED]
    assert not is_dead(inbox(entry))
    assert not outbox.is_due(inbox(entry))
    assert not outbox.withheld_targets(entry)
    entry.update.version = 4
    outbox.mark_due(entry, ["inbox"])
    assert outbox.is_due(inbox(entry))


def test_a_drop_leaves_a_block() -> None:
    entry = dead(blocked=True)
    assert do(entry, command("drop")) == [Outcome.APPLIED]
    assert inbox(entry).blocked
    assert not is_dead(inbox(entry))


def test_what_was_dropped_may_still_be_retried_but_not_by_an_older_command_that_comes_late() -> None:
    entry = dead()
    assert do(entry, command("drop", at_ms=NOW + 2000), command("retry", at_ms=NOW + 1000)) == [Outcome.APPLIED, Outcome.OUTDATED]
    assert do(entry, command("retry", at_ms=NOW + 3000)) == [Outcome.APPLIED]


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_a_command_from_before_it_was_given_up_does_nothing(action: str) -> None:
    entry = dead()
    assert do(entry, command(action, at_ms=NOW - 1)) == [Outcome.OUTDATED]
    assert is_dead(inbox(entry))


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_what_was_delivered_meanwhile_is_not_touched(action: str) -> None:
    assert do(confirmed(), command(action)) == [Outcome.UNCHANGED]


def test_resync_asks_for_the_current_list_once_more() -> None:
    entry = confirmed()
    assert do(entry, command("resync"), command("resync", at_ms=NOW + 2000)) == [Outcome.APPLIED, Outcome.UNCHANGED]
    assert inbox(entry).resync_since_ms == NOW + 1000


def test_resync_reaches_a_destination_that_the_person_was_never_due_at() -> None:
    entry = confirmed()
    assert do(entry, command("resync", target="other")) == [Outcome.APPLIED]
    assert [(d.target, bool(d.resync_since_ms)) for d in entry.deliveries] == [("inbox", False), ("other", True)]


def test_a_resync_from_before_the_last_confirmation_does_nothing() -> None:
    assert do(confirmed(), command("resync", at_ms=NOW)) == [Outcome.OUTDATED]


def test_a_resync_does_not_lift_a_block_and_makes_no_list_where_there_is_none() -> None:
    assert do(dead(blocked=True), command("resync")) == [Outcome.UNCHANGED]
    assert do(OutboxEntry(user_id="ann"), command("resync")) == [Outcome.UNCHANGED]


@pytest.mark.parametrize("action", ["retry", "drop", "resync"])
def test_nobody_and_nowhere_are_unknown(action: str) -> None:
    assert outcome_of(command(action), None, TARGETS, 0) is Outcome.UNKNOWN
    assert outcome_of(command(action, target="elsewhere"), confirmed(), TARGETS, 0) is Outcome.UNKNOWN


def test_a_target_that_is_not_in_the_settings_any_more_can_be_dropped_but_not_retried() -> None:
    assert outcome_of(command("drop"), dead(), ["other"], 0) is Outcome.APPLIED
    assert outcome_of(command("retry"), dead(), ["other"], 0) is Outcome.UNKNOWN


def test_a_writer_whose_clock_is_ahead_does_not_reach_past_the_records_own_time() -> None:
    entry = dead()
    late = command("retry", at_ms=NOW + 10**9)
    assert do(entry, late, received_at_ms=NOW - MAX_SKEW_MS - 1) == [Outcome.OUTDATED]
    assert do(entry, late, received_at_ms=NOW - MAX_SKEW_MS) == [Outcome.APPLIED]


@pytest.mark.parametrize(
    ("value", "key", "field"),
    [
        (b"\xff\xff", b"ann", ""),
        (b"\x0a" * (1 << 20), b"ann", ""),
        (b"", b"ann", "user_id"),
        (command("retry", user="__owner").SerializeToString(), b"__owner", "user_id"),
        (command("retry").SerializeToString(), b"bob", "user_id"),
        (command("retry").SerializeToString(), None, "user_id"),
        (command("retry", target="").SerializeToString(), b"ann", "target"),
        (command("retry", target="x" * 41).SerializeToString(), b"ann", "target"),
        (command("retry", at_ms=0).SerializeToString(), b"ann", "issued_at_ms"),
        (DeliveryCommand(user_id="ann", target="inbox", issued_at_ms=1).SerializeToString(), b"ann", "action"),
    ],
)
def test_a_malformed_command_is_named_by_its_field(value: bytes, key: bytes | None, field: str) -> None:
    found = decode_command(value, key)
    assert isinstance(found, Violation)
    assert found.field == field


@given(st.lists(st.tuples(st.sampled_from(["retry", "drop", "resync"]), st.integers(NOW - 5, NOW + 5)), max_size=6), st.booleans())
def test_a_run_of_commands_read_twice_ends_as_read_once(steps: list[tuple[str, int]], blocked: bool) -> None:
    commands = [command(action, at_ms=at_ms) for action, at_ms in sorted(steps, key=lambda step: step[1])]
    once, twice = dead(blocked=blocked), dead(blocked=blocked)
    do(once, *commands)
    for one in commands:
        do(twice, one, one)
    assert once == twice
