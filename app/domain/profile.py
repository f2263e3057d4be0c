"""The profile fold: one event in, the person's profile changed in place, and what the items must hear of it returned.

The events of a person come in one order, that of their partition, and the fold is a function of that order; event times may run backwards
in it.
- An event joins the current session if it carries the session's id; or if at least one of the two has no id and the event lies at most 30
  minutes outside the session's span (an id is then adopted by a session without one).
- Otherwise it begins a new session, unless it is older than the current session's last event (or, without an id to tell them apart, more
  than 30 minutes older than its first): then it came late. A late event is counted, its products stand in the history before the
  session's, the session stays, and its interactions carry no context, for what preceded them is not known.
- Attributes and consents: the latest event time wins per name, at the same time the greater event id. The cart follows the order of
  arrival, but an order or a removal takes no line that was added after it.
- Opens, profile and consent changes come from machines as often as from people: they belong to no session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from app.domain.cart import add_to_cart, clear_ordered, remove_from_cart
from app.domain.fields import change_consent, change_fields, profiling_is_denied
from app.domain.purchases import bought_before, remember_purchase
from app.domain.reminders import HISTORY_DEPTH, START_DEPTH
from tidings.events.v1.event_pb2 import Event
from tidings.state.v1.profile_pb2 import (
    INTERACTION_KIND_CART,
    INTERACTION_KIND_EMAIL_CLICK,
    INTERACTION_KIND_PURCHASE,
    INTERACTION_KIND_VIEW,
    History,
    InteractionKind,
    Profile,
    Session,
)

SESSION_GAP_MS = 30 * 60_000
#: Past it, the oldest touch is dropped.
MAX_HISTORY = 200
#: Past it, the oldest touch of the session is dropped (the history still has it).
MAX_SESSION_PRODUCTS = 30
#: How many products of earlier sessions an interaction carries, in a session and at its start: what items and the global models learn from.
MAX_EARLIER_PRODUCTS = HISTORY_DEPTH
MAX_EARLIER_AT_START = START_DEPTH
#: A retry that comes later than this many other events of the person is counted again.
MAX_RECENT_EVENT_IDS = 128
#: Past it, the id first seen longest ago is dropped.
MAX_ANONYMOUS_IDS = 16

_DIGEST_BYTES = 8


class Interaction(NamedTuple):
    """A person touched a product: what items and the global models learn from. Lists are oldest first, with repeats."""

    user_id: str
    product_id: str
    kind: InteractionKind
    occurred_at_ms: int
    #: This session's products before this one, at most 30.
    session: list[str]
    #: Products of earlier sessions, at most 16; at most 127 where the session begins with this product.
    earlier: list[str]
    #: Of a purchase, the distinct products bought last before it, in the same order or earlier, at most 5.
    bought: tuple[str, ...] = ()


#: From a tuple of its fields, in half the time of the constructor.
_interaction: Callable[[tuple[str, str, InteractionKind, int, list[str], list[str], tuple[str, ...]]], Interaction] = partial(
    tuple.__new__, Interaction
)


class Applied(NamedTuple):
    """The profile has changed. One interaction for each product concerned, in the event's order."""

    interactions: tuple[Interaction, ...]


_APPLIED_TO_NO_PRODUCT = Applied(())


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The event id is among the last ones: a client's retry. Nothing has changed."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The person has denied profiling, and the event is not about consent. Nothing has changed."""


def new_profile(user_id: str) -> Profile:
    """The profile of a person of whom nothing is known."""
    return Profile(user_id=user_id)


def fold_event(profile: Profile, event: Event) -> Applied | Duplicate | Denied:
    """Apply one valid event of this person."""
    # A field of a message is read when it is needed, and once: every read makes a Python object anew.
    payload = event.WhichOneof("payload")
    if profile.consents and payload != "consent_changed" and profiling_is_denied(profile):
        return Denied()
    if not _remember_event_id(profile, event.event_id):
        return Duplicate()
    at_ms = event.occurred_at_ms
    count = profile.event_count
    if at_ms > profile.last_event_at_ms:
        profile.last_event_at_ms = at_ms
        if count == 0:
            profile.first_event_at_ms = at_ms
    elif at_ms < profile.first_event_at_ms:
        profile.first_event_at_ms = at_ms
    profile.event_count = count + 1
    if anonymous_id := event.anonymous_id:
        _remember_anonymous_id(profile, anonymous_id)

    match payload:
        case "product_viewed":
            session = _join_session(profile, event, at_ms)
            return Applied((_touch(profile, session, event.product_viewed.product_id, INTERACTION_KIND_VIEW, at_ms),))
        case "added_to_cart":
            session = _join_session(profile, event, at_ms)
            added = event.added_to_cart
            product_id = added.product_id
            add_to_cart(profile, added, product_id, at_ms)
            return Applied((_touch(profile, session, product_id, INTERACTION_KIND_CART, at_ms),))
        case "removed_from_cart":
            _join_session(profile, event, at_ms)
            remove_from_cart(profile, event.removed_from_cart, at_ms)
        case "order_placed":
            session = _join_session(profile, event, at_ms)
            products = list(dict.fromkeys([line.product_id for line in event.order_placed.lines]))
            clear_ordered(profile, products, at_ms)
            interactions = []
            for product_id in products:
                bought = bought_before(profile, product_id)
                remember_purchase(profile, product_id, at_ms)
                interactions.append(_touch(profile, session, product_id, INTERACTION_KIND_PURCHASE, at_ms)._replace(bought=bought))
            return Applied(tuple(interactions))
        case "email_opened":
            email = profile.email
            email.opened_count += 1
            email.last_opened_at_ms = max(email.last_opened_at_ms, at_ms)
        case "email_clicked":
            email = profile.email
            email.clicked_count += 1
            email.last_clicked_at_ms = max(email.last_clicked_at_ms, at_ms)
            session = _join_session(profile, event, at_ms)
            if product_id := event.email_clicked.product_id:
                return Applied((_touch(profile, session, product_id, INTERACTION_KIND_EMAIL_CLICK, at_ms),))
        case "profile_changed":
            change_fields(profile, event.profile_changed, at_ms, event.event_id)
        case "consent_changed":
            change_consent(profile, event.consent_changed, at_ms, event.event_id)
        case _:
            raise ValueError(f"event {event.event_id!r} has no known payload: only valid events are folded")
    return _APPLIED_TO_NO_PRODUCT


