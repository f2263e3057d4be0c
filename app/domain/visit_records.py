"""Visits on their way from the events to the items: what a batch of events means for each items partition, as Visits messages."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import NamedTuple, Protocol

from google.protobuf.message import DecodeError

from app.domain.compiled import compiled
from app.domain.profile import Interaction
from app.domain.visits import KIND_WEIGHTS, Visit, links_of
from tidings.internal.v1.visits_pb2 import Visits
from tidings.state.v1.profile_pb2 import INTERACTION_KIND_PURCHASE

#: Who asks, about which product, and when Kafka received the event that it goes back to, in ms since 1970.
Question = tuple[str, str, int]
#: Of app/domain/_visits.c.
INTERFACE = 1
#: None: there is none that fits.
COMPILED = compiled("app.domain._visits", INTERFACE)


class Outgoing(Protocol):
    """What the events of one batch mean for the items."""

    def add(self, interaction: Interaction, source_offset: int, caused_at_ms: int, /) -> None: ...

    def take(self) -> list[tuple[int, bytes]]: ...


def outgoing_visits(source_partition: int, max_visits: int, home: Callable[[str], int]) -> Outgoing:
    """OutgoingVisits, compiled if it can be."""
    if COMPILED is None:
        return OutgoingVisits(source_partition, max_visits, home)
    made: Outgoing = COMPILED.OutgoingVisits(source_partition, max_visits, home, KIND_WEIGHTS)
    return made


class OutgoingVisits:
    """What the events of one batch mean for the items, by items partition. Compiled (_visits.c) it says the same to the last byte.

    A record ends between two events only, so that a repeat is told by its offset.
    """

    def __init__(self, source_partition: int, max_visits: int, home: Callable[[str], int]) -> None:
        """``max_visits`` are in a record, and those of one event more; ``home`` gives a product's partition."""
        self._source_partition = source_partition
        self._max_visits = max_visits
        self._home = home
        self._columns: dict[int, _Columns] = {}
        self._by_product: dict[str, _Columns] = {}
        self._records: list[tuple[int, bytes]] = []
        self._offset = -1
        #: No columns hold more visits than this.
        self._at_most = 0

    def add(self, interaction: Interaction, source_offset: int, caused_at_ms: int, /) -> None:
        """The visits of one interaction, as visits_of (app/domain/visits.py) has them. Offsets never go down."""
        if source_offset != self._offset:
            self._offset = source_offset
            if self._at_most >= self._max_visits:
                self._end_records(self._max_visits)
        user_id, product_id, kind, at_ms, _, _, bought = interaction
        weight, forward, backward = links_of(interaction)
        self._at_most += 1 + len(forward)

        columns_of = self._by_product.get
        columns = columns_of(product_id) or self._open(product_id)
        columns.users.append(user_id)
        columns.caused.append(caused_at_ms)
        places, visits, links = columns.places, columns.visits, columns.links
        visits += (source_offset, places[product_id], at_ms, weight, len(backward))
        if kind == INTERACTION_KIND_PURCHASE:
            columns.add_purchase(bought)
        for previous, link in backward.items():
            links += (places[previous], link)
        for previous, link in forward.items():
            columns = columns_of(previous) or self._open(previous)
            places, visits, links = columns.places, columns.visits, columns.links
            visits += (source_offset, places[previous], at_ms, 0, 1)
            links += (places[product_id], link)
            if previous in bought:
                columns.add_bought(product_id)
        for previous in bought:
            if previous not in forward:
                self._at_most += 1
                columns = columns_of(previous) or self._open(previous)
                columns.visits += (source_offset, columns.places[previous], at_ms, 0, 0)
                columns.add_bought(product_id)

    def take(self) -> list[tuple[int, bytes]]:
        """All records so far, each with the partition it goes to, those of one partition in their order."""
        self._end_records(1)
        records, self._records = self._records, []
        return records

    def _open(self, product_id: str) -> _Columns:
        partition = self._home(product_id)
        columns = self._columns.get(partition)
        if columns is None:
            columns = self._columns[partition] = _Columns()
        self._by_product[product_id] = columns
        return columns

    def _end_records(self, min_visits: int) -> None:
        self._at_most = 0
        for partition, columns in self._columns.items():
            held = len(columns.visits) // _VISIT_FIELDS
            if held >= min_visits:
                self._records.append((partition, columns.encode(self._source_partition)))
                columns.clear()
            else:
                self._at_most = max(self._at_most, held)


