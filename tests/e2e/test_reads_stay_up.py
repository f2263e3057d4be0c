"""Reads go on while workers are killed and restarted, each answer saying whose it is and how current; a client reads its own writes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import fleet_on
from tests.e2e.processes import Worker
from tests.e2e.readers import Readers
from tests.e2e.shop import PATHS, Shop, whole

pytestmark = pytest.mark.kafka

READS_PER_SECOND, EVENTS_PER_SECOND = 50, 40
#: Of reads that are answered with 200.
SHARE = 0.99
#: What one try may take: on a machine that does ten other things, a worker's answer is late, and not missing.
TRY_SECONDS = 10.0
#: SIGTERM to the end of one worker of several.
STOP_SECONDS = 20.0


async def test_reads_go_on_while_a_worker_is_killed_and_a_client_reads_its_own_writes(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path, worker={"standby_replicas": 1}) as fleet:
        a, b = await fleet.start("a", "b")
        shop = Shop(fleet, EVENTS_PER_SECOND)
        async with shop.open():
            await whole(fleet, a, b)
            await reads_its_own_writes(a, b)
            readers = Readers([a.url, b.url], PATHS, READS_PER_SECOND, fleet.token, try_seconds=TRY_SECONDS)
            async with readers.reading():
                for worker, other in ((a, b), (b, a)):
                    worker.kill()
                    watching = asyncio.create_task(readiness(other))
                    await asyncio.sleep(1)
                    await whole(fleet, a, b)
                    watching.cancel()
                    assert (await watching)["rebalancing"], "it was seen in the middle of it"
        print(f"\n{readers}")
        assert readers.share >= SHARE, readers
        assert readers.by_standby, "nobody answered for the killed worker"
        assert all(read.age_ms is not None and read.age_ms < 60_000 for read in readers.by_standby), "what is older is not answered"


async def readiness(worker: Worker) -> Counter[str]:
    """How often it said which reason, until cancelled. Whoever asks only workers that are ready goes on asking one that has copies."""
    reasons = Counter[str]()
    with suppress(asyncio.CancelledError):
        while True:
            status, document = await worker.get("/readyz")
            assert status in (0, 200), document
            reasons[(document or {}).get("reason", "")] += 1
            await asyncio.sleep(0.05)
    return reasons


async def patiently(worker: Worker, path: str) -> dict[str, Any]:
    """A busy machine takes longer than the second that an answer waits: the client asks again, as it is told to."""
    for _ in range(10):
        status, document = await worker.get(path)
        if status == 200:
            return document  # type: ignore[no-any-return]  # JSON
        assert (status, document["type"]) == (503, "urn:tidings:problem:not-applied-yet"), document
    raise AssertionError(f"{path} is never answered")


async def reads_its_own_writes(a: Worker, b: Worker) -> None:
    """Whichever worker took the event, and whichever is asked."""
    for n, (taker, asked) in enumerate([(a, b), (b, a)] * 3):
        user = f"u{n}"
        before = (await taker.get(f"/v1/users/{user}"))[1]["event_count"]
        event = f'{{"user_id":"{user}","event":"view","product_id":"own-{n}"}}'.encode()
        status, accepted = await taker.post("/v1/events", event)
        assert status == 202
        position = "{partition}/{offset}".format(**accepted["positions"][0])
        profile = await patiently(asked, f"/v1/users/{user}?after={position}")
        assert profile["event_count"] > before
        assert f"own-{n}" in profile["history"][-1]["product_id"] + profile["history"][0]["product_id"]
        told = await patiently(asked, f"/v1/users/{user}/recommendations?after={position}")
        assert told["version"] > 0
        partition, offset = position.split("/")
        status, problem = await asked.get(f"/v1/users/{user}?after={partition}/{int(offset) + 1_000_000}")
        assert (status, problem["type"]) == (503, "urn:tidings:problem:not-applied-yet")
        status, filled = await asked.get(f"/v1/users/{user}/recommendations?slot=for_you&max_staleness_ms=0")
        assert (status, filled.get("fallback_because", "too-stale")) == (200, "too-stale")


async def test_three_workers_are_restarted_one_after_another_and_nothing_is_lost_and_reads_go_on(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    # As many partitions as three can share equally: of four, two workers may have two each, and keep them.
    sections: dict[str, dict[str, int]] = {"worker": {"standby_replicas": 1}, "kafka": {"partitions": 6}}
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path, **sections) as fleet:
        workers = await fleet.start("a", "b", "c")
        shop = Shop(fleet, EVENTS_PER_SECOND)
        readers = Readers([worker.url for worker in workers], PATHS, READS_PER_SECOND, fleet.token, try_seconds=TRY_SECONDS)
        async with shop.open(), readers.reading():
            for worker in workers:
                began = time.monotonic()
                assert await worker.terminate() == 0
                assert time.monotonic() - began < STOP_SECONDS
                await worker.start()
                await whole(fleet, *workers)
        print(f"\n{readers}")
        assert readers.share >= SHARE, readers
        verdict = await fleet.exact(shop.count)
        assert (verdict.applied, verdict.dead_letters, verdict.exits) == (shop.count, 0, 0)
