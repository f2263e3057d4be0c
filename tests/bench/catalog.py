"""The catalog: how long a whole one takes from the shop to every answer, and what changes of prices and stock cost while events flow.

The worker is `tidings worker` as it is, on its core; the broker, what feeds it and the webhook receiver share the other. A product counts
as loaded when the worker's copy of the catalog has it, which is what ranking reads.

The changes flow open loop, whatever becomes of them: a worker that does not keep up falls behind further and further. So every wait has a
bound, after which the measurement goes on with the next step, and says at its end what was not reached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from random import Random
from statistics import median
from typing import Any

from rich.table import Table

from app.domain.product_validation import product_key
from app.streams.publisher import partition_of
from tests.bench.broker import fill, read_back
from tests.bench.harness import PARTITIONS, BenchError, Harness
from tests.bench.running import Feed, Flow, Plan, RunningWorker, core_used, running_worker, until_idle
from tests.bench.workload import FIRST_EVENT_MS, Record
from tidings.events.v1.event_pb2 import Money
from tidings.products.v1.product_pb2 import AttributeValues, Product
from tidings.state.v1.catalog_entry_pb2 import CatalogEntry

_SEED = 7
_LOOK_SECONDS = 0.1
#: Between two looks for a probe.
_POLL_SECONDS = 0.01
_BETWEEN_PROBES_SECONDS = 0.3
#: Nothing has moved for so long: a burst of events is seen through.
_QUIET_SECONDS = 2.0
#: Later than this, a load or what waits at the end of a step counts as lost.
_LOST_SECONDS = 180.0
#: Between two words on how far a wait is.
_SAY_SECONDS = 5.0
#: What issue 4 asks for.
LOAD_TARGET_SECONDS, IN_FORCE_TARGET_SECONDS, SENT_TARGET = 60.0, 1.0, 0.95


@dataclass(frozen=True)
class CatalogPlan:
    """How much is measured."""

    products: int = 200_000
    changes_per_second: float = 5_000.0
    #: Events that flow beside the changes while probes ask how long a change takes.
    events_per_second: float = 100.0
    probes: int = 30
    #: For how long the changes flow alone, to see what one costs.
    alone_seconds: float = 8.0
    #: Events of a burst, and the pairs of bursts without and with changes.
    burst_events: int = 8_000
    pairs: int = 3
    #: A probe that is later says that the changes are not kept up with: the step ends.
    late_seconds: float = 15.0
    #: A burst that takes longer is broken off.
    burst_seconds: float = 90.0
    #: For all of it, start to end; longer than all waits that go well, and shorter than all that do not.
    max_seconds: float = 900.0
    worker: Plan = field(default_factory=lambda: Plan(warm_up_events=20_000))


@dataclass(frozen=True)
class CatalogFigures:
    """``seconds`` from the first product sent to the last one in the copy; ``cpu`` of the worker, in µs a product or change."""

    products: int
    load_seconds: float
    load_cpu_us: float
    worker_rss_mb: float
    changes_per_second: float
    #: While nothing else is done: the worker's processor time a change, and the part of its core.
    change_cpu_us: float
    changes_core: float
    #: Sent a second, as it came out; and how long after the last one the copy had all.
    changes_sent_per_second: float
    behind_seconds: float
    #: From sending a product to the copy having it, while changes and events flow.
    probe_p50_ms: float
    probe_max_ms: float
    events_per_second: float
    worker_core: float
    #: Worked off from a backlog: medians without and with changes, and the share that is left, pair by pair.
    burst_events_per_second: float
    burst_events_per_second_with_changes: float
    burst_shares: list[float]
    #: As the probes above, while a backlog of events is worked off.
    burst_probe_p50_ms: float
    burst_probe_max_ms: float
    #: In words: targets that were missed, and steps that were broken off.
    not_reached: list[str]

    def as_json(self) -> dict[str, Any]:
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}


async def measure_catalog(harness: Harness, plan: CatalogPlan, say: Callable[[str], None]) -> CatalogFigures:
    """Raises BenchError when something is lost, or the table does not hold what was sent; or when it takes longer than the plan grants."""
    said = ""

    def note(what: str) -> None:
        nonlocal said
        said = what
        say(what)

    try:
        async with asyncio.timeout(plan.max_seconds) as bound:
            return await _measure(harness, plan, note)
    except TimeoutError:
        if not bound.expired():
            raise
        raise BenchError(f"the catalog was not measured within {plan.max_seconds:g} s; the last step was: {said}") from None


async def _measure(harness: Harness, plan: CatalogPlan, say: Callable[[str], None]) -> CatalogFigures:
    async with running_worker(harness, plan.worker, say) as (worker, feed):
        shelf = _Shelf(worker, feed, plan.late_seconds, say)
        say(f"loading {plan.products:,} products")
        cpu, began = worker.cpu_seconds(), time.monotonic()
        await shelf.load(harness, plan.products)
        load_seconds, load_cpu_us = time.monotonic() - began, (worker.cpu_seconds() - cpu) / plan.products * 1e6
        changes = _Changes(feed, shelf.topic, plan)
        say(f"{plan.changes_per_second:,.0f} changes/s alone")
        alone = await _alone(worker, changes, plan.alone_seconds)
        await shelf.is_current()
        say(f"{plan.probes} probes while {plan.changes_per_second:,.0f} changes/s and {plan.events_per_second:,.0f} events/s flow")
        broken_off: list[str] = []
        steady = await _steady(worker, feed, shelf, changes, plan, broken_off)
        shares: list[float] = []
        rates: dict[bool, list[float]] = {False: [], True: []}
        probes: list[float] = []
        for number in range(plan.pairs):
            # With changes before the one without them in every other pair, for the machine's speed drifts.
            for with_changes in (False, True)[:: 1 if number % 2 == 0 else -1]:
                what = f"pair {number + 1}: {plan.burst_events:,} events, with{'' if with_changes else 'out'} changes"
                say(what)
                async with _flowing(changes, shelf, probes, plan.late_seconds) if with_changes else _nothing():
                    rate, is_done = await _burst(harness, worker, feed, plan, say)
                rates[with_changes].append(rate)
                if not is_done:
                    broken_off.append(f"{what}: not worked off within {plan.burst_seconds:g} s")
                await shelf.is_current()
                await until_idle(worker)
            shares.append(rates[True][-1] / rates[False][-1])
        rss_mb = _rss_mb(worker.pid)
        await _check(harness, shelf, changes)
    figures = CatalogFigures(
        plan.products, load_seconds, load_cpu_us, rss_mb, plan.changes_per_second, **alone, **steady,
        burst_events_per_second=median(rates[False]), burst_events_per_second_with_changes=median(rates[True]),
        burst_shares=[round(share, 3) for share in shares], burst_probe_p50_ms=median(probes) * 1000, burst_probe_max_ms=max(probes) * 1000,
        not_reached=broken_off,
    )
    return replace(figures, not_reached=[*broken_off, *missed_targets(figures)])


def missed_targets(figures: CatalogFigures) -> list[str]:
    """What issue 4 asks for and these figures do not show, in words."""
    missed = []
    if figures.products >= 200_000 and figures.load_seconds > LOAD_TARGET_SECONDS:
        missed.append(f"{figures.products:,} products took {figures.load_seconds:,.0f} s, more than {LOAD_TARGET_SECONDS:g} s")
    if figures.changes_sent_per_second < SENT_TARGET * figures.changes_per_second:
        sent = figures.changes_sent_per_second
        missed.append(f"only {sent:,.0f} of {figures.changes_per_second:,.0f} changes/s were sent: the machine is too busy for the feeder")
    for what, max_ms in (("while events flow", figures.probe_max_ms), ("behind a backlog", figures.burst_probe_max_ms)):
        if max_ms > IN_FORCE_TARGET_SECONDS * 1000:
            missed.append(f"{what}, a product was in the copy after {max_ms / 1000:.1f} s only, more than {IN_FORCE_TARGET_SECONDS:g} s")
    return missed


def catalog_table(figures: CatalogFigures) -> Table:
    table = Table(title="The catalog, with one worker that does all else too", title_justify="left", title_style="bold", show_header=False)
    table.add_column("what")
    table.add_column("figure", justify="right")
    shares = " ".join(f"{share:.2f}" for share in figures.burst_shares)
    for what, figure in (
        (f"{figures.products:,} products, from the first one sent to the last one in the copy", f"{figures.load_seconds:,.1f} s"),
        ("the worker's processor time for each", f"{figures.load_cpu_us:,.0f} µs"),
        ("the worker's peak memory", f"{figures.worker_rss_mb:,.0f} MB"),
        (f"{figures.changes_per_second:,.0f} changes/s alone: processor time for each", f"{figures.change_cpu_us:,.0f} µs"),
        ("the worker's core", f"{figures.changes_core:.0%}"),
        (f"beside {figures.events_per_second:,.0f} events/s: changes sent a second", f"{figures.changes_sent_per_second:,.0f}"),
        ("the copy has the last of them after", f"{figures.behind_seconds * 1000:,.0f} ms"),
        ("a product sent meanwhile is in the copy after, p50", f"{figures.probe_p50_ms:,.0f} ms"),
        ("the slowest", f"{figures.probe_max_ms:,.0f} ms"),
        ("the worker's core", f"{figures.worker_core:.0%}"),
        ("events/s worked off from a backlog", f"{figures.burst_events_per_second:,.0f}"),
        ("the same while the changes flow", f"{figures.burst_events_per_second_with_changes:,.0f}"),
        ("a product sent meanwhile is in the copy after, p50", f"{figures.burst_probe_p50_ms:,.0f} ms"),
        ("the slowest", f"{figures.burst_probe_max_ms:,.0f} ms"),
        (f"part of the events/s that is left, pair by pair: {shares}", f"{median(figures.burst_shares):.2f}"),
    ):
        table.add_row(what, figure)
    for what in figures.not_reached:
        table.add_row(f"NOT REACHED: {what}", "")
    return table


def product(number: int, random: Random) -> Product:
    """Some 250 bytes, as a shop's feed has them."""
    return Product(
        product_id=f"product-{number}", title=f"A product of the shop, number {number}", url=f"https://shop.example/products/{number}",
        image_url=f"https://images.shop.example/{number}-large.jpg",
        price=Money(minor_units=random.randrange(100, 100_000), currency_code="EUR"),
        in_stock=True, brand=f"Brand {number % 500}",
        categories=[f"Department {number % 20} > Section {number % 400}", f"Season {number % 4}"],
        attributes={"colour": AttributeValues(values=["red"]), "size": AttributeValues(values=["42", "43"])},
        published_at_ms=FIRST_EVENT_MS + number * 1000,
    )  # fmt: skip


