"""Strategies that go by what the person looked at: recently viewed, price dropped, back in stock. Bounded by the history, 200 touches."""

from __future__ import annotations

from collections import Counter

from app.domain.profile import SESSION_GAP_MS
from app.domain.recommendations import Reason, Recommendation
from app.domain.strategies.query import DAY_MS, Query, by_score, in_order, last_looks, person_of
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import (
    REASON_KIND_BACK_IN_STOCK,
    REASON_KIND_PRICE_DROPPED,
    REASON_KIND_SEEN_BEFORE,
    REASON_KIND_SEEN_NOW,
)

#: A product that came back longer ago than this is no news.
BACK_FOR_DAYS = 30


def recently_viewed(query: Query, limit: int) -> list[Recommendation]:
    """What the person touched, the last first."""
    if (profile := person_of(query)) is None:
        return []
    touched = profile.history.product_ids[:]
    times = Counter(touched)
    session = _open_session(profile, query.now_ms)
    return in_order(
        (
            (product_id, Reason(REASON_KIND_SEEN_NOW if product_id in session else REASON_KIND_SEEN_BEFORE, "", times[product_id]))
            for product_id in dict.fromkeys(touched[::-1])
        ),
        limit,
    )


def price_dropped(query: Query, limit: int) -> list[Recommendation]:
    """What costs less than when the person last touched it; the greatest relative drop first, ties by id."""
    if (profile := person_of(query)) is None:
        return []
    found = []
    for product_id, at_ms in last_looks(profile).items():
        product = query.catalog.product(product_id)
        if product is None or product.price is None:
            continue
        before = product.price_at(at_ms)
        if before is not None and product.price < before:
            was, now = (before, product.currency), (product.price, product.currency)
            reason = Reason(REASON_KIND_PRICE_DROPPED, price_before=was, price_now=now)
            found.append((product_id, (before - product.price) / before, reason))
    return by_score(found, limit)


def back_in_stock(query: Query, limit: int) -> list[Recommendation]:
    """What came back within 30 days, and was last touched before that: while it was sold out or earlier. The last to come back first,
    ties by id.
    """
    if (profile := person_of(query)) is None:
        return []
    found = []
    for product_id, at_ms in last_looks(profile).items():
        product = query.catalog.product(product_id)
        if product is None or not product.in_stock:
            continue
        back_ms = product.back_in_stock_at_ms
        age_ms = query.now_ms - back_ms
        if at_ms < back_ms and 0 <= age_ms <= BACK_FOR_DAYS * DAY_MS:
            found.append((product_id, 1.0 / (1.0 + age_ms / DAY_MS), Reason(REASON_KIND_BACK_IN_STOCK)))
    return by_score(found, limit)


def _open_session(profile: Profile, now_ms: int) -> set[str]:
    session = profile.session
    if not session.history_count or now_ms - session.last_event_at_ms > SESSION_GAP_MS:
        return set()
    return set(profile.history.product_ids[-session.history_count :])
