"""Every kind of destination against its stand-in over HTTP: what is sent fits the contract, arrives, and is current in the end."""

from __future__ import annotations

import asyncio

import pytest

from app.destinations import KINDS, JobBased
from app.destinations.outcomes import (
    Accepted,
    Confirmed,
    Down,
    DownCause,
    PerPerson,
    PersonOutcome,
    Reading,
    Rejected,
    Running,
    Split,
    Throttled,
)
from app.destinations.requests import Part, Request
from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.hubspot import HubSpot
from app.web.demo.platforms.limits import FixedWindow
from app.web.demo.platforms.mailchimp import Mailchimp
from app.web.demo.platforms.sendgrid import SendGrid
from tests.contract.platform_worlds import World, a_client, a_world, address_of, answer_to, contract_check, parts_of
from tidings.state.v1 import outbox_pb2

PLATFORM_KINDS = [kind for kind in KINDS if kind != "webhook"]


async def _read(world: World, users: list[str]) -> Reading:
    """What the answer to one request means."""
    parts = parts_of(world, users)
    async with a_client(world.destination) as client:
        return world.destination.read(parts, await answer_to(client, world.destination.request(parts)))


async def _tell(world: World, parts: list[Part]) -> list[PersonOutcome]:
    """One request, and the end of its job."""
    async with a_client(world.destination) as client:
        reading = world.destination.read(parts, await answer_to(client, world.destination.request(parts)))
        assert isinstance(reading, PerPerson), reading
        jobs = {outcome.job for outcome in reading.outcomes if isinstance(outcome, Accepted)}
        for job in jobs:
            assert isinstance(world.destination, JobBased)
            while True:
                ended = world.destination.read_poll(job, parts, await answer_to(client, world.destination.poll(job)))
                if not isinstance(ended, Running):
                    break
                job = ended.job or job
                await asyncio.sleep(0.02)
            assert isinstance(ended, PerPerson), ended
            reading = ended
    return list(reading.outcomes)


@pytest.mark.parametrize("kind", KINDS)
async def test_one_request_brings_as_many_people_as_it_may_hold(kind: str) -> None:
    async with a_world(kind, users=60) as world:
        users = world.users[: world.destination.limits.people]
        assert all(isinstance(outcome, Confirmed) for outcome in await _tell(world, parts_of(world, users)))
        assert world.is_current(*users)
        assert world.is_sound()


@pytest.mark.parametrize("kind", PLATFORM_KINDS)
async def test_a_newer_list_takes_the_place_of_the_older_one_and_leaves_nothing_of_it(kind: str) -> None:
    async with a_world(kind, users=1) as world:
        world.people.change("user-0", *(f"p{i}" for i in range(1, 8)))
        await _tell(world, parts_of(world, ["user-0"]))
        long = world.person("user-0")
        assert long is not None
        assert "p2" in str(long.fields)
        world.people.change("user-0", "p3")
        await _tell(world, parts_of(world, ["user-0"]))
        short = world.person("user-0")
        assert short is not None
        assert world.is_current()
        assert not any(f"p{i}" in str(short.fields) for i in (1, 2, 4, 5, 6, 7))
        assert world.is_sound()


@pytest.mark.parametrize("kind", PLATFORM_KINDS)
async def test_each_platform_judges_what_is_written_by_its_contract(kind: str) -> None:
    """The operation that writes people is one that the contract describes, and its request is refused once something in it is wrong."""
    async with a_world(kind, users=1) as world:
        world.unjudged.clear()
        request = world.destination.request(parts_of(world, ["user-0"]))
        async with a_client(world.destination) as client:
            await answer_to(client, request)
            assert not world.unjudged
            assert not world.platform.violations
            for wrong in (b"{}" if kind not in ("mailchimp", "braze") else b"[]", b"[1]", b"", b"\x00noise"):
                answer = await answer_to(client, Request(request.method, request.url, request.headers, wrong, request.secret_headers))
                assert answer.status == 400, wrong
            without_key = await answer_to(client, Request(request.method, request.url, request.headers, request.body))
            assert without_key.status in (400, 401)
        assert len(world.platform.violations) >= 4


@pytest.mark.parametrize("kind", PLATFORM_KINDS)
async def test_a_wrong_key_takes_the_destination_down(kind: str) -> None:
    async with a_world(kind, users=1) as world:
        world.platform.faults.is_key_expired = True
        reading = await _read(world, ["user-0"])
        assert isinstance(reading, Down)
        assert reading.cause is DownCause.AUTH
        assert "demo-key" not in reading.reason


@pytest.mark.parametrize("kind", KINDS)
async def test_being_throttled_says_for_how_long_where_the_platform_does(kind: str) -> None:
    async with a_world(kind, users=1) as world:
        world.platform.hidden = FixedWindow(0, 3600.0)
        reading = await _read(world, ["user-0"])
        assert isinstance(reading, Throttled)
        if kind in ("webhook", "sendgrid", "klaviyo", "braze"):
            assert reading.after_ms is not None
            assert 0 < reading.after_ms <= 3_600_000