def _record(one: Product) -> Record:
    return Record(partition_of(one.product_id.encode(), PARTITIONS), product_key(one), one.SerializeToString())


class _Shelf:
    """The products topic, and what the worker's copy of the catalog counts."""

    def __init__(self, worker: RunningWorker, feed: Feed, late_seconds: float, say: Callable[[str], None]) -> None:
        self.topic = feed.topic.replace(".events.", ".products.")
        #: Products sent; they are numbered from 0.
        self.count = 0
        self._worker, self._feed, self._late_seconds, self._say = worker, feed, late_seconds, say

    async def load(self, harness: Harness, count: int) -> None:
        """From the first product sent to the last one in the copy."""
        random = Random(_SEED)
        await fill(harness.bootstrap_servers, self.topic, (_record(product(number, random)) for number in range(count)))
        self.count = count
        await self._are_in_the_copy(_LOOK_SECONDS)

    async def probe(self) -> float:
        """Seconds from sending a new product to the copy counting it. Raises TimeoutError when it is late."""
        began = time.monotonic()
        await self._send(_record(product(self.count, Random(self.count))))
        async with asyncio.timeout(self._late_seconds):
            await self._are_in_the_copy(_POLL_SECONDS)
        return time.monotonic() - began

    async def is_current(self) -> None:
        """Until all that was sent before is in the copy: a product more at the end of each partition is."""
        partitions = set(range(PARTITIONS))
        while partitions:
            record = _record(product(self.count, Random(self.count)))
            partitions.discard(record.partition)
            await self._send(record)
        await self._are_in_the_copy(_POLL_SECONDS)

    async def _send(self, record: Record) -> None:
        await self._feed.producer.send_and_wait(self.topic, record.value, record.key, partition=record.partition)
        self.count += 1

    async def _are_in_the_copy(self, look_seconds: float) -> None:
        began = said = time.monotonic()
        while (held := await self._worker.metric("tidings_catalog_products_count")) < self.count:
            now = time.monotonic()
            if now - began > _LOST_SECONDS:
                raise BenchError(f"{held:,.0f} of {self.count:,} products in the copy after {_LOST_SECONDS:g} s")
            if now - said > _SAY_SECONDS:
                said = now
                self._say(f"{held:,.0f} of {self.count:,} products in the copy after {now - began:.0f} s")
            await asyncio.sleep(look_seconds)


