"""``python -m tests.bench.soak``: a worker's memory over two million events, through a backlog, a burst and a destination that hangs.

The worker is `tidings worker` as it is, over Apache Kafka, with two webhook targets. Its resident memory is looked at all the time; what
is compared is the memory after a tenth of the events with that after all of them, each time with all folded, ranked and delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median

import aiohttp

from app.engine.allocator import GIVE_BACK_EVERY_SECONDS
from app.engine.held_memory import resident_bytes
from app.errors import TidingsError
from tests.bench.broker import fill
from tests.bench.deliveries import become, same_lists, unwell_receivers
from tests.bench.harness import BenchError, Cores, Harness
from tests.bench.running import Feed, Flow, Plan, RunningWorker, running_worker
from tests.brokers.apache_kafka import ROOT, ApacheKafka

MIB = 1024**2
#: Of all events: before the first figure; as one backlog; in the burst; while a destination hangs. The rest comes when it is well again.
FIRST, BACKLOG, BURST, HUNG = 0.1, 0.5, 0.05, 0.25
#: The burst is so many times as fast as what goes before it for some seconds.
TIMES, _SLOW_SECONDS = 10, 10
#: Events sent and not applied yet, where the feeder waits for the worker.
AHEAD = 20_000
_CHUNK = 5_000
_LOOK_SECONDS, _CLOSE_LOOK_SECONDS = 0.5, 0.1
#: Nothing applied, ranked or delivered for so long is a failure.
_STALL_SECONDS = 180.0
WANTED = 1.10


@dataclass
class Soak:
    """What was seen. Bytes are resident ones."""

    events: int
    users: int
    #: By phase, the highest.
    peaks: dict[str, int] = field(default_factory=dict)
    #: By events applied: at every tenth of all.
    at: dict[int, int] = field(default_factory=dict)
    rested_after_first: int = 0
    rested_at_end: int = 0
    seconds: float = 0.0
    largest_lag: int = 0
    most_due: int = 0

    @property
    def ratio(self) -> float:
        return self.rested_at_end / self.rested_after_first

    @property
    def highest(self) -> int:
        return max(self.peaks.values())


class Watch:
    """Looks at the worker's memory until cancelled."""

    def __init__(self, worker: RunningWorker, soak: Soak) -> None:
        self.phase = "first"
        self._worker = worker
        self._soak = soak
        self._recent: list[int] = []
        self.applied = 0.0
        self.moved_at = time.monotonic()

    async def run(self) -> None:
        step, last = self._soak.events // 10, (0.0, 0.0)
        while True:
            rss = resident_bytes(self._worker.pid)
            self._recent = [*self._recent[-9:], rss]
            soak = self._soak
            soak.peaks[self.phase] = max(soak.peaks.get(self.phase, 0), rss)
            self.applied, lag, due, done = await self._worker.metrics(
                "tidings_events_total{", "tidings_lag_records{", "tidings_outbox_due_users{", "tidings_deliveries_total{"
            )
            soak.largest_lag, soak.most_due = max(soak.largest_lag, int(lag)), max(soak.most_due, int(due))
            if (self.applied, done) != last:
                last, self.moved_at = (self.applied, done), time.monotonic()
            while len(soak.at) < self.applied // step:
                soak.at[(len(soak.at) + 1) * step] = rss
            await asyncio.sleep(_LOOK_SECONDS)

    def rested(self) -> int:
        """Of the last seconds."""
        return int(median(self._recent))


async def soak_one_worker(
    harness: Harness, events: int, users: int, say: Callable[[str], None], worker_section: Mapping[str, int] | None = None
) -> Soak:
    """``worker_section``: settings of the worker other than the defaults. Raises BenchError when an event is lost, or a user has another
    list at the end than at the destination that was well all the time.
    """
    soak, began = Soak(events, users), time.monotonic()
    async with unwell_receivers(harness) as unwell_url:
        hanging = {
            "name": "hanging", "url": f"{unwell_url}/hanging", "secret": "env:BENCH_WEBHOOK_SECRET", "allow_http": True,
            "timeout_seconds": 5,
        }
        async with running_worker(harness, Plan(users=users, warm_up_events=1_000), say, [hanging], worker_section) as (worker, feed):
            watch = Watch(worker, soak)
            async with _running(watch.run()) as watching:
                await _Phases(harness, worker, feed, watch, watching, soak, say).run(unwell_url)
            await same_lists(worker, unwell_url, ("hanging",))
            soak.seconds = time.monotonic() - began
    return soak


