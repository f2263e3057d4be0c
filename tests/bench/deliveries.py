"""What a delivery costs beside a bare HTTP client that sends the same bodies, and what three unwell destinations cost a healthy one.

Both clients are on the system's core, the receiver beside the broker. Ours takes the users from a full outbox on Kafka and writes every
outcome there; the bare one is aiohttp's ClientSession as its documentation has it, with as many requests at once, the bodies at hand.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from rich.table import Table

from app.cli.embedded_broker import free_port
from app.delivery import outbox
from app.destinations.requests import Part, Rendered, SigningKey
from app.destinations.webhook import Webhook
from app.settings import KafkaSettings
from app.streams.publisher import partition_of
from app.streams.topics import create_topics
from tests.bench.broker import delete_topics, fill
from tests.bench.harness import PARTITIONS, BenchError, Harness
from tests.bench.latency import Latency, measure_probes, quantiles_of
from tests.bench.protocol import Assignment
from tests.bench.receiver import HOOK
from tests.bench.running import Flow, Plan, RunningWorker, running_worker
from tests.bench.unwell import KINDS
from tests.bench.worker_settings import as_toml, worker_settings
from tests.bench.workload import Record
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import ReasonKind, RecommendationUpdate

BARE_CLIENT = (sys.executable, "-m", "tests.bench.systems.bare_aiohttp_client")
#: Deliveries a core-second over the bare client's requests a core-second that are wanted.
AT_LEAST = 0.4
#: What the healthy destination's p99 may move while others are unwell.
AT_MOST_MOVED = 0.10
#: Before these the worker is still recovering and warming up.
_SKIPPED_SHARE = 0.1
_WAIT_SECONDS = 120.0
_U32 = struct.Struct("<I")


@dataclass(frozen=True)
class DeliveryPlan:
    """``deliveries`` in each run, ``rounds`` of both clients in turn; and rate, probes and rounds of the healthy among the unwell."""

    deliveries: int = 30_000
    rounds: int = 3
    events_per_second: float = 80.0
    probes: Plan = field(default_factory=lambda: Plan(warm_up_events=5_000, probes=600, probes_per_second=15))
    isolation_rounds: int = 2


@dataclass(frozen=True)
class DeliveryFigures:
    """A second of processor time; medians of the rounds, and the ratios round by round. Latency of the healthy destination in ms."""

    deliveries_per_core_second: float
    bare_per_core_second: float
    ratios: list[float]
    #: Event to delivery at the healthy destination: all four well, and three of them unwell, round by round.
    well: list[Latency]
    unwell: list[Latency]
    recovered_seconds: list[float]

    def as_json(self) -> dict[str, Any]:
        rounded = {key: round(value, 3) for key, value in asdict(self).items() if isinstance(value, float)}
        return rounded | {
            "ratios": [round(ratio, 3) for ratio in self.ratios],
            "healthy_p99_ms": [[round(a.p99_ms, 1), round(b.p99_ms, 1)] for a, b in zip(self.well, self.unwell, strict=True)],
            "healthy_p99_moved": [round(moved, 3) for moved in self.moved],
            "recovered_seconds": [round(seconds, 1) for seconds in self.recovered_seconds],
        }

    @property
    def moved(self) -> list[float]:
        return [unwell.p99_ms / well.p99_ms - 1 for well, unwell in zip(self.well, self.unwell, strict=True)]


async def measure_deliveries(harness: Harness, plan: DeliveryPlan, say: Callable[[str], None]) -> DeliveryFigures:
    """Raises BenchError when a body is lost, or another than the outbox had."""
    ours, bare = [], []
    for number in range(plan.rounds):
        say(f"deliveries from a full outbox, round {number + 1}")
        ours.append(await _from_a_full_outbox(harness, plan.deliveries))
        say(f"the bare client, round {number + 1}")
        bare.append(await _by_the_bare_client(harness, plan.deliveries))
    well, unwell, recovered = [], [], []
    for number in range(plan.isolation_rounds):
        before, meanwhile, seconds = await _among_the_unwell(harness, plan, lambda what, n=number: say(f"round {n + 1}: {what}"))
        well.append(before)
        unwell.append(meanwhile)
        recovered.append(seconds)
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    return DeliveryFigures(median(ours), median(bare), ratios, well, unwell, recovered)


def deliveries_table(figures: DeliveryFigures) -> Table:
    table = Table(title="Deliveries to a local receiver", title_justify="left", title_style="bold")
    for heading in ("what", "figure", "wanted"):
        table.add_column(heading)
    ratio, moved = median(figures.ratios), median(figures.moved) if figures.moved else 0.0
    table.add_row("deliveries a core-second, outbox and all", f"{figures.deliveries_per_core_second:,.0f}", "")
    table.add_row("requests a core-second of a bare aiohttp client", f"{figures.bare_per_core_second:,.0f}", "")
    table.add_row("ratio", f"{ratio:.2f} ({' '.join(f'{r:.2f}' for r in figures.ratios)})", _said(ratio >= AT_LEAST, f"{AT_LEAST:g}"))
    for a, b, seconds in zip(figures.well, figures.unwell, figures.recovered_seconds, strict=True):
        table.add_row("p99 of the healthy one, all well / three unwell", f"{a.p99_ms:.0f} / {b.p99_ms:.0f} ms", "")
        table.add_row("until the unwell had everything once they were well", f"{seconds:.0f} s", "")
    if figures.moved:
        table.add_row("moved", f"{moved:+.0%}", _said(moved < AT_MOST_MOVED, f"below {AT_MOST_MOVED:.0%}"))
    return table


def _said(is_reached: bool, wanted: str) -> str:
    return f"{wanted}: " + ("reached" if is_reached else "[bold red]not reached[/]")


# From a full outbox ---------------------------------------------------------------------------------------------------------


def _person(number: int) -> tuple[Profile, RecommendationUpdate]:
    """As most are: a session, two attributes, a list of twenty with their reasons."""
    user_id = f"user-{number}"
    profile = Profile(user_id=user_id, first_event_at_ms=1_700_000_000_000, last_event_at_ms=1_700_000_100_000, event_count=12)
    profile.session.product_ids.extend(f"product-{(number * 7 + i) % 5000}" for i in range(5))
    profile.attributes.add(name="city", text="Graz", changed_at_ms=1_700_000_000_000)
    profile.attributes.add(name="email", text=f"{user_id}@example.com", changed_at_ms=1_700_000_000_000)
    update = RecommendationUpdate(
        user_id=user_id, version=1, ranked_at_ms=1_700_000_100_500, caused_at_ms=1_700_000_100_400, current_to_ms=1_700_000_100_000
    )
    for i in range(20):
        recommendation = update.recommendations.add(product_id=f"product-{(number * 13 + i * 17) % 5000}", score=1 / (i + 1))
        recommendation.reason.kind = ReasonKind.REASON_KIND_ALSO_VIEWED
        recommendation.reason.because_of = f"product-{(number * 7 + i % 5) % 5000}"
    return profile, update


def _records_of(count: int, target: str) -> Iterator[tuple[Record, Record]]:
    """Of the profiles' changelog and of the outbox's, in which everyone is due at the target."""
    for number in range(count):
        profile, update = _person(number)
        entry = OutboxEntry(user_id=profile.user_id, update=update, list_digest=number + 1)
        outbox.mark_due(entry, [target])
        key = profile.user_id.encode()
        partition = partition_of(key, PARTITIONS)
        yield Record(partition, key, profile.SerializeToString()), Record(partition, key, entry.SerializeToString())


async def _from_a_full_outbox(harness: Harness, count: int) -> float:
    """Deliveries a second of the worker's processor time, of all but the first."""
    name, port = harness.new_name("deliveries"), free_port()
    async with harness.receiver() as receiver_url:
        settings = worker_settings(
            name=name, bootstrap_servers=harness.bootstrap_servers, partitions=PARTITIONS, data_dir=harness.directory / name, port=port,
            webhook_url=receiver_url + HOOK,
        )
        path = harness.directory / f"{name}.toml"
        path.write_text(as_toml(settings))
        await create_topics(KafkaSettings.model_validate(settings["kafka"]))
        profiles, entries = zip(*_records_of(count, "bench"), strict=True)
        await fill(harness.bootstrap_servers, f"{name}-profiles-changelog", profiles)
        await fill(harness.bootstrap_servers, f"{name}-outbox-changelog", entries)
        command = (sys.executable, "-m", "app", "worker", "--settings", str(path))
        async with harness.process(command, name) as process, aiohttp.ClientSession() as session:
            worker = RunningWorker(process.pid, f"http://127.0.0.1:{port}", receiver_url, session, 0)
            first = await _until_bodies(worker, int(count * _SKIPPED_SHARE))
            cpu = worker.cpu_seconds()
            last = await _until_bodies(worker, count)
            rate = (last - first) / (worker.cpu_seconds() - cpu)
            if len(seen := await worker.seen("")) != count:
                raise BenchError(f"{name}: {len(seen)} of {count} users got their list")
        await delete_topics(harness.bootstrap_servers, name)
    return rate