class _Changes:
    """Changes of price and stock of products drawn at random, sent open loop while ``flowing``."""

    def __init__(self, feed: Feed, topic: str, plan: CatalogPlan) -> None:
        self.sent = 0
        #: What each changed product costs in the end.
        self.prices: dict[str, int] = {}
        self._feed, self._topic, self._plan = feed, topic, plan
        self._random = Random(_SEED + 1)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
            if task.done():
                raise BenchError(f"the feeder of changes ended: {task.exception()!r}")
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        owed, then = 0.0, time.monotonic()
        while True:
            now = time.monotonic()
            owed, then = owed + (now - then) * self._plan.changes_per_second, now
            due = int(owed)
            owed -= due
            await self._send(due)
            await asyncio.sleep(0.02)

    async def _send(self, count: int) -> None:
        """A batch for each partition: to send them one by one would cost more than all that is measured."""
        batches: dict[int, Any] = {}
        for one in islice(self._drawn(), count):
            partition, key, value = _record(one)
            if (batch := batches.get(partition)) is None:
                batch = batches[partition] = self._feed.producer.create_batch()
            if batch.append(key=key, value=value, timestamp=None) is None:  # full
                await self._feed.producer.send_batch(batch, self._topic, partition=partition)
                batch = batches[partition] = self._feed.producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
            self.prices[one.product_id] = one.price.minor_units
        for partition, batch in batches.items():
            await self._feed.producer.send_batch(batch, self._topic, partition=partition)
        self.sent += count

    def _drawn(self) -> Iterator[Product]:
        random, products = self._random, self._plan.products
        while True:
            yield Product(
                product_id=f"product-{random.randrange(products)}", changed_fields=["in_stock", "price"], in_stock=random.random() < 0.9,
                price=Money(minor_units=random.randrange(100, 100_000), currency_code="EUR"),
            )


