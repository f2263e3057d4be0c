"""What every destination keeps to, whatever it speaks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.destinations import KINDS, Destination
from app.destinations.outcomes import Accepted, Confirmed, Down, PerPerson, Rejected, Retry, Split, Throttled, Unavailable
from app.destinations.requests import Part, Rendered, Response
from tests.contract.destinations import EXAMPLES
from tests.contract.people import ann, enormous, many

_GOLDEN = Path(__file__).parent / "golden"
#: What every secret of the examples has in it.
SECRET = "0123456789abcdef"

pytestmark = pytest.mark.parametrize("destination", EXAMPLES.values(), ids=EXAMPLES.keys())


def part_of(destination: Destination, rendered: Rendered) -> Part:
    part = destination.encode(rendered)
    assert isinstance(part, Part), part
    return part


def test_it_is_a_frozen_dataclass_and_keeps_its_secret_out_of_its_repr(destination: Destination) -> None:
    assert dataclasses.is_dataclass(destination)
    field = next(iter(dataclasses.fields(destination)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(destination, field.name, "other")
    assert SECRET not in repr(destination)
    request = destination.request([part_of(destination, ann())])
    assert SECRET not in repr(request)
    assert SECRET not in str(request.headers)
    assert SECRET not in request.url


def test_a_request_depends_on_the_persons_state_alone(destination: Destination) -> None:
    assert part_of(destination, ann()) == part_of(destination, ann())
    assert destination.request([part_of(destination, ann())]) == destination.request([part_of(destination, ann())])


def test_the_digest_changes_with_what_is_said_and_not_with_version_time_or_score(destination: Destination) -> None:
    later, other = ann(), ann()
    later.update.version, later.update.ranked_at_ms, later.update.current_to_ms = 99, 1_800_000_000_000, 1_800_000_000_000
    later.update.recommendations[0].score = 0.1
    other.update.recommendations[0].product_id = "another"
    assert part_of(destination, later).digest == part_of(destination, ann()).digest != 0
    assert part_of(destination, other).digest != part_of(destination, ann()).digest


def test_the_request_is_the_golden_one(destination: Destination) -> None:
    kind = next(name for name, example in EXAMPLES.items() if example is destination)
    request = destination.request([part_of(destination, ann())])
    shown = {"method": request.method, "url": request.url, "headers": dict(request.headers), "body": orjson.loads(request.body)}
    assert shown == orjson.loads((_GOLDEN / f"{kind}.json").read_bytes())


def test_the_largest_person_there_can_be_fits_by_whole_items_or_is_rejected(destination: Destination) -> None:
    part = destination.encode(enormous())
    if isinstance(part, Part):
        request = destination.request([part])
        assert len(request.body) <= destination.limits.body_bytes
        orjson.loads(request.body)


def test_a_full_request_keeps_to_the_limits(destination: Destination) -> None:
    limits = destination.limits
    parts = [part_of(destination, rendered) for rendered in many(min(limits.people, 500))]
    assert len({part.identity for part in parts}) == len(parts)
    body = destination.request(parts).body
    orjson.loads(body)
    # What app/delivery counts with, before it makes the request: the parts, a comma for each, and the frame around them.
    frame = len(destination.request(parts[:1]).body) - len(parts[0].body)
    assert len(body) <= sum(len(part.body) + 1 for part in parts) + frame + 1


def test_no_field_of_consent_or_subscription_is_ever_sent(destination: Destination) -> None:
    if destination.name == "inbox":
        pytest.skip("a webhook tells the shop's own system what it knows of consents; it cannot change them")
    text = destination.request([part_of(destination, ann())]).body.decode().lower()
    for word in ("subscribe", "consent", "opt_in", "optin", "unsubscribedchannelids", "email_subscribe", "suppress"):
        assert word not in text


def test_every_status_has_a_reading_and_only_2xx_is_a_success(destination: Destination) -> None:
    parts = [part_of(destination, ann())]
    for status in range(100, 600):
        reading = destination.read(parts, Response(status, {}, b"", 0))
        if isinstance(reading, PerPerson):
            assert len(reading.outcomes) == 1
            if isinstance(reading.outcomes[0], Confirmed | Accepted):
                assert 200 <= status <= 299, status
        assert isinstance(reading, Throttled) == (status == 429) or status in (423, 477, 503), status
        if status >= 500 and status != 503:
            assert isinstance(reading, Unavailable), status


@given(body=st.binary(max_size=300), status=st.integers(100, 599), header=st.text(max_size=30))
def test_any_answer_is_read_and_its_reason_is_short_and_printable(destination: Destination, body: bytes, status: int, header: str) -> None:
    reading = destination.read([part_of(destination, ann())], Response(status, {"retry-after": header}, body, 0))
    for one in reading.outcomes if isinstance(reading, PerPerson) else [reading]:
        match one:
            case Retry(reason, _) | Throttled(reason, _) | Unavailable(reason, _) | Down(_, reason) | Split(reason) | Rejected(_, reason):
                assert reason.isprintable()
                assert len(reason) < 200


def test_retry_after_is_honoured(destination: Destination) -> None:
    parts, later = [part_of(destination, ann())], {"retry-after": "30"}
    throttled = destination.read(parts, Response(429, later, b"", 0))
    assert isinstance(throttled, Throttled)
    assert throttled.after_ms == 30_000
    failed = destination.read(parts, Response(500, later, b"", 0))
    assert isinstance(failed, Unavailable)
    assert failed.after_ms == 30_000


def test_the_registry_and_the_examples_name_the_same_kinds(destination: Destination) -> None:
    assert KINDS.keys() == EXAMPLES.keys()
