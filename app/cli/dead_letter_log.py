"""Reads the dead-letters topic from its beginning to its end, each letter once, without joining a group."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from google.protobuf.message import DecodeError

from app.errors import BrokerError, CommandError
from app.settings import KafkaSettings
from app.streams.topics import TopicNames
from tidings.internal.v1.dead_letter_pb2 import DeadLetter, DeadLetterReason

#: Places remembered to tell a repeat: a worker that died between writing a letter and committing writes it again soon after.
_MAX_PLACES = 100_000
_FETCH_BYTES = 8 * 1024 * 1024
#: Of one poll; on the embedded broker, silence for this long is the end. Such polls are bounded, for a topic that keeps growing.
_QUIET_MS = 500
_MAX_END_POLLS = 20

#: "undecodable" -> the enum's value, and so on.
REASONS = {name.removeprefix("DEAD_LETTER_REASON_").lower(): value for name, value in DeadLetterReason.items() if value}


@dataclass(frozen=True)
class LetterFilter:
    """Which letters: every condition that is given must hold. ``since_ms`` is the time of the record that became the letter."""

    reasons: tuple[int, ...] = ()
    topic: str | None = None
    since_ms: int | None = None
    places: tuple[str, ...] = ()

    def accepts(self, letter: DeadLetter) -> bool:
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.topic is None or letter.topic == self.topic)
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
            and (not self.places or place_of(letter) in self.places)
        )


def place_of(letter: DeadLetter) -> str:
    """Where the record stands: topic/partition/offset."""
    return f"{letter.topic}/{letter.partition}/{letter.offset}"


def reason_of(letter: DeadLetter) -> str:
    """The reason in lower case; a newer worker's unknown one as its number."""
    return next((name for name, value in REASONS.items() if value == letter.reason), str(letter.reason))


async def read_dead_letters(kafka: KafkaSettings, wanted: LetterFilter) -> AsyncGenerator[DeadLetter, None]:
    """Letters that the filter accepts, oldest first within a partition, up to the end as it was when the reading began.

    Raises CommandError without the topic, BrokerError when the broker does not answer.
    """
    topic = TopicNames.of(kafka).dead_letters
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=int(kafka.request_timeout_seconds * 1000),
        fetch_max_wait_ms=kafka.fetch_max_wait_ms,
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        async with asyncio.timeout(kafka.request_timeout_seconds + 2):
            await consumer.start()
            if topic not in await consumer.topics():
                raise CommandError(f"there is no topic {topic} on {kafka.bootstrap_servers}: run `tidings topics create`")
            # Asked for by number: a broker that creates what it is asked about has already been asked for the list.
            partitions = [TopicPartition(topic, number) for number in range(kafka.partitions)]
            consumer.assign(partitions)
        ends = await _ends(consumer, partitions, kafka)
        await consumer.seek_to_beginning(*partitions)
        seen: OrderedDict[str, None] = OrderedDict()
        async for record in _records_before(consumer, ends, kafka.request_timeout_seconds):
            letter = _decoded(record.value)
            if letter is None or (place := place_of(letter)) in seen:
                continue
            seen[place] = None
            if len(seen) > _MAX_PLACES:
                seen.popitem(last=False)
            if wanted.accepts(letter):
                yield letter
    except (KafkaError, TimeoutError, OSError) as exc:
        said = str(exc) or type(exc).__name__
        raise BrokerError(f"cannot read {topic} from Kafka at {kafka.bootstrap_servers} ({said}): is it running?") from exc
    finally:
        await consumer.stop()


async def _ends(consumer: AIOKafkaConsumer, partitions: list[TopicPartition], kafka: KafkaSettings) -> dict[TopicPartition, int]:
    async with asyncio.timeout(kafka.request_timeout_seconds):
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    if kafka.allow_unfenced:
        # The embedded broker says an end that lies behind by up to a batch: what still comes after it tells the true one.
        for partition, end in ends.items():
            consumer.seek(partition, end)
        for _ in range(_MAX_END_POLLS):
            if not await consumer.getmany(timeout_ms=_QUIET_MS):
                break
        ends = {partition: await consumer.position(partition) for partition in partitions}
    return ends


async def _records_before(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], timeout_seconds: float
) -> AsyncGenerator[ConsumerRecord, None]:
    """Every record below its partition's end. Raises TimeoutError when nothing comes for that long."""
    waited_since = asyncio.get_running_loop().time()
    while True:
        async with asyncio.timeout(timeout_seconds):
            if all([await consumer.position(partition) >= end for partition, end in ends.items()]):
                return
        fetched = await consumer.getmany(timeout_ms=_QUIET_MS, max_records=1000)
        if fetched:
            waited_since = asyncio.get_running_loop().time()
        elif asyncio.get_running_loop().time() - waited_since > timeout_seconds:
            raise TimeoutError(f"nothing came for {timeout_seconds:g} s")
        for partition, records in fetched.items():
            for record in records:
                if record.offset < ends[partition]:
                    yield record


def _decoded(value: bytes | None) -> DeadLetter | None:
    try:
        return DeadLetter.FromString(value or b"")
    except DecodeError:
        return None  # not written by a worker: there is nothing to show
