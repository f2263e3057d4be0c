"""The items table: each product's visits and its bounded, decayed table of neighbours.

Counts and weights are sums of whole numbers, so visits may come in any order, with two exceptions, both visible in the state: once
neighbours were cut at the bound (`evicted_count` above 0; `bought_evicted_count` of what was bought together), what had been cut is lost;
and where a visit's decay window differs from the
item's, the older weights are shifted down, which may round the last bit differently.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, repeat
from struct import Struct

from google.protobuf.message import DecodeError

from app.domain.decay import growth, shift_of, window_of
from app.domain.visits import Visit
from app.domain.wire import VARINT, tag, varint
from tidings.state.v1.item_pb2 import Item
from tidings.state.v1.neighbours_pb2 import NeighbourList

#: K: neighbours are cut to the best K, ties by product id, when they pass twice as many.
KEPT_NEIGHBOURS = 50
MAX_NEIGHBOURS = 2 * KEPT_NEIGHBOURS
#: The same, of the products bought by the same people.
KEPT_BOUGHT = 15
MAX_BOUGHT = 2 * KEPT_BOUGHT
#: L: how many neighbours an answer carries.
REPLY_NEIGHBOURS = 20
REPLY_BOUGHT = 10
#: gamma: how much a frequent item's links are discounted.
FREQUENCY_POWER = 0.7
#: A neighbour's weight and the number of its links stand in one number, so that one addition adds both: the count below, in so many bits.
COUNT_BITS = 32
_COUNT = (1 << COUNT_BITS) - 1


@dataclass(slots=True)
class ItemState:
    """One product's visits and neighbours: a tidings.state.v1.Item at work. Kept decoded, changed in place."""

    product_id: str
    visit_count: int = 0
    weight: int = 0
    window: int = 0
    last_visit_at_ms: int = 0
    evicted_count: int = 0
    #: By wire id, in no order that matters: weight << COUNT_BITS | number of links.
    neighbours: dict[bytes, int] = field(default_factory=dict)
    purchase_count: int = 0
    bought_evicted_count: int = 0
    #: By wire id, how many purchases the two shared.
    bought: dict[bytes, int] = field(default_factory=dict)

    def weights(self) -> dict[str, int]:
        """The neighbours' weights by product id."""
        return {product_of(neighbour): link >> COUNT_BITS for neighbour, link in self.neighbours.items()}

    def counts(self) -> dict[str, int]:
        """By product id, how many links each neighbour's weight is made of."""
        return {product_of(neighbour): link & _COUNT for neighbour, link in self.neighbours.items()}


def new_item(product_id: str) -> ItemState:
    """An item that nobody has visited."""
    return ItemState(product_id)


def apply_visit(item: ItemState, visit: Visit) -> None:
    """Add one visit to the item it is about."""
    links = zip(wire_ids(visit.neighbour_ids), visit.neighbour_weights, strict=True)
    add_visits([item], [visit.occurred_at_ms], [visit.weight], [len(visit.neighbour_ids)], links)
    item.purchase_count += visit.is_purchase
    for other in wire_ids(visit.bought_ids):
        add_bought(item, other)


def add_visits(
    items: Iterable[ItemState], times: Sequence[int], weights: Iterable[int], counts: Iterable[int], links: Iterator[tuple[bytes, int]]
) -> None:
    """Add visits, at least one: of each, the item it is about, its time, its weight, and how many of the links are its own.

    A link is a neighbour's wire id and a weight. A loop that calls next to nothing, for it runs several times for every event.
    """
    first, last = window_of(min(times)), window_of(max(times))
    windows = repeat(first) if first == last else map(window_of, times)
    for item, at_ms, window, weight, count in zip(items, times, windows, weights, counts):  # noqa: B905  # repeat has no end
        down = 0
        if window != item.window:
            down = _align(item, window)
        if weight:
            item.visit_count += 1
            item.weight += weight >> down
        if at_ms > item.last_visit_at_ms:
            item.last_visit_at_ms = at_ms
        neighbours = item.neighbours
        if count == 1:
            neighbour, link = next(links)
            neighbours[neighbour] = neighbours.get(neighbour, 0) + (link >> down << COUNT_BITS | 1)
        else:
            for neighbour, link in islice(links, count):
                neighbours[neighbour] = neighbours.get(neighbour, 0) + (link >> down << COUNT_BITS | 1)
        if len(neighbours) > MAX_NEIGHBOURS:
            item.neighbours = dict(zip(*_best(neighbours, KEPT_NEIGHBOURS), strict=True))
            item.evicted_count += len(neighbours) - KEPT_NEIGHBOURS