class VisitRecord(NamedTuple):
    """A Visits message, read: its columns are explained in visits.proto."""

    source_partition: int
    products: list[str]
    #: Of each visit, in order of the offsets.
    offsets: list[int]
    items: list[int]
    times: list[int]
    weights: list[int]
    counts: list[int]
    #: Of each link, the neighbour's place among the products, and its weight.
    neighbours: list[int]
    links: list[int]
    #: Of each visit whose weight is not 0.
    users: list[str]
    caused: list[int]
    #: They change nothing, and are no part of any visit.
    questions: list[Question]
    #: By their place, visits by which the product was bought; and visits with a product (by its place) that the same person bought.
    purchases: list[int]
    bought: list[tuple[int, int]]

    def since(self, offset: int) -> VisitRecord:
        """What events from this offset on caused."""
        first = bisect_left(self.offsets, offset)
        if first == 0:
            return self
        link = sum(self.counts[:first])
        arrival = first - self.weights[:first].count(0)
        return VisitRecord(
            self.source_partition, self.products,
            self.offsets[first:], self.items[first:], self.times[first:], self.weights[first:], self.counts[first:],
            self.neighbours[link:], self.links[link:], self.users[arrival:], self.caused[arrival:], self.questions,
            [visit - first for visit in self.purchases if visit >= first],
            [(visit - first, product) for visit, product in self.bought if visit >= first],
        )  # fmt: skip

    def visits(self) -> Iterator[Visit]:
        """One by one."""
        links, replies = zip(self.neighbours, self.links, strict=True), zip(self.users, self.caused, strict=True)
        for place, (offset, item, at_ms, weight, link_count) in enumerate(zip(*self[2:7], strict=True)):
            user_id, caused_at_ms = next(replies) if weight else ("", 0)
            own = list(islice(links, link_count))
            ids, weights = tuple(self.products[neighbour] for neighbour, _ in own), tuple(link for _, link in own)
            bought = tuple(self.products[product] for visit, product in self.bought if visit == place)
            is_purchase = place in self.purchases
            yield Visit(offset, self.products[item], at_ms, weight, user_id, caused_at_ms, ids, weights, is_purchase, bought)


def decode_visits(value: bytes) -> VisitRecord:
    """Raises DecodeError if the bytes are not a Visits message, or its lists do not fit together."""
    message = Visits.FromString(value)
    products = message.products[:]
    record = VisitRecord(
        message.source_partition, products,
        message.source_offsets[:], message.item_places[:], message.occurred_at_ms[:], message.weights[:], message.neighbour_counts[:],
        message.neighbour_places[:], message.neighbour_weights[:],
        message.reply_to_user_ids[:], message.caused_at_ms[:], _questions(message, products) if message.asked_places else [],
        message.purchases[:], _bought(message) if message.bought_visits else [],
    )  # fmt: skip
    visits, links, arrivals = len(record.offsets), len(record.neighbours), len(record.users)
    if (
        any(len(column) != visits for column in record[3:7])
        or not links == len(record.links) == sum(record.counts)
        or not arrivals == len(record.caused) == visits - record.weights.count(0)
    ):
        raise DecodeError("the lists of a tidings.internal.v1.Visits must be of one length")
    if max(max(record.items, default=-1), max(record.neighbours, default=-1)) >= len(record.products):
        raise DecodeError("a visit of a tidings.internal.v1.Visits names a product that is not there")
    if max(max(record.purchases, default=-1), max((visit for visit, _ in record.bought), default=-1)) >= visits:
        raise DecodeError("a purchase of a tidings.internal.v1.Visits names a visit that is not there")
    if not all(products) or [product_id for product_id in products if product_id.startswith("__")]:
        raise DecodeError("a product of a tidings.internal.v1.Visits has no id, or one that tables keep for themselves")
    if record.offsets != sorted(record.offsets):
        raise DecodeError("the visits of a tidings.internal.v1.Visits must be in order of their offsets")
    return record


