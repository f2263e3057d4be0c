"""``python -m tests.bench``: measure, print the tables, write build/bench.json and build/bench.png."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import strftime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app.errors import TidingsError
from tests.bench.catalog import CatalogPlan, measure_catalog
from tests.bench.deliveries import DeliveryPlan, measure_deliveries
from tests.bench.harness import PARTITIONS, BenchError, Cores, Harness, Measured
from tests.bench.latency import Plan, measure_latency
from tests.bench.path import JOBS as PATH_JOBS
from tests.bench.path import PathRuns
from tests.bench.plot import draw
from tests.bench.ranking import RankingPlan, measure_ranking, why_not
from tests.bench.results import BARE, Key, Results
from tests.bench.systems import NAIVE_FAUST, SYSTEMS, TIDINGS, System
from tests.bench.systems.tidings_path import Stage
from tests.bench.workload import BareEvents
from tests.brokers.apache_kafka import ROOT, ApacheKafka

JOBS = (BARE, *PATH_JOBS, "stages", "latency", "catalog", "deliveries", "ranking")
_WIDTH = 140
DESCRIPTION = "Measure Tidings and its peers on one Apache Kafka: in turn, in pairs, each on a core of its own, each result checked."


@dataclass(frozen=True)
class Sizes:
    """How much is measured: users and events."""

    bare: Sequence[tuple[int, int]] = ((10_000, 1_000_000), (1_000_000, 500_000))
    path: tuple[int, int] = (10_000, 100_000)
    #: Turns of all stages.
    stage_turns: int = 2
    plan: Plan = field(default_factory=Plan)
    load: float = 0.5
    #: What the load is a part of, in events a second; 0: find out what the worker keeps up with.
    capacity: float = 0.0
    catalog: CatalogPlan = field(default_factory=CatalogPlan)
    deliveries: DeliveryPlan = field(default_factory=DeliveryPlan)
    ranking: RankingPlan = field(default_factory=RankingPlan)
    #: Of the systems that are given fewer events.
    max_events: int | None = None


#: Enough to see that everything runs and comes out right. Its figures say nothing.
QUICK = Sizes(
    bare=((200, 4_000), (2_000, 4_000)), path=(200, 2_000), stage_turns=1, max_events=1_000,
    plan=Plan(users=200, warm_up_events=1_000, probes=10, probes_per_second=10, views=50), capacity=20.0,
    ranking=RankingPlan(learn_events=2_000, queries=200, rounds=2),
    deliveries=DeliveryPlan(
        deliveries=1_000, rounds=1, events_per_second=20, isolation_rounds=0,  # one takes a minute and a half, most of it waiting
        probes=Plan(users=200, warm_up_events=500, probes=10, probes_per_second=10),
    ),
    catalog=CatalogPlan(
        products=6_000, changes_per_second=100, events_per_second=20, probes=3, alone_seconds=2, burst_events=500, pairs=1,
        worker=Plan(users=200, warm_up_events=500),
    ),
)


class Bench:
    """One run of the whole benchmark."""

    def __init__(
        self, harness: Harness, sizes: Sizes, *, jobs: Sequence[str], pairs: int, systems: Sequence[System], console: Console
    ) -> None:
        self._harness = harness
        self._sizes = sizes
        self._jobs = jobs
        self._pairs = pairs
        self._console = console
        self._path = PathRuns(harness, *sizes.path)
        self.results = Results(harness.cores)
        self.results.left_out = {system.name: reason for system in systems if (reason := system.why_not())}
        self._systems = [system for system in systems if system.name not in self.results.left_out]
        self.failed = ""

    async def run(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task("filling topics", total=self._steps())

            def say(what: str) -> None:
                progress.update(task, description=what)
                if not self._console.is_terminal:  # a log shows no progress bar
                    self._console.print(f"{strftime('%H:%M:%S')} {what}", soft_wrap=True)

            def done(what: str, run: Measured) -> None:
                progress.advance(task)
                figures = f"{run.events_per_second:,.0f} events/s, {run.cpu_us_per_event:,.1f} µs CPU/event"
                self._console.print(f"{what}: {figures}", soft_wrap=True)

            for name, reason in self.results.left_out.items() if BARE in self._jobs else ():
                self._console.print(f"{name} is left out: {reason}", soft_wrap=True)
            if BARE in self._jobs:
                for users, events in self._sizes.bare:
                    say(f"filling a topic: {events:,} events of {users:,} users")
                    await self._harness.prepare(_topic(users), BareEvents(users, events, PARTITIONS))
            for number in range(self._pairs):
                for turn in self._turns():
                    say(what := f"round {number + 1}: {turn.key.job}, {turn.key.users:,} users, {turn.key.system}")
                    self.results.runs.append(run := await turn.run())
                    done(what, run)
            for number in range(self._sizes.stage_turns if "stages" in self._jobs else 0):
                for stage in Stage:
                    say(what := f"stage {stage}, turn {number + 1}")
                    run = await self._path.run("stage", stage)
                    self.results.stages.setdefault(stage, []).append(run)
                    done(what, run)
            if "latency" in self._jobs:
                try:
                    self.results.latency += await measure_latency(
                        self._harness, self._sizes.load, self._sizes.capacity, self._sizes.plan, say
                    )
                except BenchError as exc:
                    self.failed = str(exc)  # what was measured before it stands
                progress.advance(task)
            if "catalog" in self._jobs:
                try:
                    self.results.catalog = await measure_catalog(self._harness, self._sizes.catalog, say)
                except BenchError as exc:
                    self.failed = str(exc)
                progress.advance(task)
            if "deliveries" in self._jobs:
                try:
                    self.results.deliveries = await measure_deliveries(self._harness, self._sizes.deliveries, say)
                except BenchError as exc:
                    self.failed = str(exc)
                progress.advance(task)
            if "ranking" in self._jobs:
                if reason := why_not():
                    self._console.print(f"ranking is left out: {reason}", soft_wrap=True)
                else:
                    say("ranking, against the reference")
                    self.results.ranking = measure_ranking(self._sizes.ranking)
                progress.advance(task)

    def _turns(self) -> list[_Turn]:
        """A round: a run of ours right before and right after every run of another system, so that what it is held against was measured
        on the machine as it was then. The profile jobs are held against naive Faust's bare one.
        """
        turns: list[_Turn] = []
        naive = [system for system in self._systems if system.name == NAIVE_FAUST.name]
        others = [system for system in self._systems if system.name not in (TIDINGS.name, NAIVE_FAUST.name)]
        ours = [system for system in self._systems if system.name == TIDINGS.name]
        for users, events in self._sizes.bare if BARE in self._jobs else ():
            workload = BareEvents(users, events, PARTITIONS)

            def bare(system: System, workload: BareEvents = workload, users: int = users) -> _Turn:
                return _Turn(
                    Key(BARE, users, system.name), lambda: self._harness.run_bare(system, BARE, _topic(users), workload, users)
                )

            turns += map(bare, [*naive, *ours])
            for other in others:
                turns += map(bare, [other, *ours])
            turns += map(bare, naive if ours else [])
            if users == self._path.users:
                turns += [turn for path in self._path_turns() for turn in (path, *map(bare, naive))]
        return turns if BARE in self._jobs else self._path_turns()

    def _path_turns(self) -> list[_Turn]:
        return [
            _Turn(Key(job, self._path.users, TIDINGS.name), partial(self._path.run, job, stage))
            for job, stage in PATH_JOBS.items()
            if job in self._jobs
        ]

    def _steps(self) -> int:
        stages = self._sizes.stage_turns * len(Stage) if "stages" in self._jobs else 0
        return len(self._turns()) * self._pairs + stages + sum(job in self._jobs for job in ("latency", "catalog", "deliveries", "ranking"))


@dataclass(frozen=True)
class _Turn:
    """One run that is to be made."""

    key: Key
    run: Callable[[], Awaitable[Measured]]


def _topic(users: int) -> str:
    return f"user-events-{users}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=DESCRIPTION)
    parser.add_argument("--jobs", default=",".join(JOBS), help="comma-separated, of: %(default)s")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated, of: %(default)s")
    parser.add_argument("--pairs", type=int, default=3, help="rounds of all jobs (default %(default)s)")
    parser.add_argument("--load", type=float, default=0.5, help="of the capacity, for latency (default %(default)s)")
    parser.add_argument("--capacity", type=float, default=0.0, help="in events a second, instead of what the worker keeps up with")
    parser.add_argument("--quick", action="store_true", help="small counts, one round: shows that it works, not how fast")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json", help="default build/bench.json")
    options = parser.parse_args()
    jobs, systems = options.jobs.split(","), options.systems.split(",")
    if unknown := [name for name in jobs if name not in JOBS] + [name for name in systems if name not in SYSTEMS]:
        parser.error(f"there is no {', '.join(unknown)}")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)  # a log is as wide as the tables
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # a topic that was just made has no leader for a moment
    sizes = QUICK if options.quick else Sizes()
    sizes = replace(sizes, load=options.load, capacity=options.capacity or sizes.capacity)
    chosen = [SYSTEMS[name] for name in systems]
    if sizes.max_events:
        chosen = [replace(system, max_events=system.max_events and sizes.max_events) for system in chosen]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended; nothing was written"))  # unwinds, so that no process is left behind
    try:
        results, failed = asyncio.run(_measure(sizes, jobs, 1 if options.quick else options.pairs, chosen, console))
    except (BenchError, TidingsError) as exc:
        sys.exit(str(exc))
    except KeyboardInterrupt:
        sys.exit("stopped; nothing was written")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    aside = options.output.with_suffix(".part")
    aside.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    aside.replace(options.output)
    results.print(console)
    draw(results.as_json(), picture := options.output.with_suffix(".png"))
    console.print(f"written to {options.output}" + (f", drawn in {picture}" if picture.exists() else ""))
    if failed:
        sys.exit(failed)


async def _measure(sizes: Sizes, jobs: Sequence[str], pairs: int, systems: Sequence[System], console: Console) -> tuple[Results, str]:
    cores = Cores.of_this_machine()
    cores.pin_this_process()
    if not cores.pinned:
        console.print("[bold]one core, or cores cannot be chosen here: system and broker share, and the figures mean little[/]")
    directory = ROOT / "build" / f"bench-{os.getpid()}"
    directory.mkdir(parents=True)
    kept = True
    try:
        with ApacheKafka(directory / "kafka", heap="1g") as kafka:
            harness = Harness(kafka.bootstrap_servers, cores, directory)
            bench = Bench(harness, sizes, jobs=jobs, pairs=pairs, systems=systems, console=console)
            await bench.run()
        kept = bool(bench.failed)
        return bench.results, bench.failed
    finally:
        if kept:
            console.print(f"the logs of the runs are in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