#: Who is not taken, and why, as far as each platform says so.
REASONS: dict[tuple[str, Trouble], outbox_pb2.DeadReason] = {
    ("mailchimp", Trouble.INVALID): outbox_pb2.DEAD_REASON_INVALID_IDENTITY,
    ("mailchimp", Trouble.FORGOTTEN): outbox_pb2.DEAD_REASON_SUPPRESSED,
    ("mailchimp", Trouble.SUPPRESSED): outbox_pb2.DEAD_REASON_SUPPRESSED,
    ("mailchimp", Trouble.UNKNOWN): outbox_pb2.DEAD_REASON_UNKNOWN_PERSON,
    ("hubspot", Trouble.INVALID): outbox_pb2.DEAD_REASON_INVALID_IDENTITY,
    ("hubspot", Trouble.CONFLICT): outbox_pb2.DEAD_REASON_CONFLICT,
    ("hubspot", Trouble.UNKNOWN): outbox_pb2.DEAD_REASON_UNKNOWN_PERSON,
    ("klaviyo", Trouble.CONFLICT): outbox_pb2.DEAD_REASON_CONFLICT,
    ("klaviyo", Trouble.SUPPRESSED): outbox_pb2.DEAD_REASON_SUPPRESSED,
    ("braze", Trouble.INVALID): outbox_pb2.DEAD_REASON_INVALID_IDENTITY,
    ("braze", Trouble.SUPPRESSED): outbox_pb2.DEAD_REASON_SUPPRESSED,
    ("customerio", Trouble.INVALID): outbox_pb2.DEAD_REASON_INVALID_IDENTITY,
    ("iterable", Trouble.INVALID): outbox_pb2.DEAD_REASON_INVALID_IDENTITY,
    ("iterable", Trouble.FORGOTTEN): outbox_pb2.DEAD_REASON_SUPPRESSED,
    ("iterable", Trouble.CONFLICT): outbox_pb2.DEAD_REASON_CONFLICT,
    ("iterable", Trouble.UNKNOWN): outbox_pb2.DEAD_REASON_UNKNOWN_PERSON,
}


@pytest.mark.parametrize(("kind", "trouble"), REASONS)
async def test_a_partial_failure_rejects_those_who_are_named_for_a_typed_reason(kind: str, trouble: Trouble) -> None:
    async with a_world(kind, users=12) as world:
        bad = "user-3"
        world.platform.faults.people |= {bad: trouble, address_of(bad): trouble}
        if kind == "mailchimp":  # one member a request
            outcomes = [(await _tell(world, parts_of(world, [user])))[0] for user in world.users]
        else:
            outcomes = await _tell(world, parts_of(world, world.users))
        rejected = {user: outcome for user, outcome in zip(world.users, outcomes, strict=True) if isinstance(outcome, Rejected)}
        assert list(rejected) == [bad]
        assert rejected[bad].reason == REASONS[kind, trouble]
        assert rejected[bad].blocks == (REASONS[kind, trouble] == outbox_pb2.DEAD_REASON_SUPPRESSED)
        assert address_of(bad) not in rejected[bad].detail
        others = [user for user in world.users if user != bad]
        assert all(isinstance(outcome, Confirmed) for user, outcome in zip(world.users, outcomes, strict=True) if user != bad)
        assert world.is_current(*others)
        assert world.is_sound()


async def test_klaviyo_rejects_who_is_malformed_and_sends_the_others_once_more() -> None:
    async with a_world("klaviyo", users=5) as world:
        world.platform.faults.people["user-3"] = Trouble.INVALID
        outcomes = await _tell(world, parts_of(world, world.users))
        assert [type(outcome).__name__ for outcome in outcomes] == ["Retry", "Retry", "Retry", "Rejected", "Retry"]


@pytest.mark.parametrize("kind", ["sendgrid"])
async def test_a_job_that_says_how_many_failed_and_not_who_is_split(kind: str) -> None:
    async with a_world(kind, users=4) as world:
        world.platform.faults.people[address_of("user-3")] = Trouble.INVALID
        parts = parts_of(world, world.users)
        async with a_client(world.destination) as client:
            accepted = world.destination.read(parts, await answer_to(client, world.destination.request(parts)))
            assert isinstance(accepted, PerPerson)
            await asyncio.sleep(0.1)
            assert isinstance(world.destination, JobBased)
            job = accepted.outcomes[0].job  # type: ignore[union-attr]  # Accepted
            assert isinstance(world.destination.read_poll(job, parts, await answer_to(client, world.destination.poll(job))), Split)


