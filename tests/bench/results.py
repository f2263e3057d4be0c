"""What was measured, put together: medians, ratios pair by pair, the cost of each stage; as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from tests.bench import peers
from tests.bench.bars import BARE, BARS
from tests.bench.catalog import CatalogFigures
from tests.bench.deliveries import DeliveryFigures
from tests.bench.growth import Size
from tests.bench.harness import Cores, Measured
from tests.bench.latency import Latency, as_json
from tests.bench.peer_recovery import CameBack
from tests.bench.ranking import RankingRun
from tests.bench.steps import Outcome
from tests.bench.systems import TIDINGS
from tests.bench.systems.tidings_path import WHAT_A_STAGE_ADDS, Stage
from tests.bench.two_workers import TwoWorkers


class Key(NamedTuple):
    job: str
    users: int
    system: str


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
    growth: list[Size] = field(default_factory=list)
    two_workers: TwoWorkers | None = None
    came_back: list[CameBack] = field(default_factory=list)
    catalog: CatalogFigures | None = None
    ranking: RankingRun | None = None
    deliveries: DeliveryFigures | None = None
    #: Systems that could not be run here, and why.
    left_out: dict[str, str] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=Outcome)

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
            "growth": {"sizes": [size.as_json() for size in self.growth]} if self.growth else None,
            "two_workers": self.two_workers.as_json() if self.two_workers and self.two_workers.twos else None,
            "recovery": [one.as_json() for one in self.came_back],
            "catalog": self.catalog.as_json() if self.catalog else None,
            "ranking": self.ranking.as_json() if self.ranking else None,
            "deliveries": self.deliveries.as_json() if self.deliveries else None,
            "left_out": self.left_out,
            "failed": self.outcome.failed,
            "not_begun": self.outcome.not_begun,
            "machine": self.machine(),
        }

    def write(self, path: Path) -> None:
        """All of it or nothing: who reads the file meanwhile finds what was there before."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(self.as_json(), indent=1) + "\n")
        aside.replace(path)

    def machine(self) -> dict[str, Any]:
        return {
            "platform": platform.platform(), "processors": os.cpu_count(), "python": platform.python_version(), "pinned": self.cores.pinned,
            **{package: version(package) for package in ("faust-streaming", "aiokafka", "rocksdict", "protobuf", "uvloop")},
            "peers": peers.versions(),
        }


def _key(run: Measured) -> Key:
    return Key(run.job, run.users, run.system)