async def _alone(worker: RunningWorker, changes: _Changes, seconds: float) -> dict[str, float]:
    async with changes.flowing():
        await asyncio.sleep(2)
        used, began, folded = worker.cpu_seconds(), time.monotonic(), await worker.metric("tidings_products_total{")
        await asyncio.sleep(seconds)
        core = core_used(worker, used, began)
        folded = await worker.metric("tidings_products_total{") - folded
    return {"change_cpu_us": core * seconds / max(1.0, folded) * 1e6, "changes_core": core}


async def _steady(
    worker: RunningWorker, feed: Feed, shelf: _Shelf, changes: _Changes, plan: CatalogPlan, broken_off: list[str]
) -> dict[str, float]:
    """Changes and events for as long as the probes take, one after another; a late one is the last."""
    flow = Flow(worker, feed)
    flow.rate = plan.events_per_second
    flowing = asyncio.create_task(flow.run())
    try:
        async with changes.flowing():
            await asyncio.sleep(2)
            sent, used, began = changes.sent, worker.cpu_seconds(), time.monotonic()
            seconds = []
            for number in range(plan.probes):
                try:
                    seconds.append(await shelf.probe())
                except TimeoutError:
                    seconds.append(plan.late_seconds)
                    broken_off.append(
                        f"{plan.changes_per_second:,.0f} changes/s beside {plan.events_per_second:,.0f} events/s: not kept up with, "
                        f"probe {number + 1} of {plan.probes} took more than {plan.late_seconds:g} s"
                    )
                    break
                await asyncio.sleep(_BETWEEN_PROBES_SECONDS)
            sent_per_second = (changes.sent - sent) / (time.monotonic() - began)
            core = core_used(worker, used, began)
        ended = time.monotonic()
        await shelf.is_current()
        behind = time.monotonic() - ended
    finally:
        flowing.cancel()
        with suppress(asyncio.CancelledError):
            await flowing
    await until_idle(worker)
    return {
        "changes_sent_per_second": sent_per_second, "behind_seconds": behind, "probe_p50_ms": median(seconds) * 1000,
        "probe_max_ms": max(seconds) * 1000, "events_per_second": plan.events_per_second, "worker_core": core,
    }


