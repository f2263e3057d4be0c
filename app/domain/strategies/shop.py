"""Strategies that know nobody and nothing but the shop: new arrivals, and whatever it sells."""

from __future__ import annotations

from app.domain.recommendations import Reason, Recommendation
from app.domain.strategies.query import DAY_MS, MAX_PROPOSED, Query, in_order
from tidings.updates.v1.update_pb2 import REASON_KIND_IN_THE_SHOP, REASON_KIND_NEW_ARRIVAL

#: A product is new for so long after it was published or, where the shop does not say when that was, listed.
NEW_FOR_DAYS = 60
_NEW = Reason(REASON_KIND_NEW_ARRIVAL)
_SOLD = Reason(REASON_KIND_IN_THE_SHOP)


def new_arrivals(query: Query, limit: int) -> list[Recommendation]:
    """What was published within 60 days, the newest first; of the newest 1,000 products, some of which may be published later."""
    found = []
    asked = min(2 * limit, MAX_PROPOSED)
    seen = 0
    while True:
        newest = query.catalog.newest(asked)
        for product_id in newest[seen:]:
            product = query.catalog.product(product_id)
            if product is not None and 0 <= query.now_ms - (product.published_at_ms or product.listed_at_ms) <= NEW_FOR_DAYS * DAY_MS:
                found.append((product_id, _NEW))
        seen = len(newest)
        if len(found) >= limit or seen < asked or asked >= MAX_PROPOSED:
            return in_order(found, limit)
        asked = min(4 * asked, MAX_PROPOSED)


def in_the_shop(query: Query, limit: int) -> list[Recommendation]:
    """Whatever is listed, the newest first: the last resort."""
    return in_order(((product_id, _SOLD) for product_id in query.catalog.newest(limit)), limit)
