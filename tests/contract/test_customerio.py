"""What is Customer.io's own: flat slots within 1,000 bytes each, a time that refuses older writes, errors by place in the batch."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from app.destinations import destination_of
from app.destinations.customerio import MAX_PERSON_BYTES, CustomerIo
from app.destinations.outcomes import Confirmed, Down, DownCause, PerPerson, Reading, Rejected, Retry, Split, Throttled, Unavailable
from app.destinations.requests import Part, Response
from app.domain.catalog import CatalogProduct
from app.settings import load_settings
from tests.contract.people import ann, many
from tests.unit.domain.shop_worlds import DictCatalog
from tidings.state.v1 import outbox_pb2

CUSTOMERIO = CustomerIo("customerio", "site-1", "0123456789abcdef")


def _parts(count: int) -> list[Part]:
    parts = [CUSTOMERIO.encode(person) for person in many(count)]
    return [part for part in parts if isinstance(part, Part)]


def _read(status: int, answer: Any, count: int = 3, **headers: str) -> Reading:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CUSTOMERIO.read(_parts(count), Response(status, named, orjson.dumps(answer), 0))


def _error(place: Any, field: str = "attributes.rec_1_title", message: str = "not valid") -> dict[str, Any]:
    return {"batch_index": place, "reason": "invalid", "field": field, "message": message}


def _person(destination: CustomerIo, count: int) -> dict[str, Any]:
    """Somebody with so many recommendations, each with all that a product can have."""
    person = ann()
    del person.update.recommendations[:]
    for i in range(count):
        person.update.recommendations.add(product_id=f"{i:03d}" + "p" * 125)
    products = [
        CatalogProduct(r.product_id, title="T" * 512, url="https://" + "u" * 900, image_url="https://" + "i" * 900, price=100)
        for r in person.update.recommendations
    ]
    part = destination.encode(type(person)(person.update, person.profile, DictCatalog(products)))
    assert isinstance(part, Part)
    assert len(part.body) <= MAX_PERSON_BYTES
    found: dict[str, Any] = orjson.loads(part.body)
    return found


def test_the_key_goes_with_the_site_as_basic_credentials() -> None:
    scheme, _, credentials = CUSTOMERIO.request(_parts(1)).secret_headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(credentials)) == ("Basic", b"site-1:0123456789abcdef")


def test_a_write_carries_the_time_of_its_list_in_seconds_so_that_an_older_one_is_refused() -> None:
    part = CUSTOMERIO.encode(ann())
    assert isinstance(part, Part)
    assert orjson.loads(part.body)["_timestamp"] == 1_700_000_000
    person = ann()
    person.update.ranked_at_ms = 0
    timeless = CUSTOMERIO.encode(person)
    assert isinstance(timeless, Part)
    assert "_timestamp" not in orjson.loads(timeless.body), "a time that was never set would be refused as the oldest of all"


def test_every_slot_is_written_so_that_a_shorter_list_leaves_nothing_of_a_longer_one() -> None:
    person = ann()
    del person.update.recommendations[1:]
    part = CUSTOMERIO.encode(person)
    assert isinstance(part, Part)
    attributes = orjson.loads(part.body)["attributes"]
    assert attributes["recs"] == ["mug"]
    assert attributes["rec_1_title"] == "Red mug"
    assert {attributes[f"rec_{n}_{end}"] for n in (2, 3, 4, 5) for end in ("id", "title", "url", "image", "price")} == {""}


def test_an_empty_list_clears_all_slots() -> None:
    person = ann()
    del person.update.recommendations[:]
    part = CUSTOMERIO.encode(person)
    assert isinstance(part, Part)
    attributes = orjson.loads(part.body)["attributes"]
    assert attributes["recs"] == []
    assert attributes["rec_1_id"] == ""


def test_no_attribute_is_larger_than_1000_bytes_and_no_person_than_32_kb() -> None:
    attributes = _person(CustomerIo("c", "site", "key", items=50), 50)["attributes"]
    assert max(len(orjson.dumps(value)) for value in attributes.values()) <= 1_002, "two of them are the quotes"
    assert len(attributes) <= 300
    assert len(orjson.dumps(attributes["recs"])) <= 1_000
    shown = [n for n in range(1, 51) if attributes[f"rec_{n}_id"]]
    assert 5 < len(shown) < 50
    assert shown == list(range(1, len(shown) + 1)), "whole items are left out, from the end"


def test_an_id_of_more_than_150_bytes_is_not_sent() -> None:
    person = ann()
    person.update.user_id = "é" * 76
    rejected = CUSTOMERIO.encode(person)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == outbox_pb2.DEAD_REASON_INVALID_IDENTITY


def test_a_200_confirms_everyone() -> None:
    assert _read(200, {}) == PerPerson((Confirmed(),) * 3)


def test_a_207_rejects_whom_it_names_and_confirms_the_others() -> None:
    reading = _read(207, {"errors": [_error(1), _error(1, message="second"), _error(2, "identifiers.id")]})
    assert reading == PerPerson((
        Confirmed(),
        Rejected(outbox_pb2.DEAD_REASON_REFUSED, "invalid: attributes.rec_1_title: not valid"),
        Rejected(outbox_pb2.DEAD_REASON_INVALID_IDENTITY, "invalid: identifiers.id: not valid"),
    ))


def test_whom_the_workspace_suppresses_is_not_tried_again_and_what_is_too_large_is_called_so() -> None:
    reading = _read(207, {"errors": [_error(0, message="profile is suppressed"), _error(1, message="attribute too large")]})
    assert isinstance(reading, PerPerson)
    blocked, large = reading.outcomes[:2]
    assert isinstance(blocked, Rejected)
    assert isinstance(large, Rejected)
    assert (blocked.reason, blocked.blocks) == (outbox_pb2.DEAD_REASON_SUPPRESSED, True)
    assert (large.reason, large.blocks) == (outbox_pb2.DEAD_REASON_TOO_LARGE, False)


def test_a_person_who_is_not_found_is_unknown() -> None:
    reading = _read(207, {"errors": [{"batch_index": 0, "reason": "not_found", "field": "identifiers", "message": "person not found"}]})
    assert isinstance(reading, PerPerson)
    assert reading.outcomes[0] == Rejected(outbox_pb2.DEAD_REASON_UNKNOWN_PERSON, "not_found: identifiers: person not found")


@pytest.mark.parametrize("errors", [[], [_error(3)], [_error(-1)], [_error("0")], [_error(True)], [{}], ["odd"], [_error(0), {}], "odd"])
def test_a_207_that_does_not_name_everyone_it_means_confirms_nobody(errors: Any) -> None:
    assert isinstance(_read(207, {"errors": errors}), Split)


def test_errors_under_a_200_count_as_well() -> None:
    reading = _read(200, {"errors": [_error(0)]})
    assert isinstance(reading, PerPerson)
    assert isinstance(reading.outcomes[0], Rejected)


@pytest.mark.parametrize("answer", [[], None, "ok", 7])
def test_a_200_without_an_object_is_no_success(answer: Any) -> None:
    assert isinstance(_read(200, answer), Unavailable)


def test_a_400_that_names_somebody_is_theirs_and_the_others_come_again() -> None:
    reading = _read(400, {"errors": [_error(1)]})
    assert isinstance(reading, PerPerson)
    assert [type(outcome) for outcome in reading.outcomes] == [Retry, Rejected, Retry]


def test_what_the_other_statuses_mean() -> None:
    assert _read(400, {"errors": [{"reason": "parse_error", "field": "batch", "message": "bad"}]}) == Split("400: bad")
    assert _read(401, {"meta": {"error": "Unauthorized request"}}) == Down(DownCause.AUTH, '401: {"meta":{"error":"Unauthorized request"}}')
    assert isinstance(_read(413, {"errors": []}), Split)
    assert isinstance(_read(500, {}), Unavailable)
    throttled = _read(429, {"meta": {"error": "too many requests"}}, retry_after="4")
    assert isinstance(throttled, Throttled)
    assert throttled.after_ms == 4_000


@pytest.mark.parametrize(
    ("more", "url"),
    [
        ({}, "https://track.customer.io/api/v2/batch"),
        ({"region": "eu"}, "https://track-eu.customer.io/api/v2/batch"),
        ({"base_url": "https://track.example/"}, "https://track.example/api/v2/batch"),
    ],
)
def test_settings_make_the_destination_in_its_region(monkeypatch: pytest.MonkeyPatch, more: dict[str, str], url: str) -> None:
    monkeypatch.setenv("CIO_KEY", "0123456789abcdef")
    target = {"name": "customerio", "kind": "customerio", "site_id": "site-1", "api_key": "env:CIO_KEY"} | more
    destination = destination_of(load_settings(overrides={"targets": [target]}).targets[0])
    assert destination.request(_parts(1)).url == url
    assert (destination == CUSTOMERIO) == (not more)
