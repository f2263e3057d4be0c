"""A `tidings worker` as it is, on its core, with events flowing into it: latencies and more are measured on it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer

from app.cli.embedded_broker import free_port
from app.settings import KafkaSettings
from app.streams.topics import create_topics
from tests.bench.broker import delete_topics, fill
from tests.bench.harness import PARTITIONS, BenchError, Harness
from tests.bench.receiver import HOOK
from tests.bench.worker_settings import ENVIRONMENT, as_toml, worker_settings
from tests.bench.workload import Record, ShopEvents

#: How often what is due is sent.
_STEP_SECONDS = 0.005
_READY_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """How much is measured. Probes are spread evenly, each a user who was never seen before."""

    users: int = 10_000
    warm_up_events: int = 50_000
    probes: int = 300
    probes_per_second: float = 8.0
    views: int = 5_000
    views_per_second: float = 500.0


@dataclass(frozen=True)
class RunningWorker:
    """A running `tidings worker` and what its views and its webhook receiver say."""

    pid: int
    url: str
    receiver_url: str
    session: aiohttp.ClientSession
    warm_up_events: int

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def event_count(self, user_id: str) -> int:
        """0 for a user who is not known yet."""
        async with self.session.get(f"{self.url}/v1/users/{user_id}") as response:
            if response.status == 404:
                return 0
            response.raise_for_status()
            return int((await response.json())["event_count"])

    async def seen(self, prefix: str) -> dict[str, float]:
        """User id to the time its first body came."""
        async with self.session.get(f"{self.receiver_url}/seen", params={"prefix": prefix}) as response:
            return (await response.json())["first_at"]

    async def bodies(self) -> int:
        """Bodies that came to the webhook receiver, repeats and all."""
        async with self.session.get(f"{self.receiver_url}/count") as response:
            return int(await response.text())

    async def metric(self, name: str) -> float:
        return (await self.metrics(name))[0]

    async def metrics(self, *names: str) -> list[float]:
        """Each the sum of the samples that begin so."""
        async with self.session.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return [sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)) for name in names]


@dataclass(frozen=True)
class Feed:
    producer: AIOKafkaProducer
    topic: str
    records: Iterator[Record]


def core_used(worker: RunningWorker, cpu_seconds: float, since: float) -> float:
    return (worker.cpu_seconds() - cpu_seconds) / (time.monotonic() - since)


@asynccontextmanager
async def running_worker(
    harness: Harness, plan: Plan, say: Callable[[str], None], targets: Sequence[Mapping[str, Any]] = (),
    worker_section: Mapping[str, Any] | None = None,
) -> AsyncIterator[tuple[RunningWorker, Feed]]:
    """A worker that has folded the warm-up events, and the events that come after them. ``targets`` are further destinations,
    ``worker_section`` settings other than the defaults.
    """
    name, port = harness.new_name("worker"), free_port()
    async with harness.receiver() as receiver_url:
        settings = worker_settings(
            name=name, bootstrap_servers=harness.bootstrap_servers, partitions=PARTITIONS, data_dir=harness.directory / name, port=port,
            webhook_url=receiver_url + HOOK, targets=targets,
        )
        settings["worker"] |= worker_section or {}
        path = harness.directory / f"{name}.toml"
        path.write_text(as_toml(settings))
        await create_topics(KafkaSettings.model_validate(settings["kafka"]))
        topic = f"{name}.events.v1"
        warm_up = ShopEvents(plan.users, plan.warm_up_events, PARTITIONS)
        await fill(harness.bootstrap_servers, topic, warm_up.records())
        # More than any measurement takes; made as they are needed.
        events = ShopEvents(plan.users, 100_000_000, PARTITIONS, first=plan.warm_up_events).records()
        producer = AIOKafkaProducer(bootstrap_servers=harness.bootstrap_servers, acks="all", linger_ms=1)
        headers = {"authorization": f"Bearer {ENVIRONMENT['BENCH_TOKEN']}"}
        command = (sys.executable, "-m", "app", "worker", "--settings", str(path))
        async with harness.process(command, name) as process, aiohttp.ClientSession(headers=headers) as session:
            await producer.start()
            try:
                worker = RunningWorker(process.pid, f"http://127.0.0.1:{port}", receiver_url, session, plan.warm_up_events)
                say(f"warming up: {plan.warm_up_events:,} events")
                await until_warm(worker, lambda: process.returncode is None, plan.warm_up_events)
                yield worker, Feed(producer, topic, events)
            finally:
                await producer.stop()
        await delete_topics(harness.bootstrap_servers, name)


async def until_warm(worker: RunningWorker, lives: Callable[[], bool], events: int) -> None:
    """All folded, ranked and delivered."""
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and lives():
        with suppress(aiohttp.ClientError):
            if await worker.metric("tidings_events_total{") >= events:
                await until_idle(worker)
                return
        await asyncio.sleep(0.5)
    raise BenchError(f"the worker was not done with {events} warm-up events within {_READY_SECONDS:g} s")


async def until_idle(worker: RunningWorker) -> None:
    """Nothing left to rank or to deliver."""
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                await asyncio.sleep(3)  # the last rankings make the last users due
                if await worker.metric("tidings_outbox_due_users{") + await worker.metric("tidings_lag_records{") == 0:
                    return
    except TimeoutError:
        raise BenchError(f"the worker was not done with its backlog within {_READY_SECONDS:g} s") from None


class Flow:
    """Events sent at a rate that may change, until cancelled."""

    def __init__(self, worker: RunningWorker, feed: Feed) -> None:
        self.rate = 0.0
        self._worker = worker
        self._feed = feed
        self.sent = 0
        #: Seconds that deliveries took, and how many there were, up to the last look.
        self._delivered = 0.0, 0.0

    async def run(self) -> None:
        feed, owed, then = self._feed, 0.0, time.monotonic()
        while True:
            now = time.monotonic()
            owed, then = owed + (now - then) * self.rate, now
            due = int(owed)
            for partition, key, value in islice(feed.records, due):
                await feed.producer.send(feed.topic, value, key, partition=partition)
            owed -= due
            self.sent += due
            await asyncio.sleep(_STEP_SECONDS)

    async def waiting(self) -> float:
        """Events sent and not applied, and users not told yet: those due, and, while they wait for their ranking, as many as the events of
        the time that deliveries took since the last look.
        """
        applied, due, seconds, count = await self._worker.metrics(
            "tidings_events_total{", "tidings_outbox_due_users{", "tidings_event_to_delivery_seconds_sum{",
            "tidings_event_to_delivery_seconds_count{",
        )
        (seconds_before, count_before), self._delivered = self._delivered, (seconds, count)
        late = (seconds - seconds_before) / (count - count_before) if count > count_before else 1.0
        return max(0.0, self.sent + self._worker.warm_up_events - applied) + max(due, late * self.rate)