@pytest.mark.parametrize("kind", ["hubspot", "iterable"])
async def test_who_is_dropped_without_a_word_is_not_taken_for_confirmed_where_the_answer_does_not_count_them(kind: str) -> None:
    async with a_world(kind, users=3) as world:
        world.platform.faults.people |= {"user-1": Trouble.SILENT, address_of("user-1"): Trouble.SILENT}
        reading = await _read(world, world.users)
        if isinstance(reading, PerPerson):
            assert [isinstance(outcome, Confirmed) for outcome in reading.outcomes] == [True, False, True]
        else:
            assert isinstance(reading, Split)


async def test_a_field_that_mailchimp_does_not_have_takes_the_destination_down_though_the_answer_is_a_success() -> None:
    async with a_world("mailchimp", users=1) as world:
        assert isinstance(world.platform, Mailchimp)
        del world.platform.fields["REC1_ID"]
        reading = await _read(world, ["user-0"])
        assert isinstance(reading, Down)
        assert reading.cause is DownCause.CONFIGURATION


@pytest.mark.parametrize("kind", ["sendgrid", "hubspot"])
async def test_a_field_that_is_missing_takes_the_destination_down(kind: str) -> None:
    async with a_world(kind, users=1) as world:
        assert isinstance(world.platform, SendGrid | HubSpot)
        world.platform.fields.popitem()
        reading = await _read(world, ["user-0"])
        assert isinstance(reading, Down)
        assert reading.cause is DownCause.CONFIGURATION
        assert "tidings destinations setup" in reading.reason


async def test_a_project_of_iterables_that_drops_unknown_fields_does_not_drop_ours() -> None:
    async with a_world("iterable", users=1) as world:
        world.platform.faults.drops_unknown_fields = True
        assert await _tell(world, parts_of(world, ["user-0"])) == [Confirmed()]
        assert world.is_current()


@pytest.mark.parametrize("kind", ["sendgrid", "klaviyo"])
async def test_a_job_ends_though_nobody_asks_for_it(kind: str) -> None:
    async with a_world(kind, users=1) as world:
        ended = asyncio.Event()
        world.platform.on_written = lambda _: ended.set()
        assert isinstance(await _read(world, ["user-0"]), PerPerson)
        assert not ended.is_set()
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_stand_in_listens_on_this_machine_alone() -> None:
    async with a_world("klaviyo") as world:
        assert world.platform.url.startswith("http://127.0.0.1:")


def test_a_request_that_breaks_a_contract_is_seen() -> None:
    """Of each operation that a contract describes; a validator that skips what it cannot read would be silent here."""
    bearer, basic = ({"authorization": f"{scheme} x", "content-type": "application/json"} for scheme in ("Bearer", "Basic"))
    klaviyo = {"authorization": "Klaviyo-API-Key x", "content-type": "application/vnd.api+json", "revision": "2026-07-15"}
    api_key = {"api-key": "x", "content-type": "application/json"}
    wrong = {
        "sendgrid": [("PUT", "/v3/marketing/contacts", bearer, b'{"contacts":[{"first_name":"Ann"}]}'),
                     ("POST", "/v3/marketing/field_definitions", bearer, b'{"name":"1x","field_type":"Text"}'),
                     ("GET", "/v3/marketing/contacts/imports/j", {}, b"")],
        "mailchimp": [("PUT", f"/3.0/lists/a/members/{'0' * 32}", basic, b'{"email_address":"a@b.co"}'),
                      ("PATCH", f"/3.0/lists/a/members/{'0' * 32}", basic, b'{"merge_fields":{"X":[1]}}'),
                      ("PATCH", "/3.0/lists/a/members/ann", basic, b"{}"),
                      ("POST", "/3.0/lists/a", basic, b'{"members":[{}]}')],
        "hubspot": [("POST", "/crm/v3/objects/contacts/batch/upsert", bearer, b'{"inputs":[{"id":"a","properties":{"x":1}}]}'),
                    ("POST", "/crm/v3/properties/contacts", bearer, b'{"name":"x"}')],
        "klaviyo": [("POST", "/api/profile-import", klaviyo, b'{"nope":1}'),
                    ("POST", "/api/profile-bulk-import-jobs", klaviyo, b'{"data":{}}'),
                    ("GET", "/api/profile-bulk-import-jobs/j", {"authorization": "Klaviyo-API-Key x"}, b"")],
        "braze": [("POST", "/users/track", bearer, b'{"users":[]}'), ("POST", "/users/track", bearer, b'{"attributes":[{"recs":[]}]}')],
        "customerio": [("POST", "/api/v2/batch", basic, b'{"batch":[{"type":"person","action":"identify","identifiers":{}}]}')],
        "iterable": [("POST", "/api/users/bulkUpdate", api_key, b'{"users":[{"dataFields":{}}]}')],
    }
    for kind, requests in wrong.items():
        check = contract_check(kind)
        for method, path, headers, body in requests:
            assert check(method, path, headers, body) is not None, (kind, method, path, body)
