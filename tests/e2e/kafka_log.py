"""What Kafka holds: topics read from their beginning without a group, tables as their changelogs say, and the group's committed offsets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.delivery.outbox import is_due
from app.domain.items import ItemState, decode_item
from app.domain.recommendations import list_digest
from app.domain.share import Share, decode_share
from app.settings import KafkaSettings
from app.streams.fold_profiles import SHARE_KEY
from app.streams.kafka_client import kafka_client
from app.streams.publisher import partition_of
from app.streams.topics import TopicNames
from tidings.state.v1.neighbours_pb2 import UserNeighbours
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

FETCH_BYTES = 4 << 20
#: The embedded broker says an end that lies behind by up to a batch: silence for this long after it is the end.
QUIET_MS = 700
#: A request that a worker with a wrong clock signed is refused. Who met so many of them waits for half an hour, by the retry schedule.
LONG_REFUSED, REFUSED_FOR_THE_CLOCK = 3, "401: Message timestamp"


def waits_for_a_clock(delivery: Delivery) -> bool:
    """Whether the person is due for longer than a run waits, because of nothing but workers' wrong clocks."""
    return is_due(delivery) and delivery.attempts >= LONG_REFUSED and delivery.last_error.startswith(REFUSED_FOR_THE_CLOCK)


class Tail:
    """Reads topics whole, and then on from where it was; ``take`` gets every record once, in order within its partition."""

    def __init__(self, kafka: KafkaSettings, topics: Iterable[str], take: Callable[[Any], None]) -> None:
        self._places = [TopicPartition(topic, p) for topic in topics for p in range(kafka.partitions)]
        self._is_embedded = kafka.allow_unfenced
        self._take = take
        self._consumer = AIOKafkaConsumer(
            **_patient(kafka), enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=50,
            max_partition_fetch_bytes=FETCH_BYTES,
        )

    async def start(self) -> None:
        await self._consumer.start()
        self._consumer.assign(self._places)

    async def stop(self) -> None:
        with suppress(asyncio.CancelledError, KafkaError):  # aiokafka lets its own fetchers' cancellation out while the broker is away
            await self._consumer.stop()

    async def read_on(self) -> None:
        """Up to the end as it is now."""
        ends = await self._consumer.end_offsets(self._places)
        while True:
            got = await self._consumer.getmany(timeout_ms=QUIET_MS if self._is_embedded else 100)
            for records in got.values():
                for record in records:
                    self._take(record)
            if not (got and self._is_embedded) and await self._is_at(ends):
                return

    async def _is_at(self, ends: dict[TopicPartition, int]) -> bool:
        for place, end in ends.items():
            if end and await self._consumer.position(place) < end:
                return False
        return True


@dataclass
class Tables:
    """The tables by key, as their changelogs say; the engine's own keys, which begin with ``__``, are left out, but the shares."""

    profiles: dict[str, Profile] = field(default_factory=dict)
    items: dict[str, ItemState] = field(default_factory=dict)
    neighbours: dict[str, UserNeighbours] = field(default_factory=dict)
    outbox: dict[str, OutboxEntry] = field(default_factory=dict)
    shares: dict[int, Share] = field(default_factory=dict)
    #: Keys in another partition than their own, where no view would look for them.
    astray: list[str] = field(default_factory=list)


@dataclass
class Published:
    """What stands on the topics that others read: the updates and the shares."""

    #: By user: the newest version, and the digest of its list.
    newest: dict[str, tuple[int, int]] = field(default_factory=dict)
    updates: int = 0
    #: Users of whom one version came as two lists.
    two_lists: list[str] = field(default_factory=list)
    #: By events partition, how many events the share with the most of them has.
    shares: dict[int, int] = field(default_factory=dict)
    _lists: dict[tuple[str, int], int] = field(default_factory=dict)

    def take_update(self, value: bytes) -> None:
        update = RecommendationUpdate.FromString(value)
        user, version, digest = update.user_id, update.version, list_digest(update.recommendations)
        self.updates += 1
        if self._lists.setdefault((user, version), digest) != digest:
            self.two_lists.append(f"{user} (version {version})")
        self.newest[user] = max(self.newest.get(user, (0, 0)), (version, digest))

    def take_share(self, value: bytes) -> None:
        share = decode_share(value)
        self.shares[share.partition] = max(share.event_count, self.shares.get(share.partition, 0))


def _patient(kafka: KafkaSettings) -> dict[str, Any]:
    """As the settings say, but waiting longer for a broker that is stopped or busy."""
    return {**kafka_client(kafka), "request_timeout_ms": 40_000}


