"""The strategies: each answers one question about what a person might want, purely and within bounds, and says why."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from app.domain.strategies.basket import also_bought, buy_again, left_in_cart
from app.domain.strategies.for_you import for_you
from app.domain.strategies.looked_at import back_in_stock, price_dropped, recently_viewed
from app.domain.strategies.query import Query, Strategy, query_of
from app.domain.strategies.shop import in_the_shop, new_arrivals
from app.domain.strategies.similar import similar
from app.domain.strategies.trending import trending, trending_in_category

__all__ = ["STRATEGIES", "Query", "Strategy", "query_of"]

#: By the name that a slot's settings know it by.
STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        strategy.__name__: strategy
        for strategy in (
            for_you,
            recently_viewed,
            left_in_cart,
            also_bought,
            similar,
            trending,
            trending_in_category,
            new_arrivals,
            price_dropped,
            back_in_stock,
            buy_again,
            in_the_shop,
        )
    }
)
