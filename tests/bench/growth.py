"""What an event costs on the full path with ten thousand, a hundred thousand and a million users, and how soon a worker is back with them.

Work for an event depends on how often a user is ranked and written to, which depends on how soon after another a user's events come: with
few users a backlog is worked off at one ranking for many events, with many users at one for each. That is no growth of cost. So every
event that is measured here is of another user, one who is there already (a profile with some history, a list at the webhook) and whose
event is ranked and delivered by itself, however many users there are: what is measured is the warm part, not the first creation of a
user. A worker with the fewest users, which stays as it is, works off as many such events right before and right after, for the machine's
speed drifts: growth is the quotient. Flushes and compactions come in lumps: a burst is long enough for some of them, so that each of the
fewest users is met two or three times in all.

Users are made by writing the state of the first ones under further names. A worker that has lost its directory reads all of it (cold); one
that is killed has its directory (warm). The same event of the same state comes at every number of users.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import count, cycle, islice
from pathlib import Path
from random import Random
from statistics import mean, median
from typing import Any

import aiohttp

from app.cli.embedded_broker import free_port
from app.settings import KafkaSettings
from app.streams.publisher import partition_of
from app.streams.topics import TopicNames, create_topics
from tests.bench.broker import delete_topics, fill, read_back
from tests.bench.harness import PARTITIONS, BenchError, Harness
from tests.bench.receiver import HOOK
from tests.bench.recovery import MeasuredWorker, Return
from tests.bench.running import RunningWorker, core_used, until_idle, until_warm
from tests.bench.worker_settings import ENVIRONMENT, worker_settings
from tests.bench.workload import FIRST_EVENT_MS, MEAN_GAP_MS, Record, ShopEvents, _shop_event, _Zipf
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile

_SEED = 11
#: Of a burst: nothing waits, and nothing has moved for so long.
_QUIET_SECONDS, _LOOK_SECONDS = 0.8, 0.2
_STALL_SECONDS = 90.0
_COUNTED = ("tidings_events_total{", "tidings_visits_total{", "tidings_rankings_total{", "tidings_deliveries_total{")
_WAITING = ("tidings_lag_records{", "tidings_outbox_due_users{")


@dataclass(frozen=True)
class GrowthPlan:
    """``times``: so many times as many users, the first being 1. ``pairs`` of bursts for each. After a recovery RocksDB compacts:
    a worker is calm when it uses less than ``calm_core`` for ``quiet_seconds``, and is waited for up to ``patience_seconds``. A burst that
    is not counted comes first, so that it has its indexes at hand. ``burst_events``, each of another user, are at most ``users``.
    """

    users: int = 10_000
    times: Sequence[int] = (1, 10, 100)
    warm_up_events: int = 40_000
    pairs: int = 4
    burst_events: int = 2_500
    quiet_seconds: float = 4.0
    calm_core: float = 0.1
    patience_seconds: float = 120.0


@dataclass
class Size:
    """Of one number of users. ``cpu_us`` of each burst, the pairs' quotients in ``grown_pairs``."""

    users: int
    cpu_us: list[float] = field(default_factory=list)
    grown_pairs: list[float] = field(default_factory=list)
    rankings_per_event: float = 0.0
    deliveries_per_event: float = 0.0
    cold: Return | None = None
    warm: Return | None = None
    rss_bytes: int = 0
    disk_bytes_per_user: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "users": self.users, "cpu_us_per_event": round(median(self.cpu_us), 1) if self.cpu_us else None,
            "bursts_cpu_us_per_event": [round(us, 1) for us in self.cpu_us],
            "grown": round(median(self.grown_pairs) - 1, 3) if self.grown_pairs else None,
            "grown_pairs": [round(pair - 1, 3) for pair in self.grown_pairs],
            "rankings_per_event": round(self.rankings_per_event, 2), "deliveries_per_event": round(self.deliveries_per_event, 2),
            "rss_mb": round(self.rss_bytes / 1e6), "disk_bytes_per_user": round(self.disk_bytes_per_user),
            "cold_recovery": asdict(self.cold) if self.cold else None, "warm_restart": asdict(self.warm) if self.warm else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Burst:
    cpu_us_per_event: float
    rankings_per_event: float
    deliveries_per_event: float