def encode_questions(source_partition: int, questions: Iterable[Question]) -> bytes:
    """A Visits message of nothing but questions."""
    places: defaultdict[str, int] = defaultdict(count().__next__)
    rows = [(user_id, places[product_id], caused_at_ms) for user_id, product_id, caused_at_ms in questions]
    users, asked, caused = zip(*rows, strict=True) if rows else ((), (), ())
    return Visits(
        source_partition=source_partition, products=list(places), asking_user_ids=users, asked_places=asked, asked_caused_at_ms=caused
    ).SerializeToString()


def _questions(message: Visits, products: list[str]) -> list[Question]:
    users, places, times = message.asking_user_ids[:], message.asked_places[:], message.asked_caused_at_ms[:]
    if not len(users) == len(places) == len(times):
        raise DecodeError("the lists of a tidings.internal.v1.Visits must be of one length")
    if max(places) >= len(products):
        raise DecodeError("a question of a tidings.internal.v1.Visits names a product that is not there")
    return list(zip(users, [products[place] for place in places], times, strict=True))


def _bought(message: Visits) -> list[tuple[int, int]]:
    visits, places = message.bought_visits[:], message.bought_places[:]
    if len(visits) != len(places):
        raise DecodeError("the lists of a tidings.internal.v1.Visits must be of one length")
    if max(places) >= len(message.products):
        raise DecodeError("a purchase of a tidings.internal.v1.Visits names a product that is not there")
    return list(zip(visits, places, strict=True))


def encode_visits(source_partition: int, visits: Iterable[Visit]) -> bytes:
    """A Visits message of these visits, in order of their offsets."""
    columns = _Columns()
    for offset, product_id, at_ms, weight, user_id, caused_at_ms, neighbours, weights, is_purchase, bought in visits:
        columns.visits += (offset, columns.places[product_id], at_ms, weight, len(neighbours))
        if weight:
            columns.users.append(user_id)
            columns.caused.append(caused_at_ms)
        for neighbour, link in zip(neighbours, weights, strict=True):
            columns.links += (columns.places[neighbour], link)
        if is_purchase:
            columns.add_purchase(bought)
        else:
            for other in bought:
                columns.add_bought(other)
    return columns.encode(source_partition)


_VISIT_FIELDS = 5
_LINK_FIELDS = 2


class _Columns:
    """Visits of one events partition to the items of one partition, as the numbers of a Visits message.

    Rows stand one after the other in one list, for to append a row is cheaper than to append to as many lists.
    """

    __slots__ = ("bought", "caused", "links", "places", "purchases", "users", "visits")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        #: Products in the order of their places; to ask for one gives it the next place.
        self.places: defaultdict[str, int] = defaultdict(count().__next__)
        #: Of each visit: offset, its item's place, its time, weight, and how many of the links are its own.
        self.visits: list[int] = []
        #: Of each link: the neighbour's place, and its weight.
        self.links: list[int] = []
        #: Of each visit whose weight is not 0: who gets the answer, and when Kafka received the event.
        self.users: list[str] = []
        self.caused: list[int] = []
        #: Places of visits by which a product was bought; of visits, each with the place of a product that the same person bought.
        self.purchases: list[int] = []
        self.bought: list[int] = []

    def add_purchase(self, bought: Iterable[str]) -> None:
        """By the last visit added the product was bought, by someone who bought these, too."""
        self.purchases.append(len(self.visits) // _VISIT_FIELDS - 1)
        for product_id in bought:
            self.add_bought(product_id)

    def add_bought(self, product_id: str) -> None:
        """The product of the last visit added was bought by someone who bought this one."""
        self.bought += (len(self.visits) // _VISIT_FIELDS - 1, self.places[product_id])

    def encode(self, source_partition: int) -> bytes:
        visits, links = self.visits, self.links
        return Visits(
            source_partition=source_partition,
            products=list(self.places),
            source_offsets=visits[0::_VISIT_FIELDS],
            item_places=visits[1::_VISIT_FIELDS],
            occurred_at_ms=visits[2::_VISIT_FIELDS],
            weights=visits[3::_VISIT_FIELDS],
            neighbour_counts=visits[4::_VISIT_FIELDS],
            neighbour_places=links[0::_LINK_FIELDS],
            neighbour_weights=links[1::_LINK_FIELDS],
            reply_to_user_ids=self.users,
            caused_at_ms=self.caused,
            purchases=self.purchases,
            bought_visits=self.bought[0::_LINK_FIELDS],
            bought_places=self.bought[1::_LINK_FIELDS],
        ).SerializeToString()
