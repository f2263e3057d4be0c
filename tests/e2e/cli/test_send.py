"""`tidings send` writes one event where it says it did."""

from __future__ import annotations

import asyncio
import json

from aiokafka import AIOKafkaConsumer, TopicPartition

from tidings.events.v1.event_pb2 import Event

from .conftest import Installation


def event_at(installation: Installation, topic: str, partition: int, offset: int) -> tuple[bytes, Event]:
    async def read() -> tuple[bytes, Event]:
        consumer = AIOKafkaConsumer(bootstrap_servers=installation.settings.kafka.bootstrap_servers, fetch_max_wait_ms=100)
        await consumer.start()
        try:
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            consumer.seek(place, offset)
            record = await asyncio.wait_for(consumer.getone(place), 5)
            return record.key, Event.FromString(record.value)
        finally:
            await consumer.stop()

    return asyncio.run(read())


def test_an_event_from_options_stands_at_the_printed_position(installation: Installation) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    options = ["--user", "ada", "--event", "add_to_cart", "--product", "shoes", "--field", "price=49.90"]
    result = installation.tidings("send", *options, "--json")
    assert result.exit_code == 0, result.output
    place = json.loads(result.stdout)
    key, event = event_at(installation, place["topic"], place["partition"], place["offset"])
    assert key == b"ada"
    assert event.event_id == place["event_id"]
    assert event.added_to_cart.product_id == "shoes"
    assert event.added_to_cart.unit_price.minor_units == 4990


def test_an_event_from_standard_input_is_sent_and_the_answer_says_where_to_look(installation: Installation) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    document = '{"user_id":"a/b","event":"product_viewed","product_id":"shoes","timestamp":"2024-04-27T14:35:22Z"}'
    result = installation.tidings("send", "-", stdin=document)
    assert result.exit_code == 0, result.output
    assert " http://127.0.0.1:8080/v1/users/a%2Fb\n" in result.stderr
    topic, partition, offset = result.stdout.split()[0].split("/")
    assert event_at(installation, topic, int(partition), int(offset))[1].occurred_at_ms == 1714228522000


def test_without_the_topic_the_answer_says_how_to_create_it(installation: Installation) -> None:
    result = installation.tidings("send", "--user", "ada", "--event", "product_viewed", "--product", "shoes")
    assert result.exit_code == 1
    assert "tidings topics" in result.output
