"""The events that are measured with, the same in every run, and the plain fold that says what a system must have made of them."""

from __future__ import annotations

from array import array
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple, Protocol

from app.domain.profile import fold_event, new_profile
from app.domain.validation import Violation, decode_event
from app.streams.publisher import partition_of
from tests.bench.proto.bench_pb2 import UserEvent, UserState
from tests.bench.protocol import apply_event
from tidings.events.v1.event_pb2 import Event
from tidings.state.v1.profile_pb2 import Profile

#: 2023-11-14. Events have times of their own; nothing here depends on today.
FIRST_EVENT_MS = 1_700_000_000_000
_SEED = 42


class Record(NamedTuple):
    partition: int
    key: bytes
    value: bytes


class Digest(NamedTuple):
    """A state in short: what is counted, summed over all users, and a checksum of every key and value."""

    users: int
    events: int
    checksum: str


class Workload(Protocol):
    """A topic's worth of events."""

    partitions: int

    def records(self) -> Iterator[Record]:
        """In the order in which they are written."""

    def expected(self, positions: Mapping[int, int]) -> Digest:
        """Of the plain fold of each partition's events below its position."""

    def digest(self, state: Mapping[bytes, bytes]) -> Digest:
        """Of what a system has stored."""


def positions_of(records: Iterable[Record]) -> dict[int, int]:
    """Where each partition ends."""
    ends: dict[int, int] = defaultdict(int)
    for record in records:
        ends[record.partition] += 1
    return dict(ends)


@dataclass(frozen=True)
class BareEvents:
    """UserEvents of evenly drawn users: no user is hot, so that with many users hardly a key comes twice."""

    users: int
    events: int
    partitions: int

    @cached_property
    def _drawn(self) -> array[int]:
        random = Random(_SEED)
        return array("I", (random.randrange(self.users) for _ in range(self.events)))

    def records(self) -> Iterator[Record]:
        for i, user in enumerate(self._drawn):
            user_id = f"user-{user}"
            event = UserEvent(
                event_id=f"{i:032x}", user_id=user_id, item_id=f"item-{i * 7919 % 5000}", kind=i % 4, occurred_at_ms=FIRST_EVENT_MS + i,
                weight=1.0, tags=("a", "b"),
            )
            key = user_id.encode()
            yield Record(partition_of(key, self.partitions), key, event.SerializeToString())

    def expected(self, positions: Mapping[int, int]) -> Digest:
        left, open_partitions = dict(positions), sum(end > 0 for end in positions.values())
        states: dict[bytes, UserState] = defaultdict(UserState)
        for partition, key, value in self.records():
            if not open_partitions:
                break
            if left.get(partition, 0) > 0:
                left[partition] -= 1
                open_partitions -= left[partition] == 0
                apply_event(states[key], UserEvent.FromString(value))
        return self.digest({key: state.SerializeToString() for key, state in states.items()})

    def occurred_at_ms(self) -> int:
        """Summed over all events: what a system that keeps no state has seen of them."""
        return sum(range(FIRST_EVENT_MS, FIRST_EVENT_MS + self.events))

    def digest(self, state: Mapping[bytes, bytes]) -> Digest:
        return _digest(state, lambda value: (UserState.FromString(value).count, value))


#: Of the shop that the profile jobs happen in: its products, and its tastes, each a group of products of its own.
PRODUCTS = 5_000
TASTES = 100
#: Between two events of one person, on average: visits of four to five events.
MEAN_GAP_MS = 20 * 60_000


@dataclass(frozen=True)
class ShopEvents:
    """Tidings' own events: people with a taste, who look, put into the cart, order and open emails; products by Zipf's law."""

    users: int
    events: int
    partitions: int
    first: int = 0

    def records(self) -> Iterator[Record]:
        random = Random(_SEED + self.first)
        popular, in_taste = _Zipf(PRODUCTS), _Zipf(PRODUCTS // TASTES)
        step_ms = MEAN_GAP_MS / self.users
        for i in range(self.first, self.first + self.events):
            user = random.randrange(self.users)

            def product(user: int = user) -> str:
                if random.random() < 0.5:
                    return f"product-{popular.draw(random)}"
                return f"product-{user % TASTES + TASTES * in_taste.draw(random)}"

            event = _shop_event(random.random(), i, product)
            event.event_id = f"{i:032x}"
            event.user_id = f"user-{user}"
            event.occurred_at_ms = FIRST_EVENT_MS + int(i * step_ms)
            event.source = "bench"
            key = event.user_id.encode()
            yield Record(partition_of(key, self.partitions), key, event.SerializeToString())

    def expected(self, positions: Mapping[int, int]) -> Digest:
        left = dict(positions)
        profiles: dict[bytes, Profile] = {}
        for partition, key, value in self.records():
            if left.get(partition, 0) > 0:
                left[partition] -= 1
                if (profile := profiles.get(key)) is None:
                    profile = profiles[key] = new_profile(key.decode())
                event = decode_event(value, key, FIRST_EVENT_MS)
                assert not isinstance(event, Violation), f"the benchmark makes sound events: {event}"
                fold_event(profile, event)
        return self.digest({key: profile.SerializeToString() for key, profile in profiles.items()})

    def digest(self, state: Mapping[bytes, bytes]) -> Digest:
        return _digest(state, _canonical)


def _canonical(value: bytes) -> tuple[int, bytes]:
    profile = Profile.FromString(value)
    return profile.event_count, profile.SerializeToString(deterministic=True)


def _shop_event(chance: float, i: int, product: Any) -> Event:
    event = Event()
    if chance < 0.80:
        event.product_viewed.product_id = product()
    elif chance < 0.90:
        event.added_to_cart.product_id = product()
        event.added_to_cart.unit_price.minor_units = 1999
    elif chance < 0.94:
        event.order_placed.order_id = f"order-{i}"
        event.order_placed.lines.add(product_id=product())
    elif chance < 0.97:
        event.email_opened.message_id = f"message-{i}"
    elif chance < 0.99:
        event.email_clicked.message_id = f"message-{i}"
        event.email_clicked.product_id = product()
    else:
        event.profile_changed.changes.add(name="city", text=f"city-{i % 50}")
    return event


class _Zipf:
    def __init__(self, size: int) -> None:
        self._sums = list(accumulate(1 / rank for rank in range(1, size + 1)))

    def draw(self, random: Random) -> int:
        return bisect(self._sums, random.random() * self._sums[-1])


def _digest(state: Mapping[bytes, bytes], read: Any) -> Digest:
    total, checksum = 0, blake2b(digest_size=16)
    for key in sorted(state):
        events, canonical = read(state[key])
        total += events
        checksum.update(len(key).to_bytes(4, "big") + key + len(canonical).to_bytes(4, "big") + canonical)
    return Digest(len(state), total, checksum.hexdigest())
