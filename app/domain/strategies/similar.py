"""Similar: products like what the person looked at last, by what the catalog says of them."""

from __future__ import annotations

from functools import lru_cache

from app.domain.catalog import LEVEL, CatalogProduct
from app.domain.recommendations import Reason, Recommendation
from app.domain.strategies.query import Query, by_score, last_looks, person_of
from tidings.updates.v1.update_pb2 import REASON_KIND_SIMILAR

#: The last distinct products looked at, and what the next counts, compared with the one before it.
MAX_LOOKS = 3
_NEXT_COUNTS = 0.8
#: Products compared with each of them, the best neighbours first, then the newest of its categories.
MAX_CANDIDATES = 200
#: Parts of a likeness, which is 1 at most. Without one of the first three, products are not alike, whatever they cost.
_CATEGORY, _BRAND, _ATTRIBUTES, _PRICE, _VISITED_TOGETHER = 0.4, 0.15, 0.15, 0.1, 0.2


def similar(query: Query, limit: int) -> list[Recommendation]:
    """Products like one of the last three looked at, without what the person touched before; at most 600. Ties by id.

    A product is compared by category, brand, attributes and price, and by how often it was visited together; its best likeness counts.
    """
    if query.catalog.is_empty or (profile := person_of(query)) is None:
        return []
    looks = last_looks(profile)
    best: dict[str, tuple[float, Reason]] = {}
    worth = 1.0
    for seen_id in list(looks)[:MAX_LOOKS]:
        if (seen := query.catalog.product(seen_id)) is not None:
            links = _links(query, seen_id)
            values = {(name, value) for name, values in seen.attributes.items() for value in values}
            for product_id in _candidates(query, seen, links):
                if product_id in looks or (product := query.catalog.product(product_id)) is None:
                    continue
                likeness, category = _likeness(seen, values, product)
                if likeness:
                    score = worth * (likeness + _VISITED_TOGETHER * links.get(product_id, 0.0))
                    if product_id not in best or score > best[product_id][0]:
                        best[product_id] = score, Reason(REASON_KIND_SIMILAR, seen_id, category=category)
        worth *= _NEXT_COUNTS
    return by_score(((product_id, score, reason) for product_id, (score, reason) in best.items()), limit)


def _links(query: Query, product_id: str) -> dict[str, float]:
    """The product's neighbours, the best with 1."""
    found = query.source.neighbours(product_id)
    if found is None or not found[1]:
        return {}
    most = max(found[1].values())
    return {neighbour: weight / most for neighbour, weight in found[1].items()} if most > 0 else {}


def _candidates(query: Query, seen: CatalogProduct, links: dict[str, float]) -> list[str]:
    """Neighbours and products of the same categories, each category with its part of the room."""
    found = dict.fromkeys(sorted(links, key=lambda product_id: (-links[product_id], product_id))[: MAX_CANDIDATES // 2])
    room = (MAX_CANDIDATES - len(found)) // max(1, len(seen.categories))
    for category in seen.categories:
        found.update(dict.fromkeys(query.catalog.in_category(category, MAX_CANDIDATES, query.now_ms)[:room]))
    return list(found)[:MAX_CANDIDATES]


def _likeness(one: CatalogProduct, values: set[tuple[str, str]], other: CatalogProduct) -> tuple[float, str]:
    """How alike two products are, without what visits say, and the category they share most of; 0 if in nothing but the price.

    ``values`` are the names and values of the one's attributes.
    """
    shared, category = max([_shared_levels(a, b) for a in one.categories for b in other.categories], default=(0.0, ""))
    alike = _CATEGORY * shared
    if one.brand and one.brand == other.brand:
        alike += _BRAND
    if values and other.attributes:
        theirs = {(name, value) for name, its in other.attributes.items() for value in its}
        alike += _ATTRIBUTES * len(values & theirs) / len(values | theirs)
    if alike and one.price and other.price and one.currency == other.currency:
        alike += _PRICE * min(one.price, other.price) / max(one.price, other.price)
    return alike, category


@lru_cache(maxsize=4096)
def _shared_levels(one: str, other: str) -> tuple[float, str]:
    """The part of the longer category's levels that two have in common from the first on, and these levels."""
    ours, theirs = one.split(LEVEL), other.split(LEVEL)
    same = 0
    for mine, yours in zip(ours, theirs, strict=False):
        if mine != yours:
            break
        same += 1
    return same / max(len(ours), len(theirs)), LEVEL.join(ours[:same])