def add_bought(item: ItemState, other: bytes) -> None:
    """Someone bought both the item and the product of this wire id."""
    bought = item.bought
    bought[other] = bought.get(other, 0) + 1
    if len(bought) > MAX_BOUGHT:
        item.bought = dict(zip(*_best(bought, KEPT_BOUGHT), strict=True))
        item.bought_evicted_count += len(bought) - KEPT_BOUGHT


def neighbour_list(item: ItemState, limit: int = REPLY_NEIGHBOURS) -> bytes:
    """The best neighbours, best first, ties by the number of links and then by product id, and what was bought by the same people: a
    serialised tidings.state.v1.NeighbourList.

    Score: weight / (own weight + 1)^0.7, both decayed to the item's own clock. How popular the neighbour itself is stays out of the score:
    only its own partition knows.
    """
    ids, links = _best(item.neighbours, limit)
    scale = 1.0 / growth(item.last_visit_at_ms, item.window)
    factor = scale / (item.weight * scale + 1.0) ** FREQUENCY_POWER
    parts = [_LIST_PRODUCT, _WIRE_IDS[item.product_id], _LIST_VISITS, varint(item.visit_count)]
    if ids:
        scores = _floats(len(ids)).pack(*[(link >> COUNT_BITS) * factor for link in links])
        counts = _packed([link & _COUNT for link in links])
        parts += (_LIST_NEIGHBOUR, _LIST_NEIGHBOUR.join(ids), _LIST_SCORES, varint(len(scores)), scores, _LIST_COUNTS, counts)
    if item.purchase_count:
        parts += (_LIST_PURCHASES, varint(item.purchase_count))
        if item.bought:
            ids, together = _best(item.bought, REPLY_BOUGHT)
            parts += (_LIST_BOUGHT, _LIST_BOUGHT.join(ids), _LIST_BOUGHT_COUNTS, _packed(together))
    return b"".join(parts)


def encode_item(item: ItemState) -> bytes:
    """An Item message, its neighbours in the order in which the state has them."""
    message = Item()
    message.product_id = item.product_id
    message.visit_count = item.visit_count
    message.weight = item.weight
    message.window = item.window
    message.last_visit_at_ms = item.last_visit_at_ms
    message.evicted_count = item.evicted_count
    parts = [b""]
    if item.neighbours:
        links = item.neighbours.values()
        message.neighbour_weights.extend([link >> COUNT_BITS for link in links])
        parts += (_ITEM_NEIGHBOUR, _ITEM_NEIGHBOUR.join(item.neighbours), _ITEM_COUNTS, _packed([link & _COUNT for link in links]))
    if item.purchase_count or item.bought:
        message.purchase_count = item.purchase_count
        message.bought_evicted_count = item.bought_evicted_count
        if item.bought:
            parts += (_ITEM_BOUGHT, _ITEM_BOUGHT.join(item.bought), _ITEM_BOUGHT_COUNTS, _packed(item.bought.values()))
    parts[0] = message.SerializeToString()
    return b"".join(parts)


