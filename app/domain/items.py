"""The items table: each product's visits and its bounded, decayed table of neighbours.

Counts and weights are sums of whole numbers, so visits may come in any order, with two exceptions, both visible in the state: once
neighbours were cut at the bound (`evicted_count` above 0), what had been cut is lost; and where a visit's decay window differs from the
item's, the older weights are shifted down, which may round the last bit differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
#: L: how many neighbours an answer carries.
REPLY_NEIGHBOURS = 20
#: gamma: how much a frequent item's links are discounted.
FREQUENCY_POWER = 0.7


@dataclass(slots=True)
class ItemState:
    """One product's visits and neighbours: a tidings.state.v1.Item at work. Kept decoded, changed in place."""

    product_id: str
    visit_count: int = 0
    weight: int = 0
    window: int = 0
    last_visit_at_ms: int = 0
    evicted_count: int = 0
    #: Weights by wire id, in no order that matters.
    neighbours: dict[bytes, int] = field(default_factory=dict)

    def weights(self) -> dict[str, int]:
        """The neighbours' weights by product id."""
        return {product_of(neighbour): weight for neighbour, weight in self.neighbours.items()}


def new_item(product_id: str) -> ItemState:
    """An item that nobody has visited."""
    return ItemState(product_id)


def apply_visit(item: ItemState, visit: Visit) -> None:
    """Add one visit to the item it is about."""
    links = zip(wire_ids(visit.neighbour_ids), visit.neighbour_weights, strict=True)
    add_visits([item], [visit.occurred_at_ms], [visit.weight], [len(visit.neighbour_ids)], links)


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
            neighbours[neighbour] = neighbours.get(neighbour, 0) + (link >> down)
        else:
            for neighbour, link in islice(links, count):
                neighbours[neighbour] = neighbours.get(neighbour, 0) + (link >> down)
        if len(neighbours) > MAX_NEIGHBOURS:
            item.neighbours = dict(zip(*_best(neighbours, KEPT_NEIGHBOURS), strict=True))
            item.evicted_count += len(neighbours) - KEPT_NEIGHBOURS


def neighbour_list(item: ItemState, limit: int = REPLY_NEIGHBOURS) -> bytes:
    """The best neighbours, best first, ties by product id: a serialised tidings.state.v1.NeighbourList.

    Score: weight / (own weight + 1)^0.7, both decayed to the item's own clock. How popular the neighbour itself is stays out of the score:
    only its own partition knows.
    """
    ids, weights = _best(item.neighbours, limit)
    scale = 1.0 / growth(item.last_visit_at_ms, item.window)
    factor = scale / (item.weight * scale + 1.0) ** FREQUENCY_POWER
    parts = [_LIST_PRODUCT, _WIRE_IDS[item.product_id], _LIST_VISITS, varint(item.visit_count)]
    if ids:
        scores = _floats(len(ids)).pack(*[weight * factor for weight in weights])
        parts += (_LIST_NEIGHBOUR, _LIST_NEIGHBOUR.join(ids), _LIST_SCORES, varint(len(scores)), scores)
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
    if not item.neighbours:
        return message.SerializeToString()
    message.neighbour_weights.extend(item.neighbours.values())
    return b"".join((message.SerializeToString(), _ITEM_NEIGHBOUR, _ITEM_NEIGHBOUR.join(item.neighbours)))


def decode_item(value: bytes) -> ItemState:
    """Of an Item message. Raises DecodeError if the bytes are none, or its lists do not fit together."""
    message = Item.FromString(value)
    ids, weights = message.neighbour_ids[:], message.neighbour_weights[:]
    if len(ids) != len(weights):
        raise DecodeError("the lists of a tidings.state.v1.Item must be of one length")
    item = ItemState(
        message.product_id, message.visit_count, message.weight, message.window, message.last_visit_at_ms, message.evicted_count
    )
    item.neighbours = dict(zip(wire_ids(ids), weights, strict=True))
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
        item.neighbours = {neighbour: weight >> down for neighbour, weight in item.neighbours.items()}
    item.window = window
    return 0


def _best(neighbours: dict[bytes, int], count: int) -> tuple[list[bytes], list[int]]:
    """The neighbours of greatest weight, greatest first, ties by product id; and their weights."""
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


@lru_cache(maxsize=1_000)
def _floats(count: int) -> Struct:
    return Struct(f"<{count}f")
