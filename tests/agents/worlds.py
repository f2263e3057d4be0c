"""What the agents' tests stand on: a table partition in a dict, records in a list, events in one line. No Faust, no Kafka, no RocksDB."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from app.domain.held_profile import message_of
from app.domain.item_work import ITEM_WORK, ItemWork
from app.domain.items import ItemState, decode_item
from app.domain.neighbour_work import NEIGHBOUR_WORK, NeighbourWork
from app.domain.product_validation import product_key
from app.domain.replies import decode_replies, encode_replies
from app.domain.visit_records import decode_visits, encode_questions, encode_visits
from app.domain.visits import Visit
from app.engine.commit import Unit
from app.engine.table import Codec
from app.settings import KafkaSettings
from app.streams.fold_items import FoldItems, items_codec
from app.streams.fold_products import PRODUCTS, FoldProducts
from app.streams.fold_profiles import PROFILES, SHARE, SHARE_KEY, FoldProfiles
from app.streams.keep_neighbours import KeepNeighbours, neighbours_codec
from app.streams.topics import TopicNames
from tidings.events.v1.event_pb2 import Event, OrderLine
from tidings.internal.v1.dead_letter_pb2 import DeadLetter
from tidings.products.v1.product_pb2 import Product
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.state.v1.profile_pb2 import Profile

NOW_MS = 1_700_000_000_000
NAMES = TopicNames.of(KafkaSettings())


class Record(NamedTuple):
    """As aiokafka gives them, as far as agents look."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class DictState:
    """A partition's state as agents see it. Between units it is bytes: what is changed without ``obtain`` is lost, as in a crash."""

    def __init__(self, codec: Codec[Any], hidden: dict[bytes, Codec[Any]] | None = None, number: int = 0) -> None:
        self.number = number
        self.dirty_bytes = 0
        self.bytes_by_key: dict[bytes, bytes] = {}
        self.marks: dict[bytes, int] = {}
        self._objects: dict[bytes, Any] = {}
        self._changed: set[bytes] = set()
        self._codec = codec
        self._hidden = hidden or {}

    def get(self, key: bytes) -> Any:
        if key not in self._objects and (raw := self.bytes_by_key.get(key)) is not None:
            self._objects[key] = self._codec_of(key).decode(raw)
        return self._objects.get(key)

    def obtain(self, key: bytes) -> Any:
        if self.get(key) is None:
            self._objects[key] = self._codec_of(key).new(key)
        self._changed.add(key)
        return self._objects[key]

    def delete(self, key: bytes) -> None:
        self._objects.pop(key, None)
        self.bytes_by_key.pop(key, None)
        self._changed.discard(key)

    def applied(self, source: bytes) -> int:
        return self.marks.get(source, 0)

    def advance(self, source: bytes, next_offset: int) -> None:
        self.marks[source] = max(next_offset, self.applied(source))

    def end_unit(self) -> None:
        self.bytes_by_key |= {key: self._codec_of(key).encode(self._objects[key]) for key in self._changed}
        self._objects, self._changed = {}, set()

    def _codec_of(self, key: bytes) -> Codec[Any]:
        return self._hidden.get(key) or self._codec


class Bench:
    """One agent over one partition: feed it records, look at its state and at what it emitted."""

    def __init__(self, apply: Callable[[Unit[Any]], None], state: DictState) -> None:
        self._apply = apply
        self.state = state
        self.outputs: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = defaultdict(list)

    def feed(self, records: Sequence[Record], replayed: Sequence[Record] = ()) -> Unit[Any]:
        topic = (*records, *replayed)[0].topic
        unit: Unit[Any] = Unit(self.state, topic, records, replayed, limit_bytes=1 << 30)  # type: ignore[arg-type]  # DictState stands in
        self._apply(unit)
        self.state.end_unit()
        for place, sent in unit.outputs.items():
            self.outputs[place] += sent
        return unit

    def emitted(self, topic: str) -> list[tuple[int, bytes | None, bytes]]:
        """(partition, key, value) of all records for a topic, in order within a partition."""
        return [(partition, key, value) for (name, partition), sent in self.outputs.items() if name == topic for key, value in sent]

    def dead_letters(self) -> list[DeadLetter]:
        return [DeadLetter.FromString(value) for _, _, value in self.emitted(NAMES.dead_letters)]


class ProfilesBench(Bench):
    def __init__(self, partitions: int = 4, number: int = 0, home: Callable[[bytes, int], int] | None = None) -> None:
        home = home or (lambda user, partitions: number)  # whoever a test names lives here, unless it says otherwise
        self.dirty: list[tuple[bytes, int]] = []
        agent = FoldProfiles(NAMES, partitions, lambda unit, user, caused_at_ms: self.dirty.append((user, caused_at_ms)), home)
        super().__init__(agent.apply, DictState(PROFILES, {SHARE_KEY: SHARE}, number))

    def profile(self, user_id: str) -> Profile | None:
        return message_of(self.state.get(user_id.encode()))

    def visits(self) -> list[tuple[int, int, list[Visit]]]:
        """(items partition, events partition, visits) of every record."""
        records = [(partition, decode_visits(value)) for partition, _, value in self.emitted(NAMES.visits)]
        return [(partition, record.source_partition, list(record.visits())) for partition, record in records]