def decode_item(value: bytes) -> ItemState:
    """Of an Item message. Raises DecodeError if the bytes are none, or its lists do not fit together."""
    message = Item.FromString(value)
    ids, weights = message.neighbour_ids[:], message.neighbour_weights[:]
    counts = message.neighbour_counts[:] or [0] * len(ids)  # an item from before links were counted
    bought, together = message.bought_ids[:], message.bought_counts[:]
    if not len(ids) == len(weights) == len(counts) or len(bought) != len(together):
        raise DecodeError("the lists of a tidings.state.v1.Item must be of one length")
    item = ItemState(
        message.product_id, message.visit_count, message.weight, message.window, message.last_visit_at_ms, message.evicted_count
    )
    item.neighbours = dict(
        zip(wire_ids(ids), [weight << COUNT_BITS | count for weight, count in zip(weights, counts, strict=True)], strict=True)
    )
    if message.purchase_count or bought:
        item.purchase_count = message.purchase_count
        item.bought_evicted_count = message.bought_evicted_count
        item.bought = dict(zip(wire_ids(bought), together, strict=True))
    return item


def wire_ids(product_ids: Iterable[str]) -> list[bytes]:
    """Ids as Protobuf writes them: the length of one, then its UTF-8."""
    return list(map(_WIRE_IDS.__getitem__, product_ids))


def product_of(wire: bytes) -> str:
    """The product id of a wire id."""
    start = 1
    while wire[start - 1] >= 0x80:
        start += 1
    return wire[start:].decode()


def _align(item: ItemState, window: int) -> int:
    """Bring the item to a later window; returns the bits by which a visit of an older window is to be shifted down."""
    if window < item.window:
        return shift_of(window, item.window)
    if item.visit_count or item.neighbours:
        down = shift_of(item.window, window)
        item.weight >>= down
        item.neighbours = {
            neighbour: link >> COUNT_BITS >> down << COUNT_BITS | link & _COUNT for neighbour, link in item.neighbours.items()
        }
    item.window = window
    return 0


def _best(neighbours: dict[bytes, int], count: int) -> tuple[list[bytes], list[int]]:
    """The products of the greatest numbers, greatest first, ties by product id; and their numbers."""
    best = sorted(neighbours, key=neighbours.__getitem__, reverse=True)[: count + 1]
    weights = [neighbours[neighbour] for neighbour in best]
    if len(set(weights)) < len(weights):
        best = sorted(neighbours, key=lambda neighbour: (-neighbours[neighbour], product_of(neighbour)))[:count]
        return best, [neighbours[neighbour] for neighbour in best]
    return best[:count], weights[:count]


class _WireIds(dict[str, bytes]):
    """Wire ids by product id: one object for all who name it, for a product stands in the neighbours of a hundred others."""

    def __missing__(self, product_id: str) -> bytes:
        if len(self) >= _MAX_WIRE_IDS:
            self.clear()
        encoded = product_id.encode()
        wire = self[product_id] = varint(len(encoded)) + encoded
        return wire


#: Past it, those known are forgotten; then an id may have two objects for a while, which costs memory alone.
_MAX_WIRE_IDS = 100_000
_WIRE_IDS = _WireIds()


# What stands before the fields of these messages on the wire.
_ITEM_NEIGHBOUR = tag(Item, "neighbour_ids")
_LIST_PRODUCT = tag(NeighbourList, "product_id")
_LIST_VISITS = tag(NeighbourList, "visit_count", VARINT)
_LIST_NEIGHBOUR = tag(NeighbourList, "neighbour_ids")
_LIST_SCORES = tag(NeighbourList, "scores")
_LIST_COUNTS = tag(NeighbourList, "counts")
_LIST_PURCHASES = tag(NeighbourList, "purchase_count", VARINT)
_LIST_BOUGHT = tag(NeighbourList, "bought_ids")
_LIST_BOUGHT_COUNTS = tag(NeighbourList, "bought_counts")
_ITEM_COUNTS = tag(Item, "neighbour_counts")
_ITEM_BOUGHT = tag(Item, "bought_ids")
_ITEM_BOUGHT_COUNTS = tag(Item, "bought_counts")


def _packed(numbers: Collection[int]) -> bytes:
    """Whole numbers as Protobuf packs them, their length before them."""
    packed = bytes(numbers) if max(numbers) < 0x80 else b"".join(map(varint, numbers))
    return varint(len(packed)) + packed


@lru_cache(maxsize=1_000)
def _floats(count: int) -> Struct:
    return Struct(f"<{count}f")
