"""Neighbours read from the items themselves: what a single process can do, and a fleet cannot."""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.decay import growth
from app.domain.items import COUNT_BITS, FREQUENCY_POWER, ItemState, neighbour_list, product_of
from app.domain.plain_fold import PlainTables
from tidings.state.v1.neighbours_pb2 import NeighbourList

#: delta: how much popular neighbours are lowered; here their popularity is known.
_POPULARITY_POWER = -0.05
#: In a day, a weight loses 1% and its damping 0.04%.
_DAMPING_AGE_MS = 86_400_000


class LiveItems:
    """A NeighbourSource (app/domain/ranking.py) over items. Parsed links are kept until their item changes."""

    def __init__(self, tables: PlainTables) -> None:
        self._items = tables.items
        #: The item's weight and window, and its links.
        self._lists: dict[str, tuple[int, int, dict[str, float]]] = {}
        #: As of a time less than a day ago.
        self._damping = _Damping(tables.items)
        #: By wire id, one object for all who name a product.
        self._names: dict[bytes, str] = {}
        #: Of a window, what a weight is to be multiplied by at a time.
        self._scales: dict[int, float] = {}
        self._now_ms = 0

    @property
    def now_ms(self) -> int:
        return self._now_ms

    @now_ms.setter
    def now_ms(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._scales.clear()
        if abs(now_ms - self._damping.at_ms) > _DAMPING_AGE_MS:
            self._damping.clear()
            self._damping.at_ms = now_ms

    def forget(self, product_id: str) -> None:
        """The item is about to change."""
        self._lists.pop(product_id, None)
        self._damping.pop(product_id, None)

    def neighbours(self, product_id: str) -> tuple[float, dict[str, float]] | None:
        found = self._lists.get(product_id)
        if found is None:
            item = self._items.get(product_id)
            if item is None or not item.neighbours:
                return None
            names = self._names
            ids = [names.get(neighbour) or names.setdefault(neighbour, product_of(neighbour)) for neighbour in item.neighbours]
            links = dict(zip(ids, [float(link >> COUNT_BITS) for link in item.neighbours.values()], strict=True))
            found = self._lists[product_id] = item.weight, item.window, links
        weight, window, links = found
        scale = self._scales.get(window)
        if scale is None:
            scale = self._scales[window] = 1.0 / growth(self._now_ms, window)
        return scale / (weight * scale + 1.0) ** FREQUENCY_POWER, links

    #: The same: they are at hand parsed.
    links = neighbours

    @property
    def damping(self) -> dict[str, float]:
        return self._damping

    def together(self, product_id: str) -> tuple[int, dict[str, int]]:
        item = self._items.get(product_id)
        return (item.visit_count, item.counts()) if item is not None else (0, {})

    def bought(self, product_id: str) -> tuple[int, list[str], list[int]]:
        item = self._items.get(product_id)
        if item is None or not item.bought:
            return 0, [], []
        answer = NeighbourList.FromString(neighbour_list(item, 0))
        return answer.purchase_count, answer.bought_ids[:], answer.bought_counts[:]


class _Damping(dict[str, float]):
    """By product, what popularity leaves of a score; made when it is asked for."""

    def __init__(self, items: Mapping[str, ItemState]) -> None:
        super().__init__()
        self.at_ms = 0
        self._items = items

    def __missing__(self, product_id: str) -> float:
        item = self._items.get(product_id)
        left = 1.0 if item is None else (item.weight / growth(self.at_ms, item.window) + 1.0) ** _POPULARITY_POWER
        self[product_id] = left
        return left
