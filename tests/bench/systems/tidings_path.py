"""Tidings' own jobs: the profile fold alone, the full path, and everything in between, a stage at a time.

A stage is the topology up to there, built of the same parts; what a stage costs is the difference to the one before it. ``run_path``
watches the counters from within: a run begins before the first event counts and ends when the last counter has moved.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import uvloop
from faust.types import TP

from app import metrics, worker
from app.domain.held_profile import HeldProfile
from app.domain.validation import Violation, decode_event
from app.engine import EngineApp, Table, Unit
from app.settings import Settings
from app.streams import topology
from app.streams.fold_items import ITEMS, FoldItems
from app.streams.fold_profiles import PROFILES, SHARE, SHARE_KEY, FoldProfiles
from app.streams.keep_neighbours import NEIGHBOURS, KeepNeighbours
from app.streams.topics import TopicNames
from tests.bench.protocol import Assignment, Report, peak_rss_bytes
from tests.bench.worker_settings import worker_settings

#: How often the counters are looked at once nothing is left to read; a look takes some milliseconds, so before that it is less often.
_LOOK_SECONDS = 0.1
_BUSY_LOOK_SECONDS = 0.5
#: Nothing has moved for so long, and nothing waits: the run is over. Longer than a user may wait for a ranking while events come in.
_QUIET_SECONDS = 2.0


class Stage(StrEnum):
    """In the order in which they add up."""

    DECODE = "decode"
    FOLD = "fold"
    PROFILES = "profiles"
    VISITS = "visits"
    ITEMS = "items"
    RANKING = "ranking"
    DELIVERY = "delivery"


#: What each stage adds to the one before.
WHAT_A_STAGE_ADDS = {
    Stage.DECODE: "fetch, parse and validate events, keep the applied offset",
    Stage.FOLD: "fold them into profiles in memory",
    Stage.PROFILES: "the profiles table: encode, changelog, RocksDB",
    Stage.VISITS: "visits and shares: derive, write",
    Stage.ITEMS: "the items table: apply visits, answer neighbours, keep them",
    Stage.RANKING: "rank dirty users; the outbox table and the updates topic",
    Stage.DELIVERY: "webhooks: render, sign, mark, send, record",
}


def settings_of(run: Assignment, *, targets: bool) -> Settings:
    """A worker's settings as they are by default, on this run's names."""
    return Settings.model_validate(worker_settings(
        name=run.name, bootstrap_servers=run.bootstrap_servers, partitions=run.partitions, data_dir=Path(run.data_dir),
        webhook_url=run.webhook_url if targets else "",
    ))


def run_path(run: Assignment) -> None:
    worker._configure_logging()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = build_stage(run, Stage(run.stage))
    loop.create_task(_watch(run, app))
    worker.look_for_cycles_seldom()
    # The worker's own program around the app, as `tidings worker` has it.
    worker._Worker(app, loop=loop, override_logging=False, redirect_stdouts=False, daemon=True).execute_from_commandline()


def build_stage(run: Assignment, stage: Stage) -> EngineApp:
    """The topology up to ``stage``. The last two are the composed worker itself, without and with its target."""
    settings = settings_of(run, targets=stage is Stage.DELIVERY)
    if stage in (Stage.RANKING, Stage.DELIVERY):
        return worker._compose(settings).app
    names, partitions = TopicNames.of(settings.kafka), run.partitions
    app = topology._new_app(settings, "http://127.0.0.1", _stop)
    cache_bytes = {name: int(settings.worker.cache_bytes * share) for name, share in topology.CACHE_SHARES.items()}
    profiles: Table[HeldProfile] = app.tables.add(
        Table(app, name="profiles", codec=PROFILES, hidden={SHARE_KEY: SHARE}, partitions=partitions, cache_bytes=cache_bytes["profiles"])
    )
    if stage is Stage.ITEMS:
        items = app.tables.add(Table(app, name="items", codec=ITEMS, partitions=partitions, cache_bytes=cache_bytes["items"]))
        app.batched_agent("fold_items", items, [names.visits], FoldItems(names).apply)
        neighbours = app.tables.add(
            Table(app, name="neighbours", codec=NEIGHBOURS, partitions=partitions, cache_bytes=cache_bytes["neighbours"])
        )
        app.batched_agent("keep_neighbours", neighbours, [names.neighbours], KeepNeighbours(names, partitions, lambda *_: None).apply)
    apply = FoldProfiles(names, partitions, lambda *_: None).apply if stage in (Stage.VISITS, Stage.ITEMS) else _fold(stage)
    app.batched_agent("fold_profiles", profiles, [names.events], apply)
    return app


def _fold(stage: Stage) -> Callable[[Unit[HeldProfile]], None]:
    """The profile fold alone, or a part of it."""
    in_memory: dict[bytes, HeldProfile] = {}

    def apply(unit: Unit[HeldProfile]) -> None:
        count = 0
        for record in unit.records():
            key = record.key
            if stage is Stage.DECODE:
                outcome: object = decode_event(record.value, key, record.timestamp)
            elif stage is Stage.PROFILES:
                outcome = unit.state.obtain(key).apply(record.value, key, record.timestamp)
            else:
                if (profile := in_memory.get(key)) is None:
                    profile = in_memory[key] = HeldProfile.new(key)
                outcome = profile.apply(record.value, key, record.timestamp)
            assert not isinstance(outcome, Violation)
            count += 1
        metrics.EVENTS.labels("applied").inc(count)

    return apply


async def _watch(run: Assignment, app: EngineApp) -> None:
    """Report when everything that the events cause is done."""
    idle: tuple[float, float] = time.perf_counter(), time.process_time()
    while not _events_applied():
        idle = time.perf_counter(), time.process_time()
        await asyncio.sleep(0.002)
    last, moved_at, cpu_at = _counters(), time.perf_counter(), time.process_time()
    while True:
        await asyncio.sleep(_BUSY_LOOK_SECONDS if any(app.lags().values()) else _LOOK_SECONDS)
        now, cpu, counters = time.perf_counter(), time.process_time(), _counters()
        if counters != last:
            last, moved_at, cpu_at = counters, now, cpu
        elif now - moved_at > _QUIET_SECONDS and _events_applied() >= run.events and not any(app.lags().values()) and not _deliveries_due():
            break
    positions = await _committed(run, app)
    Report(int(_events_applied()), moved_at - idle[0], cpu_at - idle[1], peak_rss_bytes(), positions, {"counted": last}).print()


async def _committed(run: Assignment, app: EngineApp) -> dict[str, int]:
    """The offsets of the group: an event's is committed only when everything it caused was seen through."""
    partitions = [TP(run.topic, partition) for partition in range(run.partitions)]
    while True:
        committed = {str(tp.partition): offset or 0 for tp, offset in (await app.consumer.committed_offsets(partitions)).items()}
        if sum(committed.values()) >= run.events:
            return committed
        await asyncio.sleep(0.1)


def _counters() -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in (metrics.EVENTS, metrics.VISITS, metrics.NEIGHBOURS, metrics.RANKINGS, metrics.DELIVERIES, metrics.FLUSH):
        for sample in metric.collect()[0].samples:
            if sample.name.endswith(("_total", "_count")):
                found["/".join([sample.name, *sample.labels.values()])] = sample.value
    return found


def _events_applied() -> float:
    return sum(sample.value for sample in metrics.EVENTS.collect()[0].samples if sample.name.endswith("_total"))


def _deliveries_due() -> float:
    return sum(sample.value for sample in metrics.OUTBOX_DUE.collect()[0].samples)


def _stop(error: BaseException) -> Any:
    print(f"stopped: {error!r}", file=sys.stderr, flush=True)
    os._exit(1)
