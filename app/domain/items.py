"""The items table: each product's visits and its bounded, decayed table of neighbours.

Counts and weights are sums of whole numbers, so visits may come in any order, with two exceptions, both visible in the state: once
neighbours were cut at the bound (`evicted_count` above 0), what had been cut is lost; and where a visit's decay window differs from the
item's, the older weights are shifted down, which may round the last bit differently.
"""

from __future__ import annotations

from bisect import bisect_left

from app.domain.decay import growth, shift_of
from app.domain.visits import Visit
from tidings.state.v1.item_pb2 import Item
from tidings.state.v1.neighbours_pb2 import NeighbourList

#: K: neighbours are cut to the best K, ties by product id, when they pass twice as many.
KEPT_NEIGHBOURS = 50
MAX_NEIGHBOURS = 2 * KEPT_NEIGHBOURS
#: L: how many neighbours an answer carries.
REPLY_NEIGHBOURS = 20
#: gamma: how much a frequent item's links are discounted.
FREQUENCY_POWER = 0.7


def new_item(product_id: str) -> Item:
    """An item that nobody has visited."""
    return Item(product_id=product_id)


def apply_visit(item: Item, visit: Visit) -> None:
    """Add one visit to the item it is about."""
    _, _, at_ms, window, weight, _, _, neighbour_ids, neighbour_weights = visit
    down = 0
    if window != item.window:
        down = _align(item, window)
    if weight:
        item.visit_count += 1
        item.weight += weight >> down
    if at_ms > item.last_visit_at_ms:
        item.last_visit_at_ms = at_ms
    if not neighbour_ids:
        return
    ids = item.neighbour_ids
    weights = item.neighbour_weights
    for neighbour_id, link in zip(neighbour_ids, neighbour_weights, strict=True):
        place = bisect_left(ids, neighbour_id)
        if place < len(ids) and ids[place] == neighbour_id:
            weights[place] += link >> down
        else:
            ids.insert(place, neighbour_id)
            weights.insert(place, link >> down)
    if len(ids) > MAX_NEIGHBOURS:
        _cut(item)


def neighbour_list(item: Item, limit: int = REPLY_NEIGHBOURS) -> NeighbourList:
    """The best neighbours, best first, ties by product id. Score: weight / (own weight + 1)^0.7, both decayed to the item's own clock.

    How popular the neighbour itself is stays out of the score: only its own partition knows.
    """
    weights = item.neighbour_weights[:]
    scale = 1.0 / growth(item.last_visit_at_ms, item.window)
    factor = scale / (item.weight * scale + 1.0) ** FREQUENCY_POWER
    best = _best_places(weights, limit)
    ids = item.neighbour_ids
    answer = NeighbourList()
    answer.product_id = item.product_id
    answer.visit_count = item.visit_count
    answer.neighbour_ids.extend([ids[place] for place in best])
    answer.scores.extend([weights[place] * factor for place in best])
    return answer


def _best_places(weights: list[int], count: int) -> list[int]:
    """Where the greatest weights are, greatest first. The ids beside them are sorted, so places in ascending order are ties by id."""
    # A reversed sort keeps the order of equals.
    return sorted(range(len(weights)), key=weights.__getitem__, reverse=True)[:count]


def _align(item: Item, window: int) -> int:
    """Bring the item to a later window; returns the bits by which a visit of an older window is to be shifted down."""
    if window < item.window:
        return shift_of(window, item.window)
    if item.visit_count or item.neighbour_ids:
        down = shift_of(item.window, window)
        item.weight >>= down
        item.neighbour_weights[:] = [weight >> down for weight in item.neighbour_weights]
    item.window = window
    return 0


def _cut(item: Item) -> None:
    ids = item.neighbour_ids[:]
    weights = item.neighbour_weights[:]
    kept = sorted(_best_places(weights, KEPT_NEIGHBOURS))
    item.neighbour_ids[:] = [ids[place] for place in kept]
    item.neighbour_weights[:] = [weights[place] for place in kept]
    item.evicted_count += len(ids) - KEPT_NEIGHBOURS