async def _until_bodies(worker: RunningWorker, count: int) -> int:
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while (bodies := await worker.bodies()) < count:  # noqa: ASYNC110  # another process has no Event to wait for
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise BenchError(f"{bodies} of {count} bodies came within {_WAIT_SECONDS:g} s") from None
    return bodies


# The bare client --------------------------------------------------------------------------------------------------------------


async def _by_the_bare_client(harness: Harness, count: int) -> float:
    """Requests a second of its processor time."""
    name = harness.new_name("bare-aiohttp-client")
    data_dir = harness.directory / name
    data_dir.mkdir()
    await asyncio.to_thread(_write_bodies, data_dir / "bodies", count)
    async with harness.receiver() as receiver_url:
        assignment = Assignment(name, "deliveries", "", "", PARTITIONS, count, str(data_dir), webhook_url=receiver_url + HOOK)
        report = await harness.run(BARE_CLIENT, assignment)
    if report.events != count:
        raise BenchError(f"{name}: {report.events} of {count} requests were answered with 204")
    return count / report.cpu_seconds


def _write_bodies(file: Path, count: int) -> None:
    """The very bodies that the worker sends, each behind its length."""
    webhook = Webhook("bench", "http://127.0.0.1/", (SigningKey("v1", b"k" * 24),))
    with file.open("wb") as out:
        for number in range(count):
            profile, update = _person(number)
            part = webhook.encode(Rendered(update, profile))
            assert isinstance(part, Part)
            out.write(_U32.pack(len(part.body)) + part.body)


