"""What is Braze's own: attributes of people it knows, answers that count, and a size that it drops without a word."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.destinations import destination_of
from app.destinations.braze import MAX_LIST_BYTES, Braze
from app.destinations.limits import Quota
from app.destinations.outcomes import Confirmed, Down, DownCause, PerPerson, Reading, Rejected, Split, Throttled, Unavailable
from app.destinations.requests import Part, Response
from app.destinations.retry_after import MAX_RETRY_AFTER_MS
from app.domain.catalog import CatalogProduct
from app.settings import load_settings
from tests.contract.people import ann, many
from tests.unit.domain.shop_worlds import DictCatalog
from tidings.state.v1 import outbox_pb2

BRAZE = Braze("braze", "0123456789abcdef", "https://rest.iad-01.braze.com")


def _parts(count: int) -> list[Part]:
    parts = [BRAZE.encode(person) for person in many(count)]
    return [part for part in parts if isinstance(part, Part)]


def _response(status: int, answer: Any, **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, orjson.dumps(answer), 1_700_000_000_000)


def _read(status: int, answer: Any, count: int = 3, **headers: str) -> Reading:
    return BRAZE.read(_parts(count), _response(status, answer, **headers))


def _success(processed: int, *errors: Any) -> dict[str, Any]:
    return {"message": "success", "attributes_processed": processed, "errors": list(errors)}


def _error(index: Any, words: str = "the value is not valid") -> dict[str, Any]:
    return {"type": words, "input_array": "attributes", "index": index}


def _texts(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [text for one in value for text in _texts(one)]
        case dict():
            return [text for name, one in value.items() for text in [name, *_texts(one)]]
        case _:
            return []


def test_only_people_whom_braze_knows_are_written() -> None:
    for identify_by in ("user_id", "email"):
        part = Braze("b", "key", "https://rest.example", identify_by=identify_by).encode(ann())  # type: ignore[arg-type]  # one of the two
        assert isinstance(part, Part)
        assert orjson.loads(part.body)["_update_existing_only"] is True


def test_a_request_has_attributes_and_neither_events_nor_purchases() -> None:
    assert orjson.loads(BRAZE.request(_parts(2)).body).keys() == {"attributes"}


def test_names_and_texts_keep_to_255_characters_and_names_to_letters() -> None:
    person = ann()
    long = CatalogProduct("mug", title="T" * 600, url="https://shop.example/mug", image_url="https://" + "i" * 300)
    wordy = Braze("b", "key", "https://rest.example").encode(type(person)(person.update, person.profile, DictCatalog([long])))
    assert isinstance(wordy, Part)
    body = orjson.loads(wordy.body)
    assert body["recs"][0]["title"] == "T" * 255
    assert max(len(text) for text in _texts(body)) == 255
    assert body["recs"][0]["image_url"] == "", "half a link leads nowhere"
    assert not any(c in name for name in [*body, *body["recs"][0]] for c in " .$")


def test_a_product_whose_link_is_too_long_makes_room_for_the_next() -> None:
    person = ann()
    far = CatalogProduct("mug", title="Mug", url="https://" + "u" * 300)
    part = BRAZE.encode(type(person)(person.update, person.profile, DictCatalog([far])))
    assert isinstance(part, Part)
    assert [item["product_id"] for item in orjson.loads(part.body)["recs"]] == ["cup", "pot", "tea"]


def test_nothing_is_null_for_one_null_drops_everybodys_update() -> None:
    assert b"null" not in BRAZE.request(_parts(3)).body


def test_the_array_keeps_to_its_size_for_a_larger_one_is_dropped_without_a_word() -> None:
    person = ann()
    products = []
    del person.update.recommendations[:]
    for i in range(50):
        person.update.recommendations.add(product_id=f"{i:03d}" + "é" * 60)
        products.append(CatalogProduct(f"{i:03d}" + "é" * 60, title='"' * 255, url="u" + '"' * 254, image_url="i" + '"' * 254))
    part = Braze("b", "key", "https://rest.example", items=50).encode(type(person)(person.update, person.profile, DictCatalog(products)))
    assert isinstance(part, Part)
    recs = orjson.loads(part.body)["recs"]
    assert MAX_LIST_BYTES * 0.9 < len(orjson.dumps(recs)) <= MAX_LIST_BYTES
    assert len(recs) < 50
    assert recs[0]["product_id"].startswith("000")


def test_an_id_that_is_too_long_is_not_sent() -> None:
    person = ann()
    person.update.user_id = "x" * 256
    rejected = BRAZE.encode(person)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == outbox_pb2.DEAD_REASON_INVALID_IDENTITY


def test_everyone_who_is_counted_is_confirmed() -> None:
    assert _read(201, {"message": "success", "attributes_processed": 3}) == PerPerson((Confirmed(),) * 3)
    assert _read(201, {"message": "success"}) == PerPerson((Confirmed(),) * 3)


def test_who_is_named_by_an_error_is_rejected() -> None:
    reading = _read(201, _success(2, _error(1, "'external_id' is required")))
    assert reading == PerPerson((
        Confirmed(), Rejected(outbox_pb2.DEAD_REASON_INVALID_IDENTITY, "'external_id' is required"), Confirmed(),
    ))
    reading = _read(201, _success(2, _error(0)))
    assert isinstance(reading, PerPerson)
    assert reading.outcomes[0] == Rejected(outbox_pb2.DEAD_REASON_REFUSED, "the value is not valid")


def test_whom_braze_blocks_is_not_tried_again() -> None:
    reading = _read(201, _success(2, _error(2, "Provided external_id is blacklisted and disallowed")))
    assert isinstance(reading, PerPerson)
    rejected = reading.outcomes[2]
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.blocks) == (outbox_pb2.DEAD_REASON_SUPPRESSED, True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("User does not exist", outbox_pb2.DEAD_REASON_UNKNOWN_PERSON),
        ("The identifiers belong to more than one user", outbox_pb2.DEAD_REASON_CONFLICT),
        ("The value provided for the 'email' field is not a valid email.", outbox_pb2.DEAD_REASON_INVALID_IDENTITY),
    ],
)
def test_the_words_of_an_error_give_its_reason(words: str, reason: Any) -> None:
    reading = _read(201, _success(2, _error(0, words)))
    assert isinstance(reading, PerPerson)
    assert reading.outcomes[0] == Rejected(reason, words)


@pytest.mark.parametrize("error", [_error(3), _error(-1), _error("1"), _error(True), {"type": "odd"}, "odd", {"index": 0}])
def test_an_error_that_names_nobody_confirms_nobody(error: Any) -> None:
    assert isinstance(_read(201, _success(3, error)), Split)


def test_somebody_who_was_not_processed_is_looked_for_by_halves() -> None:
    reading = _read(201, _success(2))
    assert isinstance(reading, Split)
    assert reading.dead == outbox_pb2.DEAD_REASON_UNKNOWN_PERSON


def test_a_maintenance_that_queues_has_taken_it() -> None:
    assert _read(202, {"message": "queued"}) == PerPerson((Confirmed(),) * 3)
    assert isinstance(_read(202, {"message": "odd"}), Unavailable)


@pytest.mark.parametrize("answer", [{}, [], {"message": "Bad"}, "success", None])
def test_a_201_that_does_not_say_success_is_none(answer: Any) -> None:
    assert isinstance(_read(201, answer), Unavailable)


def test_what_the_other_statuses_mean() -> None:
    assert _read(400, {"message": "Max Input Length Exceeded", "errors": []}) == Split("400: Max Input Length Exceeded")
    assert _read(401, {"message": "Unauthorized"}) == Down(DownCause.AUTH, "401: Unauthorized")
    assert _read(500, {"message": "error"}) == Unavailable("500: error")


def test_a_429_says_in_headers_of_its_own_how_long_to_wait() -> None:
    throttled = {"message": "Rate Limited"}
    assert _read(429, throttled, x_ratelimit_retry_after="3") == Throttled("429: Rate Limited", 3_000)
    assert _read(429, throttled, x_ratelimit_reset="1700000030") == Throttled("429: Rate Limited", 30_000)
    assert _read(429, throttled, retry_after="5", x_ratelimit_retry_after="3") == Throttled("429: Rate Limited", 5_000)
    assert _read(429, throttled) == Throttled("429: Rate Limited", None)
    assert _read(429, throttled, x_ratelimit_reset="9" * 12) == Throttled("429: Rate Limited", MAX_RETRY_AFTER_MS)


def test_the_quota_is_read_from_the_headers() -> None:
    response = _response(201, _success(1), x_ratelimit_remaining="12", x_ratelimit_reset="1700000002")
    assert BRAZE.quota(response) == Quota(12, 2_000)
    assert BRAZE.quota(_response(201, _success(1))) is None


def test_settings_make_the_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAZE_KEY", "0123456789abcdef")
    target = {"name": "braze", "kind": "braze", "api_key": "env:BRAZE_KEY", "base_url": "https://rest.iad-01.braze.com/"}
    assert destination_of(load_settings(overrides={"targets": [target]}).targets[0]) == BRAZE
