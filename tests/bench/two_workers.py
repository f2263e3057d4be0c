"""Two workers of one fleet against one, on the full path: a backlog of the same events, worked off until everyone's last list is delivered.

Nothing is pinned here: broker, webhook receiver and workers share all cores of the machine. Where there are two cores, two workers that use
a core each leave nothing for the broker, so what the clock says is less than what they would do beside a broker that has a machine of its
own. Therefore both are told: events a second by the clock, and events for a second of the workers' own processor time, twice of which is
what two workers with a core each do.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from app.cli.embedded_broker import free_port
from app.settings import KafkaSettings
from app.streams.topics import create_topics
from tests.bench.broker import delete_topics, fill
from tests.bench.harness import PARTITIONS, BenchError, Harness
from tests.bench.path import check_deliveries
from tests.bench.protocol import Report
from tests.bench.receiver import HOOK
from tests.bench.recovery import MeasuredWorker
from tests.bench.running import RunningWorker
from tests.bench.worker_settings import ENVIRONMENT, worker_settings
from tests.bench.workload import ShopEvents, positions_of

_LOOK_SECONDS, _QUIET_SECONDS = 0.25, 2.0
_STALL_SECONDS = 90.0
#: Each has partitions, and for so long nothing was given to another.
_SETTLED_SECONDS = 3.0
_READY_SECONDS = 90.0
_COUNTED = ("tidings_events_total{", "tidings_visits_total{", "tidings_rankings_total{", "tidings_deliveries_total{")
_WAITING = ("tidings_lag_records{", "tidings_outbox_due_users{")


@dataclass(frozen=True)
class TwoWorkersPlan:
    """``rounds`` of one worker and two in turn."""

    users: int = 10_000
    events: int = 60_000
    rounds: int = 2


@dataclass(frozen=True)
class FleetRun:
    """Core-seconds an event: of the workers, and of the broker."""

    workers: int
    events_per_second: float
    cpu_us_per_event: float
    broker_cpu_us_per_event: float


@dataclass(frozen=True)
class TwoWorkers:
    ones: list[FleetRun]
    twos: list[FleetRun]

    @property
    def wall_ratio(self) -> float:
        return median(two.events_per_second / one.events_per_second for one, two in zip(self.ones, self.twos, strict=True))

    @property
    def core_second_ratio(self) -> float:
        """Of what two workers do that have a core each: two, if an event costs both together what it costs one."""
        return median(2 * one.cpu_us_per_event / two.cpu_us_per_event for one, two in zip(self.ones, self.twos, strict=True))

    def as_json(self) -> dict[str, Any]:
        return {
            "wall_ratio": round(self.wall_ratio, 3), "core_second_ratio": round(self.core_second_ratio, 3), "cores": os.cpu_count(),
            **{
                name: [{key: round(value, 1) for key, value in vars(run).items()} for run in runs]
                for name, runs in (("one_worker", self.ones), ("two_workers", self.twos))
            },
        }  # fmt: skip


async def measure_two_workers(harness: Harness, plan: TwoWorkersPlan, say: Callable[[str], None]) -> TwoWorkers:
    """Raises BenchError."""
    events, found = ShopEvents(plan.users, plan.events, PARTITIONS), TwoWorkers([], [])
    with _unpinned(harness):
        for number in range(plan.rounds):
            for workers, runs in ((1, found.ones), (2, found.twos)):
                say(f"{workers} worker{'s' if workers > 1 else ''}, round {number + 1}")
                runs.append(run := await _run(harness, events, workers))
                cost = f"{run.cpu_us_per_event:,.1f} µs CPU an event, {run.broker_cpu_us_per_event:,.1f} in the broker"
                say(f"{run.events_per_second:,.0f} events/s, {cost}")
    return found


class _unpinned:
    """Broker and harness may use all cores meanwhile; children of the harness too."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def __enter__(self) -> None:
        self._set(self._harness.cores.all())

    def __exit__(self, *_: object) -> None:
        self._set(self._harness.cores.broker)

    def _set(self, cores: frozenset[int]) -> None:
        if not self._harness.cores.pinned:
            return
        os.sched_setaffinity(0, cores)
        for pid in self._harness.broker_pids():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(ProcessLookupError):  # it has just ended
                    os.sched_setaffinity(int(thread.name), cores)