async def measure_growth(harness: Harness, plan: GrowthPlan, say: Callable[[str], None], sizes: list[Size]) -> None:
    """Adds a Size as soon as something is known of it. Raises BenchError."""
    async with _worker(harness, plan, "few", say) as few, _worker(harness, plan, "many", say) as many:
        sizes.append(first := Size(plan.users))
        base = await many.base()
        few_users, numbers = list(await few.base()), count()

        async def of_few() -> Burst:
            number = next(numbers)
            return await few.burst(_drawn(few_users, plan.burst_events, number), 1, number)

        for times in plan.times[1:]:
            sizes.append(size := Size(plan.users * times))
            say(f"writing the state of {plan.users * times:,} users")
            await many.become(base, times)
            say(f"cold recovery of {plan.users * times:,} users")
            size.cold = await many.restart(lost=True)
            await many.until_calm()
            # The one with few has just worked; the other has done nothing yet but to recover.
            await many.burst(_drawn(list(base), plan.burst_events, plan.pairs), times, plan.pairs)
            before = await of_few()
            for pair in range(plan.pairs):
                say(f"an event each of {plan.burst_events:,} of {size.users:,} users, burst {pair + 1}")
                own = await many.burst(_drawn(list(base), plan.burst_events, pair), times, pair)
                after = await of_few()
                size.cpu_us.append(own.cpu_us_per_event)
                size.grown_pairs.append(own.cpu_us_per_event / mean((before.cpu_us_per_event, after.cpu_us_per_event)))
                size.rankings_per_event, size.deliveries_per_event = own.rankings_per_event, own.deliveries_per_event
                first.cpu_us += [before.cpu_us_per_event] if not pair else []
                first.cpu_us.append(after.cpu_us_per_event)
                first.rankings_per_event, first.deliveries_per_event = after.rankings_per_event, after.deliveries_per_event
                before = after
            size.rss_bytes, size.disk_bytes_per_user = many.process.rss_bytes(), many.process.disk_bytes() / size.users
            say(f"warm restart with {size.users:,} users, after SIGKILL")
            size.warm = await many.restart(lost=False)
        first.rss_bytes, first.disk_bytes_per_user = few.process.rss_bytes(), few.process.disk_bytes() / first.users
        first.warm = await few.restart(lost=False)
        first.cold = await few.restart(lost=True)


def _drawn(users: list[bytes], burst_events: int, number: int) -> list[bytes]:
    """Whom burst ``number`` meets: nobody twice in it, and nobody again before everybody was met, or almost."""
    ordered = sorted(users)
    Random(_SEED + 1).shuffle(ordered)
    return list(islice(cycle(ordered), number * burst_events, (number + 1) * burst_events))


@dataclass
class _Worker:
    """One worker with a receiver of its own and topics of its own."""

    process: MeasuredWorker
    running: Callable[[], RunningWorker]
    names: TopicNames
    bootstrap_servers: str
    plan: GrowthPlan
    written: int = 1

    async def base(self) -> dict[bytes, dict[str, bytes]]:
        """User to what each table keyed by user holds of them."""
        held: dict[bytes, dict[str, bytes]] = {}
        for table in ("profiles", "neighbours", "outbox"):
            for key, value in (await read_back(self.bootstrap_servers, self.names.changelogs[table])).items():
                held.setdefault(key, {})[table] = value
        return {key: tables for key, tables in held.items() if "profiles" in tables and "outbox" in tables}

    async def become(self, base: Mapping[bytes, Mapping[str, bytes]], times: int) -> None:
        """Write each user's state under further names, up to ``times`` in all."""
        await self.process.kill()
        for table in ("profiles", "neighbours", "outbox"):
            await fill(self.bootstrap_servers, self.names.changelogs[table], _copies(base, table, self.written, times))
        self.written = times

    async def restart(self, *, lost: bool) -> Return:
        await self.process.kill()
        if lost:
            shutil.rmtree(self.process.data_dir)
        back = await self.process.start()
        await until_idle(self.running())
        return back

    async def until_calm(self) -> None:
        plan, deadline = self.plan, time.monotonic() + self.plan.patience_seconds
        while time.monotonic() < deadline:
            worker, since = self.running(), time.monotonic()
            before = worker.cpu_seconds()
            await asyncio.sleep(plan.quiet_seconds)
            if core_used(worker, before, since) < plan.calm_core:
                return
        raise BenchError(f"{plan.patience_seconds:g} s after a recovery the worker still uses more than {plan.calm_core:.0%} of a core")

    async def burst(self, users: Sequence[bytes], times: int, number: int) -> Burst:
        """An event of each, and all that follows from it. No two bursts of a worker have the same ``number`` and ``times``."""
        worker, counted = self.running(), len(_COUNTED)
        records = list(_events(users, times, number, self.plan))
        before, cpu = await worker.metrics(*_COUNTED), worker.cpu_seconds()
        await fill(self.bootstrap_servers, self.names.events, records)
        last, moved_at, used = before, time.monotonic(), cpu
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            found = await worker.metrics(*_COUNTED, *_WAITING)
            now, counts, waiting = time.monotonic(), found[:counted], sum(found[counted:])
            if counts != last:
                last, moved_at, used = counts, now, worker.cpu_seconds()
            elif counts[0] - before[0] >= len(records) and not waiting and now - moved_at > _QUIET_SECONDS:
                break
            elif now - moved_at > _STALL_SECONDS:
                raise BenchError(f"{counts[0] - before[0]:,.0f} of {len(records):,} events applied, and nothing moves any more")
        made = [after - then for after, then in zip(last, before, strict=True)]
        if made[0] != len(records):
            raise BenchError(f"{made[0]:,.0f} of {len(records):,} events applied")
        return Burst((used - cpu) / len(records) * 1e6, made[2] / len(records), made[3] / len(records))