def _remember_event_id(profile: Profile, event_id: str) -> bool:
    """False if the id is among the last ones."""
    digest = blake2b(event_id.encode(), digest_size=_DIGEST_BYTES).digest()
    recent = profile.recent_event_ids
    found = recent.find(digest)
    while found >= 0:
        if found % _DIGEST_BYTES == 0:
            return False
        found = recent.find(digest, found + 1)  # across the border of two others
    profile.recent_event_ids = recent[_DIGEST_BYTES - MAX_RECENT_EVENT_IDS * _DIGEST_BYTES :] + digest
    return True


def _remember_anonymous_id(profile: Profile, anonymous_id: str) -> None:
    known = profile.anonymous_ids
    if anonymous_id not in known:
        known.append(anonymous_id)
        if len(known) > MAX_ANONYMOUS_IDS:
            del known[: len(known) - MAX_ANONYMOUS_IDS]


def _join_session(profile: Profile, event: Event, at_ms: int) -> Session | None:
    """Let the event join the current session or begin a new one; None if it came late and belongs to neither."""
    session = profile.session
    event_session_id = event.session_id
    if count := session.event_count:
        last_ms = session.last_event_at_ms
        session_id = session.session_id if event_session_id else ""
        if session_id:
            joins = event_session_id == session_id
        elif at_ms >= last_ms:
            joins = at_ms <= last_ms + SESSION_GAP_MS
        else:
            joins = at_ms >= session.started_at_ms - SESSION_GAP_MS
        if joins:
            session.event_count = count + 1
            if at_ms > last_ms:
                session.last_event_at_ms = at_ms
            elif at_ms < session.started_at_ms:
                session.started_at_ms = at_ms
            if event_session_id and not session_id:
                session.session_id = event_session_id
            return session
        if at_ms < last_ms:
            return None
        session.Clear()
    if event_session_id:
        session.session_id = event_session_id
    session.started_at_ms = at_ms
    session.last_event_at_ms = at_ms
    session.event_count = 1
    return session


def _touch(profile: Profile, session: Session | None, product_id: str, kind: InteractionKind, at_ms: int) -> Interaction:
    """Put a product into the history and, unless the event came late, into the session."""
    if session is None:
        return _touch_late(profile, product_id, kind, at_ms)
    history = profile.history
    products = history.product_ids
    in_session = session.history_count
    size = len(products)
    before = size - in_session
    depth = MAX_EARLIER_PRODUCTS if in_session else MAX_EARLIER_AT_START
    earlier = products[max(0, before - depth) : before] if before else []
    session_products = session.product_ids
    context = session_products[:] if in_session else []

    session_products.append(product_id)
    if len(context) >= MAX_SESSION_PRODUCTS:
        del session_products[:1]
    products.append(product_id)
    history.occurred_at_ms.append(at_ms)
    history.kinds.append(kind)
    if size >= MAX_HISTORY:
        _forget_oldest(history)
    if in_session < MAX_HISTORY:
        session.history_count = in_session + 1
    return _interaction((profile.user_id, product_id, kind, at_ms, context, earlier, ()))


def _touch_late(profile: Profile, product_id: str, kind: InteractionKind, at_ms: int) -> Interaction:
    history = profile.history
    before = len(history.product_ids) - profile.session.history_count
    history.product_ids.insert(before, product_id)
    history.occurred_at_ms.insert(before, at_ms)
    history.kinds.insert(before, kind)
    if len(history.product_ids) > MAX_HISTORY:
        _forget_oldest(history)
    return Interaction(profile.user_id, product_id, kind, at_ms, [], [])


def _forget_oldest(history: History) -> None:
    # A slice is deleted in one move of memory; `del field[0]` costs twice as much.
    del history.product_ids[:1]
    del history.occurred_at_ms[:1]
    del history.kinds[:1]