async def _run(harness: Harness, events: ShopEvents, workers: int) -> FleetRun:
    records = list(events.records())
    async with _fleet(harness, workers) as (fleet, name, receiver_url):
        broker = _cpu_of_broker(harness)
        began, cpu = time.monotonic(), sum(worker.cpu_seconds() for worker in fleet)
        await fill(harness.bootstrap_servers, f"{name}.events.v1", records)
        last, moved_at, used = [0.0], began, cpu
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            found = [sum(column) for column in zip(*[await worker.metrics(*_COUNTED, *_WAITING) for worker in fleet], strict=True)]
            now, counts, waiting = time.monotonic(), found[: len(_COUNTED)], sum(found[len(_COUNTED) :])
            if counts != last:
                last, moved_at, used = counts, now, sum(worker.cpu_seconds() for worker in fleet)
                broker_used = _cpu_of_broker(harness)
            elif counts[0] >= events.events and not waiting and now - moved_at > _QUIET_SECONDS:
                break
            elif now - moved_at > _STALL_SECONDS:
                raise BenchError(f"{counts[0]:,.0f} of {events.events:,} events applied, and nothing moves any more")
        report = Report(int(last[0]), 1.0, 1.0, 1, {str(p): end for p, end in positions_of(records).items()})
        await harness.check(f"{name}-profiles-changelog", "shop-of-fleets", events, events.events, report)
        await check_deliveries(harness.bootstrap_servers, f"{name}-outbox-changelog", receiver_url)
    seconds = moved_at - began
    return FleetRun(
        workers, events.events / seconds, (used - cpu) / events.events * 1e6, (broker_used - broker) / events.events * 1e6
    )


@asynccontextmanager
async def _fleet(harness: Harness, workers: int) -> AsyncIterator[tuple[Sequence[RunningWorker], str, str]]:
    """So many workers that have shared the partitions among them."""
    name = harness.new_name(f"fleet-of-{workers}")
    headers = {"authorization": f"Bearer {ENVIRONMENT['BENCH_TOKEN']}"}
    async with AsyncExitStack() as stack:
        receiver_url = await stack.enter_async_context(harness.receiver())
        http = await stack.enter_async_context(aiohttp.ClientSession(headers=headers, trust_env=False))
        ports = [free_port() for _ in range(workers)]
        processes: list[MeasuredWorker] = []
        directories = [harness.directory / f"{name}-{number}" for number in range(workers)]
        for port, directory in zip(ports, directories, strict=True):
            directory.mkdir()
            settings = worker_settings(
                name=name, bootstrap_servers=harness.bootstrap_servers, partitions=PARTITIONS, data_dir=directory / "data", port=port,
                webhook_url=receiver_url + HOOK,
            )
            processes.append(MeasuredWorker(directory, settings, port, http))
        await create_topics(KafkaSettings.model_validate(settings["kafka"]))
        try:
            await asyncio.gather(*(process.start() for process in processes))
            fleet = [
                RunningWorker(process.pid, f"http://127.0.0.1:{port}", receiver_url, http, 0)
                for process, port in zip(processes, ports, strict=True)
            ]
            await _until_shared(fleet)
            yield fleet, name, receiver_url
        finally:
            for process in processes:
                await process.kill()
            for directory in directories:
                shutil.rmtree(directory / "data", ignore_errors=True)
            await delete_topics(harness.bootstrap_servers, name)


async def _until_shared(fleet: Sequence[RunningWorker]) -> None:
    """Each has as many partitions as the others, for a while."""
    deadline, since = time.monotonic() + _READY_SECONDS, time.monotonic()
    while time.monotonic() - since < _SETTLED_SECONDS:
        owned = [await worker.metric('tidings_partitions_owned{role="active"}') for worker in fleet]
        if min(owned) == 0 or len(set(owned)) > 1:
            since = time.monotonic()
        if time.monotonic() > deadline:
            raise BenchError(f"the workers do not share the partitions: {owned}")
        await asyncio.sleep(_LOOK_SECONDS)


def _cpu_of_broker(harness: Harness) -> float:
    seconds = 0.0
    for pid in harness.broker_pids():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds
