"""Events for tests: short constructors, and a Hypothesis strategy for the events of one person, retries and late ones among them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tidings.events.v1.event_pb2 import ConsentState, Event, FieldChange, OrderLine

NOON_MS = 1_714_219_200_000  # 2024-04-27T12:00:00Z
MINUTE_MS = 60_000


def event(event_id: str = "e1", at_ms: int = NOON_MS, user_id: str = "ada", **fields: object) -> Event:
    return Event(event_id=event_id, user_id=user_id, occurred_at_ms=at_ms, **fields)


def viewed(product_id: str = "p1", event_id: str = "e1", at_ms: int = NOON_MS, user_id: str = "ada", session_id: str = "") -> Event:
    return event(event_id, at_ms, user_id, session_id=session_id, product_viewed={"product_id": product_id})


def added(product_id: str, event_id: str, at_ms: int = NOON_MS, quantity: int = 0) -> Event:
    return event(event_id, at_ms, added_to_cart={"product_id": product_id, "quantity": quantity})


def removed(product_id: str, event_id: str, at_ms: int = NOON_MS, quantity: int = 0) -> Event:
    return event(event_id, at_ms, removed_from_cart={"product_id": product_id, "quantity": quantity})


def ordered(product_ids: list[str], event_id: str, at_ms: int = NOON_MS) -> Event:
    return event(event_id, at_ms, order_placed={"order_id": "o1", "lines": [OrderLine(product_id=p) for p in product_ids]})


def consent(purpose: str, state: ConsentState, event_id: str, at_ms: int = NOON_MS) -> Event:
    return event(event_id, at_ms, consent_changed={"purpose": purpose, "state": state})


def changed(changes: list[FieldChange], event_id: str, at_ms: int = NOON_MS) -> Event:
    return event(event_id, at_ms, profile_changed={"changes": changes})


PRODUCTS = [f"p{number}" for number in range(12)]
EUR_10 = {"minor_units": 1_000, "currency_code": "EUR"}
_CHANGES = [
    [FieldChange(name=name, **value)] for name in "abc" for value in ({"text": "x"}, {"text": "y"}, {"number": 1.5}, {"flag": True}, {})
] + [[FieldChange(name="c", text="z"), FieldChange(name="a")]]

#: One of each kind and rule of the fold; sampled, for a strategy that builds them costs more than the fold that is tested.
PAYLOADS: list[dict[str, Any]] = [
    *({"product_viewed": {"product_id": p}} for p in PRODUCTS * 2),
    *({"added_to_cart": {"product_id": p, "quantity": q}} for p in PRODUCTS[:4] for q in (0, 2)),
    {"added_to_cart": {"product_id": "p1", "unit_price": EUR_10}},
    *({"removed_from_cart": {"product_id": p, "quantity": q}} for p in PRODUCTS[:4] for q in (0, 1)),
    {"order_placed": {"order_id": "o", "lines": [OrderLine(product_id=p) for p in ("p1", "p2", "p1", "p7")]}},
    {"order_placed": {"order_id": "o", "lines": [OrderLine(product_id="p3")]}},
    {"email_opened": {"message_id": "m"}},
    {"email_clicked": {"message_id": "m"}},
    {"email_clicked": {"message_id": "m", "product_id": "p5"}},
    *({"profile_changed": {"changes": changes}} for changes in _CHANGES),
    *({"consent_changed": {"purpose": p, "state": s}} for p in ("profiling", "sms") for s in (1, 2)),
    {"consent_changed": {"purpose": "profiling", "state": 1}},
]

_STEPS = st.one_of(st.integers(0, 40 * MINUTE_MS), st.integers(-90 * MINUTE_MS, 0), st.just(40 * 86_400_000))
_ROWS = st.tuples(
    _STEPS, st.integers(0, 7), st.sampled_from(["", "", "s1", "s2"]), st.sampled_from(["", "", "a1", "a2"]), st.sampled_from(PAYLOADS)
)


@st.composite
def histories(draw: st.DrawFn, users: tuple[str, ...] = ("ada",), max_size: int = 40) -> list[Event]:
    """Valid events with distinct ids in arrival order: times mostly go on, by seconds to hours, and sometimes jump back."""
    at_ms = NOON_MS
    events = []
    for number, (step, user, session_id, anonymous_id, payload) in enumerate(draw(st.lists(_ROWS, min_size=1, max_size=max_size))):
        at_ms += step
        events.append(event(f"e{number}", at_ms, users[user % len(users)], session_id=session_id, anonymous_id=anonymous_id, **payload))
    return events
