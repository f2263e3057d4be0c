"""Profiles, lists and items as JSON: snake_case, times as ISO 8601 in UTC with milliseconds, money in minor units, null for "never"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from app.domain.catalog import Catalog
from app.domain.items import ItemState, neighbour_list
from app.domain.reasons import OTHER_REASON, REASON_NAMES, reason_text
from app.domain.recommendations import Reason, Recommendation, recommendation_of
from app.domain.shown_product import shown_money, shown_product
from app.domain.slots import Selection
from tidings.events.v1.event_pb2 import ConsentState
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.state.v1.profile_pb2 import Attribute, CartLine, InteractionKind, Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: What ISO 8601 can write with four digits.
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
_CONSENT_STATES = {ConsentState.CONSENT_STATE_GRANTED: "granted", ConsentState.CONSENT_STATE_DENIED: "denied"}
_KINDS = {
    InteractionKind.INTERACTION_KIND_VIEW: "view",
    InteractionKind.INTERACTION_KIND_CART: "cart",
    InteractionKind.INTERACTION_KIND_PURCHASE: "purchase",
    InteractionKind.INTERACTION_KIND_EMAIL_CLICK: "email_click",
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
        "purchases": [
            {"product_id": product_id, "first_at": iso_time(first_ms), "last_at": iso_time(last_ms), "count": count}
            for product_id, first_ms, last_ms, count in zip(
                profile.purchases.product_ids, profile.purchases.first_at_ms, profile.purchases.last_at_ms, profile.purchases.counts,
                strict=True,
            )
        ],
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


def recommendations_json(user_id: str, update: RecommendationUpdate | None, limit: int, catalog: Catalog) -> dict[str, Any]:
    """The list that was published for the user, best first. Version 0 and an empty list before the first ranking."""
    update = update if update is not None else RecommendationUpdate()
    recommendations = list(map(recommendation_of, update.recommendations[:limit]))
    return {
        "user_id": user_id,
        "version": update.version,
        "current_to": iso_time(update.current_to_ms),
        "ranked_at": iso_time(update.ranked_at_ms),
        "caused_at": iso_time(update.caused_at_ms),
        "recommendations": recommended_json(recommendations, catalog),
    }


def selection_json(
    user_id: str, slot: str, profile: Profile | None, selection: Selection, limit: int, catalog: Catalog, now_ms: int
) -> dict[str, Any]:
    """The list of a slot as it is at this moment, best first."""
    return {
        "user_id": user_id,
        "slot": slot,
        "known": profile is not None,
        "current_to": iso_time(profile.last_event_at_ms if profile is not None else 0),
        "ranked_at": iso_time(now_ms),
        "recommendations": recommended_json(selection.recommendations[:limit], catalog),
    }


def removed_json(selection: Selection, catalog: Catalog) -> list[dict[str, Any]]:
    """What was proposed and is not shown, and the rule that says so."""
    return [
        {"product_id": product_id, "title": title_of(catalog, product_id), "rule": rule, "strategy": strategy}
        for product_id, rule, strategy in selection.removed
    ]


def recommended_json(recommendations: Iterable[Recommendation], catalog: Catalog) -> list[dict[str, Any]]:
    """Each product with its reason, and with what the catalog says of it if it is there."""
    return [_recommendation_json(recommendation, catalog) for recommendation in recommendations]


def title_of(catalog: Catalog, product_id: str) -> str | None:
    """None if the shop has not said."""
    product = catalog.product(product_id)
    return product.title or None if product is not None else None


def item_json(item: ItemState, limit: int) -> dict[str, Any]:
    """An item's visits and its best neighbours, best first; ``evicted_count`` above 0 says that some were cut at the bound."""
    answer = NeighbourList.FromString(neighbour_list(item, limit))
    return {"last_visit_at": iso_time(item.last_visit_at_ms), "evicted_count": item.evicted_count, **_neighbours_json(answer)}


def iso_time(at_ms: int) -> str | None:
    """``2024-04-27T14:35:22.000Z``; None for 0, which means never. A time before year 1 or after 9999 is shown as the first or the last."""
    if not at_ms:
        return None
    seconds, milliseconds = divmod(min(max(at_ms, _FIRST_MS), _LAST_MS), 1000)
    minute, second = divmod(seconds, 60)
    return _minute(minute) + _SECONDS[second] + _MILLISECONDS[milliseconds]


# A profile has hundreds of times, close together: to put them together is four times as fast as to format each.
_SECONDS = [f"{second:02d}." for second in range(60)]
_MILLISECONDS = [f"{milliseconds:03d}Z" for milliseconds in range(1000)]


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    """``2024-04-27T14:35:``"""
    return (_EPOCH + timedelta(minutes=minute)).isoformat()[:17]


def _recommendation_json(recommendation: Recommendation, catalog: Catalog) -> dict[str, Any]:
    product_id, score, reason = recommendation
    product = catalog.product(product_id)
    shown = {"product_id": product_id, "score": score, "reason": _reason_json(reason, catalog)}
    return shown if product is None else shown | shown_product(product)


def _reason_json(reason: Reason, catalog: Catalog) -> dict[str, Any]:
    said: dict[str, Any] = {
        "kind": REASON_NAMES.get(reason.kind, OTHER_REASON),
        "because_of": reason.because_of or None,
        "times_seen": reason.times_seen,
        "text": reason_text(reason, lambda product_id: title_of(catalog, product_id) or product_id),
    }
    if reason.visits:
        said |= {"together": reason.together, "visits": reason.visits}
    if reason.category:
        said["category"] = reason.category
    if reason.price_before is not None and reason.price_now is not None:
        said |= {"price_before": shown_money(*reason.price_before), "price_now": shown_money(*reason.price_now)}
    if reason.interval_days:
        said["interval_days"] = reason.interval_days
    return said


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
