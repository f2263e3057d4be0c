"""How a person stands at each destination, over HTTP."""

from __future__ import annotations

from jsonschema import Draft202012Validator

from app.delivery import outbox
from app.delivery.breaker import BreakerState, Cause
from app.delivery.standing import STANDINGS, reason_name, standing_of
from app.delivery.status import LineStatus
from app.web.openapi_schemas import SCHEMAS
from tidings.state.v1.outbox_pb2 import DeadReason, Delivery, OutboxEntry
from tidings.state.v1.profile_pb2 import Profile

from .worlds import NOW_MS, READ, FakeViews, world


def an_entry() -> OutboxEntry:
    """Version 3 is due at five destinations."""
    entry = OutboxEntry(user_id="ann")
    entry.update.version, entry.update.caused_at_ms = 3, NOW_MS - 1000
    outbox.mark_due(entry, ["confirmed", "due", "flying", "retrying", "withheld"])
    outbox.begin(entry, "confirmed", 3, NOW_MS + 5000)
    outbox.confirm(entry, "confirmed", 3, NOW_MS)
    outbox.begin(entry, "flying", 3, NOW_MS + 5000)
    for _ in range(3):
        outbox.fail(entry, "retrying", 3, "500", NOW_MS)
    outbox.withhold(entry, "withheld", 3)
    return entry


async def test_each_destination_says_how_the_person_stands() -> None:
    async with world(token=READ, views=FakeViews(entries={"ann": an_entry()})) as w:
        status, document, _ = await w.get("/v1/users/ann/deliveries")
    assert status == 200
    Draft202012Validator(SCHEMAS["Deliveries"]).validate(document)
    assert document["version"] == 3
    by_name = {delivery["destination"]: delivery for delivery in document["deliveries"]}
    assert {name: delivery["state"] for name, delivery in by_name.items()} == {
        "confirmed": "confirmed", "due": "due", "flying": "in_flight", "retrying": "retrying", "withheld": "withheld",
    }  # fmt: skip
    assert by_name["confirmed"]["confirmed_at"] is not None
    assert by_name["retrying"]["last_error"] == "500"
    assert by_name["retrying"]["attempts"] == 3


async def test_a_person_whom_nobody_knows_is_not_found_and_one_without_a_list_has_no_deliveries() -> None:
    async with world(token=READ, views=FakeViews(profiles={"bob": Profile(user_id="bob")})) as w:
        assert (await w.get("/v1/users/nobody/deliveries"))[0] == 404
        status, document, _ = await w.get("/v1/users/bob/deliveries")
    assert (status, document) == (200, {"user_id": "bob", "version": 0, "deliveries": []})


def test_every_state_has_a_meaning_and_can_be_reached() -> None:
    due = {"desired_version": 3}
    states = {
        standing_of(Delivery(**fields), NOW_MS)
        for fields in (
            {"blocked": True}, {**due, "job": "j", "in_flight_version": 3},
            {**due, "in_flight_version": 3, "in_flight_until_ms": NOW_MS + 1},
            {**due, "in_flight_version": 3, "in_flight_until_ms": NOW_MS - 1}, {**due, "next_attempt_at_ms": NOW_MS + 1},
            {**due, "abandoned_version": 3}, {**due, "abandoned_version": 3, "dead_reason": DeadReason.DEAD_REASON_WITHHELD},
            {**due, "confirmed_version": 3}, {},
        )
    }  # fmt: skip
    assert states == set(STANDINGS)


def test_reasons_have_names_for_programs_and_one_of_a_newer_worker_is_unknown() -> None:
    assert reason_name(DeadReason.DEAD_REASON_NO_IDENTITY) == "no_identity"
    assert reason_name(999) == "unknown"  # type: ignore[arg-type]


CLOSED = BreakerState()


def a_line(name: str, due: int, breaker: BreakerState = CLOSED, **more: int) -> LineStatus:
    counts = {"resync_due": 0, "in_flight": 0, "in_jobs": 0, "oldest_due_ms": 0, "paused_until_ms": 0} | more
    return LineStatus(name=name, due=due, breaker=breaker, **counts)


async def test_destinations_are_added_up_over_the_fleet_and_the_worst_state_is_shown() -> None:
    refused = BreakerState("open", Cause.AUTH, "401: no such key", NOW_MS)
    there = FakeViews(lines=[a_line("crm", 4, refused, oldest_due_ms=9_000), a_line("inbox", 1, in_flight=2)])
    async with world(token=READ, views=there) as other:
        here = FakeViews(lines=[a_line("crm", 3, oldest_due_ms=2_000), a_line("inbox", 0)], others=[other.url, "http://127.0.0.1:1"])
        async with world(token=READ, views=here) as w:
            status, document, _ = await w.get("/v1/destinations")
    assert status == 200
    Draft202012Validator(SCHEMAS["Destinations"]).validate(document)
    crm, inbox = document["destinations"]
    assert (crm["due"], crm["oldest_due_seconds"]) == (7, 9.0)
    assert (crm["state"], crm["cause"], crm["reason"]) == ("open", "auth", "401: no such key")
    assert (inbox["due"], inbox["in_flight"], inbox["state"], inbox["cause"]) == (1, 2, "closed", None)
    assert document["workers"] == {"answered": 2, "silent": ["http://127.0.0.1:1"]}


async def test_a_destination_that_asked_for_fewer_requests_is_paused_until_then() -> None:
    async with world(token=READ, views=FakeViews(lines=[a_line("crm", 3, paused_until_ms=NOW_MS + 60_000)])) as w:
        _, document, _ = await w.get("/v1/destinations")
    (crm,) = document["destinations"]
    assert crm["state"] == "paused"
    assert crm["until"] is not None
