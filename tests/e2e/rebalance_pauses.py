"""``python -m tests.e2e.rebalance_pauses``: for how long partitions stand still when a third worker joins two, and when it leaves.

Under a steady load each partition's changelog of profiles grows all the time: the longest time in which it did not, around the join, is the
pause. Printed for partitions that move and for those that stay, with what a standby answered meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiokafka

from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import Fleet, fleet_on
from tests.e2e.invented_log import write_invented_log
from tests.e2e.waiting import until

EVENTS_PER_SECOND = 400
BEFORE_SECONDS, AFTER_SECONDS = 6.0, 14.0


async def run(partitions: int, heartbeat_seconds: int, directory: Path) -> None:
    kafka = {"partitions": partitions, "heartbeat_interval_seconds": heartbeat_seconds}
    with ApacheKafka(directory / "kafka") as broker:
        async with fleet_on(broker.bootstrap_servers, directory / "fleet", worker={"standby_replicas": 1}, kafka=kafka) as fleet:
            log = write_invented_log(directory / "invented.jsonl", 60_000)
            workers = await fleet.start("a", "b")
            replay = await fleet.replay(log, rate=EVENTS_PER_SECOND)
            await asyncio.sleep(BEFORE_SECONDS)
            joining = fleet.new_worker("c")
            await _watch(fleet, "a third worker joins", joining.start, [*workers, joining])
            await _watch(fleet, "it leaves (SIGTERM)", joining.terminate, workers)
            await replay.finish()
            await fleet.exact(sum(await fleet.log.ends(fleet.names.events)))


async def _watch(fleet: Fleet, what: str, change: Any, workers_after: list[Any]) -> None:
    before = {partition: worker.name for worker in fleet.running for partition in await worker.owned()}
    from_ms = time.time_ns() // 1_000_000
    await change()
    after: dict[int, str] = {}

    async def is_shared() -> bool:
        after.clear()
        after.update({partition: worker.name for worker in workers_after for partition in await worker.owned()})
        return sorted(after) == sorted(before) and (len(set(after.values())) == len(workers_after))

    await until(is_shared, 40, "all partitions owned")
    took = time.time_ns() // 1_000_000 - from_ms
    await asyncio.sleep(AFTER_SECONDS)
    pauses = await _pauses(fleet, from_ms)
    counts = sorted(map(list(after.values()).count, set(after.values())), reverse=True)
    print(f"\n{what}: all owned after {took / 1000:.1f} s, {', '.join(map(str, counts))} partitions each")
    for partition, seconds in sorted(pauses.items()):
        stays = before[partition] == after[partition]
        where = f"stays with {after[partition]}" if stays else f"moves from {before[partition]} to {after[partition]}"
        print(f"  partition {partition} {where}: stood still for {seconds:.2f} s")


async def _pauses(fleet: Fleet, from_ms: int) -> dict[int, float]:
    """By partition, the longest time since then between two appends to the changelog of profiles, markers aside."""
    consumer = aiokafka.AIOKafkaConsumer(**fleet.settings.kafka.client(), group_id=None)
    await consumer.start()
    try:
        places = [aiokafka.TopicPartition(fleet.names.changelogs["profiles"], p) for p in range(fleet.settings.kafka.partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        longest: dict[int, float] = {}
        for place in places:
            starts = await consumer.offsets_for_times({place: from_ms - 1_000})
            consumer.seek(place, starts[place].offset)
            last = None
            while await consumer.position(place) < ends[place]:
                for record in (await consumer.getmany(place, timeout_ms=1000)).get(place, []):
                    if record.key.startswith(b"__owner"):
                        continue
                    if last is not None:
                        longest[place.partition] = max(longest.get(place.partition, 0.0), (record.timestamp - last) / 1000)
                    last = record.timestamp
        return longest
    finally:
        await consumer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.rebalance_pauses", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--heartbeat-seconds", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the broker is a child, and is ended on the way out
    with tempfile.TemporaryDirectory(prefix="tidings-pauses-") as directory:
        asyncio.run(run(options.partitions, options.heartbeat_seconds, Path(directory)))


if __name__ == "__main__":
    main()
