"""What was measured, put together: medians, ratios pair by pair, the cost of each stage; as JSON and as tables."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from statistics import mean, median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.bench import peers
from tests.bench.catalog import CatalogFigures, catalog_table
from tests.bench.deliveries import DeliveryFigures, deliveries_table
from tests.bench.harness import Cores, Measured
from tests.bench.latency import Latency, as_json
from tests.bench.ranking import RankingRun, ranking_table
from tests.bench.systems import TIDINGS
from tests.bench.systems.tidings_path import WHAT_A_STAGE_ADDS, Stage

#: The same job in another system, or for the jobs that only Tidings has: the bare job of the slowest one, with as many users.
BARE = "state_per_user"


class Key(NamedTuple):
    job: str
    users: int
    system: str


#: How many times another system's bare job Tidings must manage: its job, users, the other system.
BARS = {
    (BARE, 10_000, "naive_faust"): 60.0,
    (BARE, 10_000, "quix_streams_at_least_once"): 2.5,
    (BARE, 10_000, "bytewax"): 2.5,
    (BARE, 10_000, "pathway"): 1.8,
    (BARE, 10_000, "kafka_streams_exactly_once"): 2.0,
    (BARE, 10_000, "kafka_streams_at_least_once_cached"): 1.0,
    (BARE, 10_000, "bare_aiokafka"): 0.45,
    (BARE, 1_000_000, "naive_faust"): 25.0,
    (BARE, 1_000_000, "kafka_streams_at_least_once_cached"): 1.5,
    (BARE, 1_000_000, "quix_streams_at_least_once"): 2.5,
    ("profile_fold", 10_000, "naive_faust"): 20.0,
    ("full_path", 10_000, "naive_faust"): 8.0,
}


@dataclass(frozen=True)
class Ratio:
    """Events a second of one over those of the other, measured right before and after it."""

    one: Key
    other: Key
    pairs: list[float]

    @property
    def at_least(self) -> float | None:
        return BARS.get((self.one.job, self.one.users, self.other.system))


@dataclass
class Results:
    """Filled as the runs come in."""

    cores: Cores
    #: In the order in which they were made.
    runs: list[Measured] = field(default_factory=list)
    #: Of each stage, one for each turn of all stages.
    stages: dict[Stage, list[Measured]] = field(default_factory=dict)
    latency: list[Latency] = field(default_factory=list)
    catalog: CatalogFigures | None = None
    ranking: RankingRun | None = None
    deliveries: DeliveryFigures | None = None
    #: Systems that could not be run here, and why.
    left_out: dict[str, str] = field(default_factory=dict)

    def samples(self) -> dict[Key, list[Measured]]:
        found: dict[Key, list[Measured]] = {}
        for run in self.runs:
            found.setdefault(_key(run), []).append(run)
        return found

    def ratios(self) -> list[Ratio]:
        """Tidings against every other system's bare job with as many users: each run of ours that stands beside one of theirs, over the
        mean of those right before and right after it, for the machine's speed drifts.
        """
        keys = list(self.samples())
        found: list[Ratio] = []
        for one in (key for key in keys if key.system == TIDINGS.name):
            for other in (key for key in keys if key.system != TIDINGS.name and key.job == BARE and key.users == one.users):
                pairs = []
                for place, run in enumerate(self.runs):
                    beside = [self.runs[p] for p in (place - 1, place + 1) if 0 <= p < len(self.runs) and _key(self.runs[p]) == other]
                    if _key(run) == one and beside:
                        pairs.append(run.events_per_second / mean(their.events_per_second for their in beside))
                if pairs:
                    found.append(Ratio(one, other, pairs))
        return found

    def stage_costs(self) -> Iterator[tuple[Stage, float, float]]:
        """Stage, µs of processor time an event of the topology up to it, and what of them is its own."""
        totals = {stage: median(run.cpu_us_per_event for run in self.stages[stage]) for stage in Stage if stage in self.stages}
        for before, stage in pairwise([None, *totals]):
            assert stage is not None
            yield stage, totals[stage], totals[stage] - (totals[before] if before else 0.0)

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": [
                {
                    **key._asdict(),
                    "events_per_second": round(median(run.events_per_second for run in runs), 1),
                    "cpu_us_per_event": round(median(run.cpu_us_per_event for run in runs), 3),
                    "peak_rss_mb": round(median(run.peak_rss_bytes for run in runs) / 1e6),
                    "events": runs[0].events,
                    "samples": [
                        {
                            "events_per_second": round(run.events_per_second, 1), "cpu_us_per_event": round(run.cpu_us_per_event, 3),
                            **run.extra,
                        }
                        for run in runs
                    ],
                }
                for key, runs in self.samples().items()
            ],
            "ratios": [
                {
                    **ratio.one._asdict(), "against": ratio.other._asdict(), "median": round(median(ratio.pairs), 2),
                    "pairs": [round(pair, 2) for pair in ratio.pairs], "at_least": ratio.at_least,
                }
                for ratio in self.ratios()
            ],
            "stages": [
                {
                    "stage": stage.value, "adds": WHAT_A_STAGE_ADDS[stage], "cpu_us_per_event": round(own, 2),
                    "cpu_us_per_event_up_to_here": round(total, 2),
                    "events_per_second": round(median(run.events_per_second for run in self.stages[stage])),
                    "counted": self.stages[stage][-1].extra.get("counted", {}),
                }
                for stage, total, own in self.stage_costs()
            ],
            "latency": [as_json(latency) for latency in self.latency],
            "catalog": self.catalog.as_json() if self.catalog else None,
            "ranking": self.ranking.as_json() if self.ranking else None,
            "deliveries": self.deliveries.as_json() if self.deliveries else None,
            "left_out": self.left_out,
            "machine": self.machine(),
        }

    def machine(self) -> dict[str, Any]:
        return {
            "platform": platform.platform(), "processors": os.cpu_count(), "python": platform.python_version(), "pinned": self.cores.pinned,
            **{package: version(package) for package in ("faust-streaming", "aiokafka", "rocksdict", "protobuf", "uvloop")},
            "peers": peers.versions(),
        }

    def print(self, console: Console) -> None:
        if self.runs:
            console.print(self._runs_table())
        if ratios := self.ratios():
            console.print(_ratios_table(ratios))
        if self.stages:
            console.print(self._stages_table())
            console.print(self._per_event(), soft_wrap=True)
        if self.latency:
            console.print(_latency_table(self.latency))
        if self.catalog:
            console.print(catalog_table(self.catalog))
        if self.ranking:
            console.print(ranking_table(self.ranking))
        if self.deliveries:
            console.print(deliveries_table(self.deliveries))

    def _runs_table(self) -> Table:
        table = _table("Median of the rounds; one core for the system, one for the broker", "job", "users", "system")
        for heading in ("events", "events/s", "µs CPU/event", "peak RSS"):
            table.add_column(heading, justify="right")
        for key, runs in self.samples().items():
            table.add_row(
                key.job, f"{key.users:,}", key.system, f"{runs[0].events:,}", f"{median(r.events_per_second for r in runs):,.0f}",
                f"{median(r.cpu_us_per_event for r in runs):,.1f}", f"{median(r.peak_rss_bytes for r in runs) / 1e6:,.0f} MB",
            )
        return table

    def _stages_table(self) -> Table:
        first = next(iter(self.stages.values()))[0]
        table = _table(f"The full path a stage at a time, {first.events:,} events of {first.users:,} users", "stage", "adds")
        for heading in ("µs CPU/event", "up to here", "events/s"):
            table.add_column(heading, justify="right")
        for stage, total, own in self.stage_costs():
            rate = median(run.events_per_second for run in self.stages[stage])
            table.add_row(stage, WHAT_A_STAGE_ADDS[stage], f"{own:,.1f}", f"{total:,.1f}", f"{rate:,.0f}")
        return table


    def _per_event(self) -> str:
        """How much the whole path did for an event, on which its cost depends: a user is ranked and written to once for several events."""
        whole = [*self.stages.values()][-1][-1]
        counted = whole.extra.get("counted", {})

        def of(what: str) -> str:
            return f"{sum(count for name, count in counted.items() if name.startswith(f'tidings_{what}')) / whole.events:.2f} {what}"

        return f"an event caused {of('visits')}, {of('neighbours')}, {of('rankings')}, {of('deliveries')} (last turn)"


def _key(run: Measured) -> Key:
    return Key(run.job, run.users, run.system)


def _ratios_table(ratios: list[Ratio]) -> Table:
    table = _table("Events a second over the mean of the other system's, right before and after", "job", "users", "against")
    for heading in ("median", "pairs", "wanted"):
        table.add_column(heading, justify="right")
    for ratio in ratios:
        middle, wanted = median(ratio.pairs), ratio.at_least
        said = "" if wanted is None else f"{wanted:g}x " + ("reached" if middle >= wanted else "[bold red]not reached[/]")
        pairs = " ".join(f"{pair:.3g}" for pair in ratio.pairs)
        table.add_row(ratio.one.job, f"{ratio.one.users:,}", f"{ratio.other.system} {ratio.other.job}", f"{middle:.3g}x", pairs, said)
    return table


def _latency_table(latencies: list[Latency]) -> Table:
    table = _table("Latency while events flow, open loop", "measure")
    for heading in ("load", "events/s", "p50 ms", "p99 ms", "max ms", "samples", "worker's core"):
        table.add_column(heading, justify="right")
    for one in latencies:
        table.add_row(
            one.measure, f"{one.load:.0%}", f"{one.events_per_second:,.0f}", f"{one.p50_ms:,.1f}", f"{one.p99_ms:,.1f}",
            f"{one.max_ms:,.1f}", f"{one.samples:,}", f"{one.worker_core:.0%}",
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column)
    return table
