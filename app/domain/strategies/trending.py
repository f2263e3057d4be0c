"""Strategies that go by what many people touch now: trending in the shop, and in the categories that the person looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.domain.catalog import Catalog
from app.domain.recommendations import Reason, Recommendation
from app.domain.strategies.query import Query, by_score, last_looks, person_of
from tidings.updates.v1.update_pb2 import REASON_KIND_TRENDING, REASON_KIND_TRENDING_IN_CATEGORY

#: Of the person's history, so many distinct products tell which categories they look at, and so many categories are looked into.
MAX_LOOKS = 12
MAX_CATEGORIES = 5
#: How long what trends stays grouped by category, while the models stay the same.
GROUPED_FOR_MS = 60_000
#: What the next look counts, compared with the one before it.
_NEXT_COUNTS = 0.8
_TRENDS = Reason(REASON_KIND_TRENDING)

Trends = Sequence[tuple[str, float]]


def trending(query: Query, limit: int) -> list[Recommendation]:
    """What the shop's people touch most, newer touches counting more; at most 1,000 products."""
    return [Recommendation(product_id, share, _TRENDS) for product_id, share in query.models.trends[:limit]]


def trending_in_category(query: Query, limit: int) -> list[Recommendation]:
    """What trends in the five categories that the person's last looks fall into most; of the 1,000 products that trend.

    A product scores its trend times what its category counts for the person, in the category where that is most; ties by id.
    """
    if query.catalog.is_empty or (profile := person_of(query)) is None:
        return []
    trends = _trends_by_category(query)
    scores: dict[str, tuple[float, Reason]] = {}
    for category, worth in _categories_looked_at(query.catalog, list(last_looks(profile))[:MAX_LOOKS]):
        reason = Reason(REASON_KIND_TRENDING_IN_CATEGORY, category=category)
        for product_id, share in trends.get(category, ()):
            if product_id not in scores or worth * share > scores[product_id][0]:
                scores[product_id] = worth * share, reason
    return by_score(((product_id, score, reason) for product_id, (score, reason) in scores.items()), limit)


def _categories_looked_at(catalog: Catalog, looks: Sequence[str]) -> list[tuple[str, float]]:
    """The best five categories and what they count, best first, ties by name."""
    worth = 1.0
    counts: dict[str, float] = {}
    for product_id in looks:
        if (product := catalog.product(product_id)) is not None:
            for category in product.categories:
                counts[category] = counts.get(category, 0.0) + worth
        worth *= _NEXT_COUNTS
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_CATEGORIES]


def _trends_by_category(query: Query) -> Mapping[str, Trends]:
    """What trends by category, made once a minute for the models: a product seldom changes its category."""
    models, catalog, minute = query.models, query.catalog, query.now_ms // GROUPED_FOR_MS
    made: tuple[Catalog, int, dict[str, Trends]] | None = models.derived.get(_trends_by_category)
    if made is not None and made[0] is catalog and made[1] == minute:
        return made[2]
    trends: dict[str, list[tuple[str, float]]] = {}
    for product_id, share in models.trends:
        if (product := catalog.product(product_id)) is not None:
            for category in product.categories:
                trends.setdefault(category, []).append((product_id, share))
    models.derived[_trends_by_category] = catalog, minute, trends
    return trends