class NeighboursBench(Bench):
    def __init__(self, work: NeighbourWork = NEIGHBOUR_WORK) -> None:
        self.dirty: list[tuple[bytes, int]] = []
        self.is_behind = False
        agent = KeepNeighbours(
            NAMES, 4, lambda unit, user, caused_at_ms: self.dirty.append((user, caused_at_ms)), lambda partition: not self.is_behind, work
        )
        super().__init__(agent.apply, DictState(neighbours_codec(work)))

    def lists(self, user_id: str) -> dict[str, NeighbourList]:
        """What the user holds, by product, answered longest ago first."""
        return {answer.product_id: answer for answer in self.state.get(user_id.encode()).messages()}


class ProductsBench(Bench):
    def __init__(self, partitions: int = 4, number: int = 0, home: Callable[[bytes, int], int] | None = None) -> None:
        home = home or (lambda product_id, partitions: number)  # whatever a test names lives here, unless it says otherwise
        super().__init__(FoldProducts(NAMES, partitions, home).apply, DictState(PRODUCTS, number=number))

    def entry(self, product_id: str) -> CatalogEntry | None:
        return self.state.get(product_id.encode())


class ItemsBench(Bench):
    def __init__(self, number: int = 0, work: ItemWork = ITEM_WORK) -> None:
        super().__init__(FoldItems(NAMES, 4, work).apply, DictState(items_codec(work), number=number))

    def item(self, product_id: str) -> ItemState | None:
        raw = self.state.bytes_by_key.get(product_id.encode())
        return None if raw is None else decode_item(raw)

    def replies(self) -> list[tuple[int, str, str]]:
        """(events partition, user, product) of every answer."""
        return [
            (partition, user_id, NeighbourList.FromString(answer).product_id)
            for partition, _, value in self.emitted(NAMES.neighbours)
            for user_id, answer, _, _ in decode_replies(value)
        ]


def viewed(user: str, product: str, number: int, **fields: Any) -> Event:
    """``number`` makes the event's id and its time: a second each."""
    event = Event(event_id=f"e{number}", user_id=user, occurred_at_ms=NOW_MS + number * 1000, **fields)
    event.product_viewed.product_id = product
    return event


def ordered(user: str, products: Iterable[str], number: int) -> Event:
    event = Event(event_id=f"e{number}", user_id=user, occurred_at_ms=NOW_MS + number * 1000)
    event.order_placed.order_id = f"o{number}"
    event.order_placed.lines.extend(OrderLine(product_id=product) for product in products)
    return event


def consent(user: str, state: int, number: int, purpose: str = "profiling") -> Event:
    event = Event(event_id=f"e{number}", user_id=user, occurred_at_ms=NOW_MS + number * 1000)
    event.consent_changed.purpose, event.consent_changed.state = purpose, state
    return event


def event_records(*events: Event, first_offset: int = 0, partition: int = 0) -> list[Record]:
    return [
        Record(NAMES.events, partition, offset, event.occurred_at_ms + 10, event.user_id.encode(), event.SerializeToString())
        for offset, event in enumerate(events, first_offset)
    ]


def product_records(*products: Product, first_offset: int = 0, partition: int = 0) -> list[Record]:
    return [
        Record(NAMES.products, partition, offset, NOW_MS + offset, product_key(product), product.SerializeToString())
        for offset, product in enumerate(products, first_offset)
    ]


def gone(key: bytes, offset: int) -> Record:
    """A record without a value, of the products topic."""
    return Record(NAMES.products, 0, offset, NOW_MS + offset, key, None)


def bad_record(value: bytes | None, offset: int = 0, key: bytes | None = b"anna", topic: str = NAMES.events) -> Record:
    return Record(topic, 0, offset, NOW_MS, key, value)


def visit(product: str, offset: int, neighbour: str = "", user: str = "", weight: int = 1 << 20) -> Visit:
    """One visit by the event at ``offset``; with a user, one that asks for an answer."""
    return Visit(
        offset, product, NOW_MS + offset, weight=weight, reply_to_user_id=user, caused_at_ms=NOW_MS + offset if user else 0,
        neighbour_ids=(neighbour,) if neighbour else (), neighbour_weights=(weight,) if neighbour else (),
    )  # fmt: skip


def visits_record(offset: int, visits: Iterable[Visit], source_partition: int = 0, partition: int = 0) -> Record:
    return Record(NAMES.visits, partition, offset, NOW_MS, None, encode_visits(source_partition, list(visits)))


def questions_record(offset: int, *questions: tuple[str, str], source_partition: int = 0) -> Record:
    """Questions as (user, product)."""
    value = encode_questions(source_partition, [(user, product, NOW_MS) for user, product in questions])
    return Record(NAMES.visits, 0, offset, NOW_MS, None, value)


def neighbours_record(offset: int, *replies: tuple[str, str, int]) -> Record:
    """Replies as (user, product, the item's visit count)."""
    value = encode_replies(
        (user, NeighbourList(product_id=product, visit_count=count).SerializeToString(), NOW_MS + count, False)
        for user, product, count in replies
    )
    return Record(NAMES.neighbours, 0, offset, NOW_MS, None, value)
