"""Is this record an event? Each rule in the comments of event.proto is checked here, and the field that breaks one is named.

No input raises: bytes that are no event come back as a Violation, the value that the dead-letter topic is made from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from google.protobuf.message import DecodeError

from tidings.events.v1.event_pb2 import ConsentState, Event, Money
from tidings.internal.v1.dead_letter_pb2 import DeadLetterReason

MAX_EVENT_ID_BYTES = 128
MAX_USER_ID_BYTES = 256
MAX_ANONYMOUS_ID_BYTES = 256
MAX_SOURCE_BYTES = 64
MAX_SESSION_ID_BYTES = 128
MAX_ATTRIBUTES = 32
MAX_ATTRIBUTE_KEY_BYTES = 64
MAX_ATTRIBUTE_VALUE_BYTES = 256
MAX_PRODUCT_ID_BYTES = 128
MAX_ORDER_ID_BYTES = 128
MAX_MESSAGE_ID_BYTES = 128
MAX_ORDER_LINES = 100
MAX_QUANTITY = 10_000
MAX_MINOR_UNITS = 10**12
MAX_CHANGES = 50
MAX_FIELD_NAME_BYTES = 64
MAX_FIELD_TEXT_BYTES = 1024
MAX_PURPOSE_BYTES = 64

EARLIEST_MS = 946_684_800_000  # 2000-01-01
LATEST_MS = 4_102_444_800_000  # 2100-01-01, whatever the record's own timestamp says
MAX_AHEAD_MS = 86_400_000

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_CURRENCY = re.compile("[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a record cannot be applied: the reason, the path of the field (empty if none could be read) and a sentence."""

    reason: DeadLetterReason
    field: str
    detail: str


def decode_event(value: bytes, key: bytes | None, received_at_ms: int) -> Event | Violation:
    """The event in a Kafka record, or what is wrong with it.

    ``received_at_ms`` is the record's own timestamp; a record without one (<= 0) is held to the absolute bounds of time only.
    ``key`` None means that the record's key is not to be checked.
    """
    try:
        event = Event.FromString(value)
    except DecodeError:
        return Violation(DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE, "", "the bytes are not a tidings.events.v1.Event")
    violation = validate_event(event, received_at_ms)
    if violation is not None:
        return violation
    if key is not None and key != event.user_id.encode():
        return invalid("user_id", "must be equal to the record's key")
    return event


def validate_event(event: Event, received_at_ms: int) -> Violation | None:
    """The first rule that the event breaks, envelope first, or None. An event without a known payload may lose its unknown fields here."""
    if problem := id_problem(event.event_id, MAX_EVENT_ID_BYTES):
        return invalid("event_id", problem)
    if problem := key_problem(event.user_id, MAX_USER_ID_BYTES):
        return invalid("user_id", problem)
    at_ms = event.occurred_at_ms
    if not EARLIEST_MS <= at_ms <= LATEST_MS or 0 < received_at_ms < at_ms - MAX_AHEAD_MS:
        return invalid("occurred_at_ms", _time_problem(at_ms))
    if (text := event.anonymous_id) and (problem := id_problem(text, MAX_ANONYMOUS_ID_BYTES)):
        return invalid("anonymous_id", problem)
    if (text := event.source) and (problem := id_problem(text, MAX_SOURCE_BYTES)):
        return invalid("source", problem)
    if (text := event.session_id) and (problem := id_problem(text, MAX_SESSION_ID_BYTES)):
        return invalid("session_id", problem)
    if len(event.attributes) and (violation := _check_attributes(event)):
        return violation
    payload = event.WhichOneof("payload")
    if payload is None:
        return _no_payload(event)
    return _PAYLOAD_CHECKS[payload](event)


def invalid(field: str, detail: str) -> Violation:
    return Violation(DeadLetterReason.DEAD_LETTER_REASON_INVALID, field, f"{field} {detail}")


def _no_payload(event: Event) -> Violation:
    size = event.ByteSize()
    event.DiscardUnknownFields()
    if event.ByteSize() < size:
        detail = "payload is of a kind that this version of Tidings does not know"
        return Violation(DeadLetterReason.DEAD_LETTER_REASON_UNKNOWN_PAYLOAD, "payload", detail)
    return invalid("payload", "is required: exactly one of " + ", ".join(_PAYLOAD_CHECKS))


def is_longer(text: str, max_bytes: int) -> bool:
    # A character takes 1 to 4 bytes, so most texts are decided without encoding them.
    size = len(text)
    return size * 4 > max_bytes and (size > max_bytes or (not text.isascii() and len(text.encode()) > max_bytes))


def id_problem(text: str, max_bytes: int) -> str | None:
    if 0 < len(text) <= max_bytes and text.isascii() and text.isprintable():
        return None  # as nearly always
    if not text:
        return "is required"
    if is_longer(text, max_bytes):
        return f"must be at most {max_bytes:,} bytes of UTF-8"
    if not text.isprintable() and _CONTROL.search(text):
        return "must not contain control characters"
    return None


def key_problem(text: str, max_bytes: int) -> str | None:
    """As an id, and it must not look like one of the tables' own keys, which begin with two underscores."""
    if 0 < len(text) <= max_bytes and text[0] != "_" and text.isascii() and text.isprintable():
        return None  # as nearly always
    return id_problem(text, max_bytes) or ('must not begin with "__"' if text.startswith("__") else None)


def _time_problem(at_ms: int) -> str:
    if at_ms == 0:
        return "is required"
    if at_ms < EARLIEST_MS:
        return "must be in milliseconds since 1970 UTC and not before 2000-01-01"
    if at_ms > LATEST_MS:
        return "must be in milliseconds since 1970 UTC and not after 2100-01-01"
    return "must be at most a day past the time at which the event was received"


