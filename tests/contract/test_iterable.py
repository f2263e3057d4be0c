"""What is Iterable's own: bulk updates whose 200 names those who failed, and codes that say what an error is about."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.destinations import destination_of
from app.destinations.iterable import Iterable
from app.destinations.limits import Window
from app.destinations.outcomes import Confirmed, Down, DownCause, PerPerson, Reading, Rejected, Split, Throttled, Unavailable
from app.destinations.requests import Part, Response
from app.settings import load_settings
from tests.contract.people import ann, many
from tidings.state.v1 import outbox_pb2

ITERABLE = Iterable("iterable", "0123456789abcdef")
BY_EMAIL = Iterable("iterable", "0123456789abcdef", identify_by="email")


def _parts(count: int, iterable: Iterable = ITERABLE) -> list[Part]:
    parts = [iterable.encode(person) for person in many(count)]
    return [part for part in parts if isinstance(part, Part)]


def _read(status: int, answer: Any, count: int = 3, iterable: Iterable = ITERABLE, **headers: str) -> Reading:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return iterable.read(_parts(count, iterable), Response(status, named, orjson.dumps(answer), 0))


def _counts(succeeded: int, failed: int, **more: Any) -> dict[str, Any]:
    return {"successCount": succeeded, "failCount": failed, "createdFields": [], "filteredOutFields": []} | more


def test_a_user_is_named_by_id_or_address_and_its_fields_are_replaced_whole() -> None:
    by_id, by_email = ITERABLE.encode(ann()), BY_EMAIL.encode(ann())
    assert isinstance(by_id, Part)
    assert isinstance(by_email, Part)
    head = {name: value for name, value in orjson.loads(by_id.body).items() if name != "dataFields"}
    assert head == {"userId": "ann", "preferUserId": True, "mergeNestedObjects": False}
    assert orjson.loads(by_email.body).keys() == {"email", "mergeNestedObjects", "dataFields"}
    assert b"null" not in by_id.body


def test_a_field_has_one_type_for_all_people() -> None:
    """Iterable fixes it with the first write, and refuses whole requests after it."""
    types = set()
    for person in [ann(), *many(2)]:
        part = ITERABLE.encode(person)
        assert isinstance(part, Part)
        data = orjson.loads(part.body)["dataFields"]
        types |= {(name, type(value)) for name, value in data.items()}
        types |= {(name, type(value)) for item in data["recs"] for name, value in item.items()}
    assert len(types) == len({name for name, _ in types})


def test_a_200_confirms_everyone_who_is_counted() -> None:
    assert _read(200, _counts(3, 0)) == PerPerson((Confirmed(),) * 3)
    assert _read(200, _counts(3, 0, failedUpdates={})) == PerPerson((Confirmed(),) * 3)


@pytest.mark.parametrize(
    ("failed_list", "reason", "blocks"),
    [
        ("forgottenUserIds", outbox_pb2.DEAD_REASON_SUPPRESSED, True),
        ("invalidUserIds", outbox_pb2.DEAD_REASON_INVALID_IDENTITY, False),
        ("notFoundUserIds", outbox_pb2.DEAD_REASON_UNKNOWN_PERSON, False),
        ("conflictUserIds", outbox_pb2.DEAD_REASON_CONFLICT, False),
        ("invalidDataUserIds", outbox_pb2.DEAD_REASON_REFUSED, False),
    ],
)
def test_each_list_of_the_failed_has_its_reason(failed_list: str, reason: Any, blocks: bool) -> None:
    reading = _read(200, _counts(2, 1, failedUpdates={failed_list: ["user-1"]}))
    assert reading == PerPerson((Confirmed(), Rejected(reason, f"in {failed_list}", blocks), Confirmed()))


def test_an_address_is_the_same_in_capitals() -> None:
    reading = _read(200, _counts(2, 1, failedUpdates={"forgottenEmails": ["User-0@Example.com"]}), iterable=BY_EMAIL)
    assert isinstance(reading, PerPerson)
    assert reading.outcomes[0] == Rejected(outbox_pb2.DEAD_REASON_SUPPRESSED, "in forgottenEmails", blocks=True)


def test_who_is_invalid_may_stand_outside_of_the_failed() -> None:
    reading = _read(200, _counts(2, 1, invalidUserIds=["user-2"]))
    assert isinstance(reading, PerPerson)
    assert isinstance(reading.outcomes[2], Rejected)


@pytest.mark.parametrize("counts", [_counts(2, 1), _counts(2, 0), _counts(2, 1, failedUpdates={"forgottenUserIds": ["elsewhere", 7]})])
def test_nobody_is_confirmed_while_it_is_not_known_who_failed(counts: dict[str, Any]) -> None:
    assert isinstance(_read(200, counts), Split)


@pytest.mark.parametrize(
    "answer", [{}, [], {"successCount": "3", "failCount": 0}, {"successCount": 3}, {"successCount": True, "failCount": 0}]
)
def test_a_200_without_counts_is_no_success(answer: Any) -> None:
    assert isinstance(_read(200, answer), Unavailable)


@pytest.mark.parametrize("name", ["recs", "recs.title", "recs_version", "recs_at"])
def test_a_project_that_drops_our_fields_is_down_until_it_takes_them(name: str) -> None:
    reading = _read(200, _counts(3, 0, filteredOutFields=["theirs", name]))
    assert isinstance(reading, Down)
    assert reading.cause == DownCause.CONFIGURATION
    assert name in reading.reason
    assert isinstance(_read(200, _counts(3, 0, filteredOutFields=["theirs", 7])), PerPerson)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (413, "BatchTooLarge", Split),
        (400, "BatchTooLarge", Split),
        (400, "BadApiKey", Down),
        (401, "BadApiKey", Down),
        (400, "RequestFieldsTypesMismatched", Down),
        (400, "UniqueFieldsLimitExceeded", Down),
        (400, "BadParams", Split),
        (400, "BadJsonBody", Split),
        (400, "DatabaseError", Unavailable),
        (400, "RateLimitExceeded", Throttled),
        (429, "RateLimitExceeded", Throttled),
        (500, "GenericError", Unavailable),
        (400, "ForgottenUserError", Split),
        (409, "ForgottenUserError", Split),
    ],
)
def test_the_code_of_an_error_says_whom_it_is_about(status: int, code: str, expected: type) -> None:
    assert isinstance(_read(status, {"code": code, "msg": "words", "params": {}}), expected)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("BatchTooLarge", outbox_pb2.DEAD_REASON_TOO_LARGE),
        ("ForgottenUserError", outbox_pb2.DEAD_REASON_SUPPRESSED),
        ("InvalidEmailAddressError", outbox_pb2.DEAD_REASON_INVALID_IDENTITY),
        ("UserIdAlreadyExists", outbox_pb2.DEAD_REASON_CONFLICT),
    ],
)
def test_with_one_person_in_the_request_it_is_theirs(code: str, reason: Any) -> None:
    reading = _read(400, {"code": code, "msg": "words"}, count=1)
    rejected = Rejected(reason, f"{code}: 400: words", blocks=reason == outbox_pb2.DEAD_REASON_SUPPRESSED)
    assert reading == PerPerson((rejected,))


def test_a_throttle_may_say_how_long() -> None:
    assert _read(429, {"msg": "slow down"}, retry_after="2") == Throttled("429: slow down", 2_000)
    assert _read(429, {"msg": "slow down"}) == Throttled("429: slow down", None)


@pytest.mark.parametrize(
    ("more", "host"),
    [({}, "https://api.iterable.com"), ({"region": "eu"}, "https://api.eu.iterable.com"), ({"base_url": "https://it.example"}, "https://it.example")],
)
def test_settings_make_the_destination_in_its_region(monkeypatch: pytest.MonkeyPatch, more: dict[str, str], host: str) -> None:
    monkeypatch.setenv("ITERABLE_KEY", "0123456789abcdef")
    target = {"name": "iterable", "kind": "iterable", "api_key": "env:ITERABLE_KEY"} | more
    destination = destination_of(load_settings(overrides={"targets": [target]}).targets[0])
    assert destination.request(_parts(1)).url == f"{host}/api/users/bulkUpdate"
    assert (destination == ITERABLE) == (not more)
    assert destination.limits.windows == (Window(5, 1),)
