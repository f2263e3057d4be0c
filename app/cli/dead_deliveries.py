"""Dead deliveries: what was given up for one person at one destination, as the outbox's changelog has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from app.cli.latest_values import LatestValues, latest_values
from app.delivery.commands import is_dead
from app.settings import KafkaSettings
from app.streams.topics import TopicNames
from tidings.state.v1.outbox_pb2 import DeadReason, Delivery, OutboxEntry

#: "no_identity" -> the enum's value, and so on.
REASONS = {name.removeprefix("DEAD_REASON_").lower(): value for name, value in DeadReason.items() if value}
#: What an operator can do nothing about, and may be most people: shown only if asked for.
_NOT_BY_DEFAULT = frozenset({DeadReason.DEAD_REASON_WITHHELD})


@dataclass(frozen=True)
class DeliveryFilter:
    """Which dead deliveries: every condition that is given must hold. Times are those of giving up, both inclusive."""

    destinations: tuple[str, ...] = ()
    reasons: tuple[int, ...] = ()
    users: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def is_empty(self) -> bool:
        return self == DeliveryFilter()

    def accepts(self, user_id: str, delivery: Delivery) -> bool:
        return (
            is_dead(delivery)
            and (not self.users or user_id in self.users)
            and (not self.destinations or delivery.target in self.destinations)
            and (delivery.dead_reason in self.reasons if self.reasons else delivery.dead_reason not in _NOT_BY_DEFAULT)
            and (self.since_ms is None or delivery.abandoned_at_ms >= self.since_ms)
            and (self.until_ms is None or delivery.abandoned_at_ms <= self.until_ms)
        )


def reason_of(delivery: Delivery) -> str:
    """The reason in lower case; a newer worker's unknown one as its number."""
    return next((name for name, value in REASONS.items() if value == delivery.dead_reason), str(delivery.dead_reason))


class DeadDeliveries:
    """What a filter found; it may be gone through again and again."""

    def __init__(self, values: LatestValues) -> None:
        self._values = values

    def __iter__(self) -> Iterator[tuple[str, Delivery]]:
        """User and delivery, in the order of users and destinations."""
        for key, value in self._values.items():
            for delivery in OutboxEntry.FromString(value).deliveries:
                yield key.decode(errors="replace"), delivery


@asynccontextmanager
async def dead_deliveries(kafka: KafkaSettings, wanted: DeliveryFilter) -> AsyncIterator[DeadDeliveries]:
    """Those that the filter accepts, as the outbox is now. Raises CommandError without its changelog, BrokerError without an answer."""

    def keep(key: bytes, value: bytes) -> bytes | None:
        entry = _decoded(value)
        found = [delivery for delivery in entry.deliveries if wanted.accepts(key.decode(errors="replace"), delivery)] if entry else []
        return OutboxEntry(deliveries=found).SerializeToString() if found else None

    keys = frozenset(user.encode() for user in wanted.users) or None
    async with latest_values(kafka, outbox_changelog(kafka), keep, keys=keys) as values:
        yield DeadDeliveries(values)


async def outbox_entry(kafka: KafkaSettings, user_id: str) -> OutboxEntry | None:
    """All that the outbox says of one person; None if it has never heard of them."""
    key = user_id.encode()
    async with latest_values(kafka, outbox_changelog(kafka), lambda _, value: value, keys=frozenset({key})) as values:
        return next((entry for _, value in values.items() if (entry := _decoded(value)) is not None), None)


def outbox_changelog(kafka: KafkaSettings) -> str:
    return TopicNames.of(kafka).changelogs["outbox"]


def _decoded(value: bytes) -> OutboxEntry | None:
    try:
        return OutboxEntry.FromString(value)
    except DecodeError:
        return None  # not written by a worker: there is nothing to show
