"""From a JSON object to an event: the form that shops send over HTTP and on the command line.

``{"user_id": "12345", "event": "add_to_cart", "product_id": "987", "timestamp": "2024-04-27T14:35:22Z", "attributes": {"category":
"electronics", "price": 299.99}}``. What stands in JSON is strict: a field that is not known is refused, so that a typing error does not
pass in silence; what is free belongs into ``attributes``. ``null`` means "not said".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from app.domain.json_values import (
    Broken,
    carry_attributes,
    encodable,
    fill_price,
    kind_of,
    member_path,
    read_double,
    read_quantity,
    read_text,
    read_time_ms,
    refuse_unknown,
)
from app.domain.validation import MAX_CHANGES, MAX_ORDER_LINES, Violation, validate_event
from tidings.events.v1.event_pb2 import ConsentState, Event

#: The names of the JSON field ``event`` to the payload they stand for; the first of each is the one that the documentation uses.
EVENT_NAMES: dict[str, str] = {
    "product_viewed": "product_viewed",
    "product_view": "product_viewed",
    "view": "product_viewed",
    "add_to_cart": "added_to_cart",
    "added_to_cart": "added_to_cart",
    "remove_from_cart": "removed_from_cart",
    "removed_from_cart": "removed_from_cart",
    "order_placed": "order_placed",
    "order": "order_placed",
    "purchase": "order_placed",
    "email_opened": "email_opened",
    "email_clicked": "email_clicked",
    "profile_changed": "profile_changed",
    "consent_changed": "consent_changed",
}
_COMMON_FIELDS = ("event_id", "user_id", "anonymous_id", "event", "timestamp", "source", "session_id", "attributes")


def event_from_json(obj: object, now_ms: int) -> Event | Violation:
    """The event that a parsed JSON value describes, valid by app.domain.validation; or what is wrong, ``field`` being the JSON path.

    Numbers may be int, float or Decimal. Without a timestamp the event happened at ``now_ms``. Without an event id it gets one that is a
    hash of its content: a client's retry of the same body counts once; so do two events that do not differ, down to the timestamp.
    """
    try:
        event = _event(obj, now_ms)
    except Broken as broken:
        return broken.violation()
    violation = validate_event(event, now_ms)
    if violation is None:
        return event
    field = _json_path(violation.field, obj, event)
    return Violation(violation.reason, field, f"{field} {violation.detail.removeprefix(violation.field).strip()}")


def _event(obj: object, now_ms: int) -> Event:
    if not isinstance(obj, dict):
        raise Broken("", f"an event is a JSON object, not {kind_of(obj)}")
    name = read_text(obj, "event", required=True)
    payload = EVENT_NAMES.get(name)
    if payload is None:
        near = get_close_matches(name[:64], EVENT_NAMES, 1)
        raise Broken("event", f"must be one of {', '.join(EVENT_NAMES)}" + (f"; did you mean {near[0]}?" if near else ""))
    fields, fill = _PAYLOADS[payload]
    refuse_unknown(obj, _COMMON_FIELDS + fields, "")
    event = Event(
        user_id=read_text(obj, "user_id", required=True), anonymous_id=read_text(obj, "anonymous_id"), source=read_text(obj, "source"),
        session_id=read_text(obj, "session_id"), occurred_at_ms=read_time_ms(obj.get("timestamp"), now_ms),
    )
    attributes = obj.get("attributes")
    if attributes is None:
        attributes = {}
    elif not isinstance(attributes, dict):
        raise Broken("attributes", f"must be an object, not {kind_of(attributes)}")
    used = fill(event, obj, attributes)
    carry_attributes(event, attributes, used)
    event.event_id = read_text(obj, "event_id") or _content_id(event)
    if event.HasField("order_placed") and not event.order_placed.order_id:
        event.order_placed.order_id = event.event_id
    return event


def _content_id(event: Event) -> str:
    """128 bits of the content: no two events that differ share it."""
    return "json-" + hashlib.sha256(event.SerializeToString(deterministic=True)).hexdigest()[:32]


# ---------------------------------------------------------------------- payloads
# Each fills the event from the object, and names the attributes that it used up (the others are carried as text).


def _fill_viewed(event: Event, obj: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, ...]:
    event.product_viewed.product_id = read_text(obj, "product_id", required=True)
    return ()


def _fill_added(event: Event, obj: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, ...]:
    added = event.added_to_cart
    added.product_id = read_text(obj, "product_id", required=True)
    added.quantity = read_quantity(obj)
    return fill_price(added.unit_price, obj, attributes)


def _fill_removed(event: Event, obj: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, ...]:
    event.removed_from_cart.product_id = read_text(obj, "product_id", required=True)
    event.removed_from_cart.quantity = read_quantity(obj)
    return ()


def _fill_order(event: Event, obj: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, ...]:
    """``products`` holds the lines; an order of one product may name it like any other event."""
    order = event.order_placed
    order.order_id = read_text(obj, "order_id")
    products = obj.get("products")
    if products is None:
        if obj.get("product_id") is None:
            raise Broken("products", "is required: a list of objects with product_id, quantity, price, currency")
        line = order.lines.add(product_id=read_text(obj, "product_id", required=True), quantity=read_quantity(obj))
        return fill_price(line.unit_price, obj, attributes)
    for single in ("product_id", "quantity", "price", "currency"):
        if obj.get(single) is not None:
            raise Broken(single, "must stand inside products when there are products")
    if not isinstance(products, list):
        raise Broken("products", f"must be a list of objects, not {kind_of(products)}")
    if not 1 <= len(products) <= MAX_ORDER_LINES:
        raise Broken("products", f"must have 1 to {MAX_ORDER_LINES} entries")
    for number, product in enumerate(products):
        at = f"products[{number}]"
        if not isinstance(product, dict):
            raise Broken(at, f"must be an object with product_id, quantity, price, currency, not {kind_of(product)}")
        refuse_unknown(product, ("product_id", "quantity", "price", "currency"), f"{at}.")
        line = order.lines.add()
        line.product_id = read_text(product, "product_id", f"{at}.", required=True)
        line.quantity = read_quantity(product, f"{at}.")
        fill_price(line.unit_price, product, {}, f"{at}.")
    return ()


def _fill_opened(event: Event, obj: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, ...]:
    event.email_opened.message_id = read_text(obj, "message_id", required=True)
    return ()


def _fill_clicked(event: Event, obj: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, ...]:
    event.email_clicked.message_id = read_text(obj, "message_id", required=True)
    event.email_clicked.product_id = read_text(obj, "product_id")
    return ()


def _fill_profile_changed(event: Event, obj: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, ...]:
    changes = obj.get("changes")
    if not isinstance(changes, dict):
        raise Broken("changes", "is required" if changes is None else f"must be an object of names and values, not {kind_of(changes)}")
    if not 1 <= len(changes) <= MAX_CHANGES:
        raise Broken("changes", f"must have 1 to {MAX_CHANGES} entries")
    for name, value in changes.items():
        at = member_path("changes", name)
        change = event.profile_changed.changes.add(name=encodable(name, at))
        match value:
            case None:
                pass  # the field is cleared
            case bool():
                change.flag = value
            case str():
                change.text = encodable(value, at)
            case int() | float() | Decimal():
                change.number = read_double(value, at)
            case _:
                raise Broken(at, f"must be text, a number, true, false or null, not {kind_of(value)}")
    return ()


def _fill_consent(event: Event, obj: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, ...]:
    event.consent_changed.purpose = read_text(obj, "purpose", required=True)
    match read_text(obj, "state", required=True):
        case "granted":
            event.consent_changed.state = ConsentState.CONSENT_STATE_GRANTED
        case "denied":
            event.consent_changed.state = ConsentState.CONSENT_STATE_DENIED
        case _:
            raise Broken("state", 'must be "granted" or "denied"')
    return ()


#: Payload to its own JSON fields, required ones first, and what reads them.
_PAYLOADS: dict[str, tuple[tuple[str, ...], Callable[[Event, dict[str, Any], dict[str, Any]], tuple[str, ...]]]] = {
    "product_viewed": (("product_id",), _fill_viewed),
    "added_to_cart": (("product_id", "quantity", "price", "currency"), _fill_added),
    "removed_from_cart": (("product_id", "quantity"), _fill_removed),
    "order_placed": (("products", "order_id", "product_id", "quantity", "price", "currency"), _fill_order),
    "email_opened": (("message_id",), _fill_opened),
    "email_clicked": (("message_id", "product_id"), _fill_clicked),
    "profile_changed": (("changes",), _fill_profile_changed),
    "consent_changed": (("purpose", "state"), _fill_consent),
}

#: Every field that some kind of event has.
FIELDS = frozenset(_COMMON_FIELDS).union(*(fields for fields, _ in _PAYLOADS.values()))


def _json_path(field: str, obj: Any, event: Event) -> str:
    """Where in the JSON a field of the event came from."""
    field = field.removeprefix(f"{event.WhichOneof('payload')}.")
    if field == "occurred_at_ms":
        return "timestamp"
    if match := re.fullmatch(r"changes\[(\d+)\]\.\w+", field):
        return member_path("changes", event.profile_changed.changes[int(match[1])].name)
    if field.startswith("lines["):
        field = f"products{field.removeprefix('lines')}" if obj.get("products") is not None else field.partition(".")[2]
    for theirs, ours in (("unit_price.minor_units", "price"), ("unit_price.currency_code", "currency")):
        if field.endswith(theirs):
            at = field.removesuffix(theirs)
            return f"{at}{ours}" if at or obj.get("price") is not None else f"attributes.{ours}"
    return field
