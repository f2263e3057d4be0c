"""The JSON form of an event: what is accepted, what it becomes, and that anything else is refused by name."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.json_event import EVENT_NAMES, event_from_json
from app.domain.validation import Violation, validate_event
from tidings.events.v1.event_pb2 import ConsentState, Event

NOW_MS = 1_714_300_000_000
AT = "2024-04-27T14:35:22Z"
AT_MS = 1_714_228_522_000


def accepted(obj: object) -> Event:
    event = event_from_json(obj, NOW_MS)
    assert isinstance(event, Event), event
    assert validate_event(event, NOW_MS) is None
    return event


def refused(obj: object) -> Violation:
    violation = event_from_json(obj, NOW_MS)
    assert isinstance(violation, Violation), violation
    return violation


def of(event: str, **fields: object) -> dict[str, object]:
    return {"user_id": "u1", "event": event, "timestamp": AT, **fields}


def test_the_form_that_shops_send_is_accepted_as_it_stands():
    event = accepted(
        json.loads(
            '{"user_id":"12345","event":"add_to_cart","product_id":"987","timestamp":"2024-04-27T14:35:22Z",'
            '"attributes":{"category":"electronics","price":299.99}}'
        )
    )
    assert event.user_id == "12345"
    assert event.occurred_at_ms == AT_MS
    assert event.added_to_cart.product_id == "987"
    assert event.added_to_cart.unit_price.minor_units == 29_999
    assert dict(event.attributes) == {"category": "electronics"}


@pytest.mark.parametrize(("name", "payload"), EVENT_NAMES.items())
def test_each_event_name_leads_to_its_payload(name, payload):
    fields = {
        "product_viewed": {"product_id": "p"},
        "added_to_cart": {"product_id": "p"},
        "removed_from_cart": {"product_id": "p"},
        "order_placed": {"products": [{"product_id": "p"}]},
        "email_opened": {"message_id": "m"},
        "email_clicked": {"message_id": "m"},
        "profile_changed": {"changes": {"city": "Bonn"}},
        "consent_changed": {"purpose": "profiling", "state": "denied"},
    }[payload]
    assert accepted(of(name, **fields)).WhichOneof("payload") == payload


def test_every_payload_of_the_schema_has_a_json_name():
    assert set(EVENT_NAMES.values()) == {field.name for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields}


def test_a_full_order_keeps_its_lines_in_order():
    event = accepted(
        of(
            "order_placed",
            order_id="o-1",
            products=[
                {"product_id": "a", "quantity": 2, "price": 10.5, "currency": "EUR"},
                {"product_id": "b", "price": 1200, "currency": "JPY"},
            ],
        )
    )
    first, second = event.order_placed.lines
    assert (first.product_id, first.quantity, first.unit_price.minor_units, first.unit_price.currency_code) == ("a", 2, 1050, "EUR")
    assert (second.unit_price.minor_units, second.unit_price.currency_code) == (1200, "JPY")


def test_an_order_of_one_product_may_name_it_directly_and_gets_the_event_id_as_order_id():
    event = accepted(of("purchase", event_id="e-7", product_id="p", quantity=3, attributes={"price": "5.00", "currency": "EUR"}))
    assert event.order_placed.order_id == "e-7"
    assert event.order_placed.lines[0].unit_price.minor_units == 500


def test_profile_changes_keep_their_kinds_and_null_clears():
    event = accepted(of("profile_changed", changes={"city": "Bonn", "vip": True, "score": 3.5, "age": 41, "phone": None}))
    changes = {change.name: change for change in event.profile_changed.changes}
    assert changes["city"].text == "Bonn"
    assert changes["vip"].flag is True
    assert (changes["score"].number, changes["age"].number) == (3.5, 41)
    assert changes["phone"].WhichOneof("value") is None


def test_consent_says_purpose_and_state():
    event = accepted(of("consent_changed", purpose="profiling", state="denied"))
    assert event.consent_changed.state == ConsentState.CONSENT_STATE_DENIED


@pytest.mark.parametrize(
    ("timestamp", "at_ms"),
    [
        (AT, AT_MS),
        ("2024-04-27T16:35:22+02:00", AT_MS),
        ("2024-04-27T14:35:22.5Z", AT_MS + 500),
        ("2024-04-27T14:35:22.123456Z", AT_MS + 123),
        (AT_MS, AT_MS),
        (None, NOW_MS),
    ],
)
def test_a_timestamp_is_iso_8601_with_a_zone_or_milliseconds_or_now(timestamp, at_ms):
    assert accepted(of("view", product_id="p") | {"timestamp": timestamp}).occurred_at_ms == at_ms


@pytest.mark.parametrize(
    ("price", "currency", "minor_units"),
    [
        (299.99, "", 29_999),
        (Decimal("299.99"), "EUR", 29_999),
        (0, "EUR", 0),
        (0.1 + 0.2, "EUR", 30),
        (100, "JPY", 100),
        (1.234, "KWD", 1234),
        (Decimal("0.125"), "EUR", 12),
        ("7", "USD", 700),
        (1e-300, "EUR", 0),
        (19.995, "EUR", 2000),
    ],
)
def test_a_price_becomes_minor_units_exactly(price, currency, minor_units):
    money = accepted(of("add_to_cart", product_id="p", price=price, currency=currency or None)).added_to_cart.unit_price
    assert (money.minor_units, money.currency_code) == (minor_units, currency)


def test_other_attributes_are_carried_as_text():
    attributes = {"a": "x", "b": 1, "c": 2.5, "d": True, "e": None, "price": 3, "f": Decimal("1.10")}
    event = accepted(of("view", product_id="p", attributes=attributes))
    assert dict(event.attributes) == {"a": "x", "b": "1", "c": "2.5", "d": "true", "price": "3", "f": "1.10"}


def test_the_same_body_without_an_event_id_gets_the_same_one_and_another_body_another():
    first, again = (accepted(of("view", product_id="p")) for _ in range(2))
    assert first.event_id == again.event_id != accepted(of("view", product_id="q")).event_id
    later = event_from_json(of("view", product_id="p"), NOW_MS + 5)
    assert isinstance(later, Event)
    assert later.event_id == first.event_id


def test_the_order_of_attributes_does_not_change_the_event_id():
    one, other = (accepted(of("view", product_id="p", attributes=a)) for a in ({"x": "1", "y": "2"}, {"y": "2", "x": "1"}))
    assert one.event_id == other.event_id


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (None, ""),
        ([], ""),
        ("x", ""),
        (1, ""),
        (True, ""),
        ({}, "event"),
        ({"event": "view"}, "user_id"),
        (of("dance"), "event"),
        (of("view"), "product_id"),
        ({"event": 7}, "event"),
        (of("view", product_id="p") | {"user_id": 12345}, "user_id"),
        (of("view", product_id="p") | {"user_id": ""}, "user_id"),
        (of("view", product_id="p") | {"user_id": "u" * 257}, "user_id"),
        (of("view", product_id="p") | {"user_id": "\ud800"}, "user_id"),
        (of("view", product_id=["p"]), "product_id"),
        (of("view", product_id="p" * 129), "product_id"),
        (of("view", product_id=""), "product_id"),
        (of("view", product_id="p", colour="red"), "colour"),
        (of("view", **{"product_id": "p", "\ud800\n": 1}), "['\\ud800\\n']"),
        (of("view", product_id="p") | {"timestamp": "yesterday"}, "timestamp"),
        (of("view", product_id="p") | {"timestamp": "2024-04-27"}, "timestamp"),
        (of("view", product_id="p") | {"timestamp": "2024-04-27T14:35:22"}, "timestamp"),
        (of("view", product_id="p") | {"timestamp": 1_714_228_522}, "timestamp"),
        (of("view", product_id="p") | {"timestamp": 10**40}, "timestamp"),
        (of("view", product_id="p") | {"timestamp": True}, "timestamp"),
        (of("view", product_id="p") | {"timestamp": "1970-01-01T00:00:00Z"}, "timestamp"),
        (of("view", product_id="p") | {"timestamp": "2095-01-01T00:00:00Z"}, "timestamp"),
        (of("view", product_id="p") | {"timestamp": "\ud800" * 10}, "timestamp"),
        (of("view", product_id="p") | {"timestamp": 1.5}, "timestamp"),
        (of("view", product_id="p") | {"timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp"),
        (of("view", product_id="p") | {"event_id": "x" * 129}, "event_id"),
        (of("view", product_id="p", session_id="x" * 129), "session_id"),
        (of("view", product_id="p", attributes=[]), "attributes"),
        (of("view", product_id="p", attributes={"x": []}), "attributes.x"),
        (of("view", product_id="p", attributes={"x": "v" * 257}), "attributes.x"),
        (of("view", product_id="p", attributes={"": "v"}), "attributes['']"),
        (of("view", product_id="p", attributes={f"a{i}": 1 for i in range(33)}), "attributes"),
        (of("view", product_id="p", attributes={"x": float("nan")}), "attributes.x"),
        (of("view", product_id="p", attributes={"x": Decimal("sNaN")}), "attributes.x"),
        (of("profile_changed", changes={"a": Decimal("sNaN")}), "changes.a"),
        (of("view", product_id="p", attributes={"x": 10**400}), "attributes.x"),
        (of("view", product_id="p", attributes={"x": "\udfff"}), "attributes.x"),
        (of("add_to_cart", product_id="p", quantity=0), "quantity"),
        (of("add_to_cart", product_id="p", quantity=-1), "quantity"),
        (of("add_to_cart", product_id="p", quantity=10_001), "quantity"),
        (of("add_to_cart", product_id="p", quantity=1.5), "quantity"),
        (of("add_to_cart", product_id="p", quantity=True), "quantity"),
        (of("add_to_cart", product_id="p", price=-1), "price"),
        (of("add_to_cart", product_id="p", attributes={"price": -0.01}), "attributes.price"),
        (of("add_to_cart", product_id="p", attributes={"price": "dear"}), "attributes.price"),
        (of("add_to_cart", product_id="p", attributes={"price": float("inf")}), "attributes.price"),
        (of("add_to_cart", product_id="p", attributes={"price": 10**500}), "attributes.price"),
        (of("add_to_cart", product_id="p", price=Decimal("1e999999")), "price"),
        (of("add_to_cart", product_id="p", price=1, currency="euro"), "currency"),
        (of("add_to_cart", product_id="p", currency="EUR"), "currency"),
        (of("add_to_cart", product_id="p", attributes={"price": 1, "currency": 3}), "attributes.currency"),
        (of("add_to_cart", product_id="p", price=10**11, currency="EUR"), "price"),
        (of("add_to_cart", product_id="p", attributes={"price": 10**11}), "attributes.price"),
        (of("order"), "products"),
        (of("order", products=[]), "products"),
        (of("order", products={}), "products"),
        (of("order", products=[1]), "products[0]"),
        (of("order", products=[{"product_id": "p"}, {"sku": "p"}]), "products[1].sku"),
        (of("order", products=[{"product_id": "p"}] * 101), "products"),
        (of("order", products=[{"product_id": "p"}, {"product_id": "p" * 129}]), "products[1].product_id"),
        (of("order", products=[{"product_id": "p", "price": 10**11}]), "products[0].price"),
        (of("order", products=[{"product_id": "p"}], product_id="p"), "product_id"),
        (of("order", order_id="o" * 129, product_id="p"), "order_id"),
        (of("order", product_id="p" * 129), "product_id"),
        (of("order", product_id="p", attributes={"price": 10**11}), "attributes.price"),
        (of("email_opened"), "message_id"),
        (of("email_clicked", message_id="m", product_id="p" * 129), "product_id"),
        (of("profile_changed"), "changes"),
        (of("profile_changed", changes={}), "changes"),
        (of("profile_changed", changes=[]), "changes"),
        (of("profile_changed", changes={"a": {}}), "changes.a"),
        (of("profile_changed", changes={"a": float("inf")}), "changes.a"),
        (of("profile_changed", changes={"a": 2**53 + 1}), "changes.a"),
        (of("profile_changed", changes={"a": Decimal("1e400")}), "changes.a"),
        (of("profile_changed", changes={"ok": 1, "a": "x" * 1025}), "changes.a"),
        (of("profile_changed", changes={"n" * 65: 1}), "changes['" + "n" * 40 + "'...]"),
        (of("profile_changed", changes={f"a{i}": 1 for i in range(51)}), "changes"),
        (of("profile_changed", changes={"": 1}), "changes['']"),
        (of("consent_changed", state="granted"), "purpose"),
        (of("consent_changed", purpose="profiling", state="maybe"), "state"),
        (of("consent_changed", purpose="profiling", state=True), "state"),
    ],
)
def test_what_is_wrong_is_named_by_its_json_path(obj, field):
    violation = refused(obj)
    assert violation.field == field
    assert violation.detail.startswith(field)
    assert len(violation.detail) > len(field) + 5


def test_a_typing_error_gets_a_hint():
    assert "did you mean product_id?" in refused(of("view", prodct_id="p")).detail
    assert "did you mean add_to_cart?" in refused(of("ad_to_cart", product_id="p")).detail


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(st.characters(codec=None, categories=None), max_size=300)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4), max_leaves=8
)
FIELDS = st.sampled_from(
    [
        "event_id",
        "user_id",
        "anonymous_id",
        "timestamp",
        "source",
        "session_id",
        "attributes",
        "product_id",
        "quantity",
        "price",
        "currency",
        "products",
        "order_id",
        "message_id",
        "changes",
        "purpose",
        "state",
        "x",
    ]
)


@pytest.mark.long
@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(list(EVENT_NAMES)), fields=st.dictionaries(FIELDS, VALUES, max_size=8), sound=st.booleans())
def test_anything_is_either_a_valid_event_or_a_violation_that_can_be_shown(name, fields, sound):
    base = {"user_id": "u", "product_id": "p", "message_id": "m", "changes": {"a": 1}, "purpose": "x", "state": "granted"} if sound else {}
    result = event_from_json({**{k: v for k, v in base.items()}, "event": name, **fields}, NOW_MS)
    if isinstance(result, Event):
        assert validate_event(result, NOW_MS) is None
        assert Event.FromString(result.SerializeToString()) == result
    else:
        (result.field + result.detail).encode()
        assert result.detail
        assert len(result.detail) < 1_000


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_any_json_value_at_all_is_taken_without_an_exception(value):
    assert isinstance(event_from_json(value, NOW_MS), Event | Violation)
