"""Neighbours read from the items themselves: what a single process can do, and a fleet cannot."""

from __future__ import annotations

from app.domain.decay import growth
from app.domain.items import FREQUENCY_POWER, ItemState, neighbour_list
from app.domain.plain_fold import PlainTables
from app.domain.ranking import ScoredList
from tidings.state.v1.neighbours_pb2 import NeighbourList

#: delta: how much popular neighbours are lowered; here their popularity is known.
_POPULARITY_POWER = -0.05


class LiveItems:
    """A NeighbourSource (app/domain/ranking.py) over items. Parsed lists are kept until their item changes."""

    def __init__(self, tables: PlainTables) -> None:
        self._items = tables.items
        self._lists: dict[str, tuple[list[str], list[float], int, int]] = {}
        self._damping: dict[str, float] = {}
        self.now_ms = 0

    def forget(self, product_id: str) -> None:
        """The item is about to change."""
        self._lists.pop(product_id, None)
        self._damping.pop(product_id, None)

    def neighbours(self, product_id: str) -> ScoredList | None:
        found = self._lists.get(product_id)
        if found is None:
            item = self._items.get(product_id)
            if item is None or not item.neighbours:
                return None
            links = item.weights()
            found = list(links), [float(link) for link in links.values()], item.weight, item.window
            self._lists[product_id] = found
        ids, weights, weight, window = found
        scale = 1.0 / growth(self.now_ms, window)
        return scale / (weight * scale + 1.0) ** FREQUENCY_POWER, ids, weights

    def damp(self, scores: dict[str, float]) -> None:
        known = self._damping
        for product_id in scores:
            factor = known.get(product_id)
            if factor is None:
                factor = known[product_id] = _damping(self._items.get(product_id))
            scores[product_id] *= factor

    def together(self, product_id: str) -> tuple[int, dict[str, int]]:
        item = self._items.get(product_id)
        return (item.visit_count, item.counts()) if item is not None else (0, {})

    def bought(self, product_id: str) -> tuple[int, list[str], list[int]]:
        item = self._items.get(product_id)
        if item is None or not item.bought:
            return 0, [], []
        answer = NeighbourList.FromString(neighbour_list(item, 0))
        return answer.purchase_count, answer.bought_ids[:], answer.bought_counts[:]


def _damping(item: ItemState | None) -> float:
    if item is None:
        return 1.0
    # As of the item's own last visit: at a power of 0.05, a month more or less is 1%.
    return (item.weight / growth(item.last_visit_at_ms, item.window) + 1.0) ** _POPULARITY_POWER