@asynccontextmanager
async def _worker(harness: Harness, plan: GrowthPlan, role: str, say: Callable[[str], None]) -> AsyncIterator[_Worker]:
    name, port = harness.new_name(f"growth-{role}"), free_port()
    headers = {"authorization": f"Bearer {ENVIRONMENT['BENCH_TOKEN']}"}
    async with harness.receiver() as receiver_url, aiohttp.ClientSession(headers=headers, trust_env=False) as http:
        settings = worker_settings(
            name=name, bootstrap_servers=harness.bootstrap_servers, partitions=PARTITIONS, data_dir=harness.directory / name, port=port,
            webhook_url=receiver_url + HOOK,
        )
        settings["kafka"] |= {"session_timeout_seconds": 6, "heartbeat_interval_seconds": 1}
        kafka = KafkaSettings.model_validate(settings["kafka"])
        await create_topics(kafka)
        names = TopicNames.of(kafka)
        await fill(harness.bootstrap_servers, names.events, ShopEvents(plan.users, plan.warm_up_events, PARTITIONS).records())
        process = MeasuredWorker(harness.directory, settings, port, http, harness.cores.for_system())
        worker = _Worker(
            process, lambda: RunningWorker(process.pid, f"http://127.0.0.1:{port}", receiver_url, http, plan.warm_up_events), names,
            harness.bootstrap_servers, plan,
        )
        try:
            say(f"{plan.warm_up_events:,} events make {plan.users:,} users")
            await process.start()
            await until_warm(worker.running(), lambda: process.returncode is None, plan.warm_up_events)
            yield worker
        finally:
            await process.kill()
            shutil.rmtree(Path(process.data_dir), ignore_errors=True)
            await delete_topics(harness.bootstrap_servers, name)


def _name(user: bytes, copy: int) -> bytes:
    return b"%s.%d" % (user, copy) if copy else user


def _copies(base: Mapping[bytes, Mapping[str, bytes]], table: str, first: int, end: int) -> Iterator[Record]:
    profile, entry = Profile(), OutboxEntry()
    for user, tables in base.items():
        if (value := tables.get(table)) is None:
            continue
        if table == "profiles":
            profile.ParseFromString(value)
        elif table == "outbox":
            entry.ParseFromString(value)
        for copy in range(first, end):
            key = _name(user, copy)
            if table == "profiles":
                profile.user_id = key.decode()
                value = profile.SerializeToString()
            elif table == "outbox":
                entry.user_id = entry.update.user_id = key.decode()
                value = entry.SerializeToString()
            yield Record(partition_of(key, PARTITIONS), key, value)


def _events(users: Sequence[bytes], times: int, number: int, plan: GrowthPlan) -> Iterator[Record]:
    """One of each, some minutes after what made them and after the burst before; of each user any of the names."""
    random, popular = Random(_SEED + number), _Zipf(5_000)
    began_ms = FIRST_EVENT_MS + int(plan.warm_up_events * MEAN_GAP_MS / plan.users) + (number + 1) * MEAN_GAP_MS // 2
    for i, user in enumerate(users):
        event = _shop_event(random.random(), i, lambda: f"product-{popular.draw(random)}")
        key = _name(user, random.randrange(times))
        event.event_id = f"{times:x}-{number:x}-{key.decode()}"
        event.user_id, event.occurred_at_ms, event.source = key.decode(), began_ms + i, "bench"
        yield Record(partition_of(key, PARTITIONS), key, event.SerializeToString())