@asynccontextmanager
async def _flowing(changes: _Changes, shelf: _Shelf, probes: list[float], late_seconds: float) -> AsyncIterator[None]:
    """Changes, and one probe after another, whose seconds are added to ``probes``."""

    async def probe() -> None:
        while True:
            try:
                probes.append(await shelf.probe())
            except TimeoutError:
                probes.append(late_seconds)
                return  # the next ones would be later still
            await asyncio.sleep(_BETWEEN_PROBES_SECONDS)

    probing = asyncio.create_task(probe())
    try:
        async with changes.flowing():
            yield
            if not probes:
                await probing
    finally:
        probing.cancel()
        with suppress(asyncio.CancelledError):
            await probing


async def _burst(
    harness: Harness, worker: RunningWorker, feed: Feed, plan: CatalogPlan, say: Callable[[str], None]
) -> tuple[float, bool]:
    """Events a second of a backlog, until all that it causes is done, and True; what was done in the time that it may take, and False."""
    names = ("tidings_events_total{", "tidings_visits_total{", "tidings_rankings_total{", "tidings_deliveries_total{")
    count, before = plan.burst_events, await worker.metrics(*names)
    began = moved_at = said = time.monotonic()
    await fill(harness.bootstrap_servers, feed.topic, islice(feed.records, count))
    last = before
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        *counts, due = await worker.metrics(*names, "tidings_outbox_due_users{")
        now, applied = time.monotonic(), counts[0] - before[0]
        if counts != last:
            last, moved_at = counts, now
        elif not due and applied >= count and now - moved_at > _QUIET_SECONDS:
            return count / (moved_at - began), True
        if now - began > plan.burst_seconds:
            return applied / (now - began), False
        if now - said > _SAY_SECONDS:
            said = now
            say(f"{applied:,.0f} of {count:,} events applied, {due:,.0f} users due after {now - began:.0f} s")


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def _check(harness: Harness, shelf: _Shelf, changes: _Changes) -> None:
    """The products table holds each product, and those that were changed at the price that they were given last."""
    name = shelf.topic.removesuffix(".products.v1")
    held = await read_back(harness.bootstrap_servers, f"{name}-products-changelog")
    prices = {key.decode(): CatalogEntry.FromString(value).product.price.minor_units for key, value in held.items()}
    wrong = [product_id for product_id, price in changes.prices.items() if prices.get(product_id) != price]
    if wrong or len(held) != shelf.count:
        raise BenchError(
            f"{len(held)} of {shelf.count} products are in the table, {len(wrong)} of {len(changes.prices)} changed ones at another price"
        )


def _rss_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1000

