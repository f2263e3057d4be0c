"""A small shop for tests: its catalog in a dict, people with a history, a cart and purchases, and what others taught."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.domain.catalog import NEVER_MS, CatalogProduct
from app.domain.models import GlobalModels
from app.domain.reminders import HISTORY_CELLS, SESSION_CELLS
from app.domain.strategies import Query, query_of
from tidings.events.v1.event_pb2 import ConsentState
from tidings.state.v1.profile_pb2 import InteractionKind, Profile

NOW_MS = 1_714_219_200_000  # 2024-04-27T12:00:00Z
MINUTE_MS = 60_000
DAY_MS = 86_400_000


class DictCatalog:
    """The catalog of app/domain/catalog.py, said plainly."""

    def __init__(self, products: Iterable[CatalogProduct] = ()) -> None:
        self.products = {product.product_id: product for product in products}
        self._order = sorted(self.products.values(), key=lambda p: (-(p.published_at_ms or p.listed_at_ms), p.product_id))

    @property
    def is_empty(self) -> bool:
        return not self.products

    def product(self, product_id: str) -> CatalogProduct | None:
        return self.products.get(product_id)

    def newest(self, limit: int, until_ms: int = NEVER_MS - 1) -> Sequence[str]:
        return [p.product_id for p in self._until(until_ms)][:limit]

    def in_category(self, category: str, limit: int, until_ms: int = NEVER_MS - 1) -> Sequence[str]:
        return [p.product_id for p in self._until(until_ms) if category in p.categories][:limit]

    def _until(self, until_ms: int) -> list[CatalogProduct]:
        """By the minute begun, as the protocol allows."""
        end_ms = (until_ms // MINUTE_MS + 1) * MINUTE_MS
        return [p for p in self._order if (p.published_at_ms or p.listed_at_ms) < min(end_ms, NEVER_MS)]


class Taught:
    """What others taught: neighbours and what was bought together, in dicts."""

    def __init__(
        self,
        neighbours: Mapping[str, Mapping[str, float]] | None = None,
        together: Mapping[str, tuple[int, Mapping[str, int]]] | None = None,
        bought: Mapping[str, tuple[int, Mapping[str, int]]] | None = None,
    ) -> None:
        self._neighbours, self._together, self._bought = neighbours or {}, together or {}, bought or {}

    def neighbours(self, product_id: str) -> tuple[float, Mapping[str, float]] | None:
        found = self._neighbours.get(product_id)
        return None if found is None else (1.0, found)

    links = neighbours
    damping = None

    def together(self, product_id: str) -> tuple[int, Mapping[str, int]]:
        return self._together.get(product_id, (0, {}))

    def bought(self, product_id: str) -> tuple[int, list[str], list[int]]:
        count, with_it = self._bought.get(product_id, (0, {}))
        return count, list(with_it), list(with_it.values())


NOTHING_TAUGHT = Taught()


def models_of(trends: Mapping[str, float] | Sequence[str] = ()) -> GlobalModels:
    """Models in which these trend, and every return is as likely as any other."""
    shares = trends if isinstance(trends, Mapping) else {product_id: 0.5 / (1 + place) for place, product_id in enumerate(trends)}
    ordered = tuple(sorted(shares.items(), key=lambda entry: (-entry[1], entry[0])))
    return GlobalModels((0.1,) * SESSION_CELLS, (0.05,) * HISTORY_CELLS, ordered[:60], trends=ordered[:1_000])


def person(
    looks: Iterable[tuple[str, int]] = (),
    *,
    session: Iterable[tuple[str, int]] = (),
    cart: Iterable[tuple[str, int]] = (),
    purchases: Iterable[tuple[str, int, int, int]] = (),
    attributes: Mapping[str, Any] | None = None,
    denied: bool = False,
) -> Profile:
    """``looks`` in earlier sessions and in the open one, oldest first; cart lines; (product, first, last, orders). All with times in ms."""
    profile = Profile(user_id="ada")
    for product_id, at_ms in [*looks, *session]:
        profile.history.product_ids.append(product_id)
        profile.history.occurred_at_ms.append(at_ms)
        profile.history.kinds.append(InteractionKind.INTERACTION_KIND_VIEW)
    for product_id, at_ms in session:
        profile.session.product_ids.append(product_id)
        profile.session.last_event_at_ms = at_ms
        profile.session.history_count += 1
    for product_id, at_ms in cart:
        profile.cart.add(product_id=product_id, quantity=1, added_at_ms=at_ms)
    for product_id, first_ms, last_ms, count in sorted(purchases, key=lambda row: row[2]):
        profile.purchases.product_ids.append(product_id)
        profile.purchases.first_at_ms.append(first_ms)
        profile.purchases.last_at_ms.append(last_ms)
        profile.purchases.counts.append(count)
    for name, value in sorted((attributes or {}).items()):
        profile.attributes.add(name=name, **{"text" if isinstance(value, str) else "number": value})
    if denied:
        profile.consents.add(purpose="profiling", state=ConsentState.CONSENT_STATE_DENIED)
    return profile


def ask(
    profile: Profile | None = None,
    catalog: DictCatalog | Iterable[CatalogProduct] = (),
    *,
    source: Any = NOTHING_TAUGHT,
    models: GlobalModels | None = None,
    now_ms: int = NOW_MS,
) -> Query:
    """A query about this person."""
    shop = catalog if isinstance(catalog, DictCatalog) else DictCatalog(catalog)
    return query_of(profile, source, models if models is not None else models_of(), shop, now_ms)