class KafkaLog:
    """A fleet's topics, read by a bystander."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.names = TopicNames.of(kafka)
        #: Every record of the events and dead-letter topics, as read so far.
        self.events: list[Any] = []
        self.dead_letters: list[Any] = []
        self.published = Published()
        self._kafka = kafka
        #: Who should still be told something, and how it stands with them at each target that they are due at.
        self._due: dict[str, list[Delivery]] = {}
        self._values: dict[str, dict[tuple[int, bytes], bytes]] = {topic: {} for topic in self.names.changelogs.values()}
        self._tails = {
            "events": Tail(kafka, [self.names.events], self.events.append),
            "dead_letters": Tail(kafka, [self.names.dead_letters], self.dead_letters.append),
            "published": Tail(kafka, [self.names.updates, self.names.shares], self._take_published),
            **{table: Tail(kafka, [topic], self._keep) for table, topic in self.names.changelogs.items()},
        }
        self._admin = AIOKafkaAdminClient(**_patient(kafka))
        self._started: list[Any] = []

    async def start(self) -> None:
        for part in (self._admin, *self._tails.values()):
            await part.start()
            self._started.append(part)

    async def stop(self) -> None:
        for part in self._started:
            await (part.close() if part is self._admin else part.stop())

    async def read_on(self, what: str) -> None:
        """Read "events", "dead_letters", "published" or a table up to its end."""
        await self._tails[what].read_on()

    async def committed(self, topic: str) -> list[int]:
        """The group's offset by partition, 0 where it has none."""
        places = [TopicPartition(topic, p) for p in range(self._kafka.partitions)]
        found = await self._admin.list_consumer_group_offsets(self._kafka.application_id, partitions=places)
        return [max(0, found[place].offset) if place in found else 0 for place in places]

    async def ends(self, topic: str) -> list[int]:
        """The end of each partition; on the embedded broker perhaps a batch behind."""
        consumer = self._tails["events"]._consumer
        places = [TopicPartition(topic, p) for p in range(self._kafka.partitions)]
        ends = await consumer.end_offsets(places)
        return [ends[place] for place in places]

    async def coordinator(self) -> int:
        """The id of the broker that leads the group."""
        return int(await self._admin.find_coordinator(self._kafka.application_id))

    async def leaders(self) -> Counter[int]:
        """Broker id → how many partitions of all topics it leads."""
        parts = [part for topic in await self._admin.describe_topics() for part in topic["partitions"]]
        return Counter(part["leader"] for part in parts if part["leader"] >= 0)  # -1: it has none at the moment

    async def under_replicated(self) -> int:
        """Partitions, of all topics, that have fewer copies up to date than they should have."""
        parts = [part for topic in await self._admin.describe_topics() for part in topic["partitions"]]
        return sum(len(part["isr"]) < len(part["replicas"]) for part in parts)

    async def due_users(self, *, clocks_were_right: bool = True) -> list[str]:
        """Users who should still be told something, as the outbox says at its end; without those who wait for long because of a clock."""
        await self.read_on("outbox")
        return sorted(user for user, due in self._due.items() if clocks_were_right or not all(map(waits_for_a_clock, due)))

    def someone_waits(self, now_ms: int) -> bool:
        """Whether anyone of those waits for their next attempt."""
        return any(delivery.next_attempt_at_ms > now_ms for due in self._due.values() for delivery in due)

    async def tables(self) -> Tables:
        """All tables, read to the end."""
        for table in self.names.changelogs:
            await self.read_on(table)
        profiles, items, neighbours, outbox = (
            self._values[self.names.changelogs[table]] for table in ("profiles", "items", "neighbours", "outbox")
        )
        return Tables(
            {key.decode(): Profile.FromString(raw) for (_, key), raw in profiles.items() if not key.startswith(b"__")},
            {key.decode(): decode_item(raw) for (_, key), raw in items.items() if not key.startswith(b"__")},
            {key.decode(): UserNeighbours.FromString(raw) for (_, key), raw in neighbours.items() if not key.startswith(b"__")},
            {key.decode(): OutboxEntry.FromString(raw) for (_, key), raw in outbox.items() if not key.startswith(b"__")},
            {partition: decode_share(raw) for (partition, key), raw in profiles.items() if key == SHARE_KEY},
            [f"{topic}/{p}: {key!r}" for topic, values in self._values.items() for p, key in values if not self._is_home(p, key)],
        )

    def _is_home(self, partition: int, key: bytes) -> bool:
        return key.startswith(b"__") or partition_of(key, self._kafka.partitions) == partition

    def _take_published(self, record: Any) -> None:
        take = self.published.take_update if record.topic == self.names.updates else self.published.take_share
        take(record.value or b"")

    def _keep(self, record: Any) -> None:
        if record.topic == self.names.changelogs["outbox"] and not record.key.startswith(b"__"):
            due = [delivery for delivery in OutboxEntry.FromString(record.value or b"").deliveries if is_due(delivery)]
            if due:
                self._due[record.key.decode()] = due
            else:
                self._due.pop(record.key.decode(), None)
        values, place = self._values[record.topic], (record.partition, record.key)
        if record.value is None:
            values.pop(place, None)
        else:
            values[place] = record.value
