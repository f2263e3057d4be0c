"""`tidings dead-letters` lists each letter once, shows its bytes, and sends the record again."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import aclosing

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.cli.dead_letter_log import LetterFilter, place_of, read_dead_letters
from app.streams.publisher import Publisher, Record, partition_of
from app.streams.topics import TopicNames
from tidings.internal.v1.dead_letter_pb2 import DeadLetter, DeadLetterReason

from .conftest import Installation

NOISE = bytes(range(256)) * 20


def letters(installation: Installation) -> list[DeadLetter]:
    events, now_ms = TopicNames.of(installation.settings.kafka).events, time.time_ns() // 1_000_000
    return [
        DeadLetter(
            topic=events, partition=0, offset=7, timestamp_ms=now_ms - 3_600_000, reason=DeadLetterReason.DEAD_LETTER_REASON_UNDECODABLE,
            detail="not an event", key=b"ada", value=NOISE,
        ),
        DeadLetter(
            topic=events, partition=1, offset=3, timestamp_ms=now_ms, reason=DeadLetterReason.DEAD_LETTER_REASON_INVALID,
            field="product_viewed.product_id", detail="is empty\x1b[31m\tand red", key=b"bob", value=b"\x0a\x01x",
        ),
        DeadLetter(
            topic=events, partition=2, offset=9, timestamp_ms=now_ms, reason=DeadLetterReason.DEAD_LETTER_REASON_UNKNOWN_PAYLOAD,
            detail="field 99", key=b"", value=b"\x12\x01y",
        ),
    ]  # fmt: skip


def write(installation: Installation, written: list[DeadLetter]) -> None:
    kafka = installation.settings.kafka
    assert installation.tidings("topics", "create").exit_code == 0

    async def publish() -> None:
        topic = TopicNames.of(kafka).dead_letters
        async with Publisher(kafka.bootstrap_servers, topic, kafka.partitions, idempotent=not kafka.allow_unfenced) as publisher:
            for letter in written:
                key = f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
                await publisher.publish_records([Record(key, letter.SerializeToString())])

    asyncio.run(publish())


def events_now(installation: Installation) -> list[tuple[int, bytes, bytes]]:
    return records_now(installation, TopicNames.of(installation.settings.kafka).events)


def records_now(installation: Installation, topic: str) -> list[tuple[int, bytes, bytes]]:
    """What stands on a topic: (partition, key, value)."""
    kafka = installation.settings.kafka

    async def read() -> list[tuple[int, bytes, bytes]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=100)
        await consumer.start()
        consumer.assign([TopicPartition(topic, number) for number in range(kafka.partitions)])
        found: list[tuple[int, bytes, bytes]] = []
        while batch := await consumer.getmany(timeout_ms=1000):
            found += [(record.partition, record.key or b"", record.value or b"") for records in batch.values() for record in records]
        await consumer.stop()
        return sorted(found)

    return asyncio.run(read())


def listed(installation: Installation, *arguments: str) -> list[dict[str, object]]:
    result = installation.tidings("dead-letters", "list", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def offsets(found: list[dict[str, object]]) -> list[object]:
    return [letter["offset"] for letter in found]


def test_an_empty_topic_lists_nothing(installation: Installation) -> None:
    write(installation, [])
    assert listed(installation) == []
    assert installation.tidings("dead-letters", "replay", "--all", "--yes").exit_code == 0


def test_without_the_topic_the_answer_says_how_to_create_it(installation: Installation) -> None:
    result = installation.tidings("dead-letters", "list")
    assert result.exit_code == 1
    assert "tidings topics create" in result.output


def test_a_letter_that_was_written_twice_is_listed_once(installation: Installation) -> None:
    written = letters(installation)
    write(installation, written + written)
    assert len(listed(installation)) == 3


def test_filters_choose_by_reason_age_and_topic(installation: Installation) -> None:
    write(installation, letters(installation))
    assert offsets(listed(installation, "--reason", "invalid", "--reason", "unknown_payload", "--since", "10m")) == [3, 9]
    assert offsets(listed(installation, "--reason", "undecodable")) == [7]
    assert listed(installation, "--topic", "elsewhere") == []
    assert listed(installation, "--since", "2100-01-01") == []
    assert len(listed(installation, "--limit", "1")) == 1


def test_a_list_in_a_pipe_has_one_line_for_each_letter_whatever_stands_in_it(installation: Installation) -> None:
    write(installation, letters(installation))
    result = installation.tidings("dead-letters", "list")
    assert len(result.stdout.splitlines()) == 3
    assert all(len(line.split("\t")) == 5 for line in result.stdout.splitlines())
    assert "\x1b" not in result.stdout
    assert "3 dead letter(s), 1 invalid, 1 undecodable, 1 unknown_payload" in result.stderr


def test_a_reading_ends_at_the_end_it_found_however_fast_letters_come(installation: Installation) -> None:
    # A replay beside a running worker: what is still wrong comes back as a new letter, and must not be replayed again and again.
    written = letters(installation)
    write(installation, written)
    kafka = installation.settings.kafka

    async def read_and_answer_each_with_another() -> list[str]:
        found: list[str] = []
        topic = TopicNames.of(kafka).dead_letters
        async with (
            Publisher(kafka.bootstrap_servers, topic, kafka.partitions, idempotent=not kafka.allow_unfenced) as publisher,
            aclosing(read_dead_letters(kafka, LetterFilter())) as reading,
        ):
            async for letter in reading:
                found.append(place_of(letter))
                again = DeadLetter(topic=letter.topic, partition=letter.partition, offset=letter.offset + 1000)
                await publisher.publish_records([Record(b"k", again.SerializeToString(), number) for number in range(kafka.partitions)])
        return found

    found = asyncio.run(asyncio.wait_for(read_and_answer_each_with_another(), 30))
    assert sorted(found) == sorted(place_of(letter) for letter in written)


def test_show_prints_the_reason_and_the_bytes(installation: Installation) -> None:
    write(installation, letters(installation))
    events = TopicNames.of(installation.settings.kafka).events
    result = installation.tidings("dead-letters", "show", f"{events}/0/7")
    assert result.exit_code == 0, result.output
    assert "undecodable" in result.output
    assert "00000010  10 11 12 13" in result.output
    assert f"... {len(NOISE) - 4096} bytes more" in result.output
    document = json.loads(installation.tidings("dead-letters", "show", f"{events}/0/7", "--json").stdout)
    assert base64.b64decode(document["value_base64"]) == NOISE


def test_show_of_a_place_without_a_letter_says_where_to_look(installation: Installation) -> None:
    write(installation, letters(installation))
    result = installation.tidings("dead-letters", "show", "nowhere/0/7")
    assert result.exit_code == 1
    assert "tidings dead-letters list" in result.output


def test_replay_sends_key_and_value_unchanged_to_the_events_topic(installation: Installation) -> None:
    written = letters(installation)
    write(installation, written + written)
    events = TopicNames.of(installation.settings.kafka).events
    result = installation.tidings("dead-letters", "replay", "--all", "--yes")
    assert result.exit_code == 0, result.output
    assert sorted((key, value) for _, key, value in events_now(installation)) == sorted((letter.key, letter.value) for letter in written)
    # Without a key the old partition is all that is known.
    assert (2, b"", b"\x12\x01y") in events_now(installation)
    assert f"{events}/0/7 -> {events}/" in result.stdout


def test_replay_sends_a_product_to_the_products_topic_where_its_id_belongs(installation: Installation) -> None:
    kafka, names = installation.settings.kafka, TopicNames.of(installation.settings.kafka)
    home = partition_of(b"p1", kafka.partitions)
    astray = DeadLetter(topic=names.products, partition=(home + 1) % kafka.partitions, offset=4, key=b"p1\x1fprice", value=b"\x0a\x02p1")
    write(installation, [*letters(installation), astray])
    result = installation.tidings("dead-letters", "replay", "--all", "--yes")
    assert result.exit_code == 0, result.output
    assert records_now(installation, names.products) == [(home, astray.key, astray.value)]
    assert len(events_now(installation)) == 3


def test_replay_of_one_place_sends_that_one(installation: Installation) -> None:
    write(installation, letters(installation))
    events = TopicNames.of(installation.settings.kafka).events
    assert installation.tidings("dead-letters", "replay", f"{events}/1/3", "--yes").exit_code == 0
    assert [value for _, _, value in events_now(installation)] == [b"\x0a\x01x"]
    absent = installation.tidings("dead-letters", "replay", f"{events}/1/3", f"{events}/1/999", "--yes")
    assert absent.exit_code == 1
    assert f"{events}/1/999" in absent.output
    assert len(events_now(installation)) == 1


def test_replay_sends_nothing_unasked_or_to_a_topic_of_the_workers(installation: Installation) -> None:
    visits = TopicNames.of(installation.settings.kafka).visits
    write(installation, [*letters(installation), DeadLetter(topic=visits, partition=0, offset=1, value=b"?")])
    assert installation.tidings("dead-letters", "replay").exit_code == 2
    assert installation.tidings("dead-letters", "replay", "--reason", "invalid").exit_code == 1  # no terminal to ask on
    result = installation.tidings("dead-letters", "replay", "--all", "--yes")
    assert result.exit_code == 1
    assert visits in result.output
    assert events_now(installation) == []
