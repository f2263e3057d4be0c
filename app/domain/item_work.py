"""The work on items that happens several times for every event: read the visits, add them, answer, write; compiled where it could be.

The one in Python says what is right. The other (app/domain/_items.c) says the same to the last bit, and leaves to it whatever is unusual.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from app.domain.compiled import compiled
from app.domain.items import (
    REPLY_NEIGHBOURS,
    ItemState,
    add_bought,
    add_visits,
    decode_item,
    encode_item,
    neighbour_list,
    new_item,
    wire_ids,
)
from app.domain.visit_records import decode_visits
from tidings.internal.v1.visits_pb2 import Visits

#: Of app/domain/_items.c.
INTERFACE = 1

#: User and product → when Kafka received the event that asked.
Askers = dict[tuple[str, str], int]


class ReadVisits(Sized, Protocol):
    """A Visits message; its length is the number of visits that are not skipped."""

    @property
    def source_partition(self) -> int: ...

    def skip(self, offset: int, /) -> int:
        """Forget what events before this offset caused; returns how many visits that was."""

    def items(self) -> list[bytes]:
        """The keys of the items that the visits change, each once."""

    def apply(self, items: list[Any], askers: Askers, /) -> int:
        """Add the visits, at least one, to their items, which stand in the order of ``items()``, and to ``askers``, where it is not there
        yet, who wants an answer about what. Returns the offset of the last event.
        """

    def ask(self, askers: Askers, /) -> int:
        """Add who asks a question to ``askers``; returns how many questions there are."""


class ItemWork(Protocol):
    """How items are worked on. An item is whatever this makes, and nobody else looks into it."""

    #: What one takes of memory, in encoded bytes, and beside these.
    decoded_factor: float
    object_bytes: int

    def new(self, key: bytes, /) -> Any:
        """An item that nobody has visited."""

    def decode(self, value: bytes, /) -> Any:
        """Of an Item message. Raises DecodeError if the bytes are none, or its lists do not fit together."""

    def encode(self, item: Any, /) -> bytes:
        """An Item message."""

    def neighbour_list(self, item: Any, /) -> bytes:
        """The best neighbours: a serialised NeighbourList."""

    def read_visits(self, value: bytes, /) -> ReadVisits:
        """Raises DecodeError if the bytes are not a Visits message, or its lists do not fit together."""


class PlainVisits:
    """In Python."""

    def __init__(self, value: bytes) -> None:
        self._record = decode_visits(value)
        self.source_partition = self._record.source_partition

    def __len__(self) -> int:
        return len(self._record.offsets)

    def skip(self, offset: int, /) -> int:
        before = len(self)
        self._record = self._record.since(offset)
        return before - len(self)

    def items(self) -> list[bytes]:
        products = self._record.products
        return [products[place].encode() for place in dict.fromkeys(self._record.items)]

    def apply(self, items: list[ItemState], askers: Askers, /) -> int:
        record = self._record
        products, places, weights = record.products, record.items, record.weights
        by_place = dict(zip(dict.fromkeys(places), items, strict=True))
        neighbours = map(wire_ids(products).__getitem__, record.neighbours)
        links = zip(neighbours, record.links, strict=True)
        add_visits([by_place[place] for place in places], record.times, weights, record.counts, links)
        for visit in record.purchases:
            by_place[places[visit]].purchase_count += 1
        for visit, other in record.bought:
            add_bought(by_place[places[visit]], *wire_ids([products[other]]))
        arrivals = [place for place, weight in zip(places, weights, strict=True) if weight]
        for user_id, place, caused_at_ms in zip(record.users, arrivals, record.caused, strict=True):
            if user_id:
                askers.setdefault((user_id, products[place]), caused_at_ms)
        return record.offsets[-1]

    def ask(self, askers: Askers, /) -> int:
        for user_id, product_id, caused_at_ms in self._record.questions:
            askers.setdefault((user_id, product_id), caused_at_ms)
        return len(self._record.questions)


class PlainItems:
    """In Python."""

    decoded_factor, object_bytes = 6.0, 1_000

    decode = staticmethod(decode_item)
    encode = staticmethod(encode_item)
    neighbour_list = staticmethod(neighbour_list)
    read_visits = PlainVisits

    @staticmethod
    def new(key: bytes) -> ItemState:
        return new_item(key.decode())


class CompiledItems:
    """Of app/domain/_items.c. It reads what our own writers write; Protobuf brings into that form what else it can read."""

    decoded_factor, object_bytes = 3.0, 800

    def __init__(self, extension: Any) -> None:
        self._extension = extension
        self.new = extension.new
        self.encode = extension.encode

    def decode(self, value: bytes) -> Any:
        item = self._extension.decode(value)
        if item is None and (item := self._extension.decode(encode_item(decode_item(value)))) is None:
            raise DecodeError("a tidings.state.v1.Item is not what a table may hold")
        return item

    def neighbour_list(self, item: Any) -> bytes:
        answer: bytes | None = self._extension.neighbour_list(item, REPLY_NEIGHBOURS)
        return neighbour_list(decode_item(self.encode(item))) if answer is None else answer

    def read_visits(self, value: bytes) -> ReadVisits:
        visits: ReadVisits | None = self._extension.read_visits(value)
        if visits is None:
            decode_visits(value)
            message = Visits.FromString(value)
            message.DiscardUnknownFields()
            visits = self._extension.read_visits(message.SerializeToString())
            if visits is None:
                raise DecodeError("a tidings.internal.v1.Visits is not what an item may be told")
        return visits


def load(name: str = "app.domain._items") -> ItemWork | None:
    """The extension of this name, if there is one and it fits."""
    extension = compiled(name, INTERFACE)
    return None if extension is None else CompiledItems(extension)


PLAIN: ItemWork = PlainItems()
COMPILED = load()
#: What is used.
ITEM_WORK = COMPILED or PLAIN