class _Phases:
    def __init__(
        self, harness: Harness, worker: RunningWorker, feed: Feed, watch: Watch, watching: asyncio.Future[None], soak: Soak,
        say: Callable[[str], None],
    ) -> None:
        self._harness, self._worker, self._feed, self._watch, self._soak, self._say = harness, worker, feed, watch, soak, say
        self._watching = watching
        self._sent = worker.warm_up_events

    async def run(self, unwell_url: str) -> None:
        soak, watch, total = self._soak, self._watch, self._soak.events
        self._begin("first", f"{FIRST * total:,.0f} events as fast as they are applied")
        await self._closed_loop(int(FIRST * total) - self._sent)
        soak.rested_after_first = await self._rest()
        self._begin("backlog", f"a backlog of {BACKLOG * total:,.0f} events")
        await self._send(int(BACKLOG * total))
        await self._applied()
        self._begin("burst", f"{BURST * total:,.0f} events, most of them {TIMES} times as fast as the first ones")
        await self._burst(int(BURST * total))
        await become(unwell_url, "unwell")
        self._begin("hung", f"{HUNG * total:,.0f} events while one of two destinations hangs")
        await self._closed_loop(int(HUNG * total))
        await self._applied()
        await become(unwell_url, "well")
        self._begin("last", "it is well again, and the rest")
        await self._closed_loop(total - self._sent)
        soak.rested_at_end = await self._rest()
        if watch.applied != self._sent:
            raise BenchError(f"{watch.applied:,.0f} of {self._sent:,} events were applied")

    def _begin(self, phase: str, what: str) -> None:
        self._watch.phase = phase
        self._say(f"{self._watch._recent[-1] / MIB if self._watch._recent else 0:,.0f} MiB; {what}")

    async def _send(self, count: int) -> None:
        await fill(self._harness.bootstrap_servers, self._feed.topic, islice(self._feed.records, count))
        self._sent += count

    async def _closed_loop(self, count: int) -> None:
        end = self._sent + count
        while self._sent < end:
            await self._until(lambda: self._sent - self._watch.applied < AHEAD, "keep up")
            await self._send(min(_CHUNK, end - self._sent))

    async def _burst(self, count: int) -> None:
        """Some seconds of a few events, and the rest ten times as fast."""
        flowing, slow = Flow(self._worker, self._feed), min(300.0, count / 30)
        async with _running(flowing.run()):
            for flowing.rate, end in ((slow, _SLOW_SECONDS * slow), (TIMES * slow, count)):
                while flowing.sent < end:  # noqa: ASYNC110  it tells by its count alone
                    await asyncio.sleep(_CLOSE_LOOK_SECONDS)
            flowing.rate = 0.0
        self._sent += flowing.sent
        await self._applied()

    async def _applied(self) -> None:
        await self._until(lambda: self._watch.applied >= self._sent, "apply all events")

    async def _rest(self) -> int:
        """All folded, ranked and delivered, and long enough for the worker to give back what it does not need."""
        await self._applied()
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < 2 * GIVE_BACK_EVERY_SECONDS + 10:
            if await self._worker.metric("tidings_outbox_due_users{") + await self._worker.metric("tidings_lag_records{"):
                quiet_since = time.monotonic()
            self._check("deliver to everyone")
            await asyncio.sleep(_LOOK_SECONDS)
        return self._watch.rested()

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            self._check(what)
            await asyncio.sleep(_CLOSE_LOOK_SECONDS)

    def _check(self, what: str) -> None:
        if self._watching.done():
            raise BenchError(f"the worker answers no more: {self._watching.exception()!r}")
        if time.monotonic() - self._watch.moved_at > _STALL_SECONDS:
            raise BenchError(f"nothing moved for {_STALL_SECONDS:g} s, and the worker did not {what}")


@asynccontextmanager
async def _running(work: Awaitable[None]) -> AsyncIterator[asyncio.Future[None]]:
    task = asyncio.ensure_future(work)
    try:
        yield task
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


def lines_of(soak: Soak) -> Iterator[str]:
    yield f"{soak.events:,} events of {soak.users:,} users in {soak.seconds:,.0f} s; resident memory of the worker:"
    yield from (f"  at {events:>12,} events  {rss / MIB:8,.0f} MiB" for events, rss in soak.at.items())
    yield from (f"  highest in {phase:<12} {rss / MIB:8,.0f} MiB" for phase, rss in soak.peaks.items())
    first, end = soak.rested_after_first / MIB, soak.rested_at_end / MIB
    yield f"  with all done after {FIRST * soak.events:,.0f} events {first:,.0f} MiB, at the end {end:,.0f} MiB"
    yield f"  ratio {soak.ratio:.3f}; wanted at most {WANTED:g}: {'reached' if soak.ratio <= WANTED else 'NOT reached'}"
    yield f"  largest backlog {soak.largest_lag:,} records; most users due {soak.most_due:,}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--pin", action="store_true", help="give the worker a core of its own (a quiet machine)")
    parser.add_argument("--cache-mib", type=int, help="worker.cache_bytes, for a run of fewer events")
    parser.add_argument("--block-cache-mib", type=int, help="worker.block_cache_bytes, the same")
    parser.add_argument("--watchdog", type=int, help="worker.watchdog_seconds, for a machine that is busy otherwise; 0: none")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "soak.json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # unwinds, so that no process is left behind
    try:
        given = {
            "cache_bytes": options.cache_mib and options.cache_mib * MIB,
            "block_cache_bytes": options.block_cache_mib and options.block_cache_mib * MIB,
            "watchdog_seconds": options.watchdog,
        }
        section = {key: value for key, value in given.items() if value is not None}
        soak = asyncio.run(_measure(options.events, options.users, options.pin, section))
    except (BenchError, TidingsError, aiohttp.ClientError) as exc:
        sys.exit(str(exc))
    for line in lines_of(soak):
        print(line)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(asdict(soak) | {"ratio": round(soak.ratio, 4)}, indent=1) + "\n")
    sys.exit(0 if soak.ratio <= WANTED else 1)


async def _measure(events: int, users: int, pin: bool, worker_section: Mapping[str, int]) -> Soak:
    cores = Cores.of_this_machine() if pin else Cores(frozenset(), frozenset(), False)
    cores.pin_this_process()
    directory = ROOT / "build" / f"soak-{os.getpid()}"
    directory.mkdir(parents=True)

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic that was just made has no leader for a moment

    def say(what: str) -> None:
        print(time.strftime("%H:%M:%S"), what, flush=True)

    try:
        with ApacheKafka(directory / "kafka", heap="1g") as kafka:
            soak = await soak_one_worker(Harness(kafka.bootstrap_servers, cores, directory), events, users, say, worker_section)
    except BaseException:
        print(f"the logs are in {directory}")
        raise
    shutil.rmtree(directory, ignore_errors=True)
    return soak


if __name__ == "__main__":
    main()
