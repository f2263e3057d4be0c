"""Profiles, lists and items as JSON: snake_case, times as ISO 8601 in UTC with milliseconds, money in minor units, null for "never"."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain.items import ItemState, neighbour_list
from tidings.events.v1.event_pb2 import ConsentState
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.state.v1.profile_pb2 import Attribute, CartLine, InteractionKind, Profile
from tidings.updates.v1.update_pb2 import Reason, ReasonKind, Recommendation, RecommendationUpdate

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CONSENT_STATES = {ConsentState.CONSENT_STATE_GRANTED: "granted", ConsentState.CONSENT_STATE_DENIED: "denied"}
_KINDS = {
    InteractionKind.INTERACTION_KIND_VIEW: "view",
    InteractionKind.INTERACTION_KIND_CART: "cart",
    InteractionKind.INTERACTION_KIND_PURCHASE: "purchase",
    InteractionKind.INTERACTION_KIND_EMAIL_CLICK: "email_click",
}
_REASONS = {
    ReasonKind.REASON_KIND_ALSO_VIEWED: "also_viewed",
    ReasonKind.REASON_KIND_SEEN_NOW: "seen_now",
    ReasonKind.REASON_KIND_SEEN_BEFORE: "seen_before",
    ReasonKind.REASON_KIND_TRENDING: "trending",
}


def profile_json(profile: Profile, neighbours: Sequence[NeighbourList] | None = None) -> dict[str, Any]:
    """A profile as its person's own events made it, and what others taught (``neighbours``) where that was asked for."""
    session, history, email = profile.session, profile.history, profile.email
    document: dict[str, Any] = {
        "user_id": profile.user_id,
        "first_event_at": iso_time(profile.first_event_at_ms),
        "last_event_at": iso_time(profile.last_event_at_ms),
        "event_count": profile.event_count,
        "session": {
            "session_id": session.session_id or None,
            "started_at": iso_time(session.started_at_ms),
            "last_event_at": iso_time(session.last_event_at_ms),
            "event_count": session.event_count,
            "product_ids": list(session.product_ids),
        },
        "history": [
            {"product_id": product_id, "occurred_at": iso_time(at_ms), "kind": _KINDS.get(kind, "unknown")}
            for product_id, at_ms, kind in zip(history.product_ids, history.occurred_at_ms, history.kinds, strict=False)
        ],
        "cart": [_cart_line_json(line) for line in profile.cart],
        "attributes": {
            a.name: {"value": _value(a), "changed_at": iso_time(a.changed_at_ms)} for a in profile.attributes if a.WhichOneof("value")
        },
        "consents": {
            c.purpose: {"state": _CONSENT_STATES.get(c.state, "unknown"), "changed_at": iso_time(c.changed_at_ms)} for c in profile.consents
        },
        "anonymous_ids": list(profile.anonymous_ids),
        "email": {
            "opened_count": email.opened_count,
            "clicked_count": email.clicked_count,
            "last_opened_at": iso_time(email.last_opened_at_ms),
            "last_clicked_at": iso_time(email.last_clicked_at_ms),
        },
    }
    if neighbours is not None:
        document["neighbours"] = [_neighbours_json(answer) for answer in neighbours]
    return document


def recommendations_json(user_id: str, update: RecommendationUpdate | None, limit: int) -> dict[str, Any]:
    """The list that the user would see now, best first. Version 0 and an empty list before the first ranking."""
    update = update if update is not None else RecommendationUpdate()
    return {
        "user_id": user_id,
        "version": update.version,
        "current_to": iso_time(update.current_to_ms),
        "ranked_at": iso_time(update.ranked_at_ms),
        "caused_at": iso_time(update.caused_at_ms),
        "recommendations": [_recommendation_json(recommendation) for recommendation in update.recommendations[:limit]],
    }


def item_json(item: ItemState, limit: int) -> dict[str, Any]:
    """An item's visits and its best neighbours, best first; ``evicted_count`` above 0 says that some were cut at the bound."""
    answer = NeighbourList.FromString(neighbour_list(item, limit))
    return {"last_visit_at": iso_time(item.last_visit_at_ms), "evicted_count": item.evicted_count, **_neighbours_json(answer)}


def reason_text(reason: Reason) -> str:
    """Why a product is in the list, in a sentence for the person who gets it."""
    match reason.kind:
        case ReasonKind.REASON_KIND_ALSO_VIEWED:
            return (
                f"Others who looked at {reason.because_of} also looked at this." if reason.because_of else "Others like you looked at this."
            )
        case ReasonKind.REASON_KIND_SEEN_NOW:
            return f"You looked at this {_times(reason.times_seen)}in this visit."
        case ReasonKind.REASON_KIND_SEEN_BEFORE:
            return f"You looked at this {_times(reason.times_seen)}before."
        case ReasonKind.REASON_KIND_TRENDING:
            return "Many people look at this now."
        case _:
            return "Chosen for you."


def iso_time(at_ms: int) -> str | None:
    """``2024-04-27T14:35:22.000Z``; None for 0, which means never."""
    if not at_ms:
        return None
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _recommendation_json(recommendation: Recommendation) -> dict[str, Any]:
    reason = recommendation.reason
    return {
        "product_id": recommendation.product_id,
        "score": recommendation.score,
        "reason": {
            "kind": _REASONS.get(reason.kind, "unknown"),
            "because_of": reason.because_of or None,
            "times_seen": reason.times_seen,
            "text": reason_text(reason),
        },
    }


def _neighbours_json(neighbours: NeighbourList) -> dict[str, Any]:
    return {
        "product_id": neighbours.product_id,
        "visit_count": neighbours.visit_count,
        "neighbours": [
            {"product_id": product_id, "score": score}
            for product_id, score in zip(neighbours.neighbour_ids, neighbours.scores, strict=False)
        ],
    }


def _cart_line_json(line: CartLine) -> dict[str, Any]:
    price = None
    if line.HasField("unit_price"):
        price = {"minor_units": line.unit_price.minor_units, "currency": line.unit_price.currency_code or None}
    return {"product_id": line.product_id, "quantity": line.quantity, "added_at": iso_time(line.added_at_ms), "unit_price": price}


def _value(attribute: Attribute) -> str | float | bool:
    return getattr(attribute, str(attribute.WhichOneof("value")))


def _times(count: int) -> str:
    return "" if count < 2 else "twice " if count == 2 else f"{count} times "
