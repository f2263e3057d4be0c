"""Strategies that know nobody and nothing but the shop: new arrivals, and whatever it sells."""

from __future__ import annotations

from app.domain.recommendations import Reason, Recommendation
from app.domain.strategies.query import DAY_MS, MAX_PROPOSED, Query, in_order
from tidings.updates.v1.update_pb2 import REASON_KIND_IN_THE_SHOP, REASON_KIND_NEW_ARRIVAL

#: A product is new for so long after it was published or, where the shop does not say when that was, listed.
NEW_FOR_DAYS = 60
#: The catalog is asked for so many: it keeps the answers to a few questions.
_STEPS = (100, MAX_PROPOSED)
_NEW = Reason(REASON_KIND_NEW_ARRIVAL)
_SOLD = Reason(REASON_KIND_IN_THE_SHOP)


def new_arrivals(query: Query, limit: int) -> list[Recommendation]:
    """What was published within 60 days, the newest first; at most 1,000 products."""
    return in_order(((product_id, _NEW) for product_id in _new(query, limit)), limit)


def in_the_shop(query: Query, limit: int) -> list[Recommendation]:
    """Whatever is listed, the newest first: the last resort."""
    step = next((step for step in _STEPS if step >= limit), limit)
    return in_order(((product_id, _SOLD) for product_id in query.catalog.newest(step, query.now_ms)), limit)


def _new(query: Query, limit: int) -> list[str]:
    """At least ``limit`` products if there are so many."""
    found: list[str] = []
    for step in _STEPS:
        newest = query.catalog.newest(step, query.now_ms)
        found.clear()
        for product_id in newest:
            if (product := query.catalog.product(product_id)) is not None:
                age_ms = query.now_ms - (product.published_at_ms or product.listed_at_ms)
                if age_ms > NEW_FOR_DAYS * DAY_MS:
                    return found
                if age_ms >= 0:  # the catalog leaves out what is published later, but by the minute
                    found.append(product_id)
        if len(found) >= limit or len(newest) < step:
            break
    return found
