"""aiokafka alone: fetch and parse every event, keep nothing but the group's offsets: the limit of what is built on it."""

from __future__ import annotations

import uvloop
from aiokafka import AIOKafkaConsumer

from tests.bench.proto.bench_pb2 import UserEvent
from tests.bench.protocol import Assignment, Stopwatch

#: As many events as between two commits of the other systems at full speed, about.
_COMMIT_EVENTS = 20_000


async def main() -> None:
    run, watch = Assignment.read(), Stopwatch()
    consumer = AIOKafkaConsumer(
        run.topic, bootstrap_servers=run.bootstrap_servers, group_id=run.name, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    parse = UserEvent.FromString
    handled = occurred_at_ms = committed = 0
    positions: dict[int, int] = {}
    while handled < run.events:
        batches = await consumer.getmany(timeout_ms=1000)
        for partition, records in batches.items():
            watch.start()
            for record in records:
                occurred_at_ms += parse(record.value).occurred_at_ms  # summed up, for the check
            handled += len(records)
            positions[partition.partition] = records[-1].offset + 1
        if handled - committed >= _COMMIT_EVENTS or handled == run.events:
            await consumer.commit()
            committed = handled
    watch.report(handled, positions, occurred_at_ms=occurred_at_ms).print()
    await consumer.stop()


if __name__ == "__main__":
    uvloop.run(main())
