"""Every rule of event.proto rejects what breaks it, by the name of the field, and nothing that comes in raises."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import validation
from app.domain.validation import EARLIEST_MS, LATEST_MS, MAX_AHEAD_MS, Violation, decode_event, validate_event
from tests.unit.domain.event_worlds import NOON_MS, event, histories, viewed
from tidings.events.v1.event_pb2 import Event, FieldChange, OrderLine
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason

UNDECODABLE = DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE
INVALID = DeadLetterReason.DEAD_LETTER_REASON_INVALID
UNKNOWN_PAYLOAD = DeadLetterReason.DEAD_LETTER_REASON_UNKNOWN_PAYLOAD

VIEW = {"product_viewed": {"product_id": "p1"}}


def line(**fields: object) -> Event:
    return event(order_placed={"order_id": "o1", "lines": [OrderLine(product_id="p1"), OrderLine(**fields)]})


def change(*changes: FieldChange) -> Event:
    return event(profile_changed={"changes": list(changes)})


#: Field that the violation must name, and an event that breaks its rule.
BROKEN = [
    ("event_id", event("", **VIEW)),
    ("event_id", event("e" * 129, **VIEW)),
    ("event_id", event("é" * 65, **VIEW)),
    ("event_id", event("e\x00", **VIEW)),
    ("user_id", event(user_id="", **VIEW)),
    ("user_id", event(user_id="u" * 257, **VIEW)),
    ("user_id", event(user_id="a\nb", **VIEW)),
    ("user_id", event(user_id="__share", **VIEW)),
    ("anonymous_id", event(anonymous_id="a" * 257, **VIEW)),
    ("anonymous_id", event(anonymous_id="\x7f", **VIEW)),
    ("occurred_at_ms", event(at_ms=0, **VIEW)),
    ("occurred_at_ms", event(at_ms=-1, **VIEW)),
    ("occurred_at_ms", event(at_ms=EARLIEST_MS - 1, **VIEW)),
    ("occurred_at_ms", event(at_ms=NOON_MS // 1000, **VIEW)),
    ("occurred_at_ms", event(at_ms=NOON_MS + MAX_AHEAD_MS + 1, **VIEW)),
    ("occurred_at_ms", event(at_ms=2**63 - 1, **VIEW)),
    ("source", event(source="s" * 65, **VIEW)),
    ("session_id", event(session_id="s" * 129, **VIEW)),
    ("session_id", event(session_id="s\x1f", **VIEW)),
    ("attributes", event(attributes={str(n): "" for n in range(33)}, **VIEW)),
    ("attributes", event(attributes={"": "x"}, **VIEW)),
    ("attributes", event(attributes={"k" * 65: "x"}, **VIEW)),
    ("attributes['k']", event(attributes={"k": "v" * 257}, **VIEW)),
    ("payload", event()),
    ("product_viewed.product_id", viewed("")),
    ("product_viewed.product_id", viewed("p" * 129)),
    ("product_viewed.product_id", viewed("\u20ac" * 43)),
    ("product_viewed.product_id", viewed("p\x85")),
    ("product_viewed.product_id", viewed("__item")),
    ("added_to_cart.product_id", event(added_to_cart={})),
    ("added_to_cart.quantity", event(added_to_cart={"product_id": "p1", "quantity": 10_001})),
    ("added_to_cart.unit_price.minor_units", event(added_to_cart={"product_id": "p1", "unit_price": {"minor_units": -1}})),
    ("added_to_cart.unit_price.minor_units", event(added_to_cart={"product_id": "p1", "unit_price": {"minor_units": 10**12 + 1}})),
    ("added_to_cart.unit_price.currency_code", event(added_to_cart={"product_id": "p1", "unit_price": {"currency_code": "eur"}})),
    ("added_to_cart.unit_price.currency_code", event(added_to_cart={"product_id": "p1", "unit_price": {"currency_code": "EUR\n"}})),
    ("removed_from_cart.product_id", event(removed_from_cart={})),
    ("removed_from_cart.quantity", event(removed_from_cart={"product_id": "p1", "quantity": 10_001})),
    ("order_placed.order_id", event(order_placed={"lines": [OrderLine(product_id="p1")]})),
    ("order_placed.lines", event(order_placed={"order_id": "o1"})),
    ("order_placed.lines", event(order_placed={"order_id": "o1", "lines": [OrderLine(product_id="p1")] * 101})),
    ("order_placed.lines[1].product_id", line()),
    ("order_placed.lines[1].quantity", line(product_id="p1", quantity=10_001)),
    ("order_placed.lines[1].unit_price.currency_code", line(product_id="p1", unit_price={"currency_code": "EURO"})),
    ("order_placed.lines[1].unit_price.minor_units", line(product_id="p1", unit_price={"minor_units": -5})),
    ("email_opened.message_id", event(email_opened={})),
    ("email_clicked.message_id", event(email_clicked={"product_id": "p1"})),
    ("email_clicked.product_id", event(email_clicked={"message_id": "m1", "product_id": "p" * 129})),
    ("profile_changed.changes", change()),
    ("profile_changed.changes", change(*(FieldChange(name=f"n{n}") for n in range(51)))),
    ("profile_changed.changes[0].name", change(FieldChange(text="x"))),
    ("profile_changed.changes[0].name", change(FieldChange(name="n" * 65))),
    ("profile_changed.changes[1].name", change(FieldChange(name="n"), FieldChange(name="n"))),
    ("profile_changed.changes[0].text", change(FieldChange(name="n", text="x" * 1025))),
    ("profile_changed.changes[0].number", change(FieldChange(name="n", number=float("nan")))),
    ("profile_changed.changes[0].number", change(FieldChange(name="n", number=float("inf")))),
    ("consent_changed.purpose", event(consent_changed={"state": 1})),
    ("consent_changed.purpose", event(consent_changed={"purpose": "p" * 65, "state": 1})),
    ("consent_changed.state", event(consent_changed={"purpose": "profiling"})),
    ("consent_changed.state", event(consent_changed={"purpose": "profiling", "state": 7})),
]


@pytest.mark.parametrize(("field", "broken"), BROKEN, ids=lambda value: value if isinstance(value, str) else "")
def test_a_broken_rule_is_refused_by_the_name_of_its_field(field, broken):
    violation = decode_event(broken.SerializeToString(), broken.user_id.encode(), NOON_MS)
    assert isinstance(violation, Violation)
    assert (violation.reason, violation.field) == (INVALID, field)
    assert violation.detail.startswith(field)
    assert len(violation.detail) < 400


#: At the very edge of its rule, and still an event.
WHOLE = [
    event("e" * 128, **VIEW),
    event("é" * 64, **VIEW),
    event(user_id="u" * 256, **VIEW),
    event(user_id="Zoë\u200d 🦊", **VIEW),
    event(at_ms=EARLIEST_MS, **VIEW),
    event(at_ms=NOON_MS + MAX_AHEAD_MS, **VIEW),
    event(attributes={str(n): "v" * 256 for n in range(32)}, **VIEW),
    event(added_to_cart={"product_id": "p1", "quantity": 10_000, "unit_price": {"minor_units": 10**12, "currency_code": "EUR"}}),
    event(order_placed={"order_id": "o1", "lines": [OrderLine(product_id="p1")] * 100}),
    event(email_clicked={"message_id": "m1"}),
    change(*(FieldChange(name=f"n{n}", text="x" * 1024) for n in range(50))),
]


@pytest.mark.parametrize("whole", WHOLE, ids=range(len(WHOLE)))
def test_an_event_at_the_edge_of_a_rule_is_taken(whole):
    assert decode_event(whole.SerializeToString(), whole.user_id.encode(), NOON_MS) == whole


@given(histories())
def test_the_events_of_the_other_tests_are_valid(events):
    assert [validate_event(one, 0) for one in events] == [None] * len(events)


def test_every_payload_of_the_schema_has_its_check():
    assert set(validation._PAYLOAD_CHECKS) == {field.name for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields}


def test_a_key_that_is_not_the_user_id_is_refused_and_none_is_not_checked():
    value = viewed().SerializeToString()
    for key in (b"", b"bob", b"\xff"):
        violation = decode_event(value, key, NOON_MS)
        assert isinstance(violation, Violation)
        assert (violation.reason, violation.field) == (INVALID, "user_id")
    assert decode_event(value, None, NOON_MS) == viewed()


@pytest.mark.parametrize("received_at_ms", [0, -1])
def test_a_record_without_a_timestamp_is_held_to_the_year_2100(received_at_ms):
    assert validate_event(event(at_ms=LATEST_MS, **VIEW), received_at_ms) is None
    violation = validate_event(event(at_ms=LATEST_MS + 1, **VIEW), received_at_ms)
    assert violation is not None
    assert violation.field == "occurred_at_ms"


def test_an_absurd_record_timestamp_does_not_let_absurd_times_in():
    assert validate_event(event(at_ms=LATEST_MS + 1, **VIEW), 2**62) is not None


def test_a_payload_that_only_a_newer_version_knows_is_told_from_none():
    newer = event().SerializeToString() + b"\xa2\x06\x03\x0a\x01x"  # field 100, a message
    violation = decode_event(newer, b"ada", NOON_MS)
    assert isinstance(violation, Violation)
    assert (violation.reason, violation.field) == (UNKNOWN_PAYLOAD, "payload")


def test_unknown_fields_beside_a_known_payload_are_let_through():
    newer = viewed().SerializeToString() + b"\xa2\x06\x03\x0a\x01x"
    assert isinstance(decode_event(newer, b"ada", NOON_MS), Event)


def test_a_truncated_event_is_a_violation_at_every_length():
    whole = event(order_placed={"order_id": "o1", "lines": [OrderLine(product_id="p1"), OrderLine(product_id="p2")]}).SerializeToString()
    for size in range(len(whole)):
        assert isinstance(decode_event(whole[:size], b"ada", NOON_MS), Violation)


def test_text_that_is_not_utf8_is_undecodable():
    violation = decode_event(b"\x0a\x02\xff\xfe", b"ada", NOON_MS)
    assert isinstance(violation, Violation)
    assert violation.reason == UNDECODABLE


def test_ten_thousand_random_byte_strings_and_a_megabyte_of_noise_never_raise():
    noise = random.Random(3)
    for number in range(10_000):
        assert isinstance(decode_event(noise.randbytes(number % 200), b"ada", NOON_MS), Violation)
    assert isinstance(decode_event(noise.randbytes(1_000_000), b"ada", NOON_MS), Violation)


@pytest.mark.parametrize("payload", [b"", b"\x52\x04\x0a\x02p1"])
def test_a_megabyte_of_fields_that_nobody_knows_is_a_value_not_an_exception(payload):
    outcome = decode_event(event().SerializeToString() + payload + b"\xa0\x06\x01" * 300_000, b"ada", NOON_MS)
    assert isinstance(outcome, Event if payload else Violation)


@given(st.binary(max_size=300))
def test_random_bytes_are_a_violation(value):
    assert isinstance(decode_event(value, b"ada", NOON_MS), Violation)


@given(histories(max_size=3), st.data())
def test_an_event_with_flipped_bits_is_taken_or_refused_but_never_raises(events, data):
    value = bytearray(events[0].SerializeToString())
    for _ in range(data.draw(st.integers(1, 8))):
        value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
    assert isinstance(decode_event(bytes(value), b"ada", NOON_MS), Event | Violation)