def _check_attributes(event: Event) -> Violation | None:
    if len(event.attributes) > MAX_ATTRIBUTES:
        return invalid("attributes", f"must have at most {MAX_ATTRIBUTES} entries")
    for name in sorted(event.attributes):
        if not name or is_longer(name, MAX_ATTRIBUTE_KEY_BYTES):
            return invalid("attributes", f"must have keys of 1 to {MAX_ATTRIBUTE_KEY_BYTES} bytes of UTF-8")
        if is_longer(event.attributes[name], MAX_ATTRIBUTE_VALUE_BYTES):
            return invalid(f"attributes[{name!r}]", f"must be at most {MAX_ATTRIBUTE_VALUE_BYTES} bytes of UTF-8")
    return None


def _check_product(field: str, product_id: str) -> Violation | None:
    problem = key_problem(product_id, MAX_PRODUCT_ID_BYTES)
    return invalid(field, problem) if problem else None


def _check_quantity(field: str, quantity: int) -> Violation | None:
    return invalid(field, f"must be at most {MAX_QUANTITY:,}") if quantity > MAX_QUANTITY else None


def check_money(field: str, money: Money) -> Violation | None:
    if not 0 <= money.minor_units <= MAX_MINOR_UNITS:
        return invalid(f"{field}.minor_units", f"must be from 0 to {MAX_MINOR_UNITS:,}")
    if (code := money.currency_code) and not _CURRENCY.fullmatch(code):
        return invalid(f"{field}.currency_code", "must be empty or an ISO 4217 code of three capital letters")
    return None


def _check_viewed(event: Event) -> Violation | None:
    problem = key_problem(event.product_viewed.product_id, MAX_PRODUCT_ID_BYTES)
    return invalid("product_viewed.product_id", problem) if problem else None


def _check_added(event: Event) -> Violation | None:
    added = event.added_to_cart
    if problem := key_problem(added.product_id, MAX_PRODUCT_ID_BYTES):
        return invalid("added_to_cart.product_id", problem)
    if added.quantity > MAX_QUANTITY:
        return _check_quantity("added_to_cart.quantity", added.quantity)
    return check_money("added_to_cart.unit_price", added.unit_price) if added.HasField("unit_price") else None


def _check_removed(event: Event) -> Violation | None:
    removed = event.removed_from_cart
    return _check_product("removed_from_cart.product_id", removed.product_id) or _check_quantity(
        "removed_from_cart.quantity", removed.quantity
    )


def _check_order(event: Event) -> Violation | None:
    order = event.order_placed
    if problem := id_problem(order.order_id, MAX_ORDER_ID_BYTES):
        return invalid("order_placed.order_id", problem)
    if not 1 <= len(order.lines) <= MAX_ORDER_LINES:
        return invalid("order_placed.lines", f"must have 1 to {MAX_ORDER_LINES} entries")
    for number, line in enumerate(order.lines):
        # The path is put together only where a rule is broken or a price is given.
        if problem := key_problem(line.product_id, MAX_PRODUCT_ID_BYTES):
            return invalid(f"order_placed.lines[{number}].product_id", problem)
        if line.quantity > MAX_QUANTITY:
            return _check_quantity(f"order_placed.lines[{number}].quantity", line.quantity)
        if line.HasField("unit_price") and (violation := check_money(f"order_placed.lines[{number}].unit_price", line.unit_price)):
            return violation
    return None


def _check_opened(event: Event) -> Violation | None:
    problem = id_problem(event.email_opened.message_id, MAX_MESSAGE_ID_BYTES)
    return invalid("email_opened.message_id", problem) if problem else None


def _check_clicked(event: Event) -> Violation | None:
    clicked = event.email_clicked
    if problem := id_problem(clicked.message_id, MAX_MESSAGE_ID_BYTES):
        return invalid("email_clicked.message_id", problem)
    return _check_product("email_clicked.product_id", clicked.product_id) if clicked.product_id else None


def _check_profile_changed(event: Event) -> Violation | None:
    changes = event.profile_changed.changes
    if not 1 <= len(changes) <= MAX_CHANGES:
        return invalid("profile_changed.changes", f"must have 1 to {MAX_CHANGES} entries")
    names: set[str] = set()
    for number, change in enumerate(changes):
        at = f"profile_changed.changes[{number}]"
        if problem := id_problem(change.name, MAX_FIELD_NAME_BYTES):
            return invalid(f"{at}.name", problem)
        if change.name in names:
            return invalid(f"{at}.name", "must not repeat a name of the same event")
        names.add(change.name)
        if is_longer(change.text, MAX_FIELD_TEXT_BYTES):
            return invalid(f"{at}.text", f"must be at most {MAX_FIELD_TEXT_BYTES:,} bytes of UTF-8")
        if not isfinite(change.number):
            return invalid(f"{at}.number", "must be finite")
    return None


def _check_consent(event: Event) -> Violation | None:
    consent = event.consent_changed
    if problem := id_problem(consent.purpose, MAX_PURPOSE_BYTES):
        return invalid("consent_changed.purpose", problem)
    if consent.state not in (ConsentState.CONSENT_STATE_GRANTED, ConsentState.CONSENT_STATE_DENIED):
        return invalid("consent_changed.state", "must be granted or denied")
    return None


#: Every payload of the oneof; a test says that none is missing.
_PAYLOAD_CHECKS: dict[str, Callable[[Event], Violation | None]] = {
    "product_viewed": _check_viewed,
    "added_to_cart": _check_added,
    "removed_from_cart": _check_removed,
    "order_placed": _check_order,
    "email_opened": _check_opened,
    "email_clicked": _check_clicked,
    "profile_changed": _check_profile_changed,
    "consent_changed": _check_consent,
}
