"""Which deliveries a filter of `tidings deliveries` means, and what is said of a person in words."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from app.cli import cli
from app.cli.dead_deliveries import REASONS, DeliveryFilter
from app.cli.deliveries import standing_lines
from tidings.state.v1.outbox_pb2 import DeadReason, Delivery, OutboxEntry

NOW_MS = 1_700_000_000_000


def dead(reason: str = "refused", **fields: object) -> Delivery:
    return Delivery(
        target="crm", desired_version=4, abandoned_version=4, abandoned_at_ms=NOW_MS, dead_reason=REASONS[reason], **fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("delivery", "is_listed"),
    [
        (dead(), True),
        (dead("withheld"), False),
        (Delivery(target="crm", desired_version=4, confirmed_version=4, confirmed_at_ms=NOW_MS), False),
        (Delivery(target="crm", desired_version=4), False),
        (Delivery(target="crm", desired_version=5, abandoned_version=4, abandoned_at_ms=NOW_MS, dead_reason=REASONS["refused"]), False),
        (Delivery(target="crm", desired_version=5, abandoned_version=4, dead_reason=REASONS["suppressed"], blocked=True), True),
        (Delivery(target="crm", desired_version=4, abandoned_version=4, abandoned_at_ms=NOW_MS), False),
    ],
    ids=["dead", "withheld", "confirmed", "due", "a newer list is due", "blocked", "dropped"],
)
def test_what_is_listed_when_nothing_is_said(delivery: Delivery, is_listed: bool) -> None:
    assert DeliveryFilter().accepts("ann", delivery) is is_listed


@pytest.mark.parametrize(
    ("wanted", "is_meant"),
    [
        (DeliveryFilter(destinations=("crm",)), True),
        (DeliveryFilter(destinations=("hook",)), False),
        (DeliveryFilter(reasons=(REASONS["refused"], REASONS["conflict"])), True),
        (DeliveryFilter(reasons=(REASONS["conflict"],)), False),
        (DeliveryFilter(users=("bob", "ann")), True),
        (DeliveryFilter(users=("bob",)), False),
        (DeliveryFilter(since_ms=NOW_MS, until_ms=NOW_MS), True),
        (DeliveryFilter(since_ms=NOW_MS + 1), False),
        (DeliveryFilter(until_ms=NOW_MS - 1), False),
        (DeliveryFilter(destinations=("crm",), users=("bob",)), False),
    ],
)
def test_every_condition_that_is_given_must_hold(wanted: DeliveryFilter, is_meant: bool) -> None:
    assert wanted.accepts("ann", dead()) is is_meant
    assert not wanted.is_empty


def test_every_reason_there_is_can_be_chosen_and_is_explained() -> None:
    assert set(REASONS.values()) == set(DeadReason.values()) - {DeadReason.DEAD_REASON_UNSPECIFIED}
    told = CliRunner().invoke(cli, ["deliveries", "--help"]).output
    assert all(f"  {reason} " in told for reason in REASONS)


def test_a_person_is_told_of_by_what_is_due_on_its_way_confirmed_and_given_up() -> None:
    entry = OutboxEntry(user_id="ann")
    entry.update.version, entry.update.ranked_at_ms = 4, NOW_MS
    entry.deliveries.extend(
        [
            Delivery(target="a-job", desired_version=4, in_flight_version=4, in_flight_until_ms=NOW_MS + 9, job="import-7"),
            dead("conflict", last_error="two profiles", attempts=0),
            Delivery(target="late", desired_version=4, attempts=3, next_attempt_at_ms=NOW_MS + 60_000, last_error="503"),
            Delivery(target="ok", desired_version=4, confirmed_version=4, confirmed_at_ms=NOW_MS, resync_since_ms=NOW_MS),
        ]
    )
    told = "\n".join(standing_lines("ann", entry, NOW_MS))
    for words in (
        "ann: the list that destinations should have: version 4", "a-job: in job", "import-7", "crm: dead", "conflict", "two profiles",
        "late: retrying", "3 failed", "2023-11-14T22:14:20.000Z", "version 4 at 2023-11-14T22:13:20.000Z", "resync:",
    ):  # fmt: skip
        assert words in told, words


def test_a_person_whose_list_was_made_when_there_was_no_destination_is_told_what_to_do() -> None:
    assert "tidings resync" in "\n".join(standing_lines("ann", OutboxEntry(user_id="ann"), NOW_MS))