# A healthy one among the unwell -------------------------------------------------------------------------------------------------


async def _among_the_unwell(harness: Harness, plan: DeliveryPlan, say: Callable[[str], None]) -> tuple[Latency, Latency, float]:
    """Event to delivery at the healthy one, while all are well and while three are not; and how long those took to have everything."""
    async with unwell_receivers(harness) as unwell_url:
        others = [
            {"name": kind, "url": f"{unwell_url}/{kind}", "secret": "env:BENCH_WEBHOOK_SECRET", "allow_http": True}
            for kind in ("hanging", "failing", "throttling")
        ]
        async with running_worker(harness, plan.probes, say, targets=others) as (worker, feed):
            flowing = Flow(worker, feed)
            flow = asyncio.create_task(flowing.run())
            flowing.rate = plan.events_per_second
            try:
                await asyncio.sleep(2)
                say("all are well")
                well = await _healthy(worker, feed, plan, "well")
                await become(unwell_url, "unwell")
                await asyncio.sleep(5)
                say("three are unwell")
                unwell = await _healthy(worker, feed, plan, "unwell")
                flowing.rate = 0.0
                await become(unwell_url, "well")
                say("they are well again")
                began = time.monotonic()
                await _until_nobody_is_due(worker)
                await same_lists(worker, unwell_url)
                return well, unwell, time.monotonic() - began
            finally:
                flow.cancel()


async def _healthy(worker: RunningWorker, feed: Any, plan: DeliveryPlan, name: str) -> Latency:
    used = worker.cpu_seconds(), time.monotonic()
    probed = await measure_probes(worker, feed, plan.probes, f"probe-{name}-")
    core = (worker.cpu_seconds() - used[0]) / (time.monotonic() - used[1])
    return quantiles_of("event_to_delivery", 0.0, plan.events_per_second, core, probed["delivery"])


async def _until_nobody_is_due(worker: RunningWorker) -> None:
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while await worker.metric("tidings_outbox_due_users{"):  # noqa: ASYNC110  # the same
                await asyncio.sleep(0.25)
    except TimeoutError:
        due = await worker.metric("tidings_outbox_due_users{")
        raise BenchError(f"{_WAIT_SECONDS:g} s after all were well again, {due:,.0f} users still were not told") from None


async def same_lists(worker: RunningWorker, unwell_url: str, kinds: Collection[str] = KINDS) -> None:
    """Everyone's last list is the same at the healthy one and at all of ``kinds``, and no version went back anywhere."""
    async with worker.session.get(f"{worker.receiver_url}/seen") as response:
        wanted = (await response.json())["lists"]
    async with worker.session.get(f"{unwell_url}/seen") as response:
        found = await response.json()
        for name in kinds:
            seen = found[name]
            if seen["went_back"]:
                raise BenchError(f"{name}: {seen['went_back']} versions went back")
            if wrong := [user for user, list_ in wanted.items() if seen["lists"].get(user) != list_]:
                raise BenchError(f"{name}: {len(wrong)} of {len(wanted)} users have another list than at the healthy one, e.g. {wrong[0]}")


async def become(url: str, health: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/become/{health}") as response:
        response.raise_for_status()


@asynccontextmanager
async def unwell_receivers(harness: Harness) -> AsyncIterator[str]:
    command = (sys.executable, "-m", "tests.bench.unwell")
    async with harness.process(command, "unwell", measured=False) as process:
        assert process.stdout is not None
        if not (line := await process.stdout.readline()):
            raise BenchError("the unwell receivers ended")
        yield f"http://127.0.0.1:{int(line)}"
